/* What happened to a sandbox, for those who watch and for its history. */
#pragma once

#include <stdint.h>

#include "base/id.h"
#include "daemon/record.h"

enum event_kind {
        EVENT_STATE,   /* it is in another state */
        EVENT_DELETED, /* it has gone for good */
        EVENT_ORPHAN,  /* something without a sandbox was found and cleared away */
        EVENT_KINDS,
};

const char *event_kind_name(enum event_kind kind); /* "state" */
int event_kind_parse(const char *name, enum event_kind *ret);

struct event {
        uint64_t sequence; /* from 1; given by the store, 0 before */
        int64_t at;        /* milliseconds since 1970 */
        enum event_kind kind;
        char sandbox_id[ID_LEN + 1];
        char sandbox_name[NAME_MAX_LEN + 1]; /* "" for none */
        uint32_t owner;                      /* of the sandbox; OWNER_UNKNOWN for EVENT_ORPHAN */
        enum sandbox_state state;            /* after it; meaningless for EVENT_ORPHAN */
        enum operation_kind operation;       /* that did it */
        char reason[REASON_MAX];
};
