/* One client for both wires, so that a test of calls is written once: rpc/client.h for ttrpc,
 * nghttp2's for gRPC. It calls the service of rpc_probe.h. */
#pragma once

#include "tests/unit/h2_client.h"
#include "tests/unit/rpc_calls.h"
#include "tests/unit/rpc_probe.h"

struct peer {
        struct rpc_fixture *f;
        struct h2 *h;         /* gRPC, or */
        struct rpc_client *c; /* ttrpc */
};

/* A call, valid as long as its peer. */
struct peer_call {
        struct peer *peer;
        struct rpc_client_call *request;
        struct reply reply;
        struct h2_reply *h2;
};

static inline struct peer peer_new(struct rpc_fixture *f, bool grpc)
{
        struct peer p = {.f = f};

        if (grpc)
                p.h = h2_new(f, true);
        else
                p.c = client_new(f, NULL);
        return p;
}

/* Each test runs once over each wire: its initial state is a bool, true for gRPC, and its state
 * while it runs is this. */
struct peer_run {
        struct rpc_fixture *f;
        struct peer peer;
        bool grpc;
};

static inline void peer_close(struct peer *p)
{
        if (p->h)
                h2_free(TAKE(p->h));
        if (p->c)
                rpc_client_close(TAKE(p->c));
}

/* The server; the test brings the client. */
static inline int peer_run_setup(void **state)
{
        static struct peer_run run;
        bool grpc = *(const bool *)*state;
        void *f;

        int r = probe_setup(&f);
        run = (struct peer_run){.f = f, .grpc = grpc};
        *state = &run;
        return r;
}

/* The client, too. */
static inline int peer_run_setup_connected(void **state)
{
        int r = peer_run_setup(state);
        struct peer_run *t = *state;

        t->peer = peer_new(t->f, t->grpc);
        return r;
}

static inline int peer_run_teardown(void **state)
{
        struct peer_run *t = *state;
        void *f = t->f;

        peer_close(&t->peer);
        return probe_teardown(&f);
}

static inline void peer_turn(struct peer *p)
{
        if (p->h)
                h2_turn(p->h);
        else
                (void)uv_run(&p->f->l.loop, UV_RUN_NOWAIT);
}

#define PEER_UNTIL(p, condition) \
        while (!(condition))     \
        peer_turn(p) /* the deadline of the test is its bound */

static inline void peer_run_for(struct peer *p, unsigned ms)
{
        uint64_t end = uv_hrtime() + ms * NSEC_PER_MSEC;

        PEER_UNTIL(p, uv_hrtime() >= end);
}

/* message NULL: the client streams, and says nothing yet. A call of a client that streams stays
 * open. */
static inline struct peer_call *peer_call_within(struct peer *p, int method, const char *message,
                                                 unsigned timeout_ms)
{
        static struct peer_call calls[PROBE_CALLS];
        static unsigned next;
        struct peer_call *call = &calls[next++ % PROBE_CALLS];
        bool streams = probe_methods[method].client_streams;

        reply_done(&call->reply);
        *call = (struct peer_call){.peer = p};
        if (p->h) {
                char path[64], timeout[16];
                assert_true(str_format(path, sizeof(path), "/%s/%s", probe_service.name,
                                       probe_methods[method].name));
                assert_true(str_format(timeout, sizeof(timeout), "%um", timeout_ms));
                call->h2 = submit(
                        p->h, path, NULL, 0,
                        (struct odd){.half_open = true, .timeout = timeout_ms ? timeout : NULL});
                if (message)
                        h2_send(p->h, call->h2, message, strlen(message));
                if (!streams)
                        h2_half_close(p->h, call->h2);
        } else {
                const struct rpc_request request = {
                        .service = &probe_service,
                        .method = &probe_methods[method],
                        .message = message,
                        .n = message ? strlen(message) : 0,
                        .timeout_ns = timeout_ms * NSEC_PER_MSEC,
                        .no_message = !message,
                };
                assert_int_equal(rpc_client_call(p->c, &request, &reply_ops, &call->reply,
                                                 &call->request, NULL),
                                 0);
        }
        return call;
}

static inline struct peer_call *peer_call(struct peer *p, int method, const char *message)
{
        return peer_call_within(p, method, message, 0);
}

static inline void peer_send(struct peer_call *call, const void *message, size_t n)
{
        if (call->h2)
                h2_send(call->peer->h, call->h2, message, n);
        else
                rpc_client_send(call->request, message, n);
}

static inline void peer_half_close(struct peer_call *call)
{
        if (call->h2)
                h2_half_close(call->peer->h, call->h2);
        else
                rpc_client_half_close(call->request);
}

static inline bool peer_has_ended(const struct peer_call *call)
{
        return call->h2 ? call->h2->closed : call->reply.n_done > 0;
}

static inline unsigned peer_n_messages(const struct peer_call *call)
{
        return call->h2 ? h2_n_messages(call->h2) : call->reply.n_messages;
}

/* The call has ended so, orderly. */
static inline void peer_assert_status(const struct peer_call *call, enum status code)
{
        if (call->h2) {
                assert_status(call->h2, code);
        } else {
                assert_int_equal(call->reply.n_done, 1);
                assert_int_equal(call->reply.err.code, code);
        }
}

/* The call ends in success with probe_answer's word of so many messages. */
static inline void peer_expect_answer(struct peer_call *call, unsigned messages)
{
        char text[32];

        assert_true(str_format(text, sizeof(text), "%u", messages));
        PEER_UNTIL(call->peer, peer_has_ended(call));
        peer_assert_status(call, STATUS_OK);
        const uint8_t *bytes = call->h2 ? call->h2->body + 5 : call->reply.last;
        assert_int_equal(call->h2 ? call->h2->len - 5 : call->reply.last_len, strlen(text));
        assert_memory_equal(bytes, text, strlen(text));
}

/* The server is well, and so is this connection. */
static inline void peer_assert_serves(struct peer *p)
{
        if (p->h)
                h2_assert_serves(p->h);
        else
                assert_serves(p->f, p->c);
}
