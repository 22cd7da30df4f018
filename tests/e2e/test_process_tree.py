"""Ends: signals to a process, its group and its tree, timeouts, clients that go, and too much
memory. Kill means gone."""

import time

import grpc
import pytest

from harness import cause_name, refused, wait_until, within
from pattern import INSIDE
from received import Received

RUNTIMES = pytest.mark.parametrize("runtime", ["runc", "runsc", "runsc-r22"], indirect=True)
RUNC = pytest.mark.parametrize("runtime", ["runc"], indirect=True)
Code = grpc.StatusCode
MIB = 1 << 20
# Each in the tree of the shell, none to be found by its parents or its session: a child, one in a
# session of its own, an orphan, and an orphan in a session of its own that minds no SIGTERM. The
# number is how they are found.
TREE = """sleep 98760 & setsid sleep 98760 & (sleep 98760 &); (setsid sh -c '
trap "" TERM; exec sleep 98760' &); echo ready; wait; wait; sleep 98760"""


def alive(api, ref, word="98760"):
    """How many processes of the sandbox sleep for so long."""
    lines = api.sh(ref, "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; echo; done 2>/dev/null")
    return lines.splitlines().count(f"sleep {word} ")


def plant(api, ref, script=TREE, sleepers={"98760": 4}, **fields):
    """A tree that stands, with so many that sleep for so long: its call, and what came."""
    call = api.stream(ref, "sh", "-c", script, **fields)
    got = Received().until(call, lambda got: b"ready" in got.stdout)
    for word, n in sleepers.items():
        wait_until(lambda: alive(api, ref, word) == n, f"{n} that sleep for {word} s")
    return call, got


# --- signals ---------------------------------------------------------------------------------


@RUNTIMES
def test_scopes(api, sandbox):
    """A process is one, a group has two here; of the tree what is left is reached."""
    call, got = plant(api, sandbox.id, "trap 'echo USR1' USR1; " + TREE)
    assert alive(api, sandbox.id) == 4
    assert api.signal(sandbox.id, got.pid, 10, "PROCESS") == 1
    got.until(call, lambda got: got.stdout.count(b"USR1") == 1)
    assert api.signal(sandbox.id, got.pid, 10) == 1  # by default the process too
    got.until(call, lambda got: got.stdout.count(b"USR1") == 2)
    assert alive(api, sandbox.id) >= 4
    api.signal(sandbox.id, got.pid, 9, "TREE")

    call, got = plant(api, sandbox.id, "sleep 98765 & setsid sleep 98766 & echo ready; wait",
                      {"98765": 1, "98766": 1})
    assert api.signal(sandbox.id, got.pid, 15, "GROUP") == 0  # they are not counted
    assert got.all(call).end.signal == 15
    assert (alive(api, sandbox.id, "98765"), alive(api, sandbox.id, "98766")) == (0, 1)
    assert api.signal(sandbox.id, got.pid, 9, "TREE") == 1
    assert alive(api, sandbox.id, "98766") == 0
    assert api.signal(sandbox.id, got.pid, 9, "TREE") == 0


@pytest.mark.docker
@RUNTIMES
def test_tree_kill(api, sandbox):
    """It is answered when none is left."""
    call, got = plant(api, sandbox.id)
    assert api.signal(sandbox.id, got.pid, 9, "TREE") == 5
    assert alive(api, sandbox.id) == 0
    got.all(call)
    assert (got.end.exit_code, got.end.signal, got.end.output_open) == (137, 9, False)


def test_tree_kill_spares_the_others(api, sandbox):
    """Also those that a client had started before and after."""
    others = [api.spawn(sandbox.id, "sleep", "98761")]
    call, got = plant(api, sandbox.id)
    others.append(api.spawn(sandbox.id, "sh", "-c", "setsid sleep 98761 & wait"))
    wait_until(lambda: alive(api, sandbox.id, "98761") == 2, "the others")
    api.signal(sandbox.id, got.pid, 9, "TREE")
    assert (alive(api, sandbox.id), alive(api, sandbox.id, "98761")) == (0, 2)
    assert [p.pid for p in api.ps(sandbox.id)] == others


