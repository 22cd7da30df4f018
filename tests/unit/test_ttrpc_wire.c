/* rpc/ttrpc_wire.c, frame by frame: what only a client other than ours would send. */
#include "tests/unit/rpc_calls.h"
#include "tests/unit/rpc_probe.h"

#include "rpc/ttrpc.h"
#include "rpc/wire.h"

/* --- frames ----------------------------------------------------------------------------------- */

static void put_data(struct buf *out, uint32_t id, uint8_t flags, const void *bytes, size_t n)
{
        uint8_t header[TTRPC_HEADER_LEN];

        ttrpc_put_header(header, (uint32_t)n, id, TTRPC_DATA, flags);
        assert_int_equal(buf_append(out, header, sizeof(header), SIZE_MAX), 0);
        assert_int_equal(buf_append(out, bytes, n, SIZE_MAX), 0);
}

struct request {
        const char *method, *payload;
        uint8_t flags;
        Ttrpc__KeyValue **metadata;
        size_t n_metadata;
};

static void put_request(struct buf *out, uint32_t id, struct request r)
{
        Ttrpc__Request request = TTRPC__REQUEST__INIT;
        uint8_t header[TTRPC_HEADER_LEN];

        request.service = (char *)probe_service.name;
        request.method = (char *)r.method;
        if (r.payload)
                request.payload = (ProtobufCBinaryData){.data = (uint8_t *)r.payload,
                                                        .len = strlen(r.payload)};
        request.metadata = r.metadata;
        request.n_metadata = r.n_metadata;
        size_t n = ttrpc__request__get_packed_size(&request);
        _cleanup_free_ uint8_t *bytes = malloc(n + 1);
        (void)ttrpc__request__pack(&request, bytes);
        ttrpc_put_header(header, (uint32_t)n, id, TTRPC_REQUEST, r.flags);
        assert_int_equal(buf_append(out, header, sizeof(header), SIZE_MAX), 0);
        assert_int_equal(buf_append(out, bytes, n, SIZE_MAX), 0);
}

static void send_all(struct rpc_fixture *f, int fd, struct buf *out)
{
        assert_true(raw_send(f, fd, buf_bytes(out), out->len));
        buf_done(out);
}

struct answer {
        uint32_t id;
        uint8_t type, flags;
        size_t n;
        uint8_t bytes[1024];
};

static struct answer receive(struct rpc_fixture *f, int fd)
{
        uint8_t header[TTRPC_HEADER_LEN];
        struct answer a = {0};

        assert_int_equal(raw_receive(f, fd, header, sizeof(header)), sizeof(header));
        a.id = header[7];
        a.type = header[8];
        a.flags = header[9];
        a.n = (size_t)header[2] << 8 | header[3];
        assert_true(a.n <= sizeof(a.bytes));
        assert_int_equal(raw_receive(f, fd, a.bytes, a.n), a.n);
        return a;
}

/* A response with this status, or the payload. */
static void expect(struct rpc_fixture *f, int fd, uint32_t id, enum status code,
                   const char *payload)
{
        struct answer a = receive(f, fd);

        assert_int_equal(a.id, id);
        assert_int_equal(a.type, TTRPC_RESPONSE);
        Ttrpc__Response *r = ttrpc__response__unpack(NULL, a.n, a.bytes);
        assert_non_null(r);
        assert_int_equal(r->status ? r->status->code : 0, code);
        if (payload) {
                assert_int_equal(r->payload.len, strlen(payload));
                assert_memory_equal(r->payload.data, payload, r->payload.len);
        }
        ttrpc__response__free_unpacked(r, NULL);
}

static void assert_quiet(struct rpc_fixture *f, int fd)
{
        uint8_t byte;

        loop_run_for(&f->l, 10);
        assert_int_equal(recv(fd, &byte, 1, 0), -1);
        assert_int_equal(errno, EAGAIN);
}

/* --- where a stream's messages may stand ------------------------------------------------------ */

