/* cli/feeder.c, against a sandbox whose answers get lost: every byte arrives once. */
#include "cli/feeder.h"

#include "tests/unit/rpc_fixture.h"

#include "cli/readiness.h"
#include "methods.h"

/* What becomes of a message. */
enum fate { TAKEN, ANSWER_LOST, LOST, FULL, CLOSED, BROKEN };

struct feeding {
        struct dialer dialer;
        struct rpc_fixture *rpc;
        struct target target;
        struct feeder feeder;
        unsigned open;
        const enum fate *plan; /* for the first messages; the others are taken */
        size_t n_plan, n_messages;
        struct buf input; /* of the program */
        bool input_ended, closed, with_error;
        unsigned rooms;
};

static struct feeding *feeding; /* the handler's */

static void take(const Sandboxd__V1__ProcessServiceSendInputRequest *request)
{
        size_t have = feeding->input.len, skip = 0;

        if (request->position_case ==
            SANDBOXD__V1__PROCESS_SERVICE_SEND_INPUT_REQUEST__POSITION_OFFSET) {
                assert_true(request->offset <= have);
                skip = MIN(have - (size_t)request->offset, request->data.len);
        }
        assert_int_equal(buf_append(&feeding->input, request->data.data + skip,
                                    request->data.len - skip, SIZE_MAX),
                         0);
        feeding->input_ended |= request->close_stdin;
}

static void send_input(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        Sandboxd__V1__ProcessServiceSendInputResponse response =
                SANDBOXD__V1__PROCESS_SERVICE_SEND_INPUT_RESPONSE__INIT;
        size_t i = feeding->n_messages++;
        enum fate fate = i < feeding->n_plan ? feeding->plan[i] : TAKEN;

        (void)ctx;
        const Sandboxd__V1__ProcessServiceSendInputRequest *request =
                (const Sandboxd__V1__ProcessServiceSendInputRequest *)rpc_call_unpack(call, message,
                                                                                      n);
        assert_non_null(request);
        assert_string_equal(request->sandbox_id, "box");
        assert_int_equal(request->process->pid, 7);
        if (fate == TAKEN || fate == ANSWER_LOST)
                take(request);
        response.offset = feeding->input.len;
        if (fate == TAKEN)
                rpc_call_reply(call, &response.base);
        else if (fate == FULL)
                rpc_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "full");
        else if (fate == CLOSED)
                rpc_call_fail(call, STATUS_FAILED_PRECONDITION, "closed");
        else if (fate == BROKEN)
                rpc_call_fail(call, STATUS_INTERNAL, "broken");
        else
                rpc_call_fail(call, STATUS_UNAVAILABLE, "gone");
}

static void on_room(void *data)
{
        ((struct feeding *)data)->rooms++;
}

static void on_feeder_closed(void *data, const struct err *e)
{
        struct feeding *f = data;

        assert_false(f->closed);
        f->closed = true;
        f->with_error = e != NULL;
}

static void add_process_service(struct rpc_fixture *f, struct rpc_server *s)
{
        static rpc_handler handlers[PROCESS_SERVICE_SEND_INPUT + 16];

        assert_true(process_service.n_methods <= ARRAY_SIZE(handlers));
        handlers[PROCESS_SERVICE_SEND_INPUT] = send_input;
        assert_int_equal(rpc_server_add(s, &process_service, handlers, f, NULL), 0);
}

static int setup(void **state)
{
        static const struct feeder_ops ops = {.on_room = on_room, .on_closed = on_feeder_closed};
        struct feeding *f = calloc(1, sizeof(*f));
        static char sandbox[] = "box";
        void *rpc;

        assert_int_equal(rpc_fixture_setup(&rpc), 0);
        f->rpc = rpc;
        f->rpc->add_services = add_process_service;
        rpc_fixture_restart(f->rpc);
        assert_int_equal(dialer_init(&f->dialer, &f->rpc->l.loop, f->rpc->path, NULL), 0);
        f->target = (struct target){.dialer = &f->dialer, .sandbox = sandbox, .pid = 7};
        feeder_init(&f->feeder, &f->rpc->l.loop, &f->target, true, 0, &ops, f, &f->open);
        feeding = f;
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct feeding *f = *state;
        void *rpc = f->rpc;

        feeder_close(&f->feeder, &f->open);
        dialer_close(&f->dialer);
        LOOP_UNTIL(&f->rpc->l, f->open == 0);
        assert_int_equal(rpc_fixture_teardown(&rpc), 0);
        buf_done(&f->input);
        free(f);
        return 0;
}

#define PLAN(f, ...)                                            \
        do {                                                    \
                static const enum fate fates[] = {__VA_ARGS__}; \
                (f)->plan = fates;                              \
                (f)->n_plan = ARRAY_SIZE(fates);                \
        } while (0)

static void assert_input(const struct feeding *f, const char *expected)
{
        assert_int_equal(f->input.len, strlen(expected));
        assert_memory_equal(buf_bytes(&f->input), expected, strlen(expected));
}

