#!/usr/bin/python3
"""sandboxd's RPC layer beside its peers. `make bench-rpc`; ROUNDS=n for another number of rounds,
TIME=s for the seconds of one measurement, ONLY=word for the pairs whose name contains the word.

Every round takes each measurement of each pair once, so that all of them see the same machine. The
tables show medians of the rounds; a ratio is the median of the rounds' ratios.
"""

import json
import os
import resource
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BUILD = Path(os.environ.get("BUILD", "build"))
BENCH = BUILD / "bench"
ROUNDS = int(os.environ.get("ROUNDS", "7"))
TIME = float(os.environ.get("TIME", "0.4"))
ONLY = os.environ.get("ONLY", "")
CORES = sorted(os.sched_getaffinity(0))
HOME, OTHER = CORES[0], CORES[-1]
IN_FLIGHT = 64
SIZES = (64 * 1024, 256 * 1024)
CONNECTIONS = 1000
START_MAX = 15  # seconds, until a server is there


class Server:
    """A server program on a socket of its own, pinned to the first core."""

    def __init__(self, socket, command):
        self.socket = str(socket)
        self.process = subprocess.Popen(
            [*map(str, command), self.socket], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, {HOME}))
        await_ready(self.process, command[0])

    def cpu(self):
        """Seconds that its threads have been running."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9

    def memory(self):
        """Resident KiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise ValueError("no VmRSS")

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        Path(self.socket).unlink(missing_ok=True)


def await_ready(process, name):
    readable, _, _ = select.select([process.stdout], [], [], START_MAX)
    if not readable or process.stdout.readline().strip() != b"ready":
        process.kill()
        process.wait()
        sys.exit(f"bench-rpc: {name} does not get ready")


