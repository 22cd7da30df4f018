/* How `runtimed --checkpoint` is run, as a process of the sandbox (checkpoint.h). */
#pragma once

#include <stdint.h>

#include "runtimed/process_table.h"
#include "runtimed/task.h"

struct checkpoint_command {
        char number[24];
        const char *argv[7];
        struct process_spec spec; /* points at the members above, and at what it was made of */
};
void checkpoint_command_init(struct checkpoint_command *c, const struct task_place *place,
                             const char *verb, uint64_t number, const char *cwd, const char *tag);
