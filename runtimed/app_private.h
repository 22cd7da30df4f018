/* Between app.c, app_build.c and service_app.c. */
#pragma once

#include "manifest/manifest.h"
#include "runtimed/app.h"
#include "runtimed/file_watch.h"
#include "runtimed/health.h"
#include "runtimed/supervised.h"

/* One that the manifest names, or named until a moment ago. */
struct app_program {
        struct app *app;
        char name[MANIFEST_NAME_MAX + 1]; /* "web", or a worker's */
        struct supervised *supervised;
        bool restart_after_task;
        bool is_named; /* else it is being ended */
        bool was_seen; /* in the manifest that is being applied */
        TAILQ_ENTRY(app_program) entry;
};

/* The last one, for who asks later. */
struct app_build_memory {
        bool is_known; /* there was one */
        enum app_build_status status;
        int exit_code;
        bool timed_out;
        pid_t pid;
        uint64_t ended_at, took_ms; /* in milliseconds since the Epoch */
        char error[SUPERVISED_ERROR_MAX];
};

struct app {
        struct process_table *processes;
        const struct supervised_policy *policy;
        char *directory, *path;   /* of sandbox.yaml */
        bool is_there;            /* sandbox.yaml; for a moment after it was removed, too */
        struct manifest manifest; /* its problems and its build are in force */
        struct file_watch watch;
        uv_timer_t look;    /* at the manifest */
        uv_timer_t settle;  /* what has changed */
        uv_timer_t waiting; /* until the first waiter's time */

        TAILQ_HEAD(, app_program) programs;
        unsigned n_programs;
        struct app_program *web; /* one of them, or NULL */
        struct health health;    /* of the web */
        LIST_HEAD(, app_health_waiter) waiters;

        struct app_build *build; /* under way, or NULL */
        struct app_build_memory last_build;
        bool is_stopped;
};

/* --- app.c --- */

/* For tests. The policies outlive it. */
int app_new_with(struct process_table *processes, const char *directory,
                 const struct supervised_policy *policy, const struct health_policy *health,
                 struct app **ret, struct err *e);
/* On the next turn of the loop: tells whom it concerns what has changed. */
void app_settle_soon(struct app *a);
/* Reads sandbox.yaml now. */
void app_look(struct app *a);
/* The program of this name, or with "" all. NOT_FOUND, UNAVAILABLE. */
int app_restart(struct app *a, const char *name, struct err *e);

/* --- app_build.c --- */

void app_build_settle(struct app *a);
void app_build_forget(struct app *a); /* on_done does not come any more; it is left to itself */
