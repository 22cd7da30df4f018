/* The app of the sandbox: the programs that its sandbox.yaml names (manifest/manifest.h), kept
 * running, and what others of runtimed need of it.
 *
 * Glossary: the *app directory* holds sandbox.yaml, and is where the app's programs start; the
 * *web* is the one program that serves a port; a *worker* is any other; the *build* is a command
 * that ends, and says by its exit code whether the app is sound. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/err.h"
#include "runtimed/process_table.h"

/* Where it is: below the workspace, or where this variable of the sandbox's environment says. */
#define APP_DIRECTORY          "workspace/app"
#define APP_DIRECTORY_VARIABLE "SANDBOXD_APP_DIR"

/* Tags of the app's processes, which no others may have: "app.web", "app.worker.NAME",
 * "app.build". */
#define APP_TAG_PREFIX "app."
#define APP_TAG_WEB    APP_TAG_PREFIX "web"
#define APP_TAG_WORKER APP_TAG_PREFIX "worker."
#define APP_TAG_BUILD  APP_TAG_PREFIX "build"

struct app;

/* Watches the directory, which need not exist, from the next turn of the loop on. Both outlive it,
 * the directory is copied. */
int app_new(struct process_table *processes, const char *directory, struct app **ret,
            struct err *e);
const char *app_directory(const struct app *a);
/* The sandbox stops: nothing is started any more, waits end (APP_HEALTH_DOWN), a build is left to
 * the signals that all programs get. Idempotent. */
void app_stop(struct app *a);
void app_close(struct app *a); /* before process_table_close */
void app_free(struct app *a);  /* once the loop has ended; NULL is fine */

/* --- after a task ---------------------------------------------------------------------------- */

/* Restarts those whose `restart_after_task` says so, also such as were given up. What sandbox.yaml
 * says now is read first, so that a task's own edit of it has its effect. */
void app_restart_after_task(struct app *a);

/* --- the build ------------------------------------------------------------------------------- */

enum app_build_status {
        APP_BUILD_SKIPPED, /* sandbox.yaml names none, or is wrong about it: see `error` */
        APP_BUILD_PASSED,  /* it ended with 0, in time */
        APP_BUILD_FAILED,  /* else; what could not be started, too: see `error` */
};

#define APP_BUILD_TAIL_MAX (8 * KiB)

struct app_build_result {
        enum app_build_status status;
        int exit_code;  /* 128 + signal; of APP_BUILD_SKIPPED, and if never started: 0 */
        bool timed_out; /* after its timeout_seconds */
        pid_t pid;      /* 0: never started. Its whole output is under this, and its tag */
        uint64_t took_ms;
        const char *error;  /* why it was skipped or could not be started; "" else */
        const char *output; /* the last of what it printed, stdout and stderr in the order of their
                             * arrival: UTF-8 without NUL, at most APP_BUILD_TAIL_MAX bytes */
};

/* Embedded in its owner; the fields are private but for on_done. */
struct app_build {
        /* Once, on a later turn of the loop; what it points to goes afterwards. */
        void (*on_done)(struct app_build *b, const struct app_build_result *result);
        struct app *app;
        struct process *process; /* NULL: none was started */
        struct process_waiter waiter;
        bool is_skipped;
        char error[ERR_MSG_MAX]; /* why not */
};

/* sandbox.yaml is read anew. FAILED_PRECONDITION: a build is under way, or the sandbox stops. */
int app_build_start(struct app *a, struct app_build *b, struct err *e);
/* Ends its tree, SIGTERM and SIGKILL 2 s later; on_done does not come any more. Only between
 * app_build_start and on_done. */
void app_build_cancel(struct app_build *b);

/* --- the web's health ------------------------------------------------------------------------ */

enum app_health {
        APP_HEALTH_NONE,     /* sandbox.yaml names no web */
        APP_HEALTH_DOWN,     /* its program does not run: about to be restarted, or given up */
        APP_HEALTH_STARTING, /* it runs, and has not answered yet */
        APP_HEALTH_READY,    /* it answers */
        APP_HEALTH_ERROR, /* it runs, and answers wrongly, not any more, or not within a minute */
};

enum app_health app_health(const struct app *a);
/* Why it is not ready, in a line; "" when there is nothing to say. Until the next turn of the loop.
 */
const char *app_health_detail(const struct app *a);

/* Embedded; the fields are private but for on_health. */
struct app_health_waiter {
        /* Once, on a later turn of the loop; it is no waiter any more. */
        void (*on_health)(struct app_health_waiter *w, enum app_health health);
        struct app *app;
        uint64_t until; /* uv_now */
        bool is_new;    /* since the last turn that told others */
        LIST_ENTRY(app_health_waiter) entry;
};

/* Until the web is ready, given up, or there is none, but no longer than timeout_ms: then with what
 * it is. A restart that was asked for before (app_restart_after_task) is waited out. It is asked
 * more often meanwhile. */
void app_health_wait(struct app *a, struct app_health_waiter *w, unsigned timeout_ms);
void app_health_unwait(struct app_health_waiter *w);
