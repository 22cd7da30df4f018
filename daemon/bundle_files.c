#include "daemon/bundle_files.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"

char *bundle_path(const char *state_dir, const char *id, const char *file)
{
        return str_printf("%s/bundles/%s%s%s", state_dir, id, file ? "/" : "", file ? file : "");
}

int bundle_check_engine(const char *state_dir, const char *id, const char *engine, struct err *e)
{
        bool oci = str_eq(engine, "oci");
        _cleanup_free_ char *path = bundle_path(state_dir, id, oci ? BUNDLE_DOCKER : BUNDLE_OCI);

        if (!path)
                return err_oom(e);
        if (access(path, F_OK) < 0)
                return 0;
        return err_set(e, STATUS_FAILED_PRECONDITION,
                       "sandbox %s was made by engine %s; set that again to delete it", id,
                       oci ? "docker" : "oci");
}

int bundle_set_resolv_conf(const char *state_dir, const char *id, const char *text, struct err *e)
{
        _cleanup_free_ char *path = bundle_path(state_dir, id, BUNDLE_RESOLV_CONF);

        return path ? io_rewrite_text(path, text, e) : err_oom(e);
}

char *bundle_read(const char *state_dir, const char *id, const char *file)
{
        _cleanup_free_ char *path = bundle_path(state_dir, id, file);
        _cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        _cleanup_free_ char *text = fd >= 0 ? malloc(BUNDLE_FILE_MAX + 1) : NULL;
        ssize_t n = text ? pread(fd, text, BUNDLE_FILE_MAX, 0) : -1;

        if (n <= 0)
                return NULL;
        text[n] = '\0';
        return TAKE(text);
}
