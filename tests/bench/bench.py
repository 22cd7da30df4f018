#!/usr/bin/python3
"""What sandboxd adds to the bare runtime, and what it spares. `sudo make bench`; ROUNDS=n for another
number of rounds.

Each round takes every measurement once, its peers' and the daemon's in turn, so that all see the
same machine; the medians are compared. The bare command is the one that the daemon runs, with the
same flags and with the daemon's own config.json, so that both do the same work.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections import namedtuple
from contextlib import contextmanager

from sandboxd.control.v1 import control_pb2
from sandboxd.v1 import process_pb2, sandbox_pb2

from docker import Docker
from dockerd import DockerEngine
from harness import BUILD, Daemon, find_runtime, wait_until
from pattern import INSIDE, bring_printer
from supervisor import Supervisor
from ttrpc_client import Client

ROUNDS = int(os.environ.get("ROUNDS", "20"))
RUNTIMES = "runc", "runsc"
STREAM_SIZE, STREAM_ROUNDS = 1 << 30, 5
START_SECONDS, SANDBOXES, CONNECTIONS, IN_FLIGHT = 10, 4, 4, 32
POOL = 4  # networks made ahead
BRIDGE, NONE = sandbox_pb2.NETWORK_MODE_BRIDGE, sandbox_pb2.NETWORK_MODE_NONE
IDLE_SECONDS = 2  # runtimed gives memory back a second after the last change

# peer, ours: milliseconds; at_least: how many times faster we want to be; at_most: how many
# milliseconds slower.
Row = namedtuple("Row", "what peer ours at_least at_most", defaults=[None, None])

RECORDER = """#!/bin/bash
for a; do [ "$a" != run ] || printf '%s\\n' "$@" >{record}; done
exec {program} "$@"
"""


def run(*command):
    """Without a timeout: with one, Python sleeps up to 50 ms at a time until the command ends."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def milliseconds(function, *args):
    start = time.perf_counter()
    value = function(*args)
    return (time.perf_counter() - start) * 1000, value


def recorded_flags(runtime):
    """The global flags that the daemon gives this runtime, without --root."""
    daemon = Daemon()
    try:
        record, wrapper = daemon.dir / "record", daemon.dir / "recorder"
        wrapper.write_text(RECORDER.format(record=record, program=find_runtime(runtime)))
        wrapper.chmod(0o755)
        daemon.config["runtimes"] = {runtime: {"path": str(wrapper)}}
        daemon.start()
        daemon.api.create(runtime=runtime)
        args = record.read_text().splitlines()
        assert daemon.finish() == []
        return [a for a in args[:args.index("run")] if not a.startswith("--root")]
    finally:
        daemon.destroy()


class Bare:
    """The runtime without a daemon."""

    def __init__(self, runtime, daemon, sandbox):
        self.program = find_runtime(runtime)
        self.flags = recorded_flags(runtime)
        self.dir = daemon.dir / f"bare-{runtime}"
        self.workspace = self.dir / "workspace"
        self.bundle = self.dir / "bundle"
        self.count = 0
        # The daemon's own bundle, with a workspace of ours.
        config = (daemon.state / "bundles" / sandbox.id / "config.json").read_text()
        self.config = config.replace(str(daemon.workspace(sandbox)), str(self.workspace))

    def command(self, *args):
        return [self.program, f"--root={self.dir}/root", *self.flags, *args]

    def create(self):
        """From the start of the command to its end, and to the first answer on the socket."""
        self.count += 1
        name = f"bare-{os.getpid()}-{self.count}"
        shutil.rmtree(self.dir, ignore_errors=True)
        (self.workspace / ".runtimed").mkdir(parents=True)
        for path in (self.workspace, self.workspace / ".runtimed"):
            os.chown(path, 1000, 1000)
        self.bundle.mkdir()
        config = json.loads(self.config)
        config["linux"]["cgroupsPath"] = f"/{name}"
        (self.bundle / "config.json").write_text(json.dumps(config))

        start = time.perf_counter()
        run(*self.command("run", "--detach", f"--bundle={self.bundle}",
                          f"--pid-file={self.dir}/pid", name))
        ended = (time.perf_counter() - start) * 1000
        self.hello()
        ready = (time.perf_counter() - start) * 1000

        run(*self.command("kill", name, "KILL"))
        # Not our child, so a moment may pass until the runtime sees that it has ended.
        for _ in range(200):
            done = subprocess.run(self.command("delete", name), capture_output=True, timeout=60)
            if done.returncode == 0:
                return ended, ready
            time.sleep(0.01)
        run(*self.command("delete", "--force", name))
        return ended, ready

    def hello(self):
        path = self.workspace / ".runtimed/sock"
        while True:
            try:
                with Client(path) as client:
                    client.unary("sandboxd.control.v1.ControlService/Hello",
                                 control_pb2.HelloRequest(generation=1), control_pb2.HelloResponse)
                return
            except (FileNotFoundError, ConnectionRefusedError, socket.timeout):
                time.sleep(0.0002)


