/* What a process has printed: the last bytes of both its streams, in the order of their arrival.
 *
 * Glossary: a *position* counts the bytes of both streams together, from the process's start; an
 * *offset* counts those of one stream; a *block* is what is written to the file and dropped as one.
 * The newest blocks are in memory, older ones in a file. The file is unlinked as soon as it is
 * made, so that no crash leaves one behind.
 *
 * One writer (the process) puts bytes in: spool_reserve, read(2) to there, spool_commit. Any number
 * of readers take them out, each at its own pace; one that the oldest kept byte has overtaken gets
 * a gap. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

enum spool_stream { SPOOL_STDOUT, SPOOL_STDERR, SPOOL_STREAMS };

#define SPOOL_CHUNK    (64 * KiB) /* the most that one spool_next gives */
#define SPOOL_HEADROOM 64
#define SPOOL_SIZE_MIN (256 * KiB)
#define SPOOL_SIZE_MAX (256 * MiB)

/* Where the files lie, and how much all of them may take together. Outlives its spools. */
struct spool_place {
        const char *directory;
        uint64_t used, max; /* bytes */
        /* Frees a spool that is needed less than more room for another is. False: there is none.
         * NULL is that, too. */
        bool (*make_room)(struct spool_place *place);
};

struct spool;

/* size: how many bytes are kept at most, their book-keeping included, in whole blocks of 128 KiB;
 * SPOOL_SIZE_MIN to SPOOL_SIZE_MAX, else the nearer of them. The two newest blocks are in memory,
 * so the smallest spool has no file. Nothing is allocated for bytes that have not come yet. 0 or
 * -ENOMEM. */
int spool_new(struct spool_place *place, uint64_t size, struct spool **ret);
void spool_free(struct spool *s); /* NULL is fine */

/* Room for the next bytes of this stream: *ret_n of them, at least 1. needed: the position that
 * the reader for whom the writer waits has reached; what lies before it by more than half of what
 * can be kept may be dropped, for that much may be under way to a client that will come back;
 * UINT64_MAX: anything may. NULL: there is no room unless something is dropped that may not be, or
 * no memory; the former is never so for a reader that has all that has come. Where the file cannot
 * take more (the disk is full, place->max is reached) less is kept: always the newest block. */
uint8_t *spool_reserve(struct spool *s, enum spool_stream stream, uint64_t needed, size_t *ret_n);
/* n bytes, of those reserved last, have come; 0 is fine. */
void spool_commit(struct spool *s, size_t n);
/* No more will come: gives back the memory that is not used. */
void spool_seal(struct spool *s);

uint64_t spool_size(const struct spool *s, enum spool_stream stream); /* all that ever came */
uint64_t spool_kept_from(const struct spool *s,
                         enum spool_stream stream); /* offset of the oldest */
size_t spool_memory(const struct spool *s);         /* bytes allocated */
bool spool_has_file(const struct spool *s);

/* Embedded in its owner, private. Needs no end. */
struct spool_reader {
        uint64_t at[SPOOL_STREAMS];   /* offset of the next byte; skipped and lost ones count */
        uint64_t next[SPOOL_STREAMS]; /* offset from which on the reader wants the stream */
        uint64_t block;               /* number of the block it is in, from 0 */
        size_t frame, taken;          /* in the block: a frame, and how much of it was taken */
};

/* From these offsets on, each at most spool_size. */
void spool_reader_init(struct spool_reader *r, const struct spool *s,
                       const uint64_t offsets[SPOOL_STREAMS]);
/* What to give as `needed` when the writer waits for this reader. */
static inline uint64_t spool_reader_position(const struct spool_reader *r)
{
        return r->at[SPOOL_STDOUT] + r->at[SPOOL_STDERR];
}

enum spool_item { SPOOL_NOTHING, SPOOL_DATA, SPOOL_GAP };
struct spool_chunk {
        enum spool_stream stream;
        uint64_t offset; /* of the first byte, or of the first lost one */
        uint64_t to;     /* of a gap: the offset after the last lost byte */
        uint8_t *bytes;  /* gone with the next call for any spool; the SPOOL_HEADROOM bytes before
                          * them are the caller's to write */
        size_t n;
};
/* The next item for this reader. NOTHING: it has all that has come. Gaps are told in the order of
 * the streams, before the data that follows them. */
enum spool_item spool_next(struct spool *s, struct spool_reader *r, struct spool_chunk *ret);
