#include "daemon/doctor.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/offload.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/advisory.h"
#include "daemon/doctor_checks.h"
#include "daemon/doctor_trial.h"
#include "daemon/name_servers.h"
#include "daemon/proc.h"

#define CHECK_TIMEOUT_MS   5000 /* of one, as of the next two */
#define STORE_TIMEOUT_MS   5000
#define VERSION_TIMEOUT_MS 5000
#define ANSWER_TIMEOUT_MS  2000 /* of all name servers together */
#define ADVISORIES_MAX     8

struct doctor {
        struct registry *registry;
        struct doctor_options options;
        const struct doctor_ops *ops;
        void *data;
        struct doctor_subject subject;
        size_t check, runtime; /* the next ones */
        char doing[FINDING_ID_MAX];
        uv_timer_t deadline, step; /* of the whole; of what has no deadline of its own */
        struct trial *trial;       /* NULL: none is under way */
        struct name_server servers[NAME_SERVERS_MAX];
        size_t n_servers;
        bool store_told;
        bool over;     /* nothing is called back any more */
        unsigned owed; /* callbacks */
        LIST_ENTRY(doctor) entry;
};

static void next_check(struct doctor *d);
static void tell_engine(struct doctor *d);
static void next_runtime(struct doctor *d);

/* --- ending -------------------------------------------------------------------------------- */

static void free_doctor(struct doctor *d)
{
        LIST_REMOVE(d, entry);
        free(d);
}

/* An answer has come that was owed. */
static void settle(struct doctor *d)
{
        if (--d->owed == 0)
                free_doctor(d);
}

static void on_handle_closed(uv_handle_t *handle)
{
        settle(handle->data);
}

static void close_doctor(struct doctor *d)
{
        d->over = true;
        if (d->trial)
                trial_abandon(TAKE(d->trial));
        uv_close((uv_handle_t *)&d->deadline, on_handle_closed);
        uv_close((uv_handle_t *)&d->step, on_handle_closed);
}

void doctor_abandon(struct doctor *d)
{
        close_doctor(d);
}

void doctor_list_done(struct doctor_list *list)
{
        while (!LIST_EMPTY(list))
                free_doctor(LIST_FIRST(list));
}

static void finish(struct doctor *d)
{
        close_doctor(d); /* d lives until its handles are closed */
        d->ops->on_done(d->data);
}

static void tell(struct doctor *d, const struct finding *f)
{
        d->ops->on_finding(d->data, f);
}

static void on_deadline(uv_timer_t *timer)
{
        struct doctor *d = timer->data;
        struct finding f;

        finding_init(&f, "doctor", "what was not looked at may be well or not");
        finding_set(&f, FINDING_FAIL, "it was not done after %u s: %s hung, or what came before it",
                    d->options.timeout_ms / 1000, d->doing);
        finding_repair(&f, "repair what failed above, then run it again");
        tell(d, &f);
        finish(d);
}

/* --- what can be seen at once -------------------------------------------------------------- */

/* What the thread has; it may outlive the rest. */
struct check_job {
        struct doctor_subject subject;
        const struct doctor_check *check;
        struct finding finding;
};

static void check_work(void *data)
{
        struct check_job *job = data;

        job->check->run(&job->subject, &job->finding);
}

static void on_checked(void *ctx, void *data)
{
        struct doctor *d = ctx;
        struct check_job *job = data;
        const struct doctor_check *check = doctor_check(d->check);
        struct finding f;

        finding_init(&f, check->id, check->why);
        finding_set(&f, FINDING_FAIL, "no answer within %d s: a disk, or the kernel, hangs",
                    CHECK_TIMEOUT_MS / 1000);
        finding_repair(&f, "dmesg | tail -50 tells what hangs");
        if (!d->over) {
                tell(d, job ? &job->finding : &f);
                d->check++;
                next_check(d);
        }
        free(job);
        settle(d);
}

static int start_check(struct doctor *d, const struct doctor_check *check, struct err *e)
{
        static const struct offload_ops ops = {
                .work = check_work, .done = on_checked, .drop = free};
        struct check_job *job = calloc(1, sizeof(*job));

        if (!job)
                return err_oom(e);
        job->subject = d->subject;
        job->check = check;
        finding_init(&job->finding, check->id, check->why);
        int r = offload(d->registry->loop, CHECK_TIMEOUT_MS, &ops, d, job, e);
        if (r < 0)
                free(job);
        else
                d->owed++;
        return r;
}

