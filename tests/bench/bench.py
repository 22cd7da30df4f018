#!/usr/bin/python3
"""What sandboxd adds to the bare runtime. `sudo make bench`; ROUNDS=n for another number of rounds.

Each round takes every measurement once, bare and through the daemon in turn, so that both see the
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

from sandboxd.control.v1 import control_pb2
from sandboxd.v1 import process_pb2

from harness import Daemon, find_runtime
from ttrpc_client import Client

ROUNDS = int(os.environ.get("ROUNDS", "20"))

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


def measure(daemon, runtime):
    sandbox = daemon.api.create(runtime=runtime)
    bare = Bare(runtime, daemon, sandbox)
    client = Client(daemon.socket)
    exec_command = [bare.program, f"--root={daemon.state}/runtime/{runtime}", *bare.flags, "exec",
                    sandbox.id, "true"]
    samples = {key: [] for key in ("command", "bare ready", "create", "bare exec", "ttrpc", "grpc")}

    def create_through_the_daemon():
        took, other = milliseconds(lambda: daemon.api.create(runtime=runtime))
        daemon.api.delete(other.id)
        return took

    for i in range(ROUNDS + 1):
        if i % 2:  # neither always follows the other
            command, ready = bare.create()
            create = create_through_the_daemon()
        else:
            create = create_through_the_daemon()
            command, ready = bare.create()
        bare_exec, _ = milliseconds(run, *exec_command)
        ttrpc, _ = milliseconds(run_true, client, sandbox)
        grpc, _ = milliseconds(daemon.api.run, sandbox.id, "true")
        if i:  # the first round warms up
            for key, value in zip(samples, (command, ready, create, bare_exec, ttrpc, grpc)):
                samples[key].append(value)
    return {key: statistics.median(values) for key, values in samples.items()}


def main():
    if os.geteuid() != 0:
        sys.exit("bench: real sandboxes need root: run 'sudo make bench'")
    daemon = Daemon(log={"level": "info"})
    rows = []
    try:
        daemon.start()
        for runtime in ("runc", "runsc"):
            if not find_runtime(runtime):
                sys.exit(f"bench: no {runtime} on this machine: run 'make deps'")
            m = measure(daemon, runtime)
            rows += [
                (f"{runtime}: create to ready / command's end", m["command"], m["create"]),
                (f"{runtime}: create to ready / socket's answer", m["bare ready"], m["create"]),
                (f"{runtime}: exec of true, ttrpc", m["bare exec"], m["ttrpc"]),
                (f"{runtime}: exec of true, gRPC", m["bare exec"], m["grpc"]),
            ]
        left = daemon.finish()
        assert left == [], left
    finally:
        daemon.destroy()

    print(f"Medians of {ROUNDS} rounds, in milliseconds; bare and sandboxd in turn.\n")
    print(f"{'':44}{'bare':>9}{'sandboxd':>10}{'difference':>12}{'sandboxd/bare':>15}")
    for what, bare, ours in rows:
        print(f"{what:44}{bare:9.2f}{ours:10.2f}{ours - bare:12.2f}{ours / bare:15.3f}")
    print("""
create to ready  SandboxService.Create over gRPC (Python's stock client, connected), until it answers.
command's end    `<runtime> run --detach` with the flags and the config.json of the daemon, until the
                 command has ended.
socket's answer  The same command, until runtimed in the sandbox has answered a Hello.
exec of true     ProcessService.Start of `true` until its exit status is there, over a connection that
                 is open, against `<runtime> exec ID true` in the same sandbox.""")


if __name__ == "__main__":
    main()
