#include "daemon/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/offload.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/access.h"
#include "daemon/activation.h"
#include "daemon/agents.h"
#include "daemon/bundle.h"
#include "daemon/engine_docker.h"
#include "daemon/engine_oci.h"
#include "daemon/idmap.h"
#include "daemon/image.h"
#include "daemon/interceptor.h"
#include "daemon/lock.h"
#include "daemon/loop_lag.h"
#include "daemon/metrics.h"
#include "daemon/network.h"
#include "daemon/nofile.h"
#include "daemon/notify.h"
#include "daemon/overlay.h"
#include "daemon/reconcile.h"
#include "daemon/registry.h"
#include "daemon/reload.h"
#include "daemon/router.h"
#include "daemon/rpc_limits.h"
#include "daemon/sandbox.h"
#include "daemon/service_host.h"
#include "daemon/service_image.h"
#include "daemon/service_sandbox.h"
#include "daemon/service_task.h"
#include "daemon/watch.h"
#include "daemon/watchdog.h"
#include "daemon/workspaces.h"
#include "methods.h"
#include "rpc/server.h"
#include "rpc/service_health.h"
#include "rpc/service_reflection.h"

/* Operations under way may end before the daemon does; what takes longer is taken up again by the
 * next one. */
#define STOP_TIMEOUT_MS 20000

struct daemon {
        uv_loop_t loop;
        struct config *config;
        char *runtimed;
        int data_lock, state_lock, instance_lock;
        char *instance_path; /* of the lock; NULL: none was taken */
        struct proc *proc;
        struct engine *engine;
        struct network *network;
        struct store *store;
        struct registry registry;
        struct reconciler reconciler;
        struct watch_hub hub;
        struct service_sandbox sandboxes;
        struct service_host host;
        struct service_image images;
        struct router router;
        struct service_task tasks;
        struct service_health health;
        struct service_reflection reflection;
        struct interceptor interceptor;
        struct reloader reloader;
        struct rpc_server *server;
        int activated; /* the socket that systemd handed over; -1: none */
        struct watchdog watchdog;
        struct loop_lag lag;
        uv_signal_t sigterm, sigint, sighup;
        uv_timer_t stop_timer;
        bool stopping;
};

/* --- the house it lives in ----------------------------------------------------------------- */

/* The supervisor lies beside the daemon's own program, or where `make install` puts it, below the
 * same prefix. */
static int find_runtimed(char **ret, struct err *e)
{
        char self[PATH_MAX];

        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
        if (n < 0)
                return err_errno(e, errno, "find the daemon's own program");
        self[n] = '\0';
        const char *directory = dirname(self);
        _cleanup_free_ char *beside = str_printf("%s/runtimed", directory);
        _cleanup_free_ char *installed = str_printf("%s/../libexec/sandboxd/runtimed", directory);
        const char *const candidates[] = {beside, installed};
        for (size_t i = 0; i < ARRAY_SIZE(candidates); i++) {
                if (candidates[i] && access(candidates[i], X_OK) == 0) {
                        *ret = realpath(candidates[i], NULL);
                        return *ret ? 0 : err_errno(e, errno, "find '%s'", candidates[i]);
                }
        }
        return err_set(e, STATUS_NOT_FOUND, "the supervisor is neither at '%s' nor at '%s'", beside,
                       installed);
}

static int make_directories(const struct config *c, struct err *e)
{
        _cleanup_free_ char *images = image_directory(c->data_dir);
        _cleanup_free_ char *bundles = str_printf("%s/bundles", c->state_dir);
        _cleanup_free_ char *socket = strdup(c->socket);
        int r = images && bundles && socket ? io_mkdir_all(images, 0700, e) : err_oom(e);

        if (r == 0)
                r = workspaces_prepare(c, e);
        if (r == 0)
                r = overlays_prepare(c, e);
        if (r == 0)
                r = io_mkdir_all(c->state_dir, 0755, e);
        if (r == 0)
                r = io_mkdir_all(bundles, 0700, e);
        return r == 0 ? io_mkdir_all(dirname(socket), 0755, e) : r;
}

static int lock_directory(const char *key, const char *directory, int *ret_fd, struct err *e)
{
        _cleanup_free_ char *path = str_printf("%s/lock", directory);

        if (!path)
                return err_oom(e);
        int r = lock_take(path, ret_fd, e);
        if (r == -EWOULDBLOCK)
                return err_set(e, STATUS_ALREADY_EXISTS,
                               "another sandboxd uses %s '%s'; stop it, or give this one a %s of "
                               "its own",
                               key, directory, key);
        return r;
}

