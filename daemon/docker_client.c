#include "daemon/docker_client.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/curl_loop.h"
#include "daemon/libcurl.h"
#include "daemon/metrics.h"

#define CONNECTIONS_MAX 32         /* to the engine, at once; further calls wait for one */
#define IDLE_MAX        32         /* that are kept for the next call */
#define HEADERS_MAX     (8 * KiB)  /* of an answer: before libcurl finds 5000 of them too many */
#define REFUSAL_MAX     (64 * KiB) /* of what the engine says where it refuses */
/* libcurl's deadline begins with the connection; this is for calls that wait for one. */
#define OVERDUE_EVERY_MS 250

struct docker_client {
        uv_loop_t *loop;
        const struct libcurl *curl;
        struct curl_loop io; /* io.multi is NULL: closing */
        char *socket;
        char version[16];
        LIST_HEAD(, docker_call) calls;
        /* For a connection, and here: whenever one ends, libcurl tries all that wait in it. */
        TAILQ_HEAD(, docker_call) waiting;
        unsigned n_calls, n_connected;
        TAILQ_HEAD(, docker_call) fresh; /* streams with something to read */
        uv_timer_t connect;              /* at once, when one that waits may begin */
        uv_timer_t overdue;              /* while there are calls with a deadline */
        unsigned parts;                  /* not closed yet */
};

struct docker_call {
        struct docker_client *client;
        LIST_ENTRY(docker_call) entry;
        TAILQ_ENTRY(docker_call) waiting, fresh;
        CURL *easy;
        struct curl_slist *headers;
        char *url, *body, *what; /* what: for people, "GET /info" */
        size_t answer_max;
        bool peeks, saw_enough; /* saw_enough: answer_max was reached, and that is fine */
        uint64_t until;         /* uv_now; 0: no matter when */
        void (*on_line)(void *data, char *line, size_t n);
        void (*on_done)(void *data, const struct docker_answer *answer, const struct err *e);
        void *data;
        void (*drop)(void *data);
        struct buf in;
        size_t header_bytes;
        bool connected, is_fresh, paused, too_long, delivering, cancelled;
        bool leaves_out; /* up to the end of a line that is too long */
        char error[CURL_ERROR_SIZE];
};

/* --- calls --------------------------------------------------------------------------------- */

static void call_free(struct docker_call *call)
{
        struct docker_client *c = call->client;

        if (call->easy)
                c->curl->easy_cleanup(call->easy);
        c->curl->slist_free_all(call->headers);
        free(call->url);
        free(call->body);
        free(call->what);
        buf_done(&call->in);
        free(call);
}

static void on_connect(uv_timer_t *timer);

static void connect_soon(struct docker_client *c)
{
        if (!TAILQ_EMPTY(&c->waiting) && c->n_connected < CONNECTIONS_MAX)
                (void)uv_timer_start(&c->connect, on_connect, 0, 0); /* never fails */
}

/* No callback of it comes any more. */
static void unlink_call(struct docker_call *call)
{
        struct docker_client *c = call->client;

        LIST_REMOVE(call, entry);
        c->n_calls--;
        if (call->is_fresh)
                TAILQ_REMOVE(&c->fresh, call, fresh);
        if (call->connected) {
                (void)c->curl->multi_remove_handle(c->io.multi, call->easy); /* it was added */
                c->n_connected--;
        } else {
                TAILQ_REMOVE(&c->waiting, call, waiting);
        }
        connect_soon(c);
}

void docker_call_cancel(struct docker_call *call)
{
        unlink_call(call);
        call->cancelled = true;
        if (!call->delivering)
                call_free(call);
}

static long status_of(const struct docker_call *call)
{
        long status = 0;

        (void)call->client->curl->easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        return status;
}

static bool is_good(long status)
{
        return (status >= 200 && status < 300) || status == 304; /* 304: it is so already */
}

/* --- the outcome --------------------------------------------------------------------------- */

