#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "runtimed/checkpoint_command.h"
#include "runtimed/process_tree.h"
#include "runtimed/secrets.h"
#include "runtimed/task_files.h"
#include "runtimed/task_private.h"
#include "runtimed/wall_clock.h"

/* Between SIGTERM and SIGKILL; within two seconds all is over. */
#define GRACE_MS 1000
/* For the recording of files, before and after. */
#define CHECKPOINT_TIMEOUT_MS (5 * 60 * 1000)

/* Of the agent's own output, for who attaches to it: the smallest, which has no file, for what it
 * prints may be secret. */
#define AGENT_OUTPUT_SIZE SPOOL_SIZE_MIN
#define KEEP_MS           1 /* after the end */

#define AGENT_TAG      TASK_TAG_PREFIX "agent"
#define CHECKPOINT_TAG TASK_TAG_PREFIX "checkpoint"

#define PHASE(name)   SANDBOXD__V1__TASK_PHASE__TASK_PHASE_##name
#define FAILURE(name) SANDBOXD__V1__TASK_FAILURE__TASK_FAILURE_##name

/* --- memory -------------------------------------------------------------------------------- */

void task_setup_done(struct task_setup *s)
{
        free(s->agent);
        free(s->prompt);
        free(s->model);
        free(s->cwd);
        free(s->request_key);
        strv_free(s->argv);
        strv_free(s->envp);
        strv_free(s->secrets);
}

static void free_changes(struct task_change *changes, size_t n)
{
        for (size_t i = 0; i < n; i++)
                free(changes[i].path);
}

static void free_if_over(struct task *t)
{
        if (!t->closing || t->handles > 0 || t->endings > 0 || t->saving ||
            !task_log_is_settled(&t->log))
                return;
        task_log_done(&t->log);
        task_setup_done(&t->setup);
        free_changes(t->batch, t->n_batch);
        free_changes(t->shown, t->n_shown);
        free(t->shown);
        free(t->final_message);
        free(t->record);
        free(t);
}

static void on_handle_closed(uv_handle_t *handle)
{
        struct task *t = handle->data;

        t->handles--;
        free_if_over(t);
}

void task_close(struct task *t)
{
        if (!t || t->closing)
                return;
        task_stop(t);
        t->closing = true;
        uv_close((uv_handle_t *)&t->timer, on_handle_closed);
        uv_close((uv_handle_t *)&t->next, on_handle_closed);
}

void task_stop(struct task *t)
{
        t->stopped = true;
        (void)uv_timer_stop(&t->timer); /* neither fails */
        (void)uv_timer_stop(&t->next);
        listener_detach(&t->listener);
        task_leave_app(t);
}

/* --- steps --------------------------------------------------------------------------------- */

static void on_next(uv_timer_t *timer)
{
        struct task *t = CONTAINER(timer, struct task, next);

        t->step(t);
}

/* What ends a step is often inside of what the next one would change. */
void task_go_on(struct task *t, void (*step)(struct task *t))
{
        t->step = step;
        t->awaits = AWAITS_NOTHING;
        if (!t->stopped)
                (void)uv_timer_start(&t->next, on_next, 0, 0); /* never fails */
}

void task_fail(struct task *t, Sandboxd__V1__TaskFailure failure, const char *fmt, ...)
{
        va_list ap;
        struct err e;

        if (t->failure)
                return;
        va_start(ap, fmt);
        (void)err_vset(&e, STATUS_UNKNOWN, fmt, ap);
        va_end(ap);
        t->failure = failure;
        (void)str_escape(t->error, sizeof(t->error), e.msg, strlen(e.msg));
}

/* --- a program of the task, and its tree ---------------------------------------------------- */

/* The listener's callbacks are set; what follows is in t->step, once it has told its end and
 * nothing is left of its tree. */
