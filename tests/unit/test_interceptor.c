/* Every method has a row; who is let through to the handlers; the audit line. Peers are this
 * process as another user, for the kernel notes who connects. */
#include "tests/unit/fake_sandboxes.h"
#include "tests/unit/rpc_calls.h"

#include <grp.h>
#include <sys/stat.h>

#include "base/log.h"
#include "daemon/interceptor.h"
#include "methods.h"
#include "sandboxd/v1/sandbox.pb-c.h"

#define ALICE    1001
#define BOB      1002
#define OPERATOR 2001
#define USERS    2002

/* All that sandboxd serves: each of proto/, but the one that runtimed serves to it alone. */
static const struct rpc_service *services[INTERCEPTOR_SERVICES_MAX];
static size_t n_services;

static void find_services(void)
{
        n_services = 0;
        for (size_t i = 0; methods_services[i]; i++)
                if (methods_services[i] != &control_service)
                        services[n_services++] = methods_services[i];
        assert_true(n_services >= 6);
}

static struct fixture {
        struct loop_fixture l;
        struct temp_dir dir;
        char path[128];
        struct config config;
        struct rpc_server *server;
        struct interceptor interceptor;
        bool closed;
        unsigned handled;
} f;

/* --- the log --------------------------------------------------------------------------------- */

static struct {
        unsigned n;
        char text[512], sandbox[64], uid[16], pid[16], method[128], status[32], request[80];
        bool has_duration;
} audited;

static void note(char *out, size_t size, const struct log_field *field, const char *name)
{
        if (str_eq(field->name, name) && field->value)
                assert_true(str_format(out, size, "%s", field->value));
}

static int sink(int priority, const char *text, const struct log_field *fields, size_t n)
{
        if (priority != 5)
                return 0;
        unsigned before = audited.n;
        memset(&audited, 0, sizeof(audited));
        audited.n = before + 1;
        assert_true(str_format(audited.text, sizeof(audited.text), "%s", text));
        for (size_t i = 0; i < n; i++) {
                note(audited.sandbox, sizeof(audited.sandbox), &fields[i], "SANDBOX_ID");
                note(audited.uid, sizeof(audited.uid), &fields[i], "UID");
                note(audited.pid, sizeof(audited.pid), &fields[i], "PID");
                note(audited.method, sizeof(audited.method), &fields[i], "METHOD");
                note(audited.status, sizeof(audited.status), &fields[i], "STATUS");
                note(audited.request, sizeof(audited.request), &fields[i], "REQUEST_ID");
                audited.has_duration |= str_eq(fields[i].name, "DURATION_MS");
        }
        return 0;
}

/* --- the server ------------------------------------------------------------------------------ */

static void answer(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        (void)message, (void)n, (void)ctx;
        f.handled++;
        rpc_call_send(call, "", 0);
        rpc_call_finish(call, NULL);
}

static struct rpc_server *new_server(void)
{
        static const struct rpc_wire *const wires[] = {&rpc_wire_ttrpc, NULL};
        struct rpc_server *s;

        assert_int_equal(rpc_server_new(&f.l.loop, wires, &rpc_server_default_limits, &s, NULL), 0);
        for (size_t i = 0; i < n_services; i++)
                assert_int_equal(rpc_server_add_all(s, services[i], answer, NULL, NULL), 0);
        return s;
}

static int setup(void **state)
{
        static struct config_grant groups[] = {
                {.who = {.id = OPERATOR, .exists = true}, .role = CONFIG_ROLE_OBSERVER},
                {.who = {.id = USERS, .exists = true}, .role = CONFIG_ROLE_USER},
        };
        struct err e;

        (void)state;
        memset(&f, 0, sizeof(f));
        memset(&audited, 0, sizeof(audited));
        find_services();
        loop_open(&f.l);
        temp_dir_make(&f.dir);
        assert_int_equal(chmod(f.dir.path, 0755), 0);
        assert_true(str_format(f.path, sizeof(f.path), "%s/sock", f.dir.path));
        f.config.access.groups.items = groups;
        f.config.access.groups.n = ARRAY_SIZE(groups);
        registry.config = &f.config;
        f.server = new_server();
        if (interceptor_install(&f.interceptor, f.server, &registry, &e) < 0 ||
            rpc_server_listen(f.server, f.path, 0666, &e) < 0)
                fail_msg("%s", e.msg);
        add_sandbox(1)->rec.owner = ALICE;
        log_set_journal(sink);
        log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_JOURNAL); /* audit lines come all the same */
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
        while (n_sandboxes > 0)
                remove_last_sandbox();
        rpc_server_close(f.server, 0, on_server_closed, &f.closed);
        LOOP_UNTIL(&f.l, f.closed);
        loop_done(&f.l);
        temp_dir_remove(&f.dir);
        return 0;
}

