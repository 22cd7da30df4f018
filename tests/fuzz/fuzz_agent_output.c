/* What an agent prints, in every format: runtimed/line_cutter.c, agent_output.c and text.c.
 *
 * input: format, size of the pieces in which it comes, bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "runtimed/agent_output.h"
#include "runtimed/line_cutter.h"
#include "runtimed/text.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_MAX 100

struct reader {
        struct line_cutter cutter;
        struct agent_output output;
        size_t n; /* bytes of lines */
};

static void check_text(struct agent_text text)
{
        uint64_t omitted;
        char *made = text_of(text.bytes, text.n, TEXT_MAX, &omitted);

        EXPECT(made && strlen(made) <= TEXT_MAX && str_is_utf8(made, strlen(made)));
        EXPECT(omitted <= text.n && (omitted > 0 || strlen(made) >= text.n));
        free(made);
}

static void on_event(struct agent_output *o, const struct agent_event *e)
{
        EXPECT(str_is_utf8(o->error, strlen(o->error)));
        check_text(e->text);
        check_text(e->tool.id);
        check_text(e->tool.name);
        check_text(e->tool.input);
        check_text(e->tool.output);
}

static void on_line(struct line_cutter *c, const uint8_t *line, size_t n, uint64_t omitted)
{
        struct reader *r = CONTAINER(c, struct reader, cutter);

        EXPECT(n <= LINE_KEPT_MAX && !memchr(line, '\n', n));
        r->n += n + omitted;
        agent_output_line(&r->output, line, n, omitted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct reader r = {.cutter = {.on_line = on_line, .end = '\n'},
                           .output = {.on_event = on_event}};

        if (size < 2)
                return 0;
        r.output.format = (enum agent_format)(data[0] % AGENT_FORMATS);
        size_t piece = (size_t)data[1] + 1;
        data += 2;
        size -= 2;
        for (size_t i = 0; i < size; i += piece)
                line_cutter_feed(&r.cutter, data + i, MIN(piece, size - i));
        line_cutter_end(&r.cutter);
        EXPECT(r.n <= size);
        return 0;
}
