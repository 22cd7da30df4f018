/* An app of a directory of its own, and a loop to run it on; times are short. */
#pragma once

#include "tests/unit/process_fixture.h"

#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/str.h"
#include "runtimed/app_private.h"

static struct supervised_policy quick = {
        .delay_min = 20,
        .delay_max = 60,
        .soon = 1500,
        .failures_max = 3,
        .grace = 300,
};
#define SOON_EMULATED 4000 /* a shell takes a second to start there */
static const struct health_policy quick_health = {
        .early = 10,
        .often = 30,
        .seldom = 60,
        .early_for = 100,
        .starting_for = 1500,
        .timeout = 200,
        .failures_max = 2,
};

struct app_fixture {
        struct fixture *f;
        char directory[64], file[96];
        struct app *app;
};

static inline int app_setup(void **state)
{
        struct app_fixture *a = calloc(1, sizeof(*a));
        struct err e;

        assert_non_null(a);
        if (is_emulated())
                quick.soon = SOON_EMULATED;
        assert_int_equal(setup((void **)&a->f), 0);
        assert_true(str_format(a->directory, sizeof(a->directory), "%s/app", a->f->directory));
        assert_true(str_format(a->file, sizeof(a->file), "%s/sandbox.yaml", a->directory));
        assert_int_equal(mkdir(a->directory, 0755), 0);
        assert_int_equal(
                app_new_with(&a->f->table, a->directory, &quick, &quick_health, &a->app, &e), 0);
        *state = a;
        return 0;
}

static inline int app_teardown(void **state)
{
        struct app_fixture *a = *state;

        app_stop(a->app);
        app_close(a->app);
        while (has_children() || a->f->table.n > 0) { /* emulated, one may have no group yet */
                process_table_kill(&a->f->table, SIGKILL);
                run_for(a->f, 10);
        }
        assert_int_equal(io_remove_tree(a->directory, NULL), 0);
        struct app *app = a->app;
        void *f = a->f;
        free(a);
        teardown(&f);
        app_free(app);
        return 0;
}

/* Replaces sandbox.yaml, by rename. */
static inline void write_manifest(struct app_fixture *a, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));

static inline void write_manifest(struct app_fixture *a, const char *fmt, ...)
{
        char text[4096];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        assert_int_equal(io_write_atomic(a->file, text, strlen(text), 0644, NULL), 0);
}

/* A turn that waits for events would not see what its timers had done before. */
#define APP_UNTIL(a, condition)             \
        do {                                \
                while (!(condition))        \
                        run_for((a)->f, 1); \
        } while (0)

static inline const struct supervised *program(const struct app_fixture *a, const char *name)
{
        const struct app_program *p;

        TAILQ_FOREACH (p, &a->app->programs, entry)
                if (str_eq(p->name, name) && p->is_named)
                        return p->supervised;
        return NULL;
}

static inline bool is_in(const struct app_fixture *a, const char *name, enum supervised_state state)
{
        const struct supervised *s = program(a, name);

        return s && supervised_state(s) == state;
}

/* What a file in the app's directory holds; "": it is not there. In a static buffer. */
static inline const char *content(const struct app_fixture *a, const char *name)
{
        static char text[4096];
        char path[160];
        _cleanup_free_ char *bytes = NULL;

        assert_true(str_format(path, sizeof(path), "%s/%s", a->directory, name));
        if (io_read_file(path, sizeof(text) - 1, &bytes, NULL, NULL) < 0)
                return "";
        (void)str_format(text, sizeof(text), "%s", bytes);
        return text;
}