@RUNTIMES
def test_first_term_then_kill(api, sandbox):
    """Those that mind SIGTERM are not waited for; those that do not get SIGKILL in time."""
    call, got = plant(api, sandbox.id)
    began = time.monotonic()
    assert api.signal(sandbox.id, got.pid, 15, "TREE", kill_after_millis=1000) == 5
    assert 0.9 < time.monotonic() - began < 9
    assert alive(api, sandbox.id) == 0
    assert got.all(call).end.signal == 15

    call, got = plant(api, sandbox.id, "sleep 98761 & setsid sleep 98761 & echo ready;"
                                       "exec sleep 98761", {"98761": 3})
    with within(20):
        assert api.signal(sandbox.id, got.pid, 15, "TREE", kill_after_millis=60000) == 3
    assert alive(api, sandbox.id, "98761") == 0


def test_term_alone(api, sandbox):
    """is answered when it was sent."""
    call, got = plant(api, sandbox.id, "trap 'echo told' TERM; echo ready; while :; do sleep 0.1; done",
                      {})
    assert api.signal(sandbox.id, got.pid, 15, "TREE") in (1, 2)
    got.until(call, lambda got: b"told" in got.stdout)
    assert api.signal(sandbox.id, got.pid, 9) == 1
    assert got.all(call).end.signal == 9


@RUNTIMES
def test_stopped_children(api, sandbox):
    """do not hold a kill up."""
    call, got = plant(api, sandbox.id, "sleep 98760 & a=$!; setsid sleep 98760 & sleep 0.3;"
                                       "kill -STOP $a $!; echo ready; kill -STOP $$", {"98760": 2})
    time.sleep(0.3)
    with within(20):
        assert api.signal(sandbox.id, got.pid, 15, "TREE", kill_after_millis=300) == 3
    assert alive(api, sandbox.id) == 0
    assert got.all(call).end.signal in (9, 15)


def test_stop_and_go_on(api, sandbox):
    """A stopped program has not ended."""
    call, got = plant(api, sandbox.id, "echo ready; read x; echo went on; exit 8", {},
                      stdin_open=True)
    api.signal(sandbox.id, got.pid, 19)
    api.send_input(sandbox.id, got.pid, b"\n")
    time.sleep(0.5)
    shown = api.process(sandbox.id, got.pid)
    assert not shown.HasField("end") and shown.stdout_size == len("ready\n")
    api.signal(sandbox.id, got.pid, 18)
    assert got.all(call).end.exit_code == 8


@RUNC
def test_signal_errors(api, sandbox):
    pid = api.spawn(sandbox.id, "sleep", "1000")
    for number in 0, -1, 65, 1000:
        with refused(Code.INVALID_ARGUMENT, "signal"):
            api.signal(sandbox.id, pid, number)
    for scope in "UNSPECIFIED", "PROCESS", "GROUP":
        with refused(Code.INVALID_ARGUMENT, "kill_after_millis"):
            api.signal(sandbox.id, pid, 15, scope, kill_after_millis=1)
    with refused(Code.INVALID_ARGUMENT, "kill_after_millis"):
        api.signal(sandbox.id, pid, 15, "TREE", kill_after_millis=3600001)
    assert not api.process(sandbox.id, pid).HasField("end")
    assert api.signal(sandbox.id, pid, 64) == 1
    assert api.wait_process(sandbox.id, pid).signal == 64
    for scope in "PROCESS", "GROUP":
        with refused(Code.FAILED_PRECONDITION):
            api.signal(sandbox.id, pid, 15, scope)
    assert api.signal(sandbox.id, pid, 15, "TREE") == 0


def test_moving_targets(api, sandbox, daemon):
    """Twenty processes that ignore SIGTERM and are on and on replaced by children of theirs, each in
    a session of its own."""
    daemon.bring(sandbox, INSIDE)
    call = api.stream(sandbox.id, "./inside", "comets", "20", kill_on_disconnect=True)
    got = Received().until(call, lambda got: b"ready" in got.stdout)
    with within(12):
        api.signal(sandbox.id, got.pid, 15, "TREE", kill_after_millis=200)
    assert "inside" not in api.sh(sandbox.id, "cat /proc/[0-9]*/cmdline 2>/dev/null || true")
    assert got.all(call).end.signal == 9


