/* A client that costs next to nothing, so that a server's cost is not mixed with a client's: it
 * writes frames that were encoded beforehand and parses headers only.
 *
 * usage: frames_client raw|ttrpc ARGUMENTS     raw: for raw_server. ARGUMENTS: see common.h */
#include "tests/bench/rpc/common.h"

#define HEADER_LEN 10
#define FRAME_MAX  512

enum { REQUEST = 1, RESPONSE = 2, DATA = 3 };

static bool raw;

/* What comes in, and where in a frame it stands. */
struct reader {
        uint8_t header[HEADER_LEN];
        size_t have;  /* bytes of the header */
        size_t left;  /* bytes of the payload */
        bool first;   /* none of them was seen */
        size_t whole; /* frames */
};

static void put_u32(uint8_t *out, uint32_t v)
{
        out[0] = (uint8_t)(v >> 24);
        out[1] = (uint8_t)(v >> 16);
        out[2] = (uint8_t)(v >> 8);
        out[3] = (uint8_t)v;
}

static uint32_t get_u32(const uint8_t *p)
{
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A request, with room for its id. */
static size_t put_frame(uint8_t out[FRAME_MAX], const struct options *o)
{
        uint8_t message[256], *p = out + HEADER_LEN;
        size_t n = put_request(message, o);

        memset(out, 0, HEADER_LEN);
        out[8] = REQUEST;
        if (raw && o->mode == STREAM) {
                out[8] = DATA;
                memcpy(p, &o->n, sizeof(uint32_t));
                p += sizeof(uint32_t);
        } else if (raw) {
                memset(p, 1, PAYLOAD_SIZE);
                p += PAYLOAD_SIZE;
        } else {
                const char *method = o->mode == STREAM ? "Count" : "Unary";
                p = put_bytes(p, 1, SERVICE, strlen(SERVICE));
                p = put_bytes(p, 2, method, strlen(method));
                p = put_bytes(p, 3, message, n);
                out[9] = o->mode == STREAM; /* the client has sent all it has to */
        }
        put_u32(out, (uint32_t)(p - out - HEADER_LEN));
        return (size_t)(p - out);
}

/* An answer that is an error begins with field 1, the status. */
static void check(const struct reader *r, uint8_t first_byte, enum mode mode)
{
        uint8_t type = r->header[8], want = mode == STREAM ? DATA : raw ? REQUEST : RESPONSE;

        if (type != want)
                errx(1, "a frame of type %d came, not %d", type, want);
        if (type == RESPONSE && first_byte != (2 << 3 | 2))
                errx(1, "the call failed");
}

/* Returns how many frames became whole. */
static size_t take(struct reader *r, const uint8_t *bytes, size_t n, enum mode mode)
{
        size_t before = r->whole;

        while (n > 0) {
                size_t k;
                if (r->have < HEADER_LEN) {
                        k = HEADER_LEN - r->have < n ? HEADER_LEN - r->have : n;
                        memcpy(r->header + r->have, bytes, k);
                        r->have += k;
                        r->left = get_u32(r->header);
                        r->first = true;
                } else {
                        if (r->first)
                                check(r, bytes[0], mode);
                        r->first = false;
                        k = r->left < n ? r->left : n;
                        r->left -= k;
                }
                bytes += k;
                n -= k;
                if (r->have == HEADER_LEN && r->left == 0) {
                        r->have = 0;
                        r->whole++;
                }
        }
        return r->whole - before;
}

static void unary(int fd, const struct options *o)
{
        static uint8_t in[64 * 1024];
        uint8_t frame[FRAME_MAX], *out;
        struct reader reader = {0};
        struct meter meter;
        uint32_t id = 1;
        size_t len = put_frame(frame, o), n = o->n;

        out = malloc(n * len);
        if (!out)
                errx(1, "out of memory");
        for (size_t i = 0; i < n; i++)
                memcpy(out + i * len, frame, len);
        meter_start(&meter, o);
        uint64_t start = now_ns(), end;
        do {
                for (size_t i = 0; i < n; i++, id += 2)
                        put_u32(out + i * len + 4, id);
                write_all(fd, out, n * len);
                do
                        n = take(&reader, in, read_some(fd, in, sizeof(in)), UNARY);
                while (n == 0);
                end = now_ns();
                if (meter.samples)
                        meter_sample(&meter, end - start);
                start = end;
        } while (meter_count(&meter, end, n, n * PAYLOAD_SIZE));
        meter_print(&meter);
        free(out);
}

static void stream(int fd, const struct options *o)
{
        static uint8_t in[256 * 1024];
        uint8_t frame[FRAME_MAX];
        struct reader reader = {0};
        struct meter meter;
        size_t len = put_frame(frame, o), n;

        put_u32(frame + 4, 1);
        write_all(fd, frame, len);
        meter_start(&meter, o);
        do
                n = take(&reader, in, read_some(fd, in, sizeof(in)), STREAM);
        while (meter_count(&meter, now_ns(), n, n * o->n));
        meter_print(&meter);
}

static void idle(const struct options *o)
{
        uint8_t frame[FRAME_MAX], in[1024];
        size_t len = put_frame(frame, o);

        raise_descriptor_limit(o->n);
        put_u32(frame + 4, 1);
        for (unsigned i = 0; i < o->n; i++) {
                struct reader reader = {0};
                int fd = connect_to(o->socket); /* open until the process ends */
                write_all(fd, frame, len);
                while (take(&reader, in, read_some(fd, in, sizeof(in)), UNARY) == 0)
                        ;
        }
        hold_idle();
}

int main(int argc, char **argv)
{
        if (argc < 2)
                errx(2, "usage: frames_client raw|ttrpc ARGUMENTS");
        raw = strcmp(argv[1], "raw") == 0;
        struct options o = parse_options(argc - 1, argv + 1);
        if (o.mode == IDLE) {
                idle(&o);
                return 0;
        }
        int fd = connect_to(o.socket);
        if (o.mode == UNARY)
                unary(fd, &o);
        else
                stream(fd, &o);
        (void)close(fd);
        return 0;
}
