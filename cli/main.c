/* sandboxctl: the command line of sandboxd. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "base/util.h"
#include "cli/command.h"
#include "cli/complete.h"
#include "cli/help_view.h"
#include "cli/output.h"
#include "completions.h"

#define PROGRAM "sandboxctl"
#define MANY    INT_MAX

static int command_help(struct session *s, const struct options *o, char **operands);
static int command_completion(struct session *s, const struct options *o, char **operands);
static int command_complete(struct session *s, const struct options *o, char **operands);

static const char completion_details[] =
        "Packages install it. Without one, for this shell: . <(" PROGRAM " completion bash)\n\n";

static const char exec_details[] =
        "What the program prints is printed, and its exit status returned: 128 plus the\n"
        "signal that killed it; 124 when --run-timeout has passed, 125 when the status is\n"
        "not known or output is missing, 126 when the program cannot be executed, 127 when\n"
        "it does not exist.\n"
        "\n"
        "-it is a session at a terminal: keys, ctrl-C and ctrl-Z among them, are the\n"
        "program's, and the terminal has the size of yours and your TERM. Where standard\n"
        "input is not a terminal, in a script or CI, it is refused: -i alone passes on a\n"
        "file or a pipe, and -t alone gives the program a terminal at which nobody types.\n"
        "Without both its standard input is empty.\n"
        "\n"
        "INT, TERM, HUP and QUIT are passed on to the program's process group; of three\n"
        "within 5 seconds of each other the third ends " PROGRAM ". With -it such a signal\n"
        "(which is none of a key) ends " PROGRAM
        ". Without -d the program does not outlive\n" PROGRAM
        ": it is killed, at the latest 5 seconds after it.\n"
        "\n"
        "A daemon that is restarted does no harm: " PROGRAM " waits for it for 30 seconds, and\n"
        "goes on where it was.\n\n";

static const char attach_details[] =
        "PROCESS is a pid or a tag (@12 is the tag 12), as 'ps' shows them. What it prints\n"
        "from now on is printed, and its exit status returned as by exec. With -i, and\n"
        "at a terminal without, standard input is passed on. ctrl-P ctrl-Q at a terminal,\n"
        "or a signal, ends " PROGRAM "; the program goes on.\n\n";

static const char ps_details[] =
        "Those that exec or the API started; their children are not shown.\n\n";

static const char kill_details[] =
        "PROCESS is a pid or a tag (@12 is the tag 12). --kill-after implies --tree. With it,\n"
        "and with --tree -s KILL, " PROGRAM " returns when none of the tree is left.\n\n";

static const char logs_details[] =
        "PROCESS is a pid or a tag (@12 is the tag 12); one that has ended is kept for some\n"
        "minutes. Of much output only the last is kept (16 MiB, if nothing else was asked\n"
        "for); what is missing is said on standard error. The exit status is not the\n"
        "program's.\n\n";

static const char wait_details[] = "There is no time limit unless --timeout is given.\n\n";

static const char drain_details[] =
        "Returns when none is up. It lasts until --cancel or a restart of sandboxd; what was\n"
        "stopped is started again by whoever wants it. Exit status 1: some could not be\n"
        "stopped, or not within --timeout, which are named, or shown by 'ls'.\n\n";

static const char events_details[] =
        "Each line is: number, time, id, name, state or what else happened, and the reason.\n"
        "Events have numbers, so that nothing is lost or repeated: after the event 17 go on\n"
        "with --since 18. --no-follow without --since shows all that are kept.\n"
        "There is no time limit unless --timeout is given.\n\n";

static const char doctor_details[] =
        "Each finding is ok, warn or fail; of the latter two why it matters and what repairs\n"
        "it are shown. A sandbox is made under each runtime, and removed. docs/doctor.md\n"
        "describes every finding.\n"
        "\n"
        "Exit status: 0: nothing fails, though there may be warnings; 1: something does, or\n"
        "the daemon refused; 3: the daemon cannot be reached: then what can be seen without\n"
        "it is shown.\n\n";

static const char reload_details[] =
        "All of it or, when something in it is wrong, nothing. What has changed is listed: what\n"
        "is in force now, and what needs a restart of sandboxd. Sandboxes that run see changed\n"
        "name servers at once.\n\n";

static const char config_diff_details[] =
        "Of sandboxd's files, environment and command line as a reload would read them now.\n"
        "\n"
        "Exit status: 0: there is no difference; 1: there is one, or what they say is wrong.\n\n";

static const char dial_details[] =
        "What comes from standard input goes to the daemon, what it says to standard output:\n"
        "for a client on another host, which runs this through ssh. --socket ssh://HOST does.\n\n";

static const char metrics_details[] =
        "--listen 127.0.0.1:9464 serves http://127.0.0.1:9464/metrics; port 0 is any that is\n"
        "free. The address that is served is printed. Whoever asks gets what the daemon\n"
        "counts at that moment, or 503 while it cannot be reached. It takes no privilege\n"
        "but to connect to the daemon's socket; there is no TLS and no password: for other\n"
        "hosts put it behind something that has.\n\n";

static const char image_import_details[] =
        "SOURCE is docker://REFERENCE, of a registry; oci:PATH[:TAG], an OCI layout;\n"
        "oci-archive:PATH[:TAG]; docker-archive:PATH[:REFERENCE], as docker save makes it;\n"
        "dir:PATH, a root file system; tar:PATH, a tarball of one, compressed or not; or a\n"
        "PATH alone, of which the daemon finds out what it is. A path is one on the daemon's\n"
        "host. What NAME stands for is replaced; sandboxes that are up keep what they have.\n"
        "Interrupted, it leaves nothing. There is no time limit but the daemon's unless\n"
        "--timeout is given.\n\n";

static const char app_details[] =
        "An app is what the sandbox.yaml in its directory names: one web, and workers, which\n"
        "are kept running. docs/sandbox-manifest.md describes the file. What is wrong with it\n"
        "is shown, too.\n\n";

static const char app_wait_details[] =
        "Shows the app then. Exit status 1: there is no web, or it was given up. There is no\n"
        "time limit unless --timeout is given.\n\n";

static const char app_logs_details[] =
        "PROGRAM is web, build, or the name of a worker. What is shown is of its last start;\n"
        "'logs' shows that of earlier ones, by the pids that 'app status --json' tells. With\n"
        "--follow also of those to come, until it is given up: exit status 1.\n\n";

static const char app_restart_details[] =
        "At once, and with its failures forgotten; sandbox.yaml is read before. PROGRAM is web\n"
        "or the name of a worker. Returns when that has begun: 'app wait' waits for the web.\n\n";

static const char app_build_details[] =
        "Exit status 0: it passed; 1: it did not, or there is none. There is no time limit but\n"
        "its own unless --timeout is given; then it goes on without us.\n\n";

static const char app_check_details[] =
        "Each problem is a line, FILE:LINE:COLUMN: what was expected. A sandbox takes of such\n"
        "a file what it can; this is strict. Exit status: 0: nothing is wrong; 1: something\n"
        "is; 2: there is no such file.\n\n";

static const char task_start_details[] =
        "Prints the task's id. With --follow also what happens, and the exit status tells how it\n"
        "ended: 0: well; 1: not. The task goes on whatever becomes of " PROGRAM ". The\n"
        "program of the agent is for the sandbox's image to bring; 'shell' takes the prompt for\n"
        "a script. It works in the app's directory where there is one, else in /home/sandbox.\n"
        "docs/tasks.md\n\n";

static const char task_ls_details[] = "Of a sandbox that does not run, or was removed (by its "
                                      "whole id), those that are done.\n\n";

static const char task_events_details[] =
        "TASK is by default the last one. Each line begins with the time since its start; --since\n"
        "takes the number of an event, which --json shows. There is no time limit unless\n"
        "--timeout is given.\n\n";

static const char task_cancel_details[] =
        "TASK is by default the active one. Shows how it has ended.\n\n";

static const char task_revert_details[] =
        "What was changed or deleted since is restored, and what was added removed, whoever did\n"
        "it. There is no time limit but its own unless --timeout is given.\n\n";

static const struct command commands[] = {
        {
                .name = "create",
                .operands = "",
                .help = "Makes a sandbox and prints its id.",
                .options = OPTION(NAME) | OPTION(IMAGE) | OPTION(RUNTIME) | OPTION(MEMORY) |
                           OPTION(CPUS) | OPTION(PIDS) | OPTION(ENV) | OPTION(REQUEST_KEY) |
                           OPTION(TTL) | OPTION(EXPIRY) | OPTION(WORKSPACE) | OPTION(DNS) |
                           OPTION(DNS_SEARCH) | OPTION(DNS_OPTION) | OPTION(NETWORK) |
                           OPTION(EGRESS) | OPTION(ROOTFS),
                .run = command_create,
        },
        {
                .name = "ls",
                .operands = "",
                .help = "Lists all sandboxes, oldest first.",
                .run = command_ls,
        },
        {
                .name = "get",
                .operands = " SANDBOX",
                .help = "Shows one sandbox, and what happened to it last.",
                .min_operands = 1,
                .max_operands = 1,
                .run = command_get,
        },
        {
                .name = "start",
                .operands = " SANDBOX",
                .help = "Brings a stopped or failed sandbox up again.",
                .min_operands = 1,
                .max_operands = 1,
                .run = command_start,
        },
        {
                .name = "stop",
                .operands = " SANDBOX",
                .help = "Ends every process of a sandbox and keeps its workspace.",
                .options = OPTION(GRACE),
                .min_operands = 1,
                .max_operands = 1,
                .run = command_stop,
        },
        {
                .name = "pause",
                .operands = " SANDBOX",
                .help = "Freezes every process of a sandbox.",
                .min_operands = 1,
                .max_operands = 1,
                .run = command_pause,
        },
        {
                .name = "resume",
                .operands = " SANDBOX",
                .help = "Lets a paused sandbox go on.",
                .min_operands = 1,
                .max_operands = 1,
                .run = command_resume,
        },
        {
                .name = "keepalive",
                .operands = " SANDBOX",
                .help = "Begins a sandbox's time to live anew, or changes it.",
                .options = OPTION(TTL) | OPTION(FOREVER),
                .min_operands = 1,
                .max_operands = 1,
                .run = command_keepalive,
        },
        {
                .name = "wait",
                .operands = " SANDBOX",
                .help = "Waits until a sandbox is in some state, and prints it.",
                .details = wait_details,
                .options = OPTION(STATE),
                .min_operands = 1,
                .max_operands = 1,
                .run = command_wait,
        },
        {
                .name = "stats",
                .operands = " [SANDBOX]...",
                .help = "Shows what sandboxes use: these, or all that are up.",
                .max_operands = MANY,
                .run = command_stats,
        },
        {
                .name = "events",
                .operands = " [SANDBOX]",
                .help = "Shows what happens to sandboxes, as it happens.",
                .details = events_details,
                .options = OPTION(SINCE) | OPTION(NO_FOLLOW),
                .max_operands = 1,
                .run = command_events,
        },
        {
                .name = "rm",
                .operands = " SANDBOX...",
                .help = "Removes sandboxes, also running ones, with their workspaces.",
                .options = OPTION(KEEP_WORKSPACE),
                .min_operands = 1,
                .max_operands = MANY,
                .run = command_rm,
        },
        {
                .name = "exec",
                .operands = " SANDBOX -- PROGRAM [ARGUMENT]...",
                .help = "Runs a program in a sandbox.",
                .details = exec_details,
                .options = OPTION(INTERACTIVE) | OPTION(TTY) | OPTION(DETACH) | OPTION(ENV) |
                           OPTION(WORKDIR) | OPTION(USER) | OPTION(TAG) | OPTION(LABEL) |
                           OPTION(RUN_TIMEOUT) | OPTION(OUTPUT),
                .min_operands = 2,
                .max_operands = MANY,
                .runs_program = true,
                .passes_status = true,
                .connects = true,
                .run = command_exec,
        },
        {
                .name = "attach",
                .operands = " SANDBOX PROCESS",
                .help = "Goes to a program that runs in a sandbox.",
                .details = attach_details,
                .options = OPTION(INTERACTIVE),
                .min_operands = 2,
                .max_operands = 2,
                .passes_status = true,
                .run = command_attach,
        },
        {
                .name = "ps",
                .operands = " SANDBOX",
                .help = "Lists the processes of a sandbox, oldest first.",
                .details = ps_details,
                .options = OPTION(ALL),
                .min_operands = 1,
                .max_operands = 1,
                .run = command_ps,
        },
        {
                .name = "kill",
                .operands = " SANDBOX PROCESS...",
                .help = "Sends a signal to processes of a sandbox.",
                .details = kill_details,
                .options = OPTION(SIGNAL) | OPTION(GROUP) | OPTION(TREE) | OPTION(KILL_AFTER),
                .min_operands = 2,
                .max_operands = MANY,
                .run = command_kill,
        },
        {
                .name = "logs",
                .operands = " SANDBOX PROCESS",
                .help = "Shows what a process has printed.",
                .details = logs_details,
                .options = OPTION(FOLLOW) | OPTION(SINCE_OFFSET) | OPTION(STDERR_OFFSET),
                .min_operands = 2,
                .max_operands = 2,
                .run = command_logs,
        },
        {
                .name = "app status",
                .operands = " SANDBOX",
                .help = "Shows the app of a sandbox: its web, its workers, its last build.",
                .details = app_details,
                .min_operands = 1,
                .max_operands = 1,
                .run = command_app_status,
        },
        {
                .name = "app wait",
                .operands = " SANDBOX",
                .help = "Waits until the web of a sandbox's app is ready.",
                .details = app_wait_details,
                .min_operands = 1,
                .max_operands = 1,
                .run = command_app_wait,
        },
        {
                .name = "app logs",
                .operands = " SANDBOX PROGRAM",
                .help = "Shows what the web, a worker or the build of an app has printed.",
                .details = app_logs_details,
                .options = OPTION(FOLLOW),
                .min_operands = 2,
                .max_operands = 2,
                .run = command_app_logs,
        },
        {
                .name = "app restart",
                .operands = " SANDBOX [PROGRAM]",
                .help = "Restarts a program of an app, or all of them.",
                .details = app_restart_details,
                .min_operands = 1,
                .max_operands = 2,
                .run = command_app_restart,
        },
        {
                .name = "app build",
                .operands = " SANDBOX",
                .help = "Runs the build of an app, and shows the end of what it printed.",
                .details = app_build_details,
                .min_operands = 1,
                .max_operands = 1,
                .run = command_app_build,
        },
        {
                .name = "app check",
                .operands = " FILE",
                .help = "Says what is wrong with a sandbox.yaml on this host.",
                .details = app_check_details,
                .min_operands = 1,
                .max_operands = 1,
                .offline = true,
                .run = command_app_check,
        },
        {
                .name = "task start",
                .operands = " SANDBOX -- PROMPT...",
                .help = "Has an agent work on a prompt in a sandbox.",
                .details = task_start_details,
                .options = OPTION(AGENT) | OPTION(MODEL) | OPTION(CONTINUE) | OPTION(ENV) |
                           OPTION(WORKDIR) | OPTION(RUN_TIMEOUT) | OPTION(REQUEST_KEY) |
                           OPTION(FOLLOW),
                .min_operands = 2,
                .max_operands = MANY,
                .run = command_task_start,
        },
        {
                .name = "task ls",
                .operands = " SANDBOX",
                .help = "Lists the tasks of a sandbox, oldest first.",
                .details = task_ls_details,
                .min_operands = 1,
                .max_operands = 1,
                .run = command_task_ls,
        },
        {
                .name = "task events",
                .operands = " SANDBOX [TASK]",
                .help = "Shows what has happened in a task.",
                .details = task_events_details,
                .options = OPTION(FOLLOW) | OPTION(SINCE),
                .min_operands = 1,
                .max_operands = 2,
                .run = command_task_events,
        },
        {
                .name = "task cancel",
                .operands = " SANDBOX [TASK]",
                .help = "Ends a task, and all that came from it.",
                .details = task_cancel_details,
                .min_operands = 1,
                .max_operands = 2,
                .run = command_task_cancel,
        },
        {
                .name = "task revert",
                .operands = " SANDBOX TASK",
                .help = "Puts files back to what they were when a task began.",
                .details = task_revert_details,
                .min_operands = 2,
                .max_operands = 2,
                .run = command_task_revert,
        },
        {
                .name = "image import",
                .operands = " NAME SOURCE",
                .help = "Makes a root file system of an image, under a name for --image.",
                .details = image_import_details,
                .options = OPTION(INSECURE),
                .min_operands = 2,
                .max_operands = 2,
                .run = command_image_import,
        },
        {
                .name = "image ls",
                .operands = "",
                .help = "Lists the images that sandboxes may have.",
                .run = command_image_ls,
        },
        {
                .name = "image rm",
                .operands = " IMAGE",
                .help = "Removes an image that no sandbox has.",
                .min_operands = 1,
                .max_operands = 1,
                .run = command_image_rm,
        },
        {
                .name = "drain",
                .operands = "",
                .help = "Takes the host out of service: stops all sandboxes, and starts none.",
                .details = drain_details,
                .options = OPTION(GRACE) | OPTION(CANCEL),
                .run = command_drain,
        },
        {
                .name = "metrics",
                .operands = "",
                .help = "Prints the daemon's metrics, or serves them to Prometheus.",
                .details = metrics_details,
                .options = OPTION(LISTEN),
                .connects = true,
                .run = command_metrics,
        },
        {
                .name = "info",
                .operands = "",
                .help = "Shows the daemon's version, its runtimes and its directories.",
                .run = command_info,
        },
        {
                .name = "dial-stdio",
                .operands = "",
                .help = "Connects standard input and output with the daemon.",
                .details = dial_details,
                .options = OPTION(GREET),
                .connects = true,
                .run = command_dial_stdio,
        },
        {
                .name = "doctor",
                .operands = "",
                .help = "Looks for what is wrong with the host, and says how to repair it.",
                .details = doctor_details,
                .options = OPTION(ASK_DNS),
                .connects = true,
                .run = command_doctor,
        },
        {
                .name = "reload",
                .operands = "",
                .help = "Makes the daemon read its configuration again.",
                .details = reload_details,
                .run = command_reload,
        },
        {
                .name = "config diff",
                .operands = "",
                .help = "Shows where the daemon's configuration is not what its files say.",
                .details = config_diff_details,
                .run = command_config_diff,
        },
        {
                .name = "help",
                .operands = " [COMMAND]",
                .help = "Shows help on all commands, or on one.",
                .details = "With --json: all of them, with their options, for programs.\n\n",
                .max_operands = 2, /* the words of its name */
                .offline = true,
                .run = command_help,
        },
        {
                .name = "completion",
                .operands = " bash|zsh",
                .help = "Prints what teaches a shell to complete " PROGRAM "'s words.",
                .details = completion_details,
                .min_operands = 1,
                .max_operands = 1,
                .offline = true,
                .run = command_completion,
        },
        {
                .name = "complete",
                .operands = " -- [WORD]...",
                .help = "Prints how the last word may go on; the shells ask this.",
                .min_operands = 1,
                .max_operands = MANY,
                .offline = true,
                .hidden = true,
                .run = command_complete,
        },
};

