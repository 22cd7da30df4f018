/* rpc/service_reflection.c, and the tables that rpc/methods.py makes for it. */
#include "tests/unit/rpc_calls.h"

#include "grpc/reflection/v1/reflection.pb-c.h"
#include "methods.h"
#include "rpc/protowire.h"
#include "rpc/service_reflection.h"

typedef Grpc__Reflection__V1__ServerReflectionRequest reflection_request;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflection_response;
#define REQUEST_INIT       GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT
#define REQUEST_CASE(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define RESPONSE_CASE(name) \
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name

/* A second table, of two files whose descriptors nobody looks into. */
static const uint16_t a_and_b[] = {0, 1}, b_alone[] = {1};
static const struct rpc_descriptor_file other_files[] = {
        {"other/a.proto", (const uint8_t *)"a", 1, a_and_b, 2},
        {"other/b.proto", (const uint8_t *)"bb", 2, b_alone, 1},
};
static const struct rpc_descriptor_symbol other_symbols[] = {
        {"other.A", 0, true},
        {"other.A.b", 0, false},
        {"other.B", 1, true},
};
static const struct rpc_descriptors other_descriptors = {
        other_files,
        ARRAY_SIZE(other_files),
        other_symbols,
        ARRAY_SIZE(other_symbols),
};

static struct service_reflection reflection;

static int setup(void **state)
{
        static const struct rpc_descriptors *const tables[] = {&methods_descriptors,
                                                               &other_descriptors, NULL};

        if (rpc_fixture_setup(state) != 0)
                return -1;
        struct rpc_fixture *f = *state;
        return service_reflection_add(&reflection, f->server, tables, NULL);
}

/* A stream, and the last answer on it. */
struct dialogue {
        struct rpc_fixture *f;
        struct rpc_client *client;
        struct rpc_client_call *call;
        struct reply reply;
        reflection_response *answer;
};

static void start(struct rpc_fixture *f, struct dialogue *d, const struct rpc_service *service)
{
        const struct rpc_request request = {
                .service = service,
                .method = &service->methods[0],
                .no_message = true,
        };

        *d = (struct dialogue){.f = f, .client = client_new(f, NULL)};
        assert_int_equal(
                rpc_client_call(d->client, &request, &reply_ops, &d->reply, &d->call, NULL), 0);
}

static void say(struct dialogue *d, const reflection_request *request)
{
        uint8_t bytes[256];

        assert_true(protobuf_c_message_get_packed_size(&request->base) <= sizeof(bytes));
        rpc_client_send(d->call, bytes, protobuf_c_message_pack(&request->base, bytes));
}

static void forget_answer(struct dialogue *d)
{
        if (d->answer)
                grpc__reflection__v1__server_reflection_response__free_unpacked(TAKE(d->answer),
                                                                                NULL);
}

/* The answer, which is the dialogue's; it bears the request. */
static const reflection_response *answer_to(struct dialogue *d, const reflection_request *request)
{
        unsigned n = d->reply.n_messages;

        say(d, request);
        LOOP_UNTIL(&d->f->l, d->reply.n_messages > n || d->reply.n_done);
        assert_int_equal(d->reply.n_messages, n + 1);
        forget_answer(d);
        d->answer = grpc__reflection__v1__server_reflection_response__unpack(
                NULL, d->reply.last_len, d->reply.last);
        assert_non_null(d->answer);
        assert_string_equal(d->answer->valid_host, request->host);
        assert_non_null(d->answer->original_request);
        uint8_t sent[256], back[256];
        size_t k = protobuf_c_message_pack(&request->base, sent);
        assert_int_equal(protobuf_c_message_get_packed_size(&d->answer->original_request->base), k);
        (void)protobuf_c_message_pack(&d->answer->original_request->base, back);
        assert_memory_equal(back, sent, k);
        return d->answer;
}

static const reflection_response *ask(struct dialogue *d, int what, const char *name)
{
        reflection_request request = REQUEST_INIT;

        request.host = (char *)"a host";
        request.message_request_case = what;
        request.file_by_filename = (char *)name; /* or another member of the union */
        return answer_to(d, &request);
}

static void finish(struct dialogue *d)
{
        assert_int_equal(d->reply.n_done, 0);
        rpc_client_half_close(d->call);
        LOOP_UNTIL(&d->f->l, d->reply.n_done);
        assert_int_equal(d->reply.err.code, STATUS_OK);
        rpc_client_close(d->client);
        forget_answer(d);
        reply_done(&d->reply);
}