static enum status code_of(long status)
{
        switch (status) {
        case 400:
                return STATUS_INVALID_ARGUMENT;
        case 401:
        case 403:
                return STATUS_PERMISSION_DENIED;
        case 404:
                return STATUS_NOT_FOUND;
        case 409:
                return STATUS_FAILED_PRECONDITION;
        case 500:
                return STATUS_INTERNAL;
        case 503:
                return STATUS_UNAVAILABLE;
        default:
                return STATUS_UNKNOWN;
        }
}

static void refusal(const struct docker_call *call, const struct docker_answer *answer,
                    struct err *e)
{
        char shown[ERR_MSG_MAX];
        json_t *root = json_loadb(answer->body, answer->n, 0, NULL);
        const char *message = json_string_value(json_object_get(root, "message"));

        (void)err_set(e, code_of(answer->status), "Docker Engine, %s: %s (%ld)", call->what,
                      message ? str_escape(shown, sizeof(shown), message, strlen(message))
                              : "it gives no reason",
                      answer->status);
        json_decref(root);
}

static void failure(const struct docker_call *call, CURLcode code, struct err *e)
{
        const struct docker_client *c = call->client;
        long errnum = 0;

        (void)c->curl->easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &errnum);
        if (call->too_long)
                (void)err_set(e, STATUS_RESOURCE_EXHAUSTED,
                              "Docker Engine, %s: the answer is too long", call->what);
        else if (code == CURLE_OPERATION_TIMEDOUT)
                (void)err_set(e, STATUS_DEADLINE_EXCEEDED,
                              "Docker Engine at '%s' does not answer in time: %s", c->socket,
                              call->what);
        else if (code == CURLE_COULDNT_CONNECT)
                (void)err_set(e, STATUS_UNAVAILABLE, "Docker Engine at '%s' cannot be reached: %s",
                              c->socket, errnum ? strerror((int)errnum) : call->error);
        else
                (void)err_set(e, STATUS_UNAVAILABLE, "Docker Engine, %s: %s", call->what,
                              call->error[0] ? call->error : c->curl->easy_strerror(code));
}

static void finish(struct docker_call *call, CURLcode code)
{
        struct docker_answer answer = {.status = status_of(call), .body = ""};
        struct err e;
        bool failed = true;

        if (code == CURLE_WRITE_ERROR && call->saw_enough)
                code = CURLE_OK;
        if (code == CURLE_OK && buf_append(&call->in, "", 1, SIZE_MAX) < 0) {
                (void)err_oom(&e);
        } else if (code != CURLE_OK) {
                failure(call, code, &e);
        } else {
                answer.body = (const char *)buf_bytes(&call->in);
                answer.n = call->in.len - 1;
                failed = !is_good(answer.status);
                if (failed)
                        refusal(call, &answer, &e);
        }
        unlink_call(call);
        if (call->too_long)
                metrics_add(METRIC_LIMIT_HITS, LIMIT_ENGINE_ANSWER, 1);
        call->on_done(call->data, &answer, failed ? &e : NULL);
        call_free(call);
}

/* --- what comes in ------------------------------------------------------------------------- */

static bool is_stream(const struct docker_call *call)
{
        return call->on_line && is_good(status_of(call));
}

static size_t room_for(const struct docker_call *call)
{
        if (!is_good(status_of(call)))
                return REFUSAL_MAX;
        return call->on_line ? DOCKER_LINE_MAX + CURL_MAX_WRITE_SIZE : call->answer_max;
}

/* So many bytes of these are of a line that is left out. */
static size_t left_out(struct docker_call *call, const char *bytes, size_t n)
{
        const char *end = call->leaves_out && n ? memchr(bytes, '\n', n) : NULL;

        if (!call->leaves_out)
                return 0;
        call->leaves_out = !end;
        return end ? (size_t)(end + 1 - bytes) : n;
}

