#include "cli/options.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/units.h"
#include "base/util.h"
#include "cli/output.h"
#include "cli/signals.h"
#include "cli/words.h"

#define SOCKET_DEFAULT  "/run/sandboxd/sandboxd.sock"
#define TIMEOUT_DEFAULT 120 /* seconds */

struct option_type {
        /* Stores the value in its field of struct options; false when it is not as expected. */
        bool (*parse)(void *field, char *value);
        const char *expected;
};

static bool parse_switch(void *field, char *value)
{
        (void)value; /* there is none */
        *(bool *)field = true;
        return true;
}

static bool parse_string(void *field, char *value)
{
        *(char **)field = value;
        return str_is_utf8(value, strlen(value));
}

/* To the API 0 is "the default", which is said by leaving the option out: who says 0 means
 * something else. */
static bool parse_size(void *field, char *value)
{
        uint64_t *size = field;

        return units_parse_size(value, size) == 0 && *size > 0;
}

static bool parse_duration(void *field, char *value)
{
        uint64_t ms;

        if (units_parse_duration(value, &ms) < 0 || ms > UINT32_MAX)
                return false;
        *(uint32_t *)field = (uint32_t)ms;
        return true;
}

/* At once is the shortest that the API knows. */
static bool parse_grace(void *field, char *value)
{
        uint32_t *ms = field;

        if (!parse_duration(ms, value))
                return false;
        *ms = MAX(*ms, 1U);
        return true;
}

static bool parse_long_duration(void *field, char *value)
{
        uint64_t *ms = field;

        return units_parse_duration(value, ms) == 0 && *ms > 0;
}

static bool parse_count(void *field, char *value)
{
        uint64_t n;

        if (!str_to_u64(value, UINT32_MAX, &n))
                return false;
        *(uint32_t *)field = (uint32_t)n;
        return n > 0;
}

/* "2", "0.5", "1.125": thousandths are the smallest step. */
static bool parse_cpus(void *field, char *value)
{
        char millis_text[] = "000";
        uint64_t whole, millis;
        char *dot = strchr(value, '.');

        if (dot) {
                size_t n = strlen(dot + 1);
                if (n == 0 || n > 3)
                        return false;
                memcpy(millis_text, dot + 1, n);
                *dot = '\0';
        }
        if (!str_to_u64(value, UINT32_MAX / 1000 - 1, &whole) ||
            !str_to_u64(millis_text, 999, &millis))
                return false;
        *(uint32_t *)field = (uint32_t)(whole * 1000 + millis);
        return whole + millis > 0;
}

static bool parse_label(void *field, char *value)
{
        struct env_list *env = field;
        char *equals = strchr(value, '=');

        if (!equals || equals == value || env->n == ENV_MAX || !str_is_utf8(value, strlen(value)))
                return false;
        *equals = '\0';
        env->vars[env->n++] = (struct env_var){.name = value, .value = equals + 1};
        return true;
}

/* A name alone has the value that it has here: who looks at our arguments sees no secret. */
static bool parse_env(void *field, char *value)
{
        struct env_list *env = field;

        if (strchr(value, '='))
                return parse_label(field, value);
        char *ours = getenv(value);
        if (!ours || env->n == ENV_MAX || !str_is_utf8(ours, strlen(ours)))
                return false;
        env->vars[env->n++] = (struct env_var){.name = value, .value = ours};
        return true;
}

static bool parse_word(void *field, char *value)
{
        struct word_list *list = field;

        if (!*value || list->n == WORDS_MAX || !str_is_utf8(value, strlen(value)))
                return false;
        list->words[list->n++] = value;
        return true;
}

static bool parse_states(void *field, char *value)
{
        struct state_list *list = field;

        *list = (struct state_list){.n = 0};
        for (char *comma = value; comma; value = comma + 1) {
                comma = strchr(value, ',');
                if (comma)
                        *comma = '\0';
                if (list->n == STATES_MAX || !state_of_word(value, &list->states[list->n]))
                        return false;
                list->n++;
        }
        return true;
}

