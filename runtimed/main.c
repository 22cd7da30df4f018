#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "runtimed/runtimed.h"

#define DEFAULT_SOCKET "/home/sandbox/.runtimed/sock"
#define EXIT_USAGE     2

static const struct option options[] = {
        {"socket", required_argument, NULL, 's'},
        {"version", no_argument, NULL, 'v'},
        {0},
};

int main(int argc, char **argv)
{
        const char *socket = DEFAULT_SOCKET;
        struct err e;
        int option;

        while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
                switch (option) {
                case 's':
                        socket = optarg;
                        break;
                case 'v':
                        return puts("runtimed " SANDBOXD_VERSION) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
                default:
                        return EXIT_USAGE; /* getopt_long has said why */
                }
        }
        if (optind < argc) {
                log_error("unexpected argument '%s'; usage: runtimed [--socket PATH] [--version]",
                          argv[optind]);
                return EXIT_USAGE;
        }
        if (runtimed_run(socket, &e) < 0) {
                log_error("runtimed: %s", e.msg);
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
