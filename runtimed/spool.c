#include "runtimed/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/id.h"
#include "base/str.h"

/* A block is a row of frames: a head, and bytes of one stream. Every frame lies in one block. */
#define BLOCK      (128 * KiB) /* of its frames, and of a slot of the file */
#define BLOCKS_MAX (SPOOL_SIZE_MAX / BLOCK)
#define AREA_MIN   (4 * KiB) /* what a process that prints little costs */
#define HEAD       sizeof(uint32_t)
/* What is smaller is not worth a read(2): it is offered when nothing else can be. */
#define SLIVER 512

#define IN_MEMORY -1 /* instead of a slot */

struct block {
        uint64_t start[SPOOL_STREAMS]; /* offsets of its first bytes */
        uint64_t sum;                  /* of what was written to the file */
        uint32_t length;               /* of its frames, with their heads */
        int32_t slot;
};

struct area {
        uint8_t *bytes;
        size_t allocated;
};

struct spool {
        struct spool_place *place;
        uint64_t size[SPOOL_STREAMS];
        /* From the oldest to the newest, which is always there: number i at blocks[i % ring]. */
        struct block *blocks;
        size_t ring;
        uint64_t oldest, newest;
        uint64_t blocks_max;
        struct area current;        /* the newest block */
        struct area previous;       /* the one before it, or spare when that is not IN_MEMORY */
        size_t last;                /* the newest frame, in the current area; when it has one */
        enum spool_stream reserved; /* for which there was room made last */
        int fd;                     /* of the file; -1: none yet */
        unsigned slots;             /* of the file, paid for in place->used */
        uint64_t occupied[BLOCKS_MAX / 64]; /* a bit for each slot that holds a block */
};

/* The last block that was read from a file, of whichever spool: its frames may be small, and each
 * is given by a call of its own. There is one thread. */
static struct {
        alignas(4096) uint8_t bytes[BLOCK];
        const struct spool *spool; /* NULL: none */
        uint64_t number;
} cache;

static struct {
        uint8_t headroom[SPOOL_HEADROOM];
        uint8_t bytes[SPOOL_CHUNK];
} chunk;

static struct block *block_of(const struct spool *s, uint64_t number)
{
        return &s->blocks[number % s->ring];
}

static uint64_t count_blocks(const struct spool *s)
{
        return s->newest - s->oldest + 1;
}

static bool previous_is_in_memory(const struct spool *s)
{
        return s->newest > s->oldest && block_of(s, s->newest - 1)->slot == IN_MEMORY;
}

/* --- frames -------------------------------------------------------------------------------- */

struct frame {
        enum spool_stream stream;
        size_t length; /* without the head */
};

static struct frame head_read(const uint8_t *bytes)
{
        uint32_t head;

        memcpy(&head, bytes, HEAD);
        return (struct frame){.stream = head & 1 ? SPOOL_STDERR : SPOOL_STDOUT,
                              .length = head >> 1};
}

static void head_write(uint8_t *bytes, enum spool_stream stream, size_t length)
{
        uint32_t head = (uint32_t)length << 1 | (stream == SPOOL_STDERR);

        memcpy(bytes, &head, HEAD);
}

/* The newest frame is of this stream, and grows. */
static bool is_extended(const struct spool *s, enum spool_stream stream)
{
        return block_of(s, s->newest)->length &&
               head_read(s->current.bytes + s->last).stream == stream;
}

/* --- the file ------------------------------------------------------------------------------ */

/* The sandbox owns the directory and may do anything to it, at any moment. */
static bool file_open(struct spool *s)
{
        char id[ID_LEN + 1];
        _cleanup_free_ char *path = NULL;

        if (s->fd >= 0)
                return true;
        if (id_new(id) < 0 || !(path = str_printf("%s/.spool-%s", s->place->directory, id)))
                return false;
        s->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (s->fd < 0)
                return false;
        (void)unlink(path); /* somebody else has done it, or it stays */
        return true;
}

static bool write_at(int fd, const uint8_t *bytes, size_t n, uint64_t offset)
{
        while (n > 0) {
                ssize_t r = TEMP_FAILURE_RETRY(pwrite(fd, bytes, n, (off_t)offset));
                if (r <= 0)
                        return false;
                bytes += r;
                n -= (size_t)r;
                offset += (size_t)r;
        }
        return true;
}

