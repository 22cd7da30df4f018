#include "cli/ssh.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

#define LONG_64  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define LONG_256 LONG_64 LONG_64 LONG_64 LONG_64

static void addresses(void **state)
{
        static const struct {
                const char *url, *user, *host, *port, *socket;
        } rows[] = {
                {"ssh://h", "", "h", "", ""},
                {"ssh://h/", "", "h", "", ""},
                {"ssh://build-3.example.org", "", "build-3.example.org", "", ""},
                {"ssh://Ann@h", "Ann", "h", "", ""},
                {"ssh://h:22", "", "h", "22", ""},
                {"ssh://ann_b.c-d+e@my_host:65535/run/s", "ann_b.c-d+e", "my_host", "65535",
                 "/run/s"},
                {"ssh://ann@example.org@h/s", "ann@example.org", "h", "", "/s"},
                {"ssh://DOMAIN\\ann@h", "DOMAIN\\ann", "h", "", ""},
                {"ssh://10.0.0.7/s", "", "10.0.0.7", "", "/s"},
                {"ssh://[::1]", "", "::1", "", ""},
                {"ssh://u@[fe80::1%eth0]:2222/s", "u", "fe80::1%eth0", "2222", "/s"},
                {"ssh://h/a:b@c", "", "h", "", "/a:b@c"},
                {"ssh://h/a//b/", "", "h", "", "/a//b/"},
                {"ssh://h/a%20b%2F%C3%a9%25%3f", "", "h", "", "/a b/\xc3\xa9%?"},
                {"ssh://h/it's $x `y` \"z\"", "", "h", "", "/it's $x `y` \"z\""},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct ssh_address a;
                struct err e;
                if (ssh_parse(rows[i].url, &a, &e) < 0)
                        fail_msg("%s", e.msg);
                assert_string_equal(a.user, rows[i].user);
                assert_string_equal(a.host, rows[i].host);
                assert_string_equal(a.port, rows[i].port);
                assert_string_equal(a.socket, rows[i].socket);
        }
}