/* How many of the words are the command's name; 0: none. */
static int name_matches(const struct command *c, char *const *words, int n)
{
        size_t first = strcspn(c->name, " ");

        if (n < 1 || !str_is(words[0], c->name, first))
                return 0;
        if (!c->name[first])
                return 1;
        return n > 1 && str_eq(words[1], c->name + first + 1) ? 2 : 0;
}

/* Of n words, at least one; *ret_words: how many of them are its name. */
static const struct command *find_command(char *const *words, int n, int *ret_words)
{
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
                *ret_words = name_matches(&commands[i], words, n);
                if (*ret_words > 0)
                        return &commands[i];
        }
        return NULL;
}

/* --- help --- */

/* The words, n of them, are none. Those of its group are shown, if the first is one. */
static int no_command(char *const *words, int n)
{
        bool asked = n > 1 && (str_eq(words[1], "--help") || str_eq(words[1], "-h"));

        if (asked && help_list(commands, ARRAY_SIZE(commands), words[0], stdout) > 0)
                return EXIT_OK;
        complain("no command '%s'; '" PROGRAM " help' lists them", words[0]);
        (void)help_list(commands, ARRAY_SIZE(commands), words[0], stderr);
        return EXIT_USAGE;
}

static int command_help(struct session *s, const struct options *o, char **operands)
{
        (void)s;
        if (o->json)
                return printed(print_json(help_json(commands, ARRAY_SIZE(commands)), stdout));
        if (!operands[0]) {
                help_on_all(commands, ARRAY_SIZE(commands));
                return EXIT_OK;
        }
        int words;
        const struct command *c = find_command(operands, operands[1] ? 2 : 1, &words);
        if (c)
                help_on(c);
        if (c ||
            (!operands[1] && help_list(commands, ARRAY_SIZE(commands), operands[0], stdout) > 0))
                return EXIT_OK;
        return no_command(operands, 1);
}

