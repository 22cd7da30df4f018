/* Whether the web of the app answers on its port: it is asked again and again while its program
 * runs, often until it is ready, then seldom. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "runtimed/app.h"
#include "runtimed/probe.h"

#define HEALTH_DETAIL_MAX 128

/* Times in milliseconds. */
struct health_policy {
        unsigned early, often, seldom; /* between two questions: at first, until ready, then */
        unsigned early_for;            /* since the start of the program */
        unsigned starting_for;         /* then silence is an error */
        unsigned timeout;              /* of one question */
        unsigned failures_max;         /* in a row: until then who was ready still is */
};
extern const struct health_policy health_policy; /* what is in force but in tests */

/* Embedded; private but for what health_init sets. */
struct health {
        const struct health_policy *policy;
        void (*on_change)(void *data); /* in the middle of things, as of struct supervised */
        void *data;
        enum app_health value;
        char detail[HEALTH_DETAIL_MAX];
        uint16_t port;
        char *path; /* NULL: any answer will do */
        bool runs, hurried;
        unsigned failures;
        uint64_t since; /* uv_now: it runs */
        uv_timer_t timer;
        struct probe *probe; /* under way, or NULL */
};

void health_init(struct health *h, uv_loop_t *loop, const struct health_policy *policy,
                 void (*on_change)(void *data), void *data);
/* There is a web, on this port, or another than before. -ENOMEM: nothing has changed. */
int health_set_web(struct health *h, uint16_t port, const char *path);
void health_set_none(struct health *h);
/* Its program has been started, or does not run any more. Idempotent. */
void health_runs(struct health *h);
void health_down(struct health *h);
/* Somebody waits for it: it is asked more often. */
void health_hurry(struct health *h, bool hurried);
void health_close(struct health *h); /* the memory may go when the loop has ended */
