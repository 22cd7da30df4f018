#include "cli/sandbox_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

#define NOW 951782400 /* 2000-02-29T00:00:00Z */

/* A sandbox with everything, and the messages that it points to. */
struct fixture {
        Sandboxd__V1__Sandbox sandbox;
        Sandboxd__V1__Resources resources;
        Sandboxd__V1__Sandbox__EnvEntry entry, *env[1];
        Google__Protobuf__Timestamp created;
        Sandboxd__V1__Dns dns;
        Sandboxd__V1__Egress egress;
        Sandboxd__V1__EgressRule rules[2], *rule_list[2];
};

static void fill(struct fixture *f)
{
        static char request_key[] = "key", id[] = "01jz", name[] = "web", runtime[] = "runc",
                    image[] = "/srv/\x1b";
        static char key[] = "A", value[] = "1\n2";

        sandboxd__v1__sandbox__init(&f->sandbox);
        sandboxd__v1__resources__init(&f->resources);
        sandboxd__v1__sandbox__env_entry__init(&f->entry);
        google__protobuf__timestamp__init(&f->created);
        f->resources.memory_bytes = 512 * MiB;
        f->resources.cpu_millis = 1500;
        f->resources.pids = 64;
        f->entry.key = key;
        f->entry.value = value;
        f->env[0] = &f->entry;
        f->created.seconds = NOW - 180;
        f->sandbox.id = id;
        f->sandbox.name = name;
        f->sandbox.state = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_RUNNING;
        f->sandbox.runtime = runtime;
        f->sandbox.image = image;
        f->sandbox.resources = &f->resources;
        f->sandbox.n_env = 1;
        f->sandbox.env = f->env;
        f->sandbox.created_at = &f->created;
        f->sandbox.owner_uid = 1000;
        f->sandbox.generation = 3;
        f->sandbox.expiry_action = SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_STOP;
        f->sandbox.request_key = request_key;
        static char server_1[] = "10.0.0.1", server_2[] = "::2", option[] = "rotate";
        static char *servers[] = {server_1, server_2}, *options[] = {option};
        sandboxd__v1__dns__init(&f->dns);
        f->dns.servers = servers;
        f->dns.n_servers = 2;
        f->dns.options = options;
        f->dns.n_options = 1;
        f->sandbox.dns = &f->dns;
        static char cidr_4[] = "10.0.0.0/8", cidr_6[] = "2001:db8::1/128", tcp[] = "tcp";
        static char address[] = "10.137.0.5/32", *addresses[] = {address};
        sandboxd__v1__egress__init(&f->egress);
        for (size_t i = 0; i < ARRAY_SIZE(f->rules); i++) {
                sandboxd__v1__egress_rule__init(&f->rules[i]);
                f->rule_list[i] = &f->rules[i];
        }
        f->rules[0].cidr = cidr_4;
        f->rules[1].cidr = cidr_6;
        f->rules[1].port_from = 80;
        f->rules[1].port_to = 81;
        f->rules[1].protocol = tcp;
        f->egress.policy = SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_LIST;
        f->egress.rules = f->rule_list;
        f->egress.n_rules = ARRAY_SIZE(f->rules);
        f->sandbox.network = SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_BRIDGE;
        f->sandbox.egress = &f->egress;
        f->sandbox.rootfs = SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_READ_ONLY;
        f->sandbox.addresses = addresses;
        f->sandbox.n_addresses = 1;
}

static void json_has_every_field(void **state)
{
        struct fixture f;

        (void)state;
        fill(&f);
        json_t *json = sandbox_json(&f.sandbox);
        char *text = json_dumps(json, JSON_COMPACT);
        assert_string_equal(text, "{\"id\":\"01jz\",\"name\":\"web\",\"state\":\"running\","
                                  "\"reason\":\"\",\"runtime\":\"runc\",\"image\":\"/srv/\\u001B\","
                                  "\"resources\":{\"memory_bytes\":536870912,\"cpu_millis\":1500,"
                                  "\"pids\":64},\"env\":{\"A\":\"1\\n2\"},"
                                  "\"created_at\":\"2000-02-28T23:57:00Z\",\"started_at\":null,"
                                  "\"owner_uid\":1000,\"generation\":3,"
                                  "\"operation\":null,\"exit\":null,\"expires_at\":null,"
                                  "\"ttl_millis\":0,\"expiry_action\":\"stop\","
                                  "\"request_key\":\"key\","
                                  "\"dns\":{\"servers\":[\"10.0.0.1\",\"::2\"],"
                                  "\"search\":[],\"options\":[\"rotate\"]},"
                                  "\"network\":\"bridge\","
                                  "\"egress\":\"10.0.0.0/8,[2001:db8::1/128]:80-81/tcp\","
                                  "\"addresses\":[\"10.137.0.5/32\"],"
                                  "\"rootfs\":\"read-only\"}");
        assert_int_equal(json_object_size(json), sandboxd__v1__sandbox__descriptor.n_fields);
        free(text);
        json_decref(json);
}

