/* daemon/reload.c and daemon/resolv_refresh.c: one after the other, the newest wins, and what is
 * refused changes nothing. An engine that can be held up stands for slow disks, and a check of
 * methods for a slow file. */
#include "tests/unit/config_fixture.h"
#include "tests/unit/loop_fixture.h"

#include <pthread.h>
#include <semaphore.h>

#include "daemon/reload.h"
#include "daemon/sandbox.h"

/* They stand in for daemon/sandbox.c and registry.c at the link. */
struct sandbox {
        struct record rec;
};
static struct sandbox sandboxes[] = {
        {{.id = "01a", .runtime = (char[]){"runc"}, .state = SANDBOX_RUNNING}},
        {{.id = "01b", .runtime = (char[]){"runsc"}, .state = SANDBOX_PAUSED}},
        {{.id = "01c", .runtime = (char[]){"runc"}, .state = SANDBOX_STARTING}},
        {{.id = "01d", .runtime = (char[]){"runc"}, .state = SANDBOX_STOPPED}},
        {{.id = "01e", .runtime = (char[]){"gone"}, .state = SANDBOX_RUNNING}},
        {{.id = "01f",
          .runtime = (char[]){"runsc"},
          .dns = {.servers = (char *[]){(char[]){"10.9.9.9"}, NULL}},
          .state = SANDBOX_RUNNING}},
};

struct runtimed_client *sandbox_runtimed(struct sandbox *s, struct err *e)
{
        (void)s, (void)e;
        return NULL;
}

const struct record *sandbox_record(const struct sandbox *s)
{
        return &s->rec;
}

struct sandbox *registry_first(struct registry *r)
{
        (void)r;
        return sandboxes;
}

struct sandbox *registry_next(struct sandbox *s)
{
        return s + 1 < sandboxes + ARRAY_SIZE(sandboxes) ? s + 1 : NULL;
}

/* The text that each sandbox has. On the thread, while the test waits. */
static char texts[ARRAY_SIZE(sandboxes)][256];
static bool fails;            /* 01a is out of reach */
static bool is_held, is_slow; /* the engine; the check of methods */
static sem_t reached, go_on;  /* the thread is at the place; it may go on */

static void hold(bool held)
{
        if (!held)
                return;
        (void)sem_post(&reached);
        (void)sem_wait(&go_on);
}

static int set_resolv_conf(struct engine *e, const char *id, const char *text, struct err *err)
{
        (void)e;
        hold(is_held && str_eq(id, "01a"));
        if (fails && str_eq(id, "01a"))
                return err_errno(err, EIO, "write '%s'", id);
        if (str_eq(id, "01c"))
                return err_errno(err, ENOENT, "open '%s'", id); /* it is not laid down yet */
        (void)snprintf(texts[id[2] - 'a'], sizeof(texts[0]), "%s", text);
        return 0;
}

static bool has_method(const char *method)
{
        (void)method;
        hold(is_slow);
        return true;
}

static const struct engine_ops ops = {.set_resolv_conf = set_resolv_conf};
static const struct engine_runtime runtimes[] = {{.name = "runc"},
                                                 {.name = "runsc", .netstack = true}};

struct fixture {
        struct loop_fixture l;
        struct engine engine;
        struct registry registry;
        struct config config;
        struct config_sources sources;
        struct reloader reloader;
        unsigned n_done;
        size_t n_changes;
        struct err err; /* of the last; code OK: it went well */
        char warning[ERR_MSG_MAX];
};

static int setup(void **state)
{
        static struct fixture f;

        f = (struct fixture){
                .engine = {.ops = &ops, .holders = 1, .runtimes = runtimes, .n_runtimes = 2},
                .sources = {.file = FILE_NAME, .has_method = has_method},
        };
        memset(texts, 0, sizeof(texts));
        fails = is_held = is_slow = false;
        assert_int_equal(sem_init(&reached, 0, 0) | sem_init(&go_on, 0, 0), 0);
        loop_open(&f.l);
        f.registry = (struct registry){.loop = &f.l.loop,
                                       .config = &f.config,
                                       .engine = &f.engine,
                                       .n = ARRAY_SIZE(sandboxes),
                                       .resolv = &f.reloader.resolv};
        assert_int_equal(load("dns: {servers: [1.1.1.1]}\n", &f.config, NULL), 0);
        reload_init(&f.reloader, &f.config, &f.sources, &f.registry);
        *state = &f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        loop_done(&f->l);
        config_done(&f->config);
        assert_int_equal(f->engine.holders, 1);
        return 0;
}

