/* The agents that tasks may name: how their programs are run. They are the configuration's, which
 * the daemon tells with its hello. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "runtimed/agent_output.h"

#define AGENTS_MAX 32

struct agents {
        struct agent {
                char *name;
                char **command;                       /* as the configuration has it */
                char **model_flags, **continue_flags; /* perhaps empty */
                char **env;                           /* "NAME=value" */
                enum agent_format format;
        } * items;
        size_t n;
};

/* How an agent is told the prompt. */
enum agent_prompt {
        AGENT_PROMPT_STDIN, /* its command names neither of the others */
        AGENT_PROMPT_ARGUMENT,
        AGENT_PROMPT_FILE,
};

void agents_done(struct agents *a);
const struct agent *agents_find(const struct agents *a, const char *name); /* or NULL */
/* "claude-code, codex", for messages. */
void agents_names(const struct agents *a, char *out, size_t size);

enum agent_prompt agent_prompt(const struct agent *a);
bool agent_takes_model(const struct agent *a);

struct agent_command {
        const char *prompt, *prompt_file;
        const char *model; /* "" for the agent's own */
        bool continue_last;
};
/* The program and its arguments, NULL at the end; NULL: there is no memory. The caller frees. */
char **agent_argv(const struct agent *a, const struct agent_command *c);
