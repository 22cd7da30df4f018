#include <inttypes.h>

#include "base/util.h"
#include "cli/command.h"
#include "cli/output.h"
#include "methods.h"
#include "sandboxd/v1/host.pb-c.h"

static json_t *runtimes_json(const Sandboxd__V1__HostServiceInfoResponse *info)
{
        json_t *array = json_array();

        for (size_t i = 0; i < info->n_runtimes; i++) {
                const Sandboxd__V1__RuntimeInfo *r = info->runtimes[i];
                array = json_append(array, json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", r->name,
                                                     "type", r->type, "path", r->path, "version",
                                                     r->version, "problem", r->problem));
        }
        return array;
}

static json_t *info_json(const Sandboxd__V1__HostServiceInfoResponse *info)
{
        /* clang-format off */
        return json_pack("{s:s, s:s, s:s, s:o, s:s, s:s, s:I, s:I, s:s, s:s}",
                         "version", info->version,
                         "engine", info->engine,
                         "runtime", info->runtime,
                         "runtimes", runtimes_json(info),
                         "data_dir", info->data_dir,
                         "state_dir", info->state_dir,
                         "sandboxes", (json_int_t)info->sandboxes,
                         "sandboxes_running", (json_int_t)info->sandboxes_running,
                         "problem", info->problem,
                         "instance", info->instance);
        /* clang-format on */
}

static int print_host(const Sandboxd__V1__HostServiceInfoResponse *info)
{
        struct table t = {.columns = 2};
        char sandboxes[64];

        (void)str_format(sandboxes, sizeof(sandboxes), "%" PRIu32 " (%" PRIu32 " running)",
                         info->sandboxes, info->sandboxes_running);
        table_add_field(&t, "version", info->version);
        table_add_field(&t, "engine", info->engine);
        table_add_field(&t, "runtime", info->runtime);
        table_add_field(&t, "data", info->data_dir);
        table_add_field(&t, "state", info->state_dir);
        table_add_field(&t, "sandboxes", sandboxes);
        table_add_field(&t, "instance", info->instance);
        table_add_field(&t, "problem", info->problem);
        return table_print(&t, stdout);
}

static int print_runtimes(const Sandboxd__V1__HostServiceInfoResponse *info)
{
        static const char *const head[] = {"RUNTIME", "TYPE", "VERSION", "PATH", "PROBLEM"};
        struct table t = {.columns = ARRAY_SIZE(head)};

        table_add_row(&t, head);
        for (size_t i = 0; i < info->n_runtimes; i++) {
                table_add(&t, info->runtimes[i]->name);
                table_add(&t, info->runtimes[i]->type);
                table_add(&t, info->runtimes[i]->version);
                table_add(&t, info->runtimes[i]->path);
                table_add(&t, info->runtimes[i]->problem);
        }
        return table_print(&t, stdout);
}

int command_info(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__HostServiceInfoRequest request =
                SANDBOXD__V1__HOST_SERVICE_INFO_REQUEST__INIT;
        struct err e;

        (void)operands;
        const Sandboxd__V1__HostServiceInfoResponse *info =
                session_call(s, &host_service, HOST_SERVICE_INFO, &request.base, &e);
        if (!info)
                return call_failed(s, &e);
        if (o->json)
                return printed(print_json(info_json(info), stdout));
        int r = print_host(info);
        if (r < 0)
                return printed(r);
        fputc('\n', stdout);
        return printed(print_runtimes(info));
}
