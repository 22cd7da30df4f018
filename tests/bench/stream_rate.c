/* How fast a program's output comes to a client over ttrpc.
 *
 *   stream_rate SOCKET SANDBOX_ID PROGRAM [ARG...]
 *
 * Prints one line of JSON: bytes, and bytes a second, from the start of the program to its `end`.
 * The bytes are counted, not looked at. */
#include "tests/bench/processes.h"

struct bench {
        uv_loop_t loop;
        struct rpc_client *client;
        uint64_t began, took; /* ns */
        uint64_t messages;    /* bytes of them all, of which `data` is nearly everything */
        uint64_t size;        /* as `end` tells it */
        bool ended;
};

static void on_message(void *data, const uint8_t *bytes, size_t n)
{
        struct bench *b = data;

        b->messages += n;
        if (is_good_end(bytes, n, &b->size)) {
                b->ended = true;
                b->took = now_ns() - b->began;
        }
}

static void on_done(void *data, const struct err *e, const uint8_t *details, size_t n_details)
{
        struct bench *b = data;

        (void)details, (void)n_details;
        if (e)
                errx(1, "the call failed: %s", e->msg);
        if (!b->ended)
                errx(1, "the stream ended without the program's end");
        rpc_client_close(b->client);
}

int main(int argc, char **argv)
{
        static const struct rpc_reply_ops ops = {.on_message = on_message, .on_done = on_done};
        StartRequest request = START_REQUEST_INIT;
        struct bench b = {0};

        if (argc < 4)
                errx(2, "usage: see tests/bench/stream_rate.c");
        request.sandbox_id = argv[2];
        request.args = argv + 3;
        request.n_args = (size_t)argc - 3;
        if (uv_loop_init(&b.loop) < 0)
                errx(1, "cannot start");
        b.client = client_new(&b.loop, argv[1]);
        struct packed message = pack_start(&request);
        b.began = now_ns();
        call_start(b.client, &message, &ops, &b);
        (void)uv_run(&b.loop, UV_RUN_DEFAULT);
        if (!b.ended)
                errx(1, "the server closed the connection");
        if (b.messages < b.size)
                errx(1, "%llu bytes came of %llu", (unsigned long long)b.messages,
                     (unsigned long long)b.size);
        printf("{\"bytes\": %llu, \"rate\": %.0f}\n", (unsigned long long)b.size,
               (double)b.size / ((double)b.took / 1e9));
        return uv_loop_close(&b.loop) == 0 ? 0 : 1;
}
