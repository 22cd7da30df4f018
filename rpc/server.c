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

#define SERVICES_MAX   16
#define BACKLOG        1024
#define ACCEPTS_A_TURN 64  /* so that a flood of connects does not starve the rest of the loop */
#define ACCEPT_PAUSE   100 /* ms, when the process is out of descriptors or memory */

const struct rpc_server_limits rpc_server_default_limits = {
        .connections = 1024,
        .calls_per_connection = 1024,
        .request_max = 4 * MiB,
        .arena_max = 16 * MiB,
        .held_max = 64 * MiB,
        .greeting_ms = 10000,
        .request_ms = 30000,
};

struct rpc_server {
        uv_loop_t *loop;
        const struct rpc_wire *const *wires;
        struct rpc_server_limits limits;
        struct rpc_binding services[SERVICES_MAX];
        size_t n_services;
        char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
        int fd;
        uv_poll_t listener;
        uv_timer_t timer; /* accepts again after a pause, and closes silent connections */
        int handles;      /* open ones of listener and timer */
        TAILQ_HEAD(, rpc_session) sessions;
        unsigned n_sessions;
        size_t held;
        bool closing;
        void (*on_closed)(void *data);
        void *data;
};

/* --- sessions ------------------------------------------------------------------------------ */

static void tick_while_needed(struct rpc_server *s);
static void listen_for_more(struct rpc_server *s);

static void free_when_all_is_closed(struct rpc_server *s)
{
        if (!s->closing || s->handles > 0 || s->n_sessions > 0)
                return;
        void (*on_closed)(void *data) = s->on_closed;
        void *data = s->data;
        free(s);
        if (on_closed)
                on_closed(data);
}

void rpc_session_unref(struct rpc_session *session)
{
        struct rpc_server *s = session->server;

        if (!session->closed || session->n_calls > 0)
                return;
        if (session->wire)
                session->wire->done(session);
        (void)rpc_session_hold(session, 0);
        TAILQ_REMOVE(&s->sessions, session, entry);
        s->n_sessions--;
        free(session);
        listen_for_more(s);
        free_when_all_is_closed(s);
}

void rpc_session_close(struct rpc_session *session)
{
        struct rpc_call *call;

        if (session->closing)
                return;
        session->closing = true;
        if (session->wire && session->wire->flush)
                session->wire->flush(session); /* replies that were given in this very turn */
        conn_close(&session->conn);
        /* Detaching moves a call to the end of the list or frees it. */
        while ((call = TAILQ_FIRST(&session->calls)) && call->on_wire)
                rpc_call_detach(call);
}

bool rpc_session_hold(struct rpc_session *session, size_t held)
{
        struct rpc_server *s = session->server;

        bool begins = !session->held && held;

        s->held = s->held - session->held + held;
        session->held = held;
        if (begins) {
                if (session->greeted)
                        session->since = uv_now(s->loop);
                tick_while_needed(s);
        }
        return s->held <= s->limits.held_max;
}

void rpc_session_heard(struct rpc_session *session)
{
        session->greeted = true;
}

const struct rpc_server_limits *rpc_session_limits(const struct rpc_session *session)
{
        return &session->server->limits;
}

static int choose_wire(struct rpc_session *session, uint8_t first_byte)
{
        for (const struct rpc_wire *const *w = session->server->wires; *w; w++) {
                if ((*w)->first_byte == first_byte) {
                        session->wire = *w;
                        return session->wire->open(session);
                }
        }
        return -EPROTONOSUPPORT;
}

static void on_session_read(struct conn *c, const uint8_t *bytes, size_t n)
{
        struct rpc_session *session = CONTAINER(c, struct rpc_session, conn);
        int r = 0;

        if (!session->wire)
                r = choose_wire(session, bytes[0]);
        if (r == 0)
                r = session->wire->read(session, bytes, n);
        if (r < 0) {
                log_debug("connection of pid %d closed: %s", (int)session->peer.pid, strerror(-r));
                rpc_session_close(session);
        }
}

static void on_session_flush(struct conn *c)
{
        struct rpc_session *session = CONTAINER(c, struct rpc_session, conn);

        if (session->wire && session->wire->flush && !session->closing)
                session->wire->flush(session);
}

static void on_session_writable(struct conn *c)
{
        struct rpc_session *session = CONTAINER(c, struct rpc_session, conn);

        if (session->wire && session->wire->writable(session) < 0)
                rpc_session_close(session);
}

static void on_session_end(struct conn *c, int error)
{
        struct rpc_session *session = CONTAINER(c, struct rpc_session, conn);

        if (error < 0)
                log_debug("connection of pid %d broke: %s", (int)session->peer.pid,
                          strerror(-error));
        rpc_session_close(session);
}

static void on_session_closed(struct conn *c)
{
        struct rpc_session *session = CONTAINER(c, struct rpc_session, conn);

        session->closed = true;
        rpc_session_unref(session);
}

static const struct conn_ops session_ops = {
        .on_read = on_session_read,
        .on_flush = on_session_flush,
        .on_writable = on_session_writable,
        .on_end = on_session_end,
        .on_closed = on_session_closed,
};

static size_t session_size(const struct rpc_server *s)
{
        size_t size = 0;

        for (const struct rpc_wire *const *w = s->wires; *w; w++)
                size = MAX(size, (*w)->session_size);
        return size;
}