static const struct rpc_service *const versions[] = {
        &grpc_reflection_v1_server_reflection,
        &grpc_reflection_v1alpha_server_reflection,
};

/* --- the generated table ------------------------------------------------------------------- */

static void table(void **state)
{
        const struct rpc_descriptors *t = &methods_descriptors;

        (void)state;
        for (size_t i = 0; i < t->n_files; i++) {
                const struct rpc_descriptor_file *file = &t->files[i];
                const uint8_t *name;
                size_t n;

                assert_true(protowire_find(file->bytes, file->n, 1, &name, &n));
                assert_int_equal(n, strlen(file->name));
                assert_memory_equal(name, file->name, n);
                assert_int_equal(file->closure[0], i);
                for (size_t k = 0; k < file->n_closure; k++) {
                        assert_true(file->closure[k] < t->n_files);
                        for (size_t other = 0; other < k; other++)
                                assert_int_not_equal(file->closure[k], file->closure[other]);
                }
        }
        for (size_t i = 0; i < t->n_symbols; i++) {
                assert_true(t->symbols[i].file < t->n_files);
                if (i > 0)
                        assert_true(strcmp(t->symbols[i - 1].name, t->symbols[i].name) < 0);
        }
}

/* --- files --------------------------------------------------------------------------------- */

static void assert_files(const reflection_response *answer, const char *const *names, size_t n)
{
        assert_int_equal(answer->message_response_case, RESPONSE_CASE(FILE_DESCRIPTOR_RESPONSE));
        const Grpc__Reflection__V1__FileDescriptorResponse *files =
                answer->file_descriptor_response;
        assert_int_equal(files->n_file_descriptor_proto, n);
        for (size_t i = 0; i < n; i++) {
                const ProtobufCBinaryData *file = &files->file_descriptor_proto[i];
                const uint8_t *name;
                size_t n_name;
                assert_true(protowire_find(file->data, file->len, 1, &name, &n_name));
                assert_int_equal(n_name, strlen(names[i]));
                assert_memory_equal(name, names[i], n_name);
        }
}

static void assert_error(const reflection_response *answer, enum status code, const char *text)
{
        assert_int_equal(answer->message_response_case, RESPONSE_CASE(ERROR_RESPONSE));
        assert_int_equal(answer->error_response->error_code, code);
        assert_non_null(strstr(answer->error_response->error_message, text));
}

static void files_by_name(void **state)
{
        static const char *const ttrpc[] = {"ttrpc/ttrpc.proto", "google/rpc/status.proto",
                                            "google/protobuf/any.proto"};
        static const char *const unknown[] = {"", "ttrpc/ttrpc", "/ttrpc/ttrpc.proto", "z"};

        for (size_t v = 0; v < ARRAY_SIZE(versions); v++) {
                struct dialogue d;
                start(*state, &d, versions[v]);
                for (int twice = 0; twice < 2; twice++)
                        assert_files(ask(&d, REQUEST_CASE(FILE_BY_FILENAME), ttrpc[0]), ttrpc, 3);
                assert_files(ask(&d, REQUEST_CASE(FILE_BY_FILENAME), ttrpc[1]), ttrpc + 1, 2);
                assert_files(ask(&d, REQUEST_CASE(FILE_BY_FILENAME), ttrpc[2]), ttrpc + 2, 1);
                for (size_t i = 0; i < ARRAY_SIZE(unknown); i++)
                        assert_error(ask(&d, REQUEST_CASE(FILE_BY_FILENAME), unknown[i]),
                                     STATUS_NOT_FOUND, unknown[i]);
                assert_files(ask(&d, REQUEST_CASE(FILE_BY_FILENAME), ttrpc[2]), ttrpc + 2, 1);
                finish(&d);
        }
}