static void json_of_an_empty_sandbox(void **state)
{
        Sandboxd__V1__Sandbox empty = SANDBOXD__V1__SANDBOX__INIT, *list[] = {&empty, &empty};

        (void)state;
        json_t *json = sandboxes_json(list, ARRAY_SIZE(list));
        assert_int_equal(json_array_size(json), 2);
        assert_true(json_is_null(json_object_get(json_array_get(json, 0), "resources")));
        json_decref(json);
}

/* The text of a sandbox; the caller frees. */
static char *text_of(const Sandboxd__V1__Sandbox *sandbox)
{
        char *text;
        size_t n;

        FILE *out = open_memstream(&text, &n);
        assert_int_equal(sandbox_print(sandbox, NOW, out), 0);
        assert_int_equal(fclose(out), 0);
        return text;
}

static void text_escapes(void **state)
{
        struct fixture f;

        (void)state;
        fill(&f);
        char *text = text_of(&f.sandbox);
        assert_string_equal(text, "id:           01jz\n"
                                  "name:         web\n"
                                  "state:        running\n"
                                  "runtime:      runc\n"
                                  "image:        /srv/\\x1b\n"
                                  "rootfs:       read-only\n"
                                  "memory:       512MiB\n"
                                  "cpus:         1.5\n"
                                  "pids:         64\n"
                                  "network:      bridge\n"
                                  "address:      10.137.0.5/32\n"
                                  "egress:       10.0.0.0/8,[2001:db8::1/128]:80-81/tcp\n"
                                  "env:          A=1\\x0a2\n"
                                  "dns:          10.0.0.1\n"
                                  "dns:          ::2\n"
                                  "dns option:   rotate\n"
                                  "owner:        uid 1000\n"
                                  "request key:  key\n"
                                  "created:      2000-02-28T23:57:00Z (3 minutes ago)\n");
        free(text);
}

/* An operation that is under way, and a time to live. */
struct life {
        struct fixture f;
        Sandboxd__V1__Operation operation;
        Sandboxd__V1__SandboxExit end;
        Google__Protobuf__Timestamp deadline, ended, expires;
};

static void live(struct life *l)
{
        static char step[] = "runtime\n";

        fill(&l->f);
        sandboxd__v1__operation__init(&l->operation);
        sandboxd__v1__sandbox_exit__init(&l->end);
        google__protobuf__timestamp__init(&l->deadline);
        google__protobuf__timestamp__init(&l->ended);
        google__protobuf__timestamp__init(&l->expires);
        l->deadline.seconds = NOW + 8;
        l->ended.seconds = NOW - 3600;
        l->expires.seconds = NOW + 600;
        l->operation.kind = SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_PAUSE;
        l->operation.step = step;
        l->operation.deadline = &l->deadline;
        l->operation.waiting = 2;
        l->end.cause = SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_OUT_OF_MEMORY;
        l->end.signal = 9;
        l->end.at = &l->ended;
        l->f.sandbox.operation = &l->operation;
        l->f.sandbox.exit = &l->end;
        l->f.sandbox.expires_at = &l->expires;
        l->f.sandbox.ttl_millis = 1800000;
        l->f.sandbox.expiry_action = SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_DELETE;
}

