#include "daemon/metrics.h"

#include <assert.h>
#include <string.h>
#include <uv.h>

#include "base/str.h"
#include "base/util.h"
#include "config/config.h"

#define SERVICES_MAX 16  /* of the server */
#define METHODS_MAX  128 /* of all of them; what comes after is counted as unknown */
#define CODES        (STATUS_UNAUTHENTICATED + 1)
#define RUNTIMES_MAX 16              /* CONFIG_RUNTIMES_MAX */
#define KINDS        OPERATION_KINDS /* without NONE, but with undo_create */
#define LABELS_MAX   4

static struct {
        const struct engine *engine; /* NULL before metrics_open */
        const struct rpc_service *services[SERVICES_MAX];
        unsigned first_method[SERVICES_MAX]; /* its label */
        unsigned n_services, n_methods;
} known;

/* --- labels -------------------------------------------------------------------------------- */

/* What a family is split by. Mostly one label; some belong together, as service and method. */
struct dimension {
        const char *labels[3]; /* NULL at the end */
        unsigned max;          /* how many values there can be */
        unsigned (*n)(void);   /* how many there are; NULL: max */
        const char *(*value)(unsigned i, unsigned label);
};

static const char *state_value(unsigned i, unsigned label)
{
        (void)label;
        return sandbox_state_name((enum sandbox_state)i);
}

static unsigned n_runtimes(void)
{
        return 1 + (known.engine ? (unsigned)MIN(known.engine->n_runtimes, RUNTIMES_MAX) : 0);
}

/* No name in the configuration has a bracket. */
static const char *runtime_value(unsigned i, unsigned label)
{
        (void)label;
        return i == 0 ? "(not configured)" : known.engine->runtimes[i - 1].name;
}

static const char *cause_value(unsigned i, unsigned label)
{
        (void)label;
        return exit_cause_name((enum exit_cause)(i + EXIT_STOPPED));
}

static const char *kind_value(unsigned i, unsigned label)
{
        (void)label;
        return i == KINDS - 1 ? "undo_create" : operation_kind_name((enum operation_kind)(i + 1));
}

static unsigned n_methods(void)
{
        return 1 + known.n_methods;
}

static const char *method_value(unsigned i, unsigned label)
{
        unsigned s = known.n_services;

        if (i == 0)
                return "unknown";
        while (known.first_method[--s] > i)
                ;
        return label == 0 ? known.services[s]->name
                          : known.services[s]->methods[i - known.first_method[s]].name;
}

static const char *code_value(unsigned i, unsigned label)
{
        (void)label;
        return status_name((enum status)i);
}

static const char *result_value(unsigned i, unsigned label)
{
        static const char *const names[RESULTS] = {
                [RESULT_OK] = "ok", [RESULT_REFUSED] = "refused", [RESULT_FAILED] = "failed"};

        (void)label;
        return names[i];
}

static const char *orphan_value(unsigned i, unsigned label)
{
        (void)label;
        return i == ORPHAN_REMOVED ? "removed" : "put_aside";
}

static const char *direction_value(unsigned i, unsigned label)
{
        (void)label;
        return i == TO_SANDBOX ? "to_sandbox" : "from_sandbox";
}

static const char *store_value(unsigned i, unsigned label)
{
        (void)label;
        return i == STORE_WRITES ? "write" : "read";
}

static const char *limit_value(unsigned i, unsigned label)
{
#define OWN(limit) [LIMIT_##limit - RPC_LIMITS]
        static const char *const own[METRIC_LIMITS - RPC_LIMITS] = {
                OWN(SANDBOXES) = "sandboxes",
                OWN(COMING_UP) = "sandboxes_coming_up",
                OWN(OPERATIONS) = "operations_per_sandbox",
                OWN(WAITERS) = "waiters_per_sandbox",
                OWN(ROUTED_CALLS) = "routed_calls",
                OWN(WATCHERS) = "watchers",
                OWN(STORE_RESERVE) = "store_reserve",
                OWN(IMPORTS) = "image_imports",
                OWN(IMAGE_SIZE) = "image_size",
                OWN(NETWORKS) = "networks",
                OWN(NETWORK_TAKES) = "network_takes",
                OWN(ENGINE_CALLS) = "engine_calls",
                OWN(ENGINE_PULLS) = "engine_pulls",
                OWN(ENGINE_ANSWER) = "engine_answer",
                OWN(TASK_CLAIMS) = "task_claims",
        };
#undef OWN

        (void)label;
        return i < RPC_LIMITS ? rpc_limit_name((enum rpc_limit)i) : own[i - RPC_LIMITS];
}

