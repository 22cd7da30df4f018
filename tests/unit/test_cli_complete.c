#include "cli/complete.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"

#define WORDS_MAX 16

static const struct command commands[] = {
        {.name = "start", .operands = " SANDBOX", .help = "Starts one."},
        {.name = "stop", .operands = " SANDBOX", .help = "Stops one.", .options = OPTION(GRACE)},
        {.name = "set all", .operands = " SANDBOX", .help = "Has two words."},
        {.name = "set one", .operands = " here|there", .help = "Has two words, too."},
        {.name = "secret", .operands = "", .help = "Hidden.", .hidden = true},
        {.name = "shell", .operands = " bash|zsh", .help = "Asks for a shell."},
        {.name = "many", .operands = " COMMAND [one|two]...", .help = "Asks for more."},
        {.name = "list", .operands = " STATE,...", .help = "Has dots, and one operand."},
        {
                .name = "exec",
                .operands = " SANDBOX -- PROGRAM [ARGUMENT]...",
                .help = "Runs a program.",
                .options = OPTION(ENV) | OPTION(INTERACTIVE) | OPTION(TTY) | OPTION(SIGNAL) |
                           OPTION(STATE) | OPTION(EXPIRY) | OPTION(IMAGE),
                .runs_program = true,
        },
};

/* What is offered at the end of the line, in its order, as "one two"; the meanings are left out. A
 * line that ends in a blank has an empty word there. No daemon answers. */
static const char *offered(const char *line)
{
        static char words[4096];
        char text[256], *argv[WORDS_MAX], *printed = NULL;
        size_t n = 0, size;
        FILE *out = open_memstream(&printed, &size);

        assert_non_null(out);
        assert_true(str_format(text, sizeof(text), "%s", line));
        for (char *rest = text, *word; (word = strsep(&rest, " "));)
                argv[n++] = word;
        complete(commands, ARRAY_SIZE(commands), argv, n, out);
        assert_int_equal(fclose(out), 0);
        words[0] = '\0';
        for (char *rest = printed, *word; (word = strsep(&rest, "\n")) && *word;) {
                size_t at = strlen(words);
                word[strcspn(word, "\t")] = '\0';
                assert_true(str_format(words + at, sizeof(words) - at, at ? " %s" : "%s", word));
        }
        free(printed);
        return words;
}

static void commands_by_their_beginning(void **state)
{
        (void)state;
        assert_string_equal(offered("st"), "start stop");
        assert_string_equal(offered(""), "start stop set shell many list exec");
        assert_string_equal(offered("se"), "set");
        assert_string_equal(offered("set "), "all one");
        assert_string_equal(offered("set o"), "one");
        assert_string_equal(offered("set one "), "here there");
        assert_string_equal(offered("set two "), "");
        assert_string_equal(offered("--json --timeout 5s sta"), "start");
        assert_string_equal(offered("x"), "");
        assert_string_equal(offered("no-command "), "");
        assert_string_equal(offered("no-command --"), "");
}

static void options_of_the_command(void **state)
{
        (void)state;
        assert_string_equal(offered("--"), "--help --version --socket --timeout --json");
        assert_string_equal(offered("set --v"), "--version");
        assert_string_equal(offered("stop --"), "--help --socket --timeout --json --grace");
        assert_string_equal(offered("stop --g"), "--grace");
        assert_string_equal(offered("start --g"), "");
        assert_string_equal(offered("exec -i --e"), "--env --expiry");
        assert_string_equal(offered("exec box --tt"), "--tty");
}

static void values(void **state)
{
        (void)state;
        assert_string_equal(offered("exec --expiry "), "stop delete");
        assert_string_equal(offered("exec --expiry d"), "delete");
        assert_string_equal(offered("exec --expiry=d"), "--expiry=delete");
        assert_string_equal(offered("exec --state run"), "running");
        assert_string_equal(offered("exec --state running,f"), "running,failed");
        assert_string_equal(offered("exec --state=running,f"), "--state=running,failed");
        assert_string_equal(offered("exec -s US"), "USR1 USR2");
        assert_string_equal(offered("exec -its KI"), "KILL");
        assert_string_equal(offered("exec --socket "), ":files");
        assert_string_equal(offered("exec --socket=/ru"), ":files");
        assert_string_equal(offered("exec --image /"), ":files");
        assert_string_equal(offered("exec --image "), "");
        assert_string_equal(offered("exec -e "), "");
        assert_string_equal(offered("start --expiry "), ""); /* is none of its options */
}

static void operands(void **state)
{
        (void)state;
        assert_string_equal(offered("shell "), "bash zsh");
        assert_string_equal(offered("shell z"), "zsh");
        assert_string_equal(offered("shell --timeout 1s z"), "zsh");
        assert_string_equal(offered("shell bash "), "");
        assert_string_equal(offered("shell -- z"), "zsh");
        assert_string_equal(offered("many st"), "start stop");
        assert_string_equal(offered("many start o"), "one");
        assert_string_equal(offered("many start one two t"), "two");
        assert_string_equal(offered("list paus"), "paused");
        assert_string_equal(offered("list paused paus"), "");
}

static void what_a_program_gets_is_its_own(void **state)
{
        (void)state;
        assert_string_equal(offered("exec box -- --"), "");
        assert_string_equal(offered("exec box ls --"), "");
        assert_string_equal(offered("exec box ls -l st"), "");
        assert_string_equal(offered("exec -e A=1 box --inter"), "--interactive");
}

static void nobody_to_ask(void **state)
{
        (void)state;
        assert_string_equal(offered("--socket /nonexistent start "), "");
        assert_string_equal(offered("start --socket=/nonexistent "), "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(commands_by_their_beginning),
                cmocka_unit_test(options_of_the_command),
                cmocka_unit_test(values),
                cmocka_unit_test(operands),
                cmocka_unit_test(what_a_program_gets_is_its_own),
                cmocka_unit_test(nobody_to_ask),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
