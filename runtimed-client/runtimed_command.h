/* A program that the daemon itself runs in a sandbox, to its end: for what it wants to know of the
 * inside. What comes back is a claim. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "runtimed-client/runtimed_client.h"

/* Of what it prints on standard output; the rest is dropped. */
#define RUNTIMED_COMMAND_OUTPUT_MAX (64 * 1024)

struct runtimed_result {
        int exit_code;      /* as ProcessEnded has it: 126, 127 when it cannot be executed */
        const char *output; /* ends in NUL; may hold others */
        size_t n;
};

struct runtimed_command;

/* argv ends in NULL; at most RUNTIMED_COMMAND_ARGS_MAX. done comes once, never before the return,
 * timeout_ms later at most: with the result, or with the error. The program does not outlive it. */
#define RUNTIMED_COMMAND_ARGS_MAX 16
int runtimed_command_start(struct runtimed_client *c, const char *const *argv, uint64_t timeout_ms,
                           void (*done)(void *data, const struct runtimed_result *result,
                                        const struct err *e),
                           void *data, struct runtimed_command **ret, struct err *e);
/* Before done has come: it comes no more. */
void runtimed_command_cancel(struct runtimed_command *command);
