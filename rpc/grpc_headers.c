#include "rpc/grpc_headers.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "google/rpc/status.pb-c.h"

#define FIELD_OVERHEAD 32 /* RFC 9113, section 6.5.2 */

enum pseudo { METHOD = 1, SCHEME = 2, PATH = 4, AUTHORITY = 8 };

nghttp2_nv grpc_header(const char *name, const char *value)
{
        return (nghttp2_nv){
                .name = (uint8_t *)name,
                .namelen = strlen(name),
                .value = (uint8_t *)value,
                .valuelen = strlen(value),
        };
}

/* --- requests ------------------------------------------------------------------------------ */

static bool is_grpc_content_type(const char *value)
{
        static const char prefix[] = "application/grpc";

        if (!str_starts(value, prefix))
                return false;
        char next = value[strlen(prefix)];
        return next == '\0' || next == '+' || next == ';';
}

/* grpc-timeout: 1 to 8 digits and a unit; 0 where it is anything else, which means none. */
static uint64_t parse_timeout(const char *value)
{
        static const struct {
                char unit;
                uint64_t ns;
        } units[] = {{'H', 3600 * NSEC_PER_SEC},
                     {'M', 60 * NSEC_PER_SEC},
                     {'S', NSEC_PER_SEC},
                     {'m', NSEC_PER_MSEC},
                     {'u', 1000},
                     {'n', 1}};
        char digits[9];
        uint64_t v;
        size_t n = strlen(value);

        if (n < 2 || n > sizeof(digits))
                return 0;
        memcpy(digits, value, n - 1);
        digits[n - 1] = '\0';
        if (!str_to_u64(digits, 99999999, &v))
                return 0;
        for (size_t i = 0; i < ARRAY_SIZE(units); i++) /* at most 3.6e20 for hours: cap it */
                if (units[i].unit == value[n - 1])
                        return v > UINT64_MAX / units[i].ns ? UINT64_MAX : MAX(v * units[i].ns, 1);
        return 0;
}

/* A field as nghttp2 gives it: both end in NUL. */
struct field {
        const char *name, *value;
        size_t n_name, n_value;
};

/* Comparing the length first: there are a dozen names to tell apart for every call. */
#define IS(f, literal) \
        ((f)->n_name == sizeof(literal) - 1 && memcmp((f)->name, literal, sizeof(literal) - 1) == 0)

/* Pseudo-header fields come first, each at most once, and there are no others. */
static void add_pseudo(struct grpc_headers *h, const struct field *f)
{
        unsigned which = IS(f, ":method")      ? METHOD
                         : IS(f, ":scheme")    ? SCHEME
                         : IS(f, ":path")      ? PATH
                         : IS(f, ":authority") ? AUTHORITY
                                               : 0;

        if (!which || h->pseudo & which || h->regular)
                h->malformed = true;
        h->pseudo |= which;
        if (which == METHOD)
                h->is_post = str_eq(f->value, "POST");
        if (which == PATH && f->n_value == 0)
                h->malformed = true;
        if (which == PATH && f->n_value < sizeof(h->path))
                memcpy(h->path, f->value, f->n_value + 1);
}

/* RFC 9113, section 8.2.2: they speak of a connection of HTTP/1. */
static bool is_connection_specific(const struct field *f)
{
        return IS(f, "connection") || IS(f, "proxy-connection") || IS(f, "keep-alive") ||
               IS(f, "transfer-encoding") || IS(f, "upgrade");
}

static void add_content_length(struct grpc_headers *h, const char *value)
{
        uint64_t length;

        if (h->has_content_length || !str_to_u64(value, INT64_MAX, &length))
                h->malformed = true;
        else
                h->content_length = (int64_t)length;
        h->has_content_length = true;
}

/* True for a field of the protocol's own, which no user wrote. */
static bool add_protocols_own(struct grpc_headers *h, const struct field *f)
{
        if (IS(f, "te"))
                h->malformed |= !str_eq(f->value, "trailers");
        else if (IS(f, "content-type"))
                h->is_grpc = is_grpc_content_type(f->value);
        else if (IS(f, "grpc-timeout"))
                h->timeout_ns = parse_timeout(f->value);
        else if (IS(f, "grpc-encoding"))
                h->compressed = !str_eq(f->value, "identity");
        else if (IS(f, "content-length"))
                add_content_length(h, f->value);
        else
                return IS(f, "user-agent") || IS(f, "accept-encoding") || IS(f, "host") ||
                       str_starts(f->name, "grpc-");
        return true;
}