static void no_addresses(void **state)
{
        static const struct {
                const char *url, *why;
        } rows[] = {
                {"ssh://", "the host is empty"},
                {"ssh:///run/s", "the host is empty"},
                {"ssh://u@", "the host is empty"},
                {"ssh://@h", "the user is empty"},
                {"ssh://h:", "the port is empty"},
                {"ssh://h:/s", "the port is empty"},
                {"ssh://[]", "the host is empty"},
                {"ssh://-oProxyCommand=touch x", "the host begins with '-'"},
                {"ssh://u@-h", "the host begins with '-'"},
                {"ssh://[-h]", "the host begins with '-'"},
                {"ssh://-lroot@h", "the user begins with '-'"},
                {"ssh://h h", "the host may have no byte 0x20"},
                {"ssh://h;id", "the host may have no byte 0x3b"},
                {"ssh://$(id)", "the host may have no byte 0x24"},
                {"ssh://`id`", "the host may have no byte 0x60"},
                {"ssh://h\n", "the host may have no byte 0x0a"},
                {"ssh://h\xc3\xa9", "the host may have no byte 0xc3"},
                {"ssh://h%2d", "the host may have no byte 0x25"},
                {"ssh://h?x", "the host may have no byte 0x3f"},
                {"ssh://[::1", "the port may have no byte 0x3a"},
                {"ssh://[::1]x", "the host may have no byte 0x5d"},
                {"ssh://[h g]", "the host may have no byte 0x20"},
                {"ssh://u;id@h", "the user may have no byte 0x3b"},
                {"ssh://u s@h", "the user may have no byte 0x20"},
                {"ssh://u:secret@h", "the user may have no byte 0x3a"},
                {"ssh://h:22x", "the port may have no byte 0x78"},
                {"ssh://h:-1", "the port begins with '-'"},
                {"ssh://h:0", "the port is none"},
                {"ssh://h:65536", "the port is none"},
                {"ssh://h:123456", "the port has more than 5 bytes"},
                {"ssh://::1", "the port"},
                {"ssh://" LONG_64 "@h", "the user has more than 63 bytes"},
                {"ssh://" LONG_256, "the host has more than 255 bytes"},
                {"ssh://h/" LONG_64 LONG_64, "the path of the socket has more than 107 bytes"},
                {"ssh://h/a?b", "the path of the socket has a '?'"},
                {"ssh://h/a#b", "the path of the socket has a '?'"},
                {"ssh://h/a%", "the path of the socket has a '?'"},
                {"ssh://h/a%4", "the path of the socket has a '?'"},
                {"ssh://h/a%4g", "the path of the socket has a '?'"},
                {"ssh://h/a%00", "the path of the socket has a '?'"},
                {"ssh://h/a%0a", "the path of the socket has a '?'"},
                {"ssh://h/a\nb", "the path of the socket has a '?'"},
                {"ssh://h/a\\b", "the path of the socket has a backslash"},
                {"ssh://h/a%5C'b", "the path of the socket has a backslash"},
                {"ssh://h/a\x7f", "the path of the socket has a '?'"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct ssh_address a;
                struct err e;
                if (ssh_parse(rows[i].url, &a, &e) != -EINVAL)
                        fail_msg("'%s' passes", rows[i].url);
                assert_int_equal(e.code, STATUS_INVALID_ARGUMENT);
                if (!strstr(e.msg, rows[i].why))
                        fail_msg("%s", e.msg);
        }
}

/* The words, each in brackets. */
static const char *command(const char *url, bool may_ask)
{
        struct strv_builder builder = {0};
        struct ssh_address a;
        static char line[2048];
        size_t n = 0;

        assert_int_equal(ssh_parse(url, &a, NULL), 0);
        ssh_command(&a, may_ask, &builder);
        _cleanup_strv_ char **argv = strv_take(&builder);
        assert_non_null(argv);
        assert_string_equal(argv[0], "ssh");
        line[0] = '\0';
        for (char **word = argv + 1; *word; word++) {
                assert_true(str_format(line + n, sizeof(line) - n, "[%s]", *word));
                n = strlen(line);
        }
        return line;
}

#define FIXED                                                              \
        "[-T][-a][-x][-oClearAllForwardings=yes][-oPermitLocalCommand=no]" \
        "[-oRemoteCommand=none][-oSessionType=default][-oStdinNull=no]"    \
        "[-oForkAfterAuthentication=no][-oTunnel=no]"
#define DIAL "[sandboxctl dial-stdio --greet]"

static void commands(void **state)
{
        (void)state;
        assert_string_equal(command("ssh://h", true), FIXED "[--][h]" DIAL);
        assert_string_equal(command("ssh://u@h:7", false),
                            FIXED "[-oBatchMode=yes][-p7][-lu][--][h]" DIAL);
        assert_string_equal(command("ssh://[::1%lo]/run/s", true),
                            FIXED "[--][::1%lo]" DIAL "[--socket '/run/s']");
}

/* ssh puts a blank between the words and gives the line to a shell. */
static void quoting(void **state)
{
        static const struct {
                const char *path, *word;
        } rows[] = {
                {"/s", "'/s'"},
                {"/a%20b;id", "'/a b;id'"},
                {"/$(id)`id`\"|&<>*~!", "'/$(id)`id`\"|&<>*~!'"},
                {"/it's", "'/it'\\''s'"},
                {"/'", "'/'\\'''"},
                {"/';id;'", "'/'\\'';id;'\\'''"},
        };
        char url[256], expected[256], longest[256];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                assert_true(str_format(url, sizeof(url), "ssh://h%s", rows[i].path));
                assert_true(str_format(expected, sizeof(expected), "[--socket %s]", rows[i].word));
                const char *line = command(url, true);
                assert_string_equal(line + strlen(FIXED "[--][h]" DIAL), expected);
        }
        /* None is cut: the most apostrophes that a path can have. */
        memset(longest, '\'', 106);
        longest[106] = '\0';
        assert_true(str_format(url, sizeof(url), "ssh://h/%s", longest));
        const char *line = command(url, true);
        assert_int_equal(strlen(line + strlen(FIXED "[--][h]" DIAL)),
                         strlen("[--socket '/']") + 4 * 106);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(addresses),
                cmocka_unit_test(no_addresses),
                cmocka_unit_test(commands),
                cmocka_unit_test(quoting),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