static int run(struct task *t, const struct process_spec *spec, enum task_wait awaits,
               void (*then)(struct task *t), struct err *e)
{
        struct process *p;

        int r = process_start(t->place.processes, spec, &p, e);
        if (r < 0)
                return r;
        t->tree = TREE_RUNS;
        t->timed_out = false;
        t->awaits = awaits;
        t->step = then;
        t->mark = process_mark(p);
        listener_attach(&t->listener, p);
        return 0;
}

static void go_on_if_ended(struct task *t)
{
        if (t->tree != TREE_HAS_ENDED || listener_process(&t->listener) || t->stopped)
                return;
        (void)uv_timer_stop(&t->timer); /* never fails */
        task_go_on(t, t->step);
}

static void on_tree_ended(void *data, unsigned left)
{
        struct task *t = data;

        (void)left; /* nothing is stronger than SIGKILL */
        t->endings--;
        t->tree = TREE_HAS_ENDED;
        listener_go_on(&t->listener);
        go_on_if_ended(t);
        free_if_over(t);
}

static void on_retry(uv_timer_t *timer);

/* Of what it left behind, too: what would go on changing files after the result, or hold up the
 * next task, is no part of an app. */
static void end_tree(struct task *t)
{
        struct err e;

        if (t->tree != TREE_RUNS)
                return;
        (void)process_tree_signal(t->mark, SIGTERM); /* who is missed gets SIGKILL */
        if (process_tree_kill(t->place.loop, t->mark, GRACE_MS, on_tree_ended, t, &e) < 0) {
                (void)uv_timer_start(&t->timer, on_retry, 100, 0); /* no memory; never fails */
                return;
        }
        t->tree = TREE_IS_BEING_ENDED;
        t->endings++;
}

static void on_retry(uv_timer_t *timer)
{
        end_tree(CONTAINER(timer, struct task, timer));
}

static void on_program_end(struct listener *l)
{
        struct task *t = CONTAINER(l, struct task, listener);

        if (t->stopped)
                return;
        end_tree(t);
        go_on_if_ended(t);
}

/* Once the tree has ended, what goes on printing has left it, and holds up nobody. */
static bool may_take(const struct listener *l)
{
        const struct task *t = CONTAINER(l, struct task, listener);

        return t->tree == TREE_HAS_ENDED || !task_log_is_busy(&t->log);
}

static void on_time_over(uv_timer_t *timer)
{
        struct task *t = CONTAINER(timer, struct task, timer);
        const struct process *p = listener_process(&t->listener);

        t->timed_out = p && !process_exit_of(p); /* what it left behind may still be ending */
        end_tree(t);
}

/* --- saving -------------------------------------------------------------------------------- */

static void write_record(uv_work_t *work)
{
        struct task *t = CONTAINER(work, struct task, save);

        t->save_errnum =
                -task_record_write(t->place.tasks, t->setup.id, t->record, t->n_record, NULL);
}

static void on_saved(uv_work_t *work, int status)
{
        struct task *t = CONTAINER(work, struct task, save);

        (void)status; /* nobody cancels it */
        t->saving = false;
        if (!t->stopped) {
                t->ops->on_done(t->data, t->record, t->n_record, t->save_errnum == 0);
                task_close(t);
        }
        free_if_over(t);
}

/* Its events are on the disk. */
static void save(struct task *t)
{
        t->record = task_pack_as(t, true, &t->n_record);
        if (!t->record) { /* no memory */
                (void)uv_timer_start(&t->next, on_next, 100, 0);
                return;
        }
        t->saving = true;
        (void)uv_queue_work(t->place.loop, &t->save, write_record, on_saved); /* never fails */
}

static void on_durable(struct task_log *l)
{
        struct task *t = CONTAINER(l, struct task, log);

        if (!t->stopped) {
                t->ops->on_event(t->data);
                listener_go_on(&t->listener);
                if (t->awaits == AWAITS_LOG && task_log_is_settled(l))
                        task_go_on(t, t->step);
        }
        free_if_over(t);
}

