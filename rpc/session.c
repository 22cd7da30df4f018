/* A connection with a client, whatever wire it speaks: whose it is, how long it may last, and its
 * end. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "rpc/peer.h"
#include "rpc/wire.h"

/* How long a client may take to go when the server ends, in milliseconds: one that was told, which
 * a busy machine may keep from reading it; and one that can only find out. */
#define TOLD_MS   1000
#define UNTOLD_MS 100

/* --- whose it is --------------------------------------------------------------------------- */

/* The one there is, or a new one; NULL when there is no memory. A reference more to it. */
static struct rpc_user *take_user(struct rpc_server *server, uid_t uid)
{
        struct rpc_user *user;

        LIST_FOREACH (user, &server->users, entry)
                if (user->uid == uid)
                        break;
        if (!user) {
                user = calloc(1, sizeof(*user));
                if (!user)
                        return NULL;
                user->uid = uid;
                LIST_INSERT_HEAD(&server->users, user, entry);
        }
        user->n_sessions++;
        return user;
}

static void release_user(struct rpc_user *user)
{
        if (--user->n_sessions > 0)
                return;
        LIST_REMOVE(user, entry);
        free(user);
}

/* --- its end ------------------------------------------------------------------------------- */

static void free_when_nothing_is_owed(struct rpc_session *s)
{
        if (!s->closed || s->n_calls > 0)
                return;
        if (s->wire)
                s->wire->done(s);
        rpc_session_let_go(s, s->held);
        release_user(s->user);
        rpc_peer_done(&s->peer);
        rpc_server_forget_session(s);
        free(s);
}

static struct rpc_call *first_open(struct rpc_session *s)
{
        struct rpc_call *call;

        TAILQ_FOREACH (call, &s->calls, entry)
                if (!call->ended)
                        return call;
        return NULL;
}

static void detach_calls(struct rpc_session *s)
{
        struct rpc_call *call;

        /* Detaching moves a call to the end of the list or frees it. */
        while ((call = TAILQ_FIRST(&s->calls)) && call->on_wire)
                rpc_call_detach(call);
}

void rpc_session_close(struct rpc_session *s)
{
        if (s->closing)
                return;
        s->closing = true;
        s->user->n_open--;
        if (s->wire && s->wire->flush)
                s->wire->flush(s); /* replies that were given in this very turn */
        conn_close(&s->conn);
        detach_calls(s);
}

void rpc_session_for_each(struct rpc_session *s, bool (*f)(struct rpc_call *call))
{
        struct rpc_call *call = TAILQ_FIRST(&s->calls);
        unsigned round = ++s->round;

        while (call && call->on_wire) {
                unsigned changes = s->changes;
                if (call->round != round) {
                        call->round = round;
                        if (!f(call))
                                return;
                }
                call = s->changes == changes ? TAILQ_NEXT(call, entry) : TAILQ_FIRST(&s->calls);
        }
}

void rpc_session_abort(struct rpc_session *s, const char *why)
{
        struct rpc_call *call;

        /* Each is told, which ends it; on_wire goes sooner or later, so `ended` counts. */
        while (!s->closing && (call = first_open(s)))
                rpc_call_break(call, STATUS_UNAVAILABLE, "%s", why);
        rpc_session_close(s);
}

void rpc_session_finish(struct rpc_session *s)
{
        if (!s->closing)
                conn_finish(&s->conn);
}

/* A call is on its way, perhaps: it is told to try again, where a connection that ends would leave
 * its client in the dark. */
static void finish_when_drained(struct rpc_session *s)
{
        if (!s->server->draining || s->n_calls > 0 || s->closing)
                return;
        s->since = uv_now(s->server->loop);
        rpc_server_look_in(s->server, s->told ? TOLD_MS : UNTOLD_MS);
}

void rpc_session_drain(struct rpc_session *s)
{
        if (s->wire && !s->closing)
                s->told = s->wire->drain(s); /* or not: it has to go */
        s->retired = true;
        finish_when_drained(s);
}

/* How long a session may go on like this, from s->since; 0: for ever. */
static uint64_t patience(const struct rpc_session *s)
{
        const struct rpc_server_limits *limits = &s->server->limits;

        if (s->n_calls > 0 && s->greeted)
                return 0;
        if (s->retired && s->server->draining)
                return s->told ? TOLD_MS : UNTOLD_MS;
        if (!s->greeted || s->retired)
                return limits->greeting_ms;
        return limits->idle_ms;
}

static uint64_t time_left(const struct rpc_session *s)
{
        uint64_t now = uv_now(s->server->loop), end = s->since + patience(s);

        if (!patience(s))
                return UINT64_MAX;
        return end > now ? end - now : 0;
}

void rpc_session_forget_call(struct rpc_session *s)
{
        if (s->n_calls == 0) {
                s->since = uv_now(s->server->loop);
                if (!s->closing)
                        rpc_server_look_in(s->server, time_left(s));
        }
        finish_when_drained(s);
        free_when_nothing_is_owed(s);
}

/* --- how long it may be silent ------------------------------------------------------------- */

bool rpc_session_hold(struct rpc_session *s, size_t n)
{
        const struct rpc_server_limits *limits = &s->server->limits;

        s->held += n;
        s->user->held += n;
        s->server->held += n;
        if (s->server->held > limits->held_max)
                s->server->hits[RPC_LIMIT_UNFINISHED_SIZE]++;
        else if (s->user->held > limits->held_max_per_user)
                s->server->hits[RPC_LIMIT_UNFINISHED_SIZE_PER_USER]++;
        else
                return true;
        return false;
}

void rpc_session_let_go(struct rpc_session *s, size_t n)
{
        s->held -= n;
        s->user->held -= n;
        s->server->held -= n;
}