static void put_file(const char *yaml)
{
        write_file(FILE_NAME, yaml, strlen(yaml));
}

static void on_done(void *data, const struct config_changes *changes, const char *warning,
                    const struct err *e)
{
        struct fixture *f = data;

        f->n_done++;
        f->err = e ? *e : (struct err){0};
        f->n_changes = changes ? changes->n : 0;
        assert_int_equal(changes == NULL, e != NULL);
        (void)snprintf(f->warning, sizeof(f->warning), "%s", warning);
}

static void start(struct fixture *f)
{
        assert_int_equal(reload_start(&f->reloader, false, on_done, f, NULL), 0);
        assert_int_equal(f->n_done, 0); /* never before the return */
}

/* A thread waits at the place. */
static void wait_reached(void)
{
        assert_int_equal(sem_wait(&reached), 0);
}

static void let_go(bool *held)
{
        *held = false;
        (void)sem_post(&go_on);
}

static bool has_server(const char *text, const char *address)
{
        _cleanup_free_ char *line = str_printf("nameserver %s\n", address);

        return strstr(text, line) != NULL;
}

static void it_reaches_those_that_are_up(void **state)
{
        struct fixture *f = *state;

        put_file("dns: {servers: [9.9.9.9]}\n");
        start(f);
        LOOP_UNTIL(&f->l, f->n_done);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_int_equal(f->n_changes, 1);
        assert_string_equal(f->warning, "");
        assert_int_equal(f->registry.dns_generation, 1);
        assert_string_equal(f->config.dns.servers[0], "9.9.9.9");
        assert_true(has_server(texts[0], "9.9.9.9") && has_server(texts[1], "9.9.9.9"));
        assert_string_equal(texts[3], ""); /* it gets it when it starts */
        assert_string_equal(texts[4], ""); /* nobody knows what it can reach */
}

static void what_cannot_follow_is_told(void **state)
{
        struct fixture *f = *state;

        fails = true;
        put_file("dns: {servers: [127.0.0.53]}\n");
        start(f);
        LOOP_UNTIL(&f->l, f->n_done);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_string_equal(f->warning, "2 running sandboxes keep their name servers: write '01a': "
                                        "Input/output error");
        fails = false;
        f->n_done = 0;
        put_file("dns: {servers: [127.0.0.54]}\n");
        start(f);
        LOOP_UNTIL(&f->l, f->n_done);
        assert_non_null(strstr(f->warning, "1 running sandbox keeps"));
        assert_non_null(strstr(f->warning, "127.0.0.54"));
        assert_true(has_server(texts[0], "127.0.0.54"));
        assert_string_equal(texts[1], "");
}

static void one_at_a_time(void **state)
{
        struct fixture *f = *state;
        struct err e;

        is_slow = true;
        put_file("rpc: {message_sizes: {a.B/C: 1KiB}}\n");
        start(f);
        wait_reached();
        assert_true(reload_start(&f->reloader, false, on_done, f, &e) < 0);
        assert_int_equal(e.code, STATUS_UNAVAILABLE);
        let_go(&is_slow);
        LOOP_UNTIL(&f->l, f->n_done);
        assert_int_equal(f->n_done, 1);
}

/* Signals that come meanwhile make one more reload, of what the file says after the last of them.
 */