class Pair:
    """A server, and a client that speaks to it."""

    def __init__(self, name, server, client, idle_client=None, sandbox=None):
        self.name = name
        self.server_name, self.client, self.idle_client = server, client, idle_client
        self.sandbox = sandbox
        self.servers = []  # those that a call passes through
        self.samples = {}

    def run_client(self, core, *args):
        command = [*self.client, self.servers[0].socket, *args]
        if self.sandbox:
            command.append(self.sandbox)
        done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=TIME * 4 + 20,
                              preexec_fn=lambda: os.sched_setaffinity(0, {core}))
        if done.returncode:
            sys.exit(f"bench-rpc: {self.name}: {' '.join(map(str, command))}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def note(self, key, value):
        self.samples.setdefault(key, []).append(value)

    def measure_latency(self):
        result = self.run_client(HOME, "unary", TIME, 1)
        self.note("p50", result["p50"])
        self.note("p99", result["p99"])

    def measure_throughput(self):
        before = self.cpu()
        result = self.run_client(HOME, "unary", TIME, IN_FLIGHT)
        self.note("rate", result["rate"])
        self.note("cpu", (self.cpu() - before) / result["calls"] * 1e6)

    def cpu(self):
        return sum(server.cpu() for server in self.servers)

    def measure_stream(self, size):
        result = self.run_client(OTHER, "stream", TIME, size)
        self.note(f"stream {size}", result["bytes_rate"] / 1e9)

    def median(self, key):
        values = self.samples.get(key)
        return statistics.median(values) if values else None


ECHOD = BUILD / "tests/echod"
SERVERS = {
    "raw": [BENCH / "raw_server"],
    "echod": [ECHOD],
    "Go ttrpc": [BENCH / "go-ttrpc-server"],
    "Go gRPC": [BENCH / "go-grpc-server"],
    "gRPC C++": [BENCH / "cpp-grpc-server"],
}
RAW = [BENCH / "frames_client", "raw"]
FRAMES = [BENCH / "frames_client", "ttrpc"]
LIBRARY = [BENCH / "ttrpc_client"]
NGHTTP2 = [BENCH / "grpc_client"]
GO_TTRPC = [BENCH / "go-ttrpc-client"]
GO_GRPC = [BENCH / "go-grpc-client"]
CPP_GRPC = [BENCH / "cpp-grpc-client"]


def all_pairs():
    return [
        Pair("raw / raw", "raw", RAW, RAW),
        Pair("echod ttrpc / frames", "echod", FRAMES, FRAMES),
        Pair("echod ttrpc / rpc/client.h", "echod", LIBRARY),
        Pair("echod ttrpc / Go ttrpc", "echod", GO_TTRPC),
        Pair("Go ttrpc / Go ttrpc", "Go ttrpc", GO_TTRPC, FRAMES),
        Pair("Go ttrpc / frames", "Go ttrpc", FRAMES),
        Pair("echod gRPC / nghttp2", "echod", NGHTTP2, NGHTTP2),
        Pair("echod gRPC / Go gRPC", "echod", GO_GRPC),
        Pair("echod gRPC / gRPC C++", "echod", CPP_GRPC),
        Pair("Go gRPC / Go gRPC", "Go gRPC", GO_GRPC, NGHTTP2),
        Pair("Go gRPC / nghttp2", "Go gRPC", NGHTTP2),
        Pair("gRPC C++ / gRPC C++", "gRPC C++", CPP_GRPC, NGHTTP2),
        Pair("gRPC C++ / nghttp2", "gRPC C++", NGHTTP2),
        Pair("routed ttrpc / frames", "routed", FRAMES, sandbox="sb-1"),
        Pair("routed gRPC / nghttp2", "routed", NGHTTP2, sandbox="sb-1"),
    ]


def is_built(pair):
    programs = [pair.client[0], SERVERS.get(pair.server_name, [ECHOD])[0]]
    return all(path.exists() for path in programs)


def measure_memory(directory, pairs):
    """Of a fresh server: after its start, and with idle connections that have made one call each."""
    for pair in pairs:
        if not pair.idle_client:
            continue
        server = Server(Path(directory, "memory"), SERVERS[pair.server_name])
        try:
            pair.note("rss", server.memory() / 1024)
            client = subprocess.Popen(
                [*map(str, pair.idle_client), server.socket, "idle", str(CONNECTIONS)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            await_ready(client, f"{pair.name} with {CONNECTIONS} connections")
            pair.note("rss idle", server.memory() / 1024)
            client.communicate(timeout=30)
        finally:
            server.stop()


def start_servers(directory, pairs, servers):
    """Into `servers`, by name, so that they are stopped whatever happens."""
    names = {pair.server_name for pair in pairs}
    for name, command in SERVERS.items():
        if name in names:
            servers[name] = Server(Path(directory, name.replace(" ", "-")), command)
    if "routed" in names:
        workspace = Path(directory, "workspace")
        (workspace / ".runtimed").mkdir(parents=True)
        servers["behind"] = Server(workspace / ".runtimed/sock", [ECHOD])
        servers["routed"] = Server(Path(directory, "routed"), [ECHOD, "--route", workspace])
    for pair in pairs:
        pair.servers = [servers[pair.server_name]]
        if pair.sandbox:
            pair.servers.append(servers["behind"])


def measure(pairs):
    for i in range(ROUNDS):
        order = pairs if i % 2 == 0 else pairs[::-1]  # nobody always follows the same
        for pair in order:
            pair.measure_latency()
        for pair in order:
            pair.measure_throughput()
        for size in SIZES:
            for pair in order:
                pair.measure_stream(size)


COLUMNS = [
    # heading, key, factor, decimals
    ("p50 µs", "p50", 1, 1),
    ("p99 µs", "p99", 1, 1),
    ("k calls/s", "rate", 1e-3, 0),
    ("CPU µs", "cpu", 1, 2),
    ("64K GB/s", f"stream {SIZES[0]}", 1, 2),
    ("256K GB/s", f"stream {SIZES[1]}", 1, 2),
    ("RSS MiB", "rss", 1, 1),
    ("+1000 MiB", "rss idle", 1, 1),
]


def print_table(pairs):
    print(f"{'server / client':28}" + "".join(f"{heading:>10}" for heading, *_ in COLUMNS))
    for pair in pairs:
        cells = []
        for _, key, factor, decimals in COLUMNS:
            value = pair.median(key)
            cells.append(f"{'':10}" if value is None else f"{value * factor:10.{decimals}f}")
        print(f"{pair.name:28}" + "".join(cells).rstrip())


# What is asked for: (what, key, pair, key of the other, other pair, "<=" or ">=", target).
RATIOS = [
    ("ttrpc p50 / raw", "p50", "echod ttrpc / frames", "raw / raw", "<=", 1.3),
    ("gRPC p50 / raw", "p50", "echod gRPC / nghttp2", "raw / raw", "<=", 2),
    ("gRPC C++ p50 / gRPC", "p50", "gRPC C++ / gRPC C++", "echod gRPC / nghttp2", ">=", 5),
    ("  with the same client", "p50", "gRPC C++ / nghttp2", "echod gRPC / nghttp2", None, None),
    ("Go gRPC p50 / gRPC", "p50", "Go gRPC / Go gRPC", "echod gRPC / nghttp2", None, None),
    ("Go ttrpc p50 / ttrpc", "p50", "Go ttrpc / Go ttrpc", "echod ttrpc / frames", None, None),
    ("64 in flight: ttrpc / raw", "rate", "echod ttrpc / frames", "raw / raw", None, None),
    ("64 in flight: gRPC / gRPC C++", "rate", "echod gRPC / nghttp2", "gRPC C++ / gRPC C++", ">=", 5),
    ("  with the same client", "rate", "echod gRPC / nghttp2", "gRPC C++ / nghttp2", None, None),
    ("CPU a call: gRPC C++ / gRPC", "cpu", "gRPC C++ / gRPC C++", "echod gRPC / nghttp2", None, None),
    ("routed / direct p50: ttrpc", "p50", "routed ttrpc / frames", "echod ttrpc / frames", "<=", 2.5),
    ("routed / direct p50: gRPC", "p50", "routed gRPC / nghttp2", "echod gRPC / nghttp2", "<=", 2.5),
]


def verdict(value, relation, target):
    if relation is None:
        return ""
    met = value <= target if relation == "<=" else value >= target
    return f"   {relation} {target:<5}{'' if met else '   MISSED'}"


def print_ratios(pairs):
    by_name = {pair.name: pair for pair in pairs}
    for what, key, one, other, relation, target in RATIOS:
        if one in by_name and other in by_name:
            both = zip(by_name[one].samples[key], by_name[other].samples[key])
            value = statistics.median(a / b for a, b in both)
            print(f"{what:44}{value:8.2f}{verdict(value, relation, target)}")
    ours, raw = by_name.get("echod ttrpc / frames"), by_name.get("raw / raw")
    if ours and raw:
        rate = ours.median("rate") / 1e6
        target = min(1.0, 0.4 * raw.median("rate") / 1e6)
        print(f"{'64 in flight: ttrpc, M calls/s':44}{rate:8.2f}"
              f"{verdict(rate, '>=', float(f'{target:.2f}'))}")
    for what, name, target in (("ttrpc", "echod ttrpc / frames", 1), ("gRPC", "echod gRPC / nghttp2", 0.5)):
        if name in by_name:
            value = min(by_name[name].median(f"stream {size}") for size in SIZES)
            print(f"{f'bulk {what}, GB/s':44}{value:8.2f}{verdict(value, '>=', target)}")


NOTES = f"""
All on Unix sockets, with 64 bytes of payload. Servers are pinned to core {HOME}.
p50, p99    one call at a time; the client on the server's core
k calls/s   {IN_FLIGHT} calls in flight on one connection; the client on the server's core, so its
            own cost counts too; CPU: of the server alone (routed: of both), for each call
64K, 256K   payload of a server stream in messages of that size; the client on core {OTHER}
RSS, +1000  resident memory of a fresh server, then with {CONNECTIONS} idle connections after one call each
raw         frames of 10 + 64 bytes, echoed by epoll: the floor
frames      writes encoded frames, parses headers only: next to no cost of the client
rpc/client.h, nghttp2   sandboxd's own client; a minimal one on nghttp2
routed      echod forwards to a second echod on the same core
"""


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (
        max(CONNECTIONS * 2, resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    wanted = [pair for pair in all_pairs() if ONLY in pair.name]
    pairs = [pair for pair in wanted if is_built(pair)]
    missing = [pair.name for pair in wanted if pair not in pairs]
    if missing:
        print("Left out, for their programs are not built (go, libgrpc++-dev, protobuf-compiler-grpc):",
              ", ".join(missing))
    if len(CORES) < 2:
        print("One core only: streams have client and server on the same.")
    if not pairs or (missing and os.environ.get("STRICT") == "1"):
        sys.exit("bench-rpc: not everything could be measured")

    directory = tempfile.mkdtemp(prefix="sandboxd-bench-")
    servers = {}
    try:
        measure_memory(directory, pairs)
        start_servers(directory, pairs, servers)
        measure(pairs)
    finally:
        for server in servers.values():
            server.stop()
        shutil.rmtree(directory)

    print(f"Medians of {ROUNDS} rounds, {TIME} s each.\n")
    print_table(pairs)
    print()
    print_ratios(pairs)
    print(NOTES, end="")


if __name__ == "__main__":
    main()
