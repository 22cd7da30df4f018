#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

bool str_eq(const char *a, const char *b)
{
        return a == b || (a && b && strcmp(a, b) == 0);
}

bool str_is(const char *s, const char *bytes, size_t n)
{
        return strlen(s) == n && memcmp(s, bytes, n) == 0;
}

bool str_starts(const char *s, const char *prefix)
{
        return strncmp(s, prefix, strlen(prefix)) == 0;
}

static char *vprintf_new(const char *fmt, va_list ap)
{
        char *s = NULL;
        return vasprintf(&s, fmt, ap) < 0 ? NULL : s;
}

char *str_printf(const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        char *s = vprintf_new(fmt, ap);
        va_end(ap);
        return s;
}

bool str_format(char *buf, size_t size, const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(buf, size, fmt, ap);
        va_end(ap);
        return n >= 0 && (size_t)n < size;
}

bool str_to_u64(const char *s, uint64_t max, uint64_t *ret)
{
        uint64_t v = 0;

        if (!*s)
                return false;
        for (; *s; s++) {
                if (*s < '0' || *s > '9')
                        return false;
                uint64_t digit = (uint64_t)(*s - '0');
                if (v > (max - MIN(digit, max)) / 10 || v * 10 + digit > max)
                        return false;
                v = v * 10 + digit;
        }
        *ret = v;
        return true;
}

/* The length of the UTF-8 sequence at p, or 0: no overlong forms, surrogates, or values above
 * U+10FFFF (RFC 3629, section 4). */
static size_t utf8_sequence(const unsigned char *p, size_t n)
{
        unsigned char c = p[0], low = 0x80, high = 0xBF;
        size_t len;

        if (c < 0x80)
                return 1;
        if (c >= 0xC2 && c <= 0xDF) {
                len = 2;
        } else if (c >= 0xE0 && c <= 0xEF) {
                len = 3;
                low = c == 0xE0 ? 0xA0 : 0x80;
                high = c == 0xED ? 0x9F : 0xBF;
        } else if (c >= 0xF0 && c <= 0xF4) {
                len = 4;
                low = c == 0xF0 ? 0x90 : 0x80;
                high = c == 0xF4 ? 0x8F : 0xBF;
        } else {
                return 0;
        }
        if (n < len || p[1] < low || p[1] > high)
                return 0;
        for (size_t i = 2; i < len; i++)
                if ((p[i] & 0xC0) != 0x80)
                        return 0;
        return len;
}

bool str_is_utf8(const void *bytes, size_t n)
{
        const unsigned char *p = bytes;

        for (size_t i = 0; i < n;) {
                size_t len = p[i] ? utf8_sequence(p + i, n - i) : 0;
                if (!len)
                        return false;
                i += len;
        }
        return true;
}

void str_make_utf8(char *bytes, size_t n)
{
        unsigned char *p = (unsigned char *)bytes;

        for (size_t i = 0; i < n;) {
                size_t len = p[i] ? utf8_sequence(p + i, n - i) : 0;
                if (!len)
                        p[i] = '?';
                i += len ? len : 1;
        }
}

/* Of the sequence at p (len 0: malformed): does it steer a terminal instead of showing? C0, C1 (C2
 * 80 to C2 9F), and what hides or reorders text: U+200B..F, U+2028..E, U+2066..9 ("Trojan Source",
 * CVE-2021-42574). */
static bool is_control(const unsigned char *p, size_t len)
{
        if (len <= 1)
                return len == 0 || p[0] < 0x20 || p[0] == 0x7F;
        if (len == 2)
                return p[0] == 0xC2 && p[1] < 0xA0;
        if (len != 3 || p[0] != 0xE2)
                return false;
        return (p[1] == 0x80 && p[2] >= 0x8B && p[2] <= 0x8F) ||
               (p[1] == 0x80 && p[2] >= 0xA8 && p[2] <= 0xAE) ||
               (p[1] == 0x81 && p[2] >= 0xA6 && p[2] <= 0xA9);
}

char *str_escape(char *out, size_t size, const char *s, size_t n)
{
        static const char hex[] = "0123456789abcdef";
        const unsigned char *p = (const unsigned char *)s;
        size_t o = 0;

        for (size_t i = 0; i < n;) {
                size_t len = utf8_sequence(p + i, n - i);
                if (!is_control(p + i, len)) {
                        if (o + len >= size)
                                break;
                        memcpy(out + o, p + i, len);
                        o += len;
                        i += len;
                        continue;
                }
                if (o + 4 >= size)
                        break;
                out[o++] = '\\';
                out[o++] = 'x';
                out[o++] = hex[p[i] >> 4];
                out[o++] = hex[p[i] & 15];
                i++;
        }
        out[o] = '\0';
        return out;
}

const char *str_last_line(char *s)
{
        size_t n = strlen(s);

        while (n > 0 && (s[n - 1] == '\n' || s[n - 1] == ' '))
                s[--n] = '\0';
        char *newline = strrchr(s, '\n');
        return newline ? newline + 1 : s;
}

char **strv_copy(const char *const *v, size_t n)
{
        struct strv_builder b = {0};

        for (size_t i = 0; i < n; i++)
                strv_add(&b, v[i]);
        return strv_take(&b);
}

void strv_free(char **v)
{
        if (!v)
                return;
        for (char **p = v; *p; p++)
                free(*p);
        free(v);
}

size_t strv_len(const char *const *v)
{
        size_t n = 0;
        while (v && v[n])
                n++;
        return n;
}

void cleanup_strv(char ***v)
{
        strv_free(*v);
}

/* Owns s; NULL counts as a failed allocation. */
static void builder_push(struct strv_builder *b, char *s)
{
        if (s && !b->failed && b->n + 1 >= b->allocated) {
                size_t allocated = b->allocated ? b->allocated * 2 : 8;
                char **v = realloc(b->v, allocated * sizeof(*v));
                if (v) {
                        b->v = v;
                        b->allocated = allocated;
                }
        }
        if (!s || b->failed || b->n + 1 >= b->allocated) {
                b->failed = true;
                free(s);
                return;
        }
        b->v[b->n++] = s;
        b->v[b->n] = NULL;
}

void strv_add(struct strv_builder *b, const char *s)
{
        builder_push(b, strdup(s));
}

void strv_addf(struct strv_builder *b, const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        builder_push(b, vprintf_new(fmt, ap));
        va_end(ap);
}

char **strv_take(struct strv_builder *b)
{
        char **v = b->v;

        if (!b->failed && !v)
                v = calloc(1, sizeof(*v));
        if (b->failed) {
                strv_free(v);
                v = NULL;
        }
        *b = (struct strv_builder){0};
        return v;
}
