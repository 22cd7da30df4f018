/* A service for tests that records what its handlers are told, watches that they are told in
 * order, and does at each event what the test wants. */
#pragma once

#include "tests/unit/rpc_fixture.h"

enum probe_event { PROBE_FIRST, PROBE_MESSAGE, PROBE_HALF_CLOSE, PROBE_CANCEL, PROBE_WRITABLE };

struct probe_call {
        struct rpc_call *call; /* NULL: finished */
        unsigned messages, half_closes, cancels, writables;
        size_t bytes;
        uint8_t last[64]; /* the start of the last message */
        bool no_message;  /* the stream ended before any */
        bool paused, finished, in_handler;
};

#define PROBE_CALLS 64

struct probe {
        struct probe_call calls[PROBE_CALLS];
        unsigned n;
        /* NULL: finish at the half-close, or the only message, and at the cancellation. */
        void (*on_event)(struct probe_call *p, enum probe_event event, const uint8_t *message,
                         size_t n);
        const char *violation; /* of what call.h promises */
};

static struct probe probe; /* of the running test */

static inline void probe_finish(struct probe_call *p, const struct err *e)
{
        p->finished = true;
        rpc_call_finish(TAKE(p->call), e);
}

static inline void probe_fail(struct probe_call *p, enum status code)
{
        struct err e;

        (void)err_set(&e, code, "as the test wants");
        probe_finish(p, &e);
}

/* One message that tells how many came, and success. */
static inline void probe_answer(struct probe_call *p)
{
        char text[32];

        assert_true(str_format(text, sizeof(text), "%u", p->messages));
        rpc_call_send(p->call, text, strlen(text));
        probe_finish(p, NULL);
}

static inline void probe_pause(struct probe_call *p)
{
        p->paused = true;
        rpc_call_pause(p->call);
}

static inline void probe_resume(struct probe_call *p)
{
        p->paused = false;
        rpc_call_resume(p->call);
}

static inline void probe_default(struct probe_call *p, enum probe_event event)
{
        const struct rpc_method *m = rpc_call_method(p->call);

        if (event == PROBE_CANCEL)
                probe_finish(p, NULL);
        else if (event == PROBE_HALF_CLOSE || (event == PROBE_FIRST && !m->client_streams))
                probe_answer(p);
}

/* --- for on_event --- */

/* Nothing, until the cancellation. */
static inline void probe_keep_open(struct probe_call *p, enum probe_event event,
                                   const uint8_t *message, size_t n)
{
        (void)message, (void)n;
        if (event == PROBE_CANCEL)
                probe_finish(p, NULL);
}

static inline void probe_pause_at_first(struct probe_call *p, enum probe_event event,
                                        const uint8_t *message, size_t n)
{
        (void)message, (void)n;
        if (event == PROBE_FIRST)
                probe_pause(p);
        else
                probe_default(p, event);
}

/* Each message goes back, until the half-close. */
static inline void probe_echo(struct probe_call *p, enum probe_event event, const uint8_t *message,
                              size_t n)
{
        if (event == PROBE_FIRST || event == PROBE_MESSAGE)
                rpc_call_send(p->call, message, n);
        else
                probe_finish(p, NULL);
}

/* --- the service --- */

static inline void probe_happens(struct probe_call *p, enum probe_event event,
                                 const uint8_t *message, size_t n)
{
        bool from_client = event == PROBE_MESSAGE || event == PROBE_HALF_CLOSE;

        if (p->finished)
                probe.violation = "a callback after the finish";
        else if (p->in_handler)
                probe.violation = "a callback before the last one has returned";
        else if (p->cancels && event != PROBE_CANCEL)
                probe.violation = "a callback after the cancellation";
        else if (p->paused && from_client)
                probe.violation = "a message or the half-close during a pause";
        else if (p->no_message && event == PROBE_MESSAGE)
                probe.violation = "a message of a stream that was told to have none";
        else if (p->half_closes && from_client)
                probe.violation = "a message, or another half-close, after the half-close";
        p->messages += (event == PROBE_FIRST && message) || event == PROBE_MESSAGE;
        p->half_closes += event == PROBE_HALF_CLOSE;
        p->cancels += event == PROBE_CANCEL;
        p->writables += event == PROBE_WRITABLE;
        p->bytes += n;
        if (n)
                memcpy(p->last, message, MIN(n, sizeof(p->last)));
        if (p->cancels > 1)
                probe.violation = "a second cancellation";
        if (probe.violation || p->finished)
                return;
        p->in_handler = true;
        if (probe.on_event)
                probe.on_event(p, event, message, n);
        else
                probe_default(p, event);
        p->in_handler = false;
}

static inline void probe_on_message(struct rpc_call *call, const uint8_t *message, size_t n)
{
        probe_happens(rpc_call_data(call), PROBE_MESSAGE, message, n);
}

static inline void probe_on_half_close(struct rpc_call *call)
{
        probe_happens(rpc_call_data(call), PROBE_HALF_CLOSE, NULL, 0);
}

static inline void probe_on_cancel(struct rpc_call *call)
{
        if (!rpc_call_is_cancelled(call))
                probe.violation = "on_cancel of a call that is not cancelled";
        probe_happens(rpc_call_data(call), PROBE_CANCEL, NULL, 0);
}

static inline void probe_on_writable(struct rpc_call *call)
{
        probe_happens(rpc_call_data(call), PROBE_WRITABLE, NULL, 0);
}

static const struct rpc_call_ops probe_ops = {
        .on_message = probe_on_message,
        .on_half_close = probe_on_half_close,
        .on_cancel = probe_on_cancel,
        .on_writable = probe_on_writable,
};

static inline void probe_handler(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct probe_call *p = &probe.calls[probe.n++];

        (void)ctx;
        assert_true(probe.n <= PROBE_CALLS);
        p->call = call;
        p->no_message = !message;
        rpc_call_set_ops(call, &probe_ops, p);
        probe_happens(p, PROBE_FIRST, message, n);
}

enum { PROBE_UNARY, PROBE_UP, PROBE_DOWN, PROBE_BOTH, PROBE_METHODS };

static const struct rpc_method probe_methods[PROBE_METHODS] = {
        [PROBE_UNARY] = {.name = "Unary", STATUS_TYPES},
        [PROBE_UP] = {.name = "Up", .client_streams = true, STATUS_TYPES},
        [PROBE_DOWN] = {.name = "Down", .server_streams = true, STATUS_TYPES},
        [PROBE_BOTH] = {.name = "Both",
                        .client_streams = true,
                        .server_streams = true,
                        STATUS_TYPES},
};
static const struct rpc_service probe_service = {
        .name = "test.v1.ProbeService",
        .methods = probe_methods,
        .n_methods = PROBE_METHODS,
};

static inline void probe_add(struct rpc_fixture *f, struct rpc_server *s)
{
        assert_int_equal(rpc_server_add_all(s, &probe_service, probe_handler, f, NULL), 0);
}

static inline int probe_setup(void **state)
{
        int r = rpc_fixture_setup(state);
        struct rpc_fixture *f = *state;

        probe = (struct probe){0};
        f->add_services = probe_add;
        rpc_fixture_restart(f);
        return r;
}

static inline int probe_teardown(void **state)
{
        for (unsigned i = 0; i < probe.n; i++)
                if (probe.calls[i].call)
                        probe_finish(&probe.calls[i], NULL);
        int r = rpc_fixture_teardown(state);
        if (probe.violation)
                fail_msg("%s", probe.violation);
        return r;
}
