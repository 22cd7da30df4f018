/* daemon/task_keeper.c against supervisors made up here, good ones and hostile ones. */
#include "daemon/task_keeper.h"

#include "base/io.h"
#include "methods.h"
#include "rpc/server.h"
#include "sandboxd/control/v1/control.pb-c.h"
#include "tests/unit/store_fixture.h"

#define TASKS_MAX 16

struct fixture {
        struct store_fixture s;
        struct rpc_server *server;
        struct runtimed_client *client;
        struct task_keeper *keeper;
        char id[ID_LEN + 1]; /* of the sandbox */
        bool ready;
        /* What the supervisor has, and was asked. */
        struct {
                uint64_t number;
                const char *id;
                size_t size;
        } tasks[TASKS_MAX];
        size_t n_tasks;
        bool all_at_once, garbage, flood;
        unsigned asked;
        uint64_t after;           /* of the last question */
        struct rpc_call *waiting; /* for a task */
        /* What is kept. */
        uint64_t numbers[64];
        size_t n_kept;
        unsigned n_read;
};

static const char task_id[] = "01hzzzzzzzzzzzzzzzzzzzzzzz";

/* --- the supervisor ------------------------------------------------------------------------- */

static void on_hello(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        Sandboxd__Control__V1__HelloResponse hello = SANDBOXD__CONTROL__V1__HELLO_RESPONSE__INIT;

        (void)ctx, (void)message, (void)n;
        hello.generation = 1;
        hello.boot_id = (char *)"0123456789abcdef0123456789abcdef";
        rpc_call_reply(call, &hello.base);
}

static void tell(struct fixture *f, struct rpc_call *call)
{
        static uint8_t bytes[64 * 1024];
        Sandboxd__Control__V1__TasksResponse response = SANDBOXD__CONTROL__V1__TASKS_RESPONSE__INIT;
        Sandboxd__Control__V1__TaskClaim claims[TASKS_MAX], *pointers[TASKS_MAX];

        response.tasks = pointers;
        for (size_t i = 0; i < f->n_tasks; i++) {
                if (!f->all_at_once && f->tasks[i].number <= f->after)
                        continue;
                Sandboxd__Control__V1__TaskClaim *claim = &claims[response.n_tasks];
                sandboxd__control__v1__task_claim__init(claim);
                claim->number = f->tasks[i].number;
                claim->id = (char *)f->tasks[i].id;
                claim->task = (ProtobufCBinaryData){f->tasks[i].size, bytes};
                pointers[response.n_tasks++] = claim;
        }
        if (f->garbage)
                rpc_call_send(call, "\xff\xff", 2);
        if (f->garbage)
                rpc_call_finish(call, NULL);
        else if (response.n_tasks > 0 || f->all_at_once)
                rpc_call_reply(call, &response.base);
        else
                f->waiting = call;
}

static void on_tasks(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        struct fixture *f = ctx;
        const Sandboxd__Control__V1__TasksRequest *request =
                (void *)rpc_call_unpack(call, message, n);

        assert_non_null(request);
        f->asked++;
        f->after = request->after;
        if (f->flood)
                f->tasks[0].number = f->after + 1;
        tell(f, call);
}

static const rpc_handler handlers[] = {
        [CONTROL_SERVICE_HELLO] = on_hello,
        [CONTROL_SERVICE_TASKS] = on_tasks,
};

static void add_task(struct fixture *f, uint64_t number, const char *id, size_t size)
{
        f->tasks[f->n_tasks].number = number;
        f->tasks[f->n_tasks].id = id;
        f->tasks[f->n_tasks++].size = size;
}

/* --- fixture --------------------------------------------------------------------------------- */

static void on_ready(void *data, const char *boot_id)
{
        struct fixture *f = data;

        (void)boot_id;
        f->ready = true;
        task_keeper_begin(f->keeper, f->client);
}

static void on_failed(void *data, const struct err *e, bool no_socket)
{
        (void)data, (void)no_socket;
        fail_msg("%s", e->msg);
}

static void on_lost(void *data)
{
        task_keeper_end(((struct fixture *)data)->keeper);
}

