/* Memory for one decoded message: allocated in chunks, freed at once, with a budget.
 *
 * A message on the wire can grow a hundredfold when protobuf-c unpacks it (4 MiB of empty
 * sub-messages take 372 MiB), so every unpacking of foreign bytes goes through an arena. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena_chunk;

struct arena {
        ProtobufCAllocator allocator; /* hand this to the generated unpack functions */
        struct arena_chunk *chunks;
        size_t used, budget; /* bytes */
        bool exhausted;      /* an allocation was refused */
};

void arena_init(struct arena *a, size_t budget);
/* NULL when the budget or the memory is used up. Aligned for any type. Never freed by itself. */
void *arena_alloc(struct arena *a, size_t n);
void arena_done(struct arena *a); /* frees everything; the arena is as after arena_init */

/* Checks the bytes (protowire_is_valid) and unpacks them. NULL when they are no such message or
 * pass the budget; *ret_exhausted tells which. */
ProtobufCMessage *arena_unpack(struct arena *a, const ProtobufCMessageDescriptor *type,
                               const uint8_t *bytes, size_t n, bool *ret_exhausted);
