/* Between the files of ProcessService: service_process.c (Start, List), service_process_follow.c
 * (what Start and Attach stream), service_process_input.c (what goes in), service_process_end.c
 * (Signal, Wait). */
#pragma once

#include "methods.h"
#include "rpc/call.h"
#include "runtimed/process_table.h"
#include "runtimed/service.h"
#include "runtimed/timestamp.h"
#include "sandboxd/v1/process.pb-c.h"

/* The process that a request names; NULL: the call has been failed. */
struct process *find_process(struct rpc_call *call, const struct service_process *ctx,
                             const Sandboxd__V1__ProcessSelector *selector);

/* "name: 7 ms; 1000 to 3600000 are possible", with INVALID_ARGUMENT, unless value is 0 or within.
 */
int check_range(const char *name, uint64_t value, uint64_t min, uint64_t max, struct err *e);

/* --- service_process_follow.c --- */

#define KEEPALIVE_MIN_MS 1000
#define KEEPALIVE_MAX_MS (60 * 60 * 1000)

/* The calls' messages have the same fields, so what is sent does not depend on which it is. */
struct following_spec {
        uint64_t offsets[SPOOL_STREAMS];
        uint64_t keepalive_ms; /* 0: never */
        bool until_now;
};
/* Sends `start`, and takes the call over. */
void follow(struct rpc_call *call, struct process *p, const struct following_spec *spec);
/* Sends `start` and finishes. */
void tell_start(struct rpc_call *call, const struct process *p);
/* Sends the `end` of what could not be executed and finishes. */
void tell_not_started(struct rpc_call *call, int exit_code, const char *error);
void attach_process(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);

/* The message for a process's end, with what it points to. */
struct ended_message {
        Sandboxd__V1__ProcessEnded ended;
        Google__Protobuf__Timestamp at;
};
void fill_ended(struct ended_message *m, const struct process *p);

/* --- service_process_input.c, service_process_end.c --- */

void send_input(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);
void stream_input(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);
void close_stdin(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);
void resize(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);
void send_signal(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);
void wait_for_end(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);

int check_terminal_size(const Sandboxd__V1__TerminalSize *size, struct err *e);
