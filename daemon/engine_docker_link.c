/* The way to Docker: its version, its runtimes, the containers of ours that it has, and from then
 * on its events. It is sought again, with back-off, whenever it is lost. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/docker_spec.h"
#include "daemon/engine_docker_private.h"

#define WAIT_FIRST_MS 200
#define WAIT_MAX_MS   10000
#define LIST_MS       20000
#define VERSION_MS    5000 /* of a runtime's program */
#define PATIENCE_MS   20000
/* Of the API: what it must have, and the newest of which we know what it says. */
#define API_MIN_MINOR 41
#define API_MAX_MINOR 47
/* Events of before the last one that was heard are told again, and do no harm. */
#define OVERLAP_NS (2 * (int64_t)NSEC_PER_SEC)

static void attempt(struct engine_docker *e);

static int64_t now_ns(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_REALTIME, &now); /* never fails */
        return now.tv_sec * (int64_t)NSEC_PER_SEC + now.tv_nsec;
}

/* One question at a time: it goes with the attempt. */
static int ask(struct engine_docker *e, const char *path, unsigned timeout_ms, size_t answer_max,
               void (*done)(void *data, const struct docker_answer *answer, const struct err *err),
               struct err *err)
{
        const struct docker_request request = {
                .method = "GET",
                .path = path,
                .timeout_ms = timeout_ms,
                .answer_max = answer_max,
                .on_done = done,
                .data = e,
        };

        return path ? docker_call(e->client, &request, &e->link.question, err) : err_oom(err);
}

/* The daemon's start waits for the first attempt, and what a link serves for a second look; for
 * other attempts nobody waits. Before it answers, Podman asks the package manager of the host for
 * the versions of programs, which takes seconds where much is to be done. */
static unsigned about_ms(const struct engine_docker *e)
{
        return e->link.begun && !e->link.up ? PATIENCE_MS : DOCKER_ASK_MS;
}

/* --- lost ---------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
        attempt(CONTAINER(timer, struct engine_docker, link.timer));
}

static void attempt_info(struct engine_docker *e);

static void on_look_again(uv_timer_t *timer)
{
        struct engine_docker *e = CONTAINER(timer, struct engine_docker, link.timer);

        if (e->link.up && !e->link.asking)
                attempt_info(e);
}

void docker_link_look_again(struct engine_docker *e, unsigned ms)
{
        if (e->link.up && !e->closing)
                (void)uv_timer_start(&e->link.timer, on_look_again, ms, 0); /* never fails */
}

static void set_all_problems(struct engine_docker *e, const struct err *why)
{
        docker_set_text(&e->base.problem, strdup(why->msg));
        for (size_t i = 0; i < e->base.n_runtimes; i++)
                docker_set_problem(&e->runtimes[i], strdup(why->msg), true);
}

static void lost(struct engine_docker *e, const struct err *why)
{
        struct docker_link *l = &e->link;

        if (l->up || !l->begun || !str_eq(e->base.problem, why->msg))
                log_warn("%s; trying again", why->msg);
        if (l->events)
                docker_call_cancel(TAKE(l->events));
        if (l->question)
                docker_call_cancel(TAKE(l->question));
        set_all_problems(e, why);
        l->up = l->asking = l->stale = false;
        l->begun = true;
        (void)uv_timer_start(&l->timer, on_timer, l->wait_ms, 0); /* never fails */
        l->wait_ms = MIN(2 * l->wait_ms, (unsigned)WAIT_MAX_MS);
}

/* --- events -------------------------------------------------------------------------------- */

static void tell_paused(struct engine_docker *e, const char *id, bool paused)
{
        docker_know(e, id, &paused, false);
        if (e->base.listener && !e->closing)
                e->base.listener->on_paused(e->base.listener_data, id, paused);
}

struct look {
        struct engine_docker *engine;
        char id[ID_LEN + 1];
};

