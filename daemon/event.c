#include "daemon/event.h"

#include <errno.h>

#include "base/str.h"

static const char *const kind_names[EVENT_KINDS] = {
        [EVENT_STATE] = "state",
        [EVENT_DELETED] = "deleted",
        [EVENT_ORPHAN] = "orphan",
};

const char *event_kind_name(enum event_kind kind)
{
        return kind_names[kind];
}

int event_kind_parse(const char *name, enum event_kind *ret)
{
        for (int i = 0; i < EVENT_KINDS; i++) {
                if (str_eq(name, kind_names[i])) {
                        *ret = (enum event_kind)i;
                        return 0;
                }
        }
        return -EINVAL;
}