/* A copy of a data directory has the same instance: it would take the original's sandboxes for its
 * own. */
static int lock_instance(struct daemon *d, struct err *e)
{
        const char *instance = store_instance(d->store);

        if (!instance[0])
                return 0; /* the database was refused, and nothing is changed */
        int r = io_mkdir_all(LOCK_INSTANCES, 0700, e);
        if (r < 0)
                return r;
        if (!(d->instance_path = str_printf("%s/%s", LOCK_INSTANCES, instance)))
                return err_oom(e);
        r = lock_take(d->instance_path, &d->instance_lock, e);
        if (r == -EWOULDBLOCK)
                return err_set(
                        e, STATUS_ALREADY_EXISTS,
                        "data_dir '%s' is a copy of one that another sandboxd uses now; stop "
                        "that one, or begin with an empty data_dir",
                        d->config->data_dir);
        return r;
}

/* A host whose default image cannot be made still serves the others. */
static int make_default_image(const struct config *c, struct err *e)
{
        _cleanup_free_ char *images = image_directory(c->data_dir);
        struct err why;

        if (!images)
                return err_oom(e);
        if (str_eq(c->defaults.image, IMAGE_DEFAULT) && image_make_default(images, &why) < 0)
                log_warn("the default image could not be made: %s", why.msg);
        return 0;
}

/* A burst of large messages shall not stay resident; without the fixed thresholds glibc raises its
 * own to 32 MiB with the first large buffer that is freed (mallopt(3)). Nor shall every thread that
 * comes and goes leave an arena behind. */
static void keep_memory_small(void)
{
        (void)mallopt(M_MMAP_THRESHOLD, (int)MiB); /* none fails */
        (void)mallopt(M_TRIM_THRESHOLD, (int)MiB);
        (void)mallopt(M_ARENA_MAX, 2);
}

static int settle(struct daemon *d, struct err *e)
{
        const struct config *c = d->config;

        (void)umask(022);
        (void)signal(SIGPIPE, SIG_IGN); /* fails for no valid signal */
        keep_memory_small();
        nofile_raise(c->defaults.nofile);
        int r = find_runtimed(&d->runtimed, e);
        if (r == 0)
                r = make_directories(c, e);
        if (r == 0)
                r = lock_directory("data_dir", c->data_dir, &d->data_lock, e);
        if (r == 0)
                r = lock_directory("state_dir", c->state_dir, &d->state_lock, e);
        return r == 0 && str_eq(c->engine, "oci") ? make_default_image(c, e) : r;
}

/* --- its parts ----------------------------------------------------------------------------- */

/* A database that cannot be trusted is left as it is, and the sandboxes with it. */
static bool is_refused(const struct err *e)
{
        return e->code == STATUS_DATA_LOSS || e->code == STATUS_FAILED_PRECONDITION;
}

static int open_store(struct daemon *d, struct err *e)
{
        _cleanup_free_ char *path = str_printf("%s/sandboxd.db", d->config->data_dir);
        _cleanup_free_ char *witness = str_printf("%s/witness", d->config->state_dir);
        const struct store_options options = {.path = path, .witness = witness};

        if (!path || !witness)
                return err_oom(e);
        int r = store_open(&d->loop, &options, &d->store, e);
        if (r == 0 || !is_refused(e))
                return r;
        const struct err why = *e;
        log_error("%s; nothing is changed until that is repaired", why.msg);
        return store_open_refused(&d->loop, &options, d->config->state_dir, &why, &d->store, e);
}

static int read_host_boot_id(char ret[HOST_BOOT_ID_LEN + 1], struct err *e)
{
        _cleanup_free_ char *text = NULL;

        int r = io_read_file("/proc/sys/kernel/random/boot_id", 64, &text, NULL, e);
        if (r == 0)
                (void)str_format(ret, HOST_BOOT_ID_LEN + 1, "%s", text); /* without the newline */
        return r;
}

static void on_paused(void *data, const char *id, bool paused)
{
        struct daemon *d = data;

        sandbox_found_paused(&d->registry, id, paused);
}

static bool knows(void *data, const char *id)
{
        struct daemon *d = data;

        return registry_find_id(&d->registry, id) != NULL;
}

static void on_engine_back(void *data)
{
        struct daemon *d = data;

        if (!d->stopping)
                sandbox_mend_all(&d->registry);
}