static void files_by_symbol(void **state)
{
        static const char *const health[] = {"grpc/health/v1/health.proto"};
        static const char *const known[] = {
                "grpc.health.v1.Health",
                "grpc.health.v1.Health.Watch",
                "grpc.health.v1.HealthCheckRequest",
                "grpc.health.v1.HealthCheckRequest.service",
                "grpc.health.v1.HealthCheckResponse.ServingStatus",
                "grpc.health.v1.HealthCheckResponse.NOT_SERVING",
                "grpc.health.v1.HealthListResponse.StatusesEntry",
                "grpc.health.v1.HealthListResponse.StatusesEntry.key",
        };
        static const char *const unknown[] = {
                "",
                "grpc",
                "grpc.health.v1",
                "grpc.health.v1.Healt",
                "grpc.health.v1.Health.",
                "grpc.health.v1.Health.Wait",
                "zzz",
        };
        static const char *const reflects[] = {"grpc/reflection/v1/reflection.proto"};
        struct dialogue d;

        start(*state, &d, versions[0]);
        for (size_t i = 0; i < ARRAY_SIZE(known); i++)
                assert_files(ask(&d, REQUEST_CASE(FILE_CONTAINING_SYMBOL), known[i]), health, 1);
        for (size_t i = 0; i < ARRAY_SIZE(unknown); i++)
                assert_error(ask(&d, REQUEST_CASE(FILE_CONTAINING_SYMBOL), unknown[i]),
                             STATUS_NOT_FOUND, unknown[i]);
        assert_files(ask(&d, REQUEST_CASE(FILE_CONTAINING_SYMBOL),
                         "grpc.reflection.v1.ServerReflectionRequest.message_request"),
                     reflects, 1);
        finish(&d);
}

/* What is asked for last is in the last table; its indexes are its own. */
static void second_table(void **state)
{
        struct dialogue d;

        start(*state, &d, versions[0]);
        for (int i = 0; i < 2; i++) {
                const reflection_response *answer =
                        i ? ask(&d, REQUEST_CASE(FILE_BY_FILENAME), "other/a.proto")
                          : ask(&d, REQUEST_CASE(FILE_CONTAINING_SYMBOL), "other.A.b");
                assert_int_equal(answer->message_response_case,
                                 RESPONSE_CASE(FILE_DESCRIPTOR_RESPONSE));
                const Grpc__Reflection__V1__FileDescriptorResponse *files =
                        answer->file_descriptor_response;
                assert_int_equal(files->n_file_descriptor_proto, 2);
                assert_int_equal(files->file_descriptor_proto[0].len, 1);
                assert_memory_equal(files->file_descriptor_proto[0].data, "a", 1);
                assert_int_equal(files->file_descriptor_proto[1].len, 2);
                assert_memory_equal(files->file_descriptor_proto[1].data, "bb", 2);
        }
        finish(&d);
}

/* --- other questions ----------------------------------------------------------------------- */

static void services(void **state)
{
        static const char *const names[] = {"grpc.reflection.v1.ServerReflection",
                                            "grpc.reflection.v1alpha.ServerReflection",
                                            "sandboxd.v1.HostService", "test.v1.TestService"};
        struct rpc_fixture *f = *state;
        struct dialogue d;

        /* Also what is added later. */
        assert_int_equal(rpc_server_add_all(f->server, &host_service, echo, f, NULL), 0);
        for (size_t v = 0; v < ARRAY_SIZE(versions); v++) {
                start(f, &d, versions[v]);
                const reflection_response *answer = ask(&d, REQUEST_CASE(LIST_SERVICES), "*");
                assert_int_equal(answer->message_response_case,
                                 RESPONSE_CASE(LIST_SERVICES_RESPONSE));
                assert_int_equal(answer->list_services_response->n_service, ARRAY_SIZE(names));
                for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                        assert_string_equal(answer->list_services_response->service[i]->name,
                                            names[i]);
                finish(&d);
        }
}

static void extensions(void **state)
{
        Grpc__Reflection__V1__ExtensionRequest extension =
                GRPC__REFLECTION__V1__EXTENSION_REQUEST__INIT;
        reflection_request request = REQUEST_INIT;
        struct dialogue d;

        start(*state, &d, versions[0]);
        const reflection_response *answer =
                ask(&d, REQUEST_CASE(ALL_EXTENSION_NUMBERS_OF_TYPE), "google.rpc.Status");
        assert_int_equal(answer->message_response_case,
                         RESPONSE_CASE(ALL_EXTENSION_NUMBERS_RESPONSE));
        assert_string_equal(answer->all_extension_numbers_response->base_type_name,
                            "google.rpc.Status");
        assert_int_equal(answer->all_extension_numbers_response->n_extension_number, 0);
        assert_error(ask(&d, REQUEST_CASE(ALL_EXTENSION_NUMBERS_OF_TYPE), "google.rpc.Statuses"),
                     STATUS_NOT_FOUND, "google.rpc.Statuses");
        assert_error(ask(&d, REQUEST_CASE(ALL_EXTENSION_NUMBERS_OF_TYPE), "grpc.health.v1.Health"),
                     STATUS_NOT_FOUND, "grpc.health.v1.Health"); /* a service */
        extension.containing_type = (char *)"google.rpc.Status";
        extension.extension_number = 7;
        request.message_request_case = REQUEST_CASE(FILE_CONTAINING_EXTENSION);
        request.file_containing_extension = &extension;
        assert_error(answer_to(&d, &request), STATUS_NOT_FOUND, "google.rpc.Status");
        finish(&d);
}