static void go_on_when_durable(struct task *t, void (*step)(struct task *t))
{
        t->awaits = AWAITS_LOG;
        t->step = step;
        if (task_log_is_settled(&t->log))
                task_go_on(t, step);
}

static void tell_end(struct task *t)
{
        t->done_at = t->log.size;
        task_tell_done(t);
        go_on_when_durable(t, save);
}

static void finish(struct task *t)
{
        t->took = MAX((uv_hrtime() - t->began) / NSEC_PER_MSEC, 1U);
        go_on_when_durable(t, tell_end);
}

/* --- the checkpoint, and what has changed --------------------------------------------------- */

static void on_checkpoint_stderr(struct line_cutter *c, const uint8_t *line, size_t n,
                                 uint64_t omitted)
{
        struct task *t = CONTAINER(c, struct task, listener.err);

        (void)omitted;
        if (n > 0)
                (void)str_escape(t->checkpoint_error, sizeof(t->checkpoint_error),
                                 (const char *)line, n);
}

static void on_change(struct line_cutter *c, const uint8_t *line, size_t n, uint64_t omitted)
{
        struct task *t = CONTAINER(c, struct task, listener.out);
        static const struct {
                uint8_t letter;
                Sandboxd__V1__FileChangeKind kind;
        } kinds[] = {
                {'A', SANDBOXD__V1__FILE_CHANGE_KIND__FILE_CHANGE_KIND_ADDED},
                {'M', SANDBOXD__V1__FILE_CHANGE_KIND__FILE_CHANGE_KIND_MODIFIED},
                {'D', SANDBOXD__V1__FILE_CHANGE_KIND__FILE_CHANGE_KIND_DELETED},
        };

        (void)omitted; /* no path is so long */
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (n > 2 && line[0] == kinds[i].letter && line[1] == ' ')
                        task_add_change(t, (const char *)line + 2, n - 2, kinds[i].kind);
}

static int run_checkpoint(struct task *t, const char *verb, enum task_wait awaits,
                          void (*then)(struct task *t), struct err *e)
{
        struct checkpoint_command command;

        checkpoint_command_init(&command, &t->place, verb, t->setup.number, t->setup.cwd,
                                CHECKPOINT_TAG);
        t->listener = (struct listener){
                .on_end = on_program_end,
                .may_take = may_take,
                .out = {.on_line = on_change, .end = '\0'},
                .err = {.on_line = on_checkpoint_stderr, .end = '\n'},
        };
        int r = run(t, &command.spec, awaits, then, e);
        if (r == 0)
                (void)uv_timer_start(&t->timer, on_time_over, CHECKPOINT_TIMEOUT_MS,
                                     0); /* never fails */
        return r;
}

static const char cancelled_before[] = "the task was cancelled before it was made";

/* Whether the program did what it was to do; if not, checkpoint_error says why. */
static bool checkpoint_succeeded(struct task *t)
{
        if (t->timed_out)
                (void)str_format(t->checkpoint_error, sizeof(t->checkpoint_error),
                                 "it took longer than %d minutes",
                                 CHECKPOINT_TIMEOUT_MS / 60000); /* fits */
        else if (t->listener.exit.code != 0 && t->cancelled)
                (void)str_format(t->checkpoint_error, sizeof(t->checkpoint_error), "%s",
                                 cancelled_before); /* fits */
        else if (t->listener.exit.code != 0 && !t->checkpoint_error[0])
                (void)str_format(t->checkpoint_error, sizeof(t->checkpoint_error),
                                 "it ended with status %d", t->listener.exit.code); /* fits */
        return t->listener.exit.code == 0;
}

static void on_changes_found(struct task *t)
{
        t->files_known = checkpoint_succeeded(t);
        if (t->files_known)
                task_tell_changes(t);
        else
                t->added = t->modified = t->deleted = t->n_shown = 0;
        task_check_app(t, finish);
}

