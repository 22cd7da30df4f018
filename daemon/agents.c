#include "daemon/agents.h"

#include <stdlib.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/sandbox.h"
#include "sandboxd/control/v1/control.pb-c.h"

typedef Sandboxd__Control__V1__Agent Agent;

static Sandboxd__Control__V1__AgentOutput output_of(const char *word)
{
        static const struct {
                const char *word;
                Sandboxd__Control__V1__AgentOutput output;
        } outputs[] = {
                {"claude-stream-json",
                 SANDBOXD__CONTROL__V1__AGENT_OUTPUT__AGENT_OUTPUT_CLAUDE_STREAM_JSON},
                {"opencode-json", SANDBOXD__CONTROL__V1__AGENT_OUTPUT__AGENT_OUTPUT_OPENCODE_JSON},
                {"codex-json", SANDBOXD__CONTROL__V1__AGENT_OUTPUT__AGENT_OUTPUT_CODEX_JSON},
        };

        for (size_t i = 0; i < ARRAY_SIZE(outputs); i++)
                if (str_eq(outputs[i].word, word))
                        return outputs[i].output;
        return SANDBOXD__CONTROL__V1__AGENT_OUTPUT__AGENT_OUTPUT_LINES;
}

static size_t count(char *const *list)
{
        return strv_len((const char *const *)list);
}

static void fill(Agent *m, const struct config_agent *agent)
{
        sandboxd__control__v1__agent__init(m);
        m->name = agent->name;
        m->command = agent->command;
        m->n_command = count(agent->command);
        m->model_flags = agent->model_flags;
        m->n_model_flags = count(agent->model_flags);
        m->continue_flags = agent->continue_flags;
        m->n_continue_flags = count(agent->continue_flags);
        m->env = agent->env;
        m->n_env = count(agent->env);
        m->output = output_of(agent->output);
}

static int pack(const struct config *c, struct runtimed_introduction *ret, struct err *e)
{
        Sandboxd__Control__V1__Agents m = SANDBOXD__CONTROL__V1__AGENTS__INIT;
        Agent agents[CONFIG_AGENTS_MAX], *pointers[CONFIG_AGENTS_MAX];

        for (size_t i = 0; i < c->n_agents; i++) {
                fill(&agents[i], &c->agents[i]);
                pointers[i] = &agents[i];
        }
        m.agents = pointers;
        m.n_agents = c->n_agents;
        size_t n = sandboxd__control__v1__agents__get_packed_size(&m);
        if (n > RUNTIMED_AGENTS_MAX)
                return err_set(e, STATUS_INVALID_ARGUMENT,
                               "agents: all of them together have %zu bytes, at most %d are "
                               "possible",
                               n, RUNTIMED_AGENTS_MAX);
        uint8_t *bytes = malloc(n + 1); /* none is no failure */
        if (!bytes)
                return err_oom(e);
        (void)sandboxd__control__v1__agents__pack(&m, bytes); /* n bytes, as it said */
        *ret = (struct runtimed_introduction){bytes, n};
        return 0;
}

int agents_prepare(struct registry *r, struct err *e)
{
        struct runtimed_introduction introduction;

        int k = pack(r->config, &introduction, e);
        if (k < 0)
                return k;
        agents_done(r);
        r->introduction = introduction;
        for (struct sandbox *s = registry_first(r); s; s = registry_next(s)) {
                struct runtimed_client *runtimed = sandbox_runtimed(s, NULL);
                if (runtimed)
                        runtimed_client_introduce(runtimed);
        }
        return 0;
}

void agents_done(struct registry *r)
{
        free((void *)r->introduction.agents);
        r->introduction = (struct runtimed_introduction){0};
}
