/* daemon/watchdog.c and daemon/notify.c against a service manager of the test's own; how the store
 * and the reconciler get on is what each test says. */
#include "daemon/watchdog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/util.h"
#include "daemon/notify.h"
#include "daemon/sandbox.h"
#include "tests/unit/loop_fixture.h"
#include "tests/unit/temp_dir.h"

#define INTERVAL_MS "40"
#define PATIENCE_MS (WATCHDOG_PATIENCE * 40)

/* --- what it watches --- */

static struct {
        bool store_answers, refused;
        store_done asked;
        void *data;
        uint64_t silence;
        unsigned running;
} world;

int store_ping(struct store *s, store_done done, void *data, struct err *e)
{
        (void)s, (void)e;
        assert_null(world.asked); /* one question at a time */
        assert_false(world.refused);
        world.asked = done;
        world.data = data;
        return 0;
}

const struct err *store_problem(const struct store *s)
{
        static const struct err problem = {.code = STATUS_DATA_LOSS, .msg = "damaged"};

        (void)s;
        return world.refused ? &problem : NULL;
}

uint64_t reconcile_silence(const struct reconciler *c)
{
        (void)c;
        return world.silence;
}

unsigned sandbox_count_running(struct registry *r)
{
        (void)r;
        return world.running;
}

/* --- the service manager --- */

