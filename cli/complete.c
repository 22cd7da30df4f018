#include "cli/complete.h"

#include <signal.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "cli/signals.h"
#include "cli/words.h"
#include "methods.h"
#include "sandboxd/v1/host.pb-c.h"
#include "sandboxd/v1/image.pb-c.h"

#define TIMEOUT_MS  1000
#define OPERAND_MAX 64 /* for a word that stands for an operand, "bash|zsh" */
#define COMMAND_MAX 64 /* for the name of a command, "config diff" */

/* The words before the cursor, understood as far as that is possible. */
struct line {
        const struct command *commands;
        size_t n_commands;
        FILE *out;
        char name[COMMAND_MAX];        /* of the command, as far as it was said */
        const struct command *command; /* NULL: none yet */
        size_t operands;               /* of the command, so far */
        char *sandbox;                 /* the first of them */
        struct options o;              /* of which only the socket is read */
        enum option_id waiting;        /* for its value; N_OPTIONS: none does */
        bool only_operands;            /* after "--" */
        bool unknown;                  /* what stands there is no command of ours */
};

/* --- candidates ----------------------------------------------------------------------------- */

static void offer(const struct line *l, const char *prefix, const char *before, const char *word,
                  const char *meaning)
{
        if (str_starts(word, prefix))
                fprintf(l->out, "%s%s%s%s\n", before, word, meaning ? "\t" : "",
                        meaning ? meaning : "");
}

/* A shell puts candidates into a line that will be run: of what others named only words that no
 * shell finds special are offered. */
static bool is_plain(const char *word)
{
        return *word && *word != '-' &&
               !word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._-@")];
}

static void offer_theirs(const struct line *l, const char *prefix, const char *before,
                         const char *word, const char *meaning)
{
        char escaped[128];

        if (is_plain(word))
                offer(l, prefix, before, word,
                      str_escape(escaped, sizeof(escaped), meaning, strlen(meaning)));
}

/* Each of "stop|delete". */
static void offer_each(const struct line *l, const char *prefix, const char *before,
                       const char *words)
{
        char word[OPERAND_MAX];

        for (size_t n; *words; words += n + (words[n] == '|')) {
                n = strcspn(words, "|");
                if (str_format(word, sizeof(word), "%.*s", (int)n, words))
                        offer(l, prefix, before, word, NULL);
        }
}

/* --- from the daemon ------------------------------------------------------------------------ */

typedef void (*offer_from)(const struct line *l, struct session *s, const char *prefix,
                           const char *before);

static void ask(const struct line *l, offer_from offers, const char *prefix, const char *before)
{
        struct session s;
        struct err e;

        if (session_open(&s, options_socket(&l->o), TIMEOUT_MS, &e) < 0)
                return;
        /* No ssh while a line is typed: it is slow, and may have questions. */
        if (!s.dialer.over_ssh && session_connect(&s, &e) == 0)
                offers(l, &s, prefix, before);
        session_close(&s);
}

/* By name; by id when it has none, or when an id was begun. */
static void offer_sandboxes(const struct line *l, struct session *s, const char *prefix,
                            const char *before)
{
        Sandboxd__V1__SandboxServiceListRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_LIST_REQUEST__INIT;
        char state[WORD_MAX];
        struct err e;

        const Sandboxd__V1__SandboxServiceListResponse *reply =
                session_call(s, &sandbox_service, SANDBOX_SERVICE_LIST, &request.base, &e);
        for (size_t i = 0; reply && i < reply->n_sandboxes; i++) {
                const Sandboxd__V1__Sandbox *sandbox = reply->sandboxes[i];
                word_of_state(sandbox->state, state);
                offer_theirs(l, prefix, before, sandbox->name, state);
                if (*prefix || !*sandbox->name)
                        offer_theirs(l, prefix, before, sandbox->id, state);
        }
}