/* --- the database -------------------------------------------------------------------------- */

static void tell_store(struct doctor *d, const struct err *e)
{
        struct finding f;

        finding_init(&f, "store", "what was promised to clients stands in it");
        if (!e && store_is_short(d->registry->store)) {
                finding_set(&f, FINDING_FAIL, "whole; its disk is full, so nothing is created");
                finding_repair(&f, "make room on the disk of %s", d->subject.data_dir);
        } else if (!e) {
                finding_set(&f, FINDING_OK, "whole");
        } else if (e->code == STATUS_DEADLINE_EXCEEDED) {
                finding_set(&f, FINDING_WARN, "no damage seen, but not all of it looked at: %s",
                            e->msg);
                finding_repair(&f, "run it again when the host has less to do");
        } else {
                finding_set(&f, FINDING_FAIL, "%s", e->msg);
                finding_repair(&f,
                               "systemctl stop sandboxd, keep a copy of %s/sandboxd.db*, then "
                               "do as docs/state.md says",
                               d->subject.data_dir);
        }
        d->store_told = true;
        tell(d, &f);
        tell_engine(d);
        next_runtime(d);
}

static void on_store_checked(void *data, const struct err *e)
{
        struct doctor *d = data;

        (void)uv_timer_stop(&d->step); /* never fails */
        if (!d->over && !d->store_told)
                tell_store(d, e);
        settle(d);
}

static void on_store_hangs(uv_timer_t *timer)
{
        struct err e;

        (void)err_set(&e, STATUS_INTERNAL,
                      "the database does not answer within %d s: its disk hangs",
                      STORE_TIMEOUT_MS / 1000);
        tell_store(timer->data, &e);
}

static void check_store(struct doctor *d)
{
        struct err e;

        (void)str_format(d->doing, sizeof(d->doing), "store"); /* it fits */
        if (store_check(d->registry->store, on_store_checked, d, &e) < 0) {
                tell_store(d, &e);
                return;
        }
        d->owed++;
        (void)uv_timer_start(&d->step, on_store_hangs, STORE_TIMEOUT_MS, 0); /* never fails */
}

/* By and by, so that each finding is told when it is known. */
static void next_check(struct doctor *d)
{
        const struct doctor_check *check;
        struct finding f;
        struct err e;

        while ((check = doctor_check(d->check))) {
                (void)str_format(d->doing, sizeof(d->doing), "%s", check->id); /* it fits */
                if (start_check(d, check, &e) == 0)
                        return;
                finding_init(&f, check->id, check->why);
                finding_set(&f, FINDING_FAIL, "it cannot be looked at: %s", e.msg);
                finding_repair(&f, "dmesg | tail -50 tells what hangs");
                tell(d, &f);
                d->check++;
        }
        check_store(d);
}

/* --- the runtimes -------------------------------------------------------------------------- */

/* What an engine that is not the daemon itself says of itself. */
static void tell_engine(struct doctor *d)
{
        const struct engine *engine = d->registry->engine;
        struct finding f;

        if (!engine->about)
                return;
        (void)str_format(d->doing, sizeof(d->doing), "engine"); /* it fits */
        finding_init(&f, "engine",
                     "sandboxes are made by it, and end with it unless it is told "
                     "otherwise");
        finding_set(&f, FINDING_OK, "%s", engine->about);
        if (engine->problem[0]) {
                finding_set(&f, FINDING_FAIL, "%s", engine->problem);
                finding_repair(&f, "systemctl restart docker, or docker.socket in the "
                                   "configuration");
        } else if (strstr(engine->about, "live-restore is off")) {
                finding_set(&f, FINDING_WARN, "%s", engine->about);
                finding_repair(&f, "{\"live-restore\": true} in /etc/docker/daemon.json, then "
                                   "systemctl reload docker");
        }
        tell(d, &f);
}

static const struct engine_runtime *current_runtime(const struct doctor *d)
{
        return &d->registry->engine->runtimes[d->runtime];
}

