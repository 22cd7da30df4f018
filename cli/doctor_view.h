/* Findings of an examination as a person or a script sees them. */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "sandboxd/v1/host.pb-c.h"

/* One line, and for what is not ok two more: why it matters, and what repairs it. */
void finding_print(const Sandboxd__V1__Finding *f, FILE *out);
json_t *finding_json(const Sandboxd__V1__Finding *f);

/* How many there were of each. */
struct findings {
        unsigned ok, warn, fail;
};
void findings_count(struct findings *n, Sandboxd__V1__FindingStatus status);
/* The worst of them: "ok", "warn", "fail". */
const char *findings_word(const struct findings *n);