/* --- completion --- */

static int command_completion(struct session *s, const struct options *o, char **operands)
{
        (void)s;
        (void)o;
        if (str_eq(operands[0], "bash"))
                fputs(completion_bash, stdout);
        else if (str_eq(operands[0], "zsh"))
                fputs(completion_zsh, stdout);
        else
                complain("no completion for '%s', only for bash and zsh", operands[0]);
        return str_eq(operands[0], "bash") || str_eq(operands[0], "zsh") ? EXIT_OK : EXIT_USAGE;
}

static int command_complete(struct session *s, const struct options *o, char **operands)
{
        (void)s;
        (void)o;
        complete(commands, ARRAY_SIZE(commands), operands, strv_len((const char *const *)operands),
                 stdout);
        return EXIT_OK;
}

/* --- running a command --- */

static int wrong_usage(const struct command *c)
{
        help_usage(c, stderr);
        return EXIT_USAGE;
}

/* The options around the sandbox of a command that runs a program, whose own options are none of
 * ours: "-e A=1 SANDBOX -w /tmp -- ls -l". Returns the index of the first operand: the sandbox has
 * been moved next to the program. */
static int parse_around_sandbox(struct options *o, uint64_t allowed, int argc, char **argv)
{
        int sandbox = options_parse(o, allowed, OPTIONS_FIRST, argc, argv);
        if (sandbox < 0 || sandbox == argc)
                return sandbox;
        char *name = argv[sandbox];
        argv[sandbox] = argv[0];
        int program = options_parse(o, allowed, OPTIONS_FIRST, argc - sandbox, argv + sandbox);
        if (program < 0)
                return program;
        argv[sandbox + program - 1] = name;
        return sandbox + program - 1;
}