static void text_of_a_life(void **state)
{
        static const char *const lines[] = {
                "state:        running (pausing)\n",
                "operation:    pause: runtime\\x0a; it ends in 8 seconds at the latest; "
                "2 wait behind it\n",
                "ended:        killed by the kernel: out of memory (1 hour ago)\n",
                "ttl:          30m, then it is deleted\n",
                "expires:      2000-02-29T00:10:00Z (in 10 minutes)\n",
        };
        struct life l;

        (void)state;
        live(&l);
        char *text = text_of(&l.f.sandbox);
        for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
                assert_non_null(strstr(text, lines[i]));
        free(text);
}

static void text_of_each_end(void **state)
{
        static const struct {
                Sandboxd__V1__ExitCause cause;
                const char *text;
        } cases[] = {
                {SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_STOPPED, "stopped, as it was asked to"},
                {SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_EXITED, "by itself, with status 3"},
                {SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_SIGNALED, "killed by signal 9, SIGKILL"},
                {SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_UNKNOWN, "nobody saw how"},
                {(Sandboxd__V1__ExitCause)99, "unknown"},
        };
        struct life l;

        (void)state;
        live(&l);
        l.end.code = 3;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                l.end.cause = cases[i].cause;
                char *text = text_of(&l.f.sandbox), *line = strstr(text, "ended:");
                assert_non_null(line);
                assert_ptr_equal(strstr(line, cases[i].text), line + strlen("ended:        "));
                free(text);
        }
}

/* What the state says is not said twice. */
static void state_and_operation(void **state)
{
        struct life l;

        (void)state;
        live(&l);
        l.f.sandbox.state = SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_STOPPING;
        l.operation.kind = SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_STOP;
        char *text = text_of(&l.f.sandbox);
        assert_non_null(strstr(text, "state:        stopping\n"));
        free(text);
}

static void json_of_a_life(void **state)
{
        struct life l;
        const char *kind, *step, *cause, *at, *expiry;
        int waiting, signal;
        json_int_t ttl;

        (void)state;
        live(&l);
        json_t *json = sandbox_json(&l.f.sandbox);
        assert_int_equal(
                json_unpack(json,
                            "{s:{s:s, s:s, s:n, s:s, s:i}, s:{s:s, s:i, s:i, s:s}, s:s, s:I, s:s}",
                            "operation", "kind", &kind, "step", &step, "started_at", "deadline",
                            &at, "waiting", &waiting, "exit", "cause", &cause, "code", &signal,
                            "signal", &signal, "at", &at, "expires_at", &at, "ttl_millis", &ttl,
                            "expiry_action", &expiry),
                0);
        assert_string_equal(kind, "pause");
        assert_int_equal(waiting, 2);
        assert_string_equal(cause, "out_of_memory");
        assert_int_equal(signal, 9);
        assert_string_equal(at, "2000-02-29T00:10:00Z");
        assert_int_equal(ttl, 1800000);
        assert_string_equal(expiry, "delete");
        assert_int_equal(json_object_size(json_object_get(json, "operation")),
                         sandboxd__v1__operation__descriptor.n_fields);
        assert_int_equal(json_object_size(json_object_get(json, "exit")),
                         sandboxd__v1__sandbox_exit__descriptor.n_fields);
        json_decref(json);
}

static void table_has_a_line_a_sandbox(void **state)
{
        Sandboxd__V1__Sandbox empty = SANDBOXD__V1__SANDBOX__INIT;
        struct fixture f;
        char *text;
        size_t n;

        (void)state;
        fill(&f);
        Sandboxd__V1__Sandbox *list[] = {&f.sandbox, &empty};
        FILE *out = open_memstream(&text, &n);
        assert_int_equal(sandboxes_print(list, ARRAY_SIZE(list), NOW, out), 0);
        assert_int_equal(fclose(out), 0);
        assert_string_equal(text, "ID    NAME  STATE        RUNTIME  IMAGE      CREATED\n"
                                  "01jz  web   running      runc     /srv/\\x1b  3 minutes ago\n"
                                  "-     -     unspecified  -        -          -\n");
        free(text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(json_has_every_field),
                cmocka_unit_test(json_of_an_empty_sandbox),
                cmocka_unit_test(text_escapes),
                cmocka_unit_test(text_of_a_life),
                cmocka_unit_test(text_of_each_end),
                cmocka_unit_test(state_and_operation),
                cmocka_unit_test(json_of_a_life),
                cmocka_unit_test(table_has_a_line_a_sandbox),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
