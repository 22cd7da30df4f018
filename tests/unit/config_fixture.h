/* A directory of its own, which the tests of the configuration are in, so that messages are the
 * same always; and loading from it. */
#pragma once

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "config/config.h"
#include "config/options.h"

#define FILE_NAME "t.yaml"

static char root[PATH_MAX], scratch[] = "/tmp/test_config.XXXXXX"; /* root: of the sources */

static inline void write_file(const char *path, const void *bytes, size_t n)
{
        assert_int_equal(io_write_in_place(path, bytes, n, 0600, NULL), 0);
}

/* The file alone, and what is beside it. */
static inline int load_file(const char *path, struct config *ret, struct err *e)
{
        const struct config_sources sources = {.file = path};

        return config_load(&sources, ret, e);
}

static inline int load_bytes(const void *bytes, size_t n, struct config *ret, struct err *e)
{
        write_file(FILE_NAME, bytes, n);
        return load_file(FILE_NAME, ret, e);
}

static inline int load(const char *yaml, struct config *ret, struct err *e)
{
        return load_bytes(yaml, strlen(yaml), ret, e);
}

static inline void assert_sources_refused(const struct config_sources *sources, const char *message)
{
        struct config c = {.n_runtimes = 99};
        struct err e = {0};

        int r = config_load(sources, &c, &e);
        assert_string_equal(e.msg, message);
        assert_int_equal(r, -EINVAL);
        assert_int_equal(e.code, STATUS_INVALID_ARGUMENT);
        assert_int_equal(c.n_runtimes, 99); /* untouched */
        assert_null(c.runtime);
}

static inline void assert_refused_bytes(const void *bytes, size_t n, const char *message)
{
        const struct config_sources sources = {.file = FILE_NAME};

        write_file(FILE_NAME, bytes, n);
        assert_sources_refused(&sources, message);
}

static inline void assert_refused(const char *yaml, const char *message)
{
        assert_refused_bytes(yaml, strlen(yaml), message);
}

static inline void clear_environment(void)
{
        for (size_t i = 0; i < n_config_options; i++)
                if (config_options[i].env)
                        unsetenv(config_options[i].env);
}

static inline int enter_scratch(void **state)
{
        (void)state;
        clear_environment();
        return getcwd(root, sizeof(root)) && mkdtemp(scratch) ? chdir(scratch) : -1;
}

static inline int leave_scratch(void **state)
{
        (void)state;
        return chdir(root) || io_remove_tree(scratch, NULL);
}

static inline int reset_environment(void **state)
{
        (void)state;
        clear_environment();
        return 0;
}