static void message_in_the_request(void **state)
{
        struct rpc_fixture *f = *state;
        int fd = connect_to(f->path);
        struct buf out = {0};

        /* Alone, with its end; as one of two; the first behind it. */
        put_request(&out, 1,
                    (struct request){.method = "Up", .payload = "a", .flags = TTRPC_REMOTE_CLOSED});
        send_all(f, fd, &out);
        expect(f, fd, 1, STATUS_OK, "1");
        put_request(&out, 3,
                    (struct request){.method = "Up", .payload = "a", .flags = TTRPC_REMOTE_OPEN});
        put_data(&out, 3, 0, "b", 1);
        put_data(&out, 3, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL, 0);
        send_all(f, fd, &out);
        expect(f, fd, 3, STATUS_OK, "2");
        put_request(&out, 5, (struct request){.method = "Up", .flags = TTRPC_REMOTE_OPEN});
        put_data(&out, 5, 0, "b", 1);
        put_data(&out, 5, TTRPC_REMOTE_CLOSED, "c", 1); /* the last one says so */
        send_all(f, fd, &out);
        expect(f, fd, 5, STATUS_OK, "2");
        put_request(&out, 7, (struct request){.method = "Up", .flags = TTRPC_REMOTE_CLOSED});
        send_all(f, fd, &out);
        expect(f, fd, 7, STATUS_OK, "0");
        assert_true(probe.calls[3].no_message);
        put_request(&out, 9, (struct request){.method = "Up", .flags = 0}); /* no flag: as open */
        put_data(&out, 9, 0, "", 0);
        put_data(&out, 9, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL, 0);
        send_all(f, fd, &out);
        expect(f, fd, 9, STATUS_OK, "1");
        for (unsigned i = 0; i < probe.n; i++)
                assert_int_equal(probe.calls[i].half_closes, 1);
        (void)close(fd);
}

/* What comes after a half-close is not for the handler; nor is a second one. */
static void after_the_half_close(void **state)
{
        struct rpc_fixture *f = *state;
        int fd = connect_to(f->path);
        struct buf out = {0};

        put_request(&out, 1,
                    (struct request){.method = "Both", .payload = "a", .flags = TTRPC_REMOTE_OPEN});
        send_all(f, fd, &out);
        LOOP_UNTIL(&f->l, probe.n);
        probe.calls[0].paused = false;
        put_data(&out, 1, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL, 0);
        put_data(&out, 1, 0, "b", 1);
        put_data(&out, 1, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL, 0);
        put_data(&out, 1, TTRPC_REMOTE_CLOSED, "c", 1);
        send_all(f, fd, &out);
        struct answer a = receive(f, fd);
        assert_int_equal(a.type, TTRPC_DATA);
        assert_int_equal(a.bytes[0], '1');
        a = receive(f, fd);
        assert_int_equal(a.type, TTRPC_DATA);
        assert_int_equal(a.flags, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA);
        assert_quiet(f, fd);
        assert_int_equal(probe.calls[0].messages, 1);
        (void)close(fd);
}

static void open_after_the_half_close(void **state)
{
        struct rpc_fixture *f = *state;
        int fd = connect_to(f->path);
        struct buf out = {0};

        probe.on_event = probe_keep_open;
        put_request(&out, 1,
                    (struct request){.method = "Up", .payload = "a", .flags = TTRPC_REMOTE_CLOSED});
        put_data(&out, 1, 0, "b", 1);
        put_data(&out, 1, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL, 0);
        send_all(f, fd, &out);
        LOOP_UNTIL(&f->l, probe.n);
        assert_quiet(f, fd);
        assert_int_equal(probe.calls[0].messages, 1);
        assert_int_equal(probe.calls[0].half_closes, 1);
        probe_answer(&probe.calls[0]);
        expect(f, fd, 1, STATUS_OK, "1");
        (void)close(fd);
}

static void pause_at_every_message(struct probe_call *p, enum probe_event event,
                                   const uint8_t *message, size_t n)
{
        (void)message, (void)n;
        if (event == PROBE_HALF_CLOSE)
                probe_answer(p);
        else if (event == PROBE_CANCEL)
                probe_finish(p, NULL);
        else
                probe_pause(p);
}

/* One frame brings the message that makes the handler pause, and the end. */
static void half_close_in_the_frame_that_pauses(void **state)
{
        struct rpc_fixture *f = *state;
        int fd = connect_to(f->path);
        struct buf out = {0};

        probe.on_event = pause_at_every_message;
        put_request(&out, 1,
                    (struct request){.method = "Up", .payload = "a", .flags = TTRPC_REMOTE_CLOSED});
        send_all(f, fd, &out);
        assert_quiet(f, fd);
        assert_int_equal(probe.calls[0].half_closes, 0);
        probe_resume(&probe.calls[0]);
        assert_int_equal(probe.calls[0].half_closes, 0); /* on a later turn */
        expect(f, fd, 1, STATUS_OK, "1");
        put_request(&out, 3,
                    (struct request){.method = "Up", .payload = "a", .flags = TTRPC_REMOTE_OPEN});
        put_data(&out, 3, TTRPC_REMOTE_CLOSED, "b", 1);
        send_all(f, fd, &out);
        assert_quiet(f, fd);
        probe_resume(&probe.calls[1]);
        assert_quiet(f, fd);
        assert_int_equal(probe.calls[1].messages, 2);
        assert_int_equal(probe.calls[1].half_closes, 0);
        probe_resume(&probe.calls[1]);
        expect(f, fd, 3, STATUS_OK, "2");
        (void)close(fd);
}

