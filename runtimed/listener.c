#include "runtimed/listener.h"

static void take(struct listener *l)
{
        struct spool_chunk chunk;
        enum spool_item item = SPOOL_NOTHING;

        while ((!l->may_take || l->may_take(l)) &&
               (item = process_take(&l->follower, &chunk)) != SPOOL_NOTHING)
                if (item == SPOOL_DATA)
                        line_cutter_feed(chunk.stream == SPOOL_STDOUT ? &l->out : &l->err,
                                         chunk.bytes, chunk.n);
}

static void end(struct listener *l)
{
        l->exit = *process_exit_of(l->follower.process);
        process_told_end(l->follower.process);
        listener_detach(l);
        l->on_end(l);
}

void listener_go_on(struct listener *l)
{
        if (!l->attached)
                return;
        take(l);
        if (process_exit_of(l->follower.process) && (!l->may_take || l->may_take(l)))
                end(l);
}

static void on_news(struct follower *f)
{
        listener_go_on(CONTAINER(f, struct listener, follower));
}

void listener_attach(struct listener *l, struct process *p)
{
        static const uint64_t from_the_start[SPOOL_STREAMS];

        l->attached = true;
        process_follow(p, &l->follower, from_the_start, on_news);
}

void listener_detach(struct listener *l)
{
        if (!l->attached)
                return;
        l->attached = false;
        line_cutter_end(&l->out);
        line_cutter_end(&l->err);
        process_unfollow(&l->follower);
}

struct process *listener_process(const struct listener *l)
{
        return l->attached ? l->follower.process : NULL;
}
