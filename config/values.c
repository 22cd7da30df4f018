#include "config/values.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/id.h"
#include "base/memstream.h"
#include "base/net_rule.h"
#include "base/str.h"
#include "base/units.h"
#include "base/util.h"
#include "config/config.h"
#include "config/grants.h"

#define DIGITS       "0123456789"
#define LOWER        "abcdefghijklmnopqrstuvwxyz"
#define LETTERS      LOWER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DOMAIN_MAX   253 /* RFC 1035, section 2.3.4, written with dots */
#define WORD_MAX     64
#define REGISTRY_MAX 255
#define CPU_DIGITS   6 /* whole processors; the range in the table is far below */

void option_value_add(struct option_value *v, struct option_item item)
{
        if (v->n < OPTION_ITEMS_MAX)
                v->items[v->n] = item;
        v->n++;
}

/* --- text ------------------------------------------------------------------------------------ */

static bool is_within(const char *s, char first, char last)
{
        if (!*s)
                return false;
        for (; *s; s++)
                if (*s < first || *s > last)
                        return false;
        return true;
}

static bool is_string(const char *s)
{
        return is_within(s, ' ', '~');
}

static bool is_word(const char *s)
{
        return is_within(s, '!', '~') && strlen(s) <= WORD_MAX;
}

static bool is_path(const char *s)
{
        return s[0] == '/' && is_string(s);
}

static bool is_optional_path(const char *s)
{
        return !*s || is_path(s);
}

static bool is_program(const char *s)
{
        return is_path(s) || (is_string(s) && !strchr(s, '/'));
}

static bool is_address(const char *s)
{
        struct in6_addr address;
        return inet_pton(AF_INET, s, &address) == 1 || inet_pton(AF_INET6, s, &address) == 1;
}

static bool is_domain(const char *s)
{
        size_t n = strspn(s, LETTERS DIGITS ".-_");
        return n >= 1 && n <= DOMAIN_MAX && s[n] == '\0';
}

static bool is_rule(const char *s)
{
        struct net_rule rule;
        return net_rule_parse(s, strlen(s), &rule, NULL) == 0;
}

static bool is_subnet(const char *s)
{
        struct net_rule rule;
        if (net_rule_parse(s, strlen(s), &rule, NULL) < 0 || !net_rule_is_subnet(&rule))
                return false;
        return rule.prefix + 2 <= (rule.v6 ? 128 : 32); /* host-local takes no smaller one */
}

/* As daemon/egress.h has it. */
static bool is_egress(const char *s)
{
        struct net_rule rule;

        if (str_eq(s, "open") || str_eq(s, "closed"))
                return true;
        for (size_t i = 0, n; i < EGRESS_RULES_MAX; i++, s += n + 1) {
                s += strspn(s, " ");
                n = strcspn(s, ",");
                size_t trimmed = n;
                while (trimmed > 0 && s[trimmed - 1] == ' ')
                        trimmed--;
                if (net_rule_parse(s, trimmed, &rule, NULL) < 0)
                        return false;
                if (!s[n])
                        return true;
        }
        return false;
}

static bool is_method(const char *s)
{
        const char *slash = strchr(s, '/');
        return is_word(s) && slash && slash > s && slash[1] && !strchr(slash + 1, '/');
}

/* To Docker these two are networks like others. */
static bool is_network(const char *s)
{
        return name_is_valid(s) && !str_eq(s, "host") && !str_eq(s, "none");
}

/* As a reference to an image begins: what could be a name of Docker Hub's is no host. */
static bool is_registry(const char *s)
{
        size_t n = strlen(s), host = strspn(s, LOWER DIGITS ".:-");
        bool is_host = memchr(s, '.', host) || memchr(s, ':', host) || str_is("localhost", s, host);

        return is_host && n <= REGISTRY_MAX && isalnum((unsigned char)s[0]) &&
               (!s[host] || s[host] == '/') && isalnum((unsigned char)s[n - 1]) &&
               !s[host + strspn(s + host, LOWER DIGITS "._-/")] && !strstr(s, "//") &&
               !strstr(s, "..");
}

