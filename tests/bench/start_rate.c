/* How many programs a second can be started: `true` in several sandboxes in turn, from Start to
 * `end`.
 *
 *   start_rate SOCKET SECONDS CONNECTIONS IN_FLIGHT KEEP_MILLIS SANDBOX_ID...
 *
 * IN_FLIGHT on all connections together. Prints one line of JSON: starts, starts a second, and the
 * percentiles in milliseconds. The first that fails ends it with status 1. */
#include "tests/bench/processes.h"

struct bench {
        uv_loop_t loop;
        uint64_t end; /* ns: no start after it */
        struct packed *messages;
        size_t n_messages, next;
        uint32_t *samples; /* µs */
        size_t n_samples;
        size_t in_flight;
        struct rpc_client **clients;
        size_t n_clients;
};

struct start {
        struct bench *bench;
        struct rpc_client *client;
        uint64_t began; /* ns */
        bool ended;
};

static void begin(struct start *s);

static void on_message(void *data, const uint8_t *bytes, size_t n)
{
        struct start *s = data;

        s->ended = is_good_end(bytes, n, NULL);
}

static void on_done(void *data, const struct err *e, const uint8_t *details, size_t n_details)
{
        struct start *s = data;
        struct bench *b = s->bench;
        uint64_t now = now_ns();

        (void)details, (void)n_details;
        if (e)
                errx(1, "a start failed: %s", e->msg);
        if (!s->ended)
                errx(1, "a stream ended without the program's end");
        if (b->n_samples < SAMPLES_MAX)
                b->samples[b->n_samples++] = (uint32_t)((now - s->began) / 1000);
        if (now < b->end) {
                begin(s);
                return;
        }
        if (--b->in_flight == 0)
                for (size_t i = 0; i < b->n_clients; i++)
                        rpc_client_close(b->clients[i]);
}

static void begin(struct start *s)
{
        static const struct rpc_reply_ops ops = {.on_message = on_message, .on_done = on_done};
        struct bench *b = s->bench;

        s->ended = false;
        s->began = now_ns();
        call_start(s->client, &b->messages[b->next++ % b->n_messages], &ops, s);
}

static void *new_array(size_t n, size_t size)
{
        void *p = calloc(n, size);

        if (!p)
                errx(1, "out of memory");
        return p;
}

int main(int argc, char **argv)
{
        char *args[] = {(char *)"true"};
        struct bench b = {0};

        if (argc < 7)
                errx(2, "usage: see tests/bench/start_rate.c");
        b.n_clients = strtoul(argv[3], NULL, 10);
        b.in_flight = strtoul(argv[4], NULL, 10);
        b.n_messages = (size_t)argc - 6;
        b.messages = new_array(b.n_messages, sizeof(*b.messages));
        for (size_t i = 0; i < b.n_messages; i++) {
                StartRequest request = START_REQUEST_INIT;
                request.sandbox_id = argv[6 + i];
                request.args = args;
                request.n_args = 1;
                request.keep_millis = strtoul(argv[5], NULL, 10);
                b.messages[i] = pack_start(&request);
        }
        b.samples = new_array(SAMPLES_MAX, sizeof(*b.samples));
        b.clients = new_array(b.n_clients, sizeof(struct rpc_client *));
        if (uv_loop_init(&b.loop) < 0)
                errx(1, "cannot start");
        for (size_t i = 0; i < b.n_clients; i++)
                b.clients[i] = client_new(&b.loop, argv[1]);

        struct start *starts = new_array(b.in_flight, sizeof(*starts));
        uint64_t began = now_ns();
        b.end = began + (uint64_t)(strtod(argv[2], NULL) * 1e9);
        for (size_t i = 0; i < b.in_flight; i++) {
                starts[i] = (struct start){.bench = &b, .client = b.clients[i % b.n_clients]};
                begin(&starts[i]);
        }
        (void)uv_run(&b.loop, UV_RUN_DEFAULT); /* until the last one has closed the clients */
        if (b.in_flight > 0)
                errx(1, "the server closed the connection");
        double seconds = (double)(now_ns() - began) / 1e9;
        qsort(b.samples, b.n_samples, sizeof(*b.samples), by_value);
        printf("{\"starts\": %zu, \"rate\": %.1f, \"p50\": %.3f, \"p99\": %.3f}\n", b.n_samples,
               (double)b.n_samples / seconds, b.samples[b.n_samples / 2] / 1e3,
               b.samples[b.n_samples * 99 / 100] / 1e3);
        return uv_loop_close(&b.loop) == 0 ? 0 : 1;
}
