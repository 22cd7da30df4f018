#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "config/config.h"
#include "daemon/daemon.h"

#define DEFAULT_CONFIG  "/etc/sandboxd/sandboxd.yaml"
#define EXIT_USAGE      2
#define EXIT_BAD_CONFIG 78 /* EX_CONFIG of sysexits.h; systemd does not restart on it */

static const char usage[] =
        "usage: sandboxd [--config FILE] [--check-config | --print-config]\n"
        "\n"
        "Runs sandboxes for AI coding agents. Needs root.\n"
        "\n"
        "  --config FILE    read FILE instead of " DEFAULT_CONFIG "\n"
        "  --check-config   read the configuration, say whether it is valid, and end\n"
        "  --print-config   print the configuration in force, and end\n"
        "  --version        print the version, and end\n"
        "  --help           print this, and end\n"
        "\n"
        "Exit status: 0 it was stopped or all is well, 1 it could not start, 2 wrong usage,\n"
        "78 the configuration is wrong.\n";

enum action { RUN, CHECK_CONFIG, PRINT_CONFIG, HELP, VERSION, WRONG_USAGE };

static enum action parse_arguments(int argc, char **argv, const char **config_file)
{
        static const struct option options[] = {
                {"config", required_argument, NULL, 'c'},
                {"check-config", no_argument, NULL, CHECK_CONFIG},
                {"print-config", no_argument, NULL, PRINT_CONFIG},
                {"help", no_argument, NULL, HELP},
                {"version", no_argument, NULL, VERSION},
                {0},
        };
        enum action action = RUN;
        int c;

        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
                if (c == 'c')
                        *config_file = optarg;
                else if (c == '?')
                        return WRONG_USAGE; /* getopt has said why */
                else
                        action = (enum action)c;
        }
        return optind < argc ? WRONG_USAGE : action;
}

static int print_config(const struct config *config)
{
        char *text = config_print(config);

        if (!text)
                return EXIT_FAILURE;
        int r = fputs(text, stdout) == EOF || fflush(stdout) == EOF ? EXIT_FAILURE : EXIT_SUCCESS;
        free(text);
        return r;
}

static int run(const struct config *config)
{
        struct err e;

        log_setup(config->log.level, config->log.format);
        if (daemon_run(config, &e) == 0)
                return EXIT_SUCCESS;
        log_error("%s", e.msg);
        return EXIT_FAILURE;
}

static int with_config(enum action action, const char *file)
{
        struct config config;
        struct err e;

        if (!file && access(DEFAULT_CONFIG, F_OK) == 0)
                file = DEFAULT_CONFIG;
        if (config_load(file, &config, &e) < 0) {
                (void)fprintf(stderr, "sandboxd: %s\n", e.msg);
                return EXIT_BAD_CONFIG;
        }
        int r = EXIT_SUCCESS;
        if (action == PRINT_CONFIG)
                r = print_config(&config);
        else if (action == CHECK_CONFIG)
                (void)printf("%s: valid\n", file ? file : "defaults");
        else
                r = run(&config);
        config_done(&config);
        return r;
}

int main(int argc, char **argv)
{
        const char *file = NULL;

        switch (parse_arguments(argc, argv, &file)) {
        case HELP:
                (void)fputs(usage, stdout);
                return EXIT_SUCCESS;
        case VERSION:
                (void)puts("sandboxd " SANDBOXD_VERSION);
                return EXIT_SUCCESS;
        case WRONG_USAGE:
                (void)fputs(usage, stderr);
                return EXIT_USAGE;
        case CHECK_CONFIG:
                return with_config(CHECK_CONFIG, file);
        case PRINT_CONFIG:
                return with_config(PRINT_CONFIG, file);
        default:
                return with_config(RUN, file);
        }
}
