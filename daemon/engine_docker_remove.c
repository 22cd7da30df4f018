/* A container is taken away: its processes first, then what Docker has of it, then its bundle. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/bundle_files.h"
#include "daemon/cgroup.h"
#include "daemon/docker_spec.h"
#include "daemon/engine_docker_private.h"

#define REMOVE_MS 6000
/* A cgroup empties a moment after its last process was killed. */
#define CGROUP_RETRY_MS 5
#define CGROUP_RETRIES  300
#define FOUND_MAX       8 /* containers of one sandbox; there should be one */
/* Docker may think that a process runs which has just ended, fail to kill it, and say 500. */
#define DELETE_RETRY_MS 100
#define DELETE_RETRIES  5

struct docker_removal {
        struct engine_docker *engine;
        LIST_ENTRY(docker_removal) entry;
        char id[ID_LEN + 1];
        uint64_t until;                /* uv_now: for Docker's part */
        unsigned retries;              /* of the cgroup's removal */
        unsigned delete_retries;       /* of all containers' */
        bool search;                   /* for what bears its label, under whatever name */
        unsigned found;                /* so */
        char name[DOCKER_ID_LEN + 16]; /* of what is being removed, or its id */
        uv_timer_t timer;
        void (*done)(void *data, const struct err *err);
        void *data;
};

static void on_timer_closed(uv_handle_t *handle)
{
        free(CONTAINER(handle, struct docker_removal, timer));
}

static void remove_done(struct docker_removal *job, const struct err *e)
{
        LIST_REMOVE(job, entry); /* first: who is told may close the engine */
        job->done(job->data, e);
        uv_close((uv_handle_t *)&job->timer, on_timer_closed);
}

void docker_removals_close(struct engine_docker *e)
{
        while (!LIST_EMPTY(&e->removals)) {
                struct docker_removal *job = LIST_FIRST(&e->removals);
                LIST_REMOVE(job, entry);
                uv_close((uv_handle_t *)&job->timer, on_timer_closed);
        }
}

static unsigned time_left(const struct docker_removal *job)
{
        uint64_t now = uv_now(job->engine->loop);

        return job->until > now ? (unsigned)(job->until - now) : 1;
}

/* --- what is ours -------------------------------------------------------------------------- */

static void remove_bundle(struct docker_removal *job)
{
        _cleanup_free_ char *dir = bundle_path(job->engine->state_dir, job->id, NULL);
        struct err e;
        int r = dir ? io_remove_tree(dir, &e) : err_oom(&e);

        if (r == 0)
                docker_forget(job->engine, job->id);
        remove_done(job, r < 0 ? &e : NULL);
}

/* Docker's word that it is gone is not taken for it while its cgroup has processes. */
static void on_cgroup_timer(uv_timer_t *timer)
{
        struct docker_removal *job = CONTAINER(timer, struct docker_removal, timer);
        _cleanup_free_ char *path = docker_cgroup(job->engine, job->id);
        struct err e;
        int r = path ? cgroup_remove(path, &e) : 0;

        if (r == -EBUSY && ++job->retries < CGROUP_RETRIES) {
                cgroup_kill(path);
                (void)uv_timer_start(timer, on_cgroup_timer, CGROUP_RETRY_MS, 0); /* never fails */
                return;
        }
        if (r == -EBUSY)
                (void)err_set(&e, STATUS_DEADLINE_EXCEEDED,
                              "processes in the cgroup '%s' do not end after SIGKILL", path);
        if (r < 0)
                remove_done(job, &e);
        else
                remove_bundle(job);
}

/* --- what is Docker's ---------------------------------------------------------------------- */

static void ask_delete(struct docker_removal *job);
static void search(struct docker_removal *job);

static void on_gone(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct docker_removal *job = data;

        if (err && answer->status != 404) {
                remove_done(job, err);
                return;
        }
        /* Was it told to be there meanwhile? By name it may have been made just now. */
        job->search |= err && docker_is_known(job->engine, job->id);
        docker_find_cgroup(job->engine, job->id);
        if (job->search)
                search(job);
        else
                on_cgroup_timer(&job->timer);
}

