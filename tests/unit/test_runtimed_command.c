/* runtimed-client/runtimed_command.c against runtimeds made up here, good ones and hostile ones. */
#include "runtimed-client/runtimed_command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/util.h"
#include "methods.h"
#include "rpc/server.h"
#include "sandboxd/v1/process.pb-c.h"
#include "tests/unit/loop_fixture.h"
#include "tests/unit/temp_dir.h"

struct fixture {
        struct loop_fixture l;
        struct temp_dir dir;
        struct runtimed_client *client;
        struct rpc_server *server;
        /* How the fake runs a program. */
        unsigned prints; /* times 1,000 bytes of 'x', each with as many of 'e' on standard error */
        int exit_code;
        bool no_end, garbage, hangs, refuses;
        struct rpc_call *call; /* of one that hangs */
        bool cancelled;
        char args[128];
        /* What came back. */
        unsigned done;
        int result;
        size_t n;
        char output[RUNTIMED_COMMAND_OUTPUT_MAX + 1];
        struct err err;
};

/* --- the fake ------------------------------------------------------------------------------ */

static void send_output(struct rpc_call *call, Sandboxd__V1__OutputStream stream, char letter)
{
        static char bytes[1000];
        Sandboxd__V1__ProcessServiceStartResponse event =
                SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__INIT;
        Sandboxd__V1__ProcessOutput output = SANDBOXD__V1__PROCESS_OUTPUT__INIT;

        memset(bytes, letter, sizeof(bytes));
        output.stream = stream;
        output.data.data = (uint8_t *)bytes;
        output.data.len = sizeof(bytes);
        event.event_case = SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_DATA;
        event.data = &output;
        rpc_call_send_message(call, &event.base);
}

static void send_end(struct rpc_call *call, int exit_code)
{
        Sandboxd__V1__ProcessServiceStartResponse event =
                SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__INIT;
        Sandboxd__V1__ProcessEnded end = SANDBOXD__V1__PROCESS_ENDED__INIT;

        end.exit_code = exit_code;
        event.event_case = SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_END;
        event.end = &end;
        rpc_call_send_message(call, &event.base);
}

static void on_cancel(struct rpc_call *call)
{
        struct fixture *f = rpc_call_data(call);

        f->cancelled = true;
        rpc_call_finish(TAKE(f->call), NULL);
}

static void on_start(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        static const struct rpc_call_ops call_ops = {.on_cancel = on_cancel};
        struct fixture *f = ctx;
        const Sandboxd__V1__ProcessServiceStartRequest *request =
                (void *)rpc_call_unpack(call, message, n);

        assert_non_null(request);
        assert_true(request->kill_on_disconnect);
        for (size_t i = 0; i < request->n_args; i++) {
                size_t len = strlen(f->args);
                assert_true(
                        str_format(f->args + len, sizeof(f->args) - len, "%s,", request->args[i]));
        }
        if (f->hangs) {
                f->call = call;
                rpc_call_set_ops(call, &call_ops, f);
                return;
        }
        if (f->refuses) {
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "too many");
                return;
        }
        for (unsigned i = 0; i < f->prints; i++) {
                send_output(call, SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDOUT, 'x');
                send_output(call, SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR, 'e');
        }
        if (f->garbage)
                rpc_call_send(call, "\xff\xff\xff", 3);
        if (!f->no_end)
                send_end(call, f->exit_code);
        rpc_call_finish(call, NULL);
}

