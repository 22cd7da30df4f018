/* The durable state: SQLite on a thread of its own, so that no fsync ever holds up the loop.
 * Writes are committed in the order of the calls; those that wait together share a transaction. */
#pragma once

#include <uv.h>

#include "base/err.h"
#include "daemon/record.h"

struct store;

/* Opens or makes the file. A schema newer than ours and a damaged file are refused, untouched.
 * Blocks: before the loop runs. */
int store_open(uv_loop_t *loop, const char *path, struct store **ret, struct err *e);

/* Every record, oldest first; the callback owns what it is given, and its negative return ends the
 * loading. Blocks: before the loop runs. */
int store_load(struct store *s, int (*on_record)(void *data, struct record *r, struct err *e),
               void *data, struct err *e);

/* done comes once, when the write is on the disk or has failed; never before the return. */
typedef void (*store_done)(void *data, const struct err *e);
int store_put(struct store *s, const struct record *r, store_done done, void *data, struct err *e);
int store_remove(struct store *s, const char *id, store_done done, void *data, struct err *e);

/* Writes what is queued, then closes; the handle goes on the loop's next turns. Nothing is called
 * back any more. Blocks for the last commit. */
void store_close(struct store *s);