/* How it is now, and not how it was when the event was told: we may have done it ourselves, and
 * undone it. */
static void on_looked(void *data, const struct docker_answer *answer, const struct err *e)
{
        struct look *look = data;
        json_t *root = e ? NULL : docker_parse(answer, "inspect", NULL);
        const json_t *paused = json_object_get(json_object_get(root, "State"), "Paused");

        if (json_is_boolean(paused))
                tell_paused(look->engine, look->id, json_is_true(paused));
        json_decref(root);
        free(look);
}

static void look_whether_paused(struct engine_docker *e, const char *id)
{
        struct look *look = calloc(1, sizeof(*look));

        if (!look)
                return;
        look->engine = e;
        (void)str_format(look->id, sizeof(look->id), "%s", id); /* it fits */
        if (docker_ask_free(e, "GET", docker_container_path(e, id, "json"), DOCKER_ASK_MS,
                            on_looked, look, NULL) < 0)
                free(look);
}

static void on_stray_removed(void *data, const struct err *err)
{
        (void)data;
        if (err)
                log_warn("a container of no sandbox stays for now: %s", err->msg);
}

static void remove_stray(struct engine_docker *e, const char *id)
{
        struct err err;

        log_info("container sandboxd-%s is of no sandbox, and goes", id);
        if (docker_remove(&e->base, NULL, id, on_stray_removed, e, &err) < 0)
                on_stray_removed(e, &err);
}

/* Only we make such containers, and so did an earlier daemon, whose last request Docker may fulfil
 * when we have looked already. */
static void heed_new(struct engine_docker *e, const char *id)
{
        const struct engine_listener *listener = e->base.listener;
        bool ours = docker_is_helper(&e->base, id);

        docker_know(e, id, NULL, false);
        if (!ours && listener && !e->closing && !listener->knows(e->base.listener_data, id))
                remove_stray(e, id);
}

/* Another may bear the same labels: one of an image that somebody made of the container. */
static bool is_its_own(const struct engine_docker *e, const char *id, const char *container)
{
        _cleanup_free_ char *own = docker_container_id(e, id);

        return !own || str_eq(own, container);
}

static void heed(struct engine_docker *e, const char *action, const char *id, const char *container)
{
        if (str_eq(action, "create"))
                heed_new(e, id);
        else if (!is_its_own(e, id, container))
                return;
        else if (str_eq(action, "oom"))
                docker_know(e, id, NULL, true);
        else if (str_eq(action, "pause") || str_eq(action, "unpause"))
                look_whether_paused(e, id);
        else if (str_eq(action, "destroy"))
                docker_forget(e, id);
}

/* Also what was told while it was asked. */
static void ask_anew(struct engine_docker *e)
{
        if (!e->link.stale || !e->link.up || e->link.asking)
                return;
        e->link.stale = false;
        attempt_info(e);
}

static void on_event(void *data, char *line, size_t n)
{
        struct engine_docker *e = data;
        json_t *root = json_loadb(line, n, 0, NULL);
        const json_t *attributes = json_object_get(json_object_get(root, "Actor"), "Attributes");
        const char *id = json_text(attributes, DOCKER_LABEL_ID);
        const char *instance = json_text(attributes, DOCKER_LABEL_INSTANCE);
        int64_t at = json_integer_value(json_object_get(root, "timeNano"));

        e->link.since = MAX(e->link.since, at);
        if (str_eq(json_text(root, "Type"), "daemon")) {
                e->link.stale = true; /* it has read daemon.json again */
                ask_anew(e);
        } else if (*instance && str_eq(instance, e->instance) && id_is_valid(id)) {
                heed(e, json_text(root, "Action"), id,
                     json_text(json_object_get(root, "Actor"), "ID"));
        }
        json_decref(root);
}

