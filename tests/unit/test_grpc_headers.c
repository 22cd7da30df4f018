/* rpc/grpc_headers.c: each rule of a request's head, and the trailers of a response. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "rpc/grpc_headers.h"

#define LIST_MAX 8192

struct head {
        struct grpc_headers h;
        struct rpc_metadata metadata;
};

static void add_bytes(struct head *head, const char *name, size_t n_name, const char *value,
                      size_t n_value)
{
        grpc_headers_add(&head->h, &head->metadata, LIST_MAX, (const uint8_t *)name, n_name,
                         (const uint8_t *)value, n_value);
}

static void add(struct head *head, const char *name, const char *value)
{
        add_bytes(head, name, strlen(name), value, strlen(value));
}

static struct head good(void)
{
        struct head head = {0};

        add(&head, ":method", "POST");
        add(&head, ":scheme", "http");
        add(&head, ":path", "/test.v1.Test/Method");
        add(&head, "te", "trailers");
        add(&head, "content-type", "application/grpc");
        return head;
}

static void assert_complete(struct head *head, bool complete)
{
        assert_int_equal(grpc_headers_are_complete(&head->h), complete);
        rpc_metadata_done(&head->metadata);
}

/* A good head and one more field. */
static void assert_with(const char *name, const char *value, bool complete)
{
        struct head head = good();

        add(&head, name, value);
        if (grpc_headers_are_complete(&head.h) != complete)
                fail_msg("'%s: %s' should%s do", name, value, complete ? "" : " not");
        rpc_metadata_done(&head.metadata);
}

static void good_request(void **state)
{
        struct head head = good();

        (void)state;
        assert_true(head.h.is_post && head.h.is_grpc);
        assert_false(head.h.compressed || head.h.has_content_length || head.h.metadata_is_bad);
        assert_string_equal(head.h.path, "/test.v1.Test/Method");
        assert_int_equal(head.h.timeout_ns, 0);
        assert_int_equal(head.metadata.n, 0);
        assert_int_equal(head.h.size, 5 * 32 + 7 + 4 + 7 + 4 + 5 + 20 + 2 + 8 + 12 + 16);
        assert_complete(&head, true);
}

/* RFC 9113, section 8.3: they come first, each once, and there are no others. */
static void pseudo_headers(void **state)
{
        static const char *const names[] = {":method", ":scheme", ":path"};

        (void)state;
        for (size_t missing = 0; missing < ARRAY_SIZE(names); missing++) {
                struct head head = {0};
                for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                        if (i != missing)
                                add(&head, names[i], "/");
                assert_complete(&head, false);
        }
        for (size_t twice = 0; twice < ARRAY_SIZE(names); twice++) {
                struct head head = {0};
                for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                        add(&head, names[i], "/");
                assert_true(grpc_headers_are_complete(&head.h));
                add(&head, names[twice], "/");
                assert_complete(&head, false);
        }
        assert_with(":authority", "localhost", false); /* late */
        struct head head = {0};
        add(&head, ":authority", "%2Frun%2Fsock"); /* whatever clients make of a Unix socket */
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                add(&head, names[i], "/");
        assert_complete(&head, true);
        head = (struct head){0};
        add(&head, ":status", "200");
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                add(&head, names[i], "/");
        assert_complete(&head, false);
        head = (struct head){0};
        add(&head, ":protocol", "websocket");
        assert_true(head.h.malformed);
        rpc_metadata_done(&head.metadata);
}

static void paths(void **state)
{
        struct head head = {0};
        char path[GRPC_PATH_MAX + 1];

        (void)state;
        add(&head, ":path", "");
        assert_true(head.h.malformed);
        memset(path, 'x', sizeof(path));
        path[GRPC_PATH_MAX - 1] = '\0';
        head = (struct head){0};
        add(&head, ":path", path);
        assert_string_equal(head.h.path, path);
        path[GRPC_PATH_MAX - 1] = 'x';
        path[GRPC_PATH_MAX] = '\0';
        head = (struct head){0};
        add(&head, ":path", path);
        assert_string_equal(head.h.path, "");
        assert_false(head.h.malformed); /* no method has that name */
}

