/* Runs git on a repository of ours whose files are somebody else's, and waits for it. For the
 * program that makes checkpoints; nothing of it is for the loop. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define GIT_OUTPUT_MAX (256 * 1024 * 1024) /* bytes */

struct git {
        const char *work;  /* the directory whose files they are */
        const char *index; /* path; need not exist */
        char *directory;   /* GIT_DIR */
        char **env;
        bool *warned; /* is set when git says something and does not fail; NULL: nobody asks */
};

/* Makes the repository if it is not there, and sets it right if somebody has changed it.
 * NOT_FOUND: there is no git. */
int git_open(struct git *g, const char *directory, const char *work, const char *index,
             struct err *e);
void git_close(struct git *g); /* idempotent */
/* What was left by a git that was killed; there is one at a time. git_open does it, too. */
void git_remove_locks(const struct git *g);

/* args: behind "git", NULL at the end. input: its standard input; NULL: empty. output: what it
 * prints is appended; NULL: it goes to nowhere. UNKNOWN: it fails; the message has git's own. */
int git_run(const struct git *g, const char *const *args, const struct buf *input,
            struct buf *output, struct err *e);
#define GIT_ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* For another index, of another directory. Its strings are the caller's; it is not closed. */
int git_with(const struct git *g, const char *work, const char *index, struct git *ret,
             struct err *e);
void git_without(struct git *g);