static int setup(void **state)
{
        static const struct rpc_wire *const wires[] = {&rpc_wire_ttrpc, NULL};
        static const struct runtimed_client_ops ops = {on_ready, on_failed, on_lost};
        struct fixture *f = calloc(1, sizeof(*f));
        struct err e;

        assert_non_null(f);
        fixture_init(&f->s);
        fixture_open(&f->s);
        memcpy(f->id, fixture_id(1), sizeof(f->id));
        assert_int_equal(io_mkdir_all(temp_dir_file(&f->s.dir, ".runtimed"), 0755, NULL), 0);
        assert_int_equal(
                rpc_server_new(&f->s.l.loop, wires, &rpc_server_default_limits, &f->server, &e), 0);
        assert_int_equal(rpc_server_add(f->server, &control_service, handlers, f, &e), 0);
        assert_int_equal(
                rpc_server_listen(f->server, temp_dir_file(&f->s.dir, ".runtimed/sock"), 0600, &e),
                0);
        assert_int_equal(task_keeper_new(&f->s.l.loop, f->s.store, f->id, 1000, &f->keeper, &e), 0);
        assert_int_equal(runtimed_client_new(&f->s.l.loop, f->s.dir.path, &ops, f, &f->client, &e),
                         0);
        assert_int_equal(runtimed_client_await(f->client, 5000, &e), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        task_keeper_close(f->keeper);
        runtimed_client_close(f->client);
        rpc_server_close(f->server, 0, NULL, NULL);
        if (f->waiting)
                rpc_call_finish(f->waiting, NULL);
        fixture_done(&f->s);
        free(f);
        return 0;
}

static void on_read(void *data, const struct store_task *tasks, size_t n, const struct err *e)
{
        struct fixture *f = data;

        assert_null(e);
        f->n_read++;
        f->n_kept = n;
        for (size_t i = 0; i < n; i++)
                f->numbers[i] = tasks[i].number;
}

static size_t count_kept(struct fixture *f)
{
        unsigned before = f->n_read;
        struct err e;

        assert_int_equal(store_read_tasks(f->s.store, f->id, 64, on_read, f, &e), 0);
        LOOP_UNTIL(&f->s.l, f->n_read > before);
        return f->n_kept;
}

/* --- tests ----------------------------------------------------------------------------------- */

static void what_is_done_is_kept(void **state)
{
        struct fixture *f = *state;

        add_task(f, 3, task_id, 100);
        LOOP_UNTIL(&f->s.l, f->waiting); /* it has told that, and is asked for the next */
        assert_int_equal(f->asked, 2);
        assert_int_equal(f->after, 3);
        assert_int_equal(count_kept(f), 1);
        add_task(f, 7, task_id, 16 * 1024);
        tell(f, TAKE(f->waiting));
        LOOP_UNTIL(&f->s.l, f->waiting);
        assert_int_equal(f->after, 7);
        assert_int_equal(count_kept(f), 2);
        assert_true(f->numbers[0] == 3 && f->numbers[1] == 7);
}

static void assert_refused(struct fixture *f)
{
        LOOP_UNTIL(&f->s.l, f->asked);
        loop_run_for(&f->s.l, 50);
        assert_int_equal(f->asked, 1); /* and is not asked any more */
        assert_int_equal(count_kept(f), 0);
        assert_non_null(runtimed_client_shared(f->client)); /* for all else it is good */
}

static void too_large(void **state)
{
        add_task(*state, 1, task_id, 16 * 1024 + 1);
        assert_refused(*state);
}

static void too_many(void **state)
{
        for (uint64_t i = 1; i <= 9; i++)
                add_task(*state, i, task_id, 1);
        assert_refused(*state);
}

static void wrong_order(void **state)
{
        add_task(*state, 2, task_id, 1);
        add_task(*state, 2, task_id, 1);
        assert_refused(*state);
}

static void wrong_number(void **state)
{
        add_task(*state, UINT64_MAX, task_id, 1);
        assert_refused(*state);
}

static void wrong_id(void **state)
{
        add_task(*state, 1, "../../../../../etc/passwd1", 1);
        assert_refused(*state);
}

static void none_at_all(void **state)
{
        ((struct fixture *)*state)->all_at_once = true;
        assert_refused(*state);
}

static void garbage(void **state)
{
        ((struct fixture *)*state)->garbage = true;
        assert_refused(*state);
}

/* Whoever has something to tell all the time is heard now and then. */
static void a_flood(void **state)
{
        struct fixture *f = *state;

        f->flood = true;
        add_task(f, 1, task_id, 1);
        LOOP_UNTIL(&f->s.l, f->asked);
        loop_run_for(&f->s.l, 500);
        assert_true(f->asked >= 5 && f->asked <= 12);
}

/* The daemon that was told of some of them does not ask for them again. */
static void a_restart(void **state)
{
        struct fixture *f = *state;
        struct err e;

        add_task(f, 5, task_id, 1);
        LOOP_UNTIL(&f->s.l, f->waiting);
        task_keeper_close(f->keeper);
        runtimed_client_close(f->client);
        rpc_call_finish(TAKE(f->waiting), NULL);
        static const struct runtimed_client_ops ops = {on_ready, on_failed, on_lost};
        assert_int_equal(task_keeper_new(&f->s.l.loop, f->s.store, f->id, 1000, &f->keeper, &e), 0);
        assert_int_equal(runtimed_client_new(&f->s.l.loop, f->s.dir.path, &ops, f, &f->client, &e),
                         0);
        assert_int_equal(runtimed_client_await(f->client, 5000, &e), 0);
        LOOP_UNTIL(&f->s.l, f->waiting);
        assert_int_equal(f->asked, 3);
        assert_int_equal(f->after, 5);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(what_is_done_is_kept),
                TEST(too_large),
                TEST(too_many),
                TEST(wrong_order),
                TEST(wrong_number),
                TEST(wrong_id),
                TEST(none_at_all),
                TEST(garbage),
                TEST(a_flood),
                TEST(a_restart),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
