#include "daemon/advisory.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"

/* The sources are the projects' security advisories on GitHub, and Debian's security tracker. Of
 * each type the one that was repaired last comes last: who follows that is rid of all. */
static const struct advisory advisories[] = {
        {
                .type = "runc",
                .ids = "CVE-2024-21626",
                .what = "a process may leave the sandbox by its working directory",
                .fixed = {"1.1.12"},
                .backport = "1.1.5+ds1-1+deb12u",
        },
        {
                .type = "runc",
                .ids = "CVE-2024-45310",
                .what = "empty files may be made on the host",
                .fixed = {"1.1.14", "1.2.0-rc.3"},
        },
        {
                .type = "runc",
                .ids = "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881",
                .what = "races of mounts and symlinks may lead out of the sandbox",
                .fixed = {"1.2.8", "1.3.3", "1.4.0-rc.3"},
        },
        {
                .type = "runsc",
                .ids = "its control socket is an abstract one",
                .what = "any local user may command every sandbox",
                .fixed = {"20230501"},
        },
        {
                .type = "runsc",
                .ids = "CVE-2025-2713",
                .what = "a process may open files that its user may not",
                .fixed = {"20250319"},
        },
};

/* --- versions ------------------------------------------------------------------------------ */

/* "-rc.3", "-rc3", "~rc3": the number of a candidate; anything else belongs to the release. */
static unsigned long parse_candidate(const char *rest)
{
        if (*rest != '-' && *rest != '~')
                return ULONG_MAX;
        if (!str_starts(rest + 1, "rc"))
                return ULONG_MAX;
        rest += strlen("-rc");
        return strtoul(rest + (*rest == '.'), NULL, 10);
}

bool version_parse(const char *text, struct version *ret)
{
        const char *p = text + strcspn(text, "0123456789");
        struct version v = {.candidate = ULONG_MAX};
        char *end;

        if (str_starts(p, "0.0~"))
                p += strlen("0.0~");
        if (!isdigit((unsigned char)*p))
                return false;
        for (size_t i = 0; i < ARRAY_SIZE(v.part) && isdigit((unsigned char)*p); i++) {
                v.part[i] = strtoul(p, &end, 10);
                p = end + (*end == '.' && isdigit((unsigned char)end[1]));
        }
        v.candidate = parse_candidate(p);
        *ret = v;
        return true;
}

static int compare(unsigned long a, unsigned long b)
{
        return (a > b) - (a < b);
}

int version_compare(const struct version *a, const struct version *b)
{
        for (size_t i = 0; i < ARRAY_SIZE(a->part); i++)
                if (a->part[i] != b->part[i])
                        return compare(a->part[i], b->part[i]);
        return compare(a->candidate, b->candidate);
}

/* The word behind a label, which stands at the beginning or after a blank. */
static void find_word(const char *output, const char *label, char *out, size_t size)
{
        const char *found = strstr(output, label);

        out[0] = '\0';
        if (!found)
                return;
        found += strlen(label);
        (void)str_format(out, size, "%.*s", (int)strcspn(found, " \r\n"), found); /* may be cut */
}

/* "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\n..." A commit of the project itself, which
 * is a hash, is no package. */
void runtime_version_parse(const char *output, struct runtime_version *ret)
{
        find_word(output, "version ", ret->text, sizeof(ret->text));
        find_word(output, "commit: ", ret->package, sizeof(ret->package));
        if (!ret->text[0] || !str_starts(ret->package, ret->text))
                ret->package[0] = '\0';
}

/* --- advisories ---------------------------------------------------------------------------- */

static bool is_same_branch(const struct version *a, const struct version *b)
{
        return a->part[0] == b->part[0] && a->part[1] == b->part[1];
}

/* Within a branch that was repaired its own version counts, else the last one. */
static bool is_repaired(const struct advisory *a, const struct version *v)
{
        struct version fixed = {0};

        for (size_t i = 0; i < ARRAY_SIZE(a->fixed) && a->fixed[i]; i++)
                if (version_parse(a->fixed[i], &fixed) && is_same_branch(&fixed, v))
                        break;
        return version_compare(v, &fixed) >= 0;
}

size_t advisories_find(const char *type, const struct runtime_version *version,
                       const struct advisory **ret, size_t max)
{
        struct version v;
        size_t n = 0;

        if (!version_parse(version->text, &v))
                return 0;
        for (size_t i = 0; i < ARRAY_SIZE(advisories) && n < max; i++) {
                const struct advisory *a = &advisories[i];
                if (!str_eq(a->type, type) || is_repaired(a, &v))
                        continue;
                if (!a->backport || !str_starts(version->package, a->backport))
                        ret[n++] = a;
        }
        return n;
}

bool runsc_netstack_is_broken(const char *version, const char *kernel_release)
{
        static const struct version first_good = {.part = {20240807}, .candidate = ULONG_MAX};
        static const struct version first_bad_kernel = {.part = {6, 11}};
        struct version runsc, kernel;

        return version_parse(version, &runsc) && version_parse(kernel_release, &kernel) &&
               version_compare(&runsc, &first_good) < 0 &&
               version_compare(&kernel, &first_bad_kernel) >= 0;
}
