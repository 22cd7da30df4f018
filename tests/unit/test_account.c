#include "base/account.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void names_and_numbers(void **state)
{
        char name[ACCOUNT_NAME_MAX];

        (void)state;
        account_user(0, name);
        assert_string_equal(name, "root");
        account_group(0, name);
        assert_string_equal(name, "root");
        account_user(4000000000U, name); /* nobody has that one */
        assert_string_equal(name, "4000000000");
        account_group(4000000000U, name);
        assert_string_equal(name, "4000000000");
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(names_and_numbers)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
