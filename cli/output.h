/* What a person or a script gets to see.
 *
 * Text from a daemon or a sandbox may hold what drives a terminal: tables and complaints escape it
 * (str_escape), JSON is printed in ASCII. Only write_output passes bytes through. */
#pragma once

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "base/str.h"
#include "google/protobuf/timestamp.pb-c.h"

/* "sandboxctl: <text>" on standard error, also while the terminal is raw. */
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Aligned columns. The cells come row by row; empty ones show as "-". */
#define TABLE_COLUMNS_MAX 8
struct table {
        size_t columns;
        struct strv_builder cells;
};
void table_add(struct table *t, const char *cell);
/* As many as it has columns. */
void table_add_row(struct table *t, const char *const *cells);
/* "key:" and a value, for a table of two columns; no row at all for an empty value. */
void table_add_field(struct table *t, const char *key, const char *value);
/* Prints and empties the table. 0 or -ENOMEM. */
int table_print(struct table *t, FILE *out);

/* Prints the value, indented, and drops the reference. 0, or -ENOMEM, also for NULL: what jansson
 * returns when it could not make the value. */
int print_json(json_t *json, FILE *out);
/* The same as one line, for the caller to free; NULL where print_json says -ENOMEM. */
char *json_line(json_t *json);
/* The same on one line, at once (write_output), for streams of values. */
int write_json_line(json_t *json, int fd);

/* The array with one more item, both taken over. NULL when one of them is, or there is no memory:
 * then nothing is left of them, and only who uses the array at the end has to look. */
json_t *json_append(json_t *array, json_t *item);
/* Bytes in base 64 (RFC 4648, padded); NULL when there is no memory. */
json_t *json_base64(const uint8_t *bytes, size_t n);

#define TIME_TEXT_MAX 64
/* "3 minutes ago"; "just now" for less than a second, and for times to come. */
void format_ago(int64_t seconds, char ret[TIME_TEXT_MAX]);
/* "in 3 minutes"; "now" for less than a second, and for times past. */
void format_in(int64_t seconds, char ret[TIME_TEXT_MAX]);
/* "1h 30m", "12s", "0.35s": the two largest units, or what is below 10 s in hundredths. */
void format_duration(uint64_t ms, char ret[TIME_TEXT_MAX]);
/* "2025-07-01T12:00:00Z" (RFC 3339); empty for what no calendar holds. */
void format_time(int64_t unix_seconds, char ret[TIME_TEXT_MAX]);
json_t *timestamp_json(const Google__Protobuf__Timestamp *t); /* NULL is null */

/* "512MiB", "1.2GiB": rounded to a tenth of the unit. */
#define SIZE_TEXT_MAX 32
void format_size(uint64_t bytes, char ret[SIZE_TEXT_MAX]);

/* Writes all bytes, as they are. Blocks until they are written, also where another program has made
 * the descriptor non-blocking. 0 or a negative errno. */
int write_output(int fd, const void *bytes, size_t n);
