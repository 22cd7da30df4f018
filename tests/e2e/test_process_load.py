"""What the supervisor costs: while it reaps by the ten thousand, and when nothing runs."""

import time

import grpc
import pytest

from harness import refused, wait_until, within
from pattern import INSIDE
from received import Received
from supervisor import Supervisor

RUNC = pytest.mark.parametrize("runtime", ["runc"], indirect=True)  # seen from the host
KIB, MIB = 1 << 10, 1 << 20


def test_zombies(api, daemon, runtime):
    """100,000 orphans that end are reaped, and others do not wait until they are."""
    n = 100000
    # On a busy machine more may come in one turn than the default limit has room for.
    sandbox = api.create(runtime=runtime, resources={"pids": 4096})
    daemon.bring(sandbox, INSIDE)
    assert api.run(sandbox.id, "true").code == 0
    call = api.stream(sandbox.id, "./inside", "zombies", str(n), "100", timeout=120)
    got = Received().until(call, lambda got: got.pid)
    times = [time.monotonic()]
    while not api.process(sandbox.id, got.pid).HasField("end"):
        assert api.run(sandbox.id, "true").code == 0
        times.append(time.monotonic())
    assert got.all(call).stdout == b"done\n"
    slowest = max(after - before for before, after in zip(times, times[1:]))
    assert len(times) > 4 and slowest < max(1, (times[-1] - times[0]) / 4), times
    count = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ' || true"
    wait_until(lambda: api.sh(sandbox.id, count) == "0\n", "none left")
    if sandbox.runtime == "runc":
        assert Supervisor(daemon, sandbox).zombies() == []


def sleeps(supervisor, seconds):
    before = supervisor.switches()
    time.sleep(seconds)
    return supervisor.switches() == before


@RUNC
def test_idle(api, sandbox, daemon):
    """When all has ended and nothing is kept any more, the supervisor sleeps, is small, and has open
    what it had at first."""
    supervisor = Supervisor(daemon, sandbox)
    assert api.run(sandbox.id, "true", keep_millis=1).code == 0
    wait_until(lambda: api.ps(sandbox.id, all=True) == [], "nothing kept")
    before = supervisor.descriptors()
    for i in range(30):
        size = 2 * MIB if i % 3 else 10
        pid = api.spawn(sandbox.id, "sh", "-c", f"head -c {size} /dev/zero; cat", stdin_open=True,
                        keep_millis=1000, output_size=MIB, terminal=None if i % 5 else
                        {"rows": 24, "columns": 80})
        call = api.attach(sandbox.id, pid)
        Received(gaps=True).until(call, lambda got: got.parts)
        if i % 2:
            call.cancel()
        if i % 5:
            api.send_input(sandbox.id, pid, bytes(100000))
            api.close_stdin(sandbox.id, pid)
        else:
            api.signal(sandbox.id, pid, 9, "TREE")
        api.wait_process(sandbox.id, pid)
        if not i % 2:
            list(call)
    wait_until(lambda: api.ps(sandbox.id, all=True) == [], "nothing kept")
    wait_until(lambda: supervisor.descriptors() == before, f"open as at first: {before}")
    assert supervisor.files() == set() and supervisor.zombies() == []
    wait_until(lambda: sleeps(supervisor, 3), "it sleeps", seconds=30)
    assert supervisor.memory() <= 1536 * KIB


@RUNC
def test_kept_output_lies_in_no_file(api, sandbox, daemon):
    """that has a name; and its room is given back."""
    supervisor = Supervisor(daemon, sandbox)
    pid = api.spawn(sandbox.id, "head", "-c", str(8 * MIB), "/dev/zero", keep_millis=5000)
    api.wait_process(sandbox.id, pid)
    assert supervisor.files() == set()
    assert 7 * MIB < supervisor.deleted() < 10 * MIB
    assert supervisor.memory() < 4 * MIB
    wait_until(lambda: supervisor.deleted() == 0, "its room given back", seconds=15)
    with refused(grpc.StatusCode.NOT_FOUND):
        api.wait_process(sandbox.id, pid)


@RUNC
def test_no_room_for_files(api, daemon, runtime):
    """All processes together keep 1 GiB: then of each the last 128 KiB at least."""
    sandbox = api.create(runtime=runtime)
    pids = [api.spawn(sandbox.id, "head", "-c", str(300 * MIB), "/dev/zero",
                      output_size=256 * MIB) for _ in range(5)]
    kept = []
    for pid in pids:
        assert api.wait_process(sandbox.id, pid).stdout_size == 300 * MIB
        shown = api.process(sandbox.id, pid)
        kept.append(shown.stdout_size - shown.stdout_kept_from)
    assert sum(kept) <= 1024 * MIB + 5 * MIB and min(kept) >= 128 * KIB
    with within(20):
        got = api.follow(sandbox.id, pids[-1], gaps=True, until_now=True,
                         stdout_offset=300 * MIB - 128 * KIB)
    assert (len(got.stdout), got.gaps) == (128 * KIB, [])
    assert Supervisor(daemon, sandbox).memory_max() < 16 * MIB
