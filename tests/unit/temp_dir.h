/* A directory for one unit test. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"
#include "base/str.h"

struct temp_dir {
        char path[64];
};

static inline void temp_dir_make(struct temp_dir *t)
{
        assert_true(str_format(t->path, sizeof(t->path), "/tmp/sandboxd-test.XXXXXX"));
        assert_non_null(mkdtemp(t->path));
}

static inline void temp_dir_remove(struct temp_dir *t)
{
        assert_int_equal(io_remove_tree(t->path, NULL), 0);
}

/* The path of a file in it; in one of eight static buffers. */
static inline const char *temp_dir_file(const struct temp_dir *t, const char *name)
{
        static char paths[8][256];
        static unsigned next;
        char *path = paths[next++ % 8];

        assert_true(str_format(path, sizeof(paths[0]), "%s/%s", t->path, name));
        return path;
}