static void init_runtime_finding(struct doctor *d, struct finding *f, const char *what,
                                 const char *why)
{
        (void)str_format(d->doing, sizeof(d->doing), "runtime.%s.%s", current_runtime(d)->name,
                         what); /* may be cut */
        finding_init(f, d->doing, why);
}

/* Without the default one most creates fail; without another those that name it. */
static enum finding_status status_of_lack(const struct doctor *d)
{
        return str_eq(current_runtime(d)->name, d->registry->config->runtime) ? FINDING_FAIL
                                                                              : FINDING_WARN;
}

static void skip_runtime(struct doctor *d)
{
        d->runtime++;
        next_runtime(d);
}

static void on_trial_finding(void *data, const struct finding *f)
{
        struct doctor *d = data;

        (void)str_format(d->doing, sizeof(d->doing), "what follows %s", f->id); /* may be cut */
        tell(d, f);
}

static void on_trial_done(void *data, const char *resolv_conf)
{
        struct doctor *d = data;

        d->trial = NULL;
        if (resolv_conf)
                name_servers_add(d->servers, &d->n_servers, resolv_conf);
        skip_runtime(d);
}

static void try_runtime(struct doctor *d)
{
        static const struct trial_ops ops = {
                .on_finding = on_trial_finding,
                .on_done = on_trial_done,
        };
        struct finding f;
        struct err e;

        init_runtime_finding(d, &f, "sandbox", "it is what clients come for");
        if (d->registry->draining) {
                finding_set(&f, FINDING_WARN, "not tried: this host is being drained");
                finding_repair(&f, "sandboxctl drain --cancel, then run it again");
                tell(d, &f);
                skip_runtime(d);
                return;
        }
        if (trial_start(d->registry, current_runtime(d), d->options.owner, &ops, d, &d->trial,
                        &e) == 0)
                return;
        finding_set(&f, FINDING_FAIL, "it cannot be made: %s", e.msg);
        finding_repair(&f, "sandboxctl create --runtime %s shows the same; repair what it says",
                       current_runtime(d)->name);
        tell(d, &f);
        skip_runtime(d);
}

static void tell_network_stack(struct doctor *d)
{
        const struct engine_runtime *r = current_runtime(d);
        bool netstack = str_eq(r->network, "netstack");
        struct finding f;

        init_runtime_finding(d, &f, "network",
                             "it decides whose network stack a sandbox with a network has");
        finding_set(&f, r->network_fails ? FINDING_WARN : FINDING_OK, "%s: %s",
                    netstack ? "gVisor's own stack" : "the host's stack", r->network_why);
        if (r->network_fails)
                finding_repair(&f,
                               "do what it says, or set runtimes.%s.network_stack: host; then "
                               "systemctl restart sandboxd",
                               r->name);
        if (!netstack && str_eq(r->platform, "ptrace")) {
                finding_add(&f, FINDING_WARN, "with it a runsc so old loses most requests");
                finding_repair(&f, "install a runsc of 2023 or newer, then systemctl restart "
                                   "sandboxd");
        }
        tell(d, &f);
}

/* gVisor's two ways into the host's kernel. */
static void tell_gvisor(struct doctor *d)
{
        const struct engine_runtime *r = current_runtime(d);
        struct finding f;

        init_runtime_finding(d, &f, "platform",
                             "how gVisor takes the guest's system calls decides "
                             "how fast they are");
        finding_set(&f, FINDING_OK, "%s", r->platform);
        if (str_eq(r->platform, "ptrace")) {
                finding_set(&f, FINDING_WARN,
                            "ptrace, several times slower than systrap, which "
                            "this runsc does not have");
                finding_repair(&f, "install a runsc of 2023 or newer, then systemctl restart "
                                   "sandboxd");
        }
        tell(d, &f);
        tell_network_stack(d);
}

/* "1.2.8 or 1.3.3" */
static void format_fixed(const struct advisory *a, char *out, size_t size)
{
        out[0] = '\0';
        for (size_t i = 0; i < ARRAY_SIZE(a->fixed) && a->fixed[i]; i++) {
                size_t n = strlen(out);
                (void)str_format(out + n, size - n, "%s%s", i ? " or " : "", a->fixed[i]);
        }
}