static const char *usage_value(unsigned i, unsigned label)
{
        static const char *const names[METRIC_USAGES] = {
                [USAGE_SANDBOXES] = "sandboxes",
                [USAGE_CONNECTIONS] = "connections",
                [USAGE_UNFINISHED_SIZE] = "unfinished_size",
                [USAGE_ROUTED_CALLS] = "routed_calls",
                [USAGE_WATCHERS] = "watchers",
                [USAGE_THREADS] = "threads",
                [USAGE_DESCRIPTORS] = "descriptors",
        };

        (void)label;
        return names[i];
}

static const char *build_value(unsigned i, unsigned label)
{
        (void)i;
        return label == 0 ? SANDBOXD_VERSION : uv_version_string();
}

static const struct dimension state = {{"state"}, SANDBOX_STATES, NULL, state_value},
                              runtime = {{"runtime"}, 1 + RUNTIMES_MAX, n_runtimes, runtime_value},
                              cause = {{"cause"}, EXIT_CAUSES - 1, NULL, cause_value},
                              outcome = {{"outcome"}, ORPHAN_OUTCOMES, NULL, orphan_value},
                              kind = {{"kind"}, KINDS, NULL, kind_value},
                              result = {{"result"}, RESULTS, NULL, result_value},
                              method = {{"service", "method"},
                                        1 + METHODS_MAX,
                                        n_methods,
                                        method_value},
                              code = {{"code"}, CODES, NULL, code_value},
                              direction = {{"direction"}, DIRECTIONS, NULL, direction_value},
                              access_kind = {{"kind"}, STORE_KINDS, NULL, store_value},
                              limit = {{"limit"}, METRIC_LIMITS, NULL, limit_value},
                              usage = {{"limit"}, METRIC_USAGES, NULL, usage_value},
                              build = {{"version", "libuv"}, 1, NULL, build_value};

/* --- the families -------------------------------------------------------------------------- */

/* Upper bounds of buckets, in microseconds; 0 at the end. */
static const uint64_t operation_bounds[] = {5000,     10000,    25000,    50000,   100000,
                                            250000,   500000,   1000000,  2500000, 5000000,
                                            10000000, 30000000, 60000000, 0};
static const uint64_t store_bounds[] = {500,    1000,   2500,   5000,    10000,   25000, 50000,
                                        100000, 250000, 500000, 1000000, 5000000, 0};
static const uint64_t lag_bounds[] = {1000,   5000,   10000,   25000,   50000, 100000,
                                      250000, 500000, 1000000, 5000000, 0};

/* A raw value is so many of the unit's 10^-digits. */
enum { WHOLE = 0, MICROS = 6, NANOS = 9 };

/* Cells of its own, for so many combinations. A histogram has for each: a cell for each bucket and
 * for what lies beyond the last bound, and the sum. */
#define CELLS(n)              .cells = ((uint64_t[n]){0})
#define BUCKETS(n, of)        CELLS((n) * (ARRAY_SIZE(of) + 1)), .bounds = (of)
#define BY(...)               .by = {__VA_ARGS__}
#define COUNTER(name_, help_) .name = (name_), .type = "counter", .help = (help_)
#define GAUGE(name_, help_)   .name = (name_), .type = "gauge", .help = (help_)
#define HISTOGRAM(name_, help_) \
        .name = (name_), .type = "histogram", .help = (help_), .digits = NANOS