static size_t on_write(char *bytes, size_t size, size_t n, void *data)
{
        struct docker_call *call = data;
        struct docker_client *c = call->client;

        n *= size;
        /* Until its lines are read; what is no line by then never is one. */
        if (call->is_fresh && call->in.len >= DOCKER_LINE_MAX) {
                call->paused = true;
                return CURL_WRITEFUNC_PAUSE;
        }
        size_t out = left_out(call, bytes, n);
        size_t room = room_for(call) - MIN(call->in.len, room_for(call));
        call->saw_enough = call->peeks && is_good(status_of(call)) && n - out >= room;
        if (call->saw_enough)
                n = out + room;
        if (buf_append(&call->in, bytes + out, n - out, room_for(call)) < 0) {
                call->saw_enough = false;
                call->too_long = true;
        }
        if (call->saw_enough || call->too_long)
                return 0; /* which ends it */
        if (is_stream(call) && !call->is_fresh) {
                call->is_fresh = true;
                TAILQ_INSERT_TAIL(&c->fresh, call, fresh);
        }
        return n;
}

static size_t on_header(char *bytes, size_t size, size_t n, void *data)
{
        struct docker_call *call = data;

        (void)bytes;
        call->header_bytes += n * size;
        call->too_long |= call->header_bytes > HEADERS_MAX;
        return call->too_long ? 0 : n * size;
}

/* The next whole line of the buffer, its end replaced by a NUL; NULL for none. */
static char *next_line(struct docker_call *call, size_t *ret_n)
{
        char *bytes = (char *)buf_bytes(&call->in);
        char *end = call->in.len ? memchr(bytes, '\n', call->in.len) : NULL;

        if (!end)
                return NULL;
        *end = '\0';
        *ret_n = (size_t)(end - bytes);
        return bytes;
}

/* Nobody's line ends the stream: who listens again would be told the same one again. */
static void leave_out(struct docker_call *call)
{
        buf_consume(&call->in, call->in.len);
        call->leaves_out = true;
        metrics_add(METRIC_LIMIT_HITS, LIMIT_ENGINE_ANSWER, 1);
}

static void deliver(struct docker_call *call)
{
        struct docker_client *c = call->client;
        char *line;
        size_t n;

        TAILQ_REMOVE(&c->fresh, call, fresh);
        call->is_fresh = false;
        call->delivering = true;
        while (!call->cancelled && (line = next_line(call, &n))) {
                call->on_line(call->data, line, n);
                buf_consume(&call->in, n + 1);
        }
        call->delivering = false;
        if (call->in.len > DOCKER_LINE_MAX)
                leave_out(call);
        if (call->cancelled) {
                call_free(call);
        } else if (call->paused) {
                call->paused = false;
                (void)c->curl->easy_pause(call->easy, CURLPAUSE_CONT); /* its end tells */
        }
}

/* --- on the loop --------------------------------------------------------------------------- */

/* Any of the callbacks may have closed the client. */
static void on_activity(struct curl_loop *l)
{
        struct docker_client *c = CONTAINER(l, struct docker_client, io);
        CURLMsg *message;
        int left;

        while (c->io.multi && !TAILQ_EMPTY(&c->fresh))
                deliver(TAILQ_FIRST(&c->fresh));
        while (c->io.multi && (message = c->curl->multi_info_read(c->io.multi, &left))) {
                struct docker_call *call = NULL;
                CURLcode code = message->data.result; /* the message goes with the handle */
                if (message->msg != CURLMSG_DONE)
                        continue;
                (void)c->curl->easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
                finish(call, code);
        }
}

static struct docker_call *find_overdue(const struct docker_client *c)
{
        uint64_t now = uv_now(c->loop);
        struct docker_call *call;

        LIST_FOREACH (call, &c->calls, entry)
                if (call->until && now > call->until + OVERDUE_EVERY_MS)
                        return call;
        return NULL;
}

static bool has_deadlines(const struct docker_client *c)
{
        const struct docker_call *call;

        LIST_FOREACH (call, &c->calls, entry)
                if (call->until)
                        return true;
        return false;
}

static void on_overdue(uv_timer_t *timer)
{
        struct docker_client *c = CONTAINER(timer, struct docker_client, overdue);
        struct docker_call *call;

        while (c->io.multi && (call = find_overdue(c)))
                finish(call, CURLE_OPERATION_TIMEDOUT);
        if (c->io.multi && !has_deadlines(c))
                (void)uv_timer_stop(timer); /* never fails */
}

