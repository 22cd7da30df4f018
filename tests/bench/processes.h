/* What the clients of ProcessService.Start have in common: a request, and what its events mean. */
#pragma once

#include <uv.h>

#include "methods.h"
#include "rpc/client.h"
#include "sandboxd/v1/process.pb-c.h"
#include "tests/bench/rpc/common.h"

typedef Sandboxd__V1__ProcessServiceStartRequest StartRequest;
typedef Sandboxd__V1__ProcessServiceStartResponse StartResponse;

#define START_REQUEST_INIT SANDBOXD__V1__PROCESS_SERVICE_START_REQUEST__INIT

/* What is longer is `data`, and need not be looked into. */
#define OTHER_EVENT_MAX 1024

struct packed {
        uint8_t *bytes;
        size_t n;
};

static inline struct packed pack_start(const StartRequest *request)
{
        struct packed p = {.n = protobuf_c_message_get_packed_size(&request->base)};

        p.bytes = malloc(p.n);
        if (!p.bytes)
                errx(1, "out of memory");
        (void)protobuf_c_message_pack(&request->base, p.bytes);
        return p;
}

/* Is it the `end` of a program that has succeeded? Another end is the end of the test. *ret_size:
 * how much it has printed. */
static inline bool is_good_end(const uint8_t *bytes, size_t n, uint64_t *ret_size)
{
        if (n > OTHER_EVENT_MAX)
                return false;
        StartResponse *event = sandboxd__v1__process_service_start_response__unpack(NULL, n, bytes);
        if (!event)
                errx(1, "an event that cannot be read");
        bool is_end = event->event_case == SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_END;
        if (event->event_case == SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_GAP)
                errx(1, "output was lost");
        if (is_end && (event->end->exit_code != 0 || *event->end->error))
                errx(1, "the program ended with %d: %s", event->end->exit_code, event->end->error);
        if (is_end && ret_size)
                *ret_size = event->end->stdout_size;
        sandboxd__v1__process_service_start_response__free_unpacked(event, NULL);
        return is_end;
}

static inline void call_start(struct rpc_client *client, const struct packed *message,
                              const struct rpc_reply_ops *ops, void *data)
{
        struct rpc_request request = {.service = &process_service,
                                      .method = &process_service.methods[PROCESS_SERVICE_START],
                                      .message = message->bytes,
                                      .n = message->n};
        struct err e;

        if (rpc_client_call(client, &request, ops, data, NULL, &e) < 0)
                errx(1, "%s", e.msg);
}

static inline struct rpc_client *client_new(uv_loop_t *loop, const char *socket)
{
        struct rpc_client *client;
        struct err e;

        if (rpc_client_new(loop, connect_to(socket), 0, NULL, NULL, &client, &e) < 0)
                errx(1, "%s", e.msg);
        return client;
}