void rpc_session_heard(struct rpc_session *s)
{
        if (s->greeted)
                return;
        s->greeted = true;
        s->since = uv_now(s->server->loop); /* another patience begins */
        /* No look at once: it could close what is being read. */
        rpc_server_look_in(s->server, time_left(s));
}

/* A peer that is told goes by itself, and calls that it has sent meanwhile are served. A connection
 * that just breaks would fail them. */
static bool retire(struct rpc_session *s)
{
        if (!s->greeted || s->retired || !s->wire->drain(s))
                return false;
        s->retired = true;
        s->since = uv_now(s->server->loop);
        return true;
}

uint64_t rpc_session_check(struct rpc_session *s)
{
        if (s->closing)
                return UINT64_MAX;
        if (s->retired && s->server->draining && time_left(s) == 0) {
                rpc_session_finish(s); /* what its client has not read yet still leaves */
                return UINT64_MAX;
        }
        uint64_t of_messages = s->wire ? s->wire->check(s) : UINT64_MAX;
        if (of_messages == 0 || (time_left(s) == 0 && !retire(s))) {
                log_debug("connection of pid %d closed: idle or silent for too long",
                          (int)s->peer.pid);
                s->server->hits[RPC_LIMIT_MESSAGE_TIMEOUT] += of_messages == 0;
                s->server->hits[RPC_LIMIT_GREETING_TIMEOUT] += !s->greeted;
                rpc_session_abort(s, "the connection was silent within a message for too long");
                return UINT64_MAX;
        }
        uint64_t wait = MIN(of_messages, time_left(s));
        if (conn_is_reading(&s->conn))
                return wait;
        if (conn_peer_is_gone(&s->conn))
                rpc_session_close(s);
        return MIN(wait, (uint64_t)RPC_LOOK_AFTER_HELD_UP);
}

/* --- the connection ------------------------------------------------------------------------ */

static int choose_wire(struct rpc_session *s, uint8_t first_byte)
{
        for (const struct rpc_wire *const *w = s->server->wires; *w; w++) {
                if ((*w)->first_byte == first_byte) {
                        s->wire = *w;
                        int r = s->wire->open(s);
                        if (r == 0 && s->server->draining)
                                s->told = s->wire->drain(s); /* it greets as we go */
                        return r;
                }
        }
        return -EPROTONOSUPPORT;
}

static void on_read(struct conn *c, const uint8_t *bytes, size_t n)
{
        struct rpc_session *s = CONTAINER(c, struct rpc_session, conn);
        int r = 0;

        if (!s->wire)
                r = choose_wire(s, bytes[0]);
        if (r == 0)
                r = s->wire->read(s, bytes, n);
        if (r < 0) {
                log_debug("connection of pid %d closed: %s", (int)s->peer.pid, strerror(-r));
                rpc_session_close(s);
        } else if (!conn_is_reading(c)) {
                rpc_server_look_in(s->server, RPC_LOOK_AFTER_HELD_UP);
        }
}

static void on_flush(struct conn *c)
{
        struct rpc_session *s = CONTAINER(c, struct rpc_session, conn);

        if (s->wire && s->wire->flush && !s->closing)
                s->wire->flush(s);
}

static void on_writable(struct conn *c)
{
        struct rpc_session *s = CONTAINER(c, struct rpc_session, conn);

        if (s->wire && s->wire->writable(s) < 0)
                rpc_session_close(s);
}

static void on_end(struct conn *c, int error)
{
        struct rpc_session *s = CONTAINER(c, struct rpc_session, conn);

        if (error < 0)
                log_debug("connection of pid %d broke: %s", (int)s->peer.pid, strerror(-error));
        rpc_session_close(s);
}

static void on_closed(struct conn *c)
{
        struct rpc_session *s = CONTAINER(c, struct rpc_session, conn);

        s->closed = true;
        free_when_nothing_is_owed(s);
}

static const struct conn_ops conn_ops = {
        .on_read = on_read,
        .on_flush = on_flush,
        .on_writable = on_writable,
        .on_end = on_end,
        .on_closed = on_closed,
};

static size_t session_size(const struct rpc_server *server)
{
        size_t size = 0;

        for (const struct rpc_wire *const *w = server->wires; *w; w++)
                size = MAX(size, (*w)->session_size);
        return size;
}

/* What a connection begins with; false: there is no memory, or its user has enough of them. */
static bool init(struct rpc_session *s, struct rpc_server *server, int fd)
{
        s->server = server;
        s->since = uv_now(server->loop);
        TAILQ_INIT(&s->calls);
        rpc_peer_read(fd, &s->peer);
        s->user = take_user(server, s->peer.uid);
        if (!s->user)
                return false;
        if (s->user->n_open >= server->limits.connections_per_user) {
                server->hits[RPC_LIMIT_CONNECTIONS_PER_USER]++;
                log_debug("connection of pid %d closed: uid %u has %u of them", (int)s->peer.pid,
                          s->peer.uid, s->user->n_open);
                release_user(s->user);
                return false;
        }
        s->user->n_open++;
        return true;
}

void rpc_session_start(struct rpc_server *server, int fd)
{
        struct rpc_session *s = calloc(1, session_size(server));

        if (!s || !init(s, server, fd)) {
                if (s)
                        rpc_peer_done(&s->peer);
                free(s);
                (void)close(fd);
                return;
        }
        TAILQ_INSERT_TAIL(&server->sessions, s, entry);
        server->n_sessions++;
        server->n_sessions_ever++;
        if (conn_open(&s->conn, server->loop, fd, &conn_ops) < 0)
                rpc_session_close(s);
        conn_read_start(&s->conn);
        rpc_server_look_in(server, time_left(s));
}
