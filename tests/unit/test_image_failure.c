#include "daemon/image_failure.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"

static void explains(const char *program, const struct proc_result *result, enum status code,
                     const char *words)
{
        const struct image_failure f = {result, "unpacking", program, true, 4096, 8192};
        struct err e;

        image_failure_explain(&f, &e);
        assert_int_equal(e.code, code);
        assert_true(str_starts(e.msg, "unpacking: "));
        if (!strstr(e.msg, words))
                fail_msg("'%s' is not in '%s'", words, e.msg);
}

static void limits_it_met(void **state)
{
        static const struct {
                struct proc_result result;
                const char *words;
        } cases[] = {
                {{.exit_code = -1, .signal = SIGXFSZ, .output = ""}, "images.max_size"},
                {{.exit_code = 2, .output = "tar: x: Cannot write: File too large\n"},
                 "4096 bytes"},
                {{.exit_code = 1, .output = "write /a: file too large"}, "images.max_size"},
                {{.exit_code = 2, .output = "SIGXFSZ: file size limit exceeded\n\ngoroutine 1"},
                 "images.max_size"},
                {{.exit_code = 2, .output = "tar: x: Cannot write: No space left on device\n"},
                 "the disk is full"},
                {{.exit_code = 1, .output = "write /a/b: no space left on device"},
                 "the disk is full"},
                {{.exit_code = 1, .output = "mkdir /a: disk quota exceeded"}, "the disk is full"},
                {{.exit_code = 2, .output = "fatal error: runtime: out of memory\n\ngoroutine 1"},
                 "8192 bytes"},
                {{.exit_code = 2, .output = "xz: (stdin): Cannot allocate memory\ntar: Child died"},
                 "memory"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                explains("umoci", &cases[i].result, STATUS_RESOURCE_EXHAUSTED, cases[i].words);
        explains("tar", &(struct proc_result){.timed_out = true, .exit_code = -1, .output = ""},
                 STATUS_DEADLINE_EXCEEDED, "images.import_timeout");
}

static void a_signal_is_no_limit(void **state)
{
        (void)state;
        explains("tar",
                 &(struct proc_result){.exit_code = -1, .signal = SIGKILL, .output = "tar: x"},
                 STATUS_UNKNOWN, "signal 9 killed tar");
}

static void what_they_say(void **state)
{
        static char much[16384];

        (void)state;
        explains("skopeo",
                 &(struct proc_result){.exit_code = 1,
                                       .output = "level=info msg=\"x\"\ntime=\"t\" level=fatal "
                                                 "msg=\"no \\\"a\\\" here\" more\n"},
                 STATUS_UNKNOWN, "skopeo failed: no \"a\" here");
        explains("umoci", &(struct proc_result){.exit_code = 1, .output = "first\nlast\033[1m\n\n"},
                 STATUS_INVALID_ARGUMENT, "umoci failed: last\\x1b[1m");
        explains("tar",
                 &(struct proc_result){.exit_code = 2,
                                       .output = "tar: Removing leading `/'\ntar: the cause\n"
                                                 "tar: Exiting with failure status"},
                 STATUS_INVALID_ARGUMENT, "tar failed: tar: the cause");
        explains("tar", &(struct proc_result){.exit_code = 2, .output = ""},
                 STATUS_INVALID_ARGUMENT, "tar failed: ");
        memset(much, 'x', sizeof(much) - 1);
        memcpy(much + sizeof(much) - 6, "\nlast", 5);
        explains("umoci", &(struct proc_result){.exit_code = 1, .output = much},
                 STATUS_INVALID_ARGUMENT, "umoci failed: last");
        explains("tar", &(struct proc_result){.exit_code = 1, .output = much},
                 STATUS_INVALID_ARGUMENT, "tar failed: xxx");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(limits_it_met),
                cmocka_unit_test(a_signal_is_no_limit),
                cmocka_unit_test(what_they_say),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
