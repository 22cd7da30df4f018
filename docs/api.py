#!/usr/bin/python3
"""Writes docs/api.md: docs/api.in.md with the reference, made of the comments in
proto/sandboxd/v1, and with the examples put in.

usage: api.py [--check]

--check writes nothing and fails when the page is not what it would be now. Either fails when
something in the API is not documented:

- every service, method, enum, and message but the Request and Response of a method has a comment;
- so has every field but `sandbox_id`, which the service's comment explains, and those whose type
  is a message or enum of the API, which explains itself; and every value of an enum but the first;
- a field of a Request says "Default" or "Required";
- a method says which errors it gives, each in a paragraph that begins with the code ("NOT_FOUND:
  ..."), or that it has "No errors of its own."; a service may list those of all its methods.
"""

import re
import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE, PAGE = ROOT / "docs/api.in.md", ROOT / "docs/api.md"
PACKAGE = ".sandboxd.v1."
CODES = ("CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS "
         "PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE "
         "UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED").split()
NO_ERRORS = "No errors of its own."
ERROR = re.compile(rf"((?:{'|'.join(CODES)})(?:, (?:{'|'.join(CODES)}))*): (.*)", re.S)
LANGUAGES = {".py": "python", ".js": "js", ".go": "go", ".rs": "rust", ".sh": "sh"}
# The order on the page; what is not named here comes after it.
FILES = ["sandbox", "process"]

Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {value: name.removeprefix("TYPE_").lower() for name, value in Field.Type.items()}
# A comment's path is made of the numbers of the fields that lead to what it is about, and of
# indices (descriptor.proto). MEMBERS: the fields, values or methods of one of the first three.
MESSAGES, ENUMS, SERVICES, MEMBERS = 4, 5, 6, 2


class Undocumented(Exception):
    pass


def descriptors():
    """(file, {path: comment}) of the API's files, in the order of the page."""
    protos = sorted((ROOT / "proto/sandboxd/v1").glob("*.proto"),
                    key=lambda p: (FILES.index(p.stem) if p.stem in FILES else len(FILES), p.stem))
    command = ["protoc", f"-I{ROOT}/proto", "--include_source_info",
               "--descriptor_set_out=/dev/stdout", *protos]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    files = {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(output).file}
    for proto in protos:
        file = files[f"sandboxd/v1/{proto.name}"]
        yield file, {tuple(location.path): location.leading_comments
                     for location in file.source_code_info.location}


def paragraphs(comment):
    """Of a comment; one that begins with a code begins a paragraph of its own."""
    result, new = [], True
    for line in (line.strip() for line in comment.splitlines()):
        if line and (new or ERROR.match(line)):
            result.append(line)
        elif line:
            result[-1] += " " + line
        new = not line
    return result


def cell(text):
    return text.replace("|", "\\|")


def anchor(heading):
    return re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")


