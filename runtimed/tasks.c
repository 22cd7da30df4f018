#include "runtimed/tasks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"
#include "base/util.h"
#include "runtimed/environment.h"
#include "runtimed/secrets.h"
#include "runtimed/task.h"
#include "runtimed/task_files.h"
#include "runtimed/tasks_private.h"

/* --- the table ----------------------------------------------------------------------------- */

static struct task_entry *last_entry(const struct tasks *t)
{
        return TAILQ_LAST(&t->entries, task_entries);
}

/* NULL: there is none. */
static struct task_entry *find_entry(const struct tasks *t, const char *id)
{
        struct task_entry *entry;

        TAILQ_FOREACH (entry, &t->entries, entry)
                if (str_eq(entry->found.id, id))
                        return entry;
        return NULL;
}

static struct task_entry *entry_of_key(const struct tasks *t, const char *request_key)
{
        struct task_entry *entry;

        TAILQ_FOREACH (entry, &t->entries, entry)
                if (*request_key && str_eq(entry->found.request_key, request_key))
                        return entry;
        return NULL;
}

static struct task_entry *add_entry(struct tasks *t, const struct task_found *found)
{
        struct task_entry *entry = calloc(1, sizeof(*entry));

        if (!entry)
                return NULL;
        entry->found = *found;
        TAILQ_INSERT_TAIL(&t->entries, entry, entry);
        t->n++;
        return entry;
}

static void remove_entry(struct tasks *t, struct task_entry *entry)
{
        TAILQ_REMOVE(&t->entries, entry, entry);
        t->n--;
        free(entry->found.unsaved);
        free(entry);
}

int tasks_find(const struct tasks *t, const char *id, char ret_id[ID_LEN + 1], struct err *e)
{
        const struct task_entry *entry = *id ? find_entry(t, id) : last_entry(t);
        char shown[64];

        if (!entry && *id)
                return err_set(e, STATUS_NOT_FOUND,
                               "there is no task '%s' in the sandbox, or it is not kept any more",
                               str_escape(shown, sizeof(shown), id, strlen(id)));
        if (!entry)
                return err_set(e, STATUS_NOT_FOUND, "there was no task in the sandbox yet");
        memcpy(ret_id, entry->found.id, ID_LEN + 1);
        return 0;
}

bool tasks_is_active(const struct tasks *t, const char *id)
{
        return t->active && str_eq(task_id(t->active), id);
}

const char *tasks_active(const struct tasks *t)
{
        return t->active ? task_id(t->active) : NULL;
}

int tasks_read(const struct tasks *t, const char *id, uint8_t **ret, size_t *ret_n, struct err *e)
{
        const struct task_entry *entry = find_entry(t, id);

        if (tasks_is_active(t, id)) {
                *ret = task_pack(t->active, ret_n);
                return *ret ? 0 : err_oom(e);
        }
        if (!entry || !entry->found.unsaved)
                return task_record_read(t->directory, id, ret, ret_n, e);
        *ret = malloc(entry->found.n_unsaved);
        if (!*ret)
                return err_oom(e);
        memcpy(*ret, entry->found.unsaved, entry->found.n_unsaved);
        *ret_n = entry->found.n_unsaved;
        return 0;
}

bool tasks_next(const struct tasks *t, uint64_t after, bool done_only, uint64_t *ret_number,
                char ret_id[ID_LEN + 1])
{
        const struct task_entry *entry;

        TAILQ_FOREACH (entry, &t->entries, entry) {
                if (entry->found.number <= after || (done_only && !entry->found.done))
                        continue;
                *ret_number = entry->found.number;
                memcpy(ret_id, entry->found.id, ID_LEN + 1);
                return true;
        }
        return false;
}

void tasks_count_from(struct tasks *t, uint64_t number)
{
        t->counted = MAX(t->counted, MIN(number, (uint64_t)TASK_NUMBER_MAX));
}

/* --- the active one ------------------------------------------------------------------------ */

