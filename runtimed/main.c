/* runtimed [--socket PATH] [--workdir DIR] [--] [PROGRAM ARG...]: what follows the options is run
 * by Start when that names no program (runtimed.h).
 * runtimed --checkpoint VERB ...: what it runs itself for a task (checkpoint.h). */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "runtimed/checkpoint.h"
#include "runtimed/runtimed.h"

#define DEFAULT_SOCKET "/home/sandbox/.runtimed/sock"
#define EXIT_USAGE     2

static const struct option options[] = {
        {"socket", required_argument, NULL, 's'},
        {"workdir", required_argument, NULL, 'w'},
        {"checkpoint", no_argument, NULL, 'c'},
        {"version", no_argument, NULL, 'v'},
        {0},
};

int main(int argc, char **argv)
{
        struct runtimed_defaults defaults = {0};
        const char *socket = DEFAULT_SOCKET;
        struct err e;
        int option;

        while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
                switch (option) {
                case 's':
                        socket = optarg;
                        break;
                case 'w':
                        defaults.workdir = optarg;
                        break;
                case 'c':
                        return checkpoint_main(&argv[optind]);
                case 'v':
                        return puts("runtimed " SANDBOXD_VERSION) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
                default:
                        return EXIT_USAGE; /* getopt_long has said why */
                }
        }
        defaults.args = &argv[optind];
        if (runtimed_run(socket, &defaults, &e) < 0) {
                log_error("runtimed: %s", e.msg);
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
