#include "runtimed/environment.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "base/util.h"

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
