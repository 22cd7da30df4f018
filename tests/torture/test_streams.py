"""Output by the gigabyte: not a byte is lost, doubled or changed, whoever is slow, goes away or is
killed; and starts by the thousand, of which nothing is left over."""

import hashlib
import json
import os
import subprocess
import time

import grpc
import pytest

from form import LONG
from harness import BUILD, refused, wait_until
from pattern import MIB, Checked, bring_printer, expected, sha256
from received import OUT, Received
from supervisor import Supervisor

SIZE = 1024 * MIB if LONG else 64 * MIB
DISCONNECTS = 50 if LONG else 10
KILLS = 3 if LONG else 1
PROCESSES = 500 if LONG else 200
START_SECONDS = 10 if LONG else 2
START_RATE = BUILD / "bench/start_rate"
# What the memory of the daemon, and of a supervisor, may grow by under it.
DAEMON_MAX, SUPERVISOR_MAX = 8 * MIB, 4 * MIB


class MemoryInside:
    """Of a supervisor that is no process of the host: what its kernel tells of it, ten times a
    second."""

    SCRIPT = """read _ now _ </proc/1/statm; echo $now; most=$now
    while ! read -t 0.1 _; do read _ now _ </proc/1/statm; [ $now -le $most ] || most=$now; done
    echo $most"""

    def __init__(self, api, ref):
        self.ref = ref
        self.pid = api.spawn(ref, "sh", "-c", self.SCRIPT, stdin_open=True)

    def growth(self, api):
        """Bytes, by which it was more than at first."""
        api.send_input(self.ref, self.pid, b"\n")
        first, most = api.follow(self.ref, self.pid).stdout.split()
        return (int(most) - int(first)) * 4096


class MemoryOutside:
    """As the host sees it."""

    def __init__(self, daemon, sandbox):
        self.supervisor = Supervisor(daemon, sandbox)
        self.before = self.supervisor.memory_max()

    def growth(self, _):
        return self.supervisor.memory_max() - self.before


class Flat:
    """Around a stream: nobody's memory grows with it."""

    def __init__(self, daemon, sandbox, figure):
        self.daemon, self.sandbox, self.figure = daemon, sandbox, figure

    def __enter__(self):
        assert self.daemon.api.run(self.sandbox.id, "true").code == 0
        self.before = self.daemon.memory()
        self.supervisor = (MemoryOutside(self.daemon, self.sandbox)
                           if self.sandbox.runtime == "runc" else
                           MemoryInside(self.daemon.api, self.sandbox.id))
        return self

    def check(self):
        growth = self.daemon.memory() - self.before
        assert growth < DAEMON_MAX
        return growth

    def __exit__(self, kind, *_):
        if kind:
            return
        growth, growth_inside = self.check(), self.supervisor.growth(self.daemon.api)
        assert growth_inside < SUPERVISOR_MAX
        self.figure(f"{growth / MIB:.1f} MiB more in the daemon, {growth_inside / MIB:.1f} in the "
                    "supervisor")


@pytest.fixture
def flat(daemon, sandbox, figure):
    return Flat(daemon, sandbox, figure)


def finished(digest, got):
    assert got.end.exit_code == 0 and got.end.stdout_size == SIZE
    assert digest.hexdigest() == sha256(SIZE)


@pytest.fixture
def printer(daemon, sandbox):
    return bring_printer(daemon, sandbox)


# --- one gigabyte ----------------------------------------------------------------------------


def test_a_fast_client(daemon, sandbox, printer, flat, figure):
    with flat:
        digest, began = hashlib.sha256(), time.monotonic()
        got = Checked(digest).all(daemon.api.stream(sandbox.id, *printer(SIZE), timeout=300))
        took = time.monotonic() - began
    finished(digest, got)
    figure(f"{SIZE / took / 1e9:.2f} GB/s to a client in Python that checks them")


