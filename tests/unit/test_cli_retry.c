/* When a daemon that went away is tried again. */
#include "cli/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct err why = {.msg = "gone"};

static void soon_then_every_second_then_never(void **state)
{
        struct retry r = {.since = 0};
        uint64_t now = 5, delay, last = 0;
        unsigned n = 0;

        (void)state;
        for (; (delay = retry_after(&r, now, UINT64_MAX, &why)) > 0; n++) {
                assert_true(delay >= last && delay <= 1000);
                assert_int_equal(r.told, now - 5 >= 2000);
                last = delay;
                now += delay;
        }
        assert_int_equal(last, 1000);
        assert_in_range(now - 5, 30000, 31000);
        assert_in_range(n, 30, 60);
        assert_int_equal(retry_age(&r, now), now - 5);
}

static void a_limit_of_the_users(void **state)
{
        struct retry r = {.since = 0};

        (void)state;
        assert_true(retry_after(&r, 5, 1000, &why) > 0);
        assert_true(retry_after(&r, 1004, 1000, &why) > 0);
        assert_int_equal(retry_after(&r, 1005, 1000, &why), 0);
}

/* The next loss has all the time. */
static void over(void **state)
{
        struct retry r = {.since = 0};

        (void)state;
        uint64_t first = retry_after(&r, 5, UINT64_MAX, &why);
        (void)retry_after(&r, 3000, UINT64_MAX, &why);
        retry_over(&r);
        assert_int_equal(retry_age(&r, 60000), 0);
        assert_int_equal(retry_after(&r, 60000, UINT64_MAX, &why), first);
        assert_false(r.told);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(soon_then_every_second_then_never),
                cmocka_unit_test(a_limit_of_the_users),
                cmocka_unit_test(over),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