static void tell_followers(struct tasks *t)
{
        struct task_follower *next;

        for (struct task_follower *f = LIST_FIRST(&t->followers); f; f = next) {
                next = LIST_NEXT(f, entry);
                f->on_news(f);
        }
}

static void tell_waiters(struct tasks *t)
{
        struct task_waiter *next;

        for (struct task_waiter *w = LIST_FIRST(&t->waiters); w; w = next) {
                next = LIST_NEXT(w, entry);
                w->on_done(w);
        }
}

static void on_event(void *data)
{
        tell_followers(data);
}

static void on_done(void *data, const uint8_t *record, size_t n, bool saved)
{
        struct tasks *t = data;
        struct task_entry *entry = find_entry(t, task_id(t->active));

        entry->found.done = true;
        if (!saved && (entry->found.unsaved = malloc(n))) {
                memcpy(entry->found.unsaved, record, n);
                entry->found.n_unsaved = n;
        }
        t->active = NULL;
        tell_followers(t);
        tell_waiters(t);
}

static const struct task_ops task_ops = {.on_event = on_event, .on_done = on_done};

void tasks_cancel(struct tasks *t, const char *id)
{
        if (tasks_is_active(t, id))
                task_cancel(t->active);
}

/* --- start: is it sound? ------------------------------------------------------------------- */

static int check_range(const char *name, uint64_t value, uint64_t min, uint64_t max,
                       const char *unit, struct err *e)
{
        if (value >= min && value <= max)
                return 0;
        return err_set(e, STATUS_INVALID_ARGUMENT, "%s: it is %llu; %llu to %llu%s are possible",
                       name, (unsigned long long)value, (unsigned long long)min,
                       (unsigned long long)max, unit);
}

static int check_prompt(const struct agent *agent, const char *prompt, struct err *e)
{
        bool argument = agent_prompt(agent) == AGENT_PROMPT_ARGUMENT;

        return check_range("prompt", strlen(prompt), 1,
                           argument ? TASK_PROMPT_ARGUMENT_MAX : TASK_PROMPT_MAX, " bytes", e);
}

/* Without links, so that whoever changes one does not change what the task is about; the caller
 * frees. */
static int find_cwd(const char *cwd, char **ret, struct err *e)
{
        if (*cwd != '/')
                return err_set(e, STATUS_INVALID_ARGUMENT, "cwd: '%s' is no absolute path", cwd);
        int r = check_range("cwd", strlen(cwd), 1, TASK_CWD_MAX, " bytes", e);
        if (r < 0)
                return r;
        _cleanup_close_ int fd = open(cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || faccessat(fd, ".", X_OK, 0) < 0 || !(*ret = realpath(cwd, NULL)))
                return err_set(e, STATUS_INVALID_ARGUMENT, "cwd: '%s' cannot be entered: %s", cwd,
                               strerror(errno));
        if (!str_is_utf8(*ret, strlen(*ret)))
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "cwd: '%s' leads to a directory whose path is not UTF-8", cwd);
        return check_range("cwd, without links", strlen(*ret), 1, TASK_CWD_MAX, " bytes", e);
}

static int check_environment(char *const *env, struct err *e)
{
        for (; *env; env++)
                if (**env == '=')
                        return err_set(e, STATUS_INVALID_ARGUMENT, "env: a variable has no name");
        return 0;
}

static int check_agent(const struct tasks *t, const struct task_spec *spec,
                       const struct agent **ret, struct err *e)
{
        char names[256], shown[64];

        *ret = agents_find(t->agents, spec->agent);
        if (!*ret) {
                agents_names(t->agents, names, sizeof(names));
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "agent: there is no '%s'; the host's configuration has %s",
                               str_escape(shown, sizeof(shown), spec->agent, strlen(spec->agent)),
                               names);
        }
        if (*spec->model && !agent_takes_model(*ret))
                return err_set(e, STATUS_INVALID_ARGUMENT, "model: agent '%s' takes none",
                               spec->agent);
        return 0;
}

