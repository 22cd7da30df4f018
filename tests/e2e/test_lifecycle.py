"""The life of a sandbox, from create to delete."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from harness import output, refused, wait_until

pytestmark = pytest.mark.docker


@pytest.mark.parametrize("runtime", ["runc", "runsc", "runsc-r22"], indirect=True)
def test_whole_life(api, runtime):
    sandbox = api.create(name="box", runtime=runtime)
    assert api.state("box") == "RUNNING"
    assert (sandbox.name, sandbox.runtime) == ("box", runtime)
    assert sandbox.created_at.seconds > 0 and sandbox.started_at.seconds > 0
    assert api.sh("box", "echo kept >file; uname") == "Linux\n"

    api.stop("box")
    assert api.state("box") == "STOPPED"
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "start"):
        api.run("box", "true")
    api.stop("box")  # a stopped one stays stopped

    api.start("box")
    assert api.state("box") == "RUNNING"
    assert api.sh("box", "cat file") == "kept\n"
    api.start("box")  # a running one stays
    assert api.state("box") == "RUNNING"

    api.delete("box")
    with refused(grpc.StatusCode.NOT_FOUND, "box"):
        api.get("box")
    assert list(api.list()) == []


def test_stop_ends_every_process(api, sandbox, daemon):
    init = daemon.init_pid(sandbox)
    api.sh(sandbox.id, "for i in 1 2 3; do (trap '' TERM; sleep 1000) >/dev/null 2>&1 & done")
    call = api.stream(sandbox.id, "sh", "-c", "trap '' TERM; echo up; sleep 1000")
    assert output(call) == "up\n"
    api.stop(sandbox.id, grace_millis=200)
    assert not Path(f"/proc/{init}").exists()
    with refused(grpc.StatusCode.UNAVAILABLE):
        list(call)


def test_delete_while_a_command_runs(api, sandbox):
    call = api.stream(sandbox.id, "sh", "-c", "echo up; sleep 1000")
    assert output(call) == "up\n"
    api.delete(sandbox.id)
    with refused(grpc.StatusCode.UNAVAILABLE):
        list(call)


def test_twenty_at_once(api, runtime):
    with ThreadPoolExecutor(20) as pool:
        sandboxes = list(pool.map(lambda i: api.create(name=f"box-{i}", runtime=runtime, timeout=120),
                                  range(20)))
        assert len({s.id for s in sandboxes}) == 20
        assert {api.state(s.id) for s in sandboxes} == {"RUNNING"}
        said = list(pool.map(lambda s: api.sh(s.id, f"echo {s.name}; hostname"), sandboxes))
        # Each heard its own command, and each is another machine.
        assert [text.splitlines()[0] for text in said] == [s.name for s in sandboxes]
        assert len({text.splitlines()[1] for text in said}) == 20
        list(pool.map(lambda s: api.delete(s.id), sandboxes))
    assert list(api.list()) == []


def test_list_and_references(api, runtime):
    first = api.create(name="first", runtime=runtime)
    second = api.create(runtime=runtime)
    assert [s.id for s in api.list()] == [first.id, second.id]  # oldest first
    common = next(i for i in range(26) if first.id[i] != second.id[i])
    assert api.get(first.id[:common + 1]).id == first.id
    assert api.get("first").id == first.id
    with refused(grpc.StatusCode.INVALID_ARGUMENT, first.id[:common]):
        api.get(first.id[:common])
    assert api.sh(second.id[:common + 1], "echo hello") == "hello\n"
    info = api.info()
    assert (info.sandboxes, info.sandboxes_running) == (2, 2)


def test_environment_and_limits(api, runtime):
    sandbox = api.create(runtime=runtime, env={"GREETING": "hello", "EMPTY": ""},
                         resources={"memory_bytes": 256 << 20, "cpu_millis": 500})
    assert sandbox.resources.memory_bytes == 256 << 20
    assert sandbox.resources.cpu_millis == 500
    assert sandbox.resources.pids > 0  # the default
    script = 'echo "$GREETING,${EMPTY-unset},$HOME"'
    assert api.sh(sandbox.id, script) == "hello,,/home/sandbox\n"
    api.stop(sandbox.id)
    api.start(sandbox.id)
    assert api.sh(sandbox.id, script, env={"GREETING": "bye"}) == "bye,,/home/sandbox\n"


def test_unexpected_death_is_seen(api, sandbox, daemon):
    """kill -9 of the sandbox's main process from the host."""
    os.kill(daemon.init_pid(sandbox), signal.SIGKILL)
    wait_until(lambda: api.state(sandbox.id) == "FAILED", "state FAILED", seconds=3)
    assert api.get(sandbox.id).reason
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        api.run(sandbox.id, "true")
    api.start(sandbox.id)
    assert api.sh(sandbox.id, "echo again") == "again\n"
