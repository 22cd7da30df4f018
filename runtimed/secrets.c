#include "runtimed/secrets.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "base/util.h"
#include "runtimed/line_cutter.h"

/* Lines of values that are secrets of their own; each is looked for in all that is printed. */
#define LINES_MAX 256

static const char redacted[] = "[redacted]";

/* --- which they are ------------------------------------------------------------------------ */

static void add(struct strv_builder *b, const char *secret)
{
        if (strlen(secret) >= SECRET_MIN)
                strv_add(b, secret);
}

/* As most programs that print JSON escape it. */
static char *json_form(const char *value)
{
        static const char escaped[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
        struct buf form = {0};
        char text[8] = "\\";
        int r = 0;

        for (; r == 0 && *value; value++) {
                const char *found = strchr(escaped, *value);
                if (found)
                        (void)str_format(text + 1, 2, "%c", letters[found - escaped]); /* fits */
                else if ((unsigned char)*value < 0x20)
                        (void)str_format(text + 1, 6, "u%04x", *value); /* fits */
                bool as_it_is = !found && (unsigned char)*value >= 0x20;
                r = buf_append(&form, as_it_is ? value : text, as_it_is ? 1 : strlen(text),
                               SIZE_MAX);
        }
        if (r == 0)
                r = buf_append(&form, "", 1, SIZE_MAX);
        if (r < 0)
                buf_done(&form);
        return (char *)form.data;
}

static void add_json_form(struct strv_builder *b, const char *value)
{
        _cleanup_free_ char *form = json_form(value);

        b->failed |= !form;
        if (form && !str_eq(form, value))
                add(b, form);
}

static void add_lines(struct strv_builder *b, const char *value, unsigned *n_lines)
{
        _cleanup_free_ char *copy = strchr(value, '\n') ? strdup(value) : NULL;
        char *state = NULL;

        b->failed |= strchr(value, '\n') && !copy;
        for (char *line = copy ? strtok_r(copy, "\r\n", &state) : NULL;
             line && *n_lines < LINES_MAX; line = strtok_r(NULL, "\r\n", &state)) {
                add(b, line);
                ++*n_lines;
        }
}

char **secrets_of(char *const *env)
{
        struct strv_builder b = {0};
        unsigned n_lines = 0;

        for (; *env; env++) {
                const char *value = strchr(*env, '=');
                if (!value || strlen(++value) < SECRET_MIN)
                        continue;
                add(&b, value);
                add_json_form(&b, value);
                add_lines(&b, value, &n_lines);
        }
        return strv_take(&b);
}

/* --- in what is printed -------------------------------------------------------------------- */

/* The first of them from `at` on. next: where each of them is, if that is behind `at`; so none is
 * looked for twice in the same bytes. */
static const uint8_t *find(char *const *secrets, const uint8_t **next, const uint8_t *at,
                           const uint8_t *end, size_t *ret_n)
{
        const uint8_t *first = NULL;

        for (; *secrets; secrets++, next++) {
                if (*next == end)
                        continue; /* there are no more */
                size_t len = strlen(*secrets);
                if (!*next || *next < at)
                        *next = memmem(at, (size_t)(end - at), *secrets, len);
                if (!*next) {
                        *next = end;
                } else if (!first || *next < first || (*next == first && len > *ret_n)) {
                        first = *next;
                        *ret_n = len;
                }
        }
        return first;
}

const uint8_t *secrets_redact(char *const *secrets, const uint8_t *bytes, size_t *n,
                              uint8_t **ret_copy)
{
        size_t n_secrets = strv_len((const char *const *)secrets), len = 0;
        const uint8_t *at = bytes, *end = bytes + *n, *found;
        struct buf copy = {0};

        *ret_copy = NULL;
        if (n_secrets == 0 || *n == 0)
                return bytes;
        _cleanup_free_ const uint8_t **next = calloc(n_secrets, sizeof(*next));
        while (next && (found = find(secrets, next, at, end, &len))) {
                if (buf_append(&copy, at, (size_t)(found - at), 2 * LINE_KEPT_MAX) < 0 ||
                    buf_append(&copy, redacted, sizeof(redacted) - 1, 2 * LINE_KEPT_MAX) < 0)
                        break;
                at = found + len;
        }
        if (next && !found && at == bytes)
                return bytes;
        if (next && !found)
                (void)buf_append(&copy, at, (size_t)(end - at), 2 * LINE_KEPT_MAX); /* as it says */
        *n = copy.len;
        *ret_copy = copy.data;
        return copy.data ? copy.data : (const uint8_t *)"";
}