/* The caller frees *cwd, also when it fails. */
static int check(const struct tasks *t, const struct task_spec *spec, const struct agent **agent,
                 char **cwd, struct err *e)
{
        int r = check_agent(t, spec, agent, e);

        if (r == 0)
                r = check_prompt(*agent, spec->prompt, e);
        if (r == 0)
                r = check_range("model", strlen(spec->model), 0, TASK_MODEL_MAX, " bytes", e);
        if (r == 0)
                r = check_range("request_key", strlen(spec->request_key), 0, TASK_REQUEST_KEY_MAX,
                                " bytes", e);
        if (r == 0)
                r = check_range("timeout_millis", spec->timeout_ms, TASK_TIMEOUT_MIN_MS,
                                TASK_TIMEOUT_MAX_MS, "", e);
        if (r == 0)
                r = check_environment(spec->env, e);
        return r == 0 ? find_cwd(spec->cwd, cwd, e) : r;
}

int tasks_check_free(const struct tasks *t, struct err *e)
{
        if (t->stopped)
                return err_set(e, STATUS_FAILED_PRECONDITION, "the sandbox is being stopped");
        if (t->reverting)
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "files are being reverted; try again when that is done");
        if (t->active)
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "task %s is active; wait until it is done, or cancel it",
                               task_id(t->active));
        return 0;
}

/* --- start --------------------------------------------------------------------------------- */

/* What is written before anybody is told. */
struct task_start {
        uv_work_t work;
        struct tasks *tasks;
        struct task_starter *starter; /* NULL: nobody waits any more */
        char id[ID_LEN + 1], oldest[ID_LEN + 1];
        char *prompt; /* for a file; else NULL */
        uint8_t *record;
        size_t n_record;
        int events;
        struct err err;
};

static void start_free(struct task_start *start)
{
        if (!start)
                return;
        free(start->prompt);
        free(start->record);
        if (start->events >= 0)
                (void)close(start->events); /* nothing was written */
        free(start);
}

static void write_start(uv_work_t *work)
{
        struct task_start *start = CONTAINER(work, struct task_start, work);
        const char *directory = start->tasks->directory;
        struct err e;

        if (start->oldest[0])
                (void)task_files_remove(directory, start->oldest, &e); /* at the next boot then */
        int r = task_files_make(directory, start->id, start->prompt, &start->events, &start->err);
        if (r == 0)
                r = task_record_write(directory, start->id, start->record, start->n_record,
                                      &start->err);
        if (r < 0)
                (void)task_files_remove(directory, start->id, &e); /* as above */
        else
                start->err.code = STATUS_OK;
}

static void drop_active(struct tasks *t)
{
        struct task *active = TAKE(t->active);

        remove_entry(t, find_entry(t, task_id(active)));
        task_close(active);
        tell_waiters(t);
}

static void on_start_written(uv_work_t *work, int status)
{
        struct task_start *start = CONTAINER(work, struct task_start, work);
        struct tasks *t = start->tasks;
        struct task_starter *starter = start->starter;

        (void)status; /* nobody cancels it */
        t->start = NULL;
        if (t->stopped) {
                start_free(start);
                tasks_free_if_over(t);
                return;
        }
        if (start->err.code == STATUS_OK)
                task_begin(t->active, TAKE_FD(start->events));
        else
                drop_active(t);
        if (starter) {
                starter->tasks = NULL;
                starter->on_started(starter, start->err.code == STATUS_OK ? NULL : &start->err);
        }
        start_free(start);
}

void tasks_forget_starter(struct task_starter *s)
{
        if (s->tasks && s->tasks->start && s->tasks->start->starter == s)
                s->tasks->start->starter = NULL;
        s->tasks = NULL;
}