/* --- a handler that takes nothing ------------------------------------------------------------- */

static void upload_to_a_paused_handler(void **state)
{
        struct rpc_fixture *f = *state;
        int fd = connect_to(f->path);
        struct buf out = {0};
        _cleanup_free_ uint8_t *message = calloc(1, MiB);
        size_t held = 0, sent = 0;

        probe.on_event = pause_at_every_message;
        put_request(&out, 1, (struct request){.method = "Up", .payload = "first"});
        for (int i = 0; i < 64; i++)
                put_data(&out, 1, 0, message, MiB);
        put_data(&out, 1, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL, 0);
        while (sent < out.len) {
                ssize_t n = send(fd, buf_bytes(&out) + sent, out.len - sent, MSG_NOSIGNAL);
                if (n > 0)
                        sent += (size_t)n;
                (void)uv_run(&f->l.loop, UV_RUN_NOWAIT);
                held = MAX(held, f->server->held);
                if (probe.n && probe.calls[0].paused) {
                        size_t before = sent;
                        unsigned messages = probe.calls[0].messages;
                        for (int i = 0; i < 20; i++) {
                                n = send(fd, buf_bytes(&out) + sent, out.len - sent, MSG_NOSIGNAL);
                                sent += n > 0 ? (size_t)n : 0;
                                (void)uv_run(&f->l.loop, UV_RUN_NOWAIT);
                        }
                        assert_true(sent - before < MiB); /* what the kernel takes */
                        assert_int_equal(probe.calls[0].messages, messages);
                        probe_resume(&probe.calls[0]);
                }
        }
        buf_done(&out);
        while (!probe.calls[0].finished) {
                if (probe.calls[0].paused)
                        probe_resume(&probe.calls[0]);
                (void)uv_run(&f->l.loop, UV_RUN_NOWAIT); /* the deadline is its bound */
        }
        expect(f, fd, 1, STATUS_OK, "65");
        assert_in_range(held, 1, MiB + TTRPC_HEADER_LEN + 256 * KiB);
        assert_int_equal(f->server->held, 0);
        (void)close(fd);
}

/* --- too large -------------------------------------------------------------------------------- */

static void frame_too_large_in_a_stream(void **state)
{
        struct rpc_fixture *f = *state;
        int fd = connect_to(f->path);
        struct buf out = {0};
        size_t n = TTRPC_MESSAGE_MAX + 1;
        _cleanup_free_ uint8_t *message = calloc(1, n);

        probe.on_event = probe_keep_open;
        put_request(&out, 1, (struct request){.method = "Up", .payload = "a"});
        put_data(&out, 1, 0, message, n);
        send_all(f, fd, &out);
        expect(f, fd, 1, STATUS_RESOURCE_EXHAUSTED, NULL);
        assert_int_equal(probe.calls[0].cancels, 1);
        assert_int_equal(probe.calls[0].messages, 1);
        probe.on_event = NULL;
        put_request(&out, 3, (struct request){.method = "Unary", .payload = "a"});
        send_all(f, fd, &out);
        expect(f, fd, 3, STATUS_OK, "1");
        (void)close(fd);
}

static void ignore(struct probe_call *p, enum probe_event event, const uint8_t *message, size_t n)
{
        (void)p, (void)event, (void)message, (void)n;
}

/* The handler is told once, however often the client breaks the rules before it finishes. */
static void frames_too_large_before_the_finish(void **state)
{
        struct rpc_fixture *f = *state;
        int fd = connect_to(f->path);
        struct buf out = {0};
        size_t n = TTRPC_MESSAGE_MAX + 1;
        _cleanup_free_ uint8_t *message = calloc(1, n);

        probe.on_event = ignore;
        put_request(&out, 1, (struct request){.method = "Up", .payload = "a"});
        for (int i = 0; i < 2; i++)
                put_data(&out, 1, 0, message, n);
        send_all(f, fd, &out);
        loop_run_for(&f->l, 10);
        expect(f, fd, 1, STATUS_RESOURCE_EXHAUSTED, NULL);
        assert_int_equal(probe.calls[0].cancels, 1);
        assert_null(probe.violation);
        probe_finish(&probe.calls[0], NULL);
        assert_quiet(f, fd);
        (void)close(fd);
}

