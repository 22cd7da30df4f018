#include "base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "base/util.h"

#define DIGITS "0123456789"

struct unit {
        const char *suffix;
        uint64_t factor;
};

/* Those that units_format_size writes come first, the largest at the head. */
static const struct unit size_units[] = {
        {"TiB", 1ULL << 40},
        {"GiB", 1ULL << 30},
        {"MiB", 1ULL << 20},
        {"KiB", 1ULL << 10},
        {"B", 1},
        {"T", 1ULL << 40},
        {"G", 1ULL << 30},
        {"M", 1ULL << 20},
        {"K", 1ULL << 10},
        {"", 1},
};

/* The first three are those that units_format_duration puts together. */
static const struct unit duration_units[] = {
        {"h", 3600 * 1000}, {"m", 60 * 1000}, {"s", 1000}, {"ms", 1}, {"", 1000},
};

static const struct unit *find_unit(const char *suffix, const struct unit *units, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (strcasecmp(suffix, units[i].suffix) == 0)
                        return &units[i];
        return NULL;
}

/* unit: which it was. */
static int parse(const char *s, const struct unit *units, size_t n, uint64_t *ret,
                 const struct unit **ret_unit)
{
        char digits[24];
        size_t len = strspn(s, DIGITS);
        const struct unit *unit = find_unit(s + len, units, n);
        uint64_t number;

        if (!unit || len == 0)
                return -EINVAL;
        if (!str_format(digits, sizeof(digits), "%.*s", (int)MIN(len, sizeof(digits)), s) ||
            !str_to_u64(digits, UINT64_MAX / unit->factor, &number))
                return -ERANGE;
        *ret = number * unit->factor;
        *ret_unit = unit;
        return 0;
}

int units_parse_size(const char *s, uint64_t *ret)
{
        const struct unit *unit;

        return parse(s, size_units, ARRAY_SIZE(size_units), ret, &unit);
}

int units_parse_duration(const char *s, uint64_t *ret_ms)
{
        const struct unit *unit, *last = NULL;
        uint64_t total = 0;

        do {
                char part[32];
                size_t digits = strspn(s, DIGITS), len = digits + strcspn(s + digits, DIGITS);
                uint64_t ms;

                if (!str_format(part, sizeof(part), "%.*s", (int)MIN(len, sizeof(part)), s))
                        return -ERANGE;
                int r = parse(part, duration_units, ARRAY_SIZE(duration_units), &ms, &unit);
                if (r < 0)
                        return r;
                if (last && (unit->factor >= last->factor || !*unit->suffix))
                        return -EINVAL;
                if (__builtin_add_overflow(total, ms, &total))
                        return -ERANGE;
                last = unit;
                s += len;
        } while (*s);
        *ret_ms = total;
        return 0;
}

void units_format_size(uint64_t bytes, char ret[UNITS_TEXT_MAX])
{
        const struct unit *unit = size_units;

        while (bytes == 0 ? unit->factor != 1 : bytes % unit->factor != 0)
                unit++;
        (void)str_format(ret, UNITS_TEXT_MAX, "%" PRIu64 "%s", bytes / unit->factor, unit->suffix);
}

void units_format_duration(uint64_t ms, char ret[UNITS_TEXT_MAX])
{
        uint64_t rest = ms;
        size_t n = 0;

        ret[0] = '\0';
        if (ms == 0 || ms % 1000 != 0) {
                (void)str_format(ret, UNITS_TEXT_MAX, "%" PRIu64 "%s", ms, ms ? "ms" : "s");
                return;
        }
        for (const struct unit *u = duration_units; rest > 0; u++) {
                if (rest >= u->factor)
                        (void)str_format(ret + n, UNITS_TEXT_MAX - n, "%" PRIu64 "%s",
                                         rest / u->factor,
                                         u->suffix); /* fits: at most "5124095576h59m59s" */
                n = strlen(ret);
                rest %= u->factor;
        }
}