static const struct family {
        const char *name, *type, *help;
        const struct dimension *by[2]; /* the labels; NULL at the end */
        unsigned digits;
        const uint64_t *bounds; /* of a histogram */
        uint64_t *cells;
        bool sparse; /* of the last dimension only the first value, and those that occurred */
} families[METRICS] = {
        [METRIC_SANDBOXES] =
                {
                        GAUGE("sandboxd_sandboxes", "Sandboxes that there are."),
                        BY(&state, &runtime),
                        CELLS(SANDBOX_STATES *(1 + RUNTIMES_MAX)),
                },
        [METRIC_SANDBOXES_UNREACHABLE] =
                {
                        GAUGE("sandboxd_sandboxes_unreachable",
                              "Running sandboxes whose supervisor cannot be reached now."),
                        CELLS(1),
                },
        [METRIC_SANDBOXES_COMING_UP] =
                {
                        GAUGE("sandboxd_sandboxes_coming_up",
                              "Sandboxes that are being brought up, without those that wait."),
                        CELLS(1),
                },
        [METRIC_SANDBOXES_WAITING] =
                {
                        GAUGE("sandboxd_sandboxes_waiting",
                              "Sandboxes that wait to be brought up, because enough are."),
                        CELLS(1),
                },
        [METRIC_SANDBOXES_ADOPTED] =
                {
                        COUNTER("sandboxd_sandboxes_adopted_total",
                                "Sandboxes found alive that an earlier daemon had brought up."),
                        CELLS(1),
                },
        [METRIC_SANDBOX_EXITS] =
                {
                        COUNTER("sandboxd_sandbox_exits_total",
                                "Ends of a sandbox's main process."),
                        BY(&cause),
                        CELLS(EXIT_CAUSES - 1),
                },
        [METRIC_ORPHANS] =
                {
                        COUNTER("sandboxd_orphans_total",
                                "Remains found on the host of sandboxes that are not in the "
                                "database."),
                        BY(&outcome),
                        CELLS(ORPHAN_OUTCOMES),
                },
        [METRIC_OPERATIONS] =
                {
                        COUNTER("sandboxd_operations_total",
                                "Operations on sandboxes that have ended; refused: by the "
                                "caller's fault or wish."),
                        BY(&kind, &result),
                        CELLS(KINDS *RESULTS),
                },
        [METRIC_OPERATION_DURATION] =
                {
                        HISTOGRAM("sandboxd_operation_duration_seconds",
                                  "How long operations on sandboxes took, from their turn on."),
                        BY(&kind),
                        BUCKETS(KINDS, operation_bounds),
                },
        [METRIC_RPCS] =
                {
                        COUNTER("sandboxd_rpcs_total",
                                "Calls that have ended, by what the client was told."),
                        BY(&method, &code),
                        CELLS((1 + METHODS_MAX) * CODES),
                        .sparse = true,
                },
        [METRIC_RPCS_IN_FLIGHT] =
                {
                        GAUGE("sandboxd_rpcs_in_flight",
                              "Calls that have not ended, streams among them."),
                        CELLS(1),
                },
        [METRIC_CONNECTIONS] =
                {
                        GAUGE("sandboxd_connections", "Clients' connections that are open."),
                        CELLS(1),
                },
        [METRIC_CONNECTIONS_ACCEPTED] =
                {
                        COUNTER("sandboxd_connections_accepted_total",
                                "Clients' connections that were opened."),
                        CELLS(1),
                },
        [METRIC_ROUTED_CALLS] =
                {
                        GAUGE("sandboxd_routed_calls",
                              "Calls in flight that are forwarded to sandboxes."),
                        CELLS(1),
                },
        [METRIC_ROUTED_BYTES] =
                {
                        COUNTER("sandboxd_routed_bytes_total",
                                "Messages forwarded to and from sandboxes."),
                        BY(&direction),
                        CELLS(DIRECTIONS),
                },
        [METRIC_WATCHERS] =
                {
                        GAUGE("sandboxd_watchers", "Clients that watch sandboxes."),
                        CELLS(1),
                },
        [METRIC_STORE_DURATION] =
                {
                        HISTOGRAM("sandboxd_store_duration_seconds",
                                  "From the asking for a change of the database, or a page of "
                                  "events, to "
                                  "the commit or the page."),
                        BY(&access_kind),
                        BUCKETS(STORE_KINDS, store_bounds),
                },
        [METRIC_STORE_FAILURES] =
                {
                        COUNTER("sandboxd_store_failures_total",
                                "Changes of the database, and pages of events, that "
                                "failed."),
                        BY(&access_kind),
                        CELLS(STORE_KINDS),
                },
        [METRIC_STORE_QUEUE] =
                {
                        GAUGE("sandboxd_store_queue_length",
                              "Changes and pages that are waited for."),
                        CELLS(1),
                },
        [METRIC_STORE_RESERVE_MISSING] =
                {
                        GAUGE("sandboxd_store_reserve_missing",
                              "1: the disk is full, the space kept in reserve was given up, and no "
                              "sandbox is created or started."),
                        CELLS(1),
                },
        [METRIC_STORE_REFUSED] =
                {
                        GAUGE("sandboxd_store_refused",
                              "1: the database is damaged or of a newer version, and "
                              "nothing is changed."),
                        CELLS(1),
                },
        [METRIC_CONFIG_REFUSED] =
                {
                        GAUGE("sandboxd_config_refused",
                              "1: the last reload found the configuration wrong, and what was in "
                              "force before still is."),
                        CELLS(1),
                },
        [METRIC_LOOP_LAG] =
                {
                        HISTOGRAM("sandboxd_loop_lag_seconds",
                                  "How long turns of the event loop kept what came meanwhile "
                                  "waiting, in whole milliseconds."),
                        BUCKETS(1, lag_bounds),
                },
        [METRIC_LIMIT_HITS] =
                {
                        COUNTER("sandboxd_limit_hits_total",
                                "How often somebody or something ran into a limit."),
                        BY(&limit),
                        CELLS(METRIC_LIMITS),
                },
        [METRIC_LIMIT_USAGE] =
                {
                        GAUGE("sandboxd_limit_usage_ratio",
                              "Which part of a limit is used; 1: all."),
                        BY(&usage),
                        CELLS(METRIC_USAGES),
                        .digits = MICROS,
                },
        [METRIC_BUILD_INFO] =
                {
                        GAUGE("sandboxd_build_info", "Always 1."),
                        BY(&build),
                        CELLS(1),
                },
        [METRIC_PROCESS_CPU] =
                {
                        COUNTER("process_cpu_seconds_total",
                                "Time of processors that the daemon itself used."),
                        CELLS(1),
                        .digits = NANOS,
                },
        [METRIC_PROCESS_RESIDENT] =
                {
                        GAUGE("process_resident_memory_bytes",
                              "Memory of the daemon that is resident."),
                        CELLS(1),
                },
        [METRIC_PROCESS_VIRTUAL] =
                {
                        GAUGE("process_virtual_memory_bytes", "Address space of the daemon."),
                        CELLS(1),
                },
        [METRIC_PROCESS_OPEN_FDS] =
                {
                        GAUGE("process_open_fds", "File descriptors that the daemon has open."),
                        CELLS(1),
                },
        [METRIC_PROCESS_MAX_FDS] =
                {
                        GAUGE("process_max_fds", "File descriptors that the daemon may have open."),
                        CELLS(1),
                },
        [METRIC_PROCESS_START] =
                {
                        GAUGE("process_start_time_seconds",
                              "When the daemon started, in seconds since 1970."),
                        CELLS(1),
                        .digits = NANOS,
                },
};

