"""Every client does every scenario that its library can do, with calls that the server answers itself
(direct) and with calls that it forwards to another (routed)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import OUT

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
PROTOS = f"{HERE / 'proto'}:{TOP / 'proto'}"

UNARY = ["unary", "metadata", "error", "details", "deadline", "timeout", "cancel"]
STREAMS = ["stream", "stream_slow", "stream_error", "stream_cancel", "sum", "sum_none", "sum_slow",
           "chat", "chat_half_close", "chat_error", "chat_cancel"]
LIMITS = ["largest", "too_large", "routed_limit", "concurrent", "connections"]
REST = ["unimplemented", "compressed", "keepalive", "health", "shutdown"]
GRPC = UNARY + STREAMS + LIMITS + REST

# What a library cannot do is told where its client lists its scenarios.
SCENARIOS = {
    "python": GRPC,
    "go": [s for s in GRPC if s != "keepalive"] + ["reflection"],
    "ttrpc": UNARY + STREAMS + LIMITS + ["unimplemented", "shutdown"],
    "node": [s for s in GRPC if s != "chat_cancel"],
    "cpp": GRPC,
    "rust": [s for s in GRPC if s != "chat_cancel"],
}
# Nothing in these names a sandbox.
DIRECT_ONLY = {"sum_none", "keepalive", "health", "reflection"}
# What is forwarded has limits of its own: those of routed_limit.
DIRECT_ONLY |= {"largest", "too_large"}
COMMANDS = {
    "python": [sys.executable, HERE / "python" / "client.py"],
    "go": [OUT / "go" / "bin" / "grpc"],
    "ttrpc": [OUT / "go" / "bin" / "ttrpc"],
    "node": ["node", HERE / "node" / "client.js"],
    "cpp": [OUT / "cpp" / "client"],
    "rust": [OUT / "rust" / "debug" / "interop"],
}
# The folder that build.sh made a client in, where that is not its name.
FOLDERS = {"ttrpc": "go"}
ENVIRON = os.environ | {
    "NODE_PATH": str(OUT / "node" / "node_modules"),
    "PROTOS": PROTOS,
    "PYTHONPATH": str(OUT / "python"),
    "RUST_BACKTRACE": "0",
}


def cases():
    for client, scenarios in SCENARIOS.items():
        for scenario in scenarios:
            for route in "direct", "routed":
                if route == "direct" and scenario == "routed_limit":
                    continue
                if route == "routed" and scenario in DIRECT_ONLY:
                    continue
                yield pytest.param(client, scenario, route, id=f"{client}-{scenario}-{route}",
                                   marks=pytest.mark.needs(FOLDERS.get(client, client)))


@pytest.mark.parametrize("client, scenario, route", cases())
def test_client(serve, client, scenario, route):
    servers = serve(route)
    command = [*COMMANDS[client], servers.front.socket, scenario, servers.sandbox, servers.seen.socket]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, env=ENVIRON) as program:
        try:
            said = program.stdout.readline() if scenario == "shutdown" else ""
            if said == "under way\n":
                servers.front.terminate()
            output = said + program.communicate("\n", timeout=60)[0]
        finally:
            program.kill()
    assert program.returncode == 0, output
