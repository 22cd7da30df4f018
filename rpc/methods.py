#!/usr/bin/python3
"""Writes methods.h and methods.c from a descriptor set.

usage: methods.py DESCRIPTOR_SET OUTPUT_DIR

protobuf-c's own service descriptors lose which methods stream, so the tables come from protoc's
descriptor set. Messages that the C decoder cannot take safely are refused here: recursive ones
(protobuf-c has no depth limit) and proto3 `optional` (protoc-c has no support for it).
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


def main(descriptor_set, output):
    files = descriptor_pb2.FileDescriptorSet.FromString(Path(descriptor_set).read_bytes()).file
    refuse_unsafe([file for file in files if not file.package.startswith("google.protobuf")])

    header = ['#pragma once', '#include "rpc/method.h"', '']
    source = ['#include "methods.h"']
    tables = []
    for file in files:
        if not file.service:
            continue
        source.append(f'#include "{file.name.removesuffix(".proto")}.pb-c.h"')
        for service in file.service:
            symbol = snake(service.name)
            header.append(f"extern const struct rpc_service {symbol};")
            header.append("enum {")
            rows = []
            for method in service.method:
                header.append(f"        {symbol.upper()}_{snake(method.name).upper()},")
                streams = [str(flag).lower()
                           for flag in (method.client_streaming, method.server_streaming)]
                rows.append(f'        {{"{method.name}", {streams[0]}, {streams[1]},\n'
                            f'         &{descriptor_symbol(method.input_type)},\n'
                            f'         &{descriptor_symbol(method.output_type)}}},')
            header.append("};")
            tables += ["", f"static const struct rpc_method {symbol}_methods[] = {{", *rows, "};",
                       f"const struct rpc_service {symbol} = {{",
                       f'        "{file.package}.{service.name}", {symbol}_methods,',
                       f"        {len(service.method)}}};"]
    Path(output, "methods.h").write_text("\n".join(header) + "\n")
    Path(output, "methods.c").write_text("\n".join(source + tables) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
