#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/str.h"
#include "cli/command.h"
#include "cli/follow.h"
#include "cli/output.h"
#include "cli/terminal.h"
#include "methods.h"

/* A request and the memory of its parts. */
struct start {
        Sandboxd__V1__ProcessServiceStartRequest request;
        Sandboxd__V1__ProcessServiceStartRequest__EnvEntry env[ENV_MAX + 1], *env_p[ENV_MAX + 1];
        Sandboxd__V1__ProcessServiceStartRequest__LabelsEntry labels[ENV_MAX], *labels_p[ENV_MAX];
        Sandboxd__V1__TerminalSize size;
        char tag[32];
};

static void add_env(struct start *s, char *name, char *value)
{
        size_t i = s->request.n_env++;

        s->env_p[i] = &s->env[i];
        sandboxd__v1__process_service_start_request__env_entry__init(s->env_p[i]);
        s->env[i].key = name;
        s->env[i].value = value;
}

static void add_environment(struct start *s, const struct options *o)
{
        static char term_name[] = "TERM";
        char *term = getenv(term_name);
        bool has_term = false;

        for (size_t i = 0; i < o->env.n; i++) {
                add_env(s, o->env.vars[i].name, o->env.vars[i].value);
                has_term |= str_eq(o->env.vars[i].name, term_name);
        }
        if (o->tty && !has_term && term && *term && str_is_utf8(term, strlen(term)))
                add_env(s, term_name, term);
        s->request.env = s->env_p;
}

static void add_labels(struct start *s, const struct options *o)
{
        for (size_t i = 0; i < o->labels.n; i++) {
                s->labels_p[i] = &s->labels[i];
                sandboxd__v1__process_service_start_request__labels_entry__init(s->labels_p[i]);
                s->labels[i].key = o->labels.vars[i].name;
                s->labels[i].value = o->labels.vars[i].value;
        }
        s->request.labels = s->labels_p;
        s->request.n_labels = o->labels.n;
}

/* A name that no other process can have: it finds the process again when the connection breaks. */
static char *make_tag(struct start *s)
{
        uint64_t random;

        if (getrandom(&random, sizeof(random), 0) < 0) /* never short for so few bytes */
                return NULL;                           /* then the pid must do */
        (void)str_format(s->tag, sizeof(s->tag), "exec-%016" PRIx64, random);
        return s->tag;
}

static void make_request(struct start *s, const struct options *o, char **operands)
{
        Sandboxd__V1__ProcessServiceStartRequest *request = &s->request;

        sandboxd__v1__process_service_start_request__init(request);
        request->sandbox_id = operands[0];
        request->args = &operands[1];
        request->n_args = strv_len((const char *const *)&operands[1]);
        add_environment(s, o);
        add_labels(s, o);
        request->cwd = o->workdir;
        request->user = o->user;
        request->stdin_open = o->interactive;
        request->timeout_millis = o->run_timeout_ms;
        request->output_overflow = o->output;
        request->detach = o->detach;
        request->kill_on_disconnect = !o->detach;
        request->tag = o->tag || o->detach ? o->tag : make_tag(s);
        if (o->tty) {
                sandboxd__v1__terminal_size__init(&s->size);
                (void)terminal_size(&s->size.rows, &s->size.columns);
                request->terminal = &s->size;
        }
}

/* --- --detach ------------------------------------------------------------------------------- */

struct detached {
        bool json;
        bool started;
        int status;
};

/* The events of Start are those of Attach. */
static bool on_event(void *data, const ProtobufCMessage *message)
{
        struct detached *d = data;
        const Sandboxd__V1__ProcessServiceStartResponse *event =
                (const Sandboxd__V1__ProcessServiceStartResponse *)message;

        switch (event->event_case) {
        case SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_START:
                d->started = true;
                d->status = d->json ? printed(print_json(json_pack("{s:I}", "pid",
                                                                   (json_int_t)event->start->pid),
                                                         stdout))
                                    : EXIT_OK;
                if (!d->json)
                        printf("%" PRIu32 "\n", event->start->pid);
                break;
        case SANDBOXD__V1__PROCESS_SERVICE_START_RESPONSE__EVENT_END:
                complain("%s", event->end->error);
                d->started = true;
                d->status = event->end->exit_code == EXIT_NO_PROGRAM ? EXIT_NO_PROGRAM
                                                                     : EXIT_CANNOT_EXEC;
                break;
        default:
                break;
        }
        return true;
}

static int start_detached(struct session *s, const struct options *o, const struct start *start)
{
        struct detached d = {.json = o->json, .status = EXIT_NO_STATUS};
        struct err e;

        int r = session_connect(s, &e);
        if (r == 0)
                r = session_stream(s, &process_service, PROCESS_SERVICE_START, &start->request.base,
                                   s->timeout_ms, on_event, &d, &e);
        if (r < 0)
                complain("%s: %s%s", status_name(e.code), e.msg,
                         s->lost ? "; whether the program runs is unknown" : "");
        else if (!d.started)
                complain("INTERNAL: the stream ended; whether the program runs is unknown");
        return d.status;
}

/* --- the usual way -------------------------------------------------------------------------- */

static int start_and_follow(struct session *s, const struct options *o, struct start *start)
{
        struct target target = {
                .dialer = &s->dialer,
                .sandbox = start->request.sandbox_id,
                .tag = start->request.tag,
        };
        struct follow f = {
                .json = o->json,
                .input = o->interactive,
                .terminal = o->tty,
                .owner = true,
                .passes_status = true,
        };
        int status = EXIT_NO_STATUS;
        struct err e;

        int r = follow_init(&f, s, &target, &e);
        if (r == 0)
                r = remote_start(&f.remote, &start->request, &e);
        if (r == 0)
                status = follow_run(&f);
        else
                complain("%s", e.msg);
        follow_done(&f);
        return status;
}

/* A terminal's input has no end that a program cannot miss. */
static bool lacks_terminal(const struct options *o)
{
        return o->interactive && o->tty && !o->detach && !isatty(STDIN_FILENO);
}

int command_exec(struct session *s, const struct options *o, char **operands)
{
        struct start start;

        if (lacks_terminal(o)) {
                complain("-it: standard input is not a terminal; -i alone passes on what it is");
                return EXIT_USAGE;
        }
        make_request(&start, o, operands);
        return o->detach ? start_detached(s, o, &start) : start_and_follow(s, o, &start);
}
