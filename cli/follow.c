#include "cli/follow.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/process_view.h"
#include "cli/terminal.h"

/* So many signals within that time of each other end us, whatever the program makes of them. */
#define INSISTENCE    3
#define INSISTENCE_MS 5000
/* How long the last signal to the program may take. */
#define FAREWELL_MS 1000

/* --- the end -------------------------------------------------------------------------------- */

/* All is written, or cannot be. */
static bool is_written(const struct follow *f)
{
        return outlet_is_empty(&f->outlet);
}

static void on_farewell(uv_timer_t *timer)
{
        CONTAINER(timer, struct follow, farewell)->done = true;
}

/* We end before the program. What is ours ends with us: it gets this signal, and SIGKILL from its
 * supervisor when we have been away for some seconds (kill_on_disconnect). */
static void leave(struct follow *f, int number)
{
        terminal_restore();
        if (f->leaving || !f->owner || !f->has_start || f->ended || f->remote.lost) {
                f->done = true;
                return;
        }
        f->leaving = true;
        (void)uv_timer_start(&f->farewell, on_farewell, FAREWELL_MS, 0); /* never fails */
        remote_signal(&f->remote, number, SANDBOXD__V1__SIGNAL_SCOPE__SIGNAL_SCOPE_TREE);
}

/* --- output --------------------------------------------------------------------------------- */

/* Once: whoever leaves a second time does not wait until the program has been sent its signal. */
static void nobody_reads(struct follow *f)
{
        if (!f->leaving)
                leave(f, SIGKILL);
}

static void after_output(struct follow *f)
{
        if (f->outlet.error)
                nobody_reads(f);
        else if (!is_written(f))
                remote_pause(&f->remote);
}

static void on_drained(void *data)
{
        struct follow *f = data;

        if (f->outlet.error)
                nobody_reads(f);
        else if (f->stream_done)
                f->done = true;
        else
                remote_resume(&f->remote);
}

static void on_reader_gone(void *data)
{
        struct follow *f = data;

        f->outlet.error = -EPIPE;
        nobody_reads(f);
}

static uint64_t expected(const struct follow *f, Sandboxd__V1__OutputStream stream)
{
        return f->remote.offsets[stream == SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR];
}

/* Offsets count on without a gap as long as nothing was lost. */
static void take_output(struct follow *f, const Sandboxd__V1__ProcessOutput *output)
{
        bool is_stderr = output->stream == SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR;

        if (output->offset != expected(f, output->stream)) {
                complain("DATA_LOSS: %s goes on at byte %" PRIu64 " where %" PRIu64 " was expected",
                         stream_name(output->stream), output->offset, expected(f, output->stream));
                f->incomplete = true;
        }
        if (!f->json)
                outlet_write(&f->outlet, is_stderr ? STDERR_FILENO : STDOUT_FILENO,
                             output->data.data, output->data.len);
}

static void take_gap(struct follow *f, const Sandboxd__V1__ProcessGap *gap)
{
        complain("%s%" PRIu64 " bytes of %s are lost: they are not kept any more",
                 f->passes_status ? "DATA_LOSS: " : "", gap->to - expected(f, gap->stream),
                 stream_name(gap->stream));
        f->incomplete = true;
}

static void check_size(struct follow *f, Sandboxd__V1__OutputStream stream, uint64_t size)
{
        if (size == expected(f, stream))
                return;
        complain("DATA_LOSS: %s ends at byte %" PRIu64 " of %" PRIu64, stream_name(stream),
                 expected(f, stream), size);
        f->incomplete = true;
}

static void take_end(struct follow *f, const Sandboxd__V1__ProcessEnded *end)
{
        f->ended = true;
        f->exit_code = end->exit_code;
        if (*end->error) {
                complain("%s", end->error);
                f->exit_code =
                        end->exit_code == EXIT_NO_PROGRAM ? EXIT_NO_PROGRAM : EXIT_CANNOT_EXEC;
                return;
        }
        check_size(f, SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDOUT, end->stdout_size);
        check_size(f, SANDBOXD__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR, end->stderr_size);
        if (end->timed_out) {
                f->exit_code = EXIT_TIMED_OUT;
        } else if (end->exit_code < 0 || end->exit_code > 255) {
                complain("INTERNAL: %" PRId32 " is no exit status", end->exit_code);
                f->exit_code = EXIT_NO_STATUS;
        }
}

static void print_json_event(struct follow *f, const remote_event *event)
{
        _cleanup_free_ char *line = json_line(process_event_json(event));

        if (line)
                outlet_write(&f->outlet, STDOUT_FILENO, line, strlen(line));
        else
                f->outlet.error = -ENOMEM;
}

/* --- input and terminal --------------------------------------------------------------------- */