static int fill_setup(const struct tasks *t, const struct task_spec *spec, const char *cwd,
                      const struct agent *agent, struct task_setup *s, struct err *e)
{
        const struct task_entry *last = last_entry(t);

        if (id_new(s->id) < 0)
                return err_set(e, STATUS_INTERNAL, "the kernel gives no random bytes");
        s->number = MAX(last ? last->found.number : 0, t->counted) + 1;
        s->agent = strdup(spec->agent);
        s->prompt = strdup(spec->prompt);
        s->model = strdup(spec->model);
        s->cwd = strdup(cwd);
        s->request_key = strdup(spec->request_key);
        s->format = agent->format;
        s->prompt_to_stdin = agent_prompt(agent) == AGENT_PROMPT_STDIN;
        s->timeout_ms = spec->timeout_ms;
        _cleanup_free_ char *prompt_file = task_path(t->directory, s->id, "prompt");
        const struct agent_command command = {
                .prompt = spec->prompt,
                .prompt_file = prompt_file,
                .model = spec->model,
                .continue_last = spec->continue_last,
        };
        s->argv = prompt_file ? agent_argv(agent, &command) : NULL;
        s->envp = environment_with(agent->env, spec->env);
        s->secrets = secrets_of(spec->env); /* the configuration's are every sandbox's */
        if (s->agent && s->prompt && s->model && s->cwd && s->request_key && s->argv && s->envp &&
            s->secrets)
                return 0;
        return err_oom(e);
}

/* The task is the active one; what is to be written of it. */
static struct task_start *start_new(struct tasks *t, const struct task_spec *spec,
                                    const struct agent *agent)
{
        struct task_start *start = calloc(1, sizeof(*start));

        if (!start)
                return NULL;
        start->events = -1;
        start->tasks = t;
        start->record = task_pack(t->active, &start->n_record);
        bool file = agent_prompt(agent) == AGENT_PROMPT_FILE;
        start->prompt = file ? strdup(spec->prompt) : NULL;
        if (start->record && (!file || start->prompt))
                return start;
        start_free(start);
        return NULL;
}

static void make_room(struct tasks *t, struct task_start *start)
{
        struct task_entry *oldest = TAILQ_FIRST(&t->entries);

        if (t->n <= TASKS_KEPT_MAX)
                return;
        memcpy(start->oldest, oldest->found.id, sizeof(start->oldest));
        remove_entry(t, oldest);
}

static int activate(struct tasks *t, const struct task_spec *spec, const char *cwd,
                    const struct agent *agent, struct task_start **ret, struct err *e)
{
        struct task_setup setup = {0};
        struct task_found found = {0};

        int r = fill_setup(t, spec, cwd, agent, &setup, e);
        if (r == 0 && !(t->active = task_new(&t->place, &setup, &task_ops, t)))
                r = err_oom(e);
        if (r < 0) {
                task_setup_done(&setup);
                return r;
        }
        found.number = setup.number;
        memcpy(found.id, setup.id, sizeof(found.id));
        (void)str_format(found.request_key, sizeof(found.request_key), "%s",
                         spec->request_key); /* fits, it was checked */
        struct task_entry *entry = add_entry(t, &found);
        *ret = entry ? start_new(t, spec, agent) : NULL;
        if (*ret)
                return 0;
        if (entry)
                remove_entry(t, entry);
        task_close(TAKE(t->active));
        return err_oom(e);
}

int tasks_start(struct tasks *t, const struct task_spec *spec, struct task_starter *s,
                struct err *e)
{
        const struct task_entry *again = entry_of_key(t, spec->request_key);
        _cleanup_free_ char *cwd = NULL;
        const struct agent *agent;
        struct task_start *start;

        if (again && t->start && tasks_is_active(t, again->found.id))
                return err_set(e, STATUS_UNAVAILABLE, "the same task is being started; try again");
        if (again) {
                memcpy(s->id, again->found.id, sizeof(s->id));
                return 1;
        }
        int r = check(t, spec, &agent, &cwd, e);
        if (r == 0)
                r = tasks_check_free(t, e);
        if (r == 0)
                r = activate(t, spec, cwd, agent, &start, e);
        if (r < 0)
                return r;
        memcpy(s->id, task_id(t->active), sizeof(s->id));
        memcpy(start->id, s->id, sizeof(start->id));
        make_room(t, start);
        start->starter = s;
        s->tasks = t;
        t->start = start;
        (void)uv_queue_work(t->place.loop, &start->work, write_start,
                            on_start_written); /* never fails */
        return 0;
}

