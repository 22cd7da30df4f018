/* How a lease is made and removed: a thread makes the namespace, the plugins of the conflist join
 * it to the host one after the other, and nft takes it into the table; backwards to remove it.
 * https://www.cni.dev/docs/spec/ */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_addr.h>
#include <linux/ipv6.h>
#include <linux/magic.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/failpoint.h"
#include "base/io.h"
#include "base/offload.h"
#include "base/util.h"
#include "daemon/json.h"
#include "daemon/network_private.h"

#define INTERFACE "eth0" /* in the namespace */

struct lease *lease_new(struct network *n, const char *name)
{
        struct lease *l = calloc(1, sizeof(*l));

        if (!l)
                return NULL;
        l->network = n;
        (void)str_format(l->name, sizeof(l->name), "%s", name); /* an id */
        l->directory = str_printf("%s/%s", n->directory, name);
        l->netns = str_printf("%s/%s/netns", n->directory, name);
        if (l->directory && l->netns)
                return l;
        lease_free(l);
        return NULL;
}

void lease_free(struct lease *l)
{
        free(l->directory);
        free(l->netns);
        strv_free(l->addresses);
        strv_free(l->links);
        json_decref(l->conflist);
        json_decref(l->result);
        free(l);
}

/* --- threads --------------------------------------------------------------------------------- */

/* What a thread gets: copies, for it may come too late. */
struct job {
        int (*work)(struct job *job);
        void (*done)(struct lease *l, const struct err *e);
        char *directory, *netns;
        char *texts[2];
        char **links;
        struct err err;
        int result;
};

static void job_free(void *data)
{
        struct job *job = data;

        free(job->directory);
        free(job->netns);
        free(job->texts[0]);
        free(job->texts[1]);
        strv_free(job->links);
        free(job);
}

static void on_job(void *data)
{
        struct job *job = data;

        job->result = job->work(job);
}

static void on_job_done(void *ctx, void *data)
{
        struct lease *l = ctx;
        struct job *job = data;
        struct err e;

        if (!job) {
                (void)err_set(&e, STATUS_DEADLINE_EXCEEDED, "'%s' hangs", l->directory);
                l->job_done(l, &e);
                return;
        }
        e = job->err;
        bool failed = job->result < 0;
        job_free(job);
        l->job_done(l, failed ? &e : NULL);
}

/* The texts are taken over; NULL: no memory was left for them, unless it needs none. */
static int start_job(struct lease *l, int (*work)(struct job *job), bool with_text, char *text,
                     void (*done)(struct lease *l, const struct err *e), struct err *e)
{
        const struct offload_ops ops = {on_job, on_job_done, job_free};
        struct job *job = calloc(1, sizeof(*job));

        if (!job) {
                free(text);
                return err_oom(e);
        }
        job->work = work;
        job->texts[0] = text;
        job->directory = strdup(l->directory);
        job->netns = strdup(l->netns);
        if (l->links)
                job->links = strv_copy((const char *const *)l->links,
                                       strv_len((const char *const *)l->links));
        l->job_done = done;
        int r = !job->directory || !job->netns || (with_text && !text) || (l->links && !job->links)
                        ? err_oom(e)
                        : offload(l->network->loop, NETWORK_STEP_MS, &ops, l, job, e);
        if (r < 0)
                job_free(job);
        return r;
}

static int write_file(const char *directory, const char *name, const char *text, struct err *e)
{
        char path[PATH_MAX];

        if (!str_format(path, sizeof(path), "%s/%s", directory, name))
                return err_errno(e, ENAMETOOLONG, "'%s/%s'", directory, name);
        return io_write_atomic(path, text, strlen(text), 0600, e);
}

/* Of the namespace of the thread. */
static int write_sysctl(const char *path, const char *value)
{
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

        return fd < 0 ? -errno : io_write_all(fd, value, strlen(value));
}

