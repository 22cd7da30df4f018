#include "daemon/service_host_reload.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "daemon/reload.h"
#include "daemon/service_host.h"
#include "sandboxd/v1/host.pb-c.h"

typedef Sandboxd__V1__ConfigChange change_message;

static size_t count_reloadable(const struct config_changes *changes)
{
        size_t n = 0;

        for (size_t i = 0; i < changes->n; i++)
                n += changes->items[i].reloadable;
        return n;
}

/* Both arrays have room for all changes. The pointers: to those that are reloadable, n of them,
 * then to the others. The strings stay the changes'. */
static void fill(const struct config_changes *changes, size_t n, change_message *messages,
                 change_message **pointers)
{
        change_message **applied = pointers, **others = pointers + n;

        for (size_t i = 0; i < changes->n; i++) {
                const struct config_change *c = &changes->items[i];
                sandboxd__v1__config_change__init(&messages[i]);
                messages[i].key = c->key;
                messages[i].old_value = c->before;
                messages[i].new_value = c->after;
                *(c->reloadable ? applied++ : others++) = &messages[i];
        }
}

static void reply(struct rpc_call *call, const struct config_changes *changes, const char *warning)
{
        Sandboxd__V1__HostServiceReloadResponse response =
                SANDBOXD__V1__HOST_SERVICE_RELOAD_RESPONSE__INIT;
        char text[2 * ERR_MSG_MAX];
        change_message *messages = calloc(changes->n + 1, sizeof(*messages));
        change_message **pointers = calloc(changes->n + 1, sizeof(change_message *));
        size_t n = count_reloadable(changes);
        struct err e;

        if (messages && pointers) {
                fill(changes, n, messages, pointers);
                response.applied = pointers;
                response.n_applied = n;
                response.needs_restart = pointers + n;
                response.n_needs_restart = changes->n - n;
                response.warning = str_escape(text, sizeof(text), warning, strlen(warning));
                rpc_call_reply(call, &response.base);
        } else {
                (void)err_oom(&e);
                rpc_call_finish(call, &e);
        }
        free(messages);
        free(pointers);
}

static void on_done(void *data, const struct config_changes *changes, const char *warning,
                    const struct err *e)
{
        struct rpc_call *call = data;

        if (changes)
                reply(call, changes, warning);
        else
                rpc_call_finish(call, e);
}

void service_host_on_reload(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        const struct service_host *host = ctx;
        const Sandboxd__V1__HostServiceReloadRequest *request =
                (const void *)rpc_call_unpack(call, message, n);
        struct err e;

        if (!request)
                return;
        if (reload_start(host->reloader, request->dry_run, on_done, call, &e) < 0)
                rpc_call_finish(call, &e);
}
