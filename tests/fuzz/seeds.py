#!/usr/bin/python3
"""Writes the seeds of the fuzzers: DIRECTORY/NAME/*, one folder for each fuzzer.

usage: seeds.py DIRECTORY

They are programs as the fuzzers read them (client.c, fuzz_forward.c); from these libFuzzer finds
the rest. Where one does not fit the code any more it is still an input, only a poorer one.
"""

import json
import re
import struct
import sys
from pathlib import Path

UNARY, COUNT, SUM, CHAT, SEEN, S_UNARY, S_DOWN, S_UP, S_BOTH, CHECK, LIST, WATCH, REFLECT = range(13)
NO_METHOD = 14
SEND, TURN, READ, TIME, SCRIPT, RAW, SHUTDOWN, END, STEP = range(9)
# Indexes of take_size.
SIZE_100, SIZE_16K, SIZE_512K = 4, 9, 15
# What scripted handlers do (service.c), with how much in the upper bits.
REPLY, SEND_MUCH, PAUSE, RESUME, FAIL, FINISH, FILL = range(1, 8)


def u16(n):
    return struct.pack(">H", n)


def own(data):
    """Bytes of the program's own."""
    return bytes([len(data)]) + data


def echo(how=0, *rest):
    """A request of EchoService with the fields that `how` says; 1: it is routed, 4: a payload."""
    return bytes([1, how, *rest])


def script(*actions):
    return own(bytes(actions))


SENT = bytes([SEND, 0])
ROUND = SENT + bytes([TURN, 3, READ, SIZE_512K])


class Grpc:
    wire = "grpc"

    @staticmethod
    def call(method, message=None, ends=True, how=0):
        out = bytes([STEP, 0, method]) + u16(how | 0x20 | (ends and message is None))
        return out + (Grpc.more(message, ends) if message is not None else b"")

    @staticmethod
    def more(message, ends=False, how=0, rest=b""):
        return bytes([STEP, 4, 0, how | ends]) + message + rest

    @staticmethod
    def half_close():
        return bytes([STEP, 14, 0, 1, 1, 0])  # DATA with END_STREAM, on stream 1

    odd = {
        "reset": bytes([STEP, 8, 0, 0]),
        "window": bytes([STEP, 9, 4, 0]),
        "settings": bytes([STEP, 10, 2, 4, 0, 1, 1]),
        "ping": bytes([STEP, 11, 0]),
        "goaway": bytes([STEP, 12]),
        "trailers": bytes([STEP, 13]) + own(b"x-a") + own(b"b") + bytes([1, 0]),
    }


class Ttrpc:
    wire = "ttrpc"

    @staticmethod
    def call(method, message=None, ends=True, how=0):
        flags = 0 if ends or method not in (SUM, CHAT, S_UP, S_BOTH) else 0
        out = bytes([STEP, 0, method, how | (16 if message is None else 0)])
        return out + (message or b"") + bytes([flags])

    @staticmethod
    def more(message, ends=False):
        return bytes([STEP, 3, 0]) + message + bytes([3 if ends else 0])

    @staticmethod
    def half_close():
        return bytes([STEP, 5, 0])

    odd = {
        "large": bytes([STEP, 6, 3, 0, 0, 1, 255]),
        "absurd": bytes([STEP, 6, 6, 0, 0, 1, 0, SIZE_100]),
        "bad_id": bytes([STEP, 7]) + struct.pack(">I", 2) + bytes([1, 0]),
    }