static int setup(void **state)
{
        static const struct rpc_wire *const wires[] = {&rpc_wire_ttrpc, NULL};
        static const struct runtimed_client_ops ops = {0};
        struct fixture *f = calloc(1, sizeof(*f));
        struct err e = {0};

        assert_non_null(f);
        loop_open(&f->l);
        temp_dir_make(&f->dir);
        assert_int_equal(io_mkdir_all(temp_dir_file(&f->dir, ".runtimed"), 0755, NULL), 0);
        assert_int_equal(
                rpc_server_new(&f->l.loop, wires, &rpc_server_default_limits, &f->server, &e), 0);
        assert_int_equal(rpc_server_add_all(f->server, &process_service, on_start, f, &e), 0);
        assert_int_equal(
                rpc_server_listen(f->server, temp_dir_file(&f->dir, ".runtimed/sock"), 0600, &e),
                0);
        assert_int_equal(runtimed_client_new(&f->l.loop, f->dir.path, &ops, f, &f->client, &e), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        runtimed_client_close(f->client);
        rpc_server_close(f->server, 0, NULL, NULL);
        if (f->call)
                rpc_call_finish(TAKE(f->call), NULL);
        loop_done(&f->l);
        temp_dir_remove(&f->dir);
        free(f);
        return 0;
}

/* --- running ------------------------------------------------------------------------------- */

static void on_done(void *data, const struct runtimed_result *result, const struct err *e)
{
        struct fixture *f = data;

        f->done++;
        assert_true(!result != !e);
        if (e) {
                f->err = *e;
                return;
        }
        f->result = result->exit_code;
        f->n = result->n;
        memcpy(f->output, result->output, result->n + 1);
}

static struct runtimed_command *start(struct fixture *f, uint64_t timeout_ms)
{
        static const char *const argv[] = {"cat", "/etc/a b", NULL};
        struct runtimed_command *command = NULL;
        struct err e = {0};

        if (runtimed_command_start(f->client, argv, timeout_ms, on_done, f, &command, &e) < 0)
                fail_msg("%s", e.msg);
        assert_int_equal(f->done, 0); /* never before the return */
        return command;
}

static void run(struct fixture *f, uint64_t timeout_ms)
{
        (void)start(f, timeout_ms);
        LOOP_UNTIL(&f->l, f->done);
        loop_run_for(&f->l, 10);
        assert_int_equal(f->done, 1);
}

static void standard_output_and_status(void **state)
{
        struct fixture *f = *state;

        f->prints = 3;
        f->exit_code = 7;
        run(f, 10000);
        assert_string_equal(f->args, "cat,/etc/a b,");
        assert_int_equal(f->err.code, STATUS_OK);
        assert_int_equal(f->result, 7);
        assert_int_equal(f->n, 3000);
        assert_int_equal(strspn(f->output, "x"), 3000);
}

static void silent_program(void **state)
{
        struct fixture *f = *state;

        run(f, 10000);
        assert_int_equal(f->result, 0);
        assert_int_equal(f->n, 0);
        assert_string_equal(f->output, "");
}

static void too_much_output(void **state)
{
        struct fixture *f = *state;

        f->prints = 200;
        run(f, 10000);
        assert_int_equal(f->n, RUNTIMED_COMMAND_OUTPUT_MAX);
        assert_int_equal(strlen(f->output), RUNTIMED_COMMAND_OUTPUT_MAX);
}

static void no_end(void **state)
{
        struct fixture *f = *state;

        f->no_end = true;
        f->garbage = true;
        run(f, 10000);
        assert_int_equal(f->err.code, STATUS_INTERNAL);
        assert_non_null(strstr(f->err.msg, "does not say how it ended"));
}

static void refused(void **state)
{
        struct fixture *f = *state;

        f->refuses = true;
        run(f, 10000);
        assert_int_equal(f->err.code, STATUS_RESOURCE_EXHAUSTED);
}

static void deadline(void **state)
{
        struct fixture *f = *state;

        f->hangs = true;
        run(f, 50);
        assert_int_equal(f->err.code, STATUS_DEADLINE_EXCEEDED);
        LOOP_UNTIL(&f->l, f->cancelled);
}

static void cancelled(void **state)
{
        struct fixture *f = *state;

        f->hangs = true;
        struct runtimed_command *command = start(f, 10000);
        LOOP_UNTIL(&f->l, f->call);
        runtimed_command_cancel(command);
        LOOP_UNTIL(&f->l, f->cancelled);
        runtimed_command_cancel(start(f, 10000)); /* before it was sent */
        loop_run_for(&f->l, 20);
        assert_int_equal(f->done, 0);
}

static void goes_away(void **state)
{
        struct fixture *f = *state;

        f->hangs = true;
        (void)start(f, 10000);
        LOOP_UNTIL(&f->l, f->call);
        rpc_call_fail(TAKE(f->call), STATUS_UNAVAILABLE, "gone");
        LOOP_UNTIL(&f->l, f->done);
        assert_int_equal(f->err.code, STATUS_UNAVAILABLE);
}

static void cannot_begin(void **state)
{
        struct fixture *f = *state;
        const char *argv[RUNTIMED_COMMAND_ARGS_MAX + 2] = {0};
        struct runtimed_command *command = NULL;
        struct err e = {0};

        for (size_t i = 0; i <= RUNTIMED_COMMAND_ARGS_MAX; i++)
                argv[i] = "x";
        assert_int_equal(runtimed_command_start(f->client, argv, 1000, on_done, f, &command, &e),
                         -EINVAL);
        argv[1] = NULL;
        assert_int_equal(unlink(temp_dir_file(&f->dir, ".runtimed/sock")), 0);
        assert_true(runtimed_command_start(f->client, argv, 1000, on_done, f, &command, &e) < 0);
        assert_int_equal(e.code, STATUS_UNAVAILABLE);
        assert_null(command);
        assert_int_equal(f->done, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(standard_output_and_status),
                TEST(silent_program),
                TEST(too_much_output),
                TEST(no_end),
                TEST(refused),
                TEST(deadline),
                TEST(cancelled),
                TEST(goes_away),
                TEST(cannot_begin),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
