#include "rpc/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "rpc/wire.h"

#define BACKLOG        1024
#define ACCEPTS_A_TURN 64  /* so that a flood of connects does not starve the rest of the loop */
#define ACCEPT_PAUSE   100 /* ms, when the process is out of descriptors or memory */

const struct rpc_server_limits rpc_server_default_limits = {
        .connections = 4096,
        .connections_per_user = 2048,
        .calls_per_connection = 1024,
        .request_max = 4 * MiB,
        .arena_max = 16 * MiB,
        .metadata_max = 8 * KiB,
        .held_max = 64 * MiB,
        .held_max_per_user = 32 * MiB,
        .greeting_ms = 10000,
        .request_ms = 30000,
};

static const struct rpc_interceptor no_interceptor;

static void free_when_all_is_closed(struct rpc_server *s)
{
        if (!s->closed || s->handles > 0 || s->n_sessions > 0)
                return;
        void (*on_closed)(void *data) = s->on_closed;
        void *data = s->data;
        for (size_t i = 0; i < s->n_services; i++)
                free(s->services[i].request_max);
        free(s);
        if (on_closed)
                on_closed(data);
}

static void listen_for_more(struct rpc_server *s);
static void close_when_drained(struct rpc_server *s);

void rpc_server_forget_session(struct rpc_session *session)
{
        struct rpc_server *s = session->server;

        TAILQ_REMOVE(&s->sessions, session, entry);
        s->n_sessions--;
        if (s->n_sessions == 0 && s->on_deserted && !s->closing)
                s->on_deserted(s->deserted_data);
        listen_for_more(s);
        close_when_drained(s);
        free_when_all_is_closed(s);
}

/* --- what it met --------------------------------------------------------------------------- */

const char *rpc_limit_name(enum rpc_limit limit)
{
        static const char *const names[RPC_LIMITS] = {
                [RPC_LIMIT_CONNECTIONS] = "connections",
                [RPC_LIMIT_CONNECTIONS_PER_USER] = "connections_per_user",
                [RPC_LIMIT_CALLS_PER_CONNECTION] = "calls_per_connection",
                [RPC_LIMIT_MESSAGE_SIZE] = "message_size",
                [RPC_LIMIT_DECODED_SIZE] = "decoded_size",
                [RPC_LIMIT_METADATA_SIZE] = "metadata_size",
                [RPC_LIMIT_UNFINISHED_SIZE] = "unfinished_size",
                [RPC_LIMIT_UNFINISHED_SIZE_PER_USER] = "unfinished_size_per_user",
                [RPC_LIMIT_GREETING_TIMEOUT] = "greeting_timeout",
                [RPC_LIMIT_MESSAGE_TIMEOUT] = "message_timeout",
                [RPC_LIMIT_DESCRIPTORS] = "descriptors",
        };

        return names[limit];
}

void rpc_server_stats(const struct rpc_server *s, struct rpc_server_stats *ret)
{
        *ret = (struct rpc_server_stats){
                .connections = s->n_sessions,
                .calls = s->n_calls,
                .held = s->held,
                .connections_total = s->n_sessions_ever,
                .limits = s->limits,
        };
        memcpy(ret->hits, s->hits, sizeof(ret->hits));
}

/* --- listening ----------------------------------------------------------------------------- */

static void on_connection(uv_poll_t *listener, int status, int events)
{
        struct rpc_server *s = CONTAINER(listener, struct rpc_server, listener);

        (void)status, (void)events; /* whatever it is, accept4 will say it */
        for (int i = 0; i < ACCEPTS_A_TURN && s->n_sessions < s->limits.connections; i++) {
                int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd >= 0) {
                        rpc_session_start(s, fd);
                } else if (errno == EAGAIN) {
                        return;
                } else if (errno != EINTR && errno != ECONNABORTED) {
                        log_warn("accept on %s: %s; trying again in %d ms", s->path,
                                 strerror(errno), ACCEPT_PAUSE);
                        s->hits[RPC_LIMIT_DESCRIPTORS]++;
                        (void)uv_poll_stop(&s->listener); /* never fails */
                        rpc_server_look_in(s, ACCEPT_PAUSE);
                        return;
                }
        }
        if (s->n_sessions >= s->limits.connections) {
                s->hits[RPC_LIMIT_CONNECTIONS]++;
                (void)uv_poll_stop(&s->listener); /* the rest wait in the backlog */
        }
}

static void listen_for_more(struct rpc_server *s)
{
        if (s->fd >= 0 && s->n_sessions < s->limits.connections)
                (void)uv_poll_start(&s->listener, UV_READABLE,
                                    on_connection); /* it was valid before */
}

/* An idle server has no timer running: waiting with a timeout costs half a microsecond a turn. */
static void on_tick(uv_timer_t *timer)
{
        struct rpc_server *s = CONTAINER(timer, struct rpc_server, timer);
        struct rpc_session *session;
        uint64_t wait = UINT64_MAX;

        TAILQ_FOREACH (session, &s->sessions, entry) { /* nothing is freed before its callback */
                uint64_t left = rpc_session_check(session);
                wait = MIN(wait, left);
        }
        listen_for_more(s);
        rpc_server_look_in(s, wait);
}

