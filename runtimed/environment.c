#include "runtimed/environment.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "base/util.h"

#define VARIABLES_MAX 1024

int environment_check_count(size_t n, struct err *e)
{
        if (n <= VARIABLES_MAX)
                return 0;
        return err_set(e, STATUS_INVALID_ARGUMENT,
                       "env: at most %d variables are possible, the request has %zu", VARIABLES_MAX,
                       n);
}

int environment_check_name(const char *name, struct err *e)
{
        if (*name && !strchr(name, '='))
                return 0;
        return err_set(
                e, STATUS_INVALID_ARGUMENT,
                "env: '%s' is no name of a variable; it may be neither empty nor contain '='",
                name);
}

/* True when one of these, NULL at the end, has the same name. */
static bool is_given(char *const *v, const char *entry)
{
        size_t n = strcspn(entry, "=") + 1;

        for (; v && *v; v++)
                if (strncmp(*v, entry, n) == 0)
                        return true;
        return false;
}

char **environment_with(char *const *lower, char *const *upper)
{
        char *const *const layers[] = {environ, lower, upper};
        struct strv_builder b = {0};

        for (size_t i = 0; i < ARRAY_SIZE(layers); i++)
                for (char *const *v = layers[i]; v && *v; v++) {
                        bool again = is_given(v + 1, *v);
                        for (size_t above = i + 1; above < ARRAY_SIZE(layers); above++)
                                again |= is_given(layers[above], *v);
                        if (!again)
                                strv_add(&b, *v);
                }
        return strv_take(&b);
}