static struct rpc_client *connect_as(uid_t uid, gid_t group)
{
        struct rpc_client *c;
        gid_t own[64];
        int n = getgroups(ARRAY_SIZE(own), own);

        assert_true(n >= 0);
        assert_int_equal(setgroups(group ? 1 : 0, &group), 0);
        assert_int_equal(setegid(100), 0);
        assert_int_equal(seteuid(uid), 0);
        int fd = connect_to(f.path);
        assert_int_equal(seteuid(0), 0);
        assert_int_equal(setegid(0), 0);
        assert_int_equal(setgroups((size_t)n, own), 0);
        assert_int_equal(rpc_client_new(&f.l.loop, fd, 0, NULL, NULL, &c, NULL), 0);
        return c;
}

/* One call on a connection of its own; what it is told. */
static struct err call_as(uid_t uid, gid_t group, const struct rpc_service *service,
                          const char *method, const void *message, size_t n,
                          const struct rpc_metadata *metadata)
{
        struct rpc_client *c = connect_as(uid, group);
        struct reply r = {0};
        size_t m = 0;

        while (m < service->n_methods && !str_eq(service->methods[m].name, method))
                m++;
        assert_true(m < service->n_methods);
        const struct rpc_request request = {
                .service = service,
                .method = &service->methods[m],
                .message = message,
                .n = n,
                .metadata = metadata,
        };
        assert_int_equal(rpc_client_call(c, &request, &reply_ops, &r, NULL, NULL), 0);
        LOOP_UNTIL(&f.l, r.n_done);
        struct err e = r.err;
        reply_done(&r);
        rpc_client_close(c);
        (void)uv_run(&f.l.loop, UV_RUN_NOWAIT);
        return e;
}

/* A request that names a sandbox. */
static struct err ask_about(uid_t uid, gid_t group, const struct rpc_service *service,
                            const char *method, const char *ref)
{
        uint8_t message[80] = {0x0a, (uint8_t)strlen(ref)};

        memcpy(message + 2, ref, strlen(ref));
        return call_as(uid, group, service, method, message, 2 + strlen(ref), NULL);
}

static void need_root(void)
{
        if (geteuid() != 0)
                skip();
}

/* --- rows ------------------------------------------------------------------------------------ */

static void a_method_without_a_row_is_noticed(void **state)
{
        static const struct rpc_method methods[] = {{.name = "Check"}, {.name = "Peek"}};
        static const struct rpc_service unknown = {
                .name = "grpc.health.v1.Health", .methods = methods, .n_methods = 2};
        static const struct rpc_wire *const wires[] = {&rpc_wire_ttrpc, NULL};
        struct rpc_server *s;
        struct interceptor i;
        struct err e = {0};
        bool closed = false;

        (void)state;
        assert_int_equal(rpc_server_new(&f.l.loop, wires, &rpc_server_default_limits, &s, NULL), 0);
        assert_int_equal(rpc_server_add_all(s, &unknown, answer, NULL, NULL), 0);
        assert_true(interceptor_install(&i, s, &registry, &e) < 0);
        assert_non_null(strstr(e.msg, "grpc.health.v1.Health/Peek"));
        rpc_server_close(s, 0, on_server_closed, &closed);
        LOOP_UNTIL(&f.l, closed);
}

/* --- who may --------------------------------------------------------------------------------- */

static void without_a_role_nothing(void **state)
{
        (void)state;
        need_root();
        for (size_t s = 0; s < n_services; s++) {
                for (size_t m = 0; m < services[s]->n_methods; m++) {
                        const char *method = services[s]->methods[m].name;
                        unsigned before = audited.n;
                        struct err e = ask_about(BOB, 0, services[s], method, sandboxes[0]->rec.id);
                        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
                        assert_non_null(strstr(e.msg, "uid 1002 has none"));
                        assert_non_null(strstr(e.msg, "'access'"));
                        assert_int_equal(audited.n, before + 1); /* also what only reads */
                        assert_string_equal(audited.status, "PERMISSION_DENIED");
                        assert_string_equal(audited.uid, "1002");
                }
        }
        assert_int_equal(f.handled, 0);
}

static void root_everything(void **state)
{
        unsigned n = 0;

        (void)state;
        need_root();
        for (size_t s = 0; s < n_services; s++) {
                for (size_t m = 0; m < services[s]->n_methods; m++, n++) {
                        const char *method = services[s]->methods[m].name;
                        struct err e = ask_about(0, 0, services[s], method, sandboxes[0]->rec.id);
                        assert_int_equal(e.code, STATUS_OK);
                }
        }
        assert_int_equal(f.handled, n);
}