static void connect_call(struct docker_call *call)
{
        struct docker_client *c = call->client;

        if (c->curl->multi_add_handle(c->io.multi, call->easy) != CURLM_OK) {
                finish(call, CURLE_OUT_OF_MEMORY);
                return;
        }
        TAILQ_REMOVE(&c->waiting, call, waiting);
        call->connected = true;
        c->n_connected++;
}

static void on_connect(uv_timer_t *timer)
{
        struct docker_client *c = CONTAINER(timer, struct docker_client, connect);

        while (c->io.multi && c->n_connected < CONNECTIONS_MAX && !TAILQ_EMPTY(&c->waiting))
                connect_call(TAILQ_FIRST(&c->waiting));
}

/* --- a call -------------------------------------------------------------------------------- */

static int add_header(struct docker_call *call, const char *text)
{
        struct curl_slist *list = call->client->curl->slist_append(call->headers, text);

        if (!list)
                return -ENOMEM;
        call->headers = list;
        return 0;
}

static int copy_request(struct docker_call *call, const struct docker_request *q)
{
        const struct docker_client *c = call->client;
        size_t query = strcspn(q->path, "?");
        size_t n = q->body ? (q->n ? q->n : strlen(q->body)) : 0;
        _cleanup_free_ char *type = str_printf(
                "Content-Type: %s", q->content_type ? q->content_type : "application/json");

        call->url =
                str_printf("http://docker%s%s%s", c->version[0] ? "/v" : "", c->version, q->path);
        call->what = str_printf("%s %.*s", q->method, (int)query, q->path);
        call->body = n ? malloc(n) : NULL;
        if (!call->url || !call->what || !type || (n && !call->body))
                return -ENOMEM;
        if (n)
                memcpy(call->body, q->body, n);
        /* It would be waited for, and Docker never says it. */
        int r = add_header(call, "Expect:");
        return r == 0 && n ? add_header(call, type) : r;
}

static int set_options(struct docker_call *call, const struct docker_request *q)
{
        const struct libcurl *curl = call->client->curl;
        CURL *easy = call->easy;
        long n = q->body ? (long)(q->n ? q->n : strlen(q->body)) : 0;
        bool posts = str_eq(q->method, "POST");
        long seconds = (long)((q->silence_ms + 999) / 1000);
        int bad = 0;

        bad |= curl->easy_setopt(easy, CURLOPT_PRIVATE, call);
        bad |= curl->easy_setopt(easy, CURLOPT_URL, call->url);
        bad |= curl->easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
        bad |= curl->easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, call->client->socket);
        bad |= curl->easy_setopt(easy, CURLOPT_PROXY, ""); /* whatever the environment says */
        bad |= curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        bad |= curl->easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        bad |= curl->easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error);
        bad |= curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
        bad |= curl->easy_setopt(easy, CURLOPT_WRITEDATA, call);
        bad |= curl->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
        bad |= curl->easy_setopt(easy, CURLOPT_HEADERDATA, call);
        bad |= curl->easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
        bad |= curl->easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)q->timeout_ms);
        bad |= curl->easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, seconds ? 1L : 0L);
        bad |= curl->easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, seconds);
        if (posts) {
                bad |= curl->easy_setopt(easy, CURLOPT_POST, 1L);
                bad |= curl->easy_setopt(easy, CURLOPT_POSTFIELDS, n ? call->body : "");
                bad |= curl->easy_setopt(easy, CURLOPT_POSTFIELDSIZE, n);
        } else if (!str_eq(q->method, "GET")) {
                bad |= curl->easy_setopt(easy, CURLOPT_CUSTOMREQUEST, q->method);
        }
        return bad ? -ENOMEM : 0; /* no other reason is left */
}

static struct docker_call *call_new(struct docker_client *c, const struct docker_request *q)
{
        struct docker_call *call = calloc(1, sizeof(*call));

        if (!call)
                return NULL;
        call->client = c;
        call->answer_max = q->answer_max ? q->answer_max : DOCKER_ANSWER_MAX;
        call->peeks = q->peeks;
        call->until = q->timeout_ms ? uv_now(c->loop) + q->timeout_ms : 0;
        call->on_line = q->on_line;
        call->on_done = q->on_done;
        call->data = q->data;
        call->drop = q->drop;
        call->easy = c->curl->easy_init();
        if (call->easy && copy_request(call, q) == 0 && set_options(call, q) == 0)
                return call;
        call_free(call);
        return NULL;
}

