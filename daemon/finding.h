/* What an examination of the host (daemon/doctor.h) found about one thing. */
#pragma once

enum finding_status { FINDING_OK, FINDING_WARN, FINDING_FAIL };

#define FINDING_ID_MAX   96
#define FINDING_TEXT_MAX 768

/* Longer texts are cut. They may hold what a program printed: escaped before anybody sees them. */
struct finding {
        char id[FINDING_ID_MAX]; /* stable: "kernel", "runtime.runsc.version" */
        enum finding_status status;
        char found[FINDING_TEXT_MAX];
        char why[FINDING_TEXT_MAX];    /* it matters */
        char repair[FINDING_TEXT_MAX]; /* a command or a line of the configuration; "" for none */
};

/* A finding that is ok, with nothing found yet. why may be NULL: said later. */
void finding_init(struct finding *f, const char *id, const char *why);
/* What is found, and how that is. */
void finding_set(struct finding *f, enum finding_status status, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* More of what is found, and how that is: the worse counts. After "; " if there is something. */
void finding_add(struct finding *f, enum finding_status status, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
void finding_repair(struct finding *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