def sessions(w):
    """Programs of one client of that wire."""
    half_close = w.half_close()
    programs = {
        "unary": w.call(UNARY, echo(4, SIZE_100)) + ROUND,
        "unary_large": w.call(UNARY, echo(64, SIZE_512K)) + ROUND * 3,
        "hang": w.call(UNARY, echo(32)) + ROUND + bytes([TIME, 255]),
        "ending": w.call(UNARY, echo(8 | 16, 5)) + ROUND,
        "count": w.call(COUNT, echo(4, SIZE_16K, 0)) + ROUND * 4,
        "count_few": w.call(COUNT, echo(4, SIZE_100, 5)) + ROUND,
        "sum": w.call(SUM, echo(), False) + w.more(echo(4, SIZE_100)) + half_close + ROUND,
        "sum_pause": w.call(SUM, echo(32, 100), False) + w.more(echo()) + SENT + bytes([TIME, 1])
        + half_close + ROUND,
        "chat": w.call(CHAT, echo(), False) + ROUND + w.more(echo(4, SIZE_100)) + half_close
        + ROUND,
        "seen": w.call(UNARY, echo(2)) + w.call(SEEN, echo(2)) + ROUND,
        "script": w.call(S_BOTH, script(REPLY, PAUSE), False) + SENT + w.more(script(REPLY))
        + SENT + bytes([SCRIPT, 0]) + script(RESUME) + ROUND + half_close + ROUND,
        "script_fill": w.call(S_DOWN, script(FILL | 20 << 3)) + ROUND * 3
        + bytes([SCRIPT, 0]) + script(FAIL | 3 << 3) + ROUND,
        "none": w.call(NO_METHOD, own(b"")) + ROUND,
        "two": w.call(S_UNARY, script()) + w.call(S_UP, script(REPLY, FINISH), False) + SENT
        + bytes([SCRIPT, 0]) + script(FINISH) + ROUND,
        "pieces": w.call(UNARY, echo()) + bytes([SEND, 1]) + ROUND,
        "end": w.call(S_DOWN, script(REPLY)) + SENT + bytes([SHUTDOWN, 1]) + ROUND,
        "health": w.call(CHECK, own(b"")) + w.call(LIST, own(b"")) + w.call(WATCH, own(b"")) + ROUND
        + bytes([END, 3]) + ROUND + bytes([END, 1]) + ROUND,
        "reflection": w.call(REFLECT, own(b"\x3a\0"), False)
        + w.more(own(b"\x22\x1csandboxd.test.v1.EchoService"))
        + w.more(own(b"\x1a\x19google/protobuf/any.proto")) + half_close + ROUND,
        "drain": w.call(S_DOWN, script(REPLY)) + SENT + bytes([END, 1]) + w.call(UNARY, echo())
        + ROUND + bytes([SCRIPT, 0]) + script(FINISH) + ROUND,
        "close": w.call(S_DOWN, script(REPLY)) + SENT + bytes([END, 130]) + ROUND
        + bytes([TIME, 9]),
        "abort": w.call(S_DOWN, script(REPLY)) + SENT + bytes([END, 2]),
        "back_pressure": w.call(COUNT, echo(4, SIZE_512K, 0)) + SENT + bytes([TURN, 7])
        + bytes([READ, SIZE_512K, TURN, 3]) * 6,
        "back_pressure_fill": w.call(S_DOWN, script(FILL | 30 << 3)) + SENT + bytes([TURN, 7])
        + bytes([READ, SIZE_512K, TURN, 3]) * 6,
        "raw": bytes([RAW]) + own(b"\0\0\0\0\0\0\0\1\1\0") + ROUND,
    }
    for name, step in w.odd.items():
        programs[name] = w.call(S_BOTH, script(REPLY), False) + step + ROUND
    return programs


# Steps of the hostile runtimed: frames of its first connection but one, which a stream has.
ANSWER = bytes([1, 1, 1, 0, 0, 0, 0])
DATA = bytes([1, 1, 0, 0, 1, SIZE_100])
STATUS = bytes([1, 1, 1, 0, 0, 1 | 4 | 8, 5])