static bool read_at(int fd, uint8_t *bytes, size_t n, uint64_t offset)
{
        while (n > 0) {
                ssize_t r = TEMP_FAILURE_RETRY(pread(fd, bytes, n, (off_t)offset));
                if (r <= 0)
                        return false;
                bytes += r;
                n -= (size_t)r;
                offset += (size_t)r;
        }
        return true;
}

/* Fletcher's, of 64-bit words: tells what disks and file systems do to a file (holes, blocks of
 * before). Whoever can write to the file on purpose can also print what he likes. */
static uint64_t sum(const uint8_t *bytes, size_t n)
{
        uint64_t word, a = 1, b = 0;

        for (; n >= sizeof(word); bytes += sizeof(word), n -= sizeof(word)) {
                memcpy(&word, bytes, sizeof(word));
                a += word;
                b += a;
        }
        word = 0;
        memcpy(&word, bytes, n);
        a += word;
        return (b + a) ^ (a << 32 | a >> 32);
}

/* The first free slot; at most one that the file does not have yet. */
static unsigned slot_find(const struct spool *s)
{
        unsigned i = 0;

        while (s->occupied[i / 64] == UINT64_MAX)
                i += 64;
        return i + (unsigned)__builtin_ctzll(~s->occupied[i / 64]);
}

static bool evict_to(struct spool *s, struct block *b, unsigned slot)
{
        if (!file_open(s) || !write_at(s->fd, s->previous.bytes, b->length, slot * BLOCK))
                return false;
        b->sum = sum(s->previous.bytes, b->length);
        b->slot = (int32_t)slot;
        s->occupied[slot / 64] |= 1ULL << slot % 64;
        return true;
}

static bool place_has_room(struct spool_place *place)
{
        while (place->used + BLOCK > place->max)
                if (!place->make_room || !place->make_room(place))
                        return false;
        return true;
}

/* Brings the previous block from memory to the file. */
static bool evict(struct spool *s)
{
        struct block *b = block_of(s, s->newest - 1);
        unsigned slot = slot_find(s);

        if (slot < s->slots)
                return evict_to(s, b, slot);
        if (!place_has_room(s->place))
                return false;
        if (!evict_to(s, b, slot)) {
                if (s->fd >= 0) /* what was written of it fills the disk to no use */
                        (void)!ftruncate(s->fd, (off_t)(s->slots * BLOCK)); /* then it stays */
                return false;
        }
        s->slots++;
        s->place->used += BLOCK;
        return true;
}

/* NULL: it cannot be read, or is not what was written. */
static const uint8_t *block_bytes(const struct spool *s, uint64_t number)
{
        const struct block *b = block_of(s, number);

        if (b->slot == IN_MEMORY)
                return number == s->newest ? s->current.bytes : s->previous.bytes;
        if (cache.spool == s && cache.number == number)
                return cache.bytes;
        cache.spool = NULL;
        if (!read_at(s->fd, cache.bytes, b->length, (unsigned)b->slot * BLOCK) ||
            sum(cache.bytes, b->length) != b->sum)
                return NULL;
        cache.spool = s;
        cache.number = number;
        return cache.bytes;
}

/* --- the writer ---------------------------------------------------------------------------- */

static bool area_grow(struct area *a, size_t want)
{
        size_t size = MIN(MAX(2 * a->allocated, AREA_MIN), BLOCK);

        if (want > BLOCK)
                return false;
        uint8_t *bytes = realloc(a->bytes, size);
        if (!bytes)
                return false;
        *a = (struct area){.bytes = bytes, .allocated = size};
        return true;
}

static void area_shrink(struct area *a, size_t size)
{
        if (!size) {
                free(a->bytes);
                *a = (struct area){0};
                return;
        }
        uint8_t *bytes = realloc(a->bytes, size);
        if (bytes)
                *a = (struct area){.bytes = bytes, .allocated = size};
}

static bool ring_resize(struct spool *s, size_t n)
{
        struct block *blocks = malloc(n * sizeof(*blocks));

        if (!blocks)
                return false;
        for (uint64_t i = s->oldest; i <= s->newest; i++)
                blocks[i % n] = *block_of(s, i);
        free(s->blocks);
        s->blocks = blocks;
        s->ring = n;
        return true;
}

static void drop_oldest(struct spool *s)
{
        int slot = block_of(s, s->oldest)->slot;

        if (slot != IN_MEMORY)
                s->occupied[slot / 64] &= ~(1ULL << slot % 64);
        s->oldest++;
}

/* Half of what there is must lie before the reader. It is counted in blocks, of which a tiny frame
 * takes much: so a reader that is up to date is never waited for. */