static void own_and_foreign(void **state)
{
        const char *id = sandboxes[0]->rec.id;
        struct err e;

        (void)state;
        need_root();
        assert_int_equal(ask_about(ALICE, USERS, &process_service, "Start", id).code, STATUS_OK);
        e = ask_about(BOB, USERS, &process_service, "Start", id);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
        assert_non_null(strstr(e.msg, "another user's"));
        assert_null(strstr(e.msg, "1001"));
        assert_string_equal(audited.sandbox, id);
        assert_int_equal(ask_about(BOB, OPERATOR, &sandbox_service, "Get", id).code, STATUS_OK);
        e = ask_about(BOB, OPERATOR, &sandbox_service, "Stop", id);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
        assert_non_null(strstr(e.msg, "Stop needs the role user or admin; uid 1002 has observer"));
        /* What is not there, or not named, the handler sees: it says so in its own words. */
        assert_int_equal(ask_about(BOB, USERS, &sandbox_service, "Stop", "gone").code, STATUS_OK);
        assert_int_equal(ask_about(BOB, USERS, &sandbox_service, "Stop", "").code, STATUS_OK);
        assert_int_equal(ask_about(BOB, USERS, &sandbox_service, "Watch", "").code, STATUS_OK);
        e = ask_about(BOB, USERS, &sandbox_service, "Watch", id);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
}

/* The last of several values is the one that decoders take. */
static void two_names_in_one_request(void **state)
{
        struct sandbox *foreign = add_sandbox(2);
        uint8_t message[2 * (2 + ID_LEN)];
        const char *ids[] = {sandboxes[0]->rec.id, foreign->rec.id};

        (void)state;
        need_root();
        foreign->rec.owner = BOB;
        for (size_t i = 0; i < 2; i++) {
                uint8_t *field = message + i * (2 + ID_LEN);
                field[0] = 0x0a;
                field[1] = ID_LEN;
                memcpy(field + 2, ids[i], ID_LEN);
        }
        struct err e =
                call_as(ALICE, USERS, &process_service, "Signal", message, sizeof(message), NULL);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
        e = call_as(BOB, USERS, &process_service, "Signal", message, sizeof(message), NULL);
        assert_int_equal(e.code, STATUS_OK);
        e = call_as(BOB, USERS, &process_service, "Signal", message, sizeof(message) - 1, NULL);
        assert_int_equal(e.code, STATUS_INVALID_ARGUMENT); /* malformed: no handler need judge */
}

static void an_image_of_the_host(void **state)
{
        static const uint8_t path[] = {0x1a, 4, '/', 'e', 't', 'c'};
        static const uint8_t name[] = {0x1a, 3, 'e', 't', 'c'};
        static const uint8_t both[] = {0x1a, 3, 'e', 't', 'c', 0x1a, 4, '/', 'e', 't', 'c'};
        struct err e;

        (void)state;
        need_root();
        /* The number in the bytes above, and in interceptor.c. */
        assert_int_equal(protobuf_c_message_descriptor_get_field_by_name(
                                 sandbox_service.methods[SANDBOX_SERVICE_CREATE].request, "image")
                                 ->id,
                         3);
        e = call_as(ALICE, USERS, &sandbox_service, "Create", path, sizeof(path), NULL);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
        assert_non_null(strstr(e.msg, "role admin"));
        e = call_as(ALICE, USERS, &sandbox_service, "Create", both, sizeof(both), NULL);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
        e = call_as(ALICE, USERS, &sandbox_service, "Create", name, sizeof(name), NULL);
        assert_int_equal(e.code, STATUS_OK);
        e = call_as(0, 0, &sandbox_service, "Create", path, sizeof(path), NULL);
        assert_int_equal(e.code, STATUS_OK);
        e = call_as(BOB, OPERATOR, &sandbox_service, "Create", name, sizeof(name), NULL);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
}