static int parse_operands(const struct command *c, struct options *o, int argc, char **argv)
{
        uint64_t allowed = c->options | OPTIONS_COMMON;

        return c->runs_program ? parse_around_sandbox(o, allowed, argc, argv)
                               : options_parse(o, allowed, OPTIONS_ANYWHERE, argc, argv);
}

static int run_connected(const struct command *c, const struct options *o, char **operands)
{
        struct session s;
        struct err e;

        int status = c->passes_status ? EXIT_NO_STATUS : EXIT_UNREACHABLE;

        int r = session_open(&s, options_socket(o), o->timeout_ms, &e);
        if (r < 0) {
                complain("%s", e.msg);
                return r == -EINVAL ? EXIT_USAGE : status;
        }
        if (c->connects || session_connect(&s, &e) == 0)
                status = c->run(&s, o, operands);
        else
                complain("%s", e.msg);
        session_close(&s);
        return status;
}

/* argv[0] is the name of the program in getopt's messages. */
static int run_command(const struct command *c, struct options *o, int argc, char **argv)
{
        int first = parse_operands(c, o, argc, argv);
        if (first < 0)
                return wrong_usage(c);
        if (o->help) {
                help_on(c);
                return EXIT_OK;
        }
        if (argc - first < c->min_operands || argc - first > c->max_operands) {
                if (argc - first < c->min_operands)
                        complain("something is missing");
                else
                        complain("'%s' is too much", argv[first + c->max_operands]);
                return wrong_usage(c);
        }
        if (c->offline)
                return c->run(NULL, o, argv + first);
        for (int i = first; i < argc; i++) {
                if (str_is_utf8(argv[i], strlen(argv[i])))
                        continue;
                complain("'%s' is not UTF-8, which all of a call must be", argv[i]);
                return EXIT_USAGE;
        }
        return run_connected(c, o, argv + first);
}

