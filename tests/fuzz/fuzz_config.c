/* config/: whatever the sources say, the configuration is refused with a message that names one of
 * them, or it is a good one: what is printed reads back the same, and from the defaults a reload
 * comes to it in one step, but for what needs a restart.
 *
 * input: the file, the file in conf.d, then --set's, with a NUL after each. */
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "config/config.h"
#include "tests/fuzz/fuzz.h"

#define SETS_MAX 8

/* In a directory of its own; printed: what was printed, with no conf.d beside it. */
static char directory[256], file[300], conf_d[300], conf_d_file[300], printed_dir[300],
        printed_file[300];

static void make_directory(void)
{
        const char *tmp = getenv("TMPDIR");

        if (directory[0])
                return;
        EXPECT(str_format(directory, sizeof(directory), "%s/fuzz_config.XXXXXX",
                          tmp ? tmp : "/tmp"));
        EXPECT(mkdtemp(directory));
        EXPECT(str_format(file, sizeof(file), "%s/t.yaml", directory));
        EXPECT(str_format(conf_d, sizeof(conf_d), "%s/conf.d", directory));
        EXPECT(str_format(conf_d_file, sizeof(conf_d_file), "%s/conf.d/a.yaml", directory));
        EXPECT(str_format(printed_dir, sizeof(printed_dir), "%s/printed", directory));
        EXPECT(str_format(printed_file, sizeof(printed_file), "%s/printed/t.yaml", directory));
        EXPECT(mkdir(conf_d, 0755) == 0 && mkdir(printed_dir, 0755) == 0);
}

/* To the next NUL, or the end. */
static struct input take_part(struct input *in)
{
        const uint8_t *end = in->n ? memchr(in->p, '\0', in->n) : NULL;
        struct input part = take_bytes(in, end ? (size_t)(end - in->p) : in->n);

        (void)take_u8(in); /* the NUL */
        return part;
}

static void write_part(const char *path, struct input part)
{
        EXPECT(io_write_in_place(path, part.p, part.n, 0644, NULL) == 0);
}

static bool has_method(const char *method)
{
        return !strstr(method, "None");
}

static void expect_message(const struct err *e)
{
        const char *const origins[] = {file, conf_d_file, "--set"};
        bool is_named = false;

        for (size_t i = 0; i < ARRAY_SIZE(origins); i++)
                is_named |= str_starts(e->msg, origins[i]);
        EXPECT(e->code == STATUS_INVALID_ARGUMENT && is_named);
        EXPECT(!strpbrk(e->msg, "\n\033")); /* what they say is escaped */
}

static void expect_reads_back(const struct config *c)
{
        const struct config_sources printed = {.file = printed_file};
        _cleanup_free_ char *text = config_print(c);
        struct config_changes changes;
        struct config again;

        EXPECT(text);
        EXPECT(io_write_in_place(printed.file, text, strlen(text), 0644, NULL) == 0);
        EXPECT(config_load(&printed, &again, NULL) == 0);
        EXPECT(config_compare(c, &again, &changes, NULL) == 0 && changes.n == 0);
        config_changes_done(&changes);
        _cleanup_free_ char *text_again = config_print(&again);
        EXPECT(text_again && str_eq(text, text_again));
        config_done(&again);
}

static void expect_reloads(const struct config_sources *sources, struct config *c)
{
        const struct config_sources defaults = {0};
        struct config running, again;
        struct config_changes changes;

        EXPECT(config_load(&defaults, &running, NULL) == 0);
        EXPECT(config_load(sources, &again, NULL) == 0);
        EXPECT(config_compare(&running, &again, &changes, NULL) == 0);
        config_take(&running, &again, &changes);
        config_changes_done(&changes);
        EXPECT(config_compare(&running, c, &changes, NULL) == 0);
        for (size_t i = 0; i < changes.n; i++)
                EXPECT(!changes.items[i].reloadable);
        config_changes_done(&changes);
        EXPECT(config_find_runtime(&running, running.runtime));
        config_done(&running);
        config_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = {.p = data, .n = size};
        char *sets[SETS_MAX + 1] = {0};
        const struct config_sources sources = {
                .file = file, .sets = (const char *const *)sets, .has_method = has_method};
        struct config c;
        struct err e;

        make_directory();
        write_part(file, take_part(&in));
        write_part(conf_d_file, take_part(&in));
        for (size_t i = 0; i < SETS_MAX && in.n > 0; i++) {
                struct input part = take_part(&in);
                sets[i] = strndup(part.n ? (const char *)part.p : "", part.n);
                EXPECT(sets[i]);
        }
        if (config_load(&sources, &c, &e) < 0) {
                expect_message(&e);
        } else {
                expect_reads_back(&c);
                expect_reloads(&sources, &c);
                config_done(&c);
        }
        for (size_t i = 0; i < SETS_MAX; i++)
                free(sets[i]);
        return 0;
}
