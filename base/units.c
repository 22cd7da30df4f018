#include "base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "base/util.h"

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

static const struct unit duration_units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"", 1000},
};

static const struct unit *find_unit(const char *suffix, const struct unit *units, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (strcasecmp(suffix, units[i].suffix) == 0)
                        return &units[i];
        return NULL;
}

static int parse(const char *s, const struct unit *units, size_t n, uint64_t *ret)
{
        char digits[24];
        size_t len = strspn(s, "0123456789");
        const struct unit *unit = find_unit(s + len, units, n);
        uint64_t number;

        if (!unit || len == 0)
                return -EINVAL;
        if (!str_format(digits, sizeof(digits), "%.*s", (int)MIN(len, sizeof(digits)), s) ||
            !str_to_u64(digits, UINT64_MAX / unit->factor, &number))
                return -ERANGE;
        *ret = number * unit->factor;
        return 0;
}

int units_parse_size(const char *s, uint64_t *ret)
{
        return parse(s, size_units, ARRAY_SIZE(size_units), ret);
}

int units_parse_duration(const char *s, uint64_t *ret_ms)
{
        return parse(s, duration_units, ARRAY_SIZE(duration_units), ret_ms);
}

void units_format_size(uint64_t bytes, char ret[UNITS_TEXT_MAX])
{
        const struct unit *unit = size_units;

        while (bytes == 0 ? unit->factor != 1 : bytes % unit->factor != 0)
                unit++;
        (void)str_format(ret, UNITS_TEXT_MAX, "%" PRIu64 "%s", bytes / unit->factor, unit->suffix);
}
