#include "base/document.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/str.h"
#include "base/util.h"

struct reader {
        yaml_parser_t parser;
        yaml_event_t event; /* the current one */
        const char *file, *bytes;
        size_t n_nodes;
        struct origin where; /* of the error */
        struct err *e;
};

static int fail(struct reader *r, const struct origin *o, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

static int fail(struct reader *r, const struct origin *o, const char *fmt, ...)
{
        char text[ERR_MSG_MAX];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap); /* cut on purpose */
        va_end(ap);
        r->where = *o;
        return origin_error(o, r->e, "%s", text);
}

static struct origin origin_at_mark(const struct reader *r, yaml_mark_t mark, const char *name)
{
        return (struct origin){.file = r->file,
                               .line = (unsigned)mark.line + 1,
                               .column = (unsigned)mark.column + 1,
                               .name = name};
}

static struct origin origin_at_event(const struct reader *r, const char *name)
{
        return origin_at_mark(r, r->event.start_mark, name);
}

static struct origin origin_at_offset(const struct reader *r, size_t offset)
{
        struct origin o = {.file = r->file, .line = 1, .column = 1};

        for (const char *p = r->bytes; p < r->bytes + offset; p++) {
                bool continues_character = (*p & 0xC0) == 0x80;
                if (*p == '\n') {
                        o.line++;
                        o.column = 1;
                } else if (!continues_character) {
                        o.column++;
                }
        }
        return o;
}

static int report_parser(struct reader *r)
{
        const yaml_parser_t *p = &r->parser;
        struct origin o;

        switch (p->error) {
        case YAML_MEMORY_ERROR:
                return err_oom(r->e);
        case YAML_READER_ERROR:
                o = origin_at_offset(r, p->problem_offset);
                return fail(r, &o, "expected UTF-8 text, found a byte that is not (%s)",
                            p->problem);
        default:
                o = origin_at_mark(r, p->problem_mark, NULL);
                return fail(r, &o, "expected YAML, but %s", p->problem);
        }
}

static int next_event(struct reader *r)
{
        yaml_event_delete(&r->event);
        return yaml_parser_parse(&r->parser, &r->event) ? 0 : report_parser(r);
}

static int new_node(struct reader *r, const char *path, struct node **ret)
{
        struct origin o = origin_at_event(r, path);

        if (r->n_nodes++ == DOCUMENT_NODES_MAX)
                return fail(r, &o, "expected at most %d values, found more", DOCUMENT_NODES_MAX);
        struct node *n = calloc(1, sizeof(*n));
        if (!n)
                return err_oom(r->e);
        *ret = n; /* from here on freed with the tree */
        if (path && !(n->path = strdup(path)))
                return err_oom(r->e);
        return 0;
}

/* Of the current scalar event. */
static int copy_text(struct reader *r, const struct origin *o, size_t max, char **ret)
{
        const char *text = (const char *)r->event.data.scalar.value;
        size_t n = r->event.data.scalar.length;

        if (memchr(text, '\0', n))
                return fail(r, o, "expected text without NUL bytes, found one");
        if (n > max)
                return fail(r, o, "expected at most %zu bytes, found %zu", max, n);
        *ret = strdup(text);
        return *ret ? 0 : err_oom(r->e);
}

static int refuse(struct reader *r, const struct origin *o, const char *what)
{
        return fail(r, o, "expected a value written out, found %s", what);
}

/* Of the current event; o is where it stands. */
static int refuse_references(struct reader *r, const struct origin *o)
{
        const yaml_char_t *anchor = NULL, *tag = NULL;

        switch (r->event.type) {
        case YAML_ALIAS_EVENT:
                return refuse(r, o, "an alias (*)");
        case YAML_SCALAR_EVENT:
                anchor = r->event.data.scalar.anchor;
                tag = r->event.data.scalar.tag;
                break;
        case YAML_SEQUENCE_START_EVENT:
                anchor = r->event.data.sequence_start.anchor;
                tag = r->event.data.sequence_start.tag;
                break;
        case YAML_MAPPING_START_EVENT:
                anchor = r->event.data.mapping_start.anchor;
                tag = r->event.data.mapping_start.tag;
                break;
        default:
                break;
        }
        if (anchor)
                return refuse(r, o, "an anchor (&)");
        return tag ? refuse(r, o, "a tag (!)") : 0;
}

static int read_value(struct reader *r, struct node *n, unsigned depth);

static int read_list(struct reader *r, struct node *list, unsigned depth)
{
        struct node **tail = &list->first;

        for (;;) {
                int result = next_event(r);
                if (result < 0)
                        return result;
                if (r->event.type == YAML_SEQUENCE_END_EVENT)
                        return 0;
                result = new_node(r, list->path, tail);
                if (result == 0)
                        result = read_value(r, *tail, depth + 1);
                if (result < 0)
                        return result;
                tail = &(*tail)->next;
        }
}

static char *join_path(const char *parent, const char *key)
{
        char shown[4 * DOCUMENT_KEY_MAX + 1];

        str_escape(shown, sizeof(shown), key, strlen(key));
        return str_printf("%s%s%s", parent ? parent : "", parent ? "." : "", shown);
}

