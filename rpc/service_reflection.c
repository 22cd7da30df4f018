#include "rpc/service_reflection.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "grpc/reflection/v1alpha/reflection.pb-c.h"
#include "methods.h"

/* Two names, with room to spare; an answer holds its request. */
#define REQUEST_MAX 4096

/* The messages of v1alpha differ in nothing but the name of their package, so those of v1 serve for
 * both. */
_Static_assert(sizeof(Grpc__Reflection__V1__ServerReflectionRequest) ==
                       sizeof(Grpc__Reflection__V1alpha__ServerReflectionRequest),
               "v1 and v1alpha are the same");
typedef Grpc__Reflection__V1__ServerReflectionRequest reflection_request;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflection_response;
typedef Grpc__Reflection__V1__ServerReflectionResponse__MessageResponseCase response_case;
#define REQUEST_CASE(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define RESPONSE_CASE(name) \
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name

/* --- looking things up --------------------------------------------------------------------- */

static int by_name(const void *key, const void *symbol)
{
        return strcmp(key, ((const struct rpc_descriptor_symbol *)symbol)->name);
}

static const struct rpc_descriptor_symbol *find_symbol(const struct service_reflection *r,
                                                       const char *name,
                                                       const struct rpc_descriptors **ret_table)
{
        for (size_t i = 0; r->tables[i]; i++) {
                const struct rpc_descriptors *t = r->tables[i];
                const struct rpc_descriptor_symbol *s =
                        bsearch(name, t->symbols, t->n_symbols, sizeof(*s), by_name);
                *ret_table = t;
                if (s)
                        return s;
        }
        return NULL;
}

static const struct rpc_descriptor_file *find_file(const struct service_reflection *r,
                                                   const char *name,
                                                   const struct rpc_descriptors **ret_table)
{
        for (size_t i = 0; r->tables[i]; i++) {
                *ret_table = r->tables[i];
                for (size_t k = 0; k < r->tables[i]->n_files; k++)
                        if (str_eq(r->tables[i]->files[k].name, name))
                                return &r->tables[i]->files[k];
        }
        return NULL;
}

/* --- answers ------------------------------------------------------------------------------- */

/* answer: what the case demands. */
static void send_answer(struct rpc_call *call, reflection_request *request, response_case which,
                        void *answer)
{
        reflection_response response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;

        response.valid_host = request->host;
        response.original_request = request;
        response.message_response_case = which;
        response.file_descriptor_response = answer; /* or another pointer of the union */
        rpc_call_send_message(call, &response.base);
}

static void send_error(struct rpc_call *call, reflection_request *request, enum status code,
                       const char *what, const char *name)
{
        Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;
        char escaped[160], message[256];

        (void)str_escape(escaped, sizeof(escaped), name, strlen(name));    /* cut on purpose */
        (void)str_format(message, sizeof(message), "%s%s", what, escaped); /* it fits */
        error.error_code = (int32_t)code;
        error.error_message = message;
        send_answer(call, request, RESPONSE_CASE(ERROR_RESPONSE), &error);
}

static void send_file(struct rpc_call *call, reflection_request *request,
                      const struct rpc_descriptors *table, const struct rpc_descriptor_file *file)
{
        Grpc__Reflection__V1__FileDescriptorResponse answer =
                GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
        _cleanup_free_ ProtobufCBinaryData *files = calloc(file->n_closure, sizeof(*files));

        if (!files) {
                send_error(call, request, STATUS_RESOURCE_EXHAUSTED, "out of memory", "");
                return;
        }
        for (size_t i = 0; i < file->n_closure; i++) {
                const struct rpc_descriptor_file *one = &table->files[file->closure[i]];
                files[i] = (ProtobufCBinaryData){.data = (uint8_t *)one->bytes, .len = one->n};
        }
        answer.file_descriptor_proto = files;
        answer.n_file_descriptor_proto = file->n_closure;
        send_answer(call, request, RESPONSE_CASE(FILE_DESCRIPTOR_RESPONSE), &answer);
}

static void send_file_of_name(const struct service_reflection *r, struct rpc_call *call,
                              reflection_request *request, const char *name)
{
        const struct rpc_descriptors *table;
        const struct rpc_descriptor_file *file = find_file(r, name, &table);

        if (file)
                send_file(call, request, table, file);
        else
                send_error(call, request, STATUS_NOT_FOUND, "unknown file ", name);
}

static void send_file_of_symbol(const struct service_reflection *r, struct rpc_call *call,
                                reflection_request *request, const char *name)
{
        const struct rpc_descriptors *table;
        const struct rpc_descriptor_symbol *symbol = find_symbol(r, name, &table);

        if (symbol)
                send_file(call, request, table, &table->files[symbol->file]);
        else
                send_error(call, request, STATUS_NOT_FOUND, "unknown symbol ", name);
}

