/* The app of a sandbox as a person or a script sees it. */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "manifest/manifest.h"
#include "sandboxd/v1/app.pb-c.h"

json_t *app_json(const Sandboxd__V1__App *app);
/* now: in seconds since the Epoch. 0 or -ENOMEM. */
int app_print(const Sandboxd__V1__App *app, int64_t now, FILE *out);

json_t *build_json(const Sandboxd__V1__AppBuild *build, const char *output);
/* "passed after 1.2s", "failed after 3s with exit code 2", "skipped: there is no ..."; cut when it
 * is long. Not escaped. */
void build_words(const Sandboxd__V1__AppBuild *build, char *buf, size_t size);

/* Of a file that was read here. file: what the user calls it. */
json_t *manifest_json(const struct manifest *m);
void manifest_print(const struct manifest *m, const char *file, FILE *out);
