#include "base/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"

static void names(void **state)
{
        (void)state;
        assert_string_equal(status_name(STATUS_OK), "OK");
        assert_string_equal(status_name(STATUS_DEADLINE_EXCEEDED), "DEADLINE_EXCEEDED");
        assert_string_equal(status_name(STATUS_UNAUTHENTICATED), "UNAUTHENTICATED");
        /* What a peer sends may be any number. */
        assert_string_equal(status_name((enum status)17), "UNKNOWN");
        assert_string_equal(status_name((enum status) - 1), "UNKNOWN");
        for (int i = 0; i <= STATUS_UNAUTHENTICATED; i++)
                assert_non_null(status_name((enum status)i));
}

/* A failure never turns into a success, in neither direction. */
static void numbers(void **state)
{
        (void)state;
        for (int i = 1; i <= 20; i++)
                assert_true(status_to_errno((enum status)i) > 0);
        for (int i = 1; i < 134; i++)
                assert_int_not_equal(status_from_errno(i), STATUS_OK);
        assert_int_equal(status_from_errno(0), STATUS_OK);
        assert_int_equal(status_from_errno(ENOENT), STATUS_NOT_FOUND);
        assert_int_equal(status_from_errno(EDQUOT), STATUS_RESOURCE_EXHAUSTED);
        assert_int_equal(status_to_errno(STATUS_NOT_FOUND), ENOENT);
}

static void filling(void **state)
{
        struct err e;

        (void)state;
        assert_int_equal(err_set(&e, STATUS_NOT_FOUND, "no %s", "box"), -ENOENT);
        assert_int_equal(e.code, STATUS_NOT_FOUND);
        assert_int_equal(e.errnum, ENOENT);
        assert_string_equal(e.msg, "no box");
        assert_int_equal(err_errno(&e, EACCES, "open '%s'", "/x"), -EACCES);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
        assert_string_equal(e.msg, "open '/x': Permission denied");
        assert_int_equal(err_oom(&e), -ENOMEM);
        assert_int_equal(e.code, STATUS_RESOURCE_EXHAUSTED);
}

static void prefix(void **state)
{
        struct err e;

        (void)state;
        (void)err_errno(&e, ENOENT, "open '/x'");
        assert_int_equal(err_prefix(&e, "sandbox %d", 7), -ENOENT);
        assert_string_equal(e.msg, "sandbox 7: open '/x': No such file or directory");
        assert_int_equal(e.code, STATUS_NOT_FOUND);
        e = (struct err){.code = STATUS_UNAVAILABLE, .msg = "gone"}; /* as it comes off a wire */
        assert_int_equal(err_prefix(&e, "call"), -EAGAIN);
        assert_string_equal(e.msg, "call: gone");
}

static void nobody_asks(void **state)
{
        (void)state;
        assert_int_equal(err_set(NULL, STATUS_NOT_FOUND, "x"), -ENOENT);
        assert_int_equal(err_errno(NULL, EACCES, "x"), -EACCES);
        assert_int_equal(err_oom(NULL), -ENOMEM);
        assert_true(err_prefix(NULL, "x") < 0);
}

static void long_messages_are_cut(void **state)
{
        char text[2 * ERR_MSG_MAX];
        struct err e;

        (void)state;
        memset(text, 'x', sizeof(text));
        text[sizeof(text) - 1] = '\0';
        (void)err_errno(&e, ENOENT, "%s", text);
        assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
        assert_non_null(strstr(e.msg, ": No such file or directory"));
        assert_int_equal(err_prefix(&e, "%s", text), -ENOENT);
        assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
        (void)err_set(&e, STATUS_INTERNAL, "short");
        (void)err_prefix(&e, "%.*s", ERR_MSG_MAX - 10, text);
        assert_string_equal(e.msg + ERR_MSG_MAX - 10, ": short");
}

static void letters_are_not_cut(void **state)
{
        char text[2 * ERR_MSG_MAX];
        struct err e;

        (void)state;
        for (size_t i = 0; i < sizeof(text) - 2; i += 2)
                memcpy(text + i, "\xC3\xA9", 3); /* an e with an accent */
        for (int shift = 0; shift < 2; shift++) {
                (void)err_set(&e, STATUS_INTERNAL, "%.*s%s", shift, "x", text);
                assert_true(str_is_utf8(e.msg, strlen(e.msg)));
                assert_true(strlen(e.msg) >= ERR_MSG_MAX - 3);
                (void)err_prefix(&e, "%.*s%s", shift, "x", text);
                assert_true(str_is_utf8(e.msg, strlen(e.msg)));
                (void)err_prefix(&e, "%.*s", 5 + shift, "xxxxxx");
                assert_true(str_is_utf8(e.msg, strlen(e.msg)));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(names),
                cmocka_unit_test(numbers),
                cmocka_unit_test(filling),
                cmocka_unit_test(prefix),
                cmocka_unit_test(nobody_asks),
                cmocka_unit_test(long_messages_are_cut),
                cmocka_unit_test(letters_are_not_cut),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
