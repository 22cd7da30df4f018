#include "daemon/name_servers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <uv.h>

#include "base/util.h"

/* A name server on loopback that answers each question in its own way. */
struct fake {
        int fd;
        unsigned port;
        pthread_t thread;
        uint8_t code;
        bool silent, stranger_first; /* an answer to another question comes before */
        uint8_t question[512];
        ssize_t n;
};

static void *serve(void *arg)
{
        struct fake *f = arg;
        struct sockaddr_in from;
        socklen_t len = sizeof(from);
        uint8_t answer[512];

        f->n = recvfrom(f->fd, f->question, sizeof(f->question), 0, (struct sockaddr *)&from, &len);
        if (f->n <= 0 || f->silent)
                return NULL;
        memcpy(answer, f->question, (size_t)f->n);
        answer[2] |= 0x80;
        answer[3] = f->code;
        if (f->stranger_first) {
                answer[0] ^= 1;
                (void)sendto(f->fd, answer, (size_t)f->n, 0, (struct sockaddr *)&from, len);
                answer[0] ^= 1;
                (void)sendto(f->fd, f->question, (size_t)f->n, 0, (struct sockaddr *)&from, len);
                (void)sendto(f->fd, answer, 3, 0, (struct sockaddr *)&from, len);
        }
        (void)sendto(f->fd, answer, (size_t)f->n, 0, (struct sockaddr *)&from, len);
        return NULL;
}

static void fake_start(struct fake *f)
{
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof(address);

        f->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(f->fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(getsockname(f->fd, (struct sockaddr *)&address, &len), 0);
        f->port = ntohs(address.sin_port);
        assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
}

static void fake_stop(struct fake *f)
{
        (void)shutdown(f->fd, SHUT_RDWR);
        assert_int_equal(pthread_join(f->thread, NULL), 0);
        (void)close(f->fd);
}

/* Asks one server, the fake; what it says of it. */
static struct name_server ask(struct fake *f, unsigned timeout_ms)
{
        struct name_server s = {.address = "127.0.0.1"};

        fake_start(f);
        name_servers_ask(&s, 1, f->port, timeout_ms);
        fake_stop(f);
        return s;
}

static void answers(void **state)
{
        static const uint8_t rest[] = {1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1};
        struct fake f = {0};

        (void)state;
        const struct name_server s = ask(&f, 10000);
        assert_true(s.answers);
        assert_int_equal(s.code, 0);
        assert_int_equal(f.n, 2 + sizeof(rest)); /* behind the id */
        assert_memory_equal(f.question + 2, rest, sizeof(rest));
}

static void refuses(void **state)
{
        struct fake f = {.code = 5};

        (void)state;
        const struct name_server s = ask(&f, 10000);
        assert_true(s.answers);
        assert_int_equal(s.code, 5);
}

/* With another id, no answer at all, too short. */
static void what_is_no_answer_is_passed_over(void **state)
{
        struct fake f = {.code = 3, .stranger_first = true};

        (void)state;
        const struct name_server s = ask(&f, 10000);
        assert_true(s.answers);
        assert_int_equal(s.code, 3);
}

static void silent(void **state)
{
        struct fake f = {.silent = true};

        (void)state;
        uint64_t begun = uv_hrtime();
        const struct name_server s = ask(&f, 100);
        assert_false(s.answers);
        assert_int_equal(s.errnum, 0);
        assert_true(uv_hrtime() - begun >= 100 * NSEC_PER_MSEC);
}

/* Each by itself: one that is not there or has no address holds up no other. */
static void several(void **state)
{
        struct name_server s[] = {
                {.address = "127.0.0.9"}, {.address = "nowhere"}, {.address = "127.0.0.1"}};
        struct fake f = {0};

        (void)state;
        fake_start(&f);
        name_servers_ask(s, ARRAY_SIZE(s), f.port, 10000);
        fake_stop(&f);
        assert_false(s[0].answers);
        assert_int_equal(s[0].errnum, ECONNREFUSED);
        assert_false(s[1].answers);
        assert_int_equal(s[1].errnum, EINVAL);
        assert_true(s[2].answers);
}

static void from_resolv_conf(void **state)
{
        struct name_server s[NAME_SERVERS_MAX];
        size_t n = 0;

        (void)state;
        name_servers_add(s, &n,
                         "# nameserver 6.6.6.6\nnameserver 1.1.1.1\nsearch nameserver\n"
                         "nameserver\t2620:fe::fe \nnameserver\n\noptions edns0");
        assert_int_equal(n, 2);
        assert_string_equal(s[0].address, "1.1.1.1");
        assert_string_equal(s[1].address, "2620:fe::fe");
        name_servers_add(s, &n, "nameserver 1.1.1.1\nnameserver 8.8.8.8\n");
        assert_int_equal(n, 3);
        name_servers_add(s, &n,
                         "nameserver 1.0.0.1\nnameserver 1.0.0.2\nnameserver 1.0.0.3\n"
                         "nameserver 1.0.0.4\nnameserver 1.0.0.5\n");
        assert_int_equal(n, NAME_SERVERS_MAX);
        n = 0;
        name_servers_add(s, &n,
                         "nameserver 1234567890123456789012345678901234567890123456789012345\n");
        assert_int_equal(n, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(answers),
                cmocka_unit_test(refuses),
                cmocka_unit_test(what_is_no_answer_is_passed_over),
                cmocka_unit_test(silent),
                cmocka_unit_test(several),
                cmocka_unit_test(from_resolv_conf),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
