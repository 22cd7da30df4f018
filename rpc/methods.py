#!/usr/bin/python3
"""Writes NAME.h and NAME.c from a descriptor set that protoc made with --include_imports.

usage: methods.py DESCRIPTOR_SET OUTPUT_DIR [NAME]     NAME: methods

What protobuf-c loses comes from protoc's descriptor set: which methods stream (the tables of
rpc/method.h), and the descriptors themselves (NAME_descriptors, of rpc/descriptors.h). Services in
files that another one of the set imports get no table: those are somebody else's.

Messages that the C decoder cannot take safely are refused here: recursive ones (protobuf-c has no
depth limit) and proto3 `optional` (protoc-c has no support for it).
"""

import re
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def descriptor_symbol(type_name):
    """The C name that protoc-c gives to the descriptor of `.pkg.v1.FooBar`."""
    return "__".join(snake(part) for part in type_name.lstrip(".").split(".")) + "__descriptor"


def service_symbol(file, service):
    """Ours go by their own name, those of others by their full one."""
    own = file.package.startswith("sandboxd.")
    return snake(service.name if own else f"{file.package}.{service.name}").replace(".", "_")


def messages_of(file):
    def walk(prefix, messages):
        for message in messages:
            name = f"{prefix}.{message.name}"
            yield name, message
            yield from walk(name, message.nested_type)

    yield from walk("." + file.package if file.package else "", file.message_type)


def refuse_unsafe(files):
    fields = {name: message.field for file in files for name, message in messages_of(file)}
    for name, own in fields.items():
        for field in own:
            if field.proto3_optional:
                sys.exit(f"{name}.{field.name}: proto3 optional is not allowed")

    done = set()

    def visit(name, path):
        if name in path:
            sys.exit("recursive message: " + " -> ".join([*path, name]))
        if name not in done:
            for field in fields[name]:
                if field.type_name in fields:
                    visit(field.type_name, [*path, name])
            done.add(name)

    for name in fields:
        visit(name, [])


# --- services ------------------------------------------------------------------------------------

def service_table(file, service):
    """The lines for the header, and those for the source."""
    symbol = service_symbol(file, service)
    indexes = [f"        {symbol.upper()}_{snake(method.name).upper()},"
               for method in service.method]
    rows = [f'        {{"{method.name}", {str(method.client_streaming).lower()}, '
            f'{str(method.server_streaming).lower()},\n'
            f'         &{descriptor_symbol(method.input_type)},\n'
            f'         &{descriptor_symbol(method.output_type)},\n'
            f'         {str(method.options.idempotency_level > 0).lower()}}},'
            for method in service.method]
    return ([f"extern const struct rpc_service {symbol};", "enum {", *indexes, "};"],
            ["", f"static const struct rpc_method {symbol}_methods[] = {{", *rows, "};",
             f"const struct rpc_service {symbol} = {{",
             f'        "{file.package}.{service.name}", {symbol}_methods,',
             f"        {len(service.method)}}};"])


# --- descriptors ---------------------------------------------------------------------------------

def symbols_of(file):
    """The full names of the messages that a file declares, and of all else there."""
    package = f"{file.package}." if file.package else ""
    messages = {name.lstrip("."): message for name, message in messages_of(file)}
    others = []

    def add_enums(prefix, enums):
        for enum in enums:  # its values are its siblings
            others.extend(prefix + part.name for part in [enum, *enum.value])

    add_enums(package, file.enum_type)
    for name, message in messages.items():
        others.extend(f"{name}.{part.name}" for part in [*message.field, *message.oneof_decl])
        add_enums(name + ".", message.enum_type)
    for service in file.service:
        others.append(package + service.name)
        others.extend(f"{package}{service.name}.{method.name}" for method in service.method)
    return list(messages), others


def with_imports(name, files):
    """A file and all that it imports, itself first, each once."""
    found = [name]
    for known in found:
        found += [other for other in files[known].dependency if other not in found]
    return found


def descriptor_table(files, name):
    index = {file.name: i for i, file in enumerate(files)}
    by_name = {file.name: file for file in files}
    lines = []
    for i, file in enumerate(files):
        data = file.SerializeToString()
        closure = [str(index[other]) for other in with_imports(file.name, by_name)]
        lines += ["", f"/* {file.name} */", f"static const uint8_t file_{i}[] = {{",
                  *("        " + ", ".join(map(str, data[at:at + 20])) + ","
                    for at in range(0, len(data), 20)),
                  "};", f"static const uint16_t closure_{i}[] = {{{', '.join(closure)}}};"]
    lines += ["", "static const struct rpc_descriptor_file files[] = {"]
    lines += [f'        {{"{file.name}", file_{i}, sizeof(file_{i}), closure_{i},\n'
              f"         sizeof(closure_{i}) / sizeof(closure_{i}[0])}},"
              for i, file in enumerate(files)]
    symbols = []
    for i, file in enumerate(files):
        messages, others = symbols_of(file)
        symbols += [(symbol, i, "true") for symbol in messages]
        symbols += [(symbol, i, "false") for symbol in others]
    lines += ["};", "static const struct rpc_descriptor_symbol symbols[] = {"]
    lines += [f'        {{"{symbol}", {i}, {is_message}}},'
              for symbol, i, is_message in sorted(symbols)]
    return [*lines, "};", f"const struct rpc_descriptors {name}_descriptors = {{",
            f"        files, {len(files)}, symbols, {len(symbols)}}};"]


def main(descriptor_set, output, name="methods"):
    files = descriptor_pb2.FileDescriptorSet.FromString(Path(descriptor_set).read_bytes()).file
    refuse_unsafe([file for file in files if not file.package.startswith("google.protobuf")])
    imported = {other for file in files for other in file.dependency}
    own = [file for file in files if file.service and file.name not in imported]

    header = ["#pragma once", '#include "rpc/descriptors.h"', '#include "rpc/method.h"', "",
              f"extern const struct rpc_descriptors {name}_descriptors;"]
    source = [f'#include "{name}.h"',
              *(f'#include "{file.name.removesuffix(".proto")}.pb-c.h"' for file in own)]
    for file in own:
        for service in file.service:
            declared, defined = service_table(file, service)
            header += declared
            source += defined
    header += ["/* All of them; NULL at the end. */",
               f"extern const struct rpc_service *const {name}_services[];"]
    source += ["", f"const struct rpc_service *const {name}_services[] = {{",
               *(f"        &{service_symbol(file, service)}," for file in own
                 for service in file.service), "        NULL};"]
    source += descriptor_table(files, name)
    Path(output, f"{name}.h").write_text("\n".join(header) + "\n")
    Path(output, f"{name}.c").write_text("\n".join(source) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