void grpc_headers_add(struct grpc_headers *h, struct rpc_metadata *metadata, size_t max,
                      const uint8_t *name, size_t n_name, const uint8_t *value, size_t n_value)
{
        const struct field f = {(const char *)name, (const char *)value, n_name, n_value};

        h->size += n_name + n_value + FIELD_OVERHEAD;
        if (h->size > max)
                return; /* it will be refused; HPACK makes 4 KiB of each further byte */
        if (!nghttp2_check_header_name(name, n_name) ||
            !nghttp2_check_header_value(value, n_value)) {
                h->malformed = true;
                return;
        }
        if (*name == ':') {
                add_pseudo(h, &f);
                return;
        }
        h->regular = true;
        h->malformed |= is_connection_specific(&f);
        if (add_protocols_own(h, &f) || h->malformed)
                return;
        if (rpc_metadata_add(metadata, f.name, n_name, f.value, n_value, max) < 0)
                h->metadata_is_bad = true;
}

bool grpc_headers_are_complete(const struct grpc_headers *h)
{
        const unsigned needed = METHOD | SCHEME | PATH; /* some clients send no :authority */

        return !h->malformed && (h->pseudo & needed) == needed;
}

bool grpc_trailer_is_valid(const uint8_t *name, size_t n_name)
{
        return n_name > 0 && *name != ':' && nghttp2_check_header_name(name, n_name);
}

/* --- trailers ------------------------------------------------------------------------------ */

/* Percent-encoding of grpc-message: everything outside 0x20 to 0x7E, and '%'. */
static void encode_message(char *out, size_t size, const char *s)
{
        static const char hex[] = "0123456789ABCDEF";
        size_t o = 0;

        for (; *s && o + 4 <= size; s++) {
                unsigned char c = (unsigned char)*s;
                if (c >= 0x20 && c <= 0x7E && c != '%') {
                        out[o++] = (char)c;
                } else {
                        out[o++] = '%';
                        out[o++] = hex[c >> 4];
                        out[o++] = hex[c & 15];
                }
        }
        out[o] = '\0';
}

/* Without padding, as gRPC prefers it. */
static void encode_base64(char *out, const uint8_t *in, size_t n)
{
        static const char digits[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

        for (size_t i = 0; i < n; i += 3) {
                uint32_t v = (uint32_t)in[i] << 16 | (i + 1 < n ? (uint32_t)in[i + 1] << 8 : 0) |
                             (i + 2 < n ? in[i + 2] : 0);
                size_t k = MIN(n - i, 3) + 1;
                for (size_t d = 0; d < k; d++)
                        *out++ = digits[v >> (18 - 6 * d) & 63];
        }
        *out = '\0';
}

/* grpc-status-details-bin is a whole google.rpc.Status: its other fields, then the details. */
static char *make_details(const struct err *e, const uint8_t *details, size_t n_details)
{
        Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;

        status.code = (int32_t)e->code;
        status.message = (char *)e->msg;
        size_t n = google__rpc__status__get_packed_size(&status);
        _cleanup_free_ uint8_t *bytes = malloc(n + n_details);
        char *text = malloc((n + n_details + 2) / 3 * 4 + 1);
        if (bytes && text) {
                (void)google__rpc__status__pack(&status, bytes); /* returns n again */
                memcpy(bytes + n, details, n_details);
                encode_base64(text, bytes, n + n_details);
        } else {
                free(text);
                text = NULL;
        }
        return text;
}

void grpc_trailers_add(struct grpc_trailers *t, const struct err *e, const uint8_t *details,
                       size_t n_details)
{
        (void)str_format(t->status, sizeof(t->status), "%d", (int)e->code); /* it fits */
        t->nv[t->n++] = grpc_header("grpc-status", t->status);
        if (e->msg[0]) {
                encode_message(t->message, sizeof(t->message), e->msg);
                t->nv[t->n++] = grpc_header("grpc-message", t->message);
        }
        t->details = n_details ? make_details(e, details, n_details) : NULL;
        if (t->details)
                t->nv[t->n++] = grpc_header("grpc-status-details-bin", t->details);
}

void grpc_trailers_done(struct grpc_trailers *t)
{
        free(t->details);
}
