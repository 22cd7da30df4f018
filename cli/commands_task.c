#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/id.h"
#include "base/util.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/task_view.h"
#include "methods.h"

#define DEFAULT_AGENT "claude-code"

/* --- following ------------------------------------------------------------------------------ */

struct following {
        bool json;
        int64_t began;                   /* of the task, ms since 1970 */
        int64_t not_before;              /* ms since 1970: what is older is passed over */
        uint64_t next;                   /* the number of the event that comes next */
        int output_error;                /* 0, or why our own output cannot be written */
        Sandboxd__V1__TaskStatus status; /* once it is done */
};

static int print_event(const struct following *f, const Sandboxd__V1__TaskEvent *event)
{
        if (f->json)
                return write_json_line(task_event_json(event), STDOUT_FILENO);
        _cleanup_free_ char *text = task_event_text(event, f->began);
        return text ? write_output(STDOUT_FILENO, text, strlen(text)) : -ENOMEM;
}

static bool on_event(void *data, const ProtobufCMessage *message)
{
        struct following *f = data;
        const Sandboxd__V1__TaskEvent *event =
                ((const Sandboxd__V1__TaskServiceEventsResponse *)message)->event;

        if (!event)
                return true;
        f->next = event->number + 1;
        if (event->event_case == SANDBOXD__V1__TASK_EVENT__EVENT_DONE)
                f->status = event->done->status;
        if (!event->at || event->at->seconds * 1000 >= f->not_before)
                f->output_error = print_event(f, event);
        return f->output_error == 0;
}

/* Events have numbers: when the connection breaks it goes on where it was. */
static int follow(struct session *s, Sandboxd__V1__TaskServiceEventsRequest *request,
                  uint64_t timeout_ms, struct following *f, struct err *e)
{
        int r;

        do {
                request->since = f->next;
                r = session_stream(s, &task_service, TASK_SERVICE_EVENTS, &request->base,
                                   timeout_ms, on_event, f, e);
        } while (r < 0 && session_resumes(s, e));
        return r;
}

/* task: as a call has just shown it, whose memory stays. */
static int follow_task(struct session *s, const struct options *o, char *sandbox,
                       const Sandboxd__V1__Task *task, struct following *f, bool until_now)
{
        Sandboxd__V1__TaskServiceEventsRequest request =
                SANDBOXD__V1__TASK_SERVICE_EVENTS_REQUEST__INIT;
        struct err e;

        request.sandbox_id = sandbox;
        request.task_id = task->id;
        request.until_now = until_now;
        f->json = o->json;
        f->began = task_began(task);
        session_heed_reader(s);
        int r = follow(s, &request, o->given & OPTION(TIMEOUT) ? o->timeout_ms : 0, f, &e);
        return stream_ended(s, f->output_error, r, &e);
}

/* --- start --------------------------------------------------------------------------------- */

/* The operands with blanks between them. */
static char *join(char **words)
{
        char *text = strdup(*words ? *words : "");

        for (char **w = words + !!*words; text && *w; w++) {
                char *longer = str_printf("%s %s", text, *w);
                free(text);
                text = longer;
        }
        return text;
}

static void fill_env(Sandboxd__V1__TaskServiceStartRequest *request, const struct options *o,
                     Sandboxd__V1__TaskServiceStartRequest__EnvEntry *entries,
                     Sandboxd__V1__TaskServiceStartRequest__EnvEntry **pointers)
{
        for (size_t i = 0; i < o->env.n; i++) {
                sandboxd__v1__task_service_start_request__env_entry__init(&entries[i]);
                entries[i].key = o->env.vars[i].name;
                entries[i].value = o->env.vars[i].value;
                pointers[i] = &entries[i];
        }
        request->env = pointers;
        request->n_env = o->env.n;
}

/* With a key of our own a start that may have been lost is made again. */
static const Sandboxd__V1__Task *start(struct session *s, const struct options *o, char *sandbox,
                                       char *prompt, struct err *e)
{
        Sandboxd__V1__TaskServiceStartRequest request =
                SANDBOXD__V1__TASK_SERVICE_START_REQUEST__INIT;
        Sandboxd__V1__TaskServiceStartRequest__EnvEntry entries[ENV_MAX], *pointers[ENV_MAX];
        char key[ID_LEN + 1];

        request.sandbox_id = sandbox;
        request.prompt = prompt;
        request.agent = o->agent ? o->agent : (char *)DEFAULT_AGENT;
        request.model = o->model;
        request.cwd = o->workdir;
        request.continue_last = o->continue_last;
        request.timeout_millis = o->run_timeout_ms;
        request.request_key = o->request_key;
        if (!o->request_key && id_new(key) == 0)
                request.request_key = key;
        fill_env(&request, o, entries, pointers);
        const Sandboxd__V1__TaskServiceStartResponse *reply =
                session_call_if(s, &task_service, TASK_SERVICE_START, &request.base,
                                request.request_key != NULL, e);
        if (reply && !reply->task)
                (void)err_set(e, STATUS_INTERNAL, "the answer holds no task");
        return reply ? reply->task : NULL;
}