static const struct text_type {
        const char *wants;
        bool (*is_valid)(const char *s);
} text_types[] = {
        [OPTION_STRING] = {"printable ASCII text", is_string},
        [OPTION_NAME] = {"a name of a-z, 0-9 and, between them, '-'", name_is_valid},
        [OPTION_PATH] = {"an absolute path in printable ASCII", is_path},
        [OPTION_OPTIONAL_PATH] = {"an absolute path in printable ASCII, or \"\"", is_optional_path},
        [OPTION_PROGRAM] = {"an absolute path or a name without '/'", is_program},
        [OPTION_ADDRESS] = {"an IPv4 or IPv6 address", is_address},
        [OPTION_DOMAIN] = {"a DNS name", is_domain},
        [OPTION_WORD] = {"a word of at most 64 printable ASCII characters", is_word},
        [OPTION_SUBNET] = {"a subnet such as 10.0.0.0/8, of at least four addresses, without bits "
                           "beyond its prefix",
                           is_subnet},
        [OPTION_RULE] =
                {"ADDRESS[/PREFIX][:PORT[-PORT]][/tcp|/udp], IPv6 in brackets before a port",
                 is_rule},
        [OPTION_EGRESS] = {"open, closed, or at most 64 rules such as 10.0.0.0/8,192.0.2.7:443/tcp",
                           is_egress},
        [OPTION_METHOD] = {"a method such as sandboxd.v1.SandboxService/Create", is_method},
        [OPTION_NETWORK] = {"a name of a-z, 0-9 and, between them, '-', other than host and none",
                            is_network},
        [OPTION_REGISTRY] = {"a registry such as docker.io or registry.example:5000/team, in lower "
                             "case",
                             is_registry},
};

static int replace_string(char **field, const char *text, struct err *e)
{
        char *copy = strdup(text);

        if (!copy)
                return err_oom(e);
        free(*field);
        *field = copy;
        return 0;
}

static int set_text(const struct config_option *o, char **field, const struct option_item *item,
                    struct err *e)
{
        const struct text_type *t = &text_types[o->type];

        if (!t->is_valid(item->text) || strlen(item->text) > o->max)
                return origin_expected(&item->origin, e, item->text,
                                       "%s, of at most %" PRIu64 " bytes", t->wants, o->max);
        return replace_string(field, item->text, e);
}

int option_check_list(const struct config_option *o, const struct option_value *v, struct err *e)
{
        const struct text_type *t = &text_types[o->item];

        if (v->n < o->min || v->n > o->max)
                return origin_error(&v->origin, e,
                                    "expected %" PRIu64 " to %" PRIu64 " items, found %zu", o->min,
                                    o->max, v->n);
        for (size_t i = 0; i < v->n; i++) {
                const struct option_item *item = &v->items[i];
                if (!t->is_valid(item->text))
                        return origin_expected(&item->origin, e, item->text, "%s", t->wants);
        }
        return 0;
}

static int set_list(const struct config_option *o, char ***field, const struct option_value *v,
                    struct err *e)
{
        struct strv_builder b = {0};

        int r = option_check_list(o, v, e);
        if (r < 0)
                return r;
        for (size_t i = 0; i < v->n; i++)
                strv_add(&b, v->items[i].text);
        char **list = strv_take(&b);
        if (!list)
                return err_oom(e);
        strv_free(*field);
        *field = list;
        return 0;
}

/* --- words ----------------------------------------------------------------------------------- */

static bool find_word(const struct config_option *o, const char *word, unsigned *ret)
{
        for (unsigned i = 0; o->words[i]; i++) {
                if (str_eq(o->words[i], word)) {
                        *ret = i;
                        return true;
                }
        }
        return false;
}