static void find_changes(struct task *t)
{
        struct err e;

        if (!t->checkpoint || !t->agent_ran) {
                t->files_known = t->checkpoint;
                task_check_app(t, finish);
        } else if (run_checkpoint(t, "changes", AWAITS_CHANGES, on_changes_found, &e) < 0) {
                (void)str_format(t->checkpoint_error, sizeof(t->checkpoint_error), "%s",
                                 e.msg); /* may be cut */
                task_check_app(t, finish);
        }
}

/* --- the agent ----------------------------------------------------------------------------- */

static void on_agent_event(struct agent_output *o, const struct agent_event *event)
{
        task_tell_agent(CONTAINER(o, struct task, output), event);
}

static void on_agent_line(struct line_cutter *c, const uint8_t *line, size_t n, uint64_t omitted)
{
        struct task *t = CONTAINER(c, struct task, listener.out);
        _cleanup_free_ uint8_t *copy = NULL;

        if (t->stopped)
                return;
        line = secrets_redact(t->setup.secrets, line, &n, &copy);
        agent_output_line(&t->output, line, n, omitted);
}

static void on_agent_stderr(struct line_cutter *c, const uint8_t *line, size_t n, uint64_t omitted)
{
        struct task *t = CONTAINER(c, struct task, listener.err);
        _cleanup_free_ uint8_t *copy = NULL;

        if (t->stopped)
                return;
        line = secrets_redact(t->setup.secrets, line, &n, &copy);
        task_tell_stderr(t, line, n, omitted);
}

static void judge_agent(struct task *t)
{
        const struct process_exit *exit = &t->listener.exit;

        t->exit_code = exit->code;
        if (t->timed_out)
                task_fail(t, FAILURE(TIMED_OUT), "the agent was ended after %llu s",
                          (unsigned long long)(t->setup.timeout_ms / 1000));
        else if (exit->oom)
                task_fail(t, FAILURE(OUT_OF_MEMORY), "the agent used up the sandbox's memory");
        else if (t->output.failed)
                task_fail(t, FAILURE(AGENT_FAILED), "the agent says: %s", t->output.error);
        else if (exit->signal)
                task_fail(t, FAILURE(AGENT_FAILED), "the agent was killed by signal %d",
                          exit->signal);
        else if (exit->code)
                task_fail(t, FAILURE(AGENT_FAILED), "the agent ended with status %d", exit->code);
}

static void on_agent_over(struct task *t)
{
        judge_agent(t);
        find_changes(t);
}

static void give_prompt(struct task *t)
{
        struct process_input *in = process_input_of(listener_process(&t->listener));
        static const struct input_position behind;
        struct err e;

        /* What it does not read it does not want. */
        if (process_input_write(in, &behind, (const uint8_t *)t->setup.prompt,
                                strlen(t->setup.prompt), &e) == 0)
                (void)process_input_end(in, &e);
}

static int start_agent(struct task *t, struct err *e)
{
        const struct process_spec spec = {
                .argv = (const char *const *)t->setup.argv,
                .envp = (const char *const *)t->setup.envp,
                .cwd = t->setup.cwd,
                .stdin_open = t->setup.prompt_to_stdin,
                .tag = AGENT_TAG,
                .labels = (const char *const[]){NULL},
                .overflow = PROCESS_WAIT_FOR_FASTEST,
                .output_size = AGENT_OUTPUT_SIZE,
                .keep_ms = KEEP_MS,
        };

        t->output = (struct agent_output){
                .format = t->setup.format,
                .secrets = t->setup.secrets,
                .on_event = on_agent_event,
        };
        t->listener = (struct listener){
                .on_end = on_program_end,
                .may_take = may_take,
                .out = {.on_line = on_agent_line, .end = '\n'},
                .err = {.on_line = on_agent_stderr, .end = '\n'},
        };
        return run(t, &spec, AWAITS_AGENT, on_agent_over, e);
}