def test_a_slow_client(daemon, sandbox, printer, flat):
    """It stops reading now and then. The only client there is slows the program down."""
    with flat:
        digest = hashlib.sha256()
        call = daemon.api.stream(sandbox.id, *printer(SIZE), timeout=300)
        got = Checked(digest)
        for n in range(1, 6):
            got.until(call, lambda got: got.n >= SIZE * n // 6)
            time.sleep(0.5)
        got.all(call)
    finished(digest, got)


def test_a_client_that_disconnects(daemon, sandbox, printer, flat):
    """And goes on where it was, with what it has."""
    with flat:
        digest, n = hashlib.sha256(), 0
        call = daemon.api.stream(sandbox.id, *printer(SIZE), timeout=300)
        got = Checked(digest)
        for i in range(1, DISCONNECTS + 1):
            got.until(call, lambda got: got.next[OUT] >= SIZE * i // (DISCONNECTS + 1))
            call.cancel()
            n = got.next[OUT]
            call = daemon.api.attach(sandbox.id, got.pid, stdout_offset=n, timeout=300)
            got = Checked(digest, stdout_offset=n).until(call, lambda got: got.pid)
        got.all(call)
    finished(digest, got)


def test_kills_of_the_daemon(daemon, sandbox, printer, flat, figure):
    """kill -9 in the middle of it."""
    with flat:
        digest, slowest = hashlib.sha256(), 0
        call = daemon.api.stream(sandbox.id, *printer(SIZE), timeout=300, tag="stream",
                                 output_overflow="OUTPUT_OVERFLOW_WAIT")
        got = Checked(digest)
        for i in range(1, KILLS + 1):
            got.until(call, lambda got: got.next[OUT] >= SIZE * i // (KILLS + 1))
            flat.check()
            began = time.monotonic()
            daemon.restart("SIGKILL")
            with pytest.raises(grpc.RpcError):  # of the daemon's end, or of the channel's
                got.all(call)  # what was on its way to the client
            flat.before = daemon.memory()
            n = got.next[OUT]
            call = daemon.api.attach(sandbox.id, "stream", stdout_offset=n, timeout=300)
            got = Checked(digest, stdout_offset=n).until(call, lambda got: got.n > 0)
            slowest = max(slowest, time.monotonic() - began)
        got.all(call)
    finished(digest, got)
    figure(f"{slowest * 1000:.0f} ms from the kill to the next byte")


def test_input(daemon, sandbox, flat, figure):
    """As much the other way, into a program that takes its digest."""
    api, block = daemon.api, 256 * 1024
    messages = ({"data": expected(at, block)} for at in range(0, SIZE, block))
    with flat:
        pid, began = api.spawn(sandbox.id, "sha256sum", stdin_open=True), time.monotonic()
        assert api.stream_input(sandbox.id, pid, messages, timeout=300) == SIZE
        took = time.monotonic() - began
        api.close_stdin(sandbox.id, pid)
        got = api.follow(sandbox.id, pid)
    assert got.stdout.decode().split()[0] == sha256(SIZE) and got.end.exit_code == 0
    figure(f"{SIZE / took / 1e9:.2f} GB/s into sha256sum")


# --- many ------------------------------------------------------------------------------------


def nothing_is_left(api, ref, supervisor, before):
    """Of processes that have ended, once none is kept."""
    wait_until(lambda: not api.ps(ref, all=True), "none kept", seconds=20)
    wait_until(lambda: supervisor.descriptors() == before, f"open as before: {before}", seconds=5)
    assert supervisor.files() == set() and supervisor.deleted() == 0
    assert supervisor.zombies() == []
    wait_until(lambda: supervisor.memory() < 2 * MIB, "small again", seconds=3)


def seen_inside(api, ref):
    """How much the supervisor has open, and how many zombies there are."""
    script = "ls /proc/1/fd | wc -l; cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ' || true"
    return api.sh(ref, script, keep_millis=1).split()


def test_many_at_once(api, daemon, runtime, figure):
    """Each prints, stays, and ends as it is told to."""
    sandbox = api.create(runtime=runtime, resources={"pids": 4096, "memory_bytes": 4096 * MIB})
    assert api.run(sandbox.id, "true", keep_millis=1).code == 0
    if runtime == "runc":
        wait_until(lambda: not api.ps(sandbox.id, all=True), "none kept")
        supervisor = Supervisor(daemon, sandbox)
        before = supervisor.descriptors()
    inside = seen_inside(api, sandbox.id)
    began = time.monotonic()
    text = "".join(f"{i}\n" for i in range(1, 3001)).encode()
    calls = [api.stream(sandbox.id, "sh", "-c", f"seq 1 3000; read x; echo {i} $x; exit {i % 100}",
                        stdin_open=True, keep_millis=1000, tag=f"t{i}", timeout=300)
             for i in range(PROCESSES)]
    all_got = [Received() for _ in calls]
    for got, call in zip(all_got, calls):
        got.until(call, lambda got: got.next[OUT] == len(text))
    assert len(api.ps(sandbox.id)) == PROCESSES
    for i in range(PROCESSES):
        api.send_input(sandbox.id, f"t{i}", b"end\n")
    for i, (got, call) in enumerate(zip(all_got, calls)):
        got.all(call)
        assert got.stdout == text + f"{i} end\n".encode() and got.end.exit_code == i % 100
    figure(f"{PROCESSES} processes in {time.monotonic() - began:.1f} s")
    wait_until(lambda: seen_inside(api, sandbox.id) == inside, f"inside as before: {inside}")
    if runtime == "runc":
        nothing_is_left(api, sandbox.id, supervisor, before)


def start_rate(daemon, sandboxes, keep_millis):
    """`true`, as often as it can be started."""
    done = subprocess.run(
        [START_RATE, daemon.socket, str(START_SECONDS), "4", "32", str(keep_millis),
         *[s.id for s in sandboxes]], capture_output=True, text=True, timeout=START_SECONDS + 60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("runtime", ["runc"], indirect=True)
def test_starts_by_the_thousand(make_daemon, runtime, figure):
    """Over several sandboxes. Here it is for what they leave over; `make bench` has the rate."""
    daemon = make_daemon(log={"level": "info"})
    api = daemon.api
    sandboxes = [api.create(runtime=runtime) for _ in range(4)]
    supervisors = [Supervisor(daemon, s) for s in sandboxes]
    for sandbox in sandboxes:
        assert api.run(sandbox.id, "true", keep_millis=1).code == 0
        wait_until(lambda s=sandbox: not api.ps(s.id, all=True), "none kept")
    before = [s.descriptors() for s in supervisors]
    fds, memory = len(os.listdir(f"/proc/{daemon.process.pid}/fd")), daemon.memory()

    measured = start_rate(daemon, sandboxes, keep_millis=1000)
    figure(f"{measured['rate']:.0f} starts/s for {START_SECONDS} s, p50 {measured['p50']:.1f} ms, "
           f"p99 {measured['p99']:.1f} ms, over {len(sandboxes)} sandboxes")
    assert max(s.memory_max() for s in supervisors) < 12 * MIB
    for sandbox, supervisor, descriptors in zip(sandboxes, supervisors, before):
        nothing_is_left(api, sandbox.id, supervisor, descriptors)
    assert daemon.memory() - memory < DAEMON_MAX
    wait_until(lambda: len(os.listdir(f"/proc/{daemon.process.pid}/fd")) <= fds + 8,
               "the daemon's descriptors closed")

    start_rate(daemon, sandboxes[:1], keep_millis=60000)
    kept = api.ps(sandboxes[0].id, all=True)
    assert len(kept) == 1024
    assert supervisors[0].memory() < 12 * MIB


@pytest.mark.parametrize("runtime", ["runc"], indirect=True)
def test_too_many(api, daemon, runtime, pool):
    """4,096 run at the most; who ends makes room."""
    sandbox = api.create(runtime=runtime, resources={"pids": 8192, "memory_bytes": 8192 * MIB})
    supervisor = Supervisor(daemon, sandbox)
    pids = list(pool.map(lambda _: api.spawn(sandbox.id, "sleep", "1000"), range(4096)))
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "4096"):
        api.spawn(sandbox.id, "true")
    assert {p.pid for p in api.ps(sandbox.id)} == set(pids)
    api.signal(sandbox.id, pids[0], 9, "TREE")
    assert api.run(sandbox.id, "true").code == 0
    assert supervisor.memory() < 64 * MIB