static void nothing_before_it_may(void **state)
{
        struct feeding *f = *state;

        feeder_feed(&f->feeder, "a", 1);
        loop_run_for(&f->rpc->l, 20);
        assert_int_equal(f->n_messages, 0);
        feeder_resume(&f->feeder);
        feeder_feed(&f->feeder, "b", 1);
        feeder_feed(&f->feeder, "c", 1);
        feeder_end(&f->feeder);
        LOOP_UNTIL(&f->rpc->l, f->closed);
        assert_input(f, "abc");
        assert_true(f->input_ended && !f->with_error);
        assert_int_equal(f->n_messages, 2); /* what came while the first was under way is one */
        assert_int_equal(feeder_room(&f->feeder), 0);
}

static void lost_messages(void **state)
{
        struct feeding *f = *state;

        PLAN(f, ANSWER_LOST, LOST, TAKEN, LOST, ANSWER_LOST, FULL);
        feeder_resume(&f->feeder);
        feeder_feed(&f->feeder, "one", 3);
        feeder_feed(&f->feeder, "two", 3);
        feeder_end(&f->feeder);
        LOOP_UNTIL(&f->rpc->l, f->closed);
        assert_input(f, "onetwo");
        assert_true(f->input_ended && !f->with_error);
        assert_int_equal(f->n_messages, 7);
}

/* Others may feed it, too: a place is named only for what is repeated. */
static void shared_input(void **state)
{
        struct feeding *f = *state;

        PLAN(f, TAKEN, ANSWER_LOST);
        f->feeder.exclusive = false;
        feeder_resume(&f->feeder);
        feeder_feed(&f->feeder, "a", 1);
        LOOP_UNTIL(&f->rpc->l, f->rooms == 1);
        assert_int_equal(buf_append(&f->input, "X", 1, SIZE_MAX), 0); /* somebody else's */
        feeder_feed(&f->feeder, "b", 1);
        LOOP_UNTIL(&f->rpc->l, f->n_messages == 2);
        LOOP_UNTIL(&f->rpc->l, f->rooms == 2);
        assert_int_equal(f->input.len, 3);
        assert_memory_equal(buf_bytes(&f->input), "aXb", 3);
}

/* The connection breaks while a message is under way. */
static void suspended(void **state)
{
        struct feeding *f = *state;

        feeder_resume(&f->feeder);
        feeder_feed(&f->feeder, "abc", 3);
        LOOP_UNTIL(&f->rpc->l, f->n_messages == 1); /* taken; its answer is dropped: */
        feeder_suspend(&f->feeder);
        feeder_feed(&f->feeder, "d", 1);
        loop_run_for(&f->rpc->l, 300);
        assert_int_equal(f->n_messages, 1);
        feeder_resume(&f->feeder);
        LOOP_UNTIL(&f->rpc->l, f->rooms > 0);
        LOOP_UNTIL(&f->rpc->l, f->input.len == 4);
        assert_input(f, "abcd");
}

static void input_that_is_closed(void **state)
{
        struct feeding *f = *state;

        PLAN(f, CLOSED);
        feeder_resume(&f->feeder);
        feeder_feed(&f->feeder, "abc", 3);
        LOOP_UNTIL(&f->rpc->l, f->closed);
        assert_false(f->with_error);
}

static void an_error(void **state)
{
        struct feeding *f = *state;

        PLAN(f, BROKEN);
        feeder_resume(&f->feeder);
        feeder_feed(&f->feeder, "abc", 3);
        LOOP_UNTIL(&f->rpc->l, f->closed);
        assert_true(f->with_error);
        assert_int_equal(feeder_room(&f->feeder), 0);
}

/* In pieces of 1 MiB, and no more of it waits here. */
static void much(void **state)
{
        struct feeding *f = *state;
        static const uint8_t bytes[64 * KiB];
        size_t fed = 0;

        feeder_resume(&f->feeder);
        while (fed < 16 * MiB) {
                LOOP_UNTIL(&f->rpc->l, feeder_room(&f->feeder) >= sizeof(bytes));
                feeder_feed(&f->feeder, bytes, sizeof(bytes));
                fed += sizeof(bytes);
                assert_true(fed - f->input.len <= 2 * MiB);
        }
        feeder_end(&f->feeder);
        LOOP_UNTIL(&f->rpc->l, f->closed);
        assert_int_equal(f->input.len, fed);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(nothing_before_it_may, setup, teardown),
                cmocka_unit_test_setup_teardown(lost_messages, setup, teardown),
                cmocka_unit_test_setup_teardown(shared_input, setup, teardown),
                cmocka_unit_test_setup_teardown(suspended, setup, teardown),
                cmocka_unit_test_setup_teardown(input_that_is_closed, setup, teardown),
                cmocka_unit_test_setup_teardown(an_error, setup, teardown),
                cmocka_unit_test_setup_teardown(much, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