bool option_has_word(const struct config_option *o, const char *word)
{
        unsigned index;
        return find_word(o, word, &index);
}

void option_list_words(const struct config_option *o, char *out, size_t size)
{
        out[0] = '\0';
        for (size_t i = 0; o->words[i]; i++) {
                size_t n = strlen(out);
                /* The words are ours, and far shorter than the buffer. */
                (void)str_format(out + n, size - n, "%s%s", i ? ", " : "", o->words[i]);
        }
}

static int refuse_word(const struct config_option *o, const struct option_item *item, struct err *e)
{
        char words[ERR_MSG_MAX];

        option_list_words(o, words, sizeof(words));
        return origin_expected(&item->origin, e, item->text, "%s%s", o->words[1] ? "one of " : "",
                               words);
}

static int set_choice(const struct config_option *o, char **field, const struct option_item *item,
                      struct err *e)
{
        if (!option_has_word(o, item->text))
                return refuse_word(o, item, e);
        return replace_string(field, item->text, e);
}

static int set_enum(const struct config_option *o, unsigned *field, const struct option_item *item,
                    struct err *e)
{
        return find_word(o, item->text, field) ? 0 : refuse_word(o, item, e);
}

/* --- numbers --------------------------------------------------------------------------------- */

static int parse_count(const char *s, uint64_t *ret)
{
        return str_to_u64(s, UINT64_MAX, ret) ? 0 : -EINVAL;
}

static void format_count(uint64_t v, char out[UNITS_TEXT_MAX])
{
        (void)str_format(out, UNITS_TEXT_MAX, "%" PRIu64, v);
}

static int parse_cpus(const char *s, uint64_t *ret)
{
        char millis[CPU_DIGITS + 4];
        size_t whole = strspn(s, DIGITS);
        bool has_fraction = s[whole] == '.';
        const char *fraction = s + whole + has_fraction;
        size_t n = strspn(fraction, DIGITS);

        if (whole < 1 || whole > CPU_DIGITS || has_fraction != (n > 0) || n > 3 || fraction[n])
                return -EINVAL;
        (void)str_format(millis, sizeof(millis), "%.*s%s%.*s", (int)whole, s, fraction,
                         (int)(3 - n), "000"); /* fits: whole digits, three more, and the NUL */
        return parse_count(millis, ret);
}

static void format_cpus(uint64_t millis, char out[UNITS_TEXT_MAX])
{
        (void)str_format(out, UNITS_TEXT_MAX, "%" PRIu64 ".%03" PRIu64, millis / 1000,
                         millis % 1000);
        size_t n = strlen(out);
        while (out[n - 1] == '0')
                n--;
        if (out[n - 1] == '.')
                n--;
        out[n] = '\0';
}

static const struct number_type {
        const char *wants;
        int (*parse)(const char *s, uint64_t *ret);
        void (*format)(uint64_t v, char out[UNITS_TEXT_MAX]);
} number_types[] = {
        [OPTION_SIZE] = {"a size such as 512MiB or 2GiB", units_parse_size, units_format_size},
        [OPTION_DURATION] = {"a duration such as 500ms, 30s or 5m", units_parse_duration,
                             units_format_duration},
        [OPTION_CPUS] = {"a number such as 2 or 1.5", parse_cpus, format_cpus},
        [OPTION_COUNT] = {"a whole number", parse_count, format_count},
};

/* What one percent of it is. */
static uint64_t hundredth(enum option_part part)
{
        if (part == PART_OF_CPUS)
                return (uint64_t)sysconf(_SC_NPROCESSORS_ONLN) * 1000 / 100; /* in thousandths */
        return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 100;
}

static const char *const part_wants[] = {
        [PART_NONE] = "",
        [PART_OF_MEMORY] = ", or a part of the host's memory such as 25%",
        [PART_OF_CPUS] = ", or a part of the host's processors such as 50%",
};

