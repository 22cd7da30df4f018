#include "daemon/image_source.h"

#include <ctype.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/image.h"
#include "daemon/image_store.h"

static const struct {
        const char *prefix;
        bool skopeo;
} kinds[] = {
        [IMAGE_SOURCE_REGISTRY] = {"docker://", true},
        [IMAGE_SOURCE_OCI] = {"oci:", true},
        [IMAGE_SOURCE_OCI_ARCHIVE] = {"oci-archive:", true},
        [IMAGE_SOURCE_DOCKER_ARCHIVE] = {"docker-archive:", true},
        [IMAGE_SOURCE_DIRECTORY] = {"dir:", false},
        [IMAGE_SOURCE_TAR] = {"tar:", false},
        [IMAGE_SOURCE_FOUND] = {"", false},
};

bool image_source_is_skopeos(enum image_source_kind kind)
{
        return kinds[kind].skopeo;
}

char *image_source_text(const struct image_source *s)
{
        return str_printf("%s%s%s%s", kinds[s->kind].prefix, s->path,
                          s->path[0] && s->rest[0] ? ":" : "", s->rest);
}

/* A reference is [HOST[:PORT]/]NAME[:TAG] or NAME@DIGEST; skopeo knows the details. */
static bool is_reference(const char *s)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                      "0123456789";
        char all[sizeof(letters) + 8];

        /* Behind the '@' is a digest; before it there is no password, which skopeo would refuse in
         * words that hold it. */
        const char *at = strchr(s, '@');
        (void)str_format(all, sizeof(all), "%s._-+/:", letters); /* it fits */
        return *s && strchr(letters, *s) && s + strspn(s, all) == (at ? at : s + strlen(s)) &&
               (!at || (str_starts(at, "@sha256:") && image_is_sha256(at + strlen("@sha256:"))));
}

static int wrong(const char *text, struct err *e)
{
        char shown[256];

        return err_set(e, STATUS_INVALID_ARGUMENT,
                       "source '%s': expected docker://REFERENCE, oci:PATH[:TAG], "
                       "oci-archive:PATH[:TAG], docker-archive:PATH[:REFERENCE], dir:PATH, "
                       "tar:PATH or a PATH; paths are absolute and have no '..'",
                       str_escape(shown, sizeof(shown), text, strnlen(text, 60)));
}

/* The path, and behind its colon what only skopeo's have. */
static int take_path(const char *text, const char *rest, struct image_source *s, struct err *e)
{
        const char *colon = kinds[s->kind].skopeo ? strchr(rest, ':') : NULL;
        size_t n = colon ? (size_t)(colon - rest) : strlen(rest);

        if (rest[0] != '/' ||
            !str_format(s->path, sizeof(s->path), "%.*s", (int)MIN(n, PATH_MAX), rest) ||
            image_path_has_dotdot(s->path))
                return wrong(text, e);
        if (colon &&
            (!is_reference(colon + 1) || !str_format(s->rest, sizeof(s->rest), "%s", colon + 1)))
                return wrong(text, e);
        return 0;
}

int image_source_parse(const char *text, struct image_source *ret, struct err *e)
{
        struct image_source s = {.kind = IMAGE_SOURCE_REGISTRY};

        while (!str_starts(text, kinds[s.kind].prefix)) /* the last of them is empty */
                s.kind++;
        const char *rest = text + strlen(kinds[s.kind].prefix);
        if (s.kind == IMAGE_SOURCE_REGISTRY) {
                if (!is_reference(rest) || !str_format(s.rest, sizeof(s.rest), "%s", rest))
                        return wrong(text, e);
        } else {
                int r = take_path(text, rest, &s, e);
                if (r < 0)
                        return r;
        }
        *ret = s;
        return 0;
}

/* --- registries ---------------------------------------------------------------------------- */

#define HUB "docker.io"

/* Docker and skopeo take what stands before the first slash for a host when it looks like one
 * (distribution/reference, normalize.go). */
static bool names_host(const char *reference, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (isupper((unsigned char)reference[i]) || strchr(".:", reference[i]))
                        return true;
        return str_is("localhost", reference, n);
}

/* HOST/NAME without tag and digest, as in docker.io/library/debian. false: it is too long. */
static bool full_name(const char *reference, char *out, size_t size)
{
        size_t n = strcspn(reference, "/");
        bool has_host = reference[n] == '/' && names_host(reference, n);
        const char *name = has_host ? reference + n + 1 : reference;
        size_t length = strcspn(name, "@");
        char host[256] = HUB;

        if (has_host && !str_format(host, sizeof(host), "%.*s", (int)n, reference))
                return false;
        for (char *c = host; *c; c++)
                *c = (char)tolower((unsigned char)*c);
        if (str_eq(host, "index." HUB))
                (void)str_format(host, sizeof(host), HUB); /* it fits */
        for (size_t i = length; i > 0 && name[i - 1] != '/'; i--)
                if (name[i - 1] == ':')
                        length = i - 1;
        bool is_official = str_eq(host, HUB) && !memchr(name, '/', length);
        return str_format(out, size, "%s/%s%.*s", host, is_official ? "library/" : "", (int)length,
                          name);
}

int image_source_check_registry(const char *reference, char *const *registries, struct err *e)
{
        char name[1024] = "";
        bool is_good = full_name(reference, name, sizeof(name)) && !strstr(name, "..");

        if (!registries || !*registries)
                return 0;
        for (; is_good && *registries; registries++) {
                size_t n = strlen(*registries);
                if (str_starts(name, *registries) && (!name[n] || name[n] == '/'))
                        return 0;
        }
        return err_set(e, STATUS_PERMISSION_DENIED,
                       "image '%s' is %s, which images.registries does not let be fetched; add it "
                       "there, or bring it onto the host by hand",
                       reference, name);
}