class Reference:
    """The text of the page about the files added to it."""

    def __init__(self):
        self.services, self.types, self.messages = [], [], {}

    def add(self, file, comments):
        for i, message in enumerate(file.message_type):
            if message.enum_type or any(not m.options.map_entry for m in message.nested_type):
                raise Undocumented(f"{message.name}: types within a type do not get onto the page")
            self.messages[f".{file.package}.{message.name}"] = message, (MESSAGES, i), comments
        self.services += [(s, (SERVICES, i), comments) for i, s in enumerate(file.service)]
        wrappers = {name for s in file.service for method in s.method
                    for name in (method.input_type, method.output_type)}
        self.types += [(m, (MESSAGES, i), comments) for i, m in enumerate(file.message_type)
                       if f".{file.package}.{m.name}" not in wrappers]
        self.types += [(e, (ENUMS, i), comments) for i, e in enumerate(file.enum_type)]

    def text(self):
        lines = []
        for service, path, comments in self.services:
            lines += self.service(service, path, comments)
        lines += ["## Types", ""]
        for one, path, comments in self.types:
            is_enum = isinstance(one, descriptor_pb2.EnumDescriptorProto)
            lines += [f"### {one.name}", "", *self.comment(one.name, path, comments)]
            lines += [self.values(one, path, comments) if is_enum
                      else self.fields(one, path, comments), ""]
        return "\n".join(lines).rstrip()

    def comment(self, what, path, comments):
        text = paragraphs(comments.get(path, ""))
        if not text:
            raise Undocumented(f"{what} has no comment")
        return [line for paragraph in text for line in (paragraph, "")]

    def prose_and_errors(self, what, path, comments):
        text = [line for line in self.comment(what, path, comments) if line]
        errors = [ERROR.fullmatch(line) for line in text]
        if any(late and not now for late, now in zip(errors, errors[1:])):
            raise Undocumented(f"{what}: text after its errors")
        prose = [line for line, error in zip(text, errors) if not error]
        rows = [f"| `{e[1].replace(', ', '`, `')}` | {cell(e[2][0].upper() + e[2][1:])} |"
                for e in errors if e]
        return prose, rows

    def service(self, service, path, comments):
        prose, errors = self.prose_and_errors(service.name, path, comments)
        lines = [f"## {service.name}", ""]
        for paragraph in prose:
            lines += [paragraph, ""]
        if errors:
            lines += ["| error of its methods | when |", "|---|---|", *errors, ""]
        for i, method in enumerate(service.method):
            lines += self.method(service, method, (*path, MEMBERS, i), comments)
        return lines

    def method(self, service, method, path, comments):
        name = f"{service.name}.{method.name}"
        prose, errors = self.prose_and_errors(name, path, comments)
        if bool(errors) == any(NO_ERRORS in paragraph for paragraph in prose):
            raise Undocumented(f"{name} must list its errors, or say: {NO_ERRORS}")
        stream = {(False, False): "Unary", (False, True): "Server streaming",
                  (True, False): "Client streaming", (True, True): "Bidirectional streaming"}
        lines = [f"### {name}", "",
                 f"{stream[method.client_streaming, method.server_streaming]}. {prose[0]}", ""]
        for paragraph in prose[1:]:
            lines += [paragraph, ""]
        for label, wrapper in ("request", method.input_type), ("response", method.output_type):
            if not self.messages[wrapper][0].field:
                lines += [f"The {label} is empty.", ""]
            else:
                lines += [self.fields(*self.messages[wrapper], label), ""]
        if errors:
            lines += ["| error | when |", "|---|---|", *errors, ""]
        return lines

    def type(self, message, field):
        """Its name on the page, and whether it explains itself there."""
        name = field.type_name.rpartition(".")[2] if field.type_name else SCALARS[field.type]
        entry = [m for m in message.nested_type if m.name == name and m.options.map_entry]
        if entry:
            key, value = (self.type(entry[0], f)[0] for f in entry[0].field)
            return f"map of {key} to {value}", False
        own = field.type_name.startswith(PACKAGE)
        if own:
            name = f"[{name}](#{anchor(name)})"
        return f"repeated {name}" if field.label == Field.LABEL_REPEATED else name, own

    def fields(self, message, path, comments, label="field"):
        lines = [f"| {label} | type | |", "|---|---|---|"]
        for i, field in enumerate(message.field):
            name = f"{message.name}.{field.name}"
            kind, explained = self.type(message, field)
            text = " ".join(paragraphs(comments.get((*path, MEMBERS, i), "")))
            if not text and field.name == "sandbox_id":
                text = "Required: which sandbox."
            if not text and not explained:
                raise Undocumented(f"{name} has no comment")
            if (message.name.endswith("Request") and field.name != "sandbox_id"
                    and not re.search("[Dd]efault|[Rr]equired", text)):
                raise Undocumented(f"{name} says neither \"Default\" nor \"Required\"")
            if field.HasField("oneof_index"):
                text = f"One of `{message.oneof_decl[field.oneof_index].name}`. {text}".rstrip()
            lines.append(f"| `{field.name}` | {kind} | {cell(text)} |")
        return "\n".join(lines)

    def values(self, enum, path, comments):
        lines = ["| value | number | |", "|---|---|---|"]
        for i, value in enumerate(enum.value):
            text = " ".join(paragraphs(comments.get((*path, MEMBERS, i), "")))
            if not text and value.number != 0:
                raise Undocumented(f"{enum.name}.{value.name} has no comment")
            lines.append(f"| `{value.name}` | {value.number} | {cell(text) or 'Never sent.'} |")
        return "\n".join(lines)


def example(path):
    """A file of examples/ as a block of code."""
    file = ROOT / "examples" / path
    return f"```{LANGUAGES[file.suffix]}\n{file.read_text().rstrip()}\n```"


def page():
    reference = Reference()
    for file, comments in descriptors():
        reference.add(file, comments)
    text = TEMPLATE.read_text()
    text = text.replace("@REFERENCE@", reference.text())
    return re.sub(r"^@EXAMPLE (\S+)@$", lambda match: example(match[1]), text, flags=re.M)


def main(arguments):
    try:
        text = page()
    except Undocumented as e:
        return f"docs/api.py: {e}"
    if "--check" not in arguments:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        return "docs/api.md is not what proto/ and examples/ say now: run 'make docs'"
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
