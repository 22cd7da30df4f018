/* sandbox.yaml: what an app says of the programs that it is made of. docs/sandbox-manifest.md is
 * for those who write one.
 *
 * One reader for two attitudes. Whoever checks a file looks at its problems; whoever runs it takes
 * what can be had: an entry that lacks something is left out, a wrong value that has a default gets
 * that, and what stands behind an error of YAML is not read. Either is told of every problem. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MANIFEST_FILE        "sandbox.yaml"
#define MANIFEST_SIZE_MAX    (64 * 1024) /* bytes */
#define MANIFEST_WORKERS_MAX 32
#define MANIFEST_NAME_MAX    32 /* of a worker: lower case letters, digits and "-", "_" inside */
#define MANIFEST_ARGS_MAX    256
/* The first ones; the last of them says so when there are more. */
#define MANIFEST_PROBLEMS_MAX  32
#define MANIFEST_BUILD_SECONDS 600 /* when it does not say */

struct manifest_problem {
        unsigned line, column; /* from 1; columns count characters; 0: of the file as a whole */
        char *text;            /* "web.port: expected ..., found ..."; what was found is escaped */
};

struct manifest_program {
        char *name;  /* of a worker; of the web NULL */
        char **argv; /* a command that is text: /bin/sh -c TEXT */
        bool restart_after_task;
};

struct manifest {
        bool has_web;
        struct manifest_program web;
        uint16_t web_port;
        char *web_health_path; /* NULL: any answer will do */

        struct manifest_program *workers; /* no name twice */
        size_t n_workers;

        char **build; /* argv; NULL: none */
        unsigned build_seconds;

        struct manifest_problem *problems; /* by their places */
        size_t n_problems;
};

/* bytes need not be text. Without memory -ENOMEM, and *ret holds nothing to free; else 0, whatever
 * the file says. */
int manifest_read(const char *bytes, size_t n, struct manifest *ret);
/* The same of a file; one that is no file, too large or cannot be read is a problem, too. 0;
 * -ENOMEM; -ENOENT: it is not there. Does not wait for what is no regular file. */
int manifest_read_file(const char *path, struct manifest *ret);
void manifest_done(struct manifest *m); /* idempotent */
