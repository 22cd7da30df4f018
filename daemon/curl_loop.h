/* libcurl's multi interface (libcurl-multi(3)) on a loop: watches its sockets and runs its timer.
 */
#pragma once

#include <uv.h>

#include "daemon/libcurl.h"

/* Embedded; on_activity is set, all else is 0. */
struct curl_loop {
        CURLM *multi; /* NULL: closing */
        /* Transfers may have gone on, or ended: see curl_multi_info_read. It may close this. */
        void (*on_activity)(struct curl_loop *l);

        uv_loop_t *loop; /* private, as all below */
        const struct libcurl *curl;
        uv_timer_t timer;
        unsigned handles; /* not closed yet */
        void (*on_closed)(struct curl_loop *l);
};

/* idle_max: connections that are kept for the next transfers. -ENOMEM: there is nothing to close.
 */
int curl_loop_open(struct curl_loop *l, uv_loop_t *loop, const struct libcurl *curl,
                   unsigned idle_max);
/* No transfer is in it any more. on_closed comes on a later turn of the loop. */
void curl_loop_close(struct curl_loop *l, void (*on_closed)(struct curl_loop *l));
