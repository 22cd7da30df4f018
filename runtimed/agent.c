#include "runtimed/agent.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

static void agent_done(struct agent *a)
{
        free(a->name);
        strv_free(a->command);
        strv_free(a->model_flags);
        strv_free(a->continue_flags);
        strv_free(a->env);
}

void agents_done(struct agents *a)
{
        for (size_t i = 0; i < a->n; i++)
                agent_done(&a->items[i]);
        free(a->items);
        *a = (struct agents){0};
}

const struct agent *agents_find(const struct agents *a, const char *name)
{
        for (size_t i = 0; i < a->n; i++)
                if (str_eq(a->items[i].name, name))
                        return &a->items[i];
        return NULL;
}

void agents_names(const struct agents *a, char *out, size_t size)
{
        size_t used = 0;

        *out = '\0';
        for (size_t i = 0; i < a->n && used < size; i++) {
                (void)str_format(out + used, size - used, "%s%s", i ? ", " : "",
                                 a->items[i].name); /* may be cut */
                used += strlen(out + used);
        }
}

static bool names(const struct agent *a, const char *word)
{
        for (char **arg = a->command; *arg; arg++)
                if (str_eq(*arg, word))
                        return true;
        return false;
}

enum agent_prompt agent_prompt(const struct agent *a)
{
        if (names(a, "{prompt}"))
                return AGENT_PROMPT_ARGUMENT;
        return names(a, "{prompt_file}") ? AGENT_PROMPT_FILE : AGENT_PROMPT_STDIN;
}

bool agent_takes_model(const struct agent *a)
{
        return names(a, "{model}");
}

static void add_model(struct strv_builder *b, const struct agent *a, const char *model)
{
        if (!*model)
                return;
        for (char **flag = a->model_flags; *flag; flag++)
                strv_add(b, *flag);
        strv_add(b, model);
}

static void add_continue(struct strv_builder *b, const struct agent *a, bool continue_last)
{
        for (char **flag = a->continue_flags; continue_last && *flag; flag++)
                strv_add(b, *flag);
}

char **agent_argv(const struct agent *a, const struct agent_command *c)
{
        struct strv_builder b = {0};

        for (char **arg = a->command; *arg; arg++) {
                if (str_eq(*arg, "{prompt}"))
                        strv_add(&b, c->prompt);
                else if (str_eq(*arg, "{prompt_file}"))
                        strv_add(&b, c->prompt_file);
                else if (str_eq(*arg, "{model}"))
                        add_model(&b, a, c->model);
                else if (str_eq(*arg, "{continue}"))
                        add_continue(&b, a, c->continue_last);
                else
                        strv_add(&b, *arg);
        }
        return strv_take(&b);
}
