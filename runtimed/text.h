/* What programs in the sandbox print, made fit for the API's strings: UTF-8 without NUL. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Copies n bytes into fresh memory that ends in NUL, at most max of them (of the copy), never half
 * a character; a byte that belongs to no character, or is NUL, becomes U+FFFD. *ret_omitted (may be
 * NULL): how many of the n bytes are not in it. NULL: there is no memory. The caller frees. */
char *text_of(const void *bytes, size_t n, size_t max, uint64_t *ret_omitted);
