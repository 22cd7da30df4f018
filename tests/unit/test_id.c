#include "base/id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/util.h"

#define MANY 1000

static void ids_are_valid_and_differ(void **state)
{
        static char ids[MANY][ID_LEN + 1];

        (void)state;
        for (size_t i = 0; i < MANY; i++) {
                assert_int_equal(id_new(ids[i]), 0);
                assert_true(id_is_valid(ids[i]));
                for (size_t k = 0; k < i; k++)
                        assert_string_not_equal(ids[i], ids[k]);
        }
}

/* Every digit of the random part takes many values: no bit is stuck or lost. */
static void random_part_is_random(void **state)
{
        bool seen[ID_LEN][128] = {{false}};
        char id[ID_LEN + 1];

        (void)state;
        for (size_t i = 0; i < MANY; i++) {
                assert_int_equal(id_new(id), 0);
                for (size_t k = 10; k < ID_LEN; k++)
                        seen[k][(unsigned char)id[k]] = true;
        }
        for (size_t k = 10; k < ID_LEN; k++) {
                unsigned n = 0;
                for (size_t c = 0; c < 128; c++)
                        n += seen[k][c];
                assert_int_equal(n, 32);
        }
}

static uint64_t time_of(const char *id)
{
        static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
        uint64_t ms = 0;

        for (int i = 0; i < 10; i++)
                ms = ms << 5 | (uint64_t)(strchr(digits, id[i]) - digits);
        return ms;
}

static void ids_sort_by_time(void **state)
{
        const struct timespec pause = {.tv_nsec = 2000000};
        char earlier[ID_LEN + 1], later[ID_LEN + 1];

        (void)state;
        assert_int_equal(id_new(earlier), 0);
        assert_int_equal(nanosleep(&pause, NULL), 0);
        assert_int_equal(id_new(later), 0);
        assert_true(strcmp(earlier, later) < 0);
        uint64_t now = (uint64_t)time(NULL) * 1000;
        assert_in_range(time_of(later), now - 2000, now + 2000);
}

static void ids_refused(void **state)
{
        static const char *const bad[] = {
                "",
                "01h5v8k9d3m2n4p6q8r0s2t4v",   /* one too few */
                "01h5v8k9d3m2n4p6q8r0s2t4v60", /* one too many */
                "01H5V8K9D3M2N4P6Q8R0S2T4V6",  /* capitals */
                "01h5v8k9d3m2n4p6q8r0s2t4vu",  /* no such digit, as i, l and o */
                "01h5v8k9d3m2n4p6q8r0s2t4v/",
        };

        (void)state;
        assert_true(id_is_valid("01h5v8k9d3m2n4p6q8r0s2t4v6"));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(id_is_valid(bad[i]));
}

static void names(void **state)
{
        static const char *const good[] = {"a", "0", "my-box-1"};
        static const char *const bad[] = {"",    "-a", "a-",  "A",     "a_b",
                                          "a.b", "..", "a/b", "a b",   "\xC3\xA9",
                                          "a\n", "-",  "a\t", "a\x7f", "a:b"};
        char longest[NAME_MAX_LEN + 2];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_true(name_is_valid(good[i]));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(name_is_valid(bad[i]));
        memset(longest, 'x', sizeof(longest));
        longest[NAME_MAX_LEN + 1] = '\0';
        assert_false(name_is_valid(longest));
        longest[NAME_MAX_LEN] = '\0';
        assert_true(name_is_valid(longest));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(ids_are_valid_and_differ),
                cmocka_unit_test(random_part_is_random),
                cmocka_unit_test(ids_sort_by_time),
                cmocka_unit_test(ids_refused),
                cmocka_unit_test(names),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