static bool oldest_may_be_dropped(const struct spool *s, uint64_t needed)
{
        const struct block *b = block_of(s, s->oldest + count_blocks(s) / 2);

        return needed >= b->start[SPOOL_STDOUT] + b->start[SPOOL_STDERR];
}

/* Makes that one more block can be had, and that previous is spare, dropping nothing. */
static bool make_way(struct spool *s)
{
        uint64_t n = count_blocks(s);

        return n < s->blocks_max && (n < s->ring || ring_resize(s, 2 * s->ring)) &&
               (!previous_is_in_memory(s) || evict(s));
}

/* Begins a new block. */
static bool roll(struct spool *s, uint64_t needed)
{
        while (!make_way(s)) {
                /* A block alone has a way, unless there is no memory. */
                if (s->newest == s->oldest || !oldest_may_be_dropped(s, needed))
                        return false;
                drop_oldest(s);
        }
        if (!s->previous.bytes && !area_grow(&s->previous, AREA_MIN))
                return false;
        struct area spare = s->previous;
        s->previous = s->current;
        s->current = spare;
        struct block *b = block_of(s, ++s->newest);
        *b = (struct block){.slot = IN_MEMORY};
        memcpy(b->start, s->size, sizeof(b->start));
        return true;
}

uint8_t *spool_reserve(struct spool *s, enum spool_stream stream, uint64_t needed, size_t *ret_n)
{
        size_t start = block_of(s, s->newest)->length + (is_extended(s, stream) ? 0 : HEAD);

        if (start + SLIVER > s->current.allocated && !area_grow(&s->current, start + SLIVER) &&
            roll(s, needed))
                start = HEAD;
        if (start >= s->current.allocated)
                return NULL;
        s->reserved = stream;
        *ret_n = s->current.allocated - start;
        return s->current.bytes + start;
}

void spool_commit(struct spool *s, size_t n)
{
        struct block *b = block_of(s, s->newest);

        if (n == 0)
                return;
        if (!is_extended(s, s->reserved)) {
                s->last = b->length;
                b->length += (uint32_t)HEAD;
        }
        b->length += (uint32_t)n;
        s->size[s->reserved] += n;
        head_write(s->current.bytes + s->last, s->reserved, b->length - s->last - HEAD);
}

void spool_seal(struct spool *s)
{
        area_shrink(&s->current, block_of(s, s->newest)->length);
        area_shrink(&s->previous,
                    previous_is_in_memory(s) ? block_of(s, s->newest - 1)->length : 0);
        (void)ring_resize(s, count_blocks(s)); /* it may stay as it is */
}

/* --- its life ------------------------------------------------------------------------------ */

int spool_new(struct spool_place *place, uint64_t size, struct spool **ret)
{
        struct spool *s = calloc(1, sizeof(*s));
        struct block *blocks = calloc(1, sizeof(*blocks));

        if (!s || !blocks) {
                free(s);
                free(blocks);
                return -ENOMEM;
        }
        blocks->slot = IN_MEMORY;
        *s = (struct spool){.place = place,
                            .blocks = blocks,
                            .ring = 1,
                            .blocks_max = MIN(MAX(size, SPOOL_SIZE_MIN), SPOOL_SIZE_MAX) / BLOCK,
                            .fd = -1};
        *ret = s;
        return 0;
}

void spool_free(struct spool *s)
{
        if (!s)
                return;
        if (cache.spool == s) {
                cache.spool = NULL;
                (void)madvise(cache.bytes, sizeof(cache.bytes), MADV_DONTNEED); /* to be small */
        }
        if (s->fd >= 0)
                (void)close(s->fd); /* nobody wants what is in it any more */
        s->place->used -= s->slots * BLOCK;
        free(s->current.bytes);
        free(s->previous.bytes);
        free(s->blocks);
        free(s);
}

uint64_t spool_size(const struct spool *s, enum spool_stream stream)
{
        return s->size[stream];
}

uint64_t spool_kept_from(const struct spool *s, enum spool_stream stream)
{
        return block_of(s, s->oldest)->start[stream];
}

size_t spool_memory(const struct spool *s)
{
        return sizeof(*s) + s->ring * sizeof(*s->blocks) + s->current.allocated +
               s->previous.allocated;
}

bool spool_has_file(const struct spool *s)
{
        return s->slots > 0;
}

/* --- readers ------------------------------------------------------------------------------- */