def run_true(client, sandbox):
    request = process_pb2.ProcessServiceStartRequest(sandbox_id=sandbox.id, args=["true"])
    *_, last = client.stream("sandboxd.v1.ProcessService/Start", request,
                             process_pb2.ProcessServiceStartResponse)
    assert last.end.exit_code == 0


class Spawner:
    """A program in the sandbox that starts others there: nobody can be faster than it."""

    def __init__(self, daemon, sandbox):
        self.api, self.id = daemon.api, sandbox.id
        daemon.bring(sandbox, INSIDE)
        self.events = self.api.stream(self.id, "./inside", "spawn", "true", stdin_open=True,
                                      timeout=3600)
        self.pid = next(self.events).start.pid

    def run_true(self):
        """Milliseconds."""
        self.api.send_input(self.id, self.pid, b"\n")
        return int(next(self.events).data.data) / 1000

    def close(self):
        self.api.close_stdin(self.id, self.pid)
        assert list(self.events)[-1].end.exit_code == 0


def measure(daemon, docker_daemon, runtime, docker):
    """The medians, in milliseconds. docker_daemon: one on that Docker Engine."""
    sandbox = daemon.api.create(runtime=runtime)
    bare = Bare(runtime, daemon, sandbox)
    spawner = Spawner(daemon, sandbox)
    client = Client(daemon.socket)
    exec_command = [bare.program, f"--root={daemon.state}/runtime/{runtime}", *bare.flags, "exec",
                    sandbox.id, "true"]
    samples = {}

    def create_through(key, daemon):
        took, other = milliseconds(lambda: daemon.api.create(runtime=runtime))
        daemon.api.delete(other.id)
        return {key: took}

    def docker_run():
        took, container = milliseconds(docker.run_detached, runtime, "sleep", "1000000")
        docker.remove(container)
        return {"docker run": took}

    def create_bare():
        command, ready = bare.create()
        return {"command": command, "bare ready": ready}

    def timed(key, function, *args):
        return lambda: {key: milliseconds(function, *args)[0]}

    creates = [lambda: create_through("create", daemon), create_bare,
               lambda: create_through("docker create", docker_daemon), docker_run]
    starts = [timed("bare exec", run, *exec_command), timed("ttrpc", run_true, client, sandbox),
              timed("grpc", daemon.api.run, sandbox.id, "true"),
              lambda: {"inside": spawner.run_true()},
              timed("docker exec", run, *docker.exec_command("true"))]
    for i in range(ROUNDS + 1):
        got = {}
        for function in creates + starts:
            got |= function()
        creates.append(creates.pop(0))  # none always follows the same other
        starts.append(starts.pop(0))
        if i:  # the first round warms up
            for key, value in got.items():
                samples.setdefault(key, []).append(value)
    spawner.close()
    return {key: statistics.median(values) for key, values in samples.items()}


def rows_of(runtime, m):
    return [
        Row(f"{runtime}: create to ready / command's end", m["command"], m["create"]),
        Row(f"{runtime}: create to ready / socket's answer", m["bare ready"], m["create"]),
        Row(f"{runtime}: create to ready on Docker / docker run", m["docker run"], m["docker create"],
            at_most=15),
        Row(f"{runtime}: true / {runtime} exec, ttrpc", m["bare exec"], m["ttrpc"],
            12 if runtime == "runc" else 8),
        Row(f"{runtime}: true / {runtime} exec, gRPC", m["bare exec"], m["grpc"]),
        Row(f"{runtime}: true / started inside, ttrpc", m["inside"], m["ttrpc"]),
        Row(f"{runtime}: true / docker exec, ttrpc", m["docker exec"], m["ttrpc"],
            40 if runtime == "runc" else None),  # it is Docker with runc
    ]


def client(program, *args):
    """What a client in C has measured."""
    done = subprocess.run([BUILD / "bench" / program, *map(str, args)], check=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=300)
    return json.loads(done.stdout)


def stream_rate(daemon, runtime):
    """GB/s."""
    sandbox = daemon.api.create(runtime=runtime)
    printer = bring_printer(daemon, sandbox)
    rates = [client("stream_rate", daemon.socket, sandbox.id, *printer(STREAM_SIZE))["rate"]
             for _ in range(STREAM_ROUNDS)]
    daemon.api.delete(sandbox.id)
    return statistics.median(rates) / 1e9


def start_rate(daemon, runtime):
    sandboxes = [daemon.api.create(runtime=runtime).id for _ in range(SANDBOXES)]
    measured = client("start_rate", daemon.socket, START_SECONDS, CONNECTIONS, IN_FLIGHT, 1000,
                      *sandboxes)
    for sandbox in sandboxes:
        daemon.api.delete(sandbox)
    return measured["rate"]


