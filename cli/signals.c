#include "cli/signals.h"

#include <signal.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

/* The C library keeps 32 and 33 for itself, in the sandbox too. */
#define RTMIN_USUAL 34

static bool parse_number(const char *text, int *ret)
{
        uint64_t n;

        if (!str_to_u64(text, SIGNAL_MAX, &n) || n == 0)
                return false;
        *ret = (int)n;
        return true;
}

/* "RTMIN+3" */
static bool parse_real_time(const char *text, int *ret)
{
        uint64_t n = 0;

        if (strncasecmp(text, "RTMIN", 5) != 0)
                return false;
        text += 5;
        if (*text && (*text != '+' || !str_to_u64(text + 1, SIGNAL_MAX - RTMIN_USUAL, &n)))
                return false;
        *ret = RTMIN_USUAL + (int)n;
        return true;
}

bool signal_parse(const char *text, int *ret)
{
        if (parse_number(text, ret))
                return true;
        if (strncasecmp(text, "SIG", 3) == 0)
                text += 3;
        if (parse_real_time(text, ret))
                return true;
        for (int i = 1; i <= SIGNAL_MAX; i++) {
                const char *name = sigabbrev_np(i);
                if (!name || strcasecmp(name, text) != 0)
                        continue;
                *ret = i;
                return true;
        }
        return false;
}

void signal_name(int number, char ret[SIGNAL_NAME_MAX])
{
        const char *name = sigabbrev_np(number);

        if (name)
                (void)str_format(ret, SIGNAL_NAME_MAX, "%s", name);
        else
                (void)str_format(ret, SIGNAL_NAME_MAX, "%d", number);
}