static void judge_version(const struct doctor *d, const struct runtime_version *version,
                          struct finding *f)
{
        const struct engine_runtime *r = current_runtime(d);
        const struct advisory *found[ADVISORIES_MAX];
        char fixed[64];

        finding_set(f, FINDING_OK, "%s", version->package[0] ? version->package : version->text);
        if (!version_parse(version->text, &(struct version){0})) {
                finding_set(f, FINDING_WARN, "%s does not tell its version", r->path);
                finding_repair(f, "runtimes: {%s: {path: /usr/bin/%s}}", r->name, r->type);
        }
        size_t n = advisories_find(r->type, version, found, ADVISORIES_MAX);
        for (size_t i = 0; i < n; i++) {
                format_fixed(found[i], fixed, sizeof(fixed));
                finding_add(f, FINDING_WARN, "%s: %s (repaired in %s)", found[i]->ids,
                            found[i]->what, fixed);
                finding_repair(f,
                               "install %s %s or newer; so says the number alone, and the "
                               "distribution may have repaired an older one: see its security "
                               "tracker",
                               r->type, fixed);
        }
        if (r->version[0] && !str_eq(r->version, version->text)) {
                finding_add(f, FINDING_WARN, "it was %s when the daemon started", r->version);
                finding_repair(f, "systemctl restart sandboxd; sandboxes go on meanwhile");
        }
}

static void on_version(void *data, const struct proc_result *result)
{
        struct doctor *d = data;
        struct runtime_version version;
        struct finding f;
        struct err e;

        if (d->over) {
                settle(d);
                return;
        }
        init_runtime_finding(d, &f, "version", "a known hole may let a sandbox out");
        if (result->exit_code != 0) {
                (void)proc_result_error(result, "--version", &e);
                finding_set(&f, FINDING_FAIL, "%s %s; so it was not tried",
                            current_runtime(d)->path, e.msg);
                finding_repair(&f, "apt-get install --reinstall %s", current_runtime(d)->type);
                tell(d, &f);
                skip_runtime(d);
        } else {
                runtime_version_parse(result->output, &version);
                judge_version(d, &version, &f);
                tell(d, &f);
                if (current_runtime(d)->platform[0])
                        tell_gvisor(d);
                try_runtime(d);
        }
        settle(d);
}

/* Asked anew: it may be another one than when the daemon started. */
static int ask_version(struct doctor *d, struct err *e)
{
        const char *const argv[] = {current_runtime(d)->path, "--version", NULL};

        int r = proc_run(d->registry->proc, argv, -1, VERSION_TIMEOUT_MS, on_version, d, e);
        if (r == 0)
                d->owed++;
        return r;
}

/* --- name servers -------------------------------------------------------------------------- */

struct dns_job {
        struct name_server servers[NAME_SERVERS_MAX];
        size_t n;
};

static void dns_work(void *data)
{
        struct dns_job *job = data;

        name_servers_ask(job->servers, job->n, NAME_SERVER_PORT, ANSWER_TIMEOUT_MS);
}

static void init_servers_finding(struct finding *f)
{
        finding_init(f, "dns.servers",
                     "names are resolved by them, in sandboxes that have a network");
}

static void judge_servers(const struct name_server *servers, size_t n, struct finding *f)
{
        unsigned answer = 0;

        for (size_t i = 0; i < n; i++) {
                const struct name_server *s = &servers[i];
                answer += s->answers && s->code == 0;
                if (s->answers && s->code == 0)
                        finding_add(f, FINDING_OK, "%s answers", s->address);
                else if (s->answers)
                        finding_add(f, FINDING_WARN, "%s refuses (code %u)", s->address, s->code);
                else
                        finding_add(f, FINDING_WARN, "%s does not answer (%s)", s->address,
                                    s->errnum ? strerror(s->errnum) : "no word within 2 s");
        }
        if (answer == 0)
                finding_add(f, FINDING_WARN, "so no name can be resolved");
        if (f->status != FINDING_OK)
                finding_repair(f, "dns: {servers: [...]} with such as answer this host");
}

static void cannot_ask(struct finding *f, const char *why)
{
        finding_set(f, FINDING_WARN, "they could not be asked: %s", why);
        finding_repair(f, "run it again when the host has less to do");
}

