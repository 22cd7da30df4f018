/* The commands: each is one row of the table in main.c and one function. */
#pragma once

#include <stdbool.h>

#include "cli/options.h"
#include "cli/session.h"
#include "cli/target.h"
#include "sandboxd/v1/process.pb-c.h"
#include "sandboxd/v1/sandbox.pb-c.h"

enum exit_status {
        EXIT_OK = 0,
        EXIT_REFUSED = 1,       /* the daemon answered with an error */
        EXIT_USAGE = 2,         /* the command line makes no sense */
        EXIT_UNREACHABLE = 3,   /* no daemon, or it went away during the call */
        EXIT_TIMED_OUT = 124,   /* exec: --run-timeout has passed; as timeout(1) */
        EXIT_NO_STATUS = 125,   /* exec: trouble before or beside the program */
        EXIT_CANNOT_EXEC = 126, /* exec: the program cannot be executed */
        EXIT_NO_PROGRAM = 127,  /* exec: there is no such program */
        EXIT_PIPE = 128 + 13,   /* nobody reads the output: as if SIGPIPE had killed us */
};

struct command {
        const char *name;     /* one word, or two: "config diff" */
        const char *operands; /* as the usage line shows them, with a blank before */
        const char *help;     /* one line */
        const char *details;  /* further lines and an empty one; may be NULL */
        uint64_t options;     /* a set, beside OPTIONS_COMMON */
        int min_operands, max_operands;
        bool runs_program;  /* whose options are none of ours */
        bool passes_status; /* its exit status is the program's */
        bool offline;       /* session is NULL */
        bool hidden;        /* from help: other programs use it */
        bool connects;      /* by itself: the session is not connected */
        /* Returns the exit status. operands ends in NULL. */
        int (*run)(struct session *s, const struct options *o, char **operands);
};

int command_create(struct session *s, const struct options *o, char **operands);
int command_ls(struct session *s, const struct options *o, char **operands);
int command_get(struct session *s, const struct options *o, char **operands);
int command_start(struct session *s, const struct options *o, char **operands);
int command_stop(struct session *s, const struct options *o, char **operands);
int command_pause(struct session *s, const struct options *o, char **operands);
int command_resume(struct session *s, const struct options *o, char **operands);
int command_rm(struct session *s, const struct options *o, char **operands);
int command_keepalive(struct session *s, const struct options *o, char **operands);
int command_wait(struct session *s, const struct options *o, char **operands);
int command_stats(struct session *s, const struct options *o, char **operands);
int command_events(struct session *s, const struct options *o, char **operands);
int command_exec(struct session *s, const struct options *o, char **operands);
int command_attach(struct session *s, const struct options *o, char **operands);
int command_ps(struct session *s, const struct options *o, char **operands);
int command_kill(struct session *s, const struct options *o, char **operands);
int command_logs(struct session *s, const struct options *o, char **operands);
int command_image_import(struct session *s, const struct options *o, char **operands);
int command_image_ls(struct session *s, const struct options *o, char **operands);
int command_image_rm(struct session *s, const struct options *o, char **operands);
int command_app_status(struct session *s, const struct options *o, char **operands);
int command_app_wait(struct session *s, const struct options *o, char **operands);
int command_app_logs(struct session *s, const struct options *o, char **operands);
int command_app_restart(struct session *s, const struct options *o, char **operands);
int command_app_build(struct session *s, const struct options *o, char **operands);
int command_app_check(struct session *s, const struct options *o, char **operands);
int command_task_start(struct session *s, const struct options *o, char **operands);
int command_task_ls(struct session *s, const struct options *o, char **operands);
int command_task_events(struct session *s, const struct options *o, char **operands);
int command_task_cancel(struct session *s, const struct options *o, char **operands);
int command_task_revert(struct session *s, const struct options *o, char **operands);
int command_drain(struct session *s, const struct options *o, char **operands);
int command_dial_stdio(struct session *s, const struct options *o, char **operands);
int command_metrics(struct session *s, const struct options *o, char **operands);
int command_info(struct session *s, const struct options *o, char **operands);
int command_doctor(struct session *s, const struct options *o, char **operands);
int command_reload(struct session *s, const struct options *o, char **operands);
int command_config_diff(struct session *s, const struct options *o, char **operands);

/* For several commands. */

/* The sandbox of this id, name or prefix; NULL with *e filled. */
const Sandboxd__V1__Sandbox *get_sandbox(struct session *s, char *ref, struct err *e);

/* The process that the target names, as List tells it, also when it has ended: of several the one
 * that runs, else the last. NULL with *e filled. */
const Sandboxd__V1__Process *get_process(struct session *s, const struct target *target,
                                         struct err *e);

/* The session's next calls may take as long as they do, unless --timeout was given. */
void drop_time_limit(struct session *s, const struct options *o);
/* The exit status of a command that ends with a stream. output_error: 0, or why its own output
 * could not be written; r and e: what came of the stream. Complains where something failed. */
int stream_ended(const struct session *s, int output_error, int r, const struct err *e);
/* Complains about a call that failed and returns the exit status for it. */
int call_failed(const struct session *s, const struct err *e);
/* Complains about an answer that lacks what it is for, and returns the exit status for it. */
int holds_no(const char *what);
/* For what is done beside the daemon only: complains about an ssh:// address, and returns the exit
 * status for it; else EXIT_OK. */
int refuse_ssh(const struct session *s, const char *what);
/* Turns the result of printing (0 or -ENOMEM) into an exit status. */
int printed(int r);