/* Owns fd. */
static void session_start(struct rpc_server *s, int fd)
{
        struct rpc_session *session = calloc(1, session_size(s));
        struct ucred cred = {0};
        socklen_t len = sizeof(cred);

        if (!session) {
                (void)close(fd);
                return;
        }
        (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len); /* gVisor may have none */
        session->peer = (struct rpc_peer){.pid = cred.pid, .uid = cred.uid, .gid = cred.gid};
        session->server = s;
        session->since = uv_now(s->loop);
        TAILQ_INIT(&session->calls);
        TAILQ_INSERT_TAIL(&s->sessions, session, entry);
        s->n_sessions++;
        if (conn_open(&session->conn, s->loop, fd, &session_ops) < 0)
                rpc_session_close(session);
        conn_read_start(&session->conn);
        tick_while_needed(s);
}

/* --- listening ----------------------------------------------------------------------------- */

static void on_connection(uv_poll_t *listener, int status, int events)
{
        struct rpc_server *s = CONTAINER(listener, struct rpc_server, listener);

        (void)status, (void)events; /* whatever it is, accept4 will say it */
        for (int i = 0; i < ACCEPTS_A_TURN && s->n_sessions < s->limits.connections; i++) {
                int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd >= 0) {
                        session_start(s, fd);
                } else if (errno == EAGAIN) {
                        return;
                } else if (errno != EINTR && errno != ECONNABORTED) {
                        log_warn("accept on %s: %s; trying again in %d ms", s->path,
                                 strerror(errno), ACCEPT_PAUSE);
                        (void)uv_poll_stop(&s->listener); /* never fails */
                        tick_while_needed(s);
                        return;
                }
        }
        if (s->n_sessions >= s->limits.connections)
                (void)uv_poll_stop(&s->listener); /* the rest wait in the backlog */
}

static void listen_for_more(struct rpc_server *s)
{
        if (!s->closing && s->fd >= 0 && s->n_sessions < s->limits.connections)
                (void)uv_poll_start(&s->listener, UV_READABLE,
                                    on_connection); /* it was valid before */
}

/* How long a session may go on like this, from session->since; 0: for ever. */
static uint64_t patience(const struct rpc_session *session)
{
        const struct rpc_server_limits *limits = rpc_session_limits(session);

        if (session->closing)
                return 0;
        return !session->greeted ? limits->greeting_ms : session->held ? limits->request_ms : 0;
}

static uint64_t time_left(const struct rpc_session *session)
{
        uint64_t end = session->since + patience(session), now = uv_now(session->server->loop);

        return end > now ? end - now : 0;
}

static void on_tick(uv_timer_t *timer)
{
        struct rpc_server *s = CONTAINER(timer, struct rpc_server, timer);
        uint64_t now = uv_now(s->loop);
        struct rpc_session *session;

        TAILQ_FOREACH (session, &s->sessions, entry)
                if (patience(session) && now - session->since >= patience(session))
                        rpc_session_close(session); /* frees nothing before its callback */
        listen_for_more(s);
        tick_while_needed(s);
}

/* An idle server has no timer running. */
static void tick_while_needed(struct rpc_server *s)
{
        struct rpc_session *session;
        uint64_t wait = UINT64_MAX;

        if (s->closing)
                return;
        TAILQ_FOREACH (session, &s->sessions, entry)
                if (patience(session))
                        wait = MIN(wait, time_left(session));
        if (s->fd >= 0 && !uv_is_active((uv_handle_t *)&s->listener) &&
            s->n_sessions < s->limits.connections)
                wait = ACCEPT_PAUSE;
        if (wait < UINT64_MAX &&
            (!uv_is_active((uv_handle_t *)&s->timer) || wait < uv_timer_get_due_in(&s->timer)))
                (void)uv_timer_start(&s->timer, on_tick, wait, 0); /* never fails */
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
        s->fd = -1;
        TAILQ_INIT(&s->sessions);
        (void)uv_timer_init(loop, &s->timer); /* never fails */
        s->handles = 1;
        *ret = s;
        return 0;
}

static int add(struct rpc_server *s, struct rpc_binding binding, struct err *e)
{
        if (s->n_services == SERVICES_MAX)
                return err_set(e, STATUS_INTERNAL, "more than %d services", SERVICES_MAX);
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

const struct rpc_binding *rpc_server_find(const struct rpc_server *s, const char *service,
                                          size_t service_len)
{
        for (size_t i = 0; i < s->n_services; i++) {
                const char *name = s->services[i].service->name;
                if (strlen(name) == service_len && memcmp(name, service, service_len) == 0)
                        return &s->services[i];
        }
        return NULL;
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
        r = uv_poll_init(s->loop, &s->listener, fd);
        if (r < 0)
                return err_errno(e, -r, "watch socket '%s'", path);
        s->handles++;
        s->fd = TAKE_FD(fd);
        memcpy(s->path, address.sun_path, sizeof(s->path));
        listen_for_more(s);
        return 0;
}

/* --- closing ------------------------------------------------------------------------------- */

static void on_handle_closed(uv_handle_t *handle)
{
        struct rpc_server *s = handle->data;

        s->handles--;
        free_when_all_is_closed(s);
}

void rpc_server_stop_listening(struct rpc_server *s)
{
        if (s->fd < 0)
                return;
        s->listener.data = s;
        uv_close((uv_handle_t *)&s->listener, on_handle_closed);
        (void)close(TAKE_FD(s->fd));
        (void)unlink(s->path); /* somebody else may have removed it */
}

void rpc_server_close(struct rpc_server *s, void (*on_closed)(void *data), void *data)
{
        struct rpc_session *session;

        s->closing = true;
        s->on_closed = on_closed;
        s->data = data;
        TAILQ_FOREACH (session, &s->sessions, entry)
                rpc_session_close(session); /* frees nothing before its callback */
        rpc_server_stop_listening(s);
        s->timer.data = s;
        uv_close((uv_handle_t *)&s->timer, on_handle_closed);
}