void rpc_server_look_in(struct rpc_server *s, uint64_t ms)
{
        if (s->closed || ms == UINT64_MAX)
                return;
        if (!uv_is_active((uv_handle_t *)&s->timer) || ms < uv_timer_get_due_in(&s->timer))
                (void)uv_timer_start(&s->timer, on_tick, ms, 0); /* never fails */
}

int rpc_server_new(uv_loop_t *loop, const struct rpc_wire *const *wires,
                   const struct rpc_server_limits *limits, struct rpc_server **ret, struct err *e)
{
        struct rpc_server *s = calloc(1, sizeof(*s));
        if (!s)
                return err_oom(e);
        s->loop = loop;
        s->wires = wires;
        s->limits = *limits;
        s->interceptor = &no_interceptor;
        s->fd = -1;
        TAILQ_INIT(&s->sessions);
        LIST_INIT(&s->users);
        (void)uv_timer_init(loop, &s->timer); /* never fails, nor does the next */
        (void)uv_timer_init(loop, &s->grace);
        s->handles = 2;
        *ret = s;
        return 0;
}

static int add(struct rpc_server *s, struct rpc_binding binding, struct err *e)
{
        if (s->n_services == ARRAY_SIZE(s->services))
                return err_set(e, STATUS_INTERNAL, "more than %zu services",
                               ARRAY_SIZE(s->services));
        binding.request_max = calloc(binding.service->n_methods, sizeof(*binding.request_max));
        if (!binding.request_max)
                return err_oom(e);
        s->services[s->n_services++] = binding;
        return 0;
}

int rpc_server_add(struct rpc_server *s, const struct rpc_service *service,
                   const rpc_handler *handlers, void *ctx, struct err *e)
{
        return add(s, (struct rpc_binding){.service = service, .handlers = handlers, .ctx = ctx},
                   e);
}

int rpc_server_add_all(struct rpc_server *s, const struct rpc_service *service, rpc_handler handler,
                       void *ctx, struct err *e)
{
        return add(s, (struct rpc_binding){.service = service, .handler = handler, .ctx = ctx}, e);
}

void rpc_server_intercept(struct rpc_server *s, const struct rpc_interceptor *interceptor,
                          void *ctx)
{
        s->interceptor = interceptor;
        s->interceptor_ctx = ctx;
}

void rpc_server_on_deserted(struct rpc_server *s, void (*on_deserted)(void *data), void *data)
{
        s->on_deserted = on_deserted;
        s->deserted_data = data;
}

const struct rpc_binding *rpc_server_find(const struct rpc_server *s, const char *service,
                                          size_t service_len)
{
        for (size_t i = 0; i < s->n_services; i++)
                if (str_is(s->services[i].service->name, service, service_len))
                        return &s->services[i];
        return NULL;
}

const char *rpc_server_path(const struct rpc_server *s)
{
        return s->path;
}

const struct rpc_service *rpc_server_service(const struct rpc_server *s, size_t i)
{
        return i < s->n_services ? s->services[i].service : NULL;
}

/* NULL: there is no such method. */
static struct rpc_request_max *find_request_max(struct rpc_server *s, const char *service,
                                                size_t service_len, const char *method)
{
        const struct rpc_binding *b = rpc_server_find(s, service, service_len);

        for (size_t i = 0; b && i < b->service->n_methods; i++)
                if (str_eq(b->service->methods[i].name, method))
                        return &b->request_max[i];
        return NULL;
}

int rpc_server_limit_method(struct rpc_server *s, const char *service, const char *method,
                            size_t request_max, struct err *e)
{
        struct rpc_request_max *max = find_request_max(s, service, strlen(service), method);

        if (!max)
                return err_set(e, STATUS_NOT_FOUND, "there is no method %s/%s", service, method);
        max->own = request_max;
        return 0;
}

static struct rpc_request_max *find_by_name(struct rpc_server *s, const char *name)
{
        size_t service_len = strcspn(name, "/");

        return name[service_len] ? find_request_max(s, name, service_len, name + service_len + 1)
                                 : NULL;
}

int rpc_server_set_limits(struct rpc_server *s, const struct rpc_server_limits *limits,
                          const struct rpc_method_limit *methods, size_t n, struct err *e)
{
        for (size_t i = 0; i < n; i++)
                if (!find_by_name(s, methods[i].method))
                        return err_set(e, STATUS_NOT_FOUND, "there is no method %s",
                                       methods[i].method);
        for (size_t i = 0; i < s->n_services; i++)
                for (size_t m = 0; m < s->services[i].service->n_methods; m++)
                        s->services[i].request_max[m].set = 0;
        for (size_t i = 0; i < n; i++)
                find_by_name(s, methods[i].method)->set = methods[i].request_max;
        s->limits = *limits;
        listen_for_more(s);
        rpc_server_look_in(s, 0); /* the timeouts of connections may be others */
        return 0;
}

