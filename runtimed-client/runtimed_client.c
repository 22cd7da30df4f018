#include "runtimed-client/runtimed_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "base/util.h"
#include "methods.h"
#include "rpc/arena.h"
#include "rpc/protowire.h"
#include "runtimed-client/workspace.h"
#include "sandboxd/control/v1/control.pb-c.h"

#define GENERATION              1
#define AGENTS_FIELD            3 /* of HelloRequest */
#define HELLO_MAX               (RUNTIMED_AGENTS_MAX + 128)
#define INTRODUCTION_TIMEOUT_MS 10000
/* Between its bind and its listen the socket refuses; then the wait is this long, doubling. */
#define RETRY_FIRST_MS 1
#define RETRY_MAX_MS   64
/* inotify's queue is shared by all sandboxes, and one of them may overflow it. */
#define LOOK_AGAIN_MS 500
#define HELLO_BUDGET  (16 * 1024) /* bytes of memory for the answer */
/* What a sandbox may send in one message: every client that does not read makes us keep one. */
#define MESSAGE_MAX (512 * 1024)

struct runtimed_client {
        uv_loop_t *loop;
        int workspace;   /* O_PATH */
        int control_dir; /* O_PATH; kept while it is watched */
        const struct runtimed_client_ops *ops;
        void *data;
        const struct runtimed_introduction *introduction; /* NULL: none */
        uv_fs_event_t watch; /* of the control directory, until the socket is there */
        uv_timer_t retry, deadline;
        uint64_t retry_ms, deadline_at;
        struct rpc_client *client; /* the control connection */
        bool socket_seen, waiting, ready, closing;
        int handles;
};

static void try_connect(struct runtimed_client *c);

static void stop_waiting(struct runtimed_client *c)
{
        c->waiting = false;
        (void)uv_fs_event_stop(&c->watch); /* none of the three fails */
        (void)uv_timer_stop(&c->retry);
        (void)uv_timer_stop(&c->deadline);
        if (c->control_dir >= 0)
                (void)close(TAKE_FD(c->control_dir));
}

static void drop_connection(struct runtimed_client *c)
{
        struct rpc_client *client = TAKE(c->client);
        struct err e;

        c->ready = false;
        if (!client)
                return;
        (void)err_set(&e, STATUS_UNAVAILABLE, "the connection to the sandbox was given up");
        rpc_client_abort(client, &e);
        rpc_client_close(client);
}

static void fail(struct runtimed_client *c, const struct err *e)
{
        stop_waiting(c);
        drop_connection(c);
        c->ops->on_failed(c->data, e, !c->socket_seen);
}

static void on_deadline(uv_timer_t *timer)
{
        struct runtimed_client *c = CONTAINER(timer, struct runtimed_client, deadline);
        struct err e;

        if (c->socket_seen)
                (void)err_set(&e, STATUS_DEADLINE_EXCEEDED,
                              "runtimed made its socket but did not answer in time");
        else
                (void)err_set(&e, STATUS_DEADLINE_EXCEEDED,
                              "runtimed's socket did not appear in the workspace in time");
        fail(c, &e);
}

/* --- the handshake ------------------------------------------------------------------------- */

static bool is_boot_id(const char *s)
{
        return strlen(s) == 32 && strspn(s, "0123456789abcdef") == 32;
}

static void on_hello(void *data, const uint8_t *bytes, size_t n)
{
        struct runtimed_client *c = data;
        struct arena arena;
        struct err e;
        bool exhausted;

        arena_init(&arena, HELLO_BUDGET);
        const Sandboxd__Control__V1__HelloResponse *hello = (const void *)arena_unpack(
                &arena, &sandboxd__control__v1__hello_response__descriptor, bytes, n, &exhausted);
        if (!hello || !is_boot_id(hello->boot_id)) {
                (void)err_set(&e, STATUS_INTERNAL, "runtimed's greeting is malformed");
                fail(c, &e);
        } else if (hello->generation != GENERATION) {
                (void)err_set(&e, STATUS_FAILED_PRECONDITION,
                              "runtimed speaks generation %u of the control protocol, this daemon "
                              "%u; stop and start the sandbox",
                              hello->generation, GENERATION);
                fail(c, &e);
        } else {
                stop_waiting(c);
                c->ready = true;
                c->ops->on_ready(c->data, hello->boot_id);
        }
        arena_done(&arena);
}

