#include <stdlib.h>
#include <string.h>

#include "runtimed/task_private.h"
#include "runtimed/text.h"
#include "runtimed/timestamp.h"

void task_usage_fill(Sandboxd__V1__TaskUsage *m, const struct agent_usage *usage)
{
        sandboxd__v1__task_usage__init(m);
        m->input_tokens = usage->input_tokens;
        m->output_tokens = usage->output_tokens;
        m->cached_tokens = usage->cached_tokens;
        m->cost_micro_usd = usage->cost_micro_usd;
}

static Sandboxd__V1__TaskStatus status_of(const struct task *t)
{
        if (t->cancelled)
                return SANDBOXD__V1__TASK_STATUS__TASK_STATUS_CANCELLED;
        return t->failure ? SANDBOXD__V1__TASK_STATUS__TASK_STATUS_FAILED
                          : SANDBOXD__V1__TASK_STATUS__TASK_STATUS_SUCCEEDED;
}

static bool fill_changes(struct task_result_message *m, const struct task *t)
{
        m->changes = calloc(t->n_shown + 1, sizeof(*m->changes)); /* none is no failure */
        m->pointers = calloc(t->n_shown + 1, sizeof(*m->pointers));
        if (!m->changes || !m->pointers)
                return false;
        for (size_t i = 0; i < t->n_shown; i++) {
                sandboxd__v1__file_change__init(&m->changes[i]);
                m->changes[i].path = t->shown[i].path;
                m->changes[i].kind = t->shown[i].kind;
                m->pointers[i] = &m->changes[i];
        }
        m->result.files_changed = m->pointers;
        m->result.n_files_changed = t->n_shown;
        return true;
}

bool task_result_fill(struct task_result_message *m, const struct task *t)
{
        Sandboxd__V1__TaskResult *r = &m->result;
        *m = (struct task_result_message){0};
        sandboxd__v1__task_result__init(r);
        fill_timestamp(&m->ended_at, t->started_at + t->took);
        task_usage_fill(&m->usage, &t->output.usage);
        r->status = status_of(t);
        r->failure =
                t->cancelled ? SANDBOXD__V1__TASK_FAILURE__TASK_FAILURE_UNSPECIFIED : t->failure;
        r->error = t->cancelled ? (char *)"" : (char *)t->error;
        r->final_message = t->final_message ? t->final_message : (char *)"";
        r->files_known = t->files_known;
        r->files_added = t->added;
        r->files_modified = t->modified;
        r->files_deleted = t->deleted;
        r->build = t->build_status;
        r->health = t->health;
        r->usage = &m->usage;
        r->duration_millis = t->took;
        r->ended_at = &m->ended_at;
        r->exit_code = t->exit_code;
        r->events_lost = t->log.lost;
        if (fill_changes(m, t))
                return true;
        task_result_free(m);
        return false;
}

void task_result_free(struct task_result_message *m)
{
        free(m->changes);
        free(m->pointers);
}

static void fill_task(Sandboxd__V1__Task *m, const struct task *t,
                      Google__Protobuf__Timestamp *started_at)
{
        sandboxd__v1__task__init(m);
        fill_timestamp(started_at, t->started_at);
        m->id = (char *)t->setup.id;
        m->number = t->setup.number;
        m->agent = t->setup.agent;
        m->model = t->setup.model;
        m->cwd = t->setup.cwd;
        m->request_key = t->setup.request_key;
        m->phase = t->phase;
        m->started_at = started_at;
        m->last_event = t->log.events;
        m->checkpoint = t->checkpoint;
        m->checkpoint_error = (char *)t->checkpoint_error;
}

uint8_t *task_pack_as(const struct task *t, bool done, size_t *ret_n)
{
        Google__Protobuf__Timestamp started_at;
        struct task_result_message result = {0};
        Sandboxd__V1__Task m;

        fill_task(&m, t, &started_at);
        _cleanup_free_ char *prompt =
                text_of(t->setup.prompt, strlen(t->setup.prompt), TASK_PROMPT_SHOWN_MAX, NULL);
        if (!prompt || (done && !task_result_fill(&result, t)))
                return NULL;
        m.prompt = prompt;
        if (done) {
                m.phase = SANDBOXD__V1__TASK_PHASE__TASK_PHASE_DONE;
                m.result = &result.result;
        }
        size_t n = sandboxd__v1__task__get_packed_size(&m);
        uint8_t *bytes = malloc(n);
        if (bytes)
                *ret_n = sandboxd__v1__task__pack(&m, bytes);
        task_result_free(&result);
        return bytes;
}

uint8_t *task_pack(const struct task *t, size_t *ret_n)
{
        return task_pack_as(t, false, ret_n);
}