static int open_engine(struct daemon *d, struct err *e)
{
        static const struct engine_listener listener = {
                .knows = knows,
                .on_paused = on_paused,
                .on_back = on_engine_back,
        };
        bool docker = str_eq(d->config->engine, "docker");
        const char *instance = store_instance(d->store);
        int r = docker ? engine_docker_new(&d->loop, d->config, instance, d->proc, d->runtimed,
                                           &d->engine, e)
                       : engine_oci_new(&d->loop, d->config, instance, d->proc, &d->engine, e);

        if (r < 0)
                return r;
        d->engine->listener = &listener;
        d->engine->listener_data = d;
        return 0;
}

static int open_network(struct daemon *d, struct err *e)
{
        char instance[25];

        return network_open(&d->loop, d->proc, d->config,
                            network_instance(d->config->state_dir, instance, sizeof(instance)),
                            &d->network, e);
}

/* Not with a database that cannot be trusted: what nobody claims may be in use. */
static void begin_networks(struct daemon *d)
{
        if (d->engine->has_networks)
                return;
        network_begin(d->network);
        if (str_eq(d->config->defaults.network, "bridge"))
                network_want(d->network);
}

/* Only sandboxes with a writable root need it, and say so. But who has no descriptor for it has
 * none for the rest either. */
static int open_idmap(struct daemon *d, struct err *e)
{
        int fd = d->registry.idmap = idmap_open(BUNDLE_UID, e);

        if (fd == -EMFILE || fd == -ENFILE)
                return fd;
        if (fd < 0)
                log_warn("sandboxes get no writable root: %s", e->msg);
        return 0;
}

static int open_parts(struct daemon *d, struct err *e)
{
        int r = proc_new(&d->loop, &d->proc, e);

        if (r == 0)
                r = open_store(d, e);
        if (r == 0)
                r = lock_instance(d, e);
        if (r == 0)
                r = open_engine(d, e);
        if (r == 0)
                r = open_network(d, e);
        if (r < 0)
                return r;
        d->registry = (struct registry){
                .loop = &d->loop,
                .config = d->config,
                .proc = d->proc,
                .engine = d->engine,
                .network = d->network,
                .store = d->store,
                .runtimed = d->runtimed,
        };
        d->registry.resolv = &d->reloader.resolv;
        TAILQ_INIT(&d->registry.waiting);
        watch_hub_init(&d->hub, d->store);
        r = open_idmap(d, e);
        if (r == 0)
                r = agents_prepare(&d->registry, e);
        if (r == 0)
                r = read_host_boot_id(d->registry.host_boot_id, e);
        if (r == 0)
                r = reconcile_open(&d->reconciler, &d->registry, e);
        if (r == 0 && d->engine->ops->listen)
                d->engine->ops->listen(d->engine);
        if (r == 0 && !store_problem(d->store))
                begin_networks(d);
        return r;
}

/* May new work be sent here? */
static void tell_health(void *data)
{
        struct daemon *d = data;

        service_health_set(&d->health, !store_problem(d->store) && !d->registry.draining);
}

/* What listens while no daemon does is systemd's, and so is its path. */
static int listen_activated(struct daemon *d, struct err *e)
{
        struct sockaddr_un address = {0};
        socklen_t n = sizeof(address) - 1; /* so that the path ends in NUL */

        (void)getsockname(d->activated, (struct sockaddr *)&address, &n); /* it is a socket */
        int r = rpc_server_listen_fd(d->server, d->activated, address.sun_path, e);
        if (r < 0)
                return r;
        d->activated = -1;
        d->registry.socket = rpc_server_path(d->server);
        if (!str_eq(address.sun_path, d->config->socket))
                log_warn("systemd listens on '%s', the configuration says socket: '%s'; change "
                         "ListenStream= of sandboxd.socket, or the configuration",
                         address.sun_path, d->config->socket);
        log_info("sandboxd %s listens on %s, for systemd", SANDBOXD_VERSION, address.sun_path);
        return 0;
}

/* Between the bind and the chown it is root's group that may connect, and has a role only if the
 * configuration gives it one. */
