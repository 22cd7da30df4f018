/* The daemon's end of one sandbox's runtimed: waits for its socket, shakes hands, keeps a control
 * connection, and opens further ones for calls. Everything it says is a claim. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "rpc/client.h"

struct runtimed_client;

/* None is called before the function that leads to it has returned, nor after the close. */
struct runtimed_client_ops {
        /* It answered; boot_id is 32 hexadecimal digits, fresh at every start of runtimed. */
        void (*on_ready)(void *data, const char *boot_id);
        /* It did not, in time. no_socket: not even a socket appeared in the workspace. */
        void (*on_failed)(void *data, const struct err *e, bool no_socket);
        /* The control connection ended after on_ready. */
        void (*on_lost)(void *data);
};

/* workspace: path on the host. */
int runtimed_client_new(uv_loop_t *loop, const char *workspace,
                        const struct runtimed_client_ops *ops, void *data,
                        struct runtimed_client **ret, struct err *e);

/* What is said with each hello: the agents of tasks, a sandboxd.control.v1.Agents, serialized. */
struct runtimed_introduction {
        const uint8_t *agents;
        size_t n;
};
#define RUNTIMED_AGENTS_MAX (512 * 1024) /* bytes */
/* Outlives the client, and may change; then runtimed_client_introduce tells it anew, if it is
 * ready. NULL, as at first: nothing is said. */
void runtimed_client_set_introduction(struct runtimed_client *c,
                                      const struct runtimed_introduction *i);
void runtimed_client_introduce(struct runtimed_client *c);

/* Begins to wait for the handshake, with a deadline: on_ready or on_failed will come. Also again
 * after on_failed or on_lost. */
int runtimed_client_await(struct runtimed_client *c, uint64_t timeout_ms, struct err *e);

/* A connection of its own for one streaming call; the caller closes it. UNAVAILABLE when the
 * sandbox does not take it now. */
int runtimed_client_open(struct runtimed_client *c, const struct rpc_client_ops *ops, void *data,
                         struct rpc_client **ret, struct err *e);

/* The connection for unary calls; NULL unless ready. Not for the caller to close. Calls in flight
 * end with UNAVAILABLE when it breaks; they may go on after runtimed_client_close. */
struct rpc_client *runtimed_client_shared(struct runtimed_client *c);

/* Closes everything; the memory goes on the loop's next turns. NULL is fine. */
void runtimed_client_close(struct runtimed_client *c);
