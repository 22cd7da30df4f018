/* manifest/: whatever the bytes are, each problem has a place in them and a text that drives no
 * terminal, and what is taken is sound; a second reading says the same. */
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "manifest/manifest.h"
#include "tests/fuzz/fuzz.h"

static unsigned lines_of(const uint8_t *bytes, size_t n)
{
        unsigned lines = 1;

        for (size_t i = 0; i < n; i++)
                lines += bytes[i] == '\n' || bytes[i] == '\r' || bytes[i] == 0x85 ||
                         bytes[i] == 0xA8 ||
                         bytes[i] == 0xA9; /* the last three: of YAML's other ends of lines */
        return lines;
}

static void expect_problems(const struct manifest *m, unsigned lines)
{
        EXPECT(m->n_problems <= MANIFEST_PROBLEMS_MAX);
        for (size_t i = 0; i < m->n_problems; i++) {
                const struct manifest_problem *p = &m->problems[i];
                EXPECT(p->line <= lines + 1 && (p->line > 0) == (p->column > 0));
                EXPECT(*p->text && str_is_utf8(p->text, strlen(p->text)));
                EXPECT(!strpbrk(p->text, "\n\r\033"));
        }
}

static void expect_command(char *const *argv)
{
        EXPECT(argv && argv[0] && *argv[0]);
        EXPECT(strv_len((const char *const *)argv) <= MANIFEST_ARGS_MAX);
}

static void expect_sound(const struct manifest *m)
{
        if (m->has_web) {
                expect_command(m->web.argv);
                EXPECT(m->web_port > 0);
                EXPECT(!m->web_health_path || *m->web_health_path == '/');
        }
        EXPECT(m->n_workers <= MANIFEST_WORKERS_MAX);
        for (size_t i = 0; i < m->n_workers; i++) {
                size_t n = strlen(m->workers[i].name);
                expect_command(m->workers[i].argv);
                EXPECT(n > 0 && n <= MANIFEST_NAME_MAX);
                for (size_t k = 0; k < i; k++)
                        EXPECT(!str_eq(m->workers[i].name, m->workers[k].name));
        }
        if (m->build)
                expect_command(m->build);
        EXPECT(m->build_seconds > 0);
}

static void expect_same(const struct manifest *a, const struct manifest *b)
{
        EXPECT(a->has_web == b->has_web && a->n_workers == b->n_workers);
        EXPECT(a->n_problems == b->n_problems);
        for (size_t i = 0; i < a->n_problems; i++)
                EXPECT(str_eq(a->problems[i].text, b->problems[i].text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *bytes = size ? (const char *)data : "";
        struct manifest m, again;

        EXPECT(manifest_read(bytes, size, &m) == 0);
        EXPECT(manifest_read(bytes, size, &again) == 0);
        expect_problems(&m, lines_of(data, size));
        expect_sound(&m);
        expect_same(&m, &again);
        manifest_done(&m);
        manifest_done(&again);
        return 0;
}