/* By tag, or by pid. */
static void offer_processes(const struct line *l, struct session *s, const char *prefix,
                            const char *before)
{
        Sandboxd__V1__ProcessServiceListRequest request =
                SANDBOXD__V1__PROCESS_SERVICE_LIST_REQUEST__INIT;
        char pid[16];
        struct err e;

        request.sandbox_id = l->sandbox;
        request.all = str_eq(l->command->name, "logs");
        const Sandboxd__V1__ProcessServiceListResponse *reply =
                session_call(s, &process_service, PROCESS_SERVICE_LIST, &request.base, &e);
        for (size_t i = 0; reply && i < reply->n_processes; i++) {
                const Sandboxd__V1__Process *process = reply->processes[i];
                bool is_number = !process->tag[strspn(process->tag, "0123456789")];
                (void)str_format(pid, sizeof(pid), "%u", process->pid);
                offer_theirs(l, prefix, before, is_number ? pid : process->tag, process->command);
        }
}

static void offer_runtimes(const struct line *l, struct session *s, const char *prefix,
                           const char *before)
{
        Sandboxd__V1__HostServiceInfoRequest request =
                SANDBOXD__V1__HOST_SERVICE_INFO_REQUEST__INIT;
        struct err e;

        const Sandboxd__V1__HostServiceInfoResponse *reply =
                session_call(s, &host_service, HOST_SERVICE_INFO, &request.base, &e);
        for (size_t i = 0; reply && i < reply->n_runtimes; i++)
                offer_theirs(l, prefix, before, reply->runtimes[i]->name,
                             reply->runtimes[i]->version);
}

/* --- what stands for what, in the help ------------------------------------------------------ */

static void offer_files(const struct line *l, const char *prefix, const char *before)
{
        (void)prefix; /* the shell knows them better */
        (void)before;
        fputs(":files\n", l->out);
}

static void offer_image_names(const struct line *l, struct session *s, const char *prefix,
                              const char *before)
{
        Sandboxd__V1__ImageServiceListRequest request =
                SANDBOXD__V1__IMAGE_SERVICE_LIST_REQUEST__INIT;
        struct err e;

        const Sandboxd__V1__ImageServiceListResponse *reply =
                session_call(s, &image_service, IMAGE_SERVICE_LIST, &request.base, &e);
        for (size_t i = 0; reply && i < reply->n_images; i++)
                offer_theirs(l, prefix, before, reply->images[i]->name, reply->images[i]->source);
}

static void offer_images(const struct line *l, const char *prefix, const char *before)
{
        if (*prefix == '/')
                offer_files(l, prefix, before);
        else
                ask(l, offer_image_names, prefix, before);
}

/* The last of a list: "running,paused". */
static void offer_states(const struct line *l, const char *prefix, const char *before)
{
        const ProtobufCEnumDescriptor *type = &sandboxd__v1__sandbox_state__descriptor;
        const char *comma = strrchr(prefix, ',');
        const char *last = comma ? comma + 1 : prefix;
        char word[WORD_MAX], list[256];

        if (!str_format(list, sizeof(list), "%s%.*s", before, (int)(last - prefix), prefix))
                return;
        for (unsigned i = 0; i < type->n_values; i++) {
                Sandboxd__V1__SandboxState state =
                        (Sandboxd__V1__SandboxState)type->values[i].value;
                word_of_state(state, word);
                if (state != SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_UNSPECIFIED)
                        offer(l, last, list, word, NULL);
        }
}

static void offer_signals(const struct line *l, const char *prefix, const char *before)
{
        char name[SIGNAL_NAME_MAX];

        for (int i = 1; i <= SIGSYS; i++) {
                signal_name(i, name);
                offer(l, prefix, before, name, NULL);
        }
}

/* "config diff" continues "config", and everything "". */
static bool continues(const char *name, const char *said)
{
        return !*said || (str_starts(name, said) && name[strlen(said)] == ' ');
}

/* The next word of the names that begin as the command on the line does; those of several words
 * that share it stand together in the table. */
