/* Arguments in, exit status out. */

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "config/config.h"
#include "daemon/daemon.h"
#include "daemon/journal.h"
#include "daemon/notify.h"
#include "daemon/rpc_limits.h"

#define EXIT_USAGE      2
#define EXIT_BAD_CONFIG 78 /* EX_CONFIG of sysexits.h; systemd does not restart on it */

static const char usage[] =
        "usage: sandboxd [--config FILE] [--set KEY=VALUE]... [--check-config | --print-config]\n"
        "\n"
        "Runs sandboxes for AI coding agents. Needs root.\n"
        "\n"
        "  --config FILE          read FILE and conf.d/*.yaml beside it, instead of\n"
        "                         " CONFIG_FILE "\n"
        "  --set KEY=VALUE        override a key, such as dns.servers=1.1.1.1,9.9.9.9\n"
        "  --check-config         say whether the configuration is valid, and end\n"
        "  --print-config[=WHAT]  print the configuration in force, and end; WHAT: 'example'\n"
        "                         prints a file of all keys and defaults, 'reference' a table\n"
        "                         of them in Markdown\n"
        "  --version              print the version, and end\n"
        "  --help                 print this, and end\n"
        "\n"
        "A HUP signal makes it read its configuration again, as sandboxctl reload does.\n"
        "\n"
        "Exit status: 0 it was stopped or all is well, 1 it could not start, 2 wrong usage,\n"
        "78 the configuration is wrong.\n";

enum action { RUN, CHECK_CONFIG, PRINT_CONFIG, HELP, VERSION, WRONG_USAGE };

struct arguments {
        enum action action;
        const char *print; /* the WHAT of --print-config; NULL: none was given */
        struct config_sources sources;
        const char **sets; /* one for each argument would fit, and NULL */
        size_t n_sets;
};

static enum action wrong_usage(void)
{
        (void)fputs(usage, stderr);
        return WRONG_USAGE;
}

static enum action parse_arguments(int argc, char **argv, struct arguments *a)
{
        static const struct option options[] = {
                {"config", required_argument, NULL, 'c'},
                {"set", required_argument, NULL, 's'},
                {"check-config", no_argument, NULL, CHECK_CONFIG},
                {"print-config", optional_argument, NULL, PRINT_CONFIG},
                {"help", no_argument, NULL, HELP},
                {"version", no_argument, NULL, VERSION},
                {0},
        };
        int c;

        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
                switch (c) {
                case 'c':
                        a->sources.file = optarg;
                        a->sources.may_be_absent = false;
                        break;
                case 's':
                        a->sets[a->n_sets++] = optarg;
                        break;
                case '?':
                        return wrong_usage(); /* getopt has said why */
                case PRINT_CONFIG:
                        a->print = optarg;
                        /* fall through */
                default:
                        a->action = (enum action)c;
                }
        }
        return optind < argc ? wrong_usage() : a->action;
}

/* Takes the text over; NULL: there was no memory. */
static int print(char *text)
{
        bool printed = text && fputs(text, stdout) != EOF && fflush(stdout) != EOF;

        free(text);
        return printed ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int run(struct config *config, const struct config_sources *sources)
{
        struct err e;

        log_set_journal(journal_send);
        log_setup(config->log.level, config->log.format);
        if (daemon_run(config, sources, &e) == 0)
                return EXIT_SUCCESS;
        log_error("%s", e.msg);
        notify_failed(&e);
        return EXIT_FAILURE;
}

static int say_valid(const struct config_sources *sources)
{
        bool has_file = access(sources->file, F_OK) == 0;

        return printf("%s: valid\n", has_file ? sources->file : "defaults") < 0 ? EXIT_FAILURE
                                                                                : EXIT_SUCCESS;
}

static int with_config(const struct arguments *a)
{
        struct config config;
        struct err e;

        if (config_load(&a->sources, &config, &e) < 0) {
                (void)fprintf(stderr, "sandboxd: %s\n", e.msg);
                notify_failed(&e);
                return EXIT_BAD_CONFIG;
        }
        int r;
        if (a->action == PRINT_CONFIG)
                r = print(config_print(&config));
        else if (a->action == CHECK_CONFIG)
                r = say_valid(&a->sources);
        else
                r = run(&config, &a->sources);
        config_done(&config);
        return r;
}

static int act(const struct arguments *a)
{
        switch (a->action) {
        case HELP:
                (void)fputs(usage, stdout);
                return EXIT_SUCCESS;
        case VERSION:
                (void)puts("sandboxd " SANDBOXD_VERSION);
                return EXIT_SUCCESS;
        case WRONG_USAGE:
                return EXIT_USAGE;
        case PRINT_CONFIG:
                if (str_eq(a->print, "example"))
                        return print(config_print_example());
                if (str_eq(a->print, "reference"))
                        return print(config_print_reference());
                if (a->print)
                        return wrong_usage(), EXIT_USAGE;
                return with_config(a);
        default:
                return with_config(a);
        }
}

int main(int argc, char **argv)
{
        struct arguments a = {
                .action = RUN,
                .sources = {.file = CONFIG_FILE,
                            .may_be_absent = true,
                            .has_method = rpc_limits_has_method},
                .sets = calloc((size_t)argc + 1, sizeof(*a.sets)),
        };

        notify_open();
        if (!a.sets)
                return EXIT_FAILURE;
        a.sources.sets = a.sets;
        a.action = parse_arguments(argc, argv, &a);
        int r = act(&a);
        free(a.sets);
        return r;
}
