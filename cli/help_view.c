#include "cli/help_view.h"

#include "cli/output.h"

static json_t *options_json(uint64_t set)
{
        json_t *array = json_array();

        for (int i = 0; i < N_OPTIONS; i++) {
                struct option_text text = option_text((enum option_id)i);
                char letter[] = {text.letter, '\0'};
                if (set & (UINT64_C(1) << i))
                        array = json_append(array,
                                            json_pack("{s:s, s:s, s:s, s:s}", "name", text.name,
                                                      "letter", letter, "argument",
                                                      text.argument ? text.argument : "", "help",
                                                      text.help));
        }
        return array;
}

json_t *help_json(const struct command *commands, size_t n_commands)
{
        json_t *array = json_array();

        for (size_t i = 0; i < n_commands; i++) {
                const struct command *c = &commands[i];
                if (!c->hidden)
                        array = json_append(array,
                                            json_pack("{s:s, s:s, s:s, s:s, s:o}", "name", c->name,
                                                      "operands", c->operands, "help", c->help,
                                                      "details", c->details ? c->details : "",
                                                      "options", options_json(c->options)));
        }
        return json_pack("{s:o, s:o}", "commands", array, "options",
                         options_json(OPTIONS_COMMON | OPTION(VERSION)));
}