static void tell_agent_runs(struct task *t)
{
        char note[sizeof(TASK_NO_CHECKPOINT) + sizeof(t->checkpoint_error)] = "";

        if (t->checkpoint_error[0])
                (void)str_format(note, sizeof(note), TASK_NO_CHECKPOINT "%s",
                                 t->checkpoint_error); /* fits */
        task_tell_phase(t, PHASE(AGENT_RUNNING), note);
}

static void run_agent(struct task *t)
{
        struct err e;

        if (t->cancelled) {
                find_changes(t);
                return;
        }
        tell_agent_runs(t);
        if (start_agent(t, &e) < 0) {
                task_fail(t, FAILURE(AGENT_NOT_STARTED), "%s%s", e.msg,
                          e.errnum == ENOENT ? "; the program of an agent is for the sandbox's "
                                               "image to bring, in PATH"
                                             : "");
                find_changes(t);
                return;
        }
        t->agent_ran = true;
        (void)uv_timer_start(&t->timer, on_time_over, t->setup.timeout_ms, 0); /* never fails */
        if (t->setup.prompt_to_stdin)
                give_prompt(t);
}

/* --- the beginning ------------------------------------------------------------------------- */

static void on_checkpoint(struct task *t)
{
        t->checkpoint = checkpoint_succeeded(t);
        run_agent(t);
}

static void make_checkpoint(struct task *t)
{
        struct err e;

        if (t->cancelled) {
                (void)str_format(t->checkpoint_error, sizeof(t->checkpoint_error), "%s",
                                 cancelled_before); /* fits */
                find_changes(t);
                return;
        }
        task_tell_phase(t, PHASE(CHECKPOINT), "");
        if (run_checkpoint(t, "save", AWAITS_CHECKPOINT, on_checkpoint, &e) == 0)
                return;
        (void)str_format(t->checkpoint_error, sizeof(t->checkpoint_error), "%s",
                         e.msg); /* may be cut */
        run_agent(t);
}

struct task *task_new(const struct task_place *place, struct task_setup *setup,
                      const struct task_ops *ops, void *data)
{
        struct task *t = calloc(1, sizeof(*t));

        if (!t)
                return NULL;
        t->started_at = wall_clock_ms();
        t->began = uv_hrtime();
        t->place = *place;
        t->setup = *setup;
        t->ops = ops;
        t->data = data;
        t->phase = PHASE(CHECKPOINT);
        t->build_status = SANDBOXD__V1__TASK_BUILD__TASK_BUILD_SKIPPED;
        t->health = SANDBOXD__V1__TASK_HEALTH__TASK_HEALTH_NONE;
        task_log_init(&t->log, place->loop, -1);
        t->log.on_durable = on_durable;
        (void)uv_timer_init(place->loop, &t->timer); /* neither fails */
        (void)uv_timer_init(place->loop, &t->next);
        t->timer.data = t->next.data = t;
        t->handles = 2;
        return t;
}

void task_begin(struct task *t, int events)
{
        t->log.fd = events;
        task_go_on(t, make_checkpoint);
}

void task_cancel(struct task *t)
{
        if (t->cancelled || t->took)
                return;
        t->cancelled = true;
        /* What has changed is found out all the same, and before the agent it is nothing. */
        if (t->awaits == AWAITS_CHECKPOINT || t->awaits == AWAITS_AGENT) {
                end_tree(t);
        } else if (t->awaits == AWAITS_BUILD || t->awaits == AWAITS_HEALTH) {
                task_leave_app(t);
                task_go_on(t, finish);
        }
}

/* --- what it is ---------------------------------------------------------------------------- */

const char *task_id(const struct task *t)
{
        return t->setup.id;
}

uint64_t task_readable(const struct task *t)
{
        return t->done_at ? t->done_at : t->log.size;
}

const struct task_log *task_log_of(const struct task *t)
{
        return &t->log;
}