static unsigned combinations(const struct family *f)
{
        return (f->by[0] ? f->by[0]->max : 1) * (f->by[1] ? f->by[1]->max : 1);
}

static unsigned n_bounds(const struct family *f)
{
        unsigned n = 0;

        while (f->bounds && f->bounds[n])
                n++;
        return n;
}

/* Cells of one combination. */
static unsigned width(const struct family *f)
{
        return f->bounds ? n_bounds(f) + 2 : 1;
}

static uint64_t *cells_of(enum metric m, unsigned label)
{
        const struct family *f = &families[m];

        assert(label < combinations(f));
        return f->cells + (size_t)label * width(f);
}

/* --- counting ------------------------------------------------------------------------------ */

void metrics_open(const struct rpc_server *server, const struct engine *engine)
{
        const struct rpc_service *service;

        memset(&known, 0, sizeof(known));
        known.engine = engine;
        metrics_set(METRIC_BUILD_INFO, 0, 1);
        while (known.n_services < SERVICES_MAX &&
               (service = rpc_server_service(server, known.n_services)) &&
               known.n_methods + service->n_methods <= METHODS_MAX) {
                known.services[known.n_services] = service;
                known.first_method[known.n_services++] = 1 + known.n_methods;
                known.n_methods += (unsigned)service->n_methods;
        }
}

void metrics_add(enum metric m, unsigned label, uint64_t n)
{
        *cells_of(m, label) += n;
}

void metrics_set(enum metric m, unsigned label, uint64_t raw)
{
        *cells_of(m, label) = raw;
}

uint64_t metrics_get(enum metric m, unsigned label)
{
        return *cells_of(m, label);
}

void metrics_observe(enum metric m, unsigned label, uint64_t nsec)
{
        const uint64_t *bounds = families[m].bounds;
        uint64_t *cells = cells_of(m, label);
        unsigned n = n_bounds(&families[m]), i = 0;

        while (i < n && nsec > bounds[i] * 1000)
                i++;
        cells[i]++;
        cells[n + 1] += nsec;
}

unsigned metrics_pair(enum metric m, unsigned first, unsigned second)
{
        assert(second < families[m].by[1]->max);
        return first * families[m].by[1]->max + second;
}

void metrics_clear(enum metric m)
{
        const struct family *f = &families[m];

        memset(f->cells, 0, sizeof(*f->cells) * combinations(f) * width(f));
}

