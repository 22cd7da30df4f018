#include "daemon/metrics_gather.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/offload.h"
#include "base/util.h"
#include "daemon/forward.h"
#include "daemon/metrics.h"
#include "daemon/sandbox.h"
#include "daemon/watch.h"

static void set_usage(enum metric_usage usage, uint64_t used, uint64_t max)
{
        metrics_set(METRIC_LIMIT_USAGE, usage, max ? used * 1000000 / max : 0);
}

/* --- the sandboxes ------------------------------------------------------------------------- */

/* Its supervisor has shaken hands, and the connection stands. */
static bool is_reachable(struct sandbox *s)
{
        struct runtimed_client *runtimed = sandbox_runtimed(s, NULL);

        return runtimed && runtimed_client_shared(runtimed);
}

static void gather_sandboxes(struct registry *r)
{
        const struct registry_entry *entry;
        unsigned waiting = 0, unreachable = 0;

        metrics_clear(METRIC_SANDBOXES);
        for (struct sandbox *s = registry_first(r); s; s = registry_next(s)) {
                const struct record *rec = sandbox_record(s);
                unsigned label =
                        metrics_pair(METRIC_SANDBOXES, rec->state, metrics_runtime(rec->runtime));
                metrics_add(METRIC_SANDBOXES, label, 1);
                unreachable += rec->state == SANDBOX_RUNNING && !is_reachable(s);
        }
        TAILQ_FOREACH (entry, &r->waiting, waiting)
                waiting++;
        metrics_set(METRIC_SANDBOXES_UNREACHABLE, 0, unreachable);
        metrics_set(METRIC_SANDBOXES_COMING_UP, 0, r->n_coming_up);
        metrics_set(METRIC_SANDBOXES_WAITING, 0, waiting);
        set_usage(USAGE_SANDBOXES, r->n, REGISTRY_MAX);
}

static void gather_store(const struct store *store)
{
        metrics_set(METRIC_STORE_QUEUE, 0, store_queue_length(store));
        metrics_set(METRIC_STORE_RESERVE_MISSING, 0, store_is_short(store));
        metrics_set(METRIC_STORE_REFUSED, 0, store_problem(store) != NULL);
        metrics_set(METRIC_LIMIT_HITS, LIMIT_STORE_RESERVE, store_reserve_uses(store));
}

/* --- the clients --------------------------------------------------------------------------- */

static void gather_server(const struct rpc_server *server)
{
        struct rpc_server_stats stats;

        rpc_server_stats(server, &stats);
        metrics_set(METRIC_RPCS_IN_FLIGHT, 0, stats.calls);
        metrics_set(METRIC_CONNECTIONS, 0, stats.connections);
        metrics_set(METRIC_CONNECTIONS_ACCEPTED, 0, stats.connections_total);
        for (unsigned i = 0; i < RPC_LIMITS; i++)
                metrics_set(METRIC_LIMIT_HITS, i, stats.hits[i]);
        set_usage(USAGE_CONNECTIONS, stats.connections, stats.limits.connections);
        set_usage(USAGE_UNFINISHED_SIZE, stats.held, stats.limits.held_max);
        set_usage(USAGE_ROUTED_CALLS, metrics_get(METRIC_ROUTED_CALLS, 0), FORWARD_CALLS_MAX);
        set_usage(USAGE_WATCHERS, metrics_get(METRIC_WATCHERS, 0), WATCHERS_MAX);
}

/* --- the process --------------------------------------------------------------------------- */

static uint64_t nsec_of(struct timeval tv)
{
        return (uint64_t)tv.tv_sec * NSEC_PER_SEC + (uint64_t)tv.tv_usec * 1000;
}

static void gather_memory(void)
{
        _cleanup_free_ char *text = NULL;
        unsigned long long pages, resident;
        uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

        if (io_read_file("/proc/self/statm", 4 * KiB, &text, NULL, NULL) < 0 ||
            sscanf(text, "%llu %llu", &pages, &resident) != 2)
                return; /* without /proc the last value stays */
        metrics_set(METRIC_PROCESS_VIRTUAL, 0, pages * page);
        metrics_set(METRIC_PROCESS_RESIDENT, 0, resident * page);
}

static uint64_t count_entries(const char *path)
{
        const struct dirent *entry;
        uint64_t n = 0;
        DIR *dir = opendir(path);

        while (dir && (entry = readdir(dir)))
                n += entry->d_name[0] != '.';
        if (dir)
                (void)closedir(dir);
        return n > 0 ? n - 1 : 0; /* the one that we just had for this */
}

/* From Linux 6.2 on the directory's size is their number (proc_pid_fd(5)). */
static void gather_descriptors(void)
{
        struct stat st;
        struct rlimit limit;
        bool told = stat("/proc/self/fd", &st) == 0 && st.st_size > 0;
        uint64_t n = told ? (uint64_t)st.st_size : count_entries("/proc/self/fd");

        metrics_set(METRIC_PROCESS_OPEN_FDS, 0, n);
        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return;
        metrics_set(METRIC_PROCESS_MAX_FDS, 0, limit.rlim_cur);
        set_usage(USAGE_DESCRIPTORS, n, limit.rlim_cur);
}

static void gather_process(void)
{
        struct rusage usage;

        if (getrusage(RUSAGE_SELF, &usage) == 0)
                metrics_set(METRIC_PROCESS_CPU, 0,
                            nsec_of(usage.ru_utime) + nsec_of(usage.ru_stime));
        set_usage(USAGE_THREADS, offload_threads(), OFFLOAD_MAX);
        gather_memory();
        gather_descriptors();
}

void metrics_gather(struct registry *r, const struct rpc_server *server)
{
        gather_sandboxes(r);
        gather_store(r->store);
        gather_server(server);
        gather_process();
}