static const char *const range_of_part[] = {
        [PART_NONE] = "",
        [PART_OF_MEMORY] = "; 1% to 100% of the host's memory",
        [PART_OF_CPUS] = "; 1% to 100% of the host's processors",
};

/* "25%", of which memory makes whole MiB. */
static int parse_percent(enum option_part part, const char *s, uint64_t *ret)
{
        char digits[4];
        uint64_t percent;
        size_t n = strspn(s, DIGITS);

        if (part == PART_NONE || !str_eq(s + n, "%") ||
            !str_format(digits, sizeof(digits), "%.*s", (int)MIN(n, sizeof(digits)), s) ||
            !str_to_u64(digits, 100, &percent) || percent == 0)
                return -EINVAL;
        *ret = percent * hundredth(part);
        if (part == PART_OF_MEMORY)
                *ret -= *ret % MiB;
        return 0;
}

static int refuse_number(const struct config_option *o, const struct number_type *t,
                         const struct option_item *item, const char *is, struct err *e)
{
        char min[UNITS_TEXT_MAX], max[UNITS_TEXT_MAX];

        t->format(o->min, min);
        t->format(o->max, max);
        if (*is)
                return origin_error(&item->origin, e,
                                    "expected %s%s, from %s to %s, found '%s', which is %s here",
                                    t->wants, part_wants[o->part], min, max, item->text, is);
        return origin_expected(&item->origin, e, item->text, "%s%s, from %s to %s", t->wants,
                               part_wants[o->part], min, max);
}

static int set_number(const struct config_option *o, enum option_type type, uint64_t *field,
                      const struct option_item *item, struct err *e)
{
        const struct number_type *t = &number_types[type];
        char is[UNITS_TEXT_MAX] = "";
        uint64_t v;

        if (parse_percent(o->part, item->text, &v) == 0)
                t->format(v, is);
        else if (t->parse(item->text, &v) < 0)
                return refuse_number(o, t, item, "", e);
        if (v < o->min || v > o->max)
                return refuse_number(o, t, item, is, e);
        *field = v;
        return 0;
}

/* --- sizes by name --------------------------------------------------------------------------- */

static void free_sizes(struct config_sizes *sizes)
{
        for (size_t i = 0; i < sizes->n; i++)
                free(sizes->items[i].name);
        free(sizes->items);
        *sizes = (struct config_sizes){0};
}

/* Into items, which has room: one more, or in place of the one of that name. */
static int put_size(struct config_sizes *sizes, const char *name, uint64_t bytes, struct err *e)
{
        for (size_t i = 0; i < sizes->n; i++) {
                if (str_eq(sizes->items[i].name, name)) {
                        sizes->items[i].bytes = bytes;
                        return 0;
                }
        }
        char *copy = strdup(name);
        if (!copy)
                return err_oom(e);
        sizes->items[sizes->n++] = (struct config_size){.name = copy, .bytes = bytes};
        return 0;
}

static int add_size(const struct config_option *o, struct config_sizes *sizes,
                    const struct option_item *item, struct err *e)
{
        const struct text_type *t = &text_types[o->item];
        uint64_t bytes;

        if (!t->is_valid(item->key))
                return origin_expected(&item->key_origin, e, item->key, "%s", t->wants);
        int r = set_number(o, OPTION_SIZE, &bytes, item, e);
        return r < 0 ? r : put_size(sizes, item->key, bytes, e);
}