static void send_size(struct follow *f)
{
        uint32_t rows, columns;

        if (!terminal_size(&rows, &columns))
                return;
        if (f->redraw) /* programs paint their screen when its size changes */
                remote_resize(&f->remote, rows + 1, columns);
        f->redraw = false;
        remote_resize(&f->remote, rows, columns);
}

/* Keys are for the program, signals among them. */
static bool passes_keys(const struct follow *f)
{
        return f->input && f->terminal && isatty(STDIN_FILENO);
}

static void make_raw(struct follow *f)
{
        int r = passes_keys(f) ? terminal_make_raw() : 0;

        if (r < 0)
                complain("cannot make the terminal raw: %s", strerror(-r));
}

static void take_start(struct follow *f)
{
        f->has_start = true;
        if (f->terminal && (f->redraw || !f->owner))
                send_size(f);
        if (!f->input)
                return;
        feeder_resume(&f->feeder);
        inlet_go_on(&f->inlet);
}

static void on_room(void *data)
{
        struct follow *f = data;

        inlet_go_on(&f->inlet);
}

static void on_input_closed(void *data, const struct err *e)
{
        struct follow *f = data;

        inlet_end(&f->inlet);
        if (e)
                complain("%s: %s; the program gets no more input", status_name(e->code), e->msg);
}

static void on_detach(void *data)
{
        struct follow *f = data;

        f->detached = f->done = true;
}

/* --- the stream ----------------------------------------------------------------------------- */

static void on_event(void *data, const remote_event *event)
{
        struct follow *f = data;

        if (f->json)
                print_json_event(f, event);
        switch (event->event_case) {
        case SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_START:
                take_start(f);
                break;
        case SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_DATA:
                take_output(f, event->data);
                break;
        case SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_GAP:
                take_gap(f, event->gap);
                break;
        case SANDBOXD__V1__PROCESS_SERVICE_ATTACH_RESPONSE__EVENT_END:
                take_end(f, event->end);
                break;
        default:
                break;
        }
        after_output(f);
}

static void on_stream_done(void *data, const struct err *e)
{
        struct follow *f = data;

        f->stream_done = true;
        if (e) {
                f->failed = true;
                f->error = *e;
        }
        f->done |= is_written(f);
}

static void on_lost(void *data)
{
        struct follow *f = data;

        feeder_suspend(&f->feeder);
        f->done |= f->leaving;
}

static void on_found(void *data)
{
        struct follow *f = data;

        if (!f->has_start)
                return;
        if (f->terminal && !f->ended)
                send_size(f);
        feeder_resume(&f->feeder);
}

/* --- signals -------------------------------------------------------------------------------- */

static bool insists(struct follow *f)
{
        uint64_t now = uv_now(f->loop);

        f->insistence = now - f->last_signal < INSISTENCE_MS ? f->insistence + 1 : 1;
        f->last_signal = now;
        return f->insistence >= INSISTENCE;
}

/* One that would end us. Without a program to pass it on to it does; as does one from elsewhere
 * than the keyboard while the keys are the program's. */
static void on_ending_signal(uv_signal_t *handle, int number)
{
        struct follow *f = handle->data;
        bool insisted = insists(f);

        if (terminal_is_raw() || insisted || f->leaving || f->remote.lost || !f->has_start) {
                f->fatal = number;
                leave(f, insisted ? SIGKILL : SIGHUP);
        } else {
                remote_signal(&f->remote, number, SANDBOXD__V1__SIGNAL_SCOPE__SIGNAL_SCOPE_GROUP);
        }
}

static void on_signalled(void *data, const struct err *e)
{
        struct follow *f = data;

        if (f->leaving)
                f->done = true;
        else if (e && e->code != STATUS_FAILED_PRECONDITION && e->code != STATUS_NOT_FOUND)
                complain("the signal has not been passed on: %s: %s", status_name(e->code), e->msg);
}

static void on_resized(uv_signal_t *handle, int number)
{
        struct follow *f = handle->data;

        (void)number;
        if (f->has_start && !f->remote.lost)
                send_size(f);
}

/* A stop that is not from the keyboard, whose ctrl-Z is the program's. */
static void on_stop(uv_signal_t *handle, int number)
{
        (void)handle, (void)number;
        terminal_restore();
        (void)raise(SIGSTOP); /* never fails */
}

static void on_continued(uv_signal_t *handle, int number)
{
        struct follow *f = handle->data;

        make_raw(f);
        on_resized(handle, number);
}