static int listen_itself(struct daemon *d, struct err *e)
{
        const struct config *c = d->config;
        const struct config_principal *group = &c->socket_group;
        int r = rpc_server_listen(d->server, c->socket, group->exists ? 0660 : 0600, e);

        if (r == 0 && group->exists && lchown(c->socket, (uid_t)-1, group->id) < 0)
                r = err_errno(e, errno, "give the socket '%s' to the group '%s'", c->socket,
                              group->name);
        d->registry.socket = c->socket;
        if (r == 0)
                log_info("sandboxd %s listens on %s", SANDBOXD_VERSION, c->socket);
        return r;
}

static int open_server(struct daemon *d, struct err *e)
{
        static const struct rpc_wire *const wires[] = {&rpc_wire_ttrpc, &rpc_wire_grpc, NULL};
        static const struct rpc_descriptors *const tables[] = {&methods_descriptors, NULL};
        const struct rpc_server_limits limits = rpc_limits_of(&d->config->rpc);

        access_warn(d->config);
        d->router.registry = &d->registry;
        d->host = (struct service_host){.registry = &d->registry, .reloader = &d->reloader};
        int r = rpc_server_new(&d->loop, wires, &limits, &d->server, e);
        if (r == 0)
                r = service_sandbox_add(&d->sandboxes, d->server, &d->registry, &d->hub, e);
        if (r == 0)
                r = service_host_add(&d->host, d->server, e);
        if (r == 0)
                r = service_image_add(&d->images, d->server, &d->registry, e);
        if (r == 0)
                r = router_add(&d->router, d->server, &process_service, e);
        if (r == 0)
                r = router_add(&d->router, d->server, &app_service, e);
        if (r == 0)
                r = service_task_add(&d->tasks, d->server, &d->registry, &d->router, e);
        if (r == 0)
                r = service_health_add(&d->health, d->server, e);
        d->registry.on_draining = tell_health;
        d->registry.on_draining_data = d;
        if (r == 0)
                tell_health(d);
        if (r == 0)
                r = service_reflection_add(&d->reflection, d->server, tables, e);
        if (r == 0)
                r = interceptor_install(&d->interceptor, d->server, &d->registry, e);
        if (r == 0)
                r = rpc_limits_apply(d->server, &d->config->rpc, e);
        if (r == 0)
                metrics_open(d->server, d->engine);
        d->reloader.server = d->server;
        if (r < 0)
                return r;
        return d->activated >= 0 ? listen_activated(d, e) : listen_itself(d, e);
}

static void close_parts(struct daemon *d)
{
        service_image_done(&d->images);
        if (d->engine) {
                struct engine *engine = TAKE(d->engine);
                engine->ops->close(engine);
        }
        if (d->store)
                store_close(TAKE(d->store));
        watch_hub_done(&d->hub);
        if (d->proc)
                proc_close(TAKE(d->proc));
}

/* --- stopping ------------------------------------------------------------------------------ */

static void close_handle(uv_handle_t *handle)
{
        if (!uv_is_closing(handle))
                uv_close(handle, NULL);
}

static void close_handles(struct daemon *d)
{
        close_handle((uv_handle_t *)&d->sigterm);
        close_handle((uv_handle_t *)&d->sigint);
        close_handle((uv_handle_t *)&d->sighup);
        close_handle((uv_handle_t *)&d->stop_timer);
        watchdog_close(&d->watchdog);
        loop_lag_close(&d->lag);
}

static void on_network_closed(void *data)
{
        struct daemon *d = data;

        close_parts(d);
        close_handles(d);
}

/* No sandbox is about to take or give back a network any more. */
static void on_server_closed(void *data)
{
        struct daemon *d = data;

        if (d->network)
                network_close(TAKE(d->network), on_network_closed, d);
        else
                on_network_closed(d);
}

/* Whoever waited for an operation has his answer in the socket now. */
static void on_idle(void *data)
{
        struct daemon *d = data;

        if (d->server)
                rpc_server_close(TAKE(d->server), (unsigned)d->config->rpc.drain_timeout_ms,
                                 on_server_closed, d);
        else
                on_server_closed(d);
}

static void on_reconcile_closed(void *data)
{
        struct daemon *d = data;

        if (!sandbox_close_all(&d->registry, on_idle, d))
                on_idle(d);
}

static void on_stop_timeout(uv_timer_t *timer)
{
        (void)timer;
        log_warn("operations are still under way; the next start takes them up");
        _exit(EXIT_SUCCESS); /* their callbacks point into what is here */
}

