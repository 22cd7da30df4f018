/* daemon/notify.c: what the service manager hears, and what other threads see meanwhile. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/notify.h"
#include "tests/unit/temp_dir.h"

struct fixture {
        struct temp_dir dir;
        int fd; /* the manager's end */
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        assert_non_null(f);
        temp_dir_make(&f->dir);
        assert_true(str_format(address.sun_path, sizeof(address.sun_path), "%s",
                               temp_dir_file(&f->dir, "notify")));
        f->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_int_equal(bind(f->fd, (const struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(setenv("NOTIFY_SOCKET", address.sun_path, 1), 0);
        assert_int_equal(setenv("SANDBOXD_RUNTIME", "runsc", 1), 0);
        notify_open();
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        (void)close(f->fd);
        temp_dir_remove(&f->dir);
        free(f);
        return 0;
}

static void is_heard(void **state)
{
        struct fixture *f = *state;
        char text[64];

        assert_true(notify_is_on());
        assert_null(getenv("NOTIFY_SOCKET")); /* nor do children hear of it */
        notify_ready();
        ssize_t n = recv(f->fd, text, sizeof(text) - 1, 0);
        assert_true(n > 0);
        text[n] = '\0';
        assert_string_equal(text, "READY=1");
}

static atomic_bool over;
static atomic_uint missed, looked;

static void *look(void *data)
{
        while (!over) {
                missed += !getenv("SANDBOXD_RUNTIME");
                looked++;
        }
        return data;
}

/* A reload reads the environment on a thread of its own. */
static void threads_see_the_environment(void **state)
{
        struct fixture *f = *state;
        pthread_t thread;
        char text[64];

        assert_int_equal(pthread_create(&thread, NULL, look, NULL), 0);
        for (int i = 0; i < 20000 || looked < 1000; i++) {
                notify_alive();
                (void)!recv(f->fd, text, sizeof(text), 0); /* makes room */
        }
        over = true;
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(missed, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(is_heard),
                TEST(threads_see_the_environment),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
