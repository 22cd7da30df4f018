#include "daemon/loop_lag.h"

#include "base/util.h"

/* libuv reads its clock when epoll_wait(2) returns, before it calls anybody: that is when the turn
 * began. In whole milliseconds; so the end is cut likewise, or every turn would seem half a
 * millisecond longer than it was. */
static void on_awake(uv_check_t *check)
{
        CONTAINER(check, struct loop_lag, awake)->woke_ms = uv_now(check->loop);
}

static void on_asleep(uv_prepare_t *prepare)
{
        struct loop_lag *l = CONTAINER(prepare, struct loop_lag, asleep);
        uint64_t now = uv_hrtime() / NSEC_PER_MSEC;

        if (l->woke_ms)
                l->on_turn(now > l->woke_ms ? now - l->woke_ms : 0);
}

void loop_lag_open(struct loop_lag *l, uv_loop_t *loop, void (*on_turn)(uint64_t ms))
{
        *l = (struct loop_lag){.on_turn = on_turn};
        (void)uv_prepare_init(loop, &l->asleep); /* none of them fails */
        (void)uv_check_init(loop, &l->awake);
        (void)uv_prepare_start(&l->asleep, on_asleep);
        (void)uv_check_start(&l->awake, on_awake);
        uv_unref((uv_handle_t *)&l->asleep);
        uv_unref((uv_handle_t *)&l->awake);
}

void loop_lag_close(struct loop_lag *l)
{
        if (!l->on_turn || uv_is_closing((uv_handle_t *)&l->asleep))
                return;
        uv_close((uv_handle_t *)&l->asleep, NULL);
        uv_close((uv_handle_t *)&l->awake, NULL);
}
