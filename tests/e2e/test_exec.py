"""Commands in a sandbox."""

import hashlib
import itertools
import time

import grpc
import pytest

from harness import output, refused, wait_until


@pytest.mark.docker
@pytest.mark.parametrize("runtime", ["runc", "runsc", "runsc-r22"], indirect=True)
def test_output_and_status(api, sandbox):
    done = api.run(sandbox.id, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert done == (b"out\n", b"err\n", 7, 0, "")
    assert api.run(sandbox.id, "true").code == 0


def test_no_such_program(api, sandbox):
    done = api.run(sandbox.id, "no-such-program")
    assert (done.code, done.signal) == (127, 0)
    assert "no-such-program" in done.error


def test_not_executable(api, sandbox):
    api.sh(sandbox.id, "echo text >file")
    done = api.run(sandbox.id, "./file")
    assert done.code == 126 and done.error


def test_killed(api, sandbox):
    done = api.run(sandbox.id, "sh", "-c", "kill -9 $$")
    assert (done.code, done.signal) == (137, 9)


@pytest.mark.docker
def test_arguments_environment_directory(api, sandbox):
    done = api.run(sandbox.id, "printf", "%s|", "a b", "", "*", "ü")
    assert done.stdout.decode() == "a b||*|ü|"
    assert api.sh(sandbox.id, "pwd") == "/home/sandbox\n"
    assert api.sh(sandbox.id, "pwd; echo $A", cwd="/tmp", env={"A": "b=c"}) == "/tmp\nb=c\n"
    assert api.run(sandbox.id, "true", cwd="/nowhere").error


@pytest.mark.parametrize("args", [[], [""]])
def test_nothing_to_run(api, sandbox, args):
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        api.run(sandbox.id, *args)


def test_output_arrives_while_the_program_runs(api, sandbox):
    """Not by the clock: the program goes on only when its first output has been seen."""
    call = api.stream(sandbox.id, "sh", "-c", "mkfifo go; echo one; cat go; echo two")
    assert output(call) == "one\n"
    api.sh(sandbox.id, "echo now >go")
    rest = [event for event in call]
    assert b"".join(e.data.data for e in rest) == b"now\ntwo\n"
    assert rest[-1].end.exit_code == 0


def test_a_background_process_does_not_hold_the_end_up(api, sandbox):
    done = api.run(sandbox.id, "sh", "-c", "sleep 1000 & echo started", timeout=20)
    assert (done.stdout, done.code) == (b"started\n", 0)


def test_big_output_to_a_slow_reader(api, sandbox, daemon):
    """64 MiB of numbers arrive byte for byte, and the daemon does not hoard them."""
    size = 64 << 20
    before = daemon.memory()
    call = api.stream(sandbox.id, "sh", "-c", f"seq 1 9000000 | head -c {size}", timeout=300)
    digest, n = hashlib.sha256(), 0
    for event in call:
        if n == 0:
            time.sleep(2)  # long enough to fill every buffer on the way
        if event.WhichOneof("event") == "data":
            assert event.data.offset == n
            digest.update(event.data.data)
            n += len(event.data.data)
    assert n == size
    assert digest.hexdigest() == numbers(size)
    assert daemon.memory() - before < 8 << 20


def numbers(size):
    """The SHA-256 of the first bytes of `seq 1 9000000`."""
    digest = hashlib.sha256()
    for start in itertools.count(1, 100000):
        chunk = b"".join(b"%d\n" % i for i in range(start, start + 100000))[:size]
        digest.update(chunk)
        size -= len(chunk)
        if not size:
            return digest.hexdigest()


@pytest.mark.docker
def test_fifty_commands_at_once(api, sandbox):
    calls = [api.stream(sandbox.id, "sh", "-c", f"echo {i}") for i in range(50)]
    assert [output(call) for call in calls] == [f"{i}\n" for i in range(50)]


def is_alive(api, sandbox, pid):
    return api.run(sandbox.id, "kill", "-0", pid).code == 0


@pytest.mark.parametrize("kill", [True, False])
def test_disconnect(api, sandbox, kill):
    call = api.stream(sandbox.id, "sh", "-c", "sleep 1000 & echo $!; wait", kill_on_disconnect=kill)
    child = output(call).strip()
    call.cancel()
    if kill:
        wait_until(lambda: not is_alive(api, sandbox, child), "the end of the program's child")
    else:
        time.sleep(0.5)
        assert is_alive(api, sandbox, child)


def test_deadline(api, sandbox):
    """A command that outlives the caller's deadline."""
    call = api.stream(sandbox.id, "sh", "-c", "echo $$; exec sleep 1000", timeout=2,
                      kill_on_disconnect=True)
    pid = output(call).strip()
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        list(call)
    wait_until(lambda: not is_alive(api, sandbox, pid), "the end of the program")