static void offer_commands(const struct line *l, const char *prefix, const char *before)
{
        const char *said = l->command ? "" : l->name;
        char word[COMMAND_MAX], last[COMMAND_MAX] = "";

        for (size_t i = 0; i < l->n_commands; i++) {
                const struct command *c = &l->commands[i];
                const char *rest = c->name + strlen(said) + (*said != '\0');
                if (c->hidden || !continues(c->name, said) ||
                    !str_format(word, sizeof(word), "%.*s", (int)strcspn(rest, " "), rest) ||
                    str_eq(word, last))
                        continue;
                offer(l, prefix, before, word, c->help);
                (void)str_format(last, sizeof(last), "%s", word); /* it fits */
        }
}

static void ask_for_sandboxes(const struct line *l, const char *prefix, const char *before)
{
        ask(l, offer_sandboxes, prefix, before);
}

static void ask_for_processes(const struct line *l, const char *prefix, const char *before)
{
        if (l->sandbox)
                ask(l, offer_processes, prefix, before);
}

static void ask_for_runtimes(const struct line *l, const char *prefix, const char *before)
{
        ask(l, offer_runtimes, prefix, before);
}

static const struct placeholder {
        const char *name;
        void (*offer)(const struct line *l, const char *prefix, const char *before);
} placeholders[] = {
        {"SANDBOX", ask_for_sandboxes}, {"PROCESS", ask_for_processes},
        {"RUNTIME", ask_for_runtimes},  {"COMMAND", offer_commands},
        {"STATE,...", offer_states},    {"SIGNAL", offer_signals},
        {"IMAGE", offer_images},        {"PATH", offer_files},
        {"FILE", offer_files},          {"ADDRESS", offer_files},
        {"SOURCE", offer_files},
};

/* For a word that stands for others, or which stands for itself: "stop|delete". `before` is what
 * the word on the line has before the prefix: "--runtime=". */
static void offer_for(const struct line *l, const char *placeholder, const char *prefix,
                      const char *before)
{
        for (size_t i = 0; i < ARRAY_SIZE(placeholders); i++)
                if (str_eq(placeholders[i].name, placeholder)) {
                        placeholders[i].offer(l, prefix, before);
                        return;
                }
        if (strpbrk(placeholder, "abcdefghijklmnopqrstuvwxyz"))
                offer_each(l, prefix, before, placeholder);
}

/* --- the words before the cursor ------------------------------------------------------------ */

static bool is_allowed(const struct line *l, int id)
{
        uint64_t set = OPTIONS_COMMON | (l->command ? l->command->options : OPTION(VERSION));

        return set & (UINT64_C(1) << id);
}

static enum option_id find_name(const struct line *l, const char *name, size_t n)
{
        for (int i = 0; i < N_OPTIONS; i++)
                if (is_allowed(l, i) && str_is(option_text((enum option_id)i).name, name, n))
                        return (enum option_id)i;
        return N_OPTIONS;
}

static enum option_id find_letter(const struct line *l, char letter)
{
        for (int i = 0; i < N_OPTIONS; i++)
                if (is_allowed(l, i) && option_text((enum option_id)i).letter == letter)
                        return (enum option_id)i;
        return N_OPTIONS;
}

/* The option of "--name" or "--name=value"; of "-abc", where only the last can have a value, the
 * first that takes one. N_OPTIONS: there is none. *ret_value: what stands in the same word, or
 * NULL. */
static enum option_id find_option(const struct line *l, char *word, char **ret_value)
{
        *ret_value = NULL;
        if (str_starts(word, "--")) {
                size_t n = strcspn(word + 2, "=");
                if (word[2 + n])
                        *ret_value = word + 2 + n + 1;
                return find_name(l, word + 2, n);
        }
        for (char *letter = word + 1; *letter; letter++) {
                enum option_id id = find_letter(l, *letter);
                if (id == N_OPTIONS || !option_text(id).argument)
                        continue;
                if (letter[1])
                        *ret_value = letter + 1;
                return id;
        }
        return N_OPTIONS;
}

static void read_value(struct line *l, enum option_id id, char *value)
{
        if (id == OPTION_SOCKET)
                l->o.socket = value;
}

