/* cli/listen.c: addresses as people write them, and sockets at them. */
#include "cli/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"

static void good_addresses(void **state)
{
        static const char *const good[] = {"127.0.0.1:9464", "[::1]:9464", "0.0.0.0:0",
                                           "[::]:65535"};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                struct listen_address address = {.size = 0};
                char text[LISTEN_TEXT_MAX];
                assert_true(listen_parse(good[i], &address));
                listen_format(&address, text);
                assert_string_equal(text, good[i]);
        }
}

static void bad_addresses(void **state)
{
        static const char *const bad[] = {"",
                                          "9464",
                                          ":9464",
                                          "127.0.0.1",
                                          "127.0.0.1:",
                                          "localhost:1",
                                          "127.0.0.1:65536",
                                          "127.0.0.1:-1",
                                          "127.0.0.1:http",
                                          "::1:9464",
                                          "[::1]",
                                          "[::1:9464",
                                          "[127.0.0.1]:9464",
                                          "[]:9464",
                                          "[:9464",
                                          "1.2.3:9464x",
                                          "127.0.0.1 :9464",
                                          "256.0.0.1:9464"};
        struct listen_address address = {.size = 7};
        char longer[200];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                if (listen_parse(bad[i], &address))
                        fail_msg("taken: %s", bad[i]);
        memset(longer, '1', sizeof(longer) - 4);
        memcpy(longer + sizeof(longer) - 4, ":80", 4);
        assert_false(listen_parse(longer, &address));
        assert_int_equal(address.size, 7); /* untouched */
}

static int open_at(const char *text, struct err *e)
{
        struct listen_address address;

        assert_true(listen_parse(text, &address));
        return listen_open(&address, e);
}

/* Port 0 becomes one that is free; then it is not. */
static void sockets(void **state)
{
        char text[LISTEN_TEXT_MAX], expected[2 * LISTEN_TEXT_MAX];
        struct err e = {0};

        (void)state;
        int fd = open_at("127.0.0.1:0", &e);
        assert_true(fd >= 0);
        listen_name(fd, text);
        assert_true(str_starts(text, "127.0.0.1:") && !str_eq(text, "127.0.0.1:0"));
        assert_int_equal(open_at(text, &e), -EADDRINUSE);
        (void)str_format(expected, sizeof(expected), "listen on %s: ", text);
        assert_true(str_starts(e.msg, expected));
        (void)close(fd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(good_addresses),
                cmocka_unit_test(bad_addresses),
                cmocka_unit_test(sockets),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
