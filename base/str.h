/* Strings and lists of strings. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool str_eq(const char *a, const char *b); /* two NULLs are equal */
/* s, which ends in NUL, against n bytes that may hold NULs. */
bool str_is(const char *s, const char *bytes, size_t n);
bool str_starts(const char *s, const char *prefix);

/* printf into fresh memory; NULL when there is none. The caller frees. */
char *str_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* printf into a fixed buffer; false when it did not fit (the buffer then holds the start). */
bool str_format(char *buf, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* A whole string as a decimal number; false for anything else, and above max. */
bool str_to_u64(const char *s, uint64_t max, uint64_t *ret);

/* True when the n bytes are UTF-8 (RFC 3629) without NUL. */
bool str_is_utf8(const void *bytes, size_t n);

/* Makes the n bytes so, in place: each that is part of no letter becomes '?'. */
void str_make_utf8(char *bytes, size_t n);

/* Copies n bytes of s to out, with everything outside printable ASCII and UTF-8 letters escaped as
 * \xNN: what a sandbox supplied must not reach a terminal or a log raw. Always ends in NUL; cut
 * when out is full. Returns out. */
char *str_escape(char *out, size_t size, const char *s, size_t n);

/* The last line of s that is not empty; s loses its trailing newlines and blanks. */
const char *str_last_line(char *s);

/* A list of strings, NULL at its end, as argv and environ are. Free of zero length: NULL. */
char **strv_copy(const char *const *v, size_t n); /* n strings; NULL when out of memory */
void strv_free(char **v);
size_t strv_len(const char *const *v);
void cleanup_strv(char ***v);
#define _cleanup_strv_ _cleanup_(cleanup_strv)

/* A list under construction, with its bound. */
struct strv_builder {
        char **v;
        size_t n, allocated;
        bool failed; /* an earlier add found no memory; sticks */
};
void strv_add(struct strv_builder *b, const char *s); /* copies */
void strv_addf(struct strv_builder *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char **strv_take(struct strv_builder *b); /* the caller frees; NULL when an add had failed */
