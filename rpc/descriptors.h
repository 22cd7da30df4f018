/* Descriptors of .proto files as data, for server reflection. The tables are generated from the
 * descriptor set at build time (rpc/methods.py): `methods_descriptors` in build/gen/methods.h. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rpc_descriptor_file {
        const char *name;     /* as an import names it: "google/protobuf/any.proto" */
        const uint8_t *bytes; /* a serialized google.protobuf.FileDescriptorProto */
        size_t n;
        const uint16_t *closure; /* itself, then all it imports, however indirectly: indexes of
                                  * the table's files */
        size_t n_closure;
};

/* The full name of a message, field, oneof, enum, enum value, service or method. */
struct rpc_descriptor_symbol {
        const char *name;
        uint16_t file; /* that declares it: an index of the table's files */
        bool is_message;
};

struct rpc_descriptors {
        const struct rpc_descriptor_file *files;
        size_t n_files;
        const struct rpc_descriptor_symbol *symbols; /* sorted as strcmp does */
        size_t n_symbols;
};