/* "17": a number; "10m": a duration, which has a unit here. */
static bool parse_since(void *field, char *value)
{
        struct since *since = field;

        *since = (struct since){.sequence = 0};
        if (str_to_u64(value, UINT64_MAX, &since->sequence))
                return since->sequence > 0;
        return units_parse_duration(value, &since->age_ms) == 0 && since->age_ms > 0;
}

static bool parse_expiry(void *field, char *value)
{
        Sandboxd__V1__ExpiryAction *action = field;

        *action = str_eq(value, "delete") ? SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_DELETE
                                          : SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_STOP;
        return str_eq(value, "delete") || str_eq(value, "stop");
}

static bool parse_network(void *field, char *value)
{
        Sandboxd__V1__NetworkMode *mode = field;

        *mode = str_eq(value, "none")     ? SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_NONE
                : str_eq(value, "bridge") ? SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_BRIDGE
                : str_eq(value, "host")   ? SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_HOST
                                          : SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_UNSPECIFIED;
        return *mode != SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_UNSPECIFIED;
}

static bool parse_rootfs(void *field, char *value)
{
        Sandboxd__V1__RootfsMode *mode = field;

        *mode = str_eq(value, "read-only") ? SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_READ_ONLY
                : str_eq(value, "overlay") ? SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_OVERLAY
                                           : SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_UNSPECIFIED;
        return *mode != SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_UNSPECIFIED;
}

static bool parse_overflow(void *field, char *value)
{
        Sandboxd__V1__OutputOverflow *overflow = field;

        *overflow = str_eq(value, "wait")
                            ? SANDBOXD__V1__OUTPUT_OVERFLOW__OUTPUT_OVERFLOW_WAIT
                            : SANDBOXD__V1__OUTPUT_OVERFLOW__OUTPUT_OVERFLOW_DROP_OLDEST;
        return str_eq(value, "wait") || str_eq(value, "drop");
}

static bool parse_signal(void *field, char *value)
{
        return signal_parse(value, field);
}

static bool parse_offset(void *field, char *value)
{
        return str_to_u64(value, UINT64_MAX, field);
}

static bool parse_listen(void *field, char *value)
{
        return listen_parse(value, field);
}

static const struct option_type type_switch = {parse_switch, "no value"};
static const struct option_type type_string = {parse_string, "UTF-8 text"};
static const struct option_type type_size = {parse_size, "a size such as 512MiB, above 0"};
static const struct option_type type_duration = {parse_duration, "a duration such as 30s"};
static const struct option_type type_grace = {parse_grace, "a duration such as 30s"};
static const struct option_type type_long_duration = {parse_long_duration,
                                                      "a duration such as 30m, above 0"};
static const struct option_type type_states = {
        parse_states, "at most 8 states, such as running,paused,stopped,failed"};
static const struct option_type type_since = {
        parse_since, "the number of an event, from 1, or a duration such as 10m"};
static const struct option_type type_expiry = {parse_expiry, "'stop' or 'delete'"};
static const struct option_type type_network = {parse_network, "'none', 'bridge' or 'host'"};
static const struct option_type type_rootfs = {parse_rootfs, "'read-only' or 'overlay'"};
static const struct option_type type_overflow = {parse_overflow, "'wait' or 'drop'"};
static const struct option_type type_signal = {parse_signal,
                                               "a signal such as TERM, SIGKILL or 10 (1 to 64)"};
static const struct option_type type_offset = {parse_offset, "a number of bytes"};
static const struct option_type type_listen = {
        parse_listen, "ADDRESS:PORT, such as 127.0.0.1:9464 or [::1]:9464"};
static const struct option_type type_count = {parse_count, "a whole number above 0"};
static const struct option_type type_cpus = {parse_cpus, "a number such as 2 or 0.5, above 0"};
static const struct option_type type_word = {parse_word, "UTF-8 text, at most 16 times"};
static const struct option_type type_label = {parse_label, "NAME=VALUE, at most 256 of them"};
static const struct option_type type_env = {
        parse_env, "NAME=VALUE, or the NAME of a variable that is set here, at most 256 of them"};