/* There are no extensions. */
static void send_extension_numbers(const struct service_reflection *r, struct rpc_call *call,
                                   reflection_request *request, char *type)
{
        Grpc__Reflection__V1__ExtensionNumberResponse answer =
                GRPC__REFLECTION__V1__EXTENSION_NUMBER_RESPONSE__INIT;
        const struct rpc_descriptors *table;
        const struct rpc_descriptor_symbol *symbol = find_symbol(r, type, &table);

        if (!symbol || !symbol->is_message) {
                send_error(call, request, STATUS_NOT_FOUND, "unknown message ", type);
                return;
        }
        answer.base_type_name = type;
        send_answer(call, request, RESPONSE_CASE(ALL_EXTENSION_NUMBERS_RESPONSE), &answer);
}

static int services_by_name(const void *a, const void *b)
{
        return strcmp(((const Grpc__Reflection__V1__ServiceResponse *)a)->name,
                      ((const Grpc__Reflection__V1__ServiceResponse *)b)->name);
}

static void send_services(const struct service_reflection *r, struct rpc_call *call,
                          reflection_request *request)
{
        Grpc__Reflection__V1__ListServiceResponse answer =
                GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
        size_t n = 0;

        while (rpc_server_service(r->server, n))
                n++; /* at least the one that is asked */
        _cleanup_free_ Grpc__Reflection__V1__ServiceResponse *services =
                calloc(n, sizeof(*services));
        _cleanup_free_ Grpc__Reflection__V1__ServiceResponse **pointers =
                calloc(n, sizeof(*pointers));
        if (!services || !pointers) {
                send_error(call, request, STATUS_RESOURCE_EXHAUSTED, "out of memory", "");
                return;
        }
        for (size_t i = 0; i < n; i++) {
                grpc__reflection__v1__service_response__init(&services[i]);
                services[i].name = (char *)rpc_server_service(r->server, i)->name;
                pointers[i] = &services[i];
        }
        qsort(services, n, sizeof(*services), services_by_name);
        answer.service = pointers;
        answer.n_service = n;
        send_answer(call, request, RESPONSE_CASE(LIST_SERVICES_RESPONSE), &answer);
}

/* --- the stream ---------------------------------------------------------------------------- */

static void answer_request(const struct service_reflection *r, struct rpc_call *call,
                           reflection_request *request)
{
        switch (request->message_request_case) {
        case REQUEST_CASE(FILE_BY_FILENAME):
                send_file_of_name(r, call, request, request->file_by_filename);
                break;
        case REQUEST_CASE(FILE_CONTAINING_SYMBOL):
                send_file_of_symbol(r, call, request, request->file_containing_symbol);
                break;
        case REQUEST_CASE(FILE_CONTAINING_EXTENSION):
                send_error(call, request, STATUS_NOT_FOUND, "there are no extensions of ",
                           request->file_containing_extension->containing_type);
                break;
        case REQUEST_CASE(ALL_EXTENSION_NUMBERS_OF_TYPE):
                send_extension_numbers(r, call, request, request->all_extension_numbers_of_type);
                break;
        case REQUEST_CASE(LIST_SERVICES):
                send_services(r, call, request);
                break;
        default:
                send_error(call, request, STATUS_INVALID_ARGUMENT,
                           "the request asks for nothing that is known here", "");
        }
}

static void on_message(struct rpc_call *call, const uint8_t *message, size_t n)
{
        reflection_request *request = (reflection_request *)rpc_call_unpack(call, message, n);

        if (!request)
                return;
        answer_request(rpc_call_data(call), call, request);
        if (!rpc_call_is_writable(call))
                rpc_call_pause(call);
}

static void on_end(struct rpc_call *call)
{
        rpc_call_finish(call, NULL);
}

static void on_info(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        static const struct rpc_call_ops ops = {
                .on_message = on_message,
                .on_half_close = on_end,
                .on_cancel = on_end,
                .on_writable = rpc_call_resume,
        };

        rpc_call_set_ops(call, &ops, ctx);
        if (message)
                on_message(call, message, n);
}

int service_reflection_add(struct service_reflection *r, struct rpc_server *server,
                           const struct rpc_descriptors *const *tables, struct err *e)
{
        static const struct rpc_service *const services[] = {
                &grpc_reflection_v1_server_reflection,
                &grpc_reflection_v1alpha_server_reflection,
        };
        int ret = 0;

        *r = (struct service_reflection){.server = server, .tables = tables};
        for (size_t i = 0; ret == 0 && i < ARRAY_SIZE(services); i++) {
                ret = rpc_server_add_all(server, services[i], on_info, r, e);
                if (ret == 0)
                        ret = rpc_server_limit_method(server, services[i]->name,
                                                      services[i]->methods[0].name, REQUEST_MAX, e);
        }
        return ret;
}