/* A socket file is stale when nobody listens on it. */
static int remove_stale_socket(const struct sockaddr_un *address, struct err *e)
{
        struct stat st;

        if (lstat(address->sun_path, &st) < 0)
                return errno == ENOENT ? 0 : err_errno(e, errno, "socket '%s'", address->sun_path);
        if (!S_ISSOCK(st.st_mode))
                return err_set(e, STATUS_ALREADY_EXISTS,
                               "socket '%s': a file of that name exists and is no socket; remove "
                               "it or choose another path",
                               address->sun_path);
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return err_errno(e, errno, "create a socket");
        if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
                return err_set(e, STATUS_ALREADY_EXISTS,
                               "socket '%s': another process listens on it", address->sun_path);
        if (errno != ECONNREFUSED && errno != ENOENT) /* EPROTOTYPE: a datagram socket, in use */
                return err_errno(e, errno, "socket '%s': it may be in use; choose another path",
                                 address->sun_path);
        if (unlink(address->sun_path) < 0 && errno != ENOENT)
                return err_errno(e, errno, "remove the stale socket '%s'", address->sun_path);
        return 0;
}

int rpc_server_listen_fd(struct rpc_server *s, int fd, const char *name, struct err *e)
{
        int r = uv_poll_init(s->loop, &s->listener, fd); /* makes it non-blocking, too */

        if (r < 0)
                return err_errno(e, -r, "watch socket '%s'", name);
        s->handles++;
        s->fd = fd;
        (void)str_format(s->path, sizeof(s->path), "%s", name); /* or cut: then it is not ours */
        listen_for_more(s);
        return 0;
}

int rpc_server_listen(struct rpc_server *s, const char *path, mode_t mode, struct err *e)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        if (!str_format(address.sun_path, sizeof(address.sun_path), "%s", path))
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "socket '%s': the path has %zu bytes, at most %zu are possible; "
                               "choose a shorter one",
                               path, strlen(path), sizeof(address.sun_path) - 1);
        int r = remove_stale_socket(&address, e);
        if (r < 0)
                return r;
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return err_errno(e, errno, "create a socket");
        /* The file is born with its final mode: a chmod afterwards would leave a gap, and old
         * gVisor refuses it for a host socket. */
        mode_t old = umask(0777 & ~mode);
        r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
        (void)umask(old);
        if (r < 0)
                return err_errno(e, -r, "bind socket '%s'", path);
        /* Listening before the loop watches it: gVisor forgets watches made earlier
         * (google/gvisor#9848). */
        if (listen(fd, BACKLOG) < 0)
                return err_errno(e, errno, "listen on socket '%s'", path);
        r = rpc_server_listen_fd(s, fd, path, e);
        if (r < 0)
                return r;
        s->owns_path = true;
        (void)TAKE_FD(fd);
        return 0;
}

/* --- closing ------------------------------------------------------------------------------- */

static void on_handle_closed(uv_handle_t *handle)
{
        struct rpc_server *s = handle->data;

        s->handles--;
        free_when_all_is_closed(s);
}

static void stop_listening(struct rpc_server *s)
{
        if (s->fd < 0)
                return;
        s->listener.data = s;
        uv_close((uv_handle_t *)&s->listener, on_handle_closed);
        (void)close(TAKE_FD(s->fd));
        if (s->owns_path)
                (void)unlink(s->path); /* somebody else may have removed it */
}

void rpc_server_drain(struct rpc_server *s)
{
        struct rpc_session *session;

        if (s->draining)
                return;
        s->draining = true;
        stop_listening(s);
        TAILQ_FOREACH (session, &s->sessions, entry)
                rpc_session_drain(session); /* frees nothing before its callback */
}

static void close_all(struct rpc_server *s)
{
        struct rpc_session *session;

        if (s->closed)
                return;
        s->closed = true;
        TAILQ_FOREACH (session, &s->sessions, entry)
                rpc_session_abort(session,
                                  "the server is stopping; retry later"); /* frees nothing before
                                                                             its callback */
        s->timer.data = s->grace.data = s;
        uv_close((uv_handle_t *)&s->timer, on_handle_closed);
        uv_close((uv_handle_t *)&s->grace, on_handle_closed);
}

static void on_grace_over(uv_timer_t *grace)
{
        close_all(CONTAINER(grace, struct rpc_server, grace));
}

static void close_when_drained(struct rpc_server *s)
{
        if (s->closing && s->n_sessions == 0)
                close_all(s);
}

void rpc_server_close(struct rpc_server *s, unsigned grace_ms, void (*on_closed)(void *data),
                      void *data)
{
        s->closing = true;
        s->on_closed = on_closed;
        s->data = data;
        rpc_server_drain(s);
        if (grace_ms == 0 || s->n_sessions == 0)
                close_all(s);
        else
                (void)uv_timer_start(&s->grace, on_grace_over, grace_ms, 0); /* never fails */
}