static void on_events_end(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct engine_docker *e = data;
        struct err why;

        (void)answer;
        e->link.events = NULL;
        (void)err_set(&why, STATUS_UNAVAILABLE,
                      "Docker Engine at '%s' has ended its stream of events%s%s",
                      e->config->docker.socket, err ? ": " : "", err ? err->msg : "");
        lost(e, &why);
}

static int hear_events(struct engine_docker *e, struct err *err)
{
        struct docker_link *l = &e->link;
        int64_t since = l->since - OVERLAP_NS;
        _cleanup_free_ char *filters =
                docker_escape("{\"type\":[\"container\",\"daemon\"],\"event\":[\"create\",\"oom\","
                              "\"pause\",\"unpause\",\"destroy\",\"reload\"]}");
        _cleanup_free_ char *path =
                filters ? str_printf("/events?since=%lld.%09lld&filters=%s",
                                     (long long)(since / (int64_t)NSEC_PER_SEC),
                                     (long long)(since % (int64_t)NSEC_PER_SEC), filters)
                        : NULL;
        const struct docker_request request = {
                .method = "GET",
                .path = path,
                .on_line = on_event,
                .on_done = on_events_end,
                .data = e,
        };

        return path ? docker_call(e->client, &request, &l->events, err) : err_oom(err);
}

/* --- containers ---------------------------------------------------------------------------- */

static void found_again(struct engine_docker *e)
{
        struct docker_link *l = &e->link;

        l->wait_ms = WAIT_FIRST_MS;
        l->asking = false;
        l->up = l->begun = true;
        log_info("%s", e->base.about);
        if (e->is_podman)
                log_warn("Podman keeps some of what Docker Engine does, and not all: "
                         "docs/docker.md tells what");
        if (e->base.listener)
                e->base.listener->on_back(e->base.listener_data);
        docker_trial_begin(e);
        ask_anew(e);
}

static void on_list(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct engine_docker *e = data;
        json_t *list = err ? NULL : json_loadb(answer->body, answer->n, 0, NULL);
        const json_t *one;
        struct err why;
        size_t i;

        e->link.question = NULL;
        if (!json_is_array(list)) {
                if (err)
                        why = *err;
                else
                        (void)err_set(&why, STATUS_INTERNAL,
                                      "Docker Engine's list of containers is none");
                json_decref(list);
                lost(e, &why);
                return;
        }
        docker_forget_all(e);
        json_array_foreach(list, i, one)
        {
                const char *id = json_text(json_object_get(one, "Labels"), DOCKER_LABEL_ID);
                if (!id_is_valid(id) || !is_its_own(e, id, json_text(one, "Id")))
                        continue;
                tell_paused(e, id, str_eq(json_text(one, "State"), "paused"));
                if (str_eq(json_text(json_object_get(one, "Labels"), DOCKER_LABEL_HELPER),
                           "true") &&
                    !docker_is_helper(&e->base, id))
                        remove_stray(e, id); /* an earlier daemon's */
        }
        json_decref(list);
        found_again(e);
}

/* The events first, so that none is missed between the list and them. */
static void attempt_list(struct engine_docker *e)
{
        struct err why;

        _cleanup_free_ char *path = docker_filters(e, NULL, NULL);

        if (hear_events(e, &why) < 0 || ask(e, path, LIST_MS, DOCKER_LIST_MAX, on_list, &why) < 0)
                lost(e, &why);
}

/* --- runtimes ------------------------------------------------------------------------------ */

static int take_arguments(struct docker_runtime *r, const json_t *registered)
{
        const json_t *args = json_object_get(registered, "runtimeArgs");
        char *text = json_is_array(args) ? json_dumps(args, 0) : strdup("[]");

        if (!text || strlen(text) < 2) {
                free(text);
                return -ENOMEM;
        }
        text[strlen(text) - 1] = '\0';
        memmove(text, text + 1, strlen(text)); /* without the brackets */
        if (!str_eq(text, r->args) && r->proof != DOCKER_ON_TRIAL)
                r->proof = DOCKER_UNPROVEN;
        free(r->args);
        r->args = text;
        return 0;
}

