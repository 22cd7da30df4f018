/* Sizes and durations as people write them: "512MiB", "90s", "1h30m". */
#pragma once

#include <stdint.h>

/* A whole number of bytes, with B, KiB, MiB, GiB or TiB behind it, or K, M, G, T for the same
 * powers of 1024; letters of either case; no unit means bytes. -EINVAL for anything else (also
 * "MB", which some take for 10^6), -ERANGE when it does not fit. */
int units_parse_size(const char *s, uint64_t *ret);

/* A whole number with ms, s, m or h behind it, or several of these, the largest first, which add up
 * ("1h30m"); one number without a unit means seconds. As above. */
int units_parse_duration(const char *s, uint64_t *ret_ms);

/* The largest unit that divides it: "512MiB", "1000B". units_parse_size reads it back. */
#define UNITS_TEXT_MAX 32
void units_format_size(uint64_t bytes, char ret[UNITS_TEXT_MAX]);

/* "24h", "1h30m", "90s" as "1m30s", and "1500ms" for what is no whole number of seconds.
 * units_parse_duration reads it back. */
void units_format_duration(uint64_t ms, char ret[UNITS_TEXT_MAX]);