static void on_hello_done(void *data, const struct err *e, const uint8_t *details, size_t n_details)
{
        struct runtimed_client *c = data;

        (void)details, (void)n_details;
        /* A broken connection is told by on_end, which tries again. */
        if (e && c->waiting && e->code != STATUS_UNAVAILABLE)
                fail(c, e);
}

static void on_retry(uv_timer_t *timer)
{
        try_connect(CONTAINER(timer, struct runtimed_client, retry));
}

static void retry_later(struct runtimed_client *c)
{
        (void)uv_timer_start(&c->retry, on_retry, c->retry_ms, 0); /* never fails */
        c->retry_ms = MIN(c->retry_ms * 2, (uint64_t)RETRY_MAX_MS);
}

static void on_connection_end(struct rpc_client *client, void *data)
{
        struct runtimed_client *c = data;
        bool was_ready = c->ready;

        (void)client;
        drop_connection(c);
        if (was_ready)
                c->ops->on_lost(c->data);
        else if (c->waiting)
                retry_later(c);
}

static const struct rpc_client_ops connection_ops = {.on_end = on_connection_end};
static const struct rpc_reply_ops hello_ops = {.on_message = on_hello, .on_done = on_hello_done};

/* The agents are serialized already: the last field of the message. */
static int pack_hello(const struct runtimed_client *c, struct buf *ret, struct err *e)
{
        const struct runtimed_introduction *i = c->introduction;
        Sandboxd__Control__V1__HelloRequest hello = SANDBOXD__CONTROL__V1__HELLO_REQUEST__INIT;
        uint8_t bytes[64], head[8];

        hello.generation = GENERATION;
        hello.version = (char *)SANDBOXD_VERSION;
        size_t n = sandboxd__control__v1__hello_request__pack(&hello, bytes); /* a few bytes */
        int r = buf_append(ret, bytes, n, HELLO_MAX);
        if (r == 0 && i) {
                n = protowire_put_head(head, AGENTS_FIELD, i->n);
                r = buf_append(ret, head, n, HELLO_MAX);
        }
        if (r == 0 && i)
                r = buf_append(ret, i->agents, i->n, HELLO_MAX);
        return r < 0 ? err_oom(e) : 0;
}

static int say_hello(struct runtimed_client *c, uint64_t timeout_ms,
                     const struct rpc_reply_ops *reply_ops, struct err *e)
{
        struct buf hello = {0};

        int r = pack_hello(c, &hello, e);
        const struct rpc_request request = {
                .service = &control_service,
                .method = &control_service.methods[CONTROL_SERVICE_HELLO],
                .message = buf_bytes(&hello),
                .n = hello.len,
                .timeout_ns = timeout_ms * NSEC_PER_MSEC,
        };
        if (r == 0)
                r = rpc_client_call(c->client, &request, reply_ops, c, NULL, e);
        buf_done(&hello);
        return r;
}

/* Who it is was said before. */
static void on_introduced(void *data, const uint8_t *bytes, size_t n)
{
        (void)data, (void)bytes, (void)n;
}

/* It knows the agents from before then, until the next hello. */
static void on_introduction_done(void *data, const struct err *e, const uint8_t *details, size_t n)
{
        (void)data, (void)e, (void)details, (void)n;
}

void runtimed_client_introduce(struct runtimed_client *c)
{
        static const struct rpc_reply_ops introduction_ops = {.on_message = on_introduced,
                                                              .on_done = on_introduction_done};
        struct err e;

        if (c->ready)
                (void)say_hello(c, INTRODUCTION_TIMEOUT_MS, &introduction_ops, &e); /* as above */
}

void runtimed_client_set_introduction(struct runtimed_client *c,
                                      const struct runtimed_introduction *i)
{
        c->introduction = i;
}