static int run(int argc, char **argv)
{
        struct options o;
        static char program[] = PROGRAM; /* argv, which outlives us, points at it */

        options_init(&o);
        argv[0] = program;
        int first = options_parse(&o, OPTIONS_COMMON | OPTION(VERSION), OPTIONS_FIRST, argc, argv);
        if (first < 0)
                return EXIT_USAGE;
        if (o.version)
                return printf(PROGRAM " " SANDBOXD_VERSION "\n") < 0 ? EXIT_REFUSED : EXIT_OK;
        if (o.help) {
                help_on_all(commands, ARRAY_SIZE(commands));
                return EXIT_OK;
        }
        if (first == argc) {
                complain("no command; '" PROGRAM " help' lists them");
                return EXIT_USAGE;
        }
        int words;
        const struct command *c = find_command(argv + first, argc - first, &words);
        if (!c)
                return no_command(argv + first, argc - first);
        first += words - 1;
        argv[first] = program;
        return run_command(c, &o, argc - first, argv + first);
}

/* Asks the kernel, because stdio forgets with what errno an earlier write failed. */
static bool reader_is_gone(void)
{
        struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};

        return poll(&p, 1, 0) == 1 && p.revents & (POLLERR | POLLHUP);
}

/* A command that could not say all it had to say has not succeeded. */
static int flush_output(int status)
{
        bool flushed = fflush(stdout) == 0;

        if (flushed && !ferror(stdout))
                return status;
        if (reader_is_gone())
                return EXIT_PIPE;
        complain("cannot write the output%s%s", flushed ? "" : ": ",
                 flushed ? "" : strerror(errno));
        return status ? status : EXIT_REFUSED;
}

/* No socket of ours may become a closed standard output. Read-only, so that writing there fails. */
static void occupy_standard_descriptors(void)
{
        int fd;

        do
                fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        while (fd >= 0 && fd <= STDERR_FILENO);
        if (fd >= 0)
                (void)close(fd); /* nothing was written */
}

int main(int argc, char **argv)
{
        occupy_standard_descriptors();
        (void)signal(SIGPIPE, SIG_IGN); /* EPIPE tells more */
        return flush_output(run(argc, argv));
}