def idle_memory(daemon):
    """Of runtimed that has worked, in MiB. As the host sees it: under runc."""
    sandbox = daemon.api.create(runtime="runc")
    assert daemon.api.run(sandbox.id, "true", keep_millis=1).code == 0
    time.sleep(IDLE_SECONDS)
    memory = Supervisor(daemon, sandbox).memory()
    daemon.api.delete(sandbox.id)
    return memory / (1 << 20)


def pool_is_settled(daemon):
    """As many leases as are made ahead, of nobody, and none on its way."""
    leases = [path for path in (daemon.state / "network").glob("*") if path.name != "ipam"]
    return len(leases) == POOL and all((path / "result").exists() for path in leases)


def cost_of_a_network(daemon, runtime):
    """What `bridge` takes longer than `none` until a sandbox is ready, in milliseconds: the median of
    pairs. Its lease was made ahead, and as always the next one is made meanwhile."""
    def create(network):
        wait_until(lambda: pool_is_settled(daemon), "a warm pool")
        took, sandbox = milliseconds(lambda: daemon.api.create(runtime=runtime, network=network))
        daemon.api.delete(sandbox.id)
        return took

    daemon.api.delete(daemon.api.create(network=BRIDGE).id)  # from now on there is a pool
    differences = []
    for i in range(ROUNDS + 1):
        pair = [BRIDGE, NONE][::1 if i % 2 else -1]
        took = {network: create(network) for network in pair}
        differences.append(took[BRIDGE] - took[NONE])
    return statistics.median(differences[1:])


def verdict(ok):
    return "" if ok else "  short of it"


def print_rows(rows):
    print(f"Medians of {ROUNDS} rounds, in milliseconds; peer and sandboxd in turn.\n")
    print(f"{'':44}{'peer':>9}{'sandboxd':>10}{'difference':>12}{'times faster':>14}{'wanted':>9}")
    for what, peer, ours, at_least, at_most in rows:
        wanted = ""
        if at_least:
            wanted = f"{f'≥ {at_least}':>9}{verdict(peer / ours >= at_least)}"
        if at_most:
            wanted = f"{f'+ ≤ {at_most}':>9}{verdict(ours - peer <= at_most)}"
        print(f"{what:44}{peer:9.2f}{ours:10.2f}{ours - peer:12.2f}{peer / ours:14.2f}{wanted}")
    print("""
create to ready  SandboxService.Create over gRPC (Python's stock client, connected), until it answers.
command's end    `<runtime> run --detach` with the flags and the config.json of the daemon, until the
                 command has ended.
socket's answer  The same command, until runtimed in the sandbox has answered a Hello.
on Docker        The same create through a daemon with engine docker, against `docker run --detach`
                 without a network, until the command has ended; both on the same Docker Engine.
true             ProcessService.Start of `true` until its exit status is there, over a connection that
                 is open, against `<runtime> exec ID true` in the same sandbox, `docker exec ID true`
                 in a container of a Docker Engine of its own, and a program in the same sandbox that
                 starts `true` and waits for it: what the sandbox's kernel takes for it.""")


def print_rate(what, measured, unit, wanted, ok=True):
    print(f"{what:44}{measured:9.2f} {unit:9}{wanted:>9}{verdict(ok)}")


def measure_rates(daemon):
    print(f"\n{'':44}{'measured':>9} {'':9}{'wanted':>9}")
    for runtime, at_least in zip(RUNTIMES, (1, 0.5)):
        rate = stream_rate(daemon, runtime)
        print_rate(f"{runtime}: a program's output, ttrpc", rate, "GB/s", f"≥ {at_least}",
                   rate >= at_least)
    for runtime, at_least in zip(RUNTIMES, (2000, None)):
        rate = start_rate(daemon, runtime)
        print_rate(f"{runtime}: starts of true, {SANDBOXES} sandboxes", rate, "/s",
                   f"≥ {at_least}" if at_least else "", not at_least or rate >= at_least)
    for runtime in RUNTIMES:
        cost = cost_of_a_network(daemon, runtime)
        print_rate(f"{runtime}: create to ready, bridge against none", cost, "ms more", "≤ 15",
                   cost <= 15)
    memory = idle_memory(daemon)
    print_rate("runtimed, idle", memory, "MiB", "≤ 1.5", memory <= 1.5)


@contextmanager
def running(**how):
    """A daemon, of which nothing stays."""
    daemon = Daemon(log={"level": "info"}, **how)
    try:
        daemon.start()
        yield daemon
        left = daemon.finish()
        assert left == [], left
    finally:
        daemon.destroy()


def main():
    if os.geteuid() != 0:
        sys.exit("bench: real sandboxes need root: run 'sudo make bench'")
    for runtime in RUNTIMES:
        if not find_runtime(runtime):
            sys.exit(f"bench: no {runtime} on this machine: run 'make deps'")
    with Docker() as docker, running(network={"pool": POOL}) as daemon, \
            running(on=DockerEngine(docker)) as on_docker:
        print_rows([row for runtime in RUNTIMES
                    for row in rows_of(runtime, measure(daemon, on_docker, runtime, docker))])
        measure_rates(daemon)


if __name__ == "__main__":
    main()