def forwarded(w):
    """As above, with the client's calls routed and answers to them."""
    def client(program):
        """Each step is preceded by who takes it; bytes that a step does not use do no harm."""
        return bytes([0 if w.wire == "grpc" else 2]) + program

    up = {"answer": ANSWER, "data": DATA, "status": STATUS, "close": bytes([1, 7, 0]),
          "lie": bytes([1, 10, 0, 1, 0, 1, 0]), "garbage": bytes([1, 6, 0]) + own(b"HTTP/1.1 ")}
    for name, method in {"unary": UNARY, "count": COUNT, "sum": SUM, "chat": CHAT}.items():
        request = echo(1, 0) if method == COUNT else echo(1)
        steps = w.call(method, request, method in (UNARY, COUNT))
        parts = [steps] if w.wire == "ttrpc" else [steps[:5], steps[5:]]
        call = b"".join(client(p) for p in parts) + client(SENT) + client(bytes([TURN, 3]))
        if method in (SUM, CHAT):  # more than the sandbox reads at first
            more = client(w.more(echo(5, SIZE_512K))) + client(SENT)
            yield f"{name}_upload", call + more * 3 + bytes([1, 11, 1, SIZE_512K]) * 8
        if method in (COUNT, CHAT):  # more than the client reads at first
            yield f"{name}_download", call + bytes([1, 1, 1, 0, 1, SIZE_512K]) * 4 \
                + client(bytes([READ, SIZE_512K])) * 8
        for what, answer in up.items():
            yield f"{name}_{what}", call + answer * 2 + client(bytes([READ, SIZE_512K]))


def readers():
    frame = struct.pack(">IIBB", 3, 1, 1, 0) + b"abc"
    large = struct.pack(">IIBB", 2000, 3, 3, 0) + bytes(2000)
    for pauses in (0, 1, 255):
        yield f"whole_{pauses}", bytes([0, pauses]) + u16(26) + frame * 2
        yield f"cut_{pauses}", bytes([0, pauses]) + u16(4) + frame[:4] + u16(22) + frame[4:] + frame
        yield f"large_{pauses}", bytes([2, pauses]) + u16(900) + large[:900] + u16(2000) \
            + large[900:] + frame


def manifests():
    """That of docs/sandbox-manifest.md, and some with problems."""
    page = (Path(__file__).resolve().parents[2] / "docs/sandbox-manifest.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    return {
        "example": example.encode(),
        "values": example.replace("3000", "0").replace("mail", "Mail").encode(),
        "compose": b"version: 1\nservices: {web: {image: a, ports: ['80:80']}}\n",
        "broken": b"version: 1\nworkers:\n- {name: a, command: b}\n- {name: a, command: [c]}\n- &x {",
        "version": b"version: 2\nweb: *a\n"}


def agent_outputs():
    """Of each format some lines, as docs and agents have them; the first byte is the format."""
    claude = [{"type": "system", "subtype": "init"},
              {"type": "assistant", "message": {"id": "m", "content": [
                  {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hi"},
                  {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}}],
                  "usage": {"input_tokens": 3, "cache_read_input_tokens": 1, "output_tokens": 2}}},
              {"type": "user", "message": {"content": [
                  {"type": "tool_result", "tool_use_id": "t", "content": [
                      {"type": "text", "text": "a"}], "is_error": True}]}},
              {"type": "result", "subtype": "success", "is_error": True, "result": "no",
               "total_cost_usd": 0.5, "usage": {"output_tokens": 9}}]
    opencode = [{"type": "text", "part": {"text": "hi"}},
                {"type": "tool_use", "part": {"callID": "c", "tool": "edit", "state": {
                    "status": "error", "input": {}, "error": "no"}}},
                {"type": "step_finish", "part": {"cost": 0.1, "tokens": {
                    "input": 1, "output": 2, "reasoning": 3, "cache": {"read": 4, "write": 5}}}},
                {"type": "error", "error": {"name": "e", "data": {"message": "no"}}}]
    codex = [{"type": "item.started", "item": {"id": "i", "type": "command_execution",
                                               "command": "ls"}},
             {"type": "item.completed", "item": {"id": "i", "type": "mcp_tool_call", "tool": "t",
                                                 "arguments": {"a": 1}, "result": None}},
             {"type": "item.completed", "item": {"type": "agent_message", "text": "hi"}},
             {"type": "turn.completed", "usage": {"input_tokens": 1, "output_tokens": 2}},
             {"type": "turn.failed", "error": {"message": "no"}}]
    for number, (name, lines) in enumerate({"lines": ["a\r", "\u00fc"], "claude": claude,
                                            "opencode": opencode, "codex": codex}.items()):
        text = "\n".join(l if isinstance(l, str) else json.dumps(l) for l in lines)
        yield name, bytes([number, 40]) + text.encode()


