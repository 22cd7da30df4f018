/* runtimed/secrets.c: what is not told of what an agent prints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "base/util.h"
#include "runtimed/line_cutter.h"
#include "runtimed/secrets.h"

static void assert_told(char *const *env, const char *printed, const char *told)
{
        _cleanup_strv_ char **secrets = secrets_of(env);
        _cleanup_free_ uint8_t *copy = NULL;
        size_t n = strlen(printed);

        assert_non_null(secrets);
        const uint8_t *found = secrets_redact(secrets, (const uint8_t *)printed, &n, &copy);
        assert_int_equal(n, strlen(told));
        assert_memory_equal(found, told, n);
}

static void as_they_are(void **state)
{
        char *const env[] = {(char *)"A=12345678", (char *)"B=1234567812345678",
                             (char *)"C=short",    (char *)"D=a=very=long",
                             (char *)"E",          NULL};

        (void)state;
        assert_told(env, "", "");
        assert_told(env, "nothing", "nothing");
        assert_told(env, "12345678", "[redacted]");
        assert_told(env, "x1234567812345678y123456781234567z", "x[redacted]y[redacted]1234567z");
        assert_told(env, "short a=very=long", "short [redacted]");
}

static void within_json(void **state)
{
        char *const env[] = {(char *)"A=p\"ass\\word\x01/\t.", NULL};

        (void)state;
        assert_told(env, "{\"a\":\"p\\\"ass\\\\word\\u0001/\\t.\"}", "{\"a\":\"[redacted]\"}");
        assert_told(env, "p\"ass\\word\x01/\t.", "[redacted]");
}

/* A private key, say. */
static void line_by_line(void **state)
{
        char *const env[] = {(char *)"A=-- begin --\nabcdefgh\r\nx\n-- end --\n", NULL};

        (void)state;
        assert_told(env, "> abcdefgh", "> [redacted]");
        assert_told(env, "x", "x");
        assert_told(env, "{\"a\":\"-- begin --\\nabcdefgh\\r\\nx\\n-- end --\\n\"}",
                    "{\"a\":\"[redacted]\"}");
}

/* The agent prints one of its secrets again and again, and never the others. */
static void a_long_line_takes_no_longer(void **state)
{
        char *env[32] = {(char *)"A=12345678"};
        _cleanup_free_ uint8_t *line = malloc(LINE_KEPT_MAX), *copy = NULL;
        size_t n = LINE_KEPT_MAX;

        (void)state;
        assert_non_null(line);
        for (size_t i = 1; i < ARRAY_SIZE(env) - 1; i++)
                assert_non_null(env[i] = str_printf("B=never printed %zu", i));
        for (size_t i = 0; i < n; i++)
                line[i] = (uint8_t)('1' + i % 8);
        _cleanup_strv_ char **secrets = secrets_of(env);
        assert_non_null(secrets);
        (void)alarm(10); /* it would take a minute */
        (void)secrets_redact(secrets, line, &n, &copy);
        (void)alarm(0);
        assert_int_equal(n, LINE_KEPT_MAX / 8 * strlen("[redacted]"));
        for (size_t i = 1; i < ARRAY_SIZE(env) - 1; i++)
                free(env[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(as_they_are),
                cmocka_unit_test(within_json),
                cmocka_unit_test(line_by_line),
                cmocka_unit_test(a_long_line_takes_no_longer),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
