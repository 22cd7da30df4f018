/* What the files of the Docker engine share: engine_docker.c makes it and answers what can be
 * answered at once, _link keeps the way to Docker open and hears its events, _run makes, pauses and
 * removes containers, _image finds and pulls images, _facts reads what we need of one, _trial
 * proves that a runtime shows us its sockets.
 *
 * A container is called "sandboxd-<id of the sandbox>", and bears the labels of docker_spec.h. Its
 * bundle has, beside BUNDLE_DOCKER, which is what Docker is told, these files: */
#pragma once

#include "daemon/engine_docker.h"

#include <pthread.h>
#include <sys/queue.h>
#include <uv/tree.h>

#include "base/id.h"
#include "daemon/docker_client.h"
#include "daemon/json.h"

#define DOCKER_FILE_CONTAINER "container"    /* its id, once it is made */
#define DOCKER_FILE_CGROUP    "cgroup"       /* path in the hierarchies, once it runs */
#define DOCKER_FILE_LOG       "log"          /* what it printed, once it has ended */
#define DOCKER_FILE_SECCOMP   "seccomp.json" /* for an engine that wants a file */

#define DOCKER_ASK_MS    5000  /* of a question that Docker answers from memory */
#define DOCKER_ID_LEN    64    /* of a container */
#define DOCKER_KNOWN_MAX 20000 /* containers of ours that we keep in mind */

/* Docker tells an image's labels with each of its containers, in every list and every event. */
#define DOCKER_LABELS_MAX (16 * 1024)         /* bytes of an image's */
#define DOCKER_LIST_MAX   (192 * 1024 * 1024) /* bytes of a list: so of 10,000 sandboxes */

/* A container of ours, as Docker last told. */
struct docker_known {
        RB_ENTRY(docker_known) entry;
        char id[ID_LEN + 1]; /* of the sandbox */
        bool paused, out_of_memory;
};
RB_HEAD(docker_knowns, docker_known);

struct docker_spec;
struct docker_pull;
struct docker_facts_job;
struct docker_trial;
struct docker_run;

/* Does a socket that was made in the sandbox show on the host? */
enum docker_proof { DOCKER_UNPROVEN, DOCKER_ON_TRIAL, DOCKER_PROVEN, DOCKER_REFUTED };

struct docker_runtime {
        bool registered; /* as Docker says */
        char *args;      /* those it is registered with, as JSON between the brackets */
        enum docker_proof proof;
};

/* The way to Docker. */
struct docker_link {
        uv_timer_t timer; /* of the next attempt */
        unsigned wait_ms; /* before it */
        bool up, begun;   /* begun: the first attempt has come to its end, whatever it was */
        bool asking;      /* an attempt, or a second look, is under way */
        bool stale;       /* daemon.json was read again since it was asked */
        int64_t since;    /* nanoseconds since 1970: of the last event heard */
        struct docker_call *events;   /* NULL: none are heard */
        struct docker_call *question; /* of the attempt; NULL: none */
};

/* A directory of what we know of an image. */
struct docker_facts {
        LIST_ENTRY(docker_facts) entry;
        char hash[65];
        uint64_t used_at; /* uv_now */
};

struct engine_docker {
        struct engine base;
        uv_loop_t *loop;
        const struct config *config; /* not for threads, which may outlive it */
        struct proc *proc;
        char *state_dir;
        char *network;             /* docker.network */
        char *facts_dir;           /* "<data_dir>/docker" */
        char instance[ID_LEN + 1]; /* "": not known */
        struct docker_client *client;
        struct engine_runtime runtimes[CONFIG_RUNTIMES_MAX];
        struct docker_runtime docker_runtimes[CONFIG_RUNTIMES_MAX];
        struct docker_link link;
        bool is_podman;                   /* and not Docker, whose API it speaks */
        bool maps_users;                  /* of containers to others of the host */
        const char *runtimed;             /* host path */
        struct docker_trial *trial;       /* NULL: none is under way */
        TAILQ_HEAD(, docker_run) waiting; /* for a trial */
        LIST_HEAD(, docker_removal) removals;
        LIST_HEAD(, docker_pull) pulls;
        LIST_HEAD(, docker_facts_job) facts_jobs;
        LIST_HEAD(, docker_facts) facts;
        unsigned n_pulls, n_facts, n_known;
        bool closing;
        pthread_mutex_t mutex; /* of: */
        struct docker_knowns knowns;
};

/* --- engine_docker.c --- */

/* GET, and so on; the path is taken over, NULL means no memory. body: JSON, taken over, or NULL. */
int docker_ask(struct engine_docker *e, const char *method, char *path, json_t *body,
               unsigned timeout_ms,
               void (*done)(void *data, const struct docker_answer *answer, const struct err *err),
               void *data, struct err *err);
/* The same without a body, where data is to be freed when the engine closes first. */
int docker_ask_free(struct engine_docker *e, const char *method, char *path, unsigned timeout_ms,
                    void (*done)(void *data, const struct docker_answer *answer,
                                 const struct err *err),
                    void *data, struct err *err);
/* The answer as an object; NULL when it is none, then *err says so. The caller's reference. */
json_t *docker_parse(const struct docker_answer *answer, const char *what, struct err *err);
/* Of a sandbox's container; NULL: none is kept (yet). The caller frees. */
char *docker_container_id(const struct engine_docker *e, const char *id);
/* What Docker is asked for it by: its id, which nobody changes, or, without one, the name that it
 * was made with. The caller frees. */
