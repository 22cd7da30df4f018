#include "rpc/protowire.h"

#include "base/str.h"

static bool take_varint(const uint8_t **bytes, size_t *n, uint64_t *ret)
{
        uint64_t value = 0;

        for (unsigned shift = 0; shift < 64; shift += 7) {
                if (*n == 0)
                        return false;
                uint8_t byte = **bytes;
                (*bytes)++, (*n)--;
                value |= (uint64_t)(byte & 0x7F) << shift;
                if (!(byte & 0x80)) {
                        *ret = value;
                        return true;
                }
        }
        return false;
}

static bool skip(const uint8_t **bytes, size_t *n, uint64_t count)
{
        if (count > *n)
                return false;
        *bytes += count;
        *n -= count;
        return true;
}

static bool take_field(const uint8_t **bytes, size_t *n, struct protowire_field *ret)
{
        uint64_t tag, value;

        if (!take_varint(bytes, n, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
                return false;
        *ret = (struct protowire_field){.number = (uint32_t)(tag >> 3), .type = tag & 7};
        switch (ret->type) {
        case PROTOBUF_C_WIRE_TYPE_VARINT:
                return take_varint(bytes, n, &ret->value);
        case PROTOBUF_C_WIRE_TYPE_64BIT:
                return skip(bytes, n, 8);
        case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
                if (!take_varint(bytes, n, &value))
                        return false;
                ret->bytes = *bytes;
                ret->n = value;
                return skip(bytes, n, value);
        case PROTOBUF_C_WIRE_TYPE_32BIT:
                return skip(bytes, n, 4);
        default:
                return false;
        }
}

bool protowire_next(const uint8_t **bytes, size_t *n, struct protowire_field *ret)
{
        const uint8_t *p = *bytes;
        size_t left = *n;

        if (left == 0 || !take_field(&p, &left, ret))
                return false;
        *bytes = p;
        *n = left;
        return true;
}

bool protowire_find(const uint8_t *bytes, size_t n, uint32_t number, const uint8_t **ret,
                    size_t *ret_n)
{
        struct protowire_field field;

        *ret = NULL;
        *ret_n = 0;
        while (protowire_next(&bytes, &n, &field)) {
                if (field.number == number && field.bytes) {
                        *ret = field.bytes;
                        *ret_n = field.n;
                }
        }
        return n == 0;
}

size_t protowire_put_varint(uint8_t *out, uint64_t value)
{
        size_t n = 0;

        for (; value > 0x7F; value >>= 7)
                out[n++] = (uint8_t)(value | 0x80);
        out[n++] = (uint8_t)value;
        return n;
}

size_t protowire_put_head(uint8_t *out, unsigned number, size_t n)
{
        out[0] = (uint8_t)(number << 3 | PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED);
        return 1 + protowire_put_varint(out + 1, n);
}

/* Its depth is that of the message types, which do not recurse (rpc/methods.py refuses those). */
bool protowire_is_valid(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t n)
{
        struct protowire_field field;

        while (protowire_next(&bytes, &n, &field)) {
                const ProtobufCFieldDescriptor *known =
                        protobuf_c_message_descriptor_get_field(type, field.number);
                if (!known || !field.bytes)
                        continue;
                if (known->type == PROTOBUF_C_TYPE_STRING && !str_is_utf8(field.bytes, field.n))
                        return false;
                if (known->type == PROTOBUF_C_TYPE_MESSAGE &&
                    !protowire_is_valid(known->descriptor, field.bytes, field.n))
                        return false;
        }
        return n == 0;
}
