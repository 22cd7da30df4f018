/* Names of signals, and of processes. */
#include "cli/signals.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/util.h"
#include "cli/target.h"

static void good_signals(void **state)
{
        static const struct {
                const char *text;
                int number;
        } good[] = {
                {"TERM", SIGTERM},
                {"SIGTERM", SIGTERM},
                {"sigterm", SIGTERM},
                {"kill", SIGKILL},
                {"9", 9},
                {"64", 64},
                {"1", 1},
                {"RTMIN", 34},
                {"SIGRTMIN+3", 37},
                {"RTMIN+30", 64},
                {"USR1", SIGUSR1},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                int number = 0;
                if (!signal_parse(good[i].text, &number))
                        fail_msg("'%s' is refused", good[i].text);
                assert_int_equal(number, good[i].number);
        }
}

static void bad_signals(void **state)
{
        static const char *const bad[] = {"",         "0",      "65",    "-9",     "SIG",   "SIG9",
                                          "RTMIN+31", "RTMIN-", "TERMS", "RTMIN+", "TER M", "9 "};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                int number = 0;
                if (signal_parse(bad[i], &number))
                        fail_msg("'%s' is taken for %d", bad[i], number);
        }
}

/* The words live in argv, which is writable. */
static void processes(void **state)
{
        char pid[] = "12", tag[] = "web", at[] = "@12", large[] = "4294967296", zero[] = "0";
        struct target t = {0};
        Sandboxd__V1__ProcessSelector selector;

        (void)state;
        target_parse(&t, pid);
        assert_int_equal(t.pid, 12);
        assert_null(t.tag);
        target_select(&t, &selector);
        assert_int_equal(selector.selector_case, SANDBOXD__V1__PROCESS_SELECTOR__SELECTOR_PID);
        target_parse(&t, tag);
        assert_string_equal(t.tag, "web");
        target_select(&t, &selector);
        assert_int_equal(selector.selector_case, SANDBOXD__V1__PROCESS_SELECTOR__SELECTOR_TAG);
        target_parse(&t, at);
        assert_string_equal(t.tag, "12");
        target_parse(&t, large);
        assert_string_equal(t.tag, "4294967296");
        target_parse(&t, zero);
        assert_null(t.tag);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(good_signals),
                cmocka_unit_test(bad_signals),
                cmocka_unit_test(processes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