/* Called whenever something may have changed: at first, by inotify, and by the retry timer. */
static void try_connect(struct runtimed_client *c)
{
        uint64_t now = uv_now(c->loop);
        struct err e;

        if (c->client)
                return;
        int fd = workspace_connect(c->workspace);
        if (fd == -ENOENT) {                                                 /* inotify will tell */
                (void)uv_timer_start(&c->retry, on_retry, LOOK_AGAIN_MS, 0); /* never fails */
                return;
        }
        c->socket_seen = true;
        if (fd < 0) {
                retry_later(c); /* it does not listen yet, or the sandbox plays games: deadline */
                return;
        }
        if (rpc_client_new(c->loop, fd, MESSAGE_MAX, &connection_ops, c, &c->client, &e) < 0) {
                retry_later(c);
        } else if (say_hello(c, MAX(c->deadline_at, now + 1) - now, &hello_ops, &e) < 0) {
                drop_connection(c);
                retry_later(c);
        }
}

static void on_directory_event(uv_fs_event_t *watch, const char *name, int events, int status)
{
        struct runtimed_client *c = CONTAINER(watch, struct runtimed_client, watch);

        (void)events;
        if (status == 0 && str_eq(name, WORKSPACE_SOCKET))
                try_connect(c);
}

static int watch_control_dir(struct runtimed_client *c)
{
        char path[64];

        c->control_dir = workspace_open_control_dir(c->workspace);
        if (c->control_dir < 0)
                return c->control_dir;
        (void)str_format(path, sizeof(path), "/proc/self/fd/%d", c->control_dir); /* it fits */
        return uv_fs_event_start(&c->watch, on_directory_event, path, 0);
}

int runtimed_client_await(struct runtimed_client *c, uint64_t timeout_ms, struct err *e)
{
        stop_waiting(c);
        drop_connection(c);
        c->socket_seen = false;
        c->retry_ms = RETRY_FIRST_MS;
        /* Before the first look, so that nothing falls between the two. */
        int r = watch_control_dir(c);
        if (r < 0) {
                stop_waiting(c);
                return err_errno(e, -r, "watch the workspace's control directory");
        }
        c->waiting = true;
        c->deadline_at = uv_now(c->loop) + timeout_ms;
        (void)uv_timer_start(&c->deadline, on_deadline, timeout_ms, 0); /* never fails */
        try_connect(c);
        return 0;
}

/* --- calls --------------------------------------------------------------------------------- */

int runtimed_client_open(struct runtimed_client *c, const struct rpc_client_ops *ops, void *data,
                         struct rpc_client **ret, struct err *e)
{
        int fd = workspace_connect(c->workspace);
        if (fd < 0)
                return err_set(e, STATUS_UNAVAILABLE,
                               "the sandbox takes no connection now (%s); retry later",
                               strerror(-fd));
        return rpc_client_new(c->loop, fd, MESSAGE_MAX, ops, data, ret, e);
}

struct rpc_client *runtimed_client_shared(struct runtimed_client *c)
{
        return c->ready ? c->client : NULL;
}

/* --- life ---------------------------------------------------------------------------------- */

int runtimed_client_new(uv_loop_t *loop, const char *workspace,
                        const struct runtimed_client_ops *ops, void *data,
                        struct runtimed_client **ret, struct err *e)
{
        _cleanup_close_ int fd = workspace_open(workspace, e);
        if (fd < 0)
                return fd;
        struct runtimed_client *c = calloc(1, sizeof(*c));
        if (!c)
                return err_oom(e);
        c->loop = loop;
        c->workspace = TAKE_FD(fd);
        c->control_dir = -1;
        c->ops = ops;
        c->data = data;
        (void)uv_fs_event_init(loop, &c->watch); /* none of the three fails */
        (void)uv_timer_init(loop, &c->retry);
        (void)uv_timer_init(loop, &c->deadline);
        c->handles = 3;
        *ret = c;
        return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
        struct runtimed_client *c = handle->data;

        if (--c->handles > 0)
                return;
        (void)close(c->workspace);
        free(c);
}

void runtimed_client_close(struct runtimed_client *c)
{
        if (!c || c->closing)
                return;
        c->closing = true;
        stop_waiting(c);
        if (c->ready)
                rpc_client_retire(TAKE(c->client)); /* the calls of others on it may end */
        else
                drop_connection(c);
        c->watch.data = c->retry.data = c->deadline.data = c;
        uv_close((uv_handle_t *)&c->watch, on_handle_closed);
        uv_close((uv_handle_t *)&c->retry, on_handle_closed);
        uv_close((uv_handle_t *)&c->deadline, on_handle_closed);
}
