/* A VFS of SQLite that writes down what is done to a database's files, and makes of it what may lie
 * on a disk after a loss of power at any instant.
 *
 * What may happen is what SQLite allows for (https://www.sqlite.org/atomiccommit.html, section 2,
 * and https://www.sqlite.org/psow.html): what was synced is there; of what was written since the
 * last sync of its file, any part may be, in sectors of 512 bytes; a file may have been made longer
 * before its bytes were written. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Registers it as the default, for good: no database is really synced any more. What is done to the
 * one at this path, which nobody has open, is written down until journal_end. */
void journal_begin(const char *db_path);
void journal_end(void);
void journal_free(void);

/* How many steps there are: writes, syncs, truncations and removals of files. */
size_t journal_length(void);

/* What of the unsynced is there. */
enum journal_loss { LOSS_NONE, LOSS_ALL, LOSS_RANDOM, LOSSES };

/* Goes through the journal once, forwards. */
struct journal_replay;
struct journal_replay *journal_replay_new(void);
/* One step on; false at the end. */
bool journal_replay_step(struct journal_replay *r);
/* Whether the losses differ: something is not synced. */
bool journal_replay_is_pending(const struct journal_replay *r);
/* Writes the files, as they are after the steps so far and this loss; what is not there is removed.
 * The seed makes a random loss the same again. */
void journal_replay_write(const struct journal_replay *r, const char *db_path,
                          enum journal_loss loss, uint64_t seed);
void journal_replay_free(struct journal_replay *r);
