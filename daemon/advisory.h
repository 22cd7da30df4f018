/* Known holes in runtimes, by version: the floor below which `doctor` warns. One table, in the
 * source file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A version as programs and packages write it: "1.2.8", "v1.2.0-rc.3", "1.1.5+ds1-1+deb12u1",
 * "release-20240729.0", "0.0~20240729.0" (Debian's runsc, whose number is the date). */
struct version {
        unsigned long part[3];
        unsigned long candidate; /* of a release; ULONG_MAX: it is the release */
};

/* False for what has no number in it. */
bool version_parse(const char *text, struct version *ret);
int version_compare(const struct version *a, const struct version *b); /* as strcmp */

/* What a runtime says to --version. "" for what it does not say. */
struct runtime_version {
        char text[64];    /* "1.1.5+ds1" */
        char package[64]; /* "1.1.5+ds1-1+deb12u1": the commit, where a distribution puts its own */
};
void runtime_version_parse(const char *output, struct runtime_version *ret);

struct advisory {
        const char *type; /* of the runtime */
        const char *ids;  /* "CVE-2024-45310", or what it is about where it has none */
        const char *what; /* may happen */
        /* The first versions without it, rising: one of each branch that was repaired. */
        const char *fixed[4];
        /* How the package begins of a distribution that has repaired it in an older version. */
        const char *backport;
};

/* Those that hold for this version, as far as it tells; at most max of them. Returns how many. */
size_t advisories_find(const char *type, const struct runtime_version *version,
                       const struct advisory **ret, size_t max);

/* Will `--network=sandbox` of a runsc of this version fail on a kernel of this release?
 * https://github.com/google/gvisor/issues/10704 */
bool runsc_netstack_is_broken(const char *version, const char *kernel_release);
