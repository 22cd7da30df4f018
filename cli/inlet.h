/* Our own standard input, whatever it is: read as the feeder takes it, and not before. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "cli/feeder.h"
#include "cli/readiness.h"

struct inlet {
        struct feeder *feeder;
        struct readiness ready;
        bool ended;
        bool has_ctrl_p; /* read and held back: what follows tells whose it is */
        void (*on_detach)(void *data);
        void *data;
};

/* on_detach: NULL, or what ctrl-P ctrl-Q means. 0 or a negative errno. */
int inlet_init(struct inlet *in, uv_loop_t *loop, struct feeder *feeder,
               void (*on_detach)(void *data), void *data);
/* Reads as long as the feeder has room; also when it has room again. */
void inlet_go_on(struct inlet *in);
/* Reads no more. */
void inlet_end(struct inlet *in);
void inlet_close(struct inlet *in, unsigned *open);