static void take_network(struct engine_runtime *r, const struct docker_runtime *d)
{
        bool host = strstr(d->args, "\"--network=host\"") != NULL;

        if (!r->netstack)
                return;
        docker_set_text(&r->network_why,
                        str_printf("Docker runs it %s --network=host", host ? "with" : "without"));
        r->network = host ? "host" : "netstack";
        r->platform = strstr(d->args, "ptrace") ? "ptrace" : "systrap";
}

static void on_version(void *data, const struct proc_result *result)
{
        struct engine_runtime *r = data;

        if (result->exit_code == 0)
                docker_set_text(&r->version, engine_parse_version(result->output));
}

/* Why the engine has no such runtime for us; NULL when there is no memory. Podman has more than its
 * default one, and runs that whatever a container asks for. */
static char *missing_text(const struct engine_docker *e, const struct engine_runtime *r,
                          const char *only)
{
        _cleanup_free_ char *way = docker_way_to_register(e, r);

        if (e->is_podman)
                return str_printf(
                        "Podman runs all containers of its socket with '%s', whatever they "
                        "ask for; to have '%s' in its place %s",
                        only, r->name, way ? way : "");
        return str_printf("Docker Engine knows no runtime '%s'; %s", r->name, way ? way : "");
}

static void take_runtime(struct engine_docker *e, size_t i, const json_t *info)
{
        struct engine_runtime *r = &e->runtimes[i];
        struct docker_runtime *d = &e->docker_runtimes[i];
        const json_t *registered = json_object_get(json_object_get(info, "Runtimes"), r->name);
        const char *only = json_text(info, "DefaultRuntime");
        const char *name = json_text(registered, "path");

        d->registered = registered && (!e->is_podman || str_eq(only, r->name));
        if (*name)
                docker_set_text(&r->path, engine_find_program(name));
        if (!d->registered) {
                docker_set_problem(r, missing_text(e, r, only), false);
                d->proof = DOCKER_UNPROVEN;
                return;
        }
        if (take_arguments(d, registered) < 0)
                return;
        take_network(r, d);
        if (d->proof != DOCKER_REFUTED || r->problem_passes)
                docker_set_problem(r, strdup(""), false);
        if (d->proof == DOCKER_REFUTED)
                d->proof = DOCKER_UNPROVEN; /* it may have been repaired */
        const char *const argv[] = {r->path, "--version", NULL};
        (void)proc_run(e->proc, argv, -1, VERSION_MS, on_version, r, NULL); /* for people only */
}

/* --- /info --------------------------------------------------------------------------------- */

static void take_about(struct engine_docker *e, const json_t *info)
{
        const char *restart = e->is_podman ? "a restart of it ends no sandbox"
                              : json_is_true(json_object_get(info, "LiveRestoreEnabled"))
                                      ? "live-restore is on"
                                      : "live-restore is off: a restart of it ends all sandboxes";
        char *about = str_printf("%s %s at %s; cgroups %s by %s; images on %s; %s", docker_name(e),
                                 json_text(info, "ServerVersion"), e->config->docker.socket,
                                 json_text(info, "CgroupVersion"), json_text(info, "CgroupDriver"),
                                 json_text(info, "Driver"), restart);

        docker_set_text(&e->base.about, about);
}

static bool maps_users(const json_t *info)
{
        const json_t *options = json_object_get(info, "SecurityOptions");

        for (size_t i = 0; i < json_array_size(options); i++) {
                const char *option = json_string_value(json_array_get(options, i));
                if (option && str_starts(option, "name=userns"))
                        return true;
        }
        return false;
}