unsigned metrics_runtime(const char *name)
{
        for (unsigned i = 1; i < n_runtimes(); i++)
                if (str_eq(known.engine->runtimes[i - 1].name, name))
                        return i;
        return 0;
}

static unsigned find_method(const struct rpc_call *call)
{
        const struct rpc_service *service = rpc_call_service(call);
        const struct rpc_method *found = rpc_call_method(call);

        for (unsigned s = 0; service && found && s < known.n_services; s++)
                if (known.services[s] == service)
                        return known.first_method[s] + (unsigned)(found - service->methods);
        return 0;
}

void metrics_count_call(const struct rpc_call *call, enum status status)
{
        unsigned c = status < CODES ? status : STATUS_UNKNOWN;

        metrics_add(METRIC_RPCS, metrics_pair(METRIC_RPCS, find_method(call), c), 1);
}

/* Whose fault it is: what a caller may do wrong, or changed his mind about, is no failure. */
static enum metric_result result_of(enum status status)
{
        switch (status) {
        case STATUS_OK:
                return RESULT_OK;
        case STATUS_CANCELLED:
        case STATUS_INVALID_ARGUMENT:
        case STATUS_NOT_FOUND:
        case STATUS_ALREADY_EXISTS:
        case STATUS_PERMISSION_DENIED:
        case STATUS_FAILED_PRECONDITION:
        case STATUS_ABORTED:
        case STATUS_OUT_OF_RANGE:
        case STATUS_UNAUTHENTICATED:
                return RESULT_REFUSED;
        default:
                return RESULT_FAILED;
        }
}

void metrics_count_operation(enum operation_kind op, bool undone, enum status status, uint64_t nsec)
{
        unsigned k = undone ? KINDS - 1 : (unsigned)op - 1;

        if (op == OPERATION_NONE)
                return;
        metrics_add(METRIC_OPERATIONS, metrics_pair(METRIC_OPERATIONS, k, result_of(status)), 1);
        metrics_observe(METRIC_OPERATION_DURATION, k, nsec);
}

/* --- telling ------------------------------------------------------------------------------- */

/* The labels of one combination; room for `le` is left. */
struct labels {
        struct exposition_label list[LABELS_MAX + 1];
        size_t n;
};

static void add_labels(struct labels *l, const struct dimension *d, unsigned i)
{
        for (unsigned k = 0; k < ARRAY_SIZE(d->labels) && d->labels[k]; k++) {
                assert(l->n < LABELS_MAX);
                l->list[l->n++] = (struct exposition_label){d->labels[k], d->value(i, k)};
        }
}

static void tell_histogram(struct exposition *x, const struct family *f, struct labels *l,
                           const uint64_t *cells)
{
        struct exposition_label *le = &l->list[l->n];
        unsigned n = n_bounds(f);
        char bound[EXPOSITION_NUMBER_MAX];
        uint64_t sum = 0;

        for (unsigned i = 0; i <= n; i++) {
                sum += cells[i];
                exposition_number(i < n ? f->bounds[i] : 0, MICROS, bound);
                *le = (struct exposition_label){"le", i < n ? bound : "+Inf"};
                exposition_sample(x, f->name, "_bucket", l->list, l->n + 1, sum, WHOLE);
        }
        exposition_sample(x, f->name, "_sum", l->list, l->n, cells[n + 1], f->digits);
        exposition_sample(x, f->name, "_count", l->list, l->n, sum, WHOLE);
}

static unsigned n_values(const struct dimension *d)
{
        return !d ? 1 : d->n ? d->n() : d->max;
}

static void tell_combination(struct exposition *x, const struct family *f, unsigned i, unsigned j)
{
        const uint64_t *cells =
                f->cells + (size_t)(i * (f->by[1] ? f->by[1]->max : 1) + j) * width(f);
        struct labels l = {.n = 0};

        if (f->sparse && j > 0 && *cells == 0)
                return;
        if (f->by[0])
                add_labels(&l, f->by[0], i);
        if (f->by[1])
                add_labels(&l, f->by[1], j);
        if (f->bounds)
                tell_histogram(x, f, &l, cells);
        else
                exposition_sample(x, f->name, "", l.list, l.n, *cells, f->digits);
}

int metrics_render(struct exposition *x)
{
        for (const struct family *f = families; f < families + METRICS; f++) {
                exposition_family(x, f->name, f->type, f->help);
                for (unsigned i = 0; i < n_values(f->by[0]); i++)
                        for (unsigned j = 0; j < n_values(f->by[1]); j++)
                                tell_combination(x, f, i, j);
        }
        return x->r;
}