#define FIELD(f) offsetof(struct options, f)
static const struct option_row {
        const char *name;
        char letter;          /* 0: none */
        const char *argument; /* NULL: none */
        const struct option_type *type;
        size_t field;
        const char *help;
} rows[N_OPTIONS] = {
        [OPTION_HELP] = {"help", 'h', NULL, &type_switch, FIELD(help), "show help"},
        [OPTION_VERSION] = {"version", 0, NULL, &type_switch, FIELD(version), "show the version"},
        [OPTION_SOCKET] =
                {"socket", 0, "ADDRESS", &type_string, FIELD(socket),
                 "the daemon's socket or ssh://HOST (default: $SANDBOXD_SOCKET or " SOCKET_DEFAULT
                 ")"},
        [OPTION_TIMEOUT] = {"timeout", 0, "DURATION", &type_duration, FIELD(timeout_ms),
                            "how long to wait for an answer; 0: for ever (default: 120s)"},
        [OPTION_JSON] = {"json", 0, NULL, &type_switch, FIELD(json), "print JSON"},
        [OPTION_NAME] = {"name", 0, "NAME", &type_string, FIELD(name),
                         "a name for the sandbox, of a-z, 0-9 and -"},
        [OPTION_IMAGE] = {"image", 0, "IMAGE", &type_string, FIELD(image),
                          "the name of an image, or the absolute path of a root file system"},
        [OPTION_RUNTIME] = {"runtime", 0, "RUNTIME", &type_string, FIELD(runtime),
                            "what runs it, such as runc or runsc"},
        [OPTION_MEMORY] = {"memory", 0, "SIZE", &type_size, FIELD(memory),
                           "limit of memory, such as 512MiB"},
        [OPTION_CPUS] = {"cpus", 0, "N", &type_cpus, FIELD(cpu_millis),
                         "limit of processors, such as 2 or 0.5"},
        [OPTION_PIDS] = {"pids", 0, "N", &type_count, FIELD(pids),
                         "limit of processes and threads"},
        [OPTION_ENV] = {"env", 'e', "NAME[=VALUE]", &type_env, FIELD(env),
                        "set an environment variable, to what it is here without a value; may be "
                        "repeated"},
        [OPTION_WORKDIR] = {"workdir", 'w', "DIR", &type_string, FIELD(workdir),
                            "where to run it (default: as the image says, or /home/sandbox)"},
        [OPTION_GRACE] = {"grace", 0, "DURATION", &type_grace, FIELD(grace_ms),
                          "how long processes may take to end by themselves; 0: no time at all"},
        [OPTION_KEEP_WORKSPACE] = {"keep-workspace", 0, NULL, &type_switch, FIELD(keep_workspace),
                                   "keep their workspaces on the host, and print where"},
        [OPTION_STATE] = {"state", 0, "STATE,...", &type_states, FIELD(states),
                          "any of these will do (default: stopped,failed)"},
        [OPTION_SINCE] = {"since", 0, "WHEN", &type_since, FIELD(since),
                          "from the event of this number on, or for so long back: 17, 10m"},
        [OPTION_NO_FOLLOW] = {"no-follow", 0, NULL, &type_switch, FIELD(no_follow),
                              "end with what there is now"},
        [OPTION_TTL] = {"ttl", 0, "DURATION", &type_long_duration, FIELD(ttl_ms),
                        "its time to live, such as 30m"},
        [OPTION_FOREVER] = {"forever", 0, NULL, &type_switch, FIELD(forever),
                            "end its time to live: it may stay"},
        [OPTION_EXPIRY] = {"expiry", 0, "stop|delete", &type_expiry, FIELD(expiry),
                           "what happens when its time is over (default: stop)"},
        [OPTION_NETWORK] = {"network", 0, "none|bridge|host", &type_network, FIELD(network),
                            "its network: loopback alone, one that reaches out, the host's own"},
        [OPTION_EGRESS] = {"egress", 0, "POLICY", &type_string, FIELD(egress),
                           "where it may connect to: open, closed, or rules such as "
                           "10.0.0.0/8,192.0.2.7:443/tcp"},
        [OPTION_ROOTFS] = {"rootfs", 0, "read-only|overlay", &type_rootfs, FIELD(rootfs),
                           "whether it may write its image too, as its own"},
        [OPTION_REQUEST_KEY] = {"request-key", 0, "KEY", &type_string, FIELD(request_key),
                                "the same key again does nothing twice"},
        [OPTION_WORKSPACE] = {"workspace", 0, "ID", &type_string, FIELD(workspace),
                              "take over the workspace that was kept of this one"},
        [OPTION_DNS] = {"dns", 0, "ADDR", &type_word, FIELD(dns_servers),
                        "a name server in place of the configuration's; may be repeated"},
        [OPTION_DNS_SEARCH] = {"dns-search", 0, "DOMAIN", &type_word, FIELD(dns_search),
                               "a domain in which short names are looked up; may be repeated"},
        [OPTION_DNS_OPTION] = {"dns-option", 0, "OPT", &type_word, FIELD(dns_options),
                               "an option of the resolver, such as ndots:2; may be repeated"},
        [OPTION_INTERACTIVE] = {"interactive", 'i', NULL, &type_switch, FIELD(interactive),
                                "pass standard input on to the program"},
        [OPTION_TTY] = {"tty", 't', NULL, &type_switch, FIELD(tty), "give the program a terminal"},
        [OPTION_DETACH] = {"detach", 'd', NULL, &type_switch, FIELD(detach),
                           "leave it running, and print its pid"},
        [OPTION_USER] = {"user", 'u', "USER", &type_string, FIELD(user),
                         "as whom; a sandbox has one user, its image's or 1000:1000"},
        [OPTION_TAG] = {"tag", 0, "TAG", &type_string, FIELD(tag),
                        "a name for the process, of letters, digits, '.', '-' and '_'"},
        [OPTION_LABEL] = {"label", 0, "NAME=VALUE", &type_label, FIELD(labels),
                          "a note that ps --json shows; may be repeated"},
        [OPTION_RUN_TIMEOUT] = {"run-timeout", 0, "DURATION", &type_long_duration,
                                FIELD(run_timeout_ms),
                                "end the program and its children after so long"},
        [OPTION_OUTPUT] = {"output", 0, "wait|drop", &type_overflow, FIELD(output),
                           "when nobody reads: hold the program up, or drop the oldest output"},
        [OPTION_ALL] = {"all", 'a', NULL, &type_switch, FIELD(all),
                        "also those that have ended, as long as they are kept"},
        [OPTION_SIGNAL] = {"signal", 's', "SIGNAL", &type_signal, FIELD(signal),
                           "which, by name or number (default: TERM)"},
        [OPTION_GROUP] = {"group", 0, NULL, &type_switch, FIELD(group),
                          "to the process group, too"},
        [OPTION_TREE] = {"tree", 0, NULL, &type_switch, FIELD(tree),
                         "to all descendants, too, wherever they are"},
        [OPTION_KILL_AFTER] = {"kill-after", 0, "DURATION", &type_long_duration,
                               FIELD(kill_after_ms),
                               "with --tree: KILL for those that are left after so long"},
        [OPTION_FOLLOW] = {"follow", 'f', NULL, &type_switch, FIELD(follow),
                           "go on with what comes from now on"},
        [OPTION_SINCE_OFFSET] = {"since-offset", 0, "BYTE", &type_offset, FIELD(since_offset),
                                 "from this byte of stdout on (default: 0)"},
        [OPTION_STDERR_OFFSET] = {"stderr-offset", 0, "BYTE", &type_offset, FIELD(stderr_offset),
                                  "from this byte of stderr on (default: 0)"},
        [OPTION_ASK_DNS] = {"ask-dns", 0, NULL, &type_switch, FIELD(ask_dns),
                            "send each name server a question"},
        [OPTION_CANCEL] = {"cancel", 0, NULL, &type_switch, FIELD(cancel),
                           "end it: sandboxes may be created and started again"},
        [OPTION_INSECURE] = {"insecure", 0, NULL, &type_switch, FIELD(insecure),
                             "the registry speaks HTTP, or its certificate is not known"},
        [OPTION_AGENT] = {"agent", 0, "AGENT", &type_string, FIELD(agent),
                          "who works on it (default: claude-code)"},
        [OPTION_MODEL] = {"model", 0, "MODEL", &type_string, FIELD(model),
                          "the model, as the agent names it (default: the agent's own)"},
        [OPTION_CONTINUE] = {"continue", 0, NULL, &type_switch, FIELD(continue_last),
                             "go on with what the agent did last there"},
        [OPTION_GREET] = {"greet", 0, NULL, &type_switch, FIELD(greet),
                          "first say, in one line, whether the daemon is reached"},
        [OPTION_LISTEN] = {"listen", 0, "ADDRESS:PORT", &type_listen, FIELD(listen),
                           "serve them over HTTP, at /metrics, until SIGTERM or SIGINT"},
};