int command_task_start(struct session *s, const struct options *o, char **operands)
{
        _cleanup_free_ char *prompt = join(operands + 1);
        struct following f = {.not_before = INT64_MIN, .next = 1};
        struct err e;

        if (!prompt)
                return printed(-ENOMEM);
        const Sandboxd__V1__Task *task = start(s, o, operands[0], prompt, &e);
        if (!task)
                return call_failed(s, &e);
        if (!o->follow && o->json)
                return printed(print_json(task_json(task), stdout));
        if (!o->json)
                printf("%s\n", task->id);
        if (!o->follow || fflush(stdout) != 0)
                return EXIT_OK; /* main looks at the stream */
        int status = follow_task(s, o, operands[0], task, &f, false);
        bool well = f.status == SANDBOXD__V1__TASK_STATUS__TASK_STATUS_SUCCEEDED;
        return status == EXIT_OK && !well ? EXIT_REFUSED : status;
}

/* --- the others ----------------------------------------------------------------------------- */

static json_t *list_json(const Sandboxd__V1__TaskServiceListResponse *reply)
{
        json_t *array = json_array();

        for (size_t i = 0; i < reply->n_tasks; i++)
                array = json_append(array, task_json(reply->tasks[i]));
        return array;
}

int command_task_ls(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__TaskServiceListRequest request =
                SANDBOXD__V1__TASK_SERVICE_LIST_REQUEST__INIT;
        struct err e;

        request.sandbox_id = operands[0];
        const Sandboxd__V1__TaskServiceListResponse *reply =
                session_call(s, &task_service, TASK_SERVICE_LIST, &request.base, &e);
        if (!reply)
                return call_failed(s, &e);
        return printed(o->json ? print_json(list_json(reply), stdout)
                               : task_list_print(reply->tasks, reply->n_tasks, time(NULL), stdout));
}

int command_task_events(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__TaskServiceGetRequest request = SANDBOXD__V1__TASK_SERVICE_GET_REQUEST__INIT;
        struct following f = {.not_before = INT64_MIN, .next = MAX(o->since.sequence, 1U)};
        struct err e;

        request.sandbox_id = operands[0];
        request.task_id = operands[1];
        const Sandboxd__V1__TaskServiceGetResponse *reply =
                session_call(s, &task_service, TASK_SERVICE_GET, &request.base, &e);
        if (!reply)
                return call_failed(s, &e);
        if (!reply->task)
                return holds_no("task");
        if (o->since.age_ms)
                f.not_before = (int64_t)time(NULL) * 1000 - (int64_t)o->since.age_ms;
        return follow_task(s, o, operands[0], reply->task, &f, !o->follow);
}

int command_task_cancel(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__TaskServiceCancelRequest request =
                SANDBOXD__V1__TASK_SERVICE_CANCEL_REQUEST__INIT;
        struct err e;

        drop_time_limit(s, o);
        request.sandbox_id = operands[0];
        request.task_id = operands[1];
        const Sandboxd__V1__TaskServiceCancelResponse *reply =
                session_call(s, &task_service, TASK_SERVICE_CANCEL, &request.base, &e);
        if (!reply)
                return call_failed(s, &e);
        if (!reply->task)
                return holds_no("task");
        Sandboxd__V1__Task *task = reply->task;
        return printed(o->json ? print_json(task_json(task), stdout)
                               : task_list_print(&task, 1, time(NULL), stdout));
}

int command_task_revert(struct session *s, const struct options *o, char **operands)
{
        Sandboxd__V1__TaskServiceRevertRequest request =
                SANDBOXD__V1__TASK_SERVICE_REVERT_REQUEST__INIT;
        struct err e;

        drop_time_limit(s, o);
        request.sandbox_id = operands[0];
        request.task_id = operands[1];
        const Sandboxd__V1__TaskServiceRevertResponse *reply =
                session_call(s, &task_service, TASK_SERVICE_REVERT, &request.base, &e);
        if (!reply)
                return call_failed(s, &e);
        if (o->json)
                return printed(print_json(
                        json_pack("{s:I, s:I}", "files_restored", (json_int_t)reply->files_restored,
                                  "files_removed", (json_int_t)reply->files_removed),
                        stdout));
        return printed(printf("%llu files restored, %llu removed\n",
                              (unsigned long long)reply->files_restored,
                              (unsigned long long)reply->files_removed) < 0
                               ? -ENOMEM
                               : 0);
}