static int read_key(struct reader *r, const struct node *map, struct node *n)
{
        struct origin o = origin_at_event(r, map->path);
        int result = refuse_references(r, &o);

        if (result < 0)
                return result;
        if (r->event.type != YAML_SCALAR_EVENT)
                return fail(r, &o, "expected a key of plain text, found a %s",
                            r->event.type == YAML_MAPPING_START_EVENT ? "mapping" : "list");
        result = copy_text(r, &o, DOCUMENT_KEY_MAX, &n->key);
        if (result < 0)
                return result;
        n->path = join_path(map->path, n->key);
        if (!n->path)
                return err_oom(r->e);
        n->key_origin = origin_at_event(r, n->path);
        return 0;
}

static int refuse_duplicate(struct reader *r, const struct node *map, const struct node *n)
{
        for (const struct node *other = map->first; other != n; other = other->next)
                if (str_eq(other->key, n->key))
                        return fail(r, &n->key_origin,
                                    "expected each key once, found it first on line %u",
                                    other->key_origin.line);
        return 0;
}

static int read_map(struct reader *r, struct node *map, unsigned depth)
{
        struct node **tail = &map->first;

        for (;;) {
                int result = next_event(r);
                if (result < 0)
                        return result;
                if (r->event.type == YAML_MAPPING_END_EVENT)
                        return 0;
                result = new_node(r, NULL, tail);
                if (result == 0)
                        result = read_key(r, map, *tail);
                if (result == 0)
                        result = refuse_duplicate(r, map, *tail);
                if (result == 0)
                        result = next_event(r);
                if (result == 0)
                        result = read_value(r, *tail, depth + 1);
                if (result < 0)
                        return result;
                tail = &(*tail)->next;
        }
}

/* Fills n, whose key is read, from the current event and those that belong to it. */
static int read_value_inside(struct reader *r, struct node *n, unsigned depth)
{
        n->origin = origin_at_event(r, n->path);
        int result = refuse_references(r, &n->origin);

        if (result < 0)
                return result;
        if (depth > DOCUMENT_DEPTH_MAX)
                return fail(r, &n->origin, "expected at most %d levels, found more",
                            DOCUMENT_DEPTH_MAX);
        switch (r->event.type) {
        case YAML_SEQUENCE_START_EVENT:
                n->kind = NODE_LIST;
                return read_list(r, n, depth);
        case YAML_MAPPING_START_EVENT:
                n->kind = NODE_MAP;
                return read_map(r, n, depth);
        default:
                n->kind = NODE_SCALAR;
                return copy_text(r, &n->origin, DOCUMENT_SCALAR_MAX, &n->text);
        }
}

static int read_value(struct reader *r, struct node *n, unsigned depth)
{
        int result = read_value_inside(r, n, depth);

        n->whole = result == 0;
        return result;
}

static int read_document(struct reader *r, struct node **root)
{
        int result = next_event(r); /* the start of the stream */
        if (result == 0)
                result = next_event(r);
        if (result < 0 || r->event.type == YAML_STREAM_END_EVENT)
                return result;

        result = next_event(r); /* past the start of the document */
        if (result == 0)
                result = new_node(r, NULL, root);
        if (result == 0)
                result = read_value(r, *root, 1);
        if (result == 0)
                result = next_event(r); /* the end of the document */
        if (result == 0)
                result = next_event(r);
        if (result < 0 || r->event.type == YAML_STREAM_END_EVENT)
                return result;
        struct origin o = origin_at_event(r, NULL);
        return fail(r, &o, "expected one document, found a second one");
}

static bool holds_nothing(const struct node *root)
{
        return root && root->kind == NODE_SCALAR && root->text && !*root->text;
}

static void drop_if_empty(struct node **root)
{
        if (!holds_nothing(*root))
                return;
        document_free(*root);
        *root = NULL;
}

int document_parse_part(const char *file, const char *bytes, size_t n, struct node **ret,
                        struct origin *ret_where, struct err *e)
{
        struct reader r = {.file = file, .bytes = bytes, .e = e};

        *ret = NULL;
        *ret_where = (struct origin){0};
        if (!yaml_parser_initialize(&r.parser))
                return err_oom(e);
        yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&r.parser, (const unsigned char *)bytes, n);
        int result = read_document(&r, ret);
        yaml_event_delete(&r.event);
        yaml_parser_delete(&r.parser);

        r.where.name = NULL; /* it may be gone with its node */
        *ret_where = r.where;
        drop_if_empty(ret);
        return result;
}

int document_parse(const char *file, const char *bytes, size_t n, struct node **ret, struct err *e)
{
        struct origin where;
        struct node *root;

        int result = document_parse_part(file, bytes, n, &root, &where, e);
        if (result < 0)
                document_free(root);
        else
                *ret = root;
        return result;
}

void document_free(struct node *root)
{
        while (root) {
                struct node *next = root->next;
                document_free(root->first);
                free(root->key);
                free(root->path);
                free(root->text);
                free(root);
                root = next;
        }
}