static void answer_too_much(struct probe_call *p, enum probe_event event, const uint8_t *message,
                            size_t n)
{
        (void)message, (void)n;
        _cleanup_free_ uint8_t *bytes = calloc(1, TTRPC_MESSAGE_MAX);
        if (event == PROBE_FIRST)
                rpc_call_send(p->call, bytes, TTRPC_MESSAGE_MAX);
        else if (event == PROBE_CANCEL)
                probe_finish(p, NULL);
}

/* The handler of a stream, which waits for more to say, learns that the call has ended. */
static void response_too_large(void **state)
{
        static const char *const methods[] = {"Unary", "Up", "Down", "Both"};
        struct rpc_fixture *f = *state;
        int fd = connect_to(f->path);
        struct buf out = {0};

        probe.on_event = answer_too_much;
        for (uint32_t i = 0; i < ARRAY_SIZE(methods); i++) {
                put_request(&out, 2 * i + 1,
                            (struct request){.method = methods[i], .payload = "a"});
                send_all(f, fd, &out);
                expect(f, fd, 2 * i + 1, STATUS_RESOURCE_EXHAUSTED, NULL);
                loop_run_for(&f->l, 5);
                assert_int_equal(probe.calls[i].cancels, 1);
        }
        assert_quiet(f, fd);
        (void)close(fd);
}

/* --- names ------------------------------------------------------------------------------------ */

static void put_text(struct buf *out, uint8_t tag, const void *bytes, size_t n)
{
        uint8_t head[6] = {tag};
        size_t n_head = 1;

        for (size_t v = n; v > 0x7F; v >>= 7)
                head[n_head++] = (uint8_t)(v | 0x80);
        head[n_head] = (uint8_t)(n >> 7 * (n_head - 1));
        n_head++;
        assert_int_equal(buf_append(out, head, n_head, SIZE_MAX), 0);
        assert_int_equal(buf_append(out, bytes, n, SIZE_MAX), 0);
}

/* Names as they are, NULs and all. */
static void call_by_name(struct rpc_fixture *f, int fd, uint32_t id, const void *service,
                         size_t n_service, const void *method, size_t n_method)
{
        struct buf request = {0}, out = {0};
        uint8_t header[TTRPC_HEADER_LEN];

        put_text(&request, 0x0a, service, n_service);
        put_text(&request, 0x12, method, n_method);
        ttrpc_put_header(header, (uint32_t)request.len, id, TTRPC_REQUEST, 0);
        assert_int_equal(buf_append(&out, header, sizeof(header), SIZE_MAX), 0);
        assert_int_equal(buf_append(&out, buf_bytes(&request), request.len, SIZE_MAX), 0);
        buf_done(&request);
        send_all(f, fd, &out);
}

/* So much behind the NUL that who looks for the end of ours at its length leaves our memory. */
static void nul_in_name(void **state)
{
        static const char service[] = "test.v1.ProbeService", method[] = "Unary";
        struct rpc_fixture *f = *state;
        int fd = connect_to(f->path);
        size_t n = 3 * MiB;
        _cleanup_free_ char *name = calloc(1, n);

        call_by_name(f, fd, 1, service, strlen(service), method, strlen(method));
        expect(f, fd, 1, STATUS_OK, "1");
        memcpy(name, service, sizeof(service));
        call_by_name(f, fd, 3, name, n, method, strlen(method));
        expect(f, fd, 3, STATUS_UNIMPLEMENTED, NULL);
        memset(name, 0, sizeof(service));
        memcpy(name, method, sizeof(method));
        call_by_name(f, fd, 5, service, strlen(service), name, n);
        expect(f, fd, 5, STATUS_UNIMPLEMENTED, NULL);
        assert_int_equal(probe.n, 1);
        (void)close(fd);
}

/* --- metadata --------------------------------------------------------------------------------- */

static char seen[2][64];

static void note_metadata(struct probe_call *p, enum probe_event event, const uint8_t *message,
                          size_t n)
{
        static const char *const keys[] = {"x-metadata", "key-bin"};

        (void)event, (void)message, (void)n;
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                const char *value = rpc_metadata_get(rpc_call_metadata(p->call), keys[i]);
                assert_true(str_format(seen[i], sizeof(seen[i]), "%s", value ? value : "(none)"));
        }
        probe_answer(p);
}

