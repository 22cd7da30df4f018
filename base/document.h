/* A YAML file as a tree in which every value knows its place.
 *
 * Only what a configuration needs: one document of mappings, lists and scalars. Anchors, aliases
 * and tags are refused, and so is a key that comes twice. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/origin.h"

#define DOCUMENT_KEY_MAX    64   /* bytes of one key */
#define DOCUMENT_SCALAR_MAX 4096 /* bytes of one value */
#define DOCUMENT_DEPTH_MAX  8    /* values inside each other */
#define DOCUMENT_NODES_MAX  4096

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
        enum node_kind kind;
        char *key;  /* in a mapping; else NULL */
        char *path; /* the keys that lead here, escaped ("dns.servers"); NULL at the root */
        char *text; /* of a scalar; without NUL bytes inside */
        struct origin origin, key_origin; /* named by path */
        bool whole; /* read to its end: always, but for those that an error lies in */
        struct node *first, *next; /* its first child, its next sibling */
};

/* file names the bytes in messages and must outlive the tree. *ret is NULL when the file holds
 * nothing. The caller frees it. */
int document_parse(const char *file, const char *bytes, size_t n, struct node **ret, struct err *e);
/* The same for who takes what can be had: with an error *ret is what was read before it, or NULL,
 * and of that a value that is not `whole` may lack anything, its key too; *ret_where is the error's
 * place (line 0: it has none), without a name. The caller frees *ret in any case. */
int document_parse_part(const char *file, const char *bytes, size_t n, struct node **ret,
                        struct origin *ret_where, struct err *e);
void document_free(struct node *root); /* NULL is fine */
