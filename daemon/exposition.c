#include "daemon/exposition.h"

#include <inttypes.h>
#include <string.h>

#include "base/str.h"

static void append(struct exposition *x, const char *text, size_t n)
{
        if (x->r == 0)
                x->r = buf_append(&x->text, text, n, EXPOSITION_MAX);
}

static void put(struct exposition *x, const char *text)
{
        append(x, text, strlen(text));
}

/* A backslash before each of these, and newlines as \n. */
static void put_escaped(struct exposition *x, const char *text, const char *special)
{
        while (*text) {
                size_t n = strcspn(text, special);
                append(x, text, n);
                text += n;
                if (!*text)
                        break;
                const char escaped[] = {'\\', *text == '\n' ? 'n' : *text};
                append(x, escaped, sizeof(escaped));
                text++;
        }
}

void exposition_family(struct exposition *x, const char *name, const char *type, const char *help)
{
        put(x, "# HELP ");
        put(x, name);
        put(x, " ");
        put_escaped(x, help, "\\\n");
        put(x, "\n# TYPE ");
        put(x, name);
        put(x, " ");
        put(x, type);
        put(x, "\n");
}

void exposition_number(uint64_t raw, unsigned digits, char ret[EXPOSITION_NUMBER_MAX])
{
        uint64_t unit = 1;
        char fraction[EXPOSITION_NUMBER_MAX];

        for (unsigned i = 0; i < digits; i++)
                unit *= 10;
        while (digits > 0 && raw % 10 == 0) {
                raw /= 10;
                unit /= 10;
                digits--;
        }
        /* 20 digits, a point and a NUL fit. */
        (void)str_format(fraction, sizeof(fraction), ".%0*" PRIu64, (int)digits, raw % unit);
        (void)str_format(ret, EXPOSITION_NUMBER_MAX, "%" PRIu64 "%s", raw / unit,
                         digits > 0 ? fraction : "");
}

static void put_labels(struct exposition *x, const struct exposition_label *labels, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                put(x, i == 0 ? "{" : ",");
                put(x, labels[i].name);
                put(x, "=\"");
                put_escaped(x, labels[i].value, "\\\"\n");
                put(x, "\"");
        }
        if (n > 0)
                put(x, "}");
}

void exposition_sample(struct exposition *x, const char *name, const char *suffix,
                       const struct exposition_label *labels, size_t n, uint64_t raw,
                       unsigned digits)
{
        char number[EXPOSITION_NUMBER_MAX];

        exposition_number(raw, digits, number);
        put(x, name);
        put(x, suffix);
        put_labels(x, labels, n);
        put(x, " ");
        put(x, number);
        put(x, "\n");
}