static int set_loopback_up(void)
{
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

        return fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

/* The thread stays in the namespace, and ends. */
static int work_make(struct job *job)
{
        struct err *e = &job->err;

        if (mkdir(job->directory, 0700) < 0)
                return err_errno(e, errno, "make '%s'", job->directory);
        int r = write_file(job->directory, "conflist", job->texts[0], e);
        if (r < 0)
                return r;
        _cleanup_close_ int fd = open(job->netns, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
        if (fd < 0)
                return err_errno(e, errno, "make '%s'", job->netns);
        if (unshare(CLONE_NEWNET) < 0)
                return err_errno(e, errno, "make a network namespace");
        r = set_loopback_up();
        if (r < 0)
                return err_errno(e, -r, "set the loopback interface of a namespace up");
        /* Nobody else has these addresses: no waiting for somebody who says so. A kernel without
         * IPv6 has no such file. */
        (void)write_sysctl("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
        (void)write_sysctl("/proc/sys/net/ipv6/conf/default/accept_ra", "0");
        if (mount("/proc/thread-self/ns/net", job->netns, NULL, MS_BIND, NULL) < 0)
                return err_errno(e, errno, "mount a network namespace on '%s'", job->netns);
        return 0;
}

/* Ports of one bridge do not see each other: what passes there passes no rule of ours. */
static int isolate(const char *link, struct err *e)
{
        char path[128];

        (void)str_format(path, sizeof(path), "/sys/class/net/%s/brport/isolated", link);
        int r = write_sysctl(path, "1");
        return r < 0 && r != -ENOENT ? err_errno(e, -r, "isolate '%s' on its bridge", link) : 0;
}

/* Takes an IPv6 address off its interface and puts it there again. */
static int renew_address(const char *hex, struct in6_ifreq *address)
{
        for (size_t i = 0; i < sizeof(address->ifr6_addr); i++)
                if (sscanf(hex + 2 * i, "%2hhx", &address->ifr6_addr.s6_addr[i]) != 1)
                        return -EINVAL;
        _cleanup_close_ int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || ioctl(fd, SIOCDIFADDR, address) < 0 || ioctl(fd, SIOCSIFADDR, address) < 0)
                return -errno;
        return 0;
}

/* For a second or two the kernel asks the link whether somebody else has the host's new addresses,
 * and does not answer for them meanwhile (RFC 4862, 5.4): nothing that the sandbox says over IPv6
 * would find its way. Nobody else can have them. What a link that does not ask gets is there at
 * once. */
static int skip_asking(const char *link, struct err *e)
{
        char path[128], line[128], hex[33], name[IFNAMSIZ];
        unsigned flags;
        struct in6_ifreq a;
        int r = 0;

        (void)str_format(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_dad", link);
        if (write_sysctl(path, "0") < 0)
                return 0; /* no IPv6 here, or no such link any more */
        FILE *f = fopen("/proc/net/if_inet6", "re");
        while (f && r == 0 && fgets(line, sizeof(line), f))
                if (sscanf(line, "%32s %x %x %*x %x %15s", hex, (unsigned *)&a.ifr6_ifindex,
                           &a.ifr6_prefixlen, &flags, name) == 5 &&
                    str_eq(name, link) && flags & IFA_F_TENTATIVE)
                        r = renew_address(hex, &a);
        if (f)
                (void)fclose(f); /* it was only read */
        return r < 0 ? err_errno(e, -r, "make the IPv6 addresses of '%s' anew", link) : 0;
}

static int work_keep(struct job *job)
{
        int r = write_file(job->directory, "result", job->texts[0], &job->err);

        for (char **link = job->links; r == 0 && *link; link++) {
                r = isolate(*link, &job->err);
                if (r == 0)
                        r = skip_asking(*link, &job->err);
        }
        return r;
}

static int work_own(struct job *job)
{
        return write_file(job->directory, "sandbox", job->texts[0], &job->err);
}

static int work_remove(struct job *job)
{
        if (umount2(job->netns, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL &&
            errno != ENOENT)
                return err_errno(&job->err, errno, "unmount '%s'", job->netns);
        return io_remove_tree(job->directory, &job->err);
}

/* --- JSON ------------------------------------------------------------------------------------ */

/* What ends up in the rules' text between quotes, and in a path. */
static bool is_link_name(const char *s)
{
        size_t n = strlen(s);
        return n > 0 && n < IFNAMSIZ && s[0] != '.' &&
               strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-@") == n;
}

static int read_links(const json_t *result, struct strv_builder *links, struct err *e)
{
        size_t i;
        const json_t *interface;

        json_array_foreach(json_object_get(result, "interfaces"), i, interface)
        {
                const char *name = json_text(interface, "name");
                if (*json_text(interface, "sandbox"))
                        continue;
                if (!is_link_name(name) || links->n == NETWORK_LINKS_MAX)
                        return err_set(e, STATUS_FAILED_PRECONDITION,
                                       "the CNI plugins tell of an interface of no usable name, "
                                       "or of more than %d",
                                       NETWORK_LINKS_MAX);
                strv_add(links, name);
        }
        if (links->n == 0)
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "the CNI plugins make no interface on the host, so that no rule "
                               "could hold the sandbox: use ptp or bridge, not macvlan, ipvlan or "
                               "host-device");
        return 0;
}

static int read_addresses(const json_t *result, struct strv_builder *addresses, struct err *e)
{
        char text[NET_RULE_MAX];
        size_t i;
        const json_t *ip;

        json_array_foreach(json_object_get(result, "ips"), i, ip)
        {
                const char *address = json_text(ip, "address");
                struct net_rule rule;
                if (net_rule_parse(address, strcspn(address, "/"), &rule, NULL) < 0 ||
                    !net_rule_is_subnet(&rule) || addresses->n == NETWORK_ADDRESSES_MAX)
                        return err_set(e, STATUS_FAILED_PRECONDITION,
                                       "the CNI plugins give '%.64s', which is no address, or more "
                                       "than %d",
                                       address, NETWORK_ADDRESSES_MAX);
                strv_add(addresses, net_rule_format(&rule, text, sizeof(text)));
        }
        if (addresses->n == 0)
                return err_set(e, STATUS_FAILED_PRECONDITION, "the CNI plugins give no address");
        return 0;
}

/* Fills links and addresses from the result. */
static int read_result(struct lease *l, struct err *e)
{
        struct strv_builder links = {0}, addresses = {0};

        int r = read_links(l->result, &links, e);
        if (r == 0)
                r = read_addresses(l->result, &addresses, e);
        char **l1 = strv_take(&links), **l2 = strv_take(&addresses);
        if (r == 0 && (!l1 || !l2))
                r = err_oom(e);
        if (r < 0) {
                strv_free(l1);
                strv_free(l2);
                return r;
        }
        strv_free(l->links);
        strv_free(l->addresses);
        l->links = l1;
        l->addresses = l2;
        l->given = (struct network_lease){l->netns, (const char *const *)l->addresses};
        return 0;
}

static int check_conflist(const json_t *conflist, const char *origin, struct err *e)
{
        const json_t *plugins = json_object_get(conflist, "plugins"), *plugin;
        size_t i, n = json_array_size(plugins);

        if (!*json_text(conflist, "name") || n == 0 || n > NETWORK_PLUGINS_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "%s: expected a CNI configuration list with a name and 1 to %d "
                               "plugins",
                               origin, NETWORK_PLUGINS_MAX);
        json_array_foreach(plugins, i, plugin)
        {
                const char *type = json_text(plugin, "type");
                if (!*type || strchr(type, '/'))
                        return err_set(e, STATUS_INVALID_ARGUMENT,
                                       "%s: plugin %zu has no type, or one with a slash", origin,
                                       i + 1);
        }
        return 0;
}

/* Point to point: no sandbox sees another one's frames, a bridge's number of ports is no limit, and
 * a reverse path check by interface tells who sends what. The table masquerades, not the plugin. */
static json_t *make_conflist(const struct network *n)
{
        json_t *ranges = json_array(), *routes = json_array();

        for (char **s = n->config->network.subnets; *s; s++) {
                (void)json_array_append_new(ranges, json_pack("[{s:s}]", "subnet", *s));
                (void)json_array_append_new(
                        routes, json_pack("{s:s}", "dst", strchr(*s, ':') ? "::/0" : "0.0.0.0/0"));
        }
        _cleanup_free_ char *leases = str_printf("%s/ipam", n->directory);
        return json_pack("{s:s, s:s, s:[{s:s, s:b, s:{s:s, s:s, s:o, s:o}}]}", "cniVersion",
                         "1.0.0", "name", n->instance, "plugins", "type", "ptp", "ipMasq", 0,
                         "ipam", "type", "host-local", "dataDir", leases ? leases : "", "ranges",
                         ranges, "routes", routes);
}

int lease_load_conflist(struct network *n, struct err *e)
{
        const char *path = n->config->network.conflist;
        _cleanup_free_ char *text = NULL;
        json_error_t error;

        if (!path || !*path) {
                n->conflist = make_conflist(n);
                return n->conflist ? 0 : err_oom(e);
        }
        int r = io_read_file(path, NETWORK_FILE_MAX, &text, NULL, e);
        if (r < 0)
                return err_prefix(e, "network.conflist");
        n->conflist = json_loads(text, JSON_REJECT_DUPLICATES, &error);
        if (!n->conflist)
                return err_set(e, STATUS_INVALID_ARGUMENT, "network.conflist: %s:%d:%d: %s", path,
                               error.line, error.column, error.text);
        return check_conflist(n->conflist, path, e);
}

static json_t *load_json(const struct lease *l, const char *name)
{
        char path[PATH_MAX];
        _cleanup_free_ char *text = NULL;

        if (!str_format(path, sizeof(path), "%s/%s", l->directory, name) ||
            io_read_file(path, NETWORK_FILE_MAX, &text, NULL, NULL) < 0)
                return NULL;
        return json_loads(text, 0, NULL);
}

/* It is none before it was mounted, or when the host has started since. */
static bool is_namespace(const char *path)
{
        struct statfs fs;

        return statfs(path, &fs) == 0 && fs.f_type == NSFS_MAGIC;
}

void lease_load(struct lease *l)
{
        json_t *owner = load_json(l, "sandbox");
        struct err e;

        l->mounted = is_namespace(l->netns);
        l->conflist = load_json(l, "conflist");
        /* Without one its link would stay, and no rule know of it. */
        if (!l->conflist || check_conflist(l->conflist, l->directory, &e) < 0) {
                json_decref(l->conflist);
                l->conflist = json_incref(l->network->conflist);
        }
        l->tried = true;
        l->result = load_json(l, "result");
        bool good = l->result && read_result(l, &e) == 0;
        l->linked = good;
        if (good && id_is_valid(json_text(owner, "id")) &&
            egress_parse(json_text(owner, "egress"), &l->policy, &e) == 0)
                (void)str_format(l->id, sizeof(l->id), "%s", json_text(owner, "id"));
        json_decref(owner);
}

void lease_left_address(struct lease *l)
{
        l->conflist = make_conflist(l->network);
        l->tried = true;
}

/* --- plugins --------------------------------------------------------------------------------- */

static const char *find_plugin(char *const *directories, const char *type, char *out, size_t size)
{
        for (; *directories; directories++)
                if (str_format(out, size, "%s/%s", *directories, type) && access(out, X_OK) == 0)
                        return out;
        return NULL;
}

/* The one whose turn it is. */
static json_t *plugin_of(const struct lease *l)
{
        return json_array_get(json_object_get(l->conflist, "plugins"), l->step);
}

/* The plugin's part of the list, with what the specification has added to it. */
static char *plugin_input(const struct lease *l)
{
        json_t *input = json_copy(plugin_of(l));

        (void)json_object_set(input, "name", json_object_get(l->conflist, "name"));
        (void)json_object_set(input, "cniVersion", json_object_get(l->conflist, "cniVersion"));
        if (l->result)
                (void)json_object_set(input, "prevResult", l->result);
        char *text = json_dumps(input, JSON_COMPACT);
        json_decref(input);
        return text;
}

/* NULL: no memory. */
static char **plugin_env(const struct lease *l, const char *command)
{
        char **plugins = l->network->config->network.plugins, path[2048] = "";
        struct strv_builder b = {0};

        for (char **d = plugins; *d; d++)
                (void)str_format(path + strlen(path), sizeof(path) - strlen(path), "%s%s",
                                 d == plugins ? "" : ":", *d); /* cut if it must be */
        strv_addf(&b, "CNI_COMMAND=%s", command);
        strv_addf(&b, "CNI_CONTAINERID=%s", l->name);
        strv_addf(&b, "CNI_NETNS=%s", l->mounted ? l->netns : "");
        strv_add(&b, "CNI_IFNAME=" INTERFACE);
        strv_addf(&b, "CNI_PATH=%s", path);
        strv_add(&b, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        return strv_take(&b);
}

static int run_plugin(struct lease *l, const char *command,
                      void (*done)(void *data, const struct proc_result *result), struct err *e)
{
        struct network *n = l->network;
        const char *type = json_text(plugin_of(l), "type");
        char program[PATH_MAX];

        if (!find_plugin(n->config->network.plugins, type, program, sizeof(program)))
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "there is no CNI plugin '%s' in network.plugins: apt install "
                               "containernetworking-plugins",
                               type);
        _cleanup_strv_ char **env = plugin_env(l, command);
        _cleanup_free_ char *text = plugin_input(l);
        if (!env || !text)
                return err_oom(e);
        _cleanup_close_ int in = io_make_input(text, strlen(text));
        if (in < 0)
                return err_errno(e, -in, "make the input of '%s'", program);
        const char *const argv[] = {program, NULL};
        const struct proc_how how = {
                .envp = (const char *const *)env, .stdin_file = in, .only_stdout = true};
        int r = proc_run_how(n->proc, argv, &how, NETWORK_STEP_MS, done, l, e);
        l->tried |= r == 0;
        return r;
}

/* A plugin says what was wrong in JSON on its standard output. */
static void plugin_error(const struct lease *l, const struct proc_result *result,
                         const char *command, struct err *e)
{
        const char *type = json_text(plugin_of(l), "type");
        json_t *told = json_loads(result->output, 0, NULL);
        char shown[400];
        const char *msg = json_text(told, "msg");

        if (*msg)
                (void)err_set(e, STATUS_UNAVAILABLE, "CNI plugin '%s', %s: %s", type, command,
                              str_escape(shown, sizeof(shown), msg, strlen(msg)));
        else {
                (void)proc_result_error(result, type, e);
                (void)err_prefix(e, "CNI plugin, %s", command);
        }
        json_decref(told);
}

/* --- make ------------------------------------------------------------------------------------ */

static void end_make(struct lease *l, const struct err *e)
{
        l->made(l, e);
}

static void on_kept(struct lease *l, const struct err *e)
{
        struct err own;

        FAILPOINT("network.kept");
        if (e) {
                end_make(l, e);
                return;
        }
        l->linked = l->ruled = true;
        l->policy.mode = EGRESS_OPEN;
        char *text = rules_text_add(l, false, NULL);
        if ((text ? rules_change(l->network, text, l, end_make, &own) : err_oom(&own)) < 0)
                end_make(l, &own);
}

static void add_next(struct lease *l);

static void on_added(void *data, const struct proc_result *result)
{
        struct lease *l = data;
        struct err e;

        FAILPOINT("network.added");
        json_t *told = result->exit_code == 0 ? json_loads(result->output, 0, NULL) : NULL;
        if (!told) {
                plugin_error(l, result, "ADD", &e);
                end_make(l, &e);
                return;
        }
        json_decref(l->result);
        l->result = told;
        l->step++;
        add_next(l);
}

static void add_next(struct lease *l)
{
        struct err e;
        int r;

        if (l->step < json_array_size(json_object_get(l->conflist, "plugins")))
                r = run_plugin(l, "ADD", on_added, &e);
        else {
                r = read_result(l, &e);
                if (r == 0)
                        r = start_job(l, work_keep, true, json_dumps(l->result, JSON_COMPACT),
                                      on_kept, &e);
        }
        if (r < 0)
                end_make(l, &e);
}

static void on_namespace(struct lease *l, const struct err *e)
{
        FAILPOINT("network.namespace");
        l->mounted = !e;
        if (e)
                end_make(l, e);
        else
                add_next(l);
}

int lease_make(struct lease *l, void (*made)(struct lease *l, const struct err *e), struct err *e)
{
        l->made = made;
        l->step = 0;
        l->conflist = json_incref(l->network->conflist);
        return start_job(l, work_make, true, json_dumps(l->conflist, JSON_COMPACT), on_namespace,
                         e);
}

int lease_own(struct lease *l, void (*owned)(struct lease *l, const struct err *e), struct err *e)
{
        char policy[EGRESS_TEXT_MAX];
        json_t *owner = json_pack("{s:s, s:s}", "id", l->id, "egress",
                                  egress_format(&l->policy, policy, sizeof(policy)));
        char *text = owner ? json_dumps(owner, JSON_COMPACT) : NULL;

        json_decref(owner);
        return start_job(l, work_own, true, text, owned, e);
}

/* --- remove ---------------------------------------------------------------------------------- */

static void on_gone(struct lease *l, const struct err *e)
{
        l->removed(l, e);
}

static void remove_directory(struct lease *l)
{
        struct err e;

        if (start_job(l, work_remove, false, NULL, on_gone, &e) < 0)
                l->removed(l, &e);
}

static void on_links_out(struct lease *l, const struct err *e)
{
        (void)e; /* nothing is behind that name any more; the next change writes the table anew */
        remove_directory(l);
}

static void take_links_out(struct lease *l)
{
        struct err e;
        bool linked = l->linked;

        l->linked = false;
        char *text = linked ? rules_text_remove_links(l) : NULL;
        if (!linked || !text || rules_change(l->network, text, l, on_links_out, &e) < 0)
                remove_directory(l);
}

static void delete_next(struct lease *l);

static void on_deleted(void *data, const struct proc_result *result)
{
        struct lease *l = data;
        struct err e;

        FAILPOINT("network.deleted");
        if (result->exit_code != 0) {
                plugin_error(l, result, "DEL", &e);
                l->removed(l, &e);
                return;
        }
        delete_next(l);
}

static void delete_next(struct lease *l)
{
        struct err e;

        if (l->step == 0) {
                take_links_out(l);
                return;
        }
        l->step--;
        if (run_plugin(l, "DEL", on_deleted, &e) < 0)
                l->removed(l, &e);
}

static void on_policy_out(struct lease *l, const struct err *e)
{
        (void)e; /* the link goes now, and with it whoever had that policy; and as above */
        delete_next(l);
}

void lease_remove(struct lease *l, void (*removed)(struct lease *l, const struct err *e))
{
        struct err e;
        bool ruled = l->ruled;

        l->removed = removed;
        l->step = l->tried ? json_array_size(json_object_get(l->conflist, "plugins")) : 0;
        l->ruled = false;
        /* First: an address that DEL frees may be the next one's at once. The link stays known for
         * what must not pass until it has gone. */
        char *text = ruled ? rules_text_remove_policy(l) : NULL;
        if (!ruled || !text || rules_change(l->network, text, l, on_policy_out, &e) < 0)
                delete_next(l);
}