static void on_info(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct engine_docker *e = data;
        struct err why;
        json_t *info = err ? NULL : docker_parse(answer, "GET /info", &why);

        e->link.question = NULL;
        if (!info) {
                if (err)
                        why = *err;
                lost(e, &why);
                return;
        }
        take_about(e, info);
        e->maps_users = maps_users(info);
        docker_set_text(&e->base.problem, strdup(""));
        for (size_t i = 0; i < e->base.n_runtimes; i++)
                take_runtime(e, i, info);
        json_decref(info);
        if (!e->link.up) {
                attempt_list(e);
                return;
        }
        e->link.asking = false;
        log_debug("Docker Engine was asked about its runtimes again");
        docker_trial_begin(e);
        ask_anew(e);
}

static void attempt_info(struct engine_docker *e)
{
        struct err why;

        e->link.asking = true;
        if (ask(e, "/info", about_ms(e), 0, on_info, &why) < 0)
                lost(e, &why);
}

/* --- /version ------------------------------------------------------------------------------ */

/* "1.41": the number behind the point; -1 for something else. */
static int minor_of(const char *version)
{
        uint64_t minor;

        return str_starts(version, "1.") && str_to_u64(version + 2, 999, &minor) ? (int)minor : -1;
}

static bool is_podman(const json_t *version)
{
        const json_t *components = json_object_get(version, "Components");
        bool is_so = false;

        for (size_t i = 0; i < json_array_size(components); i++)
                is_so |= str_eq(json_text(json_array_get(components, i), "Name"), "Podman Engine");
        return is_so;
}

static int choose_version(struct engine_docker *e, const json_t *root, struct err *why)
{
        const char *newest = json_text(root, "ApiVersion");
        const char *oldest = json_text(root, "MinAPIVersion");
        char version[16], shown[64];
        int max = minor_of(newest), min = MAX(minor_of(oldest), 0);

        if (max < API_MIN_MINOR || min > API_MAX_MINOR)
                return err_set(why, STATUS_FAILED_PRECONDITION,
                               "Docker Engine at '%s' speaks version %s of its API; 1.%d or newer "
                               "is needed (Docker 20.10)",
                               e->config->docker.socket,
                               *newest ? str_escape(shown, sizeof(shown), newest, strlen(newest))
                                       : "none",
                               API_MIN_MINOR);
        (void)str_format(version, sizeof(version), "1.%d", MIN(max, API_MAX_MINOR)); /* it fits */
        docker_client_set_version(e->client, version);
        e->is_podman = is_podman(root);
        return 0;
}

static void on_api_version(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct engine_docker *e = data;
        struct err why;
        json_t *root = err ? NULL : docker_parse(answer, "GET /version", &why);
        int r = root ? choose_version(e, root, &why) : -EIO;

        e->link.question = NULL;
        if (err)
                why = *err;
        json_decref(root);
        if (r < 0)
                lost(e, &why);
        else
                attempt_info(e);
}

static void attempt(struct engine_docker *e)
{
        struct err why;

        e->link.asking = true;
        docker_client_set_version(e->client, "");
        if (ask(e, "/version", about_ms(e), 0, on_api_version, &why) < 0)
                lost(e, &why);
}

/* --- life ---------------------------------------------------------------------------------- */

void docker_link_open(struct engine_docker *e)
{
        (void)uv_timer_init(e->loop, &e->link.timer); /* never fails */
        engine_hold(&e->base);                        /* until the timer is closed */
        e->link.wait_ms = WAIT_FIRST_MS;
        e->link.since = now_ns();
        attempt(e);
}

static void on_timer_closed(uv_handle_t *handle)
{
        engine_release(&CONTAINER(handle, struct engine_docker, link.timer)->base);
}

void docker_link_close(struct engine_docker *e)
{
        if (e->link.events)
                docker_call_cancel(TAKE(e->link.events));
        if (e->link.question)
                docker_call_cancel(TAKE(e->link.question));
        uv_close((uv_handle_t *)&e->link.timer, on_timer_closed);
}
