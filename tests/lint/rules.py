#!/usr/bin/python3
"""The rules of the house that no other tool checks. Each breach is printed as FILE:LINE: why.

- layers: who may include whom
- calls that are banned, or have one place
- files above 800 lines
- names of RPCs that a language's generated client cannot have
- tests that fork where grpcio cannot bear it
"""

import re
import sys
from pathlib import Path

# A room may include its own headers, those of the rooms named here, and what is generated from
# proto/ where "generated" stands.
LAYERS = {
    "base": set(),
    "rpc": {"base", "generated"},
    "config": {"base"},
    "manifest": {"base"},
    "runtimed-client": {"rpc", "base", "generated"},
    "daemon": {"runtimed-client", "config", "rpc", "base", "generated"},
    "runtimed": {"manifest", "rpc", "base", "generated"},
    "cli": {"manifest", "rpc", "base", "generated"},
}
# The generated types of the public API stop at the services; the rest of the daemon has its own.
PUBLIC_API = re.compile(r"sandboxd/v1/")
PUBLIC_API_USERS = re.compile(r"daemon/service_\w+\.[ch]$")

BANNED = {
    "strcpy": "no bound: use str_printf or str_format",
    "strcat": "no bound: use str_printf or str_format",
    "sprintf": "no bound: use str_printf or str_format",
    "vsprintf": "no bound: use str_printf or str_format",
    "gets": "no bound",
    "strtok": "keeps hidden state: use strtok_r or strcspn",
    "atoi": "takes anything for a number: use str_to_u64",
    "atol": "takes anything for a number: use str_to_u64",
    "system": "runs a shell: use spawn",
    "popen": "runs a shell: use spawn",
    "uv_spawn": "reaps only its own children: use spawn",
}
# (what, where it may stand, why). Product code only: tests may do as they must.
PLACES = [
    (r"(waitpid|wait4)\s*\(\s*-1|\bwait\s*\(|\bwait3\s*\(", r"base/reaper\.c",
     "takes other people's children: only the reaper does that"),
    (r"\b(v?fork|execl[pe]?|execvp?e?|execveat|fexecve|posix_spawnp?)\s*\(", r"base/spawn\.c",
     "use spawn"),
    (r"\b(kill|killpg|tgkill|uv_kill|uv_process_kill)\s*\(", r"daemon/proc\.c|runtimed/.*|cli/(dial|ssh)\.c",
     "signals are sent by daemon/proc.c, by runtimed, and to the CLI's ssh"),
]
# A client that tonic (Rust) generates has these methods already.
TAKEN_RPC = re.compile(r"\s*rpc (Connect|New|WithInterceptor|WithOrigin)\(")
# In a process that has used Debian 13's grpcio a fork(2) hangs. subprocess does without, unless it is
# asked for these.
FORKS = re.compile(r"\b(preexec_fn|extra_groups)=|\bpexpect\.spawn\(|\b(os|pty)\.fork(pty)?\(")
FORKERS = re.compile(r"tests/bench/rpc/.*")
LINES_MAX = 800
GENERATED = {"docs/api.md"}


def without_comments_and_strings(text):
    """The text with comments and literals blanked out; the lines stay where they are."""
    token = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)
    return token.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def breaches_of_includes(path, lines):
    room = path.parts[0]
    for number, line in enumerate(lines, 1):
        include = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not include:
            continue
        name = include.group(1)
        generated = name.endswith(".pb-c.h") or name in {"methods.h", "completions.h"}
        other = "generated" if generated else name.split("/")[0]
        if not generated and "/" not in name:
            yield number, f'"{name}": write the room too, "{room}/{name}"'
        elif other != room and other not in LAYERS[room]:
            yield number, f'"{name}": {room} may include {" ".join(sorted(LAYERS[room])) or "itself"}'
        elif (room == "daemon" and PUBLIC_API.match(name)
              and not PUBLIC_API_USERS.match(str(path))):
            yield number, f'"{name}": the generated types of the API stop at daemon/service_*.c'


def breaches_of_calls(path, lines, product):
    banned = re.compile(r"\b(" + "|".join(BANNED) + r")\s*\(")
    for number, line in enumerate(lines, 1):
        for call in banned.finditer(line):
            yield number, f"{call.group(1)}: {BANNED[call.group(1)]}"
        for what, where, why in PLACES if product else []:
            call = re.search(what, line)
            if call and not re.fullmatch(where, str(path)):
                yield number, f"{call.group().rstrip('( ')}: {why}"


def breaches(path):
    text = path.read_text()
    lines = text.splitlines()
    if len(lines) > LINES_MAX and str(path) not in GENERATED:
        yield len(lines), f"above {LINES_MAX} lines: split it"
    if path.suffix == ".proto":
        for number, line in enumerate(lines, 1):
            if taken := TAKEN_RPC.match(line):
                yield number, f"{taken.group(1)}: clients in Rust have a method of this name already"
    if path.suffix == ".py" and not FORKERS.match(str(path)):
        for number, line in enumerate(lines, 1):
            if fork := FORKS.search(line):
                yield number, f"{fork.group()} forks: begin the command with become(), setsid or env"
    if path.suffix in (".c", ".h"):
        product = path.parts[0] in LAYERS
        if product:
            yield from breaches_of_includes(path, lines)
        yield from breaches_of_calls(
            path, without_comments_and_strings(text).splitlines(), product)


def main():
    rooms = [*LAYERS, "proto", "packaging", "tests", "docs"]
    files = sorted(p for room in rooms for p in Path(room).rglob("*")
                   if p.suffix in (".c", ".h", ".py", ".sh", ".proto", ".md"))
    failed = False
    for path in files:
        for number, why in breaches(path):
            print(f"{path}:{number}: {why}")
            failed = True
    return failed


if __name__ == "__main__":
    sys.exit(main())
