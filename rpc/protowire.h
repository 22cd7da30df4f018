/* Reading protobuf's wire format without unpacking it.
 * https://protobuf.dev/programming-guides/encoding/ */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct protowire_field {
        uint32_t number;
        unsigned type;        /* PROTOBUF_C_WIRE_TYPE_* */
        const uint8_t *bytes; /* of a length-prefixed field, else NULL */
        size_t n;
        uint64_t value; /* of a varint */
};

/* Takes the next field off the front of *bytes; false at the end (*n is 0 then) or when the bytes
 * are malformed (*n is not 0). Groups, long dead, count as malformed. */
bool protowire_next(const uint8_t **bytes, size_t *n, struct protowire_field *ret);

/* The last value of a length-prefixed field, as a decoder would see it; false when the message is
 * malformed. *ret is NULL when the field is absent. */
bool protowire_find(const uint8_t *bytes, size_t n, uint32_t number, const uint8_t **ret,
                    size_t *ret_n);

/* Writes a varint, at most 10 bytes. Returns how many. */
size_t protowire_put_varint(uint8_t *out, uint64_t value);
/* Writes what precedes a length-prefixed field of n bytes: number below 16, out with room for 6
 * bytes. Returns how many it wrote. */
size_t protowire_put_head(uint8_t *out, unsigned number, size_t n);

/* True when the bytes are well formed down to the last submessage and every string is UTF-8 without
 * NUL (protobuf-c accepts both faults, and cuts the string at the NUL). */
bool protowire_is_valid(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t n);
