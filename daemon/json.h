/* Reading what others have written in JSON. */
#pragma once

#include <jansson.h>

/* The string that an object has under this key; "" when there is none, or it is no string. Good for
 * as long as the object is. */
static inline const char *json_text(const json_t *object, const char *key)
{
        const char *s = json_string_value(json_object_get(object, key));

        return s ? s : "";
}
