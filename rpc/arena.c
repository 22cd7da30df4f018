#include "rpc/arena.h"

#include <stdlib.h>

#include "base/util.h"
#include "rpc/protowire.h"

#define CHUNK_SIZE 4096

struct arena_chunk {
        struct arena_chunk *next;
        size_t used, size;
        _Alignas(max_align_t) unsigned char memory[];
};

static void *allocator_alloc(void *data, size_t n)
{
        return arena_alloc(data, n);
}

static void allocator_free(void *data, void *p)
{
        (void)data, (void)p; /* the arena goes as a whole */
}

void arena_init(struct arena *a, size_t budget)
{
        *a = (struct arena){
                .allocator = {.alloc = allocator_alloc,
                              .free = allocator_free,
                              .allocator_data = a},
                .budget = budget,
        };
}

#ifdef __SANITIZE_ADDRESS__ /* which is to see who uses a message after its end */
#define KEEP_SPARE false
#else
#define KEEP_SPARE true
#endif

/* A chunk of the usual size is kept for the next message: there is one loop on one thread. */
static struct arena_chunk *spare;

static struct arena_chunk *add_chunk(struct arena *a, size_t n)
{
        size_t size = MAX(n, (size_t)CHUNK_SIZE);
        struct arena_chunk *c =
                size == CHUNK_SIZE && spare ? TAKE(spare) : malloc(sizeof(*c) + size);
        if (!c)
                return NULL;
        c->next = a->chunks;
        c->used = 0;
        c->size = size;
        a->chunks = c;
        return c;
}

void *arena_alloc(struct arena *a, size_t n)
{
        size_t align = _Alignof(max_align_t);

        if (n > a->budget || (n = (n + align - 1) & ~(align - 1)) > a->budget - a->used) {
                a->exhausted = true;
                return NULL;
        }
        struct arena_chunk *c = a->chunks;
        if (!c || c->size - c->used < n)
                c = add_chunk(a, n);
        if (!c) {
                a->exhausted = true;
                return NULL;
        }
        void *p = c->memory + c->used;
        c->used += n;
        a->used += n;
        return p;
}

void arena_done(struct arena *a)
{
        for (struct arena_chunk *c = a->chunks, *next; c; c = next) {
                next = c->next;
                if (c->size == CHUNK_SIZE && !spare && KEEP_SPARE)
                        spare = c;
                else
                        free(c);
        }
        a->chunks = NULL;
        a->used = 0;
        a->exhausted = false;
}

ProtobufCMessage *arena_unpack(struct arena *a, const ProtobufCMessageDescriptor *type,
                               const uint8_t *bytes, size_t n, bool *ret_exhausted)
{
        ProtobufCMessage *message = NULL;

        if (protowire_is_valid(type, bytes, n))
                message = protobuf_c_message_unpack(type, &a->allocator, n, bytes);
        *ret_exhausted = a->exhausted;
        return message;
}
