/* An engine on a Docker that says what the test tells it to. */
#pragma once

#include "daemon/engine_docker_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"
#include "daemon/bundle.h"
#include "daemon/bundle_files.h"
#include "daemon/libcurl.h"
#include "tests/unit/docker_peer.h"
#include "tests/unit/loop_fixture.h"
#include "tests/unit/temp_dir.h"

#define INSTANCE "01hzz0000000000000000000a1"
#define ID       "01hzz0000000000000000000b2"
#define CID      "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define IMAGE    "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
#define NAME     "/containers/sandboxd-" ID
#define VERSION  "{\"ApiVersion\":\"1.43\",\"MinAPIVersion\":\"1.12\"}"
#define INFO                                                                                  \
        "{\"ServerVersion\":\"24.0\",\"CgroupDriver\":\"systemd\",\"CgroupVersion\":\"2\","   \
        "\"LiveRestoreEnabled\":true,\"SecurityOptions\":[\"name=seccomp\",\"name=userns\"]," \
        "\"Runtimes\":{\"runc\":{\"path\":\"runc\"}}}"
#define EVENT(action)                                                                  \
        "{\"Type\":\"container\",\"Action\":\"" action "\",\"timeNano\":1,\"Actor\":{" \
        "\"Attributes\":{\"sandboxd.id\":\"" ID "\",\"sandboxd.instance\":\"" INSTANCE "\"}}}\n"

struct fixture {
        struct loop_fixture l;
        struct temp_dir dir;
        struct docker_peer peer;
        uv_timer_t tick; /* uv_run of one turn waits when a timer's callback was all there was */
        struct proc *proc;
        struct config config;
        struct engine *engine;
        const struct engine_runtime *runc, *runsc;
        char socket[256], data[256], state[256];
        /* What was told. */
        unsigned n_done, n_back, n_steps;
        struct err err; /* code OK: none */
        pid_t pid;
        int status;
        char rootfs[PATH_MAX], step[64];
        char paused_id[ID_LEN + 1];
        bool paused, forgets; /* forgets: there is no such sandbox */
        size_t n_list;
};

static inline void on_paused(void *data, const char *id, bool paused)
{
        struct fixture *f = data;

        (void)str_format(f->paused_id, sizeof(f->paused_id), "%s", id);
        f->paused = paused;
}

static inline bool knows(void *data, const char *id)
{
        (void)id;
        return !((struct fixture *)data)->forgets;
}

static inline void on_back(void *data)
{
        ((struct fixture *)data)->n_back++;
}

static inline void on_tick(uv_timer_t *timer)
{
        (void)timer;
}

static inline void on_done(void *data, const struct err *e)
{
        struct fixture *f = data;

        f->n_done++;
        f->err = e ? *e : (struct err){0};
}

static inline void on_run(void *data, pid_t pid, const struct err *e)
{
        ((struct fixture *)data)->pid = pid;
        on_done(data, e);
}

static inline void on_end(void *data, int status)
{
        ((struct fixture *)data)->status = status;
        on_done(data, NULL);
}

static inline void on_image(void *data, const char *rootfs, const struct err *e)
{
        struct fixture *f = data;

        (void)str_format(f->rootfs, sizeof(f->rootfs), "%s", rootfs ? rootfs : "");
        on_done(data, e);
}

static inline void on_step(void *data, const char *step)
{
        struct fixture *f = data;

        f->n_steps++;
        (void)str_format(f->step, sizeof(f->step), "%s", step);
}

static inline void on_list(void *data, const struct engine_container *list, size_t n,
                           const struct err *e)
{
        struct fixture *f = data;

        f->n_list = n;
        f->paused = n > 0 && list[0].paused;
        on_done(data, e);
}

#define WAIT(f)                                       \
        do {                                          \
                assert_int_equal((f)->n_done, 0);     \
                LOOP_UNTIL(&(f)->l, (f)->n_done > 0); \
                assert_int_equal((f)->n_done, 1);     \
                (f)->n_done = 0;                      \
        } while (0)

static inline void answer(struct fixture *f, const char *line, int status, const char *body)
{
        docker_peer_set(&f->peer, line, status, body);
}

static inline void open_engine(struct fixture *f)
{
        static const struct engine_listener listener = {
                .knows = knows, .on_paused = on_paused, .on_back = on_back};
        struct err e;

        if (engine_docker_new(&f->l.loop, &f->config, INSTANCE, f->proc, "/runtimed", &f->engine,
                              &e) < 0)
                fail_msg("%s", e.msg);
        f->engine->listener = &listener;
        f->engine->listener_data = f;
        f->runc = engine_find_runtime(f->engine, "runc");
        f->runsc = engine_find_runtime(f->engine, "runsc");
}

static inline int setup_without_engine(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        const struct libcurl *curl;

        assert_non_null(f);
        assert_int_equal(libcurl_load(&curl, NULL), 0); /* what it opens for good is not counted */
        loop_open(&f->l);
        temp_dir_make(&f->dir);
        (void)str_format(f->socket, sizeof(f->socket), "%s/sock", f->dir.path);
        (void)str_format(f->data, sizeof(f->data), "%s/data", f->dir.path);
        (void)str_format(f->state, sizeof(f->state), "%s/state", f->dir.path);
        (void)uv_timer_init(&f->l.loop, &f->tick);
        (void)uv_timer_start(&f->tick, on_tick, 10, 10);
        assert_int_equal(proc_new(&f->l.loop, &f->proc, NULL), 0);
        f->config = (struct config){
                .runtime = (char *)"runc",
                .runtimes = {{(char *)"runc", (char *)"runc", (char *)"true", NULL},
                             {(char *)"runsc", (char *)"runsc", (char *)"/opt/runsc", NULL}},
                .n_runtimes = 2,
                .data_dir = f->data,
                .state_dir = f->state,
                .docker = {f->socket, (char *)"missing", (char *)"boxes"},
                .images = {.import_timeout_ms = 60000},
        };
        answer(f, "GET /version", 200, VERSION);
        answer(f, "GET /info", 200, INFO);
        answer(f, "GET /events", PEER_FOR_EVER, "");
        answer(f, "GET /containers/json", 200, "[]");
        *state = f;
        return 0;
}

static inline int setup(void **state)
{
        setup_without_engine(state);
        struct fixture *f = *state;
        docker_peer_listen(&f->peer, &f->l.loop, f->socket);
        open_engine(f);
        return 0;
}

static inline int teardown(void **state)
{
        struct fixture *f = *state;

        if (f->engine)
                f->engine->ops->close(f->engine);
        proc_close(f->proc);
        docker_peer_close(&f->peer);
        uv_close((uv_handle_t *)&f->tick, NULL);
        loop_done(&f->l);
        docker_peer_done(&f->peer);
        temp_dir_remove(&f->dir);
        free(f);
        return 0;
}

static inline void remove_it(struct fixture *f, const struct engine_runtime *runtime)
{
        assert_int_equal(f->engine->ops->remove(f->engine, runtime, ID, on_done, f, NULL), 0);
        WAIT(f);
}

#define TEST(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)
#define ALONE(f) cmocka_unit_test_setup_teardown(f, setup_without_engine, teardown)