static void methods_and_content_types(void **state)
{
        static const struct {
                const char *type;
                bool is_grpc;
        } types[] = {
                {"application/grpc", true},
                {"application/grpc+proto", true},
                {"application/grpc;x=y", true},
                {"application/grpc-web", false},
                {"application/grpcx", false},
                {"application/json", false},
                {"application/grp", false},
                {"", false},
                {"application/grpc-web+proto", false},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
                struct head head = {0};
                add(&head, "content-type", types[i].type);
                assert_int_equal(head.h.is_grpc, types[i].is_grpc);
        }
        struct head head = {0};
        add(&head, ":method", "post");
        assert_false(head.h.is_post);
}

/* RFC 9113, sections 8.2.1 and 8.2.2. */
static void malformed_fields(void **state)
{
        (void)state;
        assert_with("x", "1", true);
        assert_with("X", "1", false);
        assert_with("xY", "1", false);
        assert_with("", "1", false);
        assert_with("a b", "1", false);
        assert_with("a:b", "1", false);
        assert_with("x", "a\nb", false);
        assert_with("x", "a\rb", false);
        assert_with("connection", "close", false);
        assert_with("proxy-connection", "close", false);
        assert_with("keep-alive", "5", false);
        assert_with("transfer-encoding", "chunked", false);
        assert_with("upgrade", "h2c", false);
        assert_with("te", "trailers", true);
        assert_with("te", "gzip", false);
        assert_with("te", "", false);
        struct head head = good();
        add_bytes(&head, "x", 1, "a\0b", 3);
        assert_complete(&head, false);
        head = good();
        add_bytes(&head, "x\0y", 3, "1", 1);
        assert_complete(&head, false);
}

static void content_length(void **state)
{
        static const char *const bad[] = {"", "-1", "+1", "1x", " 1", "0x1", "9223372036854775808"};
        struct head head = good();

        (void)state;
        add(&head, "content-length", "17");
        assert_true(head.h.has_content_length);
        assert_int_equal(head.h.content_length, 17);
        add(&head, "content-length", "17"); /* twice */
        assert_complete(&head, false);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_with("content-length", bad[i], false);
        head = good();
        add(&head, "content-length", "9223372036854775807");
        assert_true(head.h.content_length == INT64_MAX);
        assert_complete(&head, true);
}

static void encodings(void **state)
{
        struct head head = good();

        (void)state;
        add(&head, "grpc-encoding", "identity");
        assert_false(head.h.compressed);
        add(&head, "grpc-encoding", "gzip");
        assert_true(head.h.compressed);
        assert_complete(&head, true);
}

static void metadata(void **state)
{
        static const char *const own[] = {"grpc-anything", "user-agent",      "content-type",
                                          "host",          "accept-encoding", "grpc-timeout"};
        struct head head = good();

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(own); i++)
                add(&head, own[i], "1");
        assert_int_equal(head.metadata.n, 0);
        add(&head, "user-agent-of-mine", "1");
        add(&head, "key-bin", "AAE");
        assert_int_equal(head.metadata.n, 2);
        assert_string_equal(rpc_metadata_get(&head.metadata, "key-bin"), "AAE");
        assert_false(head.h.metadata_is_bad);
        add(&head, "x", "\xC3\xA9"); /* HTTP takes it, gRPC does not */
        assert_true(head.h.metadata_is_bad);
        assert_complete(&head, true);
        head = good();
        add(&head, "x!", "1");
        assert_true(head.h.metadata_is_bad);
        assert_complete(&head, true);
}

/* The whole list counts; above the limit nothing is kept any more. */
static void metadata_limit(void **state)
{
        struct head head = good();
        char value[LIST_MAX];

        (void)state;
        size_t room = LIST_MAX - head.h.size - 32 - 1;
        memset(value, 'x', sizeof(value));
        add_bytes(&head, "x", 1, value, room);
        assert_int_equal(head.h.size, LIST_MAX);
        assert_int_equal(head.metadata.n, 1);
        add(&head, "y", "");
        assert_int_equal(head.h.size, LIST_MAX + 33);
        assert_int_equal(head.metadata.n, 1);
        add(&head, "X", "a\nb"); /* nor is it looked at */
        add(&head, "connection", "close");
        add(&head, ":path", "/late");
        add(&head, "grpc-encoding", "gzip");
        assert_true(head.h.size > LIST_MAX + 3 * 33);
        assert_false(head.h.malformed || head.h.compressed);
        assert_string_equal(head.h.path, "/test.v1.Test/Method");
        assert_complete(&head, true);
}

