#include "cli/stats_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

static Sandboxd__V1__SandboxStats stats(void)
{
        static char id[] = "01jz";
        Sandboxd__V1__SandboxStats s = SANDBOXD__V1__SANDBOX_STATS__INIT;

        s.sandbox_id = id;
        s.cpu_nanos = 90 * NSEC_PER_SEC;
        s.memory_bytes = 3 * MiB / 2;
        s.memory_cache_bytes = 4096;
        s.memory_limit_bytes = 2048 * MiB;
        s.oom_kills = 1;
        s.pids = 5;
        s.pids_limit = 512;
        s.workspace_bytes = 12 * KiB;
        return s;
}

static void table(void **state)
{
        const Sandboxd__V1__SandboxStats s = stats();
        struct table t;
        char *text;
        size_t n;

        (void)state;
        stats_begin(&t);
        stats_add(&t, "a\x1b", &s);
        FILE *out = open_memstream(&text, &n);
        assert_int_equal(table_print(&t, out), 0);
        assert_int_equal(fclose(out), 0);
        assert_string_equal(
                text, "ID    NAME   CPU TIME  MEMORY         CACHE  OOM KILLS  PIDS     WORKSPACE\n"
                      "01jz  a\\x1b  1m 30s    1.5MiB / 2GiB  4KiB   1          5 / 512  12KiB\n");
        free(text);
}

static void json_has_every_field(void **state)
{
        const Sandboxd__V1__SandboxStats s = stats();

        (void)state;
        json_t *json = stats_json(&s);
        char *text = json_dumps(json, JSON_COMPACT);
        assert_string_equal(text, "{\"sandbox_id\":\"01jz\",\"at\":\"\",\"cpu_nanos\":90000000000,"
                                  "\"memory_bytes\":1572864,\"memory_cache_bytes\":4096,"
                                  "\"memory_limit_bytes\":2147483648,\"oom_kills\":1,\"pids\":5,"
                                  "\"pids_limit\":512,\"workspace_bytes\":12288}");
        assert_int_equal(json_object_size(json), sandboxd__v1__sandbox_stats__descriptor.n_fields);
        free(text);
        json_decref(json);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(table),
                cmocka_unit_test(json_has_every_field),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