void options_init(struct options *o)
{
        *o = (struct options){.timeout_ms = TIMEOUT_DEFAULT * 1000, .signal = SIGTERM};
}

const char *options_socket(const struct options *o)
{
        const char *from_env = getenv("SANDBOXD_SOCKET");

        if (o->socket)
                return o->socket;
        return from_env && *from_env ? from_env : SOCKET_DEFAULT;
}

/* What getopt_long(3) wants. It answers with the option's letter, or LONG_ONLY plus its index. */
#define LONG_ONLY 256
struct getopt_tables {
        char letters[2 * N_OPTIONS + 2]; /* '+', then each letter with ':' behind it or not */
        struct option longs[N_OPTIONS + 1];
};

static void make_getopt_tables(struct getopt_tables *t, uint64_t allowed, enum options_order order)
{
        char *letter = t->letters;
        struct option *next = t->longs;

        *t = (struct getopt_tables){0};
        if (order == OPTIONS_FIRST)
                *letter++ = '+';
        for (int i = 0; i < N_OPTIONS; i++) {
                const struct option_row *row = &rows[i];
                if (!(allowed & (UINT64_C(1) << i)))
                        continue;
                *next++ = (struct option){
                        .name = row->name,
                        .has_arg = row->argument ? required_argument : no_argument,
                        .val = LONG_ONLY + i,
                };
                if (!row->letter)
                        continue;
                *letter++ = row->letter;
                if (row->argument)
                        *letter++ = ':';
        }
}