static void on_delete_again(uv_timer_t *timer)
{
        ask_delete(CONTAINER(timer, struct docker_removal, timer));
}

/* 409: somebody else is removing it. */
static void on_deleted(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct docker_removal *job = data;
        struct err e;

        if (answer->status == 500 && ++job->delete_retries <= DELETE_RETRIES)
                /* Never fails. */
                (void)uv_timer_start(&job->timer, on_delete_again, DELETE_RETRY_MS, 0);
        else if (answer->status != 409)
                on_gone(data, answer, err);
        else if (docker_ask(job->engine, "POST",
                            str_printf("/containers/%s/wait?condition=removed", job->name), NULL,
                            time_left(job), on_gone, job, &e) < 0)
                remove_done(job, &e);
}

/* v: the volumes that the image asked for. */
static void ask_delete(struct docker_removal *job)
{
        struct err e;

        if (docker_ask(job->engine, "DELETE", str_printf("/containers/%s?force=1&v=1", job->name),
                       NULL, time_left(job), on_deleted, job, &e) < 0)
                remove_done(job, &e);
}

/* One after the other, until there is none. */
static void on_found(void *data, const struct docker_answer *answer, const struct err *err)
{
        struct docker_removal *job = data;
        json_t *list = err ? NULL : json_loadb(answer->body, answer->n, 0, NULL);
        const char *id = json_text(json_array_get(list, 0), "Id");

        if (err) {
                remove_done(job, err);
        } else if (strlen(id) == DOCKER_ID_LEN && ++job->found <= FOUND_MAX) {
                (void)str_format(job->name, sizeof(job->name), "%s", id); /* it fits */
                ask_delete(job);
        } else {
                job->search = false;
                on_cgroup_timer(&job->timer);
        }
        json_decref(list);
}

static void search(struct docker_removal *job)
{
        struct err e;

        if (docker_ask(job->engine, "GET", docker_filters(job->engine, DOCKER_LABEL_ID, job->id),
                       NULL, time_left(job), on_found, job, &e) < 0)
                remove_done(job, &e);
}

/* Whoever is still alive, or frozen, goes first. */
static void on_begin(uv_timer_t *timer)
{
        struct docker_removal *job = CONTAINER(timer, struct docker_removal, timer);
        struct err e;

        if (bundle_check_engine(job->engine->state_dir, job->id, "docker", &e) < 0) {
                remove_done(job, &e);
                return;
        }
        docker_find_cgroup(job->engine, job->id);
        docker_kill_all(&job->engine->base, job->id);
        _cleanup_free_ char *container = docker_container(job->engine, job->id);
        if (!container) {
                (void)err_oom(&e);
                remove_done(job, &e);
                return;
        }
        (void)str_format(job->name, sizeof(job->name), "%s", container); /* it fits */
        ask_delete(job);
}

int docker_remove(struct engine *base, const struct engine_runtime *runtime, const char *id,
                  void (*done)(void *data, const struct err *err), void *data, struct err *err)
{
        struct engine_docker *e = (struct engine_docker *)base;
        struct docker_removal *job = id_is_valid(id) ? calloc(1, sizeof(*job)) : NULL;

        if (!id_is_valid(id))
                return err_set(err, STATUS_INVALID_ARGUMENT, "'%s' is no id of a sandbox", id);
        if (!job)
                return err_oom(err);
        *job = (struct docker_removal){.engine = e, .done = done, .data = data, .search = !runtime};
        job->until = uv_now(e->loop) + REMOVE_MS;
        (void)str_format(job->id, sizeof(job->id), "%s", id); /* it fits */
        LIST_INSERT_HEAD(&e->removals, job, entry);
        (void)uv_timer_init(e->loop, &job->timer); /* never fails, nor does the next */
        (void)uv_timer_start(&job->timer, on_begin, 0, 0);
        return 0;
}