static void asks_for_nothing(void **state)
{
        reflection_request request = REQUEST_INIT;
        struct dialogue d;

        start(*state, &d, versions[0]);
        assert_error(answer_to(&d, &request), STATUS_INVALID_ARGUMENT, "nothing");
        finish(&d);
}

/* What is handed back stays UTF-8 where it is cut. */
static void long_name(void **state)
{
        char name[200] = "x";
        struct dialogue d;

        for (size_t i = 1; i + 2 < sizeof(name); i += 2)
                memcpy(name + i, "\xC3\xA9", 2);
        start(*state, &d, versions[0]);
        const reflection_response *answer = ask(&d, REQUEST_CASE(FILE_CONTAINING_SYMBOL), name);
        assert_error(answer, STATUS_NOT_FOUND, "x\xC3\xA9");
        assert_true(protowire_is_valid(answer->base.descriptor, d.reply.last, d.reply.last_len));
        finish(&d);
}

/* --- the stream ---------------------------------------------------------------------------- */

static void no_request(void **state)
{
        struct dialogue d;

        start(*state, &d, versions[0]);
        finish(&d);
}

static void bad_requests(void **state)
{
        static const uint8_t large[1 * MiB];
        struct dialogue d;

        for (int i = 0; i < 2; i++) {
                start(*state, &d, versions[i]);
                (void)ask(&d, REQUEST_CASE(LIST_SERVICES), "");
                rpc_client_send(d.call, i ? large : (const uint8_t *)"\xFF", i ? sizeof(large) : 1);
                LOOP_UNTIL(&d.f->l, d.reply.n_done);
                assert_int_equal(d.reply.err.code,
                                 i ? STATUS_RESOURCE_EXHAUSTED : STATUS_INVALID_ARGUMENT);
                assert_serves(d.f, d.client);
                rpc_client_close(d.client);
                forget_answer(&d);
                reply_done(&d.reply);
        }
}

/* Asks, until the connection takes no more. */
static unsigned ask_without_reading(struct dialogue *d)
{
        reflection_request request = REQUEST_INIT;
        unsigned n = 0;

        request.message_request_case = REQUEST_CASE(FILE_BY_FILENAME);
        request.file_by_filename = (char *)"sandboxd/v1/sandbox.proto";
        rpc_client_pause(d->client);
        for (; n < 1000000 && rpc_client_is_writable(d->client); n++) {
                say(d, &request);
                if (n % 100 == 0)
                        (void)uv_run(&d->f->l.loop, UV_RUN_NOWAIT);
        }
        loop_run_for(&d->f->l, 20);
        return n;
}

static void slow_reader(void **state)
{
        struct dialogue d;

        start(*state, &d, versions[0]);
        unsigned n = ask_without_reading(&d);
        assert_in_range(n, 1000, 999999); /* the server has stopped taking them */
        assert_int_equal(d.reply.n_messages, 0);
        assert_serves_anew(d.f);
        rpc_client_resume(d.client);
        LOOP_UNTIL(&d.f->l, d.reply.n_messages == n);
        (void)ask(&d, REQUEST_CASE(LIST_SERVICES), "");
        finish(&d);
}

static void client_leaves_amid_answers(void **state)
{
        struct dialogue d;

        start(*state, &d, versions[0]);
        (void)ask_without_reading(&d);
        rpc_client_close(d.client);
        assert_serves_anew(d.f);
        reply_done(&d.reply);
}

static void server_closes(void **state)
{
        struct rpc_fixture *f = *state;
        struct dialogue d;

        start(f, &d, versions[0]);
        (void)ask(&d, REQUEST_CASE(LIST_SERVICES), "");
        rpc_server_close(TAKE(f->server), 0, on_server_closed, &f->server_closed);
        LOOP_UNTIL(&f->l, f->server_closed && d.reply.n_done);
        assert_int_equal(d.reply.err.code, STATUS_UNAVAILABLE);
        rpc_client_close(d.client);
        forget_answer(&d);
        reply_done(&d.reply);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rpc_fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(table), TEST(files_by_name), TEST(files_by_symbol),
                TEST(second_table),      TEST(services),      TEST(extensions),
                TEST(asks_for_nothing),  TEST(long_name),     TEST(no_request),
                TEST(bad_requests),      TEST(slow_reader),   TEST(client_leaves_amid_answers),
                TEST(server_closes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
