/* FNV-1a, a hash for telling things apart, of no use against an adversary:
 * http://www.isthe.com/chongo/tech/comp/fnv/ */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FNV1A_START UINT64_C(0xcbf29ce484222325)

/* sum: FNV1A_START, or of what came before. Two inputs of one length that differ in one byte never
 * have the same sum, as each step is a bijection. */
static inline uint64_t fnv1a(uint64_t sum, const void *bytes, size_t n)
{
        const uint8_t *byte = bytes;

        for (size_t i = 0; i < n; i++)
                sum = (sum ^ byte[i]) * UINT64_C(0x100000001b3);
        return sum;
}
