/* The file of the configuration and those in conf.d beside it, read and parsed. */
#pragma once

#include <stdbool.h>

#include "base/document.h"
#include "base/err.h"

#define FILES_CONF_D_MAX 256 /* files in conf.d */

struct config_file {
        char *path;
        struct node *document; /* NULL: it holds nothing */
        struct config_file *next;
};

/* The file first, then those of conf.d in byte order of their names: all *.yaml that do not begin
 * with a dot. As nobody names them, and what they say is done as root, the directory and its files
 * must belong to root, or to who runs this, and not be writable by everybody. *ret is NULL when
 * there are none. The caller frees it. */
int files_read(const char *file, bool may_be_absent, struct config_file **ret, struct err *e);
void files_free(struct config_file *first);