/* Goes on with a block's first byte; what the reader has not had of those before it is lost. */
static void enter(struct spool_reader *r, const struct spool *s, uint64_t number)
{
        memcpy(r->at, block_of(s, number)->start, sizeof(r->at));
        r->block = number;
        r->frame = 0;
        r->taken = 0;
}

/* The reader wants nothing of the blocks before this one. */
static bool wants_none_before(const struct spool_reader *r, const struct block *b)
{
        return b->start[SPOOL_STDOUT] <= r->next[SPOOL_STDOUT] &&
               b->start[SPOOL_STDERR] <= r->next[SPOOL_STDERR];
}

void spool_reader_init(struct spool_reader *r, const struct spool *s,
                       const uint64_t offsets[SPOOL_STREAMS])
{
        uint64_t first = s->oldest, last = s->newest;

        memcpy(r->next, offsets, sizeof(r->next));
        while (first < last) { /* it is first, or one behind it up to last */
                uint64_t middle = last - (last - first) / 2;
                if (wants_none_before(r, block_of(s, middle)))
                        first = middle;
                else
                        last = middle - 1;
        }
        enter(r, s, first);
        uint32_t length = block_of(s, first)->length;
        if (length > 0 && memcmp(r->next, s->size, sizeof(s->size)) == 0) {
                memcpy(r->at, s->size, sizeof(r->at));
                r->frame = s->last;
                r->taken = length - s->last - HEAD;
        }
}

static bool has_block_done(const struct spool_reader *r, const struct block *b)
{
        return b->length == r->frame + (r->taken ? HEAD + r->taken : 0);
}

/* The frame from which the next byte comes. False: there is none that could have been written. */
static bool next_frame(const struct spool *s, struct spool_reader *r, const uint8_t *bytes,
                       struct frame *ret)
{
        size_t length = block_of(s, r->block)->length;
        const uint64_t *ends = r->block == s->newest ? s->size : block_of(s, r->block + 1)->start;

        if (length - r->frame < HEAD)
                return false;
        struct frame f = head_read(bytes + r->frame);
        if (r->taken == f.length) {
                r->frame += HEAD + r->taken;
                r->taken = 0;
                if (length - r->frame < HEAD)
                        return false;
                f = head_read(bytes + r->frame);
        }
        if (r->taken >= f.length || f.length > length - r->frame - HEAD ||
            f.length - r->taken > ends[f.stream] - r->at[f.stream])
                return false;
        *ret = f;
        return true;
}

static void advance(struct spool_reader *r, enum spool_stream stream, size_t n)
{
        r->at[stream] += n;
        r->taken += n;
}

/* Takes from a frame what is wanted; false: nothing is. bytes are those of the frame. */
static bool take_data(struct spool_reader *r, const struct frame *f, const uint8_t *bytes,
                      struct spool_chunk *ret)
{
        uint64_t at = r->at[f->stream], next = r->next[f->stream];

        advance(r, f->stream, MIN(next - at, f->length - r->taken));
        size_t n = MIN(f->length - r->taken, SPOOL_CHUNK);
        if (n == 0)
                return false;
        *ret = (struct spool_chunk){
                .stream = f->stream, .offset = next, .bytes = chunk.bytes, .n = n};
        memcpy(chunk.bytes, bytes + r->taken, n);
        advance(r, f->stream, n);
        r->next[f->stream] += n;
        return true;
}

static bool take_gap(struct spool_reader *r, struct spool_chunk *ret)
{
        for (unsigned i = 0; i < SPOOL_STREAMS; i++) {
                if (r->next[i] < r->at[i]) {
                        *ret = (struct spool_chunk){.stream = (enum spool_stream)i,
                                                    .offset = r->next[i],
                                                    .to = r->at[i]};
                        r->next[i] = r->at[i];
                        return true;
                }
        }
        return false;
}

enum spool_item spool_next(struct spool *s, struct spool_reader *r, struct spool_chunk *ret)
{
        struct frame f;

        if (r->block < s->oldest)
                enter(r, s, s->oldest);
        for (;;) {
                if (take_gap(r, ret))
                        return SPOOL_GAP;
                if (has_block_done(r, block_of(s, r->block))) {
                        if (r->block == s->newest)
                                return SPOOL_NOTHING;
                        enter(r, s, r->block + 1);
                        continue;
                }
                const uint8_t *bytes = block_bytes(s, r->block);
                if (!bytes || !next_frame(s, r, bytes, &f))
                        enter(r, s, r->block + 1); /* the newest is in memory and always good */
                else if (take_data(r, &f, bytes + r->frame + HEAD, ret))
                        return SPOOL_DATA;
        }
}
