#include <errno.h>
#include <sys/random.h>

#include "base/str.h"
#include "methods.h"
#include "runtimed/service.h"
#include "sandboxd/control/v1/control.pb-c.h"

#define GENERATION 1

int boot_id_new(char ret[BOOT_ID_LEN + 1], struct err *e)
{
        uint8_t random[BOOT_ID_LEN / 2];

        /* 256 bytes or fewer come whole (getrandom(2)). */
        if (getrandom(random, sizeof(random), 0) < 0)
                return err_errno(e, errno, "get randomness for the boot id");
        for (size_t i = 0; i < sizeof(random); i++)
                (void)str_format(ret + 2 * i, 3, "%02x", random[i]); /* fits */
        return 0;
}

static void hello(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx)
{
        Sandboxd__Control__V1__HelloResponse response = SANDBOXD__CONTROL__V1__HELLO_RESPONSE__INIT;

        if (!rpc_call_unpack(call, message, n))
                return;
        response.generation = GENERATION;
        response.version = (char *)SANDBOXD_VERSION;
        response.boot_id = ctx;
        rpc_call_reply(call, &response.base);
}

static const rpc_handler handlers[] = {
        [CONTROL_SERVICE_HELLO] = hello,
};

int service_control_add(struct rpc_server *server, const char *boot_id, struct err *e)
{
        return rpc_server_add(server, &control_service, handlers, (void *)boot_id, e);
}