/* Adds to those that are there. */
static int set_sizes(const struct config_option *o, struct config_sizes *field,
                     const struct option_value *v, struct err *e)
{
        struct config_sizes sizes = {0};
        int r = 0;

        if (v->n > OPTION_ITEMS_MAX)
                return origin_error(&v->origin, e, "expected at most %d items, found %zu",
                                    OPTION_ITEMS_MAX, v->n);
        if (v->n == 0)
                return 0;
        if (!(sizes.items = calloc(field->n + v->n, sizeof(*sizes.items))))
                return err_oom(e);
        for (size_t i = 0; r == 0 && i < field->n; i++)
                r = put_size(&sizes, field->items[i].name, field->items[i].bytes, e);
        for (size_t i = 0; r == 0 && i < v->n; i++)
                r = add_size(o, &sizes, &v->items[i], e);
        if (r == 0 && sizes.n > OPTION_ITEMS_MAX)
                r = origin_error(&v->origin, e,
                                 "expected at most %d items, with those of other files; found %zu",
                                 OPTION_ITEMS_MAX, sizes.n);
        if (r < 0) {
                free_sizes(&sizes);
                return r;
        }
        free_sizes(field);
        *field = sizes;
        return 0;
}

/* --- all of them ----------------------------------------------------------------------------- */

int option_set(const struct config_option *o, void *base, const struct option_value *v,
               struct err *e)
{
        void *field = (char *)base + o->offset;

        switch (o->type) {
        case OPTION_LIST:
                return set_list(o, field, v, e);
        case OPTION_SIZES:
                return set_sizes(o, field, v, e);
        case OPTION_SIZE:
        case OPTION_DURATION:
        case OPTION_CPUS:
        case OPTION_COUNT:
                return set_number(o, o->type, field, &v->items[0], e);
        case OPTION_ENUM:
                return set_enum(o, field, &v->items[0], e);
        case OPTION_CHOICE:
                return set_choice(o, field, &v->items[0], e);
        case OPTION_USER:
        case OPTION_GROUP:
                return principal_set(o, field, &v->items[0], e);
        case OPTION_GRANTS:
                return grants_set(o, field, v, e);
        default:
                return set_text(o, field, &v->items[0], e);
        }
}