static void signals_while_one_is_under_way(void **state)
{
        struct fixture *f = *state;

        is_held = true;
        put_file("dns: {servers: [9.9.9.9]}\n");
        start(f);
        LOOP_UNTIL(&f->l, f->reloader.resolv.under_way);
        wait_reached();
        put_file("dns: {servers: [8.8.4.4]}\n");
        for (int i = 0; i < 10; i++)
                reload_on_signal(&f->reloader);
        assert_string_equal(f->config.dns.servers[0], "9.9.9.9");
        let_go(&is_held);
        LOOP_UNTIL(&f->l, !f->reloader.busy);
        assert_int_equal(f->n_done, 1);
        assert_string_equal(f->config.dns.servers[0], "8.8.4.4");
        assert_int_equal(f->registry.dns_generation, 2);
        assert_true(has_server(texts[0], "8.8.4.4") && has_server(texts[1], "8.8.4.4"));
}

/* What a sandbox has of its own stays; the rest follows the configuration. */
static void own_servers_stay(void **state)
{
        struct fixture *f = *state;

        put_file("dns: {servers: [127.0.0.1], search: [new.example]}\n");
        start(f);
        LOOP_UNTIL(&f->l, f->n_done);
        assert_string_equal(strchr(texts[5], '\n'), "\nnameserver 10.9.9.9\nsearch new.example\n");
        assert_true(has_server(texts[0], "127.0.0.1"));
        assert_string_equal(texts[1], "");
        assert_non_null(strstr(f->warning, "1 running sandbox keeps"));
}

/* As a sandbox does that was being prepared with older servers. */
static void a_round_asked_for_during_a_round(void **state)
{
        struct fixture *f = *state;

        is_held = true;
        put_file("dns: {servers: [9.9.9.9]}\n");
        start(f);
        LOOP_UNTIL(&f->l, f->reloader.resolv.under_way);
        wait_reached();
        assert_int_equal(resolv_refresh(f->registry.resolv, NULL, NULL, NULL), 0);
        (void)snprintf(texts[1], sizeof(texts[1]), "written too late");
        let_go(&is_held);
        LOOP_UNTIL(&f->l, f->n_done);
        assert_true(has_server(texts[1], "9.9.9.9"));
        assert_false(f->reloader.resolv.under_way);
}

static void a_wrong_file_changes_nothing(void **state)
{
        struct fixture *f = *state;

        put_file("dns: {servers: [9.9.9.9]}\nlog: {level: loud}\n");
        start(f);
        LOOP_UNTIL(&f->l, f->n_done);
        assert_int_equal(f->err.code, STATUS_INVALID_ARGUMENT);
        assert_string_equal(f->err.msg,
                            "t.yaml:2:14: log.level: expected one of error, warn, info, "
                            "debug, found 'loud'");
        assert_int_equal(unlink(FILE_NAME), 0);
        f->n_done = 0;
        start(f);
        LOOP_UNTIL(&f->l, f->n_done);
        assert_int_equal(f->err.code, STATUS_FAILED_PRECONDITION);
        assert_string_equal(f->config.dns.servers[0], "1.1.1.1");
        assert_int_equal(f->registry.dns_generation, 0);
        assert_string_equal(texts[0], "");
}

static void the_daemon_stops_meanwhile(void **state)
{
        struct fixture *f = *state;
        struct err e;

        is_slow = true;
        put_file("dns: {servers: [9.9.9.9]}\nrpc: {message_sizes: {a.B/C: 1KiB}}\n");
        start(f);
        wait_reached();
        reload_on_signal(&f->reloader);
        reload_stop(&f->reloader);
        let_go(&is_slow);
        LOOP_UNTIL(&f->l, f->n_done);
        assert_int_equal(f->err.code, STATUS_UNAVAILABLE);
        assert_string_equal(f->config.dns.servers[0], "1.1.1.1");
        assert_false(f->reloader.busy);
        assert_true(reload_start(&f->reloader, true, on_done, f, &e) < 0);
        assert_int_equal(e.code, STATUS_UNAVAILABLE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(it_reaches_those_that_are_up),
                TEST(what_cannot_follow_is_told),
                TEST(one_at_a_time),
                TEST(signals_while_one_is_under_way),
                TEST(own_servers_stay),
                TEST(a_round_asked_for_during_a_round),
                TEST(a_wrong_file_changes_nothing),
                TEST(the_daemon_stops_meanwhile),
        };

        return cmocka_run_group_tests(tests, enter_scratch, leave_scratch);
}
