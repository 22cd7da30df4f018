/* Calls through rpc/client.h to the server of rpc_fixture.h. */
#pragma once

#include "rpc/client.h"
#include "tests/unit/rpc_fixture.h"

struct reply {
        unsigned n_messages, n_done;
        uint8_t *last; /* message */
        size_t last_len;
        uint64_t expected; /* number of the next message of a stream */
        bool numbered;
        struct err err; /* code OK: success */
        uint8_t *details;
        size_t n_details;
};

static inline void on_message(void *data, const uint8_t *bytes, size_t n)
{
        struct reply *r = data;

        assert_int_equal(r->n_done, 0);
        r->n_messages++;
        free(r->last);
        r->last = malloc(n + 1);
        if (n)
                memcpy(r->last, bytes, n);
        r->last_len = n;
        if (r->numbered) {
                assert_true(n >= sizeof(r->expected));
                assert_memory_equal(bytes, &r->expected, sizeof(r->expected));
                r->expected++;
        }
}

static inline void on_done(void *data, const struct err *e, const uint8_t *details,
                           size_t n_details)
{
        struct reply *r = data;

        r->n_done++;
        r->err = e ? *e : (struct err){0};
        if (n_details) {
                r->details = malloc(n_details);
                memcpy(r->details, details, n_details);
                r->n_details = n_details;
        }
}

static const struct rpc_reply_ops reply_ops = {.on_message = on_message, .on_done = on_done};

static inline void reply_done(struct reply *r)
{
        free(r->last);
        free(r->details);
        *r = (struct reply){0};
}

static inline void on_client_end(struct rpc_client *c, void *data)
{
        (void)c;
        *(bool *)data = true;
}

static inline struct rpc_client *client_new(struct rpc_fixture *f, bool *ended)
{
        static const struct rpc_client_ops ops = {.on_end = on_client_end};
        struct rpc_client *c = NULL;

        assert_int_equal(rpc_client_new(&f->l.loop, connect_to(f->path), 0, ended ? &ops : NULL,
                                        ended, &c, NULL),
                         0);
        return c;
}

static inline int try_call(struct rpc_client *c, int method, const void *message, size_t n,
                           uint64_t timeout_ns, struct reply *r)
{
        const struct rpc_request request = {
                .service = &test_service,
                .method = &test_methods[method],
                .message = message,
                .n = n,
                .timeout_ns = timeout_ns,
        };

        return rpc_client_call(c, &request, &reply_ops, r, NULL, NULL);
}

static inline void call(struct rpc_client *c, int method, const void *request, size_t n,
                        struct reply *r)
{
        assert_int_equal(try_call(c, method, request, n, 0, r), 0);
}

/* A small call that must succeed: the server is well. */
static inline void assert_serves(struct rpc_fixture *f, struct rpc_client *c)
{
        struct reply r = {0};

        call(c, ECHO_METHOD, "ping", 4, &r);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.err.code, STATUS_OK);
        assert_int_equal(r.last_len, 4);
        assert_memory_equal(r.last, "ping", 4);
        reply_done(&r);
}

static inline void assert_serves_anew(struct rpc_fixture *f)
{
        struct rpc_client *c = client_new(f, NULL);

        assert_serves(f, c);
        rpc_client_close(c);
}
