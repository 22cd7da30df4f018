#include "runtimed/checkpoint_command.h"

#include <string.h>
#include <unistd.h>

#include "base/str.h"

#define KEEP_MS 1 /* after its end */

void checkpoint_command_init(struct checkpoint_command *c, const struct task_place *place,
                             const char *verb, uint64_t number, const char *cwd, const char *tag)
{
        static const char *const no_labels[] = {NULL};
        const char *const argv[] = {
                place->program, "--checkpoint", verb, place->checkpoints, c->number, cwd, NULL};

        _Static_assert(sizeof(argv) == sizeof(c->argv), "all of it");
        (void)str_format(c->number, sizeof(c->number), "%llu",
                         (unsigned long long)number); /* fits */
        memcpy(c->argv, argv, sizeof(c->argv));
        c->spec = (struct process_spec){
                .argv = c->argv,
                .envp = (const char *const *)environ,
                .cwd = "/", /* the other may be gone */
                .tag = tag,
                .labels = no_labels,
                .overflow = PROCESS_WAIT_FOR_FASTEST,
                .output_size = SPOOL_SIZE_MIN,
                .keep_ms = KEEP_MS,
        };
}
