/* Prometheus' text format, version 0.0.4, as it is written.
 * https://prometheus.io/docs/instrumenting/exposition_formats/
 *
 * Numbers are whole ones with a decimal point put in: nothing is lost in a conversion, and no
 * locale has a say. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define EXPOSITION_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define EXPOSITION_MAX          (1024 * 1024) /* bytes; many times what there can be */

/* Embedded by its owner; zero at first. The text is his to free (buf_done). */
struct exposition {
        struct buf text;
        int r; /* 0, or the negative errno that the text broke off with; sticks */
};

struct exposition_label {
        const char *name, *value; /* any UTF-8 */
};

/* The head of a family: before its first sample. type: "counter", "gauge", "histogram". */
void exposition_family(struct exposition *x, const char *name, const char *type, const char *help);

/* One line. suffix: "", "_bucket", ... The value is raw * 10^-digits; digits: 0 to 9. */
void exposition_sample(struct exposition *x, const char *name, const char *suffix,
                       const struct exposition_label *labels, size_t n, uint64_t raw,
                       unsigned digits);

/* "0.25" for 25 and 2 digits, "3" for 300. */
#define EXPOSITION_NUMBER_MAX 24
void exposition_number(uint64_t raw, unsigned digits, char ret[EXPOSITION_NUMBER_MAX]);