static void assert_metadata(struct rpc_fixture *f, int fd, uint32_t id, const char *key,
                            const char *value, enum status code)
{
        Ttrpc__KeyValue good = TTRPC__KEY_VALUE__INIT, kv = TTRPC__KEY_VALUE__INIT;
        Ttrpc__KeyValue *all[] = {&good, &kv};
        struct buf out = {0};

        good.key = (char *)"key-bin";
        good.value = (char *)"AAEC";
        kv.key = (char *)key;
        kv.value = (char *)value;
        put_request(
                &out, id,
                (struct request){.method = "Up", .payload = "a", .metadata = all, .n_metadata = 2});
        put_data(&out, id, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL, 0); /* perhaps for nobody */
        send_all(f, fd, &out);
        expect(f, fd, id, code, NULL);
}

static void metadata(void **state)
{
        struct rpc_fixture *f = *state;
        int fd = connect_to(f->path);
        char value[9000];

        probe.on_event = note_metadata;
        assert_metadata(f, fd, 1, "x-metadata", "a value", STATUS_OK);
        assert_string_equal(seen[0], "a value");
        assert_string_equal(seen[1], "AAEC");
        assert_metadata(f, fd, 3, "X", "1", STATUS_INVALID_ARGUMENT);
        assert_metadata(f, fd, 5, "", "1", STATUS_INVALID_ARGUMENT);
        assert_metadata(f, fd, 7, "x", "\xC3\xA9", STATUS_INVALID_ARGUMENT);
        memset(value, 'x', sizeof(value));
        value[sizeof(value) - 1] = '\0';
        assert_metadata(f, fd, 9, "x", value, STATUS_RESOURCE_EXHAUSTED);
        size_t most = 8192 - strlen("key-bin") - strlen("AAEC") - 1 - (size_t)2 * 32;
        value[most + 1] = '\0'; /* RFC 9113, section 6.5.2: 32 bytes for each */
        assert_metadata(f, fd, 13, "x", value, STATUS_RESOURCE_EXHAUSTED);
        value[most] = '\0';
        assert_metadata(f, fd, 15, "x", value, STATUS_OK);
        assert_int_equal(probe.n, 2);
        assert_quiet(f, fd);
        (void)close(fd);
}

/* --- details ---------------------------------------------------------------------------------- */

static uint8_t details[5000];
static size_t n_details;

static void fail_with_details(struct probe_call *p, enum probe_event event, const uint8_t *message,
                              size_t n)
{
        struct err e;

        (void)event, (void)message, (void)n;
        p->finished = true;
        (void)err_set(&e, STATUS_ABORTED, "no");
        rpc_call_finish_with_details(TAKE(p->call), &e, details, n_details);
}

static void status_details(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);

        probe.on_event = fail_with_details;
        for (size_t i = 0; i < 2; i++) { /* an Any with no type, of 4093 and 4094 bytes */
                struct reply r = {0};
                const struct rpc_request request = {.service = &probe_service,
                                                    .method = &probe_methods[PROBE_UNARY]};
                size_t n = 4096 - 6 + i;
                n_details = n + 6;
                memset(details, 'x', sizeof(details));
                memcpy(details,
                       (uint8_t[]){0x1a, (uint8_t)((n + 3) | 0x80), (uint8_t)((n + 3) >> 7)}, 3);
                memcpy(details + 3, (uint8_t[]){0x12, (uint8_t)(n | 0x80), (uint8_t)(n >> 7)}, 3);
                assert_int_equal(rpc_client_call(c, &request, &reply_ops, &r, NULL, NULL), 0);
                LOOP_UNTIL(&f->l, r.n_done);
                assert_int_equal(r.err.code, STATUS_ABORTED);
                assert_string_equal(r.err.msg, "no");
                assert_int_equal(r.n_details, i == 0 ? 4096 : 0); /* too many are left out */
                if (i == 0)
                        assert_memory_equal(r.details, details, 4096);
                reply_done(&r);
        }
        rpc_client_close(c);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, probe_setup, probe_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(message_in_the_request),
                TEST(after_the_half_close),
                TEST(open_after_the_half_close),
                TEST(half_close_in_the_frame_that_pauses),
                TEST(upload_to_a_paused_handler),
                TEST(frame_too_large_in_a_stream),
                TEST(frames_too_large_before_the_finish),
                TEST(response_too_large),
                TEST(nul_in_name),
                TEST(metadata),
                TEST(status_details),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
