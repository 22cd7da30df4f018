#include "tests/fuzz/service.h"

#include <string.h>
#include <sys/queue.h>

#include "base/util.h"
#include "echo_methods.h"
#include "google/rpc/status.pb-c.h"
#include "methods.h"
#include "rpc/protowire.h"
#include "rpc/service_health.h"
#include "rpc/service_reflection.h"
#include "rpc/wire.h"
#include "tests/interop/echo.h"

#define ACTIONS_MAX 8
#define TOO_LARGE   (4 * MiB + 1) /* for a message of ttrpc */
/* Fake time after which a server has noticed that a client is gone, ms. */
#define NOTICE_MS 5000

static struct echo echo;
static struct service_health health;
static struct service_reflection reflection;
static bool closing, closed; /* the server */

/* --- the scripted handlers ------------------------------------------------------------------ */

struct script_call {
        struct rpc_call *call;
        bool in_handler, paused, sent, half_closed, cancelled;
        TAILQ_ENTRY(script_call) entry;
};

static TAILQ_HEAD(, script_call) script_calls = TAILQ_HEAD_INITIALIZER(script_calls);
static bool lingering; /* cancelled calls wait for finish_cancelled */

static void forget(struct script_call *c)
{
        TAILQ_REMOVE(&script_calls, c, entry);
        free(c);
}

static void script_send(struct script_call *c, size_t n)
{
        static const uint8_t zeroes[TOO_LARGE];

        if (c->sent && !rpc_call_method(c->call)->server_streams)
                return;
        c->sent = true;
        rpc_call_send(c->call, zeroes, MIN(n, sizeof(zeroes)));
}

static void fail_with_details(struct script_call *c, size_t n)
{
        static uint8_t details[8192]; /* an Any of n bytes */
        uint8_t head[6];
        size_t n_head = protowire_put_head(head, 2, n),
               start = protowire_put_head(details, 3, n_head + n);
        struct err e;

        memcpy(details + start, head, n_head);
        memset(details + start + n_head, 0, n);
        (void)err_set(&e, STATUS_ABORTED, "100%% \xC3\xA9\n, as the client asked");
        rpc_call_finish_with_details(c->call, &e, details, start + n_head + n);
}

/* One action a byte. False: the call is finished, and c is gone. */
static bool act(struct script_call *c, uint8_t action)
{
        unsigned much = action >> 3;

        switch (action & 7) {
        case 1:
                script_send(c, much);
                break;
        case 2:
                script_send(c, much == 31 ? TOO_LARGE : much * 2500);
                break;
        case 3:
                rpc_call_pause(c->call);
                c->paused = true;
                break;
        case 4:
                c->paused = false;
                rpc_call_resume(c->call);
                break;
        case 5:
                fail_with_details(c, much * 200);
                forget(c);
                return false;
        case 6:
                rpc_call_finish(c->call, NULL);
                forget(c);
                return false;
        case 7:
                for (int i = 0; i < 32 && rpc_call_is_writable(c->call); i++)
                        script_send(c, much * 2500);
                break;
        default:
                break;
        }
        return true;
}

/* False: c is gone. */
static bool act_on(struct script_call *c, const uint8_t *actions, size_t n)
{
        for (size_t i = 0; i < MIN(n, ACTIONS_MAX); i++)
                if (!act(c, actions[i]))
                        return false;
        return true;
}

static void handle(struct script_call *c, const uint8_t *actions, size_t n)
{
        EXPECT(!c->cancelled && !c->in_handler);
        c->in_handler = true;
        if (act_on(c, actions, n))
                c->in_handler = false;
}

static void on_message(struct rpc_call *call, const uint8_t *message, size_t n)
{
        struct script_call *c = rpc_call_data(call);

        EXPECT(rpc_call_method(call)->client_streams);
        EXPECT(!c->half_closed && !c->paused);
        handle(c, message, n);
}

static void on_half_close(struct rpc_call *call)
{
        struct script_call *c = rpc_call_data(call);
        static const uint8_t reply_and_finish[] = {1, 6};

        EXPECT(rpc_call_method(call)->client_streams);
        EXPECT(!c->half_closed && !c->paused);
        c->half_closed = true;
        handle(c, reply_and_finish, sizeof(reply_and_finish));
}

static void on_cancel(struct rpc_call *call)
{
        struct script_call *c = rpc_call_data(call);

        EXPECT(!c->cancelled && !c->in_handler);
        EXPECT(rpc_call_is_cancelled(call));
        c->cancelled = true;
        if (lingering)
                return;
        rpc_call_finish(call, NULL);
        forget(c);
}

static void on_writable(struct rpc_call *call)
{
        struct script_call *c = rpc_call_data(call);

        handle(c, (const uint8_t[]){1}, 1);
}

static const struct rpc_call_ops script_ops = {
        .on_message = on_message,
        .on_half_close = on_half_close,
        .on_cancel = on_cancel,
        .on_writable = on_writable,
};

static void on_script(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct script_call *c = calloc(1, sizeof(*c));

        (void)ctx;
        EXPECT(c && (message || n == 0));
        c->call = call;
        TAILQ_INSERT_TAIL(&script_calls, c, entry);
        rpc_call_set_ops(call, &script_ops, c);
        handle(c, message, n);
}

#define TYPES \
        .request = &google__rpc__status__descriptor, .response = &google__rpc__status__descriptor