static void the_network_of_the_host(void **state)
{
        static const uint8_t host[] = {0x58, 3}, bridge[] = {0x58, 2};
        static const uint8_t host_last[] = {0x58, 2, 0x58, 3}, host_first[] = {0x58, 3, 0x58, 2};
        /* Longer than needed, and with bits that a decoder drops. */
        static const uint8_t padded[] = {0x58, 0x83, 0x80, 0x00};
        static const uint8_t high[] = {0x58, 0x83, 0x80, 0x80, 0x80, 0x10};
        static const uint8_t name[] = {0x1a, 1, 'x', 0x58, 3};
        struct err e;

        (void)state;
        need_root();
        /* The number in the bytes above, and in interceptor.c. */
        assert_int_equal(protobuf_c_message_descriptor_get_field_by_name(
                                 sandbox_service.methods[SANDBOX_SERVICE_CREATE].request, "network")
                                 ->id,
                         11);
        assert_int_equal(SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_HOST, 3);
#define CREATE_AS(who, grants, bytes) \
        call_as(who, grants, &sandbox_service, "Create", bytes, sizeof(bytes), NULL)
        e = CREATE_AS(ALICE, USERS, host);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
        assert_non_null(strstr(e.msg, "role admin"));
        e = CREATE_AS(ALICE, USERS, host_last);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
        e = CREATE_AS(ALICE, USERS, padded);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
        e = CREATE_AS(ALICE, USERS, high);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
        e = CREATE_AS(ALICE, USERS, name);
        assert_int_equal(e.code, STATUS_PERMISSION_DENIED);
        e = CREATE_AS(ALICE, USERS, bridge);
        assert_int_equal(e.code, STATUS_OK);
        e = CREATE_AS(ALICE, USERS, host_first); /* a decoder sees bridge */
        assert_int_equal(e.code, STATUS_OK);
        e = CREATE_AS(0, 0, host);
        assert_int_equal(e.code, STATUS_OK);
}

/* Every request that is about one sandbox names it by the field that is asked for. */
static void the_field_is_the_same_everywhere(void **state)
{
        (void)state;
        for (size_t s = 0; s < n_services; s++) {
                for (size_t m = 0; m < services[s]->n_methods; m++) {
                        const ProtobufCFieldDescriptor *field =
                                protobuf_c_message_descriptor_get_field_by_name(
                                        services[s]->methods[m].request, "sandbox_id");
                        if (field)
                                assert_int_equal(field->id, 1);
                        else
                                assert_ptr_not_equal(services[s], &process_service);
                }
        }
}

/* --- the audit line -------------------------------------------------------------------------- */

static void audit_line(void **state)
{
        const char *id = sandboxes[0]->rec.id;
        char expected[256], pid[16];

        (void)state;
        need_root();
        assert_int_equal(ask_about(ALICE, USERS, &sandbox_service, "Get", id).code, STATUS_OK);
        assert_int_equal(ask_about(ALICE, USERS, &process_service, "SendInput", id).code,
                         STATUS_OK);
        assert_int_equal(audited.n, 0); /* reading, and what comes with every key, leaves none */
        assert_int_equal(ask_about(ALICE, USERS, &process_service, "Signal", id).code, STATUS_OK);
        assert_int_equal(audited.n, 1);
        assert_true(str_format(pid, sizeof(pid), "%d", (int)getpid()));
        assert_string_equal(audited.uid, "1001");
        assert_string_equal(audited.pid, pid);
        assert_string_equal(audited.method, "sandboxd.v1.ProcessService/Signal");
        assert_string_equal(audited.sandbox, id);
        assert_string_equal(audited.status, "OK");
        assert_true(audited.has_duration);
        assert_true(id_is_valid(audited.request)); /* the client gave none */
        assert_true(str_format(expected, sizeof(expected),
                               "uid 1001, pid %s: sandboxd.v1.ProcessService/Signal of sandbox %s: "
                               "OK after ",
                               pid, id));
        assert_true(str_starts(audited.text, expected));
        assert_non_null(strstr(audited.text, audited.request));
}

static void request_ids(void **state)
{
        static const struct {
                const char *given;
                bool is_taken;
        } cases[] = {
                {"0f8fad5b-d9cb-469f-a165-70867728950e", true},
                {"a.b_c:d+e/f=", true},
                {"with a space", false},
                {"\"quoted\"", false},
                {"", false},
                {"0123456789012345678901234567890123456789012345678901234567890123", true},
                {"01234567890123456789012345678901234567890123456789012345678901234", false},
        };

        (void)state;
        need_root();
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct rpc_metadata metadata = {0};
                assert_int_equal(rpc_metadata_add(&metadata, "x-request-id", 12, cases[i].given,
                                                  strlen(cases[i].given), 4096),
                                 0);
                struct err e = call_as(ALICE, USERS, &sandbox_service, "Create", "", 0, &metadata);
                rpc_metadata_done(&metadata);
                assert_int_equal(e.code, STATUS_OK);
                assert_int_equal(str_eq(audited.request, cases[i].given), cases[i].is_taken);
                assert_true(cases[i].is_taken || id_is_valid(audited.request));
        }
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_method_without_a_row_is_noticed),
                TEST(without_a_role_nothing),
                TEST(root_everything),
                TEST(own_and_foreign),
                TEST(two_names_in_one_request),
                TEST(an_image_of_the_host),
                TEST(the_network_of_the_host),
                TEST(the_field_is_the_same_everywhere),
                TEST(audit_line),
                TEST(request_ids),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