struct fixture {
        struct loop_fixture l;
        struct temp_dir dir;
        int socket;
        struct registry registry;
        struct watchdog watchdog;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        assert_non_null(f);
        temp_dir_make(&f->dir);
        loop_open(&f->l);
        world = (typeof(world)){.store_answers = true};
        f->registry.loop = &f->l.loop;
        f->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(f->socket >= 0);
        assert_true(
                str_format(address.sun_path, sizeof(address.sun_path), "%s/notify", f->dir.path));
        assert_int_equal(bind(f->socket, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(setenv("NOTIFY_SOCKET", address.sun_path, 1), 0);
        notify_open();
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        watchdog_close(&f->watchdog);
        (void)close(f->socket);
        loop_done(&f->l);
        temp_dir_remove(&f->dir);
        free(f);
        return 0;
}

/* The next message; "" when there is none. */
static const char *told(struct fixture *f)
{
        static char text[1024];

        ssize_t n = recv(f->socket, text, sizeof(text) - 1, 0);
        text[MAX(n, 0)] = '\0';
        return text;
}

static void answer(void)
{
        store_done asked = TAKE(world.asked);

        if (asked)
                asked(world.data, NULL);
}

static void turn(struct fixture *f)
{
        (void)uv_run(&f->l.loop, UV_RUN_NOWAIT);
        if (world.store_answers)
                answer();
}

/* For so long; how many signs of life came. */
static unsigned signs(struct fixture *f, uint64_t ms)
{
        unsigned n = 0;
        uint64_t end = uv_hrtime() + ms * NSEC_PER_MSEC;

        while (uv_hrtime() < end) {
                turn(f);
                for (const char *text = told(f); *text; text = told(f))
                        n += str_eq(text, "WATCHDOG=1");
        }
        return n;
}

static void begin(struct fixture *f, const char *microseconds)
{
        if (microseconds)
                assert_int_equal(setenv("WATCHDOG_USEC", microseconds, 1), 0);
        watchdog_open(&f->watchdog, &f->registry, NULL);
}

/* --- notify --- */

static void test_words(void **state)
{
        struct fixture *f = *state;
        struct err e;
        unsigned long long at = 0;

        assert_true(notify_is_on());
        notify_ready();
        assert_string_equal(told(f), "READY=1");
        notify_stopping();
        assert_string_equal(told(f), "STOPPING=1");
        notify_reloading();
        assert_int_equal(sscanf(told(f), "RELOADING=1\nMONOTONIC_USEC=%llu", &at), 1);
        assert_true(at <= uv_hrtime() / 1000 && uv_hrtime() / 1000 - at < 10000000);
        (void)err_errno(&e, EADDRINUSE, "bind\nit");
        notify_failed(&e);
        assert_string_equal(told(f), "ERRNO=98\nSTATUS=bind");
        (void)err_set(&e, STATUS_INVALID_ARGUMENT, "a key");
        notify_failed(&e);
        assert_string_equal(told(f), "ERRNO=22\nSTATUS=a key");
        notify_status("%d things", 3);
        assert_string_equal(told(f), "STATUS=3 things");
        notify_status("%0999d", 3);
        assert_int_equal(strlen(told(f)), 255);
}

static void test_children_are_not_told(void **state)
{
        (void)state;
        assert_null(getenv("NOTIFY_SOCKET"));
        notify_ready();
        assert_null(getenv("NOTIFY_SOCKET"));
        assert_non_null(getenv("PATH"));
}

/* --- the watchdog --- */

static void test_fed_while_all_get_on(void **state)
{
        struct fixture *f = *state;

        begin(f, INTERVAL_MS "000");
        assert_null(getenv("WATCHDOG_USEC"));
        unsigned n = signs(f, 10 * 40);
        assert_in_range(n, 3, 25); /* two an interval, on a machine with nothing else to do */
        assert_false(f->watchdog.starving);
}

static void test_not_fed_while_the_store_stands(void **state)
{
        struct fixture *f = *state;

        world.store_answers = false;
        begin(f, INTERVAL_MS "000");
        assert_true(signs(f, PATIENCE_MS / 2) > 0); /* a disk may take its time */
        while (!f->watchdog.starving)
                turn(f);
        while (*told(f))
                ;
        assert_int_equal(signs(f, 2 * 40), 0);
        answer();
        assert_true(signs(f, 10 * 40) > 0);
}

static void test_not_fed_while_the_reconciler_stands(void **state)
{
        struct fixture *f = *state;

        begin(f, INTERVAL_MS "000");
        world.silence = RECONCILE_PERIOD_MS; /* it waits for its time */
        assert_true(signs(f, 4 * 40) > 0);
        world.silence = RECONCILE_PERIOD_MS + PATIENCE_MS + 1;
        while (!f->watchdog.starving)
                turn(f);
        while (*told(f))
                ;
        assert_int_equal(signs(f, 4 * 40), 0);
        world.silence = 0;
        assert_true(signs(f, 10 * 40) > 0);
}

static void test_a_refused_store_is_not_asked(void **state)
{
        struct fixture *f = *state;

        world.refused = true;
        begin(f, INTERVAL_MS "000");
        assert_true(signs(f, 10 * 40) > 0);
}

static void assert_status(struct fixture *f, const char *expected)
{
        const char *text;

        while (!*(text = told(f)) || str_eq(text, "WATCHDOG=1"))
                turn(f);
        assert_string_equal(text, expected);
}

static void test_status_is_told_when_it_changes(void **state)
{
        struct fixture *f = *state;

        begin(f, INTERVAL_MS "000");
        assert_status(f, "STATUS=0 sandboxes, 0 running");
        for (int i = 0; i < 10; i++) {
                turn(f);
                for (const char *text = told(f); *text; text = told(f))
                        assert_string_equal(text, "WATCHDOG=1");
        }
        f->registry.n = world.running = 1;
        assert_status(f, "STATUS=1 sandbox, 1 running");
        f->registry.draining = true;
        assert_status(f, "STATUS=1 sandbox, 1 running; draining: none is created or started");
        f->registry.draining = false;
        answer();
        world.refused = true;
        assert_status(f, "STATUS=1 sandbox, 1 running; nothing is changed, see the log");
}

static void test_without_a_watchdog_only_the_status(void **state)
{
        struct fixture *f = *state;

        begin(f, NULL);
        assert_status(f, "STATUS=0 sandboxes, 0 running");
        assert_null(world.asked);
}

/* First of all: who has once been told of a service manager remembers it. */
static void test_without_a_service_manager(void **state)
{
        struct fixture f = {0};

        (void)state;
        assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
        loop_open(&f.l);
        f.registry.loop = &f.l.loop;
        notify_open();
        assert_false(notify_is_on());
        notify_ready();
        begin(&f, INTERVAL_MS "000");
        assert_null(getenv("WATCHDOG_USEC"));
        assert_false(f.watchdog.open);
        watchdog_close(&f.watchdog);
        loop_done(&f.l);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_without_a_service_manager),
                cmocka_unit_test_setup_teardown(test_words, setup, teardown),
                cmocka_unit_test_setup_teardown(test_children_are_not_told, setup, teardown),
                cmocka_unit_test_setup_teardown(test_fed_while_all_get_on, setup, teardown),
                cmocka_unit_test_setup_teardown(test_not_fed_while_the_store_stands, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_not_fed_while_the_reconciler_stands, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_a_refused_store_is_not_asked, setup, teardown),
                cmocka_unit_test_setup_teardown(test_status_is_told_when_it_changes, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_without_a_watchdog_only_the_status, setup,
                                                teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