static void trailers_of_a_request(void **state)
{
        (void)state;
        assert_true(grpc_trailer_is_valid((const uint8_t *)"x-checksum", 10));
        assert_false(grpc_trailer_is_valid((const uint8_t *)":path", 5));
        assert_false(grpc_trailer_is_valid((const uint8_t *)"", 0));
        assert_false(grpc_trailer_is_valid((const uint8_t *)"X", 1));
}

/* --- trailers of a response ------------------------------------------------------------------- */

static const char *find(const struct grpc_trailers *t, const char *name)
{
        for (size_t i = 0; i < t->n; i++)
                if (str_eq((const char *)t->nv[i].name, name)) {
                        assert_int_equal(t->nv[i].valuelen, strlen((char *)t->nv[i].value));
                        return (const char *)t->nv[i].value;
                }
        return NULL;
}

static void assert_message(const char *message, const char *expected)
{
        struct grpc_trailers t = {0};
        struct err e;

        (void)err_set(&e, STATUS_NOT_FOUND, "%s", message);
        grpc_trailers_add(&t, &e, NULL, 0);
        assert_string_equal(find(&t, "grpc-status"), "5");
        assert_string_equal(find(&t, "grpc-message"), expected);
        assert_null(find(&t, "grpc-status-details-bin"));
        assert_int_equal(t.n, 2);
        grpc_trailers_done(&t);
}

static void messages(void **state)
{
        char longest[ERR_MSG_MAX], expected[3 * ERR_MSG_MAX] = "";
        struct grpc_trailers t = {0};
        struct err e;

        (void)state;
        assert_message("plain ~", "plain ~");
        assert_message("100%", "100%25");
        assert_message("\n\x1F\x7F", "%0A%1F%7F");
        assert_message("\xC3\xA9", "%C3%A9");
        memset(longest, '\xFF', sizeof(longest));
        longest[sizeof(longest) - 1] = '\0';
        for (size_t i = 0; longest[i]; i++)
                memcpy(expected + 3 * i, "%FF", 4);
        assert_message(longest, expected); /* none is cut */
        (void)err_set(&e, STATUS_UNAUTHENTICATED, "%s", "");
        grpc_trailers_add(&t, &e, NULL, 0);
        assert_string_equal(find(&t, "grpc-status"), "16");
        assert_int_equal(t.n, 1);
        grpc_trailers_done(&t);
}

/* google.rpc.Status, its code and message first; base64 without padding. */
static void details(void **state)
{
        static const struct {
                const char *details, *text;
        } cases[] = {
                {"\x1a\x00", "CAUSAWEaAA"}, /* 08 05 12 01 61 1a 00 */
                {"\x1a\x01\x00", "CAUSAWEaAQA"},
                {"\x1a\x02\xFF\xFE", "CAUSAWEaAv/+"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct grpc_trailers t = {0};
                struct err e;
                (void)err_set(&e, STATUS_NOT_FOUND, "a");
                grpc_trailers_add(&t, &e, (const uint8_t *)cases[i].details, 2 + i);
                assert_string_equal(find(&t, "grpc-status-details-bin"), cases[i].text);
                assert_int_equal(t.n, 3);
                grpc_trailers_done(&t);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(good_request),
                cmocka_unit_test(pseudo_headers),
                cmocka_unit_test(paths),
                cmocka_unit_test(methods_and_content_types),
                cmocka_unit_test(malformed_fields),
                cmocka_unit_test(content_length),
                cmocka_unit_test(encodings),
                cmocka_unit_test(metadata),
                cmocka_unit_test(metadata_limit),
                cmocka_unit_test(trailers_of_a_request),
                cmocka_unit_test(messages),
                cmocka_unit_test(details),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
