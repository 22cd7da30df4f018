#include "runtimed/file_watch.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "base/util.h"

#define LOOK_MS      2000
#define READS_A_TURN 8
/* Not IN_MODIFY: a log beside the file would wake us with every line. */
#define EVENTS                                                                              \
        (IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | \
         IN_DELETE_SELF | IN_MOVE_SELF)

/* --- without inotify ----------------------------------------------------------------------- */

static struct file_stamp stamp_of(const char *path)
{
        struct stat st;

        if (stat(path, &st) < 0)
                return (struct file_stamp){0};
        return (struct file_stamp){
                .device = st.st_dev,
                .inode = st.st_ino,
                .size = st.st_size,
                .seconds = st.st_mtim.tv_sec,
                .nanoseconds = st.st_mtim.tv_nsec,
        };
}

static bool stamp_equal(const struct file_stamp *a, const struct file_stamp *b)
{
        return a->device == b->device && a->inode == b->inode && a->size == b->size &&
               a->seconds == b->seconds && a->nanoseconds == b->nanoseconds;
}

static void on_timer(uv_timer_t *timer)
{
        struct file_watch *w = CONTAINER(timer, struct file_watch, timer);
        struct file_stamp now = stamp_of(w->path);

        if (!stamp_equal(&now, &w->stamp))
                w->on_change(w->data);
}

/* --- with it ------------------------------------------------------------------------------- */

/* The name in the i-th directory that leads to the file. */
static bool leads_on(const struct file_watch *w, unsigned i, const char *name)
{
        const char *next = w->path + w->directories[i].len + 1;

        return str_is(name, next, strcspn(next, "/"));
}

static bool concerns(const struct file_watch *w, const struct inotify_event *event)
{
        if (event->mask & IN_Q_OVERFLOW)
                return true;
        for (unsigned i = 0; i < w->n; i++) {
                bool itself = event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED);
                if (w->directories[i].watch == event->wd &&
                    (itself || (event->len && leads_on(w, i, event->name))))
                        return true;
        }
        return false;
}

/* True when one of the events tells of a change. */
static bool look_through(const struct file_watch *w, const char *events, size_t n)
{
        bool found = false;

        for (size_t at = 0; at < n;) {
                const struct inotify_event *event = (const void *)(events + at);
                found |= concerns(w, event);
                at += sizeof(*event) + event->len;
        }
        return found;
}

static void on_events(uv_poll_t *poll, int status, int events)
{
        static char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
        struct file_watch *w = CONTAINER(poll, struct file_watch, poll);
        bool found = false;

        (void)status, (void)events; /* read(2) says it better */
        for (int i = 0; i < READS_A_TURN; i++) {
                ssize_t n = TEMP_FAILURE_RETRY(read(w->inotify, buffer, sizeof(buffer)));
                if (n <= 0)
                        break;
                found |= look_through(w, buffer, (size_t)n);
        }
        if (found)
                w->on_change(w->data);
}

/* The watch, or a negative errno. */
static int watch_directory(const struct file_watch *w, unsigned i)
{
        char path[PATH_MAX];

        (void)str_format(path, sizeof(path), "%.*s/", (int)w->directories[i].len,
                         w->path); /* fits: it is shorter than the whole */
        int watch = inotify_add_watch(w->inotify, path, EVENTS | IN_ONLYDIR);
        return watch < 0 ? -errno : watch;
}

static bool is_in_use(const struct file_watch *w, int watch)
{
        for (unsigned i = 0; i < w->n; i++)
                if (w->directories[i].watch == watch)
                        return true;
        return false;
}

/* The outer ones first: of an inner one that is made meanwhile they tell. False: not
 * every change will be told of. */
static bool watch_directories(struct file_watch *w)
{
        int before[FILE_WATCH_DIRECTORIES];
        bool room = true;

        for (unsigned i = 0; i < w->n; i++) {
                before[i] = w->directories[i].watch;
                w->directories[i].watch = watch_directory(w, i);
                room &= w->directories[i].watch != -ENOSPC && w->directories[i].watch != -ENOMEM;
        }
        for (unsigned i = 0; i < w->n; i++)
                if (before[i] >= 0 && !is_in_use(w, before[i]))
                        (void)inotify_rm_watch(w->inotify, before[i]); /* or it is gone already */
        return room && w->directories[0].watch >= 0; /* else nothing tells of its coming */
}

void file_watch_renew(struct file_watch *w)
{
        if (w->inotify >= 0 && watch_directories(w)) {
                (void)uv_timer_stop(&w->timer); /* neither fails */
                return;
        }
        w->stamp = stamp_of(w->path);
        (void)uv_timer_start(&w->timer, on_timer, LOOK_MS, LOOK_MS);
}

/* --- the beginning and the end --------------------------------------------------------------- */

static void list_directories(struct file_watch *w)
{
        unsigned depth = 0, at = 0;

        for (const char *c = w->path; *c; c++)
                depth += *c == '/';
        for (const char *c = w->path; *c; c++)
                if (*c == '/' && at++ + FILE_WATCH_DIRECTORIES >= depth) {
                        w->directories[w->n].len = (size_t)(c - w->path);
                        w->directories[w->n++].watch = -1;
                }
}

void file_watch_open(struct file_watch *w, uv_loop_t *loop, const char *path,
                     void (*on_change)(void *data), void *data)
{
        *w = (struct file_watch){.path = path, .on_change = on_change, .data = data};
        list_directories(w);
        (void)uv_timer_init(loop, &w->timer); /* never fails */
        w->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (w->inotify >= 0 && uv_poll_init(loop, &w->poll, w->inotify) < 0) {
                (void)close(w->inotify); /* nothing was watched */
                w->inotify = -1;
        }
        if (w->inotify >= 0)
                (void)uv_poll_start(&w->poll, UV_READABLE, on_events); /* never fails */
}

static void on_poll_closed(uv_handle_t *handle)
{
        struct file_watch *w = CONTAINER((uv_poll_t *)handle, struct file_watch, poll);

        (void)close(w->inotify); /* it was only read */
}

void file_watch_close(struct file_watch *w)
{
        uv_close((uv_handle_t *)&w->timer, NULL);
        if (w->inotify >= 0)
                uv_close((uv_handle_t *)&w->poll, on_poll_closed);
}