/* --- events -------------------------------------------------------------------------------- */

int tasks_follow(struct tasks *t, const char *id, struct task_follower *f, struct err *e)
{
        int fd;

        if (!tasks_is_active(t, id))
                fd = task_events_open(t->directory, id, false, e);
        else if (t->start) /* the file is being made */
                fd = err_set(e, STATUS_UNAVAILABLE, "task %s is being started; try again", id);
        else if ((fd = fcntl(task_log_of(t->active)->fd, F_DUPFD_CLOEXEC, 0)) < 0)
                fd = err_errno(e, errno, "open the events of task %s", id);
        if (fd < 0)
                return fd;
        f->tasks = t;
        f->reader = (struct task_reader){.fd = fd, .next = 1};
        memcpy(f->id, id, sizeof(f->id));
        LIST_INSERT_HEAD(&t->followers, f, entry);
        return 0;
}

void tasks_unfollow(struct task_follower *f)
{
        LIST_REMOVE(f, entry);
        task_reader_done(&f->reader);
}

uint64_t tasks_readable(const struct task_follower *f, bool *ret_done)
{
        struct stat st;

        *ret_done = !tasks_is_active(f->tasks, f->id);
        if (!*ret_done)
                return task_readable(f->tasks->active);
        return fstat(f->reader.fd, &st) < 0 ? 0 : (uint64_t)st.st_size;
}

/* --- waiting ------------------------------------------------------------------------------- */

void tasks_wait(struct tasks *t, struct task_waiter *w)
{
        LIST_INSERT_HEAD(&t->waiters, w, entry);
}

void tasks_unwait(struct task_waiter *w)
{
        LIST_REMOVE(w, entry);
}

/* --- life ---------------------------------------------------------------------------------- */

void tasks_free_if_over(struct tasks *t)
{
        if (!t->closing || t->start || t->handles > 0)
                return;
        while (!TAILQ_EMPTY(&t->entries))
                remove_entry(t, TAILQ_FIRST(&t->entries));
        free(t->directory);
        free(t->checkpoints);
        free(t->program);
        free(t);
}

static int recover(struct tasks *t, struct err *e)
{
        _cleanup_free_ struct task_found *found = NULL;
        size_t n;

        int r = task_files_recover(t->directory, &found, &n, e);
        for (size_t i = 0; r == 0 && i < n; i++)
                if (add_entry(t, &found[i]))
                        found[i].unsaved = NULL; /* it is the entry's */
                else
                        r = err_oom(e);
        for (size_t i = 0; i < n; i++)
                free(found[i].unsaved);
        return r;
}

int tasks_new(uv_loop_t *loop, struct process_table *processes, const struct agents *agents,
              struct app *app, const char *directory, const char *program, struct tasks **ret,
              struct err *e)
{
        struct tasks *t = calloc(1, sizeof(*t));

        if (!t)
                return err_oom(e);
        TAILQ_INIT(&t->entries);
        t->agents = agents;
        t->directory = str_printf("%s/tasks", directory);
        t->checkpoints = str_printf("%s/checkpoints", directory);
        t->program = strdup(program);
        int r = t->directory && t->checkpoints && t->program ? recover(t, e) : err_oom(e);
        t->place = (struct task_place){
                .loop = loop,
                .processes = processes,
                .tasks = t->directory,
                .checkpoints = t->checkpoints,
                .program = t->program,
                .app = app,
        };
        if (r < 0) {
                t->closing = true;
                tasks_free_if_over(t);
                return r;
        }
        tasks_init_revert(t);
        *ret = t;
        return 0;
}

void tasks_stop(struct tasks *t)
{
        if (t->stopped)
                return;
        t->stopped = true;
        if (t->active)
                task_stop(t->active);
        tasks_stop_revert(t);
}

void tasks_close(struct tasks *t)
{
        if (!t)
                return;
        tasks_stop(t);
        task_close(TAKE(t->active));
        t->closing = true;
        tasks_close_revert(t);
        tasks_free_if_over(t);
}