int docker_call(struct docker_client *c, const struct docker_request *request,
                struct docker_call **ret, struct err *e)
{
        if (!c->io.multi)
                return err_set(e, STATUS_UNAVAILABLE, "sandboxd is stopping; retry later");
        if (c->n_calls >= DOCKER_CALLS_MAX) {
                metrics_add(METRIC_LIMIT_HITS, LIMIT_ENGINE_CALLS, 1);
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "%d calls to Docker Engine are under way; retry later",
                               DOCKER_CALLS_MAX);
        }
        struct docker_call *call = call_new(c, request);
        if (!call)
                return err_oom(e);
        LIST_INSERT_HEAD(&c->calls, call, entry);
        c->n_calls++;
        TAILQ_INSERT_TAIL(&c->waiting, call, waiting);
        connect_soon(c);
        if (call->until && !uv_is_active((uv_handle_t *)&c->overdue))
                (void)uv_timer_start(&c->overdue, on_overdue, OVERDUE_EVERY_MS,
                                     OVERDUE_EVERY_MS); /* never fails */
        if (ret)
                *ret = call;
        return 0;
}

/* --- life ---------------------------------------------------------------------------------- */

int docker_client_new(uv_loop_t *loop, const char *socket, struct docker_client **ret,
                      struct err *e)
{
        const struct libcurl *curl;

        int r = libcurl_load(&curl, e);
        if (r < 0)
                return r;
        struct docker_client *c = calloc(1, sizeof(*c));
        if (!c)
                return err_oom(e);
        c->loop = loop;
        c->curl = curl;
        c->socket = strdup(socket);
        c->io.on_activity = on_activity;
        if (!c->socket || curl_loop_open(&c->io, loop, curl, IDLE_MAX) < 0) {
                free(c->socket);
                free(c);
                return err_oom(e);
        }
        LIST_INIT(&c->calls);
        TAILQ_INIT(&c->waiting);
        TAILQ_INIT(&c->fresh);
        (void)uv_timer_init(loop, &c->connect); /* neither fails */
        (void)uv_timer_init(loop, &c->overdue);
        c->parts = 3;
        *ret = c;
        return 0;
}

void docker_client_set_version(struct docker_client *c, const char *version)
{
        (void)str_format(c->version, sizeof(c->version), "%s", version); /* it fits */
}

static void on_part_closed(struct docker_client *c)
{
        if (--c->parts > 0)
                return;
        free(c->socket);
        free(c);
}

static void on_io_closed(struct curl_loop *l)
{
        on_part_closed(CONTAINER(l, struct docker_client, io));
}

static void on_connect_closed(uv_handle_t *handle)
{
        on_part_closed(CONTAINER(handle, struct docker_client, connect));
}

static void on_overdue_closed(uv_handle_t *handle)
{
        on_part_closed(CONTAINER(handle, struct docker_client, overdue));
}

void docker_client_close(struct docker_client *c)
{
        if (!c)
                return;
        while (!LIST_EMPTY(&c->calls)) {
                struct docker_call *call = LIST_FIRST(&c->calls);
                if (call->drop)
                        call->drop(call->data);
                docker_call_cancel(call);
        }
        curl_loop_close(&c->io, on_io_closed);
        uv_close((uv_handle_t *)&c->connect, on_connect_closed);
        uv_close((uv_handle_t *)&c->overdue, on_overdue_closed);
}

char *docker_escape(const char *s)
{
        char *out = malloc(3 * strlen(s) + 1), *to = out;

        for (; out && *s; s++) {
                bool plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
                             (*s >= '0' && *s <= '9') || strchr("-_.~", *s);
                if (plain)
                        *to++ = *s;
                else
                        to += snprintf(to, 4, "%%%02X", (unsigned char)*s);
        }
        if (out)
                *to = '\0';
        return out;
}