static void on_answers(void *ctx, void *data)
{
        struct doctor *d = ctx;
        const struct dns_job *job = data;
        struct finding f;

        if (!d->over) {
                init_servers_finding(&f);
                if (job)
                        judge_servers(job->servers, job->n, &f);
                else
                        cannot_ask(&f, "it took too long");
                tell(d, &f);
                finish(d);
        }
        free(data);
        settle(d);
}

static int start_asking(struct doctor *d, struct err *e)
{
        static const struct offload_ops ops = {.work = dns_work, .done = on_answers, .drop = free};
        struct dns_job *job = calloc(1, sizeof(*job));

        if (!job)
                return err_oom(e);
        memcpy(job->servers, d->servers, sizeof(job->servers));
        job->n = d->n_servers;
        int r = offload(d->registry->loop, 2 * ANSWER_TIMEOUT_MS, &ops, d, job, e);
        if (r < 0)
                free(job);
        else
                d->owed++;
        return r;
}

/* Those that sandboxes were told of. Most sandboxes have no network and ask none, so neither do we
 * unless we are told to: no packet of ours shall surprise anybody. */
static void ask_name_servers(struct doctor *d)
{
        struct finding f;
        struct err e;

        (void)str_format(d->doing, sizeof(d->doing), "dns.servers"); /* it fits */
        init_servers_finding(&f);
        if (d->options.ask_name_servers && d->n_servers > 0) {
                if (start_asking(d, &e) == 0)
                        return;
                cannot_ask(&f, e.msg);
        } else if (d->n_servers == 0) {
                finding_set(&f, FINDING_WARN, "not known: no sandbox was told of any");
                finding_repair(&f, "repair the runtimes first");
        } else {
                for (size_t i = 0; i < d->n_servers; i++)
                        finding_add(&f, FINDING_OK, "%s", d->servers[i].address);
                finding_add(&f, FINDING_OK, "not asked; --ask-dns asks them");
        }
        tell(d, &f);
        finish(d);
}

/* --- the sequence -------------------------------------------------------------------------- */

static void next_runtime(struct doctor *d)
{
        struct finding f;
        struct err e;

        for (; d->runtime < d->registry->engine->n_runtimes; d->runtime++) {
                const struct engine_runtime *r = current_runtime(d);
                init_runtime_finding(d, &f, "program", "sandboxes are made by it");
                finding_set(&f, FINDING_OK, "%s", r->path);
                if (r->problem[0]) {
                        finding_set(&f, status_of_lack(d), "%s", r->problem);
                        if (d->registry->engine->about)
                                finding_repair(&f, "do what it says");
                        else
                                finding_repair(&f,
                                               "apt-get install %s && systemctl restart sandboxd",
                                               r->type);
                } else if (ask_version(d, &e) < 0) {
                        finding_set(&f, status_of_lack(d), "%s", e.msg);
                        finding_repair(&f, "apt-get install --reinstall %s", r->type);
                } else {
                        tell(d, &f);
                        return;
                }
                tell(d, &f);
        }
        ask_name_servers(d);
}

/* On a turn of its own: nothing is called back before the return of doctor_new. */
static void on_begin(uv_timer_t *timer)
{
        next_check(timer->data);
}

int doctor_new(struct registry *r, const struct doctor_options *options,
               const struct doctor_ops *ops, void *data, struct doctor_list *list,
               struct doctor **ret, struct err *e)
{
        _cleanup_free_ struct doctor *d = calloc(1, sizeof(*d));

        if (!d)
                return err_oom(e);
        d->registry = r;
        d->options = *options;
        d->ops = ops;
        d->data = data;
        int n = doctor_subject_init(&d->subject, r, e);
        if (n < 0)
                return n;
        LIST_INSERT_HEAD(list, d, entry);
        (void)uv_timer_init(r->loop, &d->deadline); /* none of the four fails */
        (void)uv_timer_init(r->loop, &d->step);
        d->deadline.data = d->step.data = d;
        d->owed = 2; /* the handles' closing */
        (void)uv_timer_start(&d->deadline, on_deadline, options->timeout_ms, 0);
        (void)uv_timer_start(&d->step, on_begin, 0, 0);
        *ret = TAKE(d);
        return 0;
}
