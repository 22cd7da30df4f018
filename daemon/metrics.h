/* What the daemon counts and measures of itself. One set for the process, as there is one log; for
 * the loop's thread alone. docs/metrics.md
 *
 * A *family* is a row of the table in metrics.c: a name, and a *cell* for each combination of its
 * labels. All cells are there from the start: nothing is allocated, and no label's value comes from
 * a client or a sandbox. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/engine.h"
#include "daemon/exposition.h"
#include "daemon/record.h"
#include "rpc/server.h"

/* Behind each: its labels, of the enums below where those have none of their own. */
enum metric {
        METRIC_SANDBOXES, /* enum sandbox_state, runtime */
        METRIC_SANDBOXES_UNREACHABLE,
        METRIC_SANDBOXES_COMING_UP,
        METRIC_SANDBOXES_WAITING,
        METRIC_SANDBOXES_ADOPTED,
        METRIC_SANDBOX_EXITS,      /* enum exit_cause */
        METRIC_ORPHANS,            /* enum metric_orphan */
        METRIC_OPERATIONS,         /* kind, enum metric_result */
        METRIC_OPERATION_DURATION, /* kind */
        METRIC_RPCS,               /* method, enum status */
        METRIC_RPCS_IN_FLIGHT,
        METRIC_CONNECTIONS,
        METRIC_CONNECTIONS_ACCEPTED,
        METRIC_ROUTED_CALLS,
        METRIC_ROUTED_BYTES, /* enum metric_direction */
        METRIC_WATCHERS,
        METRIC_STORE_DURATION, /* enum metric_store */
        METRIC_STORE_FAILURES, /* enum metric_store */
        METRIC_STORE_QUEUE,
        METRIC_STORE_RESERVE_MISSING,
        METRIC_STORE_REFUSED,
        METRIC_CONFIG_REFUSED,
        METRIC_LOOP_LAG,
        METRIC_LIMIT_HITS,  /* enum metric_limit */
        METRIC_LIMIT_USAGE, /* enum metric_usage; in millionths */
        METRIC_BUILD_INFO,
        METRIC_PROCESS_CPU, /* nanoseconds */
        METRIC_PROCESS_RESIDENT,
        METRIC_PROCESS_VIRTUAL,
        METRIC_PROCESS_OPEN_FDS,
        METRIC_PROCESS_MAX_FDS,
        METRIC_PROCESS_START, /* nanoseconds since 1970 */
        METRICS,
};

enum metric_orphan { ORPHAN_REMOVED, ORPHAN_PUT_ASIDE, ORPHAN_OUTCOMES };
enum metric_result { RESULT_OK, RESULT_REFUSED, RESULT_FAILED, RESULTS };
enum metric_direction { TO_SANDBOX, FROM_SANDBOX, DIRECTIONS };
enum metric_store { STORE_WRITES, STORE_READS, STORE_KINDS };

/* Bounds that were met, beyond those of the server: these come first. */
enum metric_limit {
        LIMIT_SANDBOXES = RPC_LIMITS,
        LIMIT_COMING_UP,  /* it had to wait */
        LIMIT_OPERATIONS, /* on one sandbox */
        LIMIT_WAITERS,    /* likewise */
        LIMIT_ROUTED_CALLS,
        LIMIT_WATCHERS,
        LIMIT_STORE_RESERVE,
        LIMIT_IMPORTS,       /* of images, at once */
        LIMIT_IMAGE_SIZE,    /* or its files, or the disk: an import was ended */
        LIMIT_NETWORKS,      /* of sandboxes, and in the pool */
        LIMIT_NETWORK_TAKES, /* sandboxes that wait for one */
        LIMIT_ENGINE_CALLS,  /* of Docker Engine, at once */
        LIMIT_ENGINE_PULLS,  /* of images by Docker Engine, at once */
        LIMIT_ENGINE_ANSWER, /* one of its answers was too long */
        LIMIT_TASK_CLAIMS,   /* of a sandbox, on its tasks: it is not asked any more */
        METRIC_LIMITS,
};

/* Bounds of which a part is used up. */
enum metric_usage {
        USAGE_SANDBOXES,
        USAGE_CONNECTIONS,
        USAGE_UNFINISHED_SIZE,
        USAGE_ROUTED_CALLS,
        USAGE_WATCHERS,
        USAGE_THREADS, /* of base/offload.h */
        USAGE_DESCRIPTORS,
        METRIC_USAGES,
};

/* Whose methods and runtimes the labels name; both must outlive the last call of the others.
 * After the last service was added; what was counted before stays. */
void metrics_open(const struct rpc_server *server, const struct engine *engine);

/* label: the number of the combination; 0 for a family without labels. A gauge's raw value is in
 * its unit's smallest part, see the table. */
void metrics_add(enum metric m, unsigned label, uint64_t n);
void metrics_set(enum metric m, unsigned label, uint64_t raw);
uint64_t metrics_get(enum metric m, unsigned label);
void metrics_observe(enum metric m, unsigned label, uint64_t nsec);
/* The number of a combination of two labels. */
unsigned metrics_pair(enum metric m, unsigned first, unsigned second);
/* All cells of a family to 0. */
void metrics_clear(enum metric m);

/* A call has ended, of whatever method. */
void metrics_count_call(const struct rpc_call *call, enum status code);
/* An operation has ended. undone: it took a create back; NONE is none. */
void metrics_count_operation(enum operation_kind kind, bool undone, enum status code,
                             uint64_t nsec);
/* The label of a runtime: one for all that the configuration does not name (any more). */
unsigned metrics_runtime(const char *name);

/* All families. 0, or a negative errno: the text is not whole then. */
int metrics_render(struct exposition *x);