@RUNC
def test_fork_bomb(api, daemon, runtime):
    """Within its limit of processes, which it has reached."""
    sandbox = api.create(runtime=runtime, resources={"pids": 100})
    daemon.bring(sandbox, INSIDE)
    call = api.stream(sandbox.id, "./inside", "bomb", "1")
    got = Received().until(call, lambda got: got.pid)
    wait_until(lambda: api.stats(sandbox.id).pids >= 95, "the bomb")
    with within(12):
        api.signal(sandbox.id, got.pid, 9, "TREE", timeout=30)
    assert got.all(call).end.signal == 9
    wait_until(lambda: api.stats(sandbox.id).pids < 10, "the last of them reaped")
    assert api.run(sandbox.id, "true").code == 0


@pytest.mark.parametrize("runtime", ["runsc"], indirect=True)
def test_fork_bomb_in_gvisor(api, daemon, runtime):
    """gVisor does not limit its processes: the bomb takes the sandbox along, and nobody else."""
    other, sandbox = api.create(runtime=runtime), api.create(
        runtime=runtime, resources={"memory_bytes": 256 * MIB})
    daemon.bring(sandbox, INSIDE)
    call = api.stream(sandbox.id, "./inside", "bomb", "1")
    failed = api.wait(sandbox.id, "FAILED")
    assert cause_name(failed) == "OUT_OF_MEMORY"
    with refused(Code.UNAVAILABLE):
        Received().all(call)
    assert api.run(other.id, "true").code == 0
    api.start(sandbox.id)
    assert api.run(sandbox.id, "true").code == 0


# --- timeouts --------------------------------------------------------------------------------


@RUNTIMES
def test_timeout(api, sandbox):
    began = time.monotonic()
    got = Received().all(api.stream(sandbox.id, "sleep", "1000", timeout_millis=500))
    assert 0.4 < time.monotonic() - began < 15
    assert got.end.timed_out and (got.end.exit_code, got.end.signal) == (143, 15)


def test_timeout_of_who_minds_no_sigterm(api, sandbox):
    """SIGKILL 2 s later, to the whole tree."""
    began = time.monotonic()
    call, got = plant(api, sandbox.id, "trap '' TERM; setsid sleep 98760 & (setsid sleep 98760 &);"
                                       "echo ready; while :; do sleep 1; done",
                      {}, timeout_millis=1000)
    got.all(call)
    assert 2.5 < time.monotonic() - began < 15
    assert got.end.timed_out and got.end.signal == 9
    gone(api, sandbox.id)


def test_timeout_of_a_leader_only(api, sandbox):
    """It ends at once; what minds no SIGTERM in its tree ends later, also without a client."""
    call, got = plant(api, sandbox.id, sleepers={}, timeout_millis=1000)
    call.cancel()
    end = api.wait_process(sandbox.id, got.pid)
    assert end.timed_out and end.signal == 15
    gone(api, sandbox.id)


def test_in_time(api, sandbox):
    """A program that ends before its timeout, with a status of its own."""
    got = Received().all(api.stream(sandbox.id, "sh", "-c", "setsid sleep 98760 & exit 143",
                                    timeout_millis=1500))
    assert not got.end.timed_out and (got.end.exit_code, got.end.signal) == (143, 0)


# --- clients that go -------------------------------------------------------------------------


def gone(api, ref):
    wait_until(lambda: alive(api, ref) == 0, "the tree gone", 20)


@RUNTIMES
def test_kill_on_disconnect(api, sandbox):
    """The whole tree, once the time to come back is over."""
    call, got = plant(api, sandbox.id, kill_on_disconnect=True, disconnect_grace_millis=3000)
    began = time.monotonic()
    call.cancel()
    assert alive(api, sandbox.id) >= 4
    gone(api, sandbox.id)
    assert time.monotonic() - began > 2.9
    end = api.wait_process(sandbox.id, got.pid)
    assert end.signal == 9 and not end.timed_out


def test_a_deadline_is_a_disconnect(api, sandbox):
    call, got = plant(api, sandbox.id, kill_on_disconnect=True, disconnect_grace_millis=1, timeout=4)
    with refused(Code.DEADLINE_EXCEEDED):
        got.all(call)
    gone(api, sandbox.id)