static void read_option(struct line *l, char *word)
{
        char *value;
        enum option_id id = find_option(l, word, &value);

        if (value)
                read_value(l, id, value);
        else if (id != N_OPTIONS && option_text(id).argument)
                l->waiting = id;
}

static void read_name(struct line *l, const char *word)
{
        size_t n = strlen(l->name);

        l->unknown = true;
        if (!str_format(l->name + n, sizeof(l->name) - n, n ? " %s" : "%s", word))
                return;
        for (size_t i = 0; i < l->n_commands; i++) {
                if (str_eq(l->commands[i].name, l->name))
                        l->command = &l->commands[i];
                if (l->command || continues(l->commands[i].name, l->name))
                        l->unknown = false;
        }
}

static void read_operand(struct line *l, char *word)
{
        if (!l->command)
                read_name(l, word);
        else if (l->operands++ == 0)
                l->sandbox = word;
}

/* After the program that a command runs nothing is ours. */
static bool is_theirs(const struct line *l)
{
        return l->unknown || (l->command && l->command->runs_program &&
                              (l->operands > 1 || (l->operands == 1 && l->only_operands)));
}

static void read_word(struct line *l, char *word)
{
        if (l->waiting != N_OPTIONS) {
                read_value(l, l->waiting, word);
                l->waiting = N_OPTIONS;
        } else if (l->only_operands || *word != '-' || !word[1]) {
                read_operand(l, word);
        } else if (str_eq(word, "--")) {
                l->only_operands = true;
        } else {
                read_option(l, word);
        }
}

/* --- the word at the cursor ----------------------------------------------------------------- */

static void complete_option(const struct line *l, char *word)
{
        char *value;
        enum option_id id = find_option(l, word, &value);
        char name[OPERAND_MAX];

        if (value) {
                char *before = strndup(word, (size_t)(value - word));
                if (before && id != N_OPTIONS && option_text(id).argument)
                        offer_for(l, option_text(id).argument, value, before);
                free(before);
                return;
        }
        for (int i = 0; i < N_OPTIONS; i++) {
                struct option_text text = option_text((enum option_id)i);
                if (is_allowed(l, i) && str_format(name, sizeof(name), "--%s", text.name))
                        offer(l, word, "", name, text.help);
        }
}

/* The word of " SANDBOX [PROCESS]..." that stands for the operand of this index: the last one for
 * all further ones if there may be such. */
static bool find_placeholder(const char *operands, size_t index, char ret[OPERAND_MAX])
{
        bool repeats = false;
        size_t n = 0;

        for (;;) {
                operands += strspn(operands, " [");
                size_t len = strcspn(operands, " ]");
                if (len == 0)
                        return n > 0 && repeats;
                const char *end = operands + len;
                repeats = (len > 3 && strncmp(end - 3, "...", 3) == 0 && end[-4] != ',') ||
                          str_starts(end, "]...");
                size_t dots = repeats && *end != ']' ? 3 : 0;
                if (!str_format(ret, OPERAND_MAX, "%.*s", (int)(len - dots), operands))
                        return false;
                if (n++ == index)
                        return true;
                operands = end + strcspn(end, " ");
        }
}

static void complete_operand(const struct line *l, char *word)
{
        char placeholder[OPERAND_MAX];

        if (!l->command)
                offer_commands(l, word, "");
        else if (find_placeholder(l->command->operands, l->operands, placeholder))
                offer_for(l, placeholder, word, "");
}

void complete(const struct command *commands, size_t n_commands, char **words, size_t n, FILE *out)
{
        struct line l = {
                .commands = commands,
                .n_commands = n_commands,
                .out = out,
                .waiting = N_OPTIONS,
        };
        char *last = words[n - 1];

        options_init(&l.o);
        for (size_t i = 0; i + 1 < n && !is_theirs(&l); i++)
                read_word(&l, words[i]);
        if (is_theirs(&l))
                return;
        if (l.waiting != N_OPTIONS)
                offer_for(&l, option_text(l.waiting).argument, last, "");
        else if (*last == '-' && !l.only_operands)
                complete_option(&l, last);
        else
                complete_operand(&l, last);
}