/* Text is printable ASCII, so two characters need escaping between double quotes. */
void option_write_text(const char *s, FILE *f)
{
        bool plain = *s && *s != '-' && !s[strspn(s, LETTERS DIGITS "._/-")];

        if (plain) {
                (void)fputs(s, f); /* as all output here: the owner of f asks ferror(f) */
                return;
        }
        (void)fputc('"', f);
        for (; *s; s++)
                (void)fprintf(f, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
        (void)fputc('"', f);
}

static void write_list(char *const *list, FILE *f)
{
        (void)fputc('[', f);
        for (size_t i = 0; list[i]; i++) {
                (void)fputs(i ? ", " : "", f);
                option_write_text(list[i], f);
        }
        (void)fputc(']', f);
}

static void write_number(enum option_type type, uint64_t v, FILE *f)
{
        char number[UNITS_TEXT_MAX];

        number_types[type].format(v, number);
        (void)fputs(number, f);
}

static void write_sizes(const struct config_sizes *sizes, FILE *f)
{
        (void)fputc('{', f);
        for (size_t i = 0; i < sizes->n; i++) {
                (void)fputs(i ? ", " : "", f);
                option_write_text(sizes->items[i].name, f);
                (void)fputs(": ", f);
                write_number(OPTION_SIZE, sizes->items[i].bytes, f);
        }
        (void)fputc('}', f);
}

void option_write(const struct config_option *o, const void *base, FILE *f)
{
        const void *field = (const char *)base + o->offset;

        switch (o->type) {
        case OPTION_LIST:
                write_list(*(char **const *)field, f);
                return;
        case OPTION_SIZES:
                write_sizes(field, f);
                return;
        case OPTION_SIZE:
        case OPTION_DURATION:
        case OPTION_CPUS:
        case OPTION_COUNT:
                write_number(o->type, *(const uint64_t *)field, f);
                return;
        case OPTION_ENUM:
                (void)fputs(o->words[*(const unsigned *)field], f);
                return;
        case OPTION_USER:
        case OPTION_GROUP:
                option_write_text(((const struct config_principal *)field)->name, f);
                return;
        case OPTION_GRANTS:
                grants_write(o, field, f);
                return;
        default:
                option_write_text(*(char *const *)field, f);
        }
}

void option_free(const struct config_option *o, void *base)
{
        void *field = (char *)base + o->offset;

        switch (o->type) {
        case OPTION_LIST:
                strv_free(*(char ***)field);
                *(char ***)field = NULL;
                return;
        case OPTION_SIZES:
                free_sizes(field);
                return;
        case OPTION_GRANTS:
                grants_free(field);
                return;
        case OPTION_SIZE:
        case OPTION_DURATION:
        case OPTION_CPUS:
        case OPTION_COUNT:
        case OPTION_ENUM:
                return;
        case OPTION_USER:
        case OPTION_GROUP:
                free(((struct config_principal *)field)->name);
                *(struct config_principal *)field = (struct config_principal){0};
                return;
        default:
                free(*(char **)field);
                *(char **)field = NULL;
        }
}

/* Every type stands here, so that the compiler misses a new one. */
size_t option_size(const struct config_option *o)
{
        switch (o->type) {
        case OPTION_STRING:
        case OPTION_NAME:
        case OPTION_PATH:
        case OPTION_OPTIONAL_PATH:
        case OPTION_PROGRAM:
        case OPTION_CHOICE:
        case OPTION_ADDRESS:
        case OPTION_DOMAIN:
        case OPTION_WORD:
        case OPTION_SUBNET:
        case OPTION_RULE:
        case OPTION_EGRESS:
        case OPTION_METHOD:
        case OPTION_NETWORK:
        case OPTION_REGISTRY:
                return sizeof(char *);
        case OPTION_SIZE:
        case OPTION_DURATION:
        case OPTION_CPUS:
        case OPTION_COUNT:
                return sizeof(uint64_t);
        case OPTION_ENUM:
                return sizeof(unsigned);
        case OPTION_LIST:
                return sizeof(char **);
        case OPTION_SIZES:
                return sizeof(struct config_sizes);
        case OPTION_USER:
        case OPTION_GROUP:
                return sizeof(struct config_principal);
        case OPTION_GRANTS:
                return sizeof(struct config_grants);
        case OPTION_MAP:
                break;
        }
        return 0;
}

char *option_text(const struct config_option *o, const void *base)
{
        struct memstream m;

        if (!memstream_open(&m))
                return NULL;
        option_write(o, base, m.f);
        return memstream_close(&m);
}

void option_write_range(const struct config_option *o, FILE *f)
{
        char words[ERR_MSG_MAX];

        switch (o->type) {
        case OPTION_MAP:
                (void)fprintf(f, "at most %" PRIu64, o->max);
                return;
        case OPTION_LIST:
                if (o->min > 0)
                        (void)fprintf(f, "%" PRIu64 " to %" PRIu64, o->min, o->max);
                else
                        (void)fprintf(f, "at most %" PRIu64, o->max);
                return;
        case OPTION_USER:
        case OPTION_GROUP:
                (void)fputs("of this host", f);
                return;
        case OPTION_GRANTS:
        case OPTION_CHOICE:
        case OPTION_ENUM:
                option_list_words(o, words, sizeof(words));
                (void)fputs(words, f);
                return;
        case OPTION_SIZES:
        case OPTION_SIZE:
        case OPTION_DURATION:
        case OPTION_CPUS:
        case OPTION_COUNT:
                write_number(o->type == OPTION_SIZES ? OPTION_SIZE : o->type, o->min, f);
                (void)fputs(" to ", f);
                write_number(o->type == OPTION_SIZES ? OPTION_SIZE : o->type, o->max, f);
                (void)fputs(range_of_part[o->part], f);
                return;
        default:
                (void)fprintf(f, "at most %" PRIu64 " bytes", o->max);
        }
}
