/* Files: whole reads and writes, and opening below a directory that somebody else owns. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/* mkdir with its parents (each with the same mode); an existing directory is fine. */
int io_mkdir_all(const char *path, mode_t mode, struct err *e);

/* Removes a file or a directory with all in it, following no link and crossing no mount; what is
 * not there is fine. For trees that only we write to. */
int io_remove_tree(const char *path, struct err *e);

/* Replaces path by a file with these bytes: temporary file beside it, fsync, rename, fsync of the
 * directory. A reader sees the old file or the new one, also after a power loss. */
int io_write_atomic(const char *path, const void *bytes, size_t n, mode_t mode, struct err *e);

/* fsync of the directory that path lies in: makes a rename last. 0 or a negative errno. */
int io_sync_directory_of(const char *path);

/* Replaces the bytes of a file that is bind-mounted somewhere: the inode stays. */
int io_write_in_place(const char *path, const void *bytes, size_t n, mode_t mode, struct err *e);

/* Another text for such a file, which is there already (-ENOENT): who reads it meanwhile never
 * finds it empty, nor the old text's end behind the new one, but perhaps empty lines. Untouched
 * when it is the same. */
int io_rewrite_text(const char *path, const char *text, struct err *e);

/* The whole file, with a NUL after it that is not counted. -EFBIG above max. The caller frees. */
int io_read_file(const char *path, size_t max, char **ret, size_t *ret_len, struct err *e);

/* openat2(2): never leaves dirfd, follows no symlink, crosses no mount. Returns the descriptor
 * (O_CLOEXEC is added) or a negative errno. */
int io_open_beneath(int dirfd, const char *path, int flags);

/* openat2(2), as a process whose root directory dirfd is would have it: links, "..", all of it
 * stays within; crosses no mount, and follows no magic link. As io_open_beneath else. */
int io_open_in_root(int dirfd, const char *path, int flags);

/* Writes all n bytes, going on after short writes and EINTR. */
int io_write_all(int fd, const void *bytes, size_t n);

/* A file in memory that holds these bytes, sealed, to be read from its start: a program's input.
 * Returns the descriptor (O_CLOEXEC) or a negative errno. */
int io_make_input(const void *bytes, size_t n);

/* A file in memory for what a program prints, of a fixed size, zeroed: no flood goes further. Its
 * position, which all who write share, tells how much there is. Returns as above. */
int io_make_output(size_t size);

bool io_is_dot(const char *name); /* "." or "..", which every directory has */