def test_who_comes_back_in_time(api, sandbox):
    """keeps it alive, and is the client that counts then."""
    call, got = plant(api, sandbox.id, kill_on_disconnect=True, disconnect_grace_millis=4000)
    for _ in range(3):
        call.cancel()
        time.sleep(1.5)
        call = api.attach(sandbox.id, got.pid)
        Received().until(call, lambda got: got.pid)
    second = api.attach(sandbox.id, got.pid)
    Received().until(second, lambda got: got.pid)
    call.cancel()  # not the last one
    time.sleep(4.5)
    assert alive(api, sandbox.id) >= 4
    second.cancel()
    gone(api, sandbox.id)


def test_without_it_nothing_is_killed(api, sandbox):
    call, got = plant(api, sandbox.id, disconnect_grace_millis=1)
    call.cancel()
    time.sleep(1)
    assert alive(api, sandbox.id) >= 4
    assert not api.process(sandbox.id, got.pid).HasField("end")


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_a_restart_of_the_daemon(daemon, api, sandbox, how):
    """kills nothing whose client comes back; and what nobody comes back for."""
    fields = {"kill_on_disconnect": True, "disconnect_grace_millis": 4000}
    call, got = plant(api, sandbox.id, **fields)
    other, lost = plant(api, sandbox.id, "echo ready; exec sleep 98769", {"98769": 1}, **fields)
    daemon.restart(how)
    for broken in call, other:
        with refused(Code.UNAVAILABLE):
            list(broken)
    api = daemon.api
    call = api.attach(sandbox.id, got.pid, stdout_offset=len(got.stdout))
    Received(stdout_offset=len(got.stdout)).until(call, lambda got: got.pid)
    assert api.wait_process(sandbox.id, lost.pid, timeout=20).signal == 9
    time.sleep(0.5)
    assert alive(api, sandbox.id) >= 4 and alive(api, sandbox.id, "98769") == 0
    call.cancel()
    gone(api, sandbox.id)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_while_no_daemon_runs(daemon, api, sandbox, how):
    """nobody can come back: the time to do so begins with the next one."""
    fields = {"kill_on_disconnect": True, "disconnect_grace_millis": 3000}
    call, got = plant(api, sandbox.id, **fields)
    other, lost = plant(api, sandbox.id, "echo ready; exec sleep 98769", {"98769": 1}, **fields)
    getattr(daemon, how)()
    for broken in call, other:
        with refused(Code.UNAVAILABLE):
            list(broken)
    time.sleep(4)
    daemon.start()
    api = daemon.api
    call = api.attach(sandbox.id, got.pid, stdout_offset=len(got.stdout))
    Received(stdout_offset=len(got.stdout)).until(call, lambda got: got.pid)
    assert api.wait_process(sandbox.id, lost.pid, timeout=20).signal == 9
    assert alive(api, sandbox.id) >= 4
    call.cancel()
    gone(api, sandbox.id)


def test_a_client_that_ends_with_its_program(api, sandbox):
    """leaves its children alone: nobody has disconnected."""
    got = Received().all(api.stream(sandbox.id, "sh", "-c", "setsid sleep 98760 >&- 2>&- & sleep 0.3",
                                    kill_on_disconnect=True, disconnect_grace_millis=100))
    assert got.end.exit_code == 0
    time.sleep(0.7)
    assert alive(api, sandbox.id) == 1


# --- memory ----------------------------------------------------------------------------------


@RUNC
def test_out_of_memory(api, daemon, runtime):
    """The kernel's kill is told apart from others; the sandbox goes on."""
    sandbox = api.create(runtime=runtime, resources={"memory_bytes": 64 * MIB})
    daemon.bring(sandbox, INSIDE)
    got = Received().all(api.stream(sandbox.id, "./inside", "eat", str(512 * MIB)))
    assert (got.end.exit_code, got.end.signal, got.end.oom) == (137, 9, True)
    got = Received().all(api.stream(sandbox.id, "sh", "-c", "kill -9 $$"))
    assert (got.end.exit_code, got.end.signal, got.end.oom) == (137, 9, False)
    assert api.run(sandbox.id, "true").code == 0
