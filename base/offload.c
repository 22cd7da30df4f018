#include "base/offload.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/util.h"

#define STACK_SIZE (256 * KiB)

/* Under way in the whole process, those that are late too: they hold a thread. */
static atomic_uint threads;

/* Held by the loop until its handles are closed and by the thread until it ends; the last one
 * frees. */
struct offload {
        uv_async_t ended;
        uv_timer_t timer;
        unsigned handles; /* open ones; of the loop alone */
        struct offload_ops ops;
        void *ctx;
        void *data;
        pthread_mutex_t mutex;
        bool finished, late; /* the work has ended; nobody waits for it: whichever comes first */
        atomic_uint holders;
};

static void release(struct offload *o)
{
        if (atomic_fetch_sub(&o->holders, 1) > 1)
                return;
        (void)pthread_mutex_destroy(&o->mutex); /* nobody has it */
        free(o);
}

/* Whoever is first wins: true for the end of the work in time, or for the deadline before it. */
static bool settle(struct offload *o, bool by_work)
{
        (void)pthread_mutex_lock(&o->mutex); /* neither fails */
        bool first = !o->finished && !o->late;
        if (by_work)
                o->finished = true;
        else
                o->late = true;
        if (first && by_work)
                (void)uv_async_send(&o->ended); /* inside, so that the handle is not closed yet */
        (void)pthread_mutex_unlock(&o->mutex);
        return first;
}

static void on_thread(void *arg)
{
        struct offload *o = arg;

        o->ops.work(o->data);
        if (!settle(o, true))
                o->ops.drop(o->data);
        release(o);
        atomic_fetch_sub(&threads, 1);
}

static void on_async_closed(uv_handle_t *handle)
{
        struct offload *o = CONTAINER(handle, struct offload, ended);

        if (--o->handles == 0)
                release(o);
}

static void on_timer_closed(uv_handle_t *handle)
{
        struct offload *o = CONTAINER(handle, struct offload, timer);

        if (--o->handles == 0)
                release(o);
}

static void close_handles(struct offload *o)
{
        uv_close((uv_handle_t *)&o->ended, on_async_closed);
        uv_close((uv_handle_t *)&o->timer, on_timer_closed);
}

static void on_ended(uv_async_t *async)
{
        struct offload *o = CONTAINER(async, struct offload, ended);

        if (uv_is_closing((uv_handle_t *)&o->timer))
                return; /* told already */
        close_handles(o);
        o->ops.done(o->ctx, o->data);
}

static void on_deadline(uv_timer_t *timer)
{
        struct offload *o = CONTAINER(timer, struct offload, timer);

        if (!settle(o, false))
                return; /* it has ended this very moment: on_ended comes */
        close_handles(o);
        o->ops.done(o->ctx, NULL);
}

unsigned offload_threads(void)
{
        return atomic_load(&threads);
}

static int start_thread(struct offload *o, struct err *e)
{
        const uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE,
                                             .stack_size = STACK_SIZE};
        pthread_t self;

        if (atomic_fetch_add(&threads, 1) >= OFFLOAD_MAX) {
                atomic_fetch_sub(&threads, 1);
                return err_set(e, STATUS_RESOURCE_EXHAUSTED,
                               "%d pieces of work hang already; retry later", OFFLOAD_MAX);
        }
        int r = uv_thread_create_ex(&self, &options, on_thread, o);
        if (r < 0) {
                atomic_fetch_sub(&threads, 1);
                return err_errno(e, -r, "start a thread");
        }
        (void)pthread_detach(self); /* it is a thread that can be joined, so it never fails */
        return 0;
}

int offload(uv_loop_t *loop, unsigned timeout_ms, const struct offload_ops *ops, void *ctx,
            void *data, struct err *e)
{
        struct offload *o = calloc(1, sizeof(*o));

        if (!o)
                return err_oom(e);
        int r = uv_async_init(loop, &o->ended, on_ended);
        if (r < 0) {
                free(o);
                return err_errno(e, -r, "make a handle of the loop");
        }
        (void)uv_timer_init(loop, &o->timer); /* never fails, nor do the next */
        (void)pthread_mutex_init(&o->mutex, NULL);
        o->handles = 2;
        o->ops = *ops;
        o->ctx = ctx;
        o->data = data;
        o->holders = 2;
        r = start_thread(o, e);
        if (r < 0) {
                o->holders = 1; /* there is no thread */
                close_handles(o);
                return r;
        }
        (void)uv_timer_start(&o->timer, on_deadline, timeout_ms, 0);
        return 0;
}
