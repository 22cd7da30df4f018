/* A client on rpc/client.h: what sandboxctl and sandboxd itself use. Arguments: see common.h */
#include <uv.h>

#include "rpc/client.h"
#include "tests/bench/rpc/common.h"

static const struct rpc_method methods[] = {{.name = "Unary"},
                                            {.name = "Count", .server_streams = true}};
static const struct rpc_service service = {.name = SERVICE, .methods = methods, .n_methods = 2};

struct client {
        const struct options *options;
        uv_loop_t loop;
        struct rpc_client *rpc;
        struct meter meter;
        struct rpc_request request;
        uint8_t bytes[256];
        uint64_t start; /* of the one call in flight */
        bool over;
};

static void call(struct client *c);

static void stop(struct client *c)
{
        c->over = true;
        rpc_client_close(c->rpc);
}

static void on_message(void *data, const uint8_t *bytes, size_t n)
{
        struct client *c = data;

        (void)bytes;
        if (c->options->mode == STREAM && !c->over) {
                if (n < c->options->n)
                        errx(1, "a message of %zu bytes", n);
                if (!meter_count(&c->meter, now_ns(), 1, c->options->n))
                        stop(c);
        }
}

static void on_done(void *data, const struct err *e, const uint8_t *details, size_t n_details)
{
        struct client *c = data;

        (void)details, (void)n_details;
        if (c->over)
                return;
        if (e)
                errx(1, "the call failed: %s", e->msg);
        uint64_t now = now_ns();
        if (c->meter.samples)
                meter_sample(&c->meter, now - c->start);
        c->start = now;
        if (meter_count(&c->meter, now, 1, PAYLOAD_SIZE))
                call(c);
        else
                stop(c);
}

static void call(struct client *c)
{
        static const struct rpc_reply_ops ops = {.on_message = on_message, .on_done = on_done};
        struct err e;

        if (rpc_client_call(c->rpc, &c->request, &ops, c, NULL, &e) < 0)
                errx(1, "%s", e.msg);
}

int main(int argc, char **argv)
{
        struct options o = parse_options(argc, argv);
        struct client c = {.options = &o};
        struct err e;

        if (o.mode == IDLE)
                errx(2, "idle: use frames_client");
        c.request = (struct rpc_request){
                .service = &service,
                .method = &methods[o.mode == STREAM],
                .message = c.bytes,
                .n = put_request(c.bytes, &o),
        };
        if (uv_loop_init(&c.loop) < 0 ||
            rpc_client_new(&c.loop, connect_to(o.socket), 0, NULL, NULL, &c.rpc, &e) < 0)
                errx(1, "cannot start");
        meter_start(&c.meter, &o);
        c.start = now_ns();
        for (unsigned i = 0; i < (o.mode == STREAM ? 1 : o.n); i++)
                call(&c);
        (void)uv_run(&c.loop, UV_RUN_DEFAULT); /* until stop */
        if (!c.over)
                errx(1, "the server closed the connection");
        meter_print(&c.meter);
        return uv_loop_close(&c.loop) == 0 ? 0 : 1;
}