static const struct rpc_method script_methods[] = {
        {.name = "Unary", TYPES},
        {.name = "Down", .server_streams = true, TYPES},
        {.name = "Up", .client_streams = true, TYPES},
        {.name = "Both", .client_streams = true, .server_streams = true, TYPES},
};
const struct rpc_service script_service = {
        .name = "fuzz.v1.Script",
        .methods = script_methods,
        .n_methods = ARRAY_SIZE(script_methods),
};

void service_step(struct input *in)
{
        unsigned i = take_u8(in);
        struct input actions = take_bytes(in, take_u8(in) % (ACTIONS_MAX + 1));
        struct script_call *c = TAILQ_FIRST(&script_calls);

        for (; c && i > 0; i--)
                c = TAILQ_NEXT(c, entry);
        if (c)
                (void)act_on(c, actions.p, actions.n);
}

/* Those that were cancelled and linger. */
static void finish_cancelled(void)
{
        struct script_call *c, *next;

        for (c = TAILQ_FIRST(&script_calls); c; c = next) {
                next = TAILQ_NEXT(c, entry);
                if (!c->cancelled)
                        continue;
                rpc_call_finish(c->call, NULL);
                forget(c);
        }
}

/* --- the server ----------------------------------------------------------------------------- */

static void call_echo(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        (void)ctx;
        echo_on_call(call, message, n, &echo);
}

void service_echo(struct rpc_call *call, const uint8_t *message, size_t n)
{
        call_echo(call, message, n, NULL);
}

struct rpc_server *service_start(struct input *in, rpc_handler on_echo, void *ctx)
{
        static const struct rpc_wire *const wires[] = {&rpc_wire_ttrpc, &rpc_wire_grpc, NULL};
        static const struct rpc_descriptors *const tables[] = {&methods_descriptors,
                                                               &echo_methods_descriptors, NULL};
        struct rpc_server_limits limits = rpc_server_default_limits;
        struct rpc_server *server = NULL;
        uint8_t how = take_u8(in);
        struct err e;

        limits.calls_per_connection = how & 1 ? 2 : 16;
        if (how & 2)
                limits.request_max = 1000;
        if (how & 4)
                limits.held_max = 5000;
        if (how & 8)
                limits.arena_max = 2000;
        if (how & 16)
                limits.metadata_max = 300;
        if (how & 32)
                limits.idle_ms = 1000;
        lingering = how & 64;
        closing = closed = false;
        echo = (struct echo){.loop = &fuzz_loop};
        health = (struct service_health){0};
        EXPECT(rpc_server_new(&fuzz_loop, wires, &limits, &server, &e) == 0);
        EXPECT(rpc_server_add_all(server, &echo_service, on_echo ? on_echo : call_echo, ctx, &e) ==
               0);
        EXPECT(rpc_server_add_all(server, &script_service, on_script, NULL, &e) == 0);
        EXPECT(service_health_add(&health, server, &e) == 0);
        EXPECT(service_reflection_add(&reflection, server, tables, &e) == 0);
        return server;
}

static void on_closed(void *data)
{
        (void)data;
        closed = true;
}

static void close_server(struct rpc_server *server, unsigned grace_ms)
{
        if (closing)
                return;
        closing = true;
        service_health_stop(&health);
        rpc_server_close(server, grace_ms, on_closed, NULL);
}

void service_end(struct rpc_server *server, struct input *in)
{
        uint8_t how = take_u8(in);

        if (how % 4 == 1 && !closing) {
                service_health_stop(&health);
                rpc_server_drain(server);
        } else if (how % 4 == 2) {
                close_server(server, how < 128 ? 0 : 1000);
        } else if (how % 4 == 3 && !health.stopped) {
                service_health_set(&health, !health.serving);
        }
}

static bool has_sessions(const struct rpc_server *server)
{
        return !closed && server->n_sessions > 0; /* it is freed before it says that it is closed */
}

void service_check(const struct rpc_server *server)
{
        const struct rpc_session *s;
        const struct rpc_call *call;
        size_t held = 0;
        unsigned n_sessions = 0;

        if (closed)
                return;
        TAILQ_FOREACH (s, &server->sessions, entry) {
                unsigned n_calls = 0;
                TAILQ_FOREACH (call, &s->calls, entry)
                        n_calls++;
                EXPECT(s->n_calls == n_calls);
                /* ttrpc holds what no call has yet; who closes gives all back at the end. */
                EXPECT(s->held == 0 || n_calls > 0 || s->closing || s->wire != &rpc_wire_grpc);
                held += s->held;
                n_sessions++;
        }
        EXPECT(server->n_sessions == n_sessions);
        EXPECT(server->held == held);
}

void service_wait(const struct rpc_server *server)
{
        for (unsigned ms = 0; ms < NOTICE_MS && has_sessions(server); ms += 500) {
                fuzz_pass_time(500);
                fuzz_turns(2);
                finish_cancelled();
        }
        fuzz_turns(2); /* what was closed in the last turn */
        EXPECT(!has_sessions(server));
        EXPECT(TAILQ_EMPTY(&script_calls));
        EXPECT(closed || server->held == 0);
}

void service_stop(struct rpc_server *server)
{
        close_server(server, 0);
        fuzz_settle();
        EXPECT(closed);
        echo_done(&echo);
}