char *docker_container(const struct engine_docker *e, const char *id);
/* The path of the API for it; what: "json", and so on. The caller frees. */
char *docker_container_path(const struct engine_docker *e, const char *id, const char *what);
/* The path that lists the containers of this instance, that have this label, too; label NULL: all.
 * The caller frees. */
char *docker_filters(const struct engine_docker *e, const char *label, const char *value);
/* Writes what the engine is told of a container into its bundle, whose skeleton is there; says what
 * depends on the engine. Blocks; any thread. */
int docker_write_create(const struct engine_docker *e, struct docker_spec *s, struct err *err);
/* The path of a container's cgroup; NULL when it is not known. The caller frees. */
char *docker_cgroup(const struct engine_docker *e, const char *id);
/* For a container that was made, and of which Docker has not told whether it runs: one that dies
 * while it starts one forgets it. */
void docker_find_cgroup(const struct engine_docker *e, const char *id);
void docker_kill_all(struct engine *base, const char *id);

/* Any thread. */
void docker_know(struct engine_docker *e, const char *id, const bool *paused, bool out_of_memory);
void docker_forget(struct engine_docker *e, const char *id);
bool docker_is_known(struct engine_docker *e, const char *id);
void docker_forget_all(struct engine_docker *e);

/* Who speaks Docker's API, for people. */
static inline const char *docker_name(const struct engine_docker *e)
{
        return e->is_podman ? "Podman" : "Docker Engine";
}
/* As engine_ops.is_helper has it. */
bool docker_is_helper(struct engine *base, const char *id);

/* Another text in place of one; it is taken over, NULL (no memory): the old one stays. */
void docker_set_text(char **to, char *text);
/* Likewise a problem of a runtime; "" for none. */
void docker_set_problem(struct engine_runtime *r, char *text, bool passes);
/* What an operator does to have a runtime as it has to be. The caller frees. */
char *docker_way_to_register(const struct engine_docker *e, const struct engine_runtime *r);

/* No trial is under way any more, for now. */
void docker_trial_ended(struct engine_docker *e);

/* --- engine_docker_link.c --- */

void docker_link_open(struct engine_docker *e);
void docker_link_close(struct engine_docker *e);
/* Asks Docker about its runtimes again, so much later, if the way is open by then. */
void docker_link_look_again(struct engine_docker *e, unsigned ms);

/* --- engine_docker_run.c --- */

int docker_run(struct engine *base, const struct engine_runtime *runtime, const char *id,
               const struct engine_network *network, unsigned timeout_ms,
               void (*done)(void *data, pid_t pid, const struct err *err), void *data,
               struct err *err);
/* The same, without a network and without waiting for a trial. */
int docker_run_now(struct engine_docker *e, const char *id, unsigned timeout_ms,
                   void (*done)(void *data, pid_t pid, const struct err *err), void *data,
                   struct err *err);
/* The trial of a runtime has come to its end: who waits for it goes on. */
void docker_run_go_on(struct engine_docker *e);
int docker_pause(struct engine *base, const struct engine_runtime *runtime, const char *id, bool on,
                 void (*done)(void *data, const struct err *err), void *data, struct err *err);
int docker_learn_end(struct engine *base, const char *id, void (*done)(void *data, int status),
                     void *data, struct err *err);
int docker_list(struct engine *base, const struct engine_runtime *runtime,
                void (*done)(void *data, const struct engine_container *list, size_t n,
                             const struct err *err),
                void *data, struct err *err);

/* --- engine_docker_remove.c --- */

int docker_remove(struct engine *base, const struct engine_runtime *runtime, const char *id,
                  void (*done)(void *data, const struct err *err), void *data, struct err *err);
/* Those that no one waits for may be under way: they are forgotten, and are for the next daemon. */
void docker_removals_close(struct engine_docker *e);

/* --- engine_docker_image.c, engine_docker_facts.c --- */

int docker_find_image(struct engine *base, const char *reference, unsigned timeout_ms,
                      void (*on_step)(void *data, const char *step),
                      void (*done)(void *data, const char *rootfs, const struct err *err),
                      void *data, struct err *err);
void docker_pulls_close(struct engine_docker *e);

/* Makes the directory that find_image gives. reference: for people; inspected: what Docker says of
 * the image. done comes once, never before the return. FAILED_PRECONDITION: see docker_volumes.h.
 */
int docker_facts_make(struct engine_docker *e, const char *reference, const json_t *inspected,
                      unsigned timeout_ms,
                      void (*done)(void *data, const char *rootfs, const struct err *err),
                      void *data, struct err *err);
void docker_facts_close(struct engine_docker *e);
/* Is this the container of one under way? */
bool docker_facts_has(const struct engine_docker *e, const char *id);
/* The image that such a directory is of: "sha256:...". */
bool docker_facts_image(const char *rootfs, char ret[72]);
/* The VOLUMEs of that image; the caller frees them with strv_free. Any thread. */
int docker_facts_volumes(const char *rootfs, char ***ret, struct err *err);

/* --- engine_docker_trial.c --- */

/* Of the runtimes that are tried without being asked for. */
void docker_trial_begin(struct engine_docker *e);
/* Of one, if it needs one: then its proof is DOCKER_ON_TRIAL. */
void docker_trial_need(struct engine_docker *e, const struct engine_runtime *r);
/* Is this the container of the one under way? */
bool docker_trial_has(const struct engine_docker *e, const char *id);
/* The one under way comes to its end soon; docker_trial_ended follows. */
void docker_trial_stop(struct engine_docker *e);
