#include "cli/link.h"

#include "base/util.h"
#include "methods.h"
#include "rpc/arena.h"

/* A message of 4 MiB, the most that ttrpc carries, grows when it is unpacked. */
#define MESSAGE_BUDGET (64 * MiB)

static void on_end(struct rpc_client *client, void *data)
{
        struct link *l = data;

        if (l->client == client) /* a call's end may have been answered with a new connection */
                link_close(l);
}

static void on_closed(void *data)
{
        struct link *l = data;

        --*l->open;
}

static int connect_link(struct link *l, struct err *e)
{
        static const struct rpc_client_ops ops = {.on_end = on_end, .on_closed = on_closed};

        int fd = l->again ? dialer_dial_again(l->dialer, e) : dialer_dial(l->dialer, l->dial_ms, e);
        if (fd < 0)
                return fd;
        int r = rpc_client_new(l->loop, fd, 0, &ops, l, &l->client, e);
        if (r == 0)
                ++*l->open;
        return r;
}

int link_call(struct link *l, unsigned method, const ProtobufCMessage *request, uint64_t timeout_ms,
              const struct rpc_reply_ops *ops, void *data, struct err *e)
{
        size_t n = protobuf_c_message_get_packed_size(request);
        _cleanup_free_ uint8_t *bytes = malloc(n + 1); /* an empty request is no failure */

        if (!bytes)
                return err_oom(e);
        if (!l->client) {
                int r = connect_link(l, e);
                if (r < 0)
                        return r;
        }
        (void)protobuf_c_message_pack(request, bytes); /* returns n again */
        const struct rpc_request call = {
                .service = &process_service,
                .method = &process_service.methods[method],
                .message = bytes,
                .n = n,
                .timeout_ns = timeout_ms * NSEC_PER_MSEC,
        };
        return rpc_client_call(l->client, &call, ops, data, NULL, e);
}

bool link_is_broken(const struct link *l)
{
        return !l->client || !rpc_client_takes_calls(l->client);
}

void link_close(struct link *l)
{
        if (l->client)
                rpc_client_close(l->client);
        l->client = NULL;
}

const ProtobufCMessage *link_unpack(struct arena *arena, const ProtobufCMessageDescriptor *type,
                                    const uint8_t *bytes, size_t n, struct err *e)
{
        bool exhausted;

        arena_init(arena, MESSAGE_BUDGET);
        const ProtobufCMessage *message = arena_unpack(arena, type, bytes, n, &exhausted);
        if (!message)
                (void)err_set(e, exhausted ? STATUS_RESOURCE_EXHAUSTED : STATUS_INTERNAL,
                              "the daemon's answer is %s", exhausted ? "too large" : "malformed");
        return message;
}
