#include <unistd.h>

#include "cli/command.h"
#include "cli/follow.h"
#include "cli/output.h"

/* A process that was started before, as List told of it. */
static int follow_process(struct session *s, struct follow *f, struct target *target,
                          const Sandboxd__V1__Process *p, const uint64_t offsets[2], bool until_now)
{
        int status = f->passes_status ? EXIT_NO_STATUS : EXIT_REFUSED;
        struct err e;

        target->tag = NULL; /* from here on it is this one */
        target->pid = p->pid;
        int r = follow_init(f, s, target, &e);
        f->remote.offsets[0] = offsets[0];
        f->remote.offsets[1] = offsets[1];
        f->remote.until_now = until_now;
        if (p->started_at)
                f->remote.started_at =
                        p->started_at->seconds * 1000 + p->started_at->nanos / 1000000;
        if (r == 0)
                r = remote_connect(&f->remote, &e);
        if (r == 0)
                status = follow_run(f);
        else
                complain("%s", e.msg);
        follow_done(f);
        return status;
}

int command_attach(struct session *s, const struct options *o, char **operands)
{
        struct target target = {.dialer = &s->dialer, .sandbox = operands[0]};
        struct err e;

        target_parse(&target, operands[1]);
        const Sandboxd__V1__Process *p = get_process(s, &target, &e);
        if (!p) {
                (void)call_failed(s, &e);
                return EXIT_NO_STATUS;
        }
        bool input = o->interactive || (p->terminal && isatty(STDIN_FILENO));
        struct follow f = {
                .json = o->json,
                .input = input && p->stdin_open,
                .terminal = p->terminal,
                .redraw = p->terminal,
                .passes_status = true,
                .input_offset = p->input_offset,
        };
        if (o->interactive && !p->stdin_open)
                complain("the program's input is closed");
        const uint64_t now[] = {p->stdout_size, p->stderr_size};
        return follow_process(s, &f, &target, p, now, false);
}

int command_logs(struct session *s, const struct options *o, char **operands)
{
        struct target target = {.dialer = &s->dialer, .sandbox = operands[0]};
        struct follow f = {.json = o->json};
        const uint64_t offsets[] = {o->since_offset, o->stderr_offset};
        struct err e;

        target_parse(&target, operands[1]);
        const Sandboxd__V1__Process *p = get_process(s, &target, &e);
        if (!p)
                return call_failed(s, &e);
        return follow_process(s, &f, &target, p, offsets, !o->follow);
}
