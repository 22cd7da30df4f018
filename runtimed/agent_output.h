/* What an agent prints, line by line, and what it means.
 *
 * The formats are those that the agents document for scripts: `claude -p --output-format
 * stream-json`, `opencode run --format json`, `codex exec --json`. What is none of what we know of
 * them is told as it is: an agent's next version must not make anything disappear. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum agent_format {
        AGENT_LINES, /* each line is something it says */
        AGENT_CLAUDE_STREAM_JSON,
        AGENT_OPENCODE_JSON,
        AGENT_CODEX_JSON,
        AGENT_FORMATS,
};

enum agent_event_kind { AGENT_MESSAGE, AGENT_TOOL, AGENT_USAGE, AGENT_LINE };

struct agent_usage {
        uint64_t input_tokens, output_tokens; /* the input's with those from the cache */
        uint64_t cached_tokens;
        uint64_t cost_micro_usd;
};

/* Bytes of any kind, not ended by NUL. */
struct agent_text {
        const char *bytes;
        size_t n;
};

struct agent_event {
        enum agent_event_kind kind;
        struct agent_text text; /* of a message or a line */
        uint64_t omitted;       /* of it: bytes that the line had more */
        bool reasoning;         /* of a message: it thinks aloud */
        struct {
                struct agent_text id, name, input, output;
                bool finished, failed;
        } tool;
        struct agent_usage usage; /* of the whole run so far */
};

struct agent_output {
        enum agent_format format;
        char *const *secrets; /* of secrets.h; NULL: none */
        /* What it points to is gone after the return. */
        void (*on_event)(struct agent_output *o, const struct agent_event *event);

        /* Read by the owner: */
        struct agent_usage usage;
        bool failed;     /* it said so itself */
        char error[256]; /* then: in its words, without secrets, cut; UTF-8 */

        /* private */
        struct agent_usage before; /* usage without that of the message under way */
        char message_id[64];
};

/* format, secrets and on_event are set, all else is 0. */
void agent_output_line(struct agent_output *o, const void *line, size_t n, uint64_t omitted);