static void stop(struct daemon *d)
{
        if (d->stopping)
                return;
        d->stopping = true;
        notify_stopping();
        if (d->server)
                service_host_stop(&d->host); /* which takes back what it made, an operation */
        d->registry.closing = true;          /* nothing new begins */
        reload_stop(&d->reloader);
        (void)uv_timer_start(&d->stop_timer, on_stop_timeout,
                             STOP_TIMEOUT_MS + d->config->rpc.drain_timeout_ms,
                             0); /* never fails */
        if (d->server) {
                service_health_stop(&d->health);
                service_sandbox_stop(&d->sandboxes);
                service_image_stop(&d->images);
                rpc_server_drain(d->server);
        }
        reconcile_close(&d->reconciler, on_reconcile_closed, d);
}

static void on_signal(uv_signal_t *signal, int signum)
{
        log_info("stopping on signal %d; the sandboxes go on", signum);
        stop(signal->data);
}

static void on_hangup(uv_signal_t *signal, int signum)
{
        struct daemon *d = signal->data;

        (void)signum;
        reload_on_signal(&d->reloader);
}

static void on_turn(uint64_t ms)
{
        metrics_observe(METRIC_LOOP_LAG, 0, ms * NSEC_PER_MSEC);
}

static void init_handles(struct daemon *d)
{
        /* None of these fails. */
        (void)uv_signal_init(&d->loop, &d->sigterm);
        (void)uv_signal_init(&d->loop, &d->sigint);
        (void)uv_signal_init(&d->loop, &d->sighup);
        (void)uv_timer_init(&d->loop, &d->stop_timer);
        d->sigterm.data = d->sigint.data = d->sighup.data = d;
        loop_lag_open(&d->lag, &d->loop, on_turn);
}

/* Until now a signal ends the process, as it should while nothing is under way. */
static void watch_signals(struct daemon *d)
{
        /* None fails for a valid signal. */
        (void)uv_signal_start(&d->sigterm, on_signal, SIGTERM);
        (void)uv_signal_start(&d->sigint, on_signal, SIGINT);
        (void)uv_signal_start(&d->sighup, on_hangup, SIGHUP);
}

/* The sandboxes from before may have name servers of an older configuration. */
static void refresh_resolv(struct daemon *d)
{
        struct err e;

        if (!store_problem(d->store) && resolv_refresh(&d->reloader.resolv, NULL, NULL, &e) < 0)
                log_warn("sandboxes may have old name servers: %s", e.msg);
}

int daemon_run(struct config *config, const struct config_sources *sources, struct err *e)
{
        struct daemon d = {.config = config,
                           .data_lock = -1,
                           .state_lock = -1,
                           .instance_lock = -1,
                           .activated = -1};

        if (geteuid() != 0)
                return err_set(e, STATUS_PERMISSION_DENIED,
                               "sandboxd must run as root; use sudo, or its systemd service");
        int r = activation_take(&d.activated, e);
        if (r == 0)
                r = settle(&d, e);
        if (r == 0 && (r = uv_loop_init(&d.loop)) < 0)
                r = err_errno(e, -r, "make the event loop");
        if (r < 0)
                goto out;
        init_handles(&d);
        reload_init(&d.reloader, config, sources, &d.registry);
        metrics_set(METRIC_PROCESS_START, 0, (uint64_t)record_now() * NSEC_PER_MSEC);
        r = open_parts(&d, e);
        if (r == 0)
                r = open_server(&d, e);
        if (r == 0) {
                watch_signals(&d);
                refresh_resolv(&d);
                notify_ready();
                watchdog_open(&d.watchdog, &d.registry, &d.reconciler);
        } else {
                stop(&d);
        }
        (void)uv_run(&d.loop, UV_RUN_DEFAULT); /* until every handle is closed */
        service_host_done(&d.host);
        int open = uv_loop_close(&d.loop);
        if (open < 0)
                log_error("the event loop did not close clean: %s", uv_strerror(open));
        if (offload_threads() > 0) {
                log_warn("%u pieces of work hang; left to themselves", offload_threads());
                _exit(r == 0 ? EXIT_SUCCESS : EXIT_FAILURE); /* what they use must stay */
        }
out:
        agents_done(&d.registry);
        free(d.runtimed);
        if (d.instance_lock >= 0)
                lock_remove(d.instance_path, d.instance_lock);
        free(d.instance_path);
        if (d.activated >= 0)
                (void)close(d.activated);
        if (d.data_lock >= 0)
                (void)close(d.data_lock);
        if (d.state_lock >= 0)
                (void)close(d.state_lock);
        return r;
}
