#include "cli/inlet.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/output.h"

#define CTRL_P 0x10
#define CTRL_Q 0x11

/* As much as a pipe holds, usually; and a ctrl-P from before. One program has one standard input.
 */
static uint8_t scratch[64 * KiB], keys[sizeof(scratch) + 1];

/* What is not part of ctrl-P ctrl-Q goes on. Like docker's: a ctrl-P waits for the next key. */
static void feed_keys(struct inlet *in, const uint8_t *bytes, size_t n)
{
        size_t n_keys = 0;

        for (size_t i = 0; i < n; i++) {
                bool had = in->has_ctrl_p;
                in->has_ctrl_p = bytes[i] == CTRL_P;
                if (had && bytes[i] == CTRL_Q) {
                        inlet_end(in);
                        in->on_detach(in->data);
                        break;
                }
                if (had)
                        keys[n_keys++] = CTRL_P;
                if (!in->has_ctrl_p)
                        keys[n_keys++] = bytes[i];
        }
        feeder_feed(in->feeder, keys, n_keys);
}

static void end_of_input(struct inlet *in)
{
        inlet_end(in);
        feeder_end(in->feeder);
}

/* One read(2); false: there is nothing now, or for ever. */
static bool read_some(struct inlet *in)
{
        size_t room = feeder_room(in->feeder);

        ssize_t n = read(STDIN_FILENO, scratch, MIN(room - 1, sizeof(scratch)));
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return false;
        if (n < 0 && errno != EIO) /* EIO: the terminal is gone */
                complain("cannot read standard input: %s", strerror(errno));
        if (n <= 0) {
                end_of_input(in);
                return false;
        }
        if (in->on_detach)
                feed_keys(in, scratch, (size_t)n);
        else
                feeder_feed(in->feeder, scratch, (size_t)n);
        return true;
}

/* For at least a byte and the ctrl-P before it. */
static bool has_room(const struct inlet *in)
{
        return !in->ended && feeder_room(in->feeder) >= 2;
}

static void on_ready(void *data)
{
        struct inlet *in = data;

        if (has_room(in))
                (void)read_some(in); /* it comes again */
        if (!has_room(in))
                readiness_stop(&in->ready);
}

int inlet_init(struct inlet *in, uv_loop_t *loop, struct feeder *feeder,
               void (*on_detach)(void *data), void *data)
{
        *in = (struct inlet){.feeder = feeder, .on_detach = on_detach, .data = data};
        return readiness_init(&in->ready, loop, STDIN_FILENO, EPOLLIN, on_ready, in);
}

void inlet_go_on(struct inlet *in)
{
        if (!has_room(in) || readiness_start(&in->ready))
                return;
        while (has_room(in) && read_some(in)) /* a file: until the feeder is full */
                ;
}

void inlet_end(struct inlet *in)
{
        in->ended = true;
        readiness_stop(&in->ready);
}

void inlet_close(struct inlet *in, unsigned *open)
{
        in->ended = true;
        readiness_close(&in->ready, open);
}
