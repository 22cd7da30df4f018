#include "cli/scrape.h"

#include "base/util.h"
#include "methods.h"
#include "rpc/arena.h"

#define ANSWER_BUDGET (8 * MiB) /* the text is at most one */

static void answer(struct scrape *s, const Sandboxd__V1__HostServiceMetricsResponse *text,
                   const struct err *e)
{
        scrape_cancel(s);
        s->on_answer(s->data, text, e);
}

static void on_message(void *data, const uint8_t *bytes, size_t n)
{
        struct arena arena;
        struct err e;
        bool exhausted;

        arena_init(&arena, ANSWER_BUDGET);
        void *message =
                arena_unpack(&arena, &sandboxd__v1__host_service_metrics_response__descriptor,
                             bytes, n, &exhausted);
        if (!message)
                (void)err_set(&e, STATUS_INTERNAL, "the daemon's answer is %s",
                              exhausted ? "too large" : "malformed");
        answer(data, message, message ? NULL : &e);
        arena_done(&arena);
}

/* After an answer it does not come: the client is closed then. */
static void on_done(void *data, const struct err *e, const uint8_t *details, size_t n_details)
{
        struct err none;

        (void)details, (void)n_details;
        (void)err_set(&none, STATUS_INTERNAL, "Metrics ended without an answer");
        answer(data, NULL, e ? e : &none);
}

int scrape_begin(struct scrape *s, struct err *e)
{
        static const struct rpc_client_ops no_ops;
        static const struct rpc_reply_ops ops = {.on_message = on_message, .on_done = on_done};
        const struct rpc_request request = {
                .service = &host_service,
                .method = &host_service.methods[HOST_SERVICE_METRICS],
                .message = "",
                .timeout_ns = s->timeout_ms * NSEC_PER_MSEC,
        };

        if (s->client)
                return 0;
        int fd = dialer_dial_again(s->dialer, e);
        if (fd < 0)
                return fd;
        int r = rpc_client_new(s->loop, fd, 0, &no_ops, s, &s->client, e);
        if (r == 0)
                r = rpc_client_call(s->client, &request, &ops, s, NULL, e);
        if (r < 0)
                scrape_cancel(s);
        return r;
}

void scrape_cancel(struct scrape *s)
{
        struct rpc_client *client = TAKE(s->client);

        if (client)
                rpc_client_close(client);
}