/* Unless whoever started us wants it ignored: nohup(1), a shell's background. */
static int watch_signal(struct follow *f, int number, uv_signal_cb callback)
{
        uv_signal_t *handle = &f->signals[f->n_signals];
        struct sigaction action;

        if (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
                return 0;
        int r = uv_signal_init(f->loop, handle);
        if (r < 0)
                return r;
        f->n_signals++;
        handle->data = f;
        return uv_signal_start(handle, callback, number);
}

static int watch_signals(struct follow *f)
{
        static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(ending) && r == 0; i++)
                if (f->owner || passes_keys(f))
                        r = watch_signal(f, ending[i], on_ending_signal);
        if (r == 0 && f->terminal)
                r = watch_signal(f, SIGWINCH, on_resized);
        if (r == 0 && passes_keys(f))
                r = watch_signal(f, SIGTSTP, on_stop);
        if (r == 0 && passes_keys(f))
                r = watch_signal(f, SIGCONT, on_continued);
        return r;
}

/* --- life ----------------------------------------------------------------------------------- */

int follow_init(struct follow *f, struct session *s, const struct target *target, struct err *e)
{
        static const struct remote_ops remote_ops = {
                .on_event = on_event,
                .on_done = on_stream_done,
                .on_lost = on_lost,
                .on_found = on_found,
                .on_signalled = on_signalled,
        };
        static const struct feeder_ops feeder_ops = {
                .on_room = on_room,
                .on_closed = on_input_closed,
        };

        f->loop = &s->loop;
        f->target = *target;
        remote_init(&f->remote, f->loop, &f->target, s->timeout_ms, &remote_ops, f, &f->open);
        feeder_init(&f->feeder, f->loop, &f->target, f->owner && !f->terminal, f->input_offset,
                    &feeder_ops, f, &f->open);
        (void)uv_timer_init(f->loop, &f->farewell); /* never fails */
        int r = inlet_init(&f->inlet, f->loop, &f->feeder,
                           passes_keys(f) && !f->owner ? on_detach : NULL, f);
        if (r == 0)
                r = outlet_init(&f->outlet, f->loop, on_drained, f);
        if (r == 0)
                r = readiness_init(&f->reader, f->loop, STDOUT_FILENO, 0, on_reader_gone, f);
        if (!f->passes_status)
                (void)readiness_start(&f->reader); /* or the next output tells */
        return r < 0 ? err_errno(e, -r, "watch the standard descriptors") : 0;
}

void follow_done(struct follow *f)
{
        terminal_restore();
        remote_close(&f->remote, &f->open);
        feeder_close(&f->feeder, &f->open);
        inlet_close(&f->inlet, &f->open);
        outlet_close(&f->outlet, &f->open);
        readiness_close(&f->reader, &f->open);
        for (size_t i = 0; i < f->n_signals; i++)
                close_counted((uv_handle_t *)&f->signals[i], &f->open);
        close_counted((uv_handle_t *)&f->farewell, &f->open);
        while (f->open > 0)
                (void)uv_run(f->loop, UV_RUN_ONCE);
}

static void die_by(int number)
{
        sigset_t set;

        (void)signal(number, SIG_DFL); /* never fails, nor do the next */
        (void)sigemptyset(&set);
        (void)sigaddset(&set, number);
        (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
        (void)raise(number);
}

static int not_ended(const struct follow *f)
{
        const char *what = f->passes_status ? "; how the command ended is unknown" : "";

        if (f->failed)
                complain("%s: %s%s", status_name(f->error.code), f->error.msg,
                         f->has_start ? what : "");
        else
                complain("INTERNAL: the stream ended%s", what);
        return f->passes_status ? EXIT_NO_STATUS : EXIT_REFUSED;
}

/* An exit status is told only when the sandbox told it. */
static int exit_status(const struct follow *f)
{
        if (f->outlet.error == -EPIPE)
                return EXIT_PIPE;
        if (f->outlet.error < 0) {
                complain("cannot write the output: %s", strerror(-f->outlet.error));
                return f->passes_status ? EXIT_NO_STATUS : EXIT_REFUSED;
        }
        if (f->detached || (f->remote.until_now && !f->failed))
                return EXIT_OK;
        if (!f->ended)
                return not_ended(f);
        if (!f->passes_status)
                return EXIT_OK;
        return f->incomplete ? EXIT_NO_STATUS : f->exit_code;
}

/* Not before the connection is there: until then a signal just ends us, also while ssh asks for a
 * password. */
static void begin(struct follow *f)
{
        int r = watch_signals(f);

        if (r < 0) {
                (void)err_errno(&f->error, -r, "watch for signals");
                f->failed = f->done = true;
        }
        make_raw(f);
}

int follow_run(struct follow *f)
{
        begin(f);
        while (!f->done)
                (void)uv_run(f->loop, UV_RUN_ONCE);
        terminal_restore();
        if (f->fatal)
                die_by(f->fatal);
        if (f->detached)
                complain("detached; the program goes on");
        return exit_status(f);
}