def configurations():
    """The file, the one in conf.d and --set's."""
    example = (Path(__file__).resolve().parents[2] / "config/sandboxd.yaml").read_text()
    every_key = [re.sub("^( *)#", r"\1", line) for line in example.splitlines()
                 if re.match(" *#?[a-z_]+:", line)]
    programs = {
        "all": ["\n".join(every_key)],
        "runtimes": ["runtimes:\n  a: {path: /a}\nruntime: a\n", "runtimes: {a: {type: runsc}}\n",
                     "runtimes.runc.path=/b"],
        "agents": ["agents:\n  a: {command: [a, '{prompt}'], env: ['A=b'], output: codex-json}\n",
                   "agents: {shell: {command: []}}\n", "agents.b.command=c d"],
        "dns": ["dns:\n  servers: [127.0.0.1, '::1']\n  options: ['ndots:2']\n",
                "dns: {servers: [9.9.9.9], search: [a.example]}\n", "dns.servers=1.1.1.1 8.8.8.8"],
        "parts": ["defaults: {memory: 25%, tmp_size: 1%, cpus: 50%, stop_timeout: 1m30s}\n"],
        "sizes": ["rpc:\n  message_sizes:\n    a.B/C: 1KiB\n    'a/\"b': 4097\n",
                  "rpc: {message_sizes: {a.B/C: 2KiB, None/None: 1K}}\n",
                  "rpc.message_sizes.a.B/C=3KiB", "rpc.idle_timeout=24h"],
        "roles": ["access:\n  users: {root: admin, 7: user}\n  groups:\n    adm: observer\n",
                  "socket_group: 4\naccess: {groups: {daemon: user}}\n",
                  "access.groups=adm: user, 2: observer"],
        "quoted": ["socket: '/tmp/a \"b\" \\ # c'\nlog: {level: debug, format: json}\n"],
        "empty": ["dns:\nruntimes:\n  crun:\n", "", "runtime=crun", "defaults.image=my image"],
        "wrong": ["dns: &a {sevrers: *a}\n", "- !!str b\n", "a", "=", "dns.sevrers=1"],
    }
    return {name: "\0".join(parts).encode() for name, parts in programs.items()}


def main(directory):
    seeds = {"ttrpc_reader": dict(readers()), "forward": {},
             "messages": {str(i): bytes([i, 0]) + b"\x0a\x03abc\x12\x02\x08\x01\x18\x05"
                          for i in range(40)},
             "config": configurations(),
             "agent_output": dict(agent_outputs()),
             "manifest": manifests()}
    for wire in (Grpc, Ttrpc):
        seeds[wire.wire] = {n: bytes([0, 0]) + p for n, p in sessions(wire).items()}
        for kind, start in {"tight": [127, 1], "wide": [0, 2]}.items():
            seeds[wire.wire] |= {f"{n}_{kind}": bytes(start) + p
                                 for n, p in sessions(wire).items()}
        seeds["forward"] |= {f"{wire.wire}_{n}": bytes([0, 0, 2, 0]) + p
                             for n, p in forwarded(wire)}
    for fuzzer, programs in seeds.items():
        folder = Path(directory) / fuzzer
        folder.mkdir(parents=True, exist_ok=True)
        for name, program in programs.items():
            (folder / name).write_bytes(program)


if __name__ == "__main__":
    main(*sys.argv[1:])