static const struct option_row *find_row(int from_getopt)
{
        if (from_getopt >= LONG_ONLY)
                return &rows[from_getopt - LONG_ONLY];
        for (int i = 0; i < N_OPTIONS; i++)
                if (rows[i].letter == from_getopt)
                        return &rows[i];
        return NULL;
}

int options_parse(struct options *o, uint64_t allowed, enum options_order order, int argc,
                  char **argv)
{
        struct getopt_tables t;
        int c;

        make_getopt_tables(&t, allowed, order);
        optind = 0; /* glibc: start afresh with another argv */
        while ((c = getopt_long(argc, argv, t.letters, t.longs, NULL)) != -1) {
                const struct option_row *row = find_row(c);
                if (!row)
                        return -EINVAL; /* '?': getopt has said what is wrong */
                if (!row->type->parse((char *)o + row->field, optarg)) {
                        complain("--%s: expected %s", row->name, row->type->expected);
                        return -EINVAL;
                }
                o->given |= UINT64_C(1) << (row - rows);
        }
        return optind;
}

struct option_text option_text(enum option_id id)
{
        const struct option_row *row = &rows[id];

        return (struct option_text){row->name, row->letter, row->argument, row->help};
}

void options_help(FILE *out, uint64_t set)
{
        for (int i = 0; i < N_OPTIONS; i++) {
                const struct option_row *row = &rows[i];
                char left[40];
                if (!(set & (UINT64_C(1) << i)))
                        continue;
                (void)str_format(left, sizeof(left), "%c%c%s --%s%s%s", row->letter ? '-' : ' ',
                                 row->letter ? row->letter : ' ', row->letter ? "," : " ",
                                 row->name, row->argument ? " " : "",
                                 row->argument ? row->argument : "");
                fprintf(out, "  %-28s %s\n", left, row->help);
        }
}
