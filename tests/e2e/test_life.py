"""What a sandbox can be asked for between create and delete, and how it ends."""

import os
import platform
import shutil
import signal
import time
from pathlib import Path

import grpc
import pytest
from sandboxd.v1 import sandbox_pb2

from harness import (cause_name, identity, operation, output, refused, state_name, wait_until,
                     within)
from shim import shimmed_daemon

FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
MIB = 1 << 20
HOWS = pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
# From here on the kernel tells how a process ended that is nobody's child here: pidfs and
# PIDFD_INFO_EXIT.
TELLS_EXITS = tuple(int(n) for n in platform.release().split(".")[:2]) >= (6, 15)


@pytest.fixture
def shimmed(make_daemon, tmp_path, runtime):
    """A daemon whose runtime, of the name "shim", makes trouble when it is told to."""
    return shimmed_daemon(make_daemon, tmp_path / "shim", runtime)


def counts(api, ref):
    """Starts a process that counts in a file; its pid in the sandbox."""
    script = "(i=0; while :; do i=$((i+1)); echo $i >>count; sleep 0.05; done) >/dev/null 2>&1 &"
    return api.sh(ref, f"{script} echo $!").strip()


def count(daemon, sandbox):
    try:
        return (daemon.workspace(sandbox) / "count").stat().st_size
    except FileNotFoundError:
        return 0


def stands_still(daemon, sandbox):
    before = count(daemon, sandbox)
    time.sleep(0.5)
    return count(daemon, sandbox) == before


def moves(daemon, sandbox):
    before = count(daemon, sandbox)
    return wait_until(lambda: count(daemon, sandbox) > before, "it counts on")


def alive(api, ref, pid):
    return api.run(ref, "kill", "-0", pid).code == 0


# --- pause and resume ------------------------------------------------------------------------


@pytest.mark.docker
def test_pause_and_resume(daemon, api, sandbox):
    pid = counts(api, sandbox.id)
    moves(daemon, sandbox)
    call = api.stream(sandbox.id, "sh", "-c", "while :; do echo up; sleep 0.05; done",
                      kill_on_disconnect=True)
    assert output(call)
    main = identity(daemon.init_pid(sandbox))

    assert state_name(api.pause(sandbox.id)) == "PAUSED"
    assert stands_still(daemon, sandbox)
    with refused(FAILED_PRECONDITION, "paused"):
        api.run(sandbox.id, "true")
    assert state_name(api.pause(sandbox.id)) == "PAUSED"  # a paused one stays paused
    with refused(FAILED_PRECONDITION, "resume"):
        api.start(sandbox.id)

    assert state_name(api.resume(sandbox.id)) == "RUNNING"
    assert moves(daemon, sandbox) and alive(api, sandbox.id, pid)
    assert identity(daemon.init_pid(sandbox)) == main
    assert all("up" in output(call) for _ in range(5))  # a command's stream goes on
    call.cancel()
    assert state_name(api.resume(sandbox.id)) == "RUNNING"  # a running one stays as it is


def test_pause_of_what_does_not_run(api, sandbox):
    api.stop(sandbox.id)
    for verb in (api.pause, api.resume):
        with refused(FAILED_PRECONDITION, "stopped"):
            verb(sandbox.id)
    for verb in (api.pause, api.resume):
        with refused(NOT_FOUND, "nobody"):
            verb("nobody")


@pytest.mark.docker
@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_end_of_a_paused_one(daemon, api, sandbox, verb):
    counts(api, sandbox.id)
    main = daemon.init_pid(sandbox)
    api.pause(sandbox.id)
    with within(8):
        getattr(api, verb)(sandbox.id)
    assert identity(main) is None
    if verb == "stop":
        assert api.state(sandbox.id) == "STOPPED"
        api.start(sandbox.id)  # not paused any more
        assert api.sh(sandbox.id, "echo up") == "up\n"


@HOWS
def test_pause_outlives_the_daemon(daemon, api, sandbox, how):
    pid = counts(api, sandbox.id)
    moves(daemon, sandbox)
    paused = api.pause(sandbox.id)
    main = identity(daemon.init_pid(sandbox))
    daemon.restart(how)
    assert daemon.api.get(sandbox.id) == paused
    assert stands_still(daemon, sandbox)
    daemon.api.resume(sandbox.id)
    assert moves(daemon, sandbox) and alive(daemon.api, sandbox.id, pid)
    assert identity(daemon.init_pid(sandbox)) == main


@pytest.mark.docker
def test_death_of_a_paused_one(daemon, api, sandbox):
    api.pause(sandbox.id)
    os.kill(daemon.init_pid(sandbox), signal.SIGKILL)
    # A frozen process of cgroup v1 dies when it is thawed; either is an end that is seen.
    if api.wait(sandbox.id, "FAILED", "PAUSED").state == sandbox_pb2.SANDBOX_STATE_PAUSED:
        api.stop(sandbox.id)
    api.start(sandbox.id)
    assert api.sh(sandbox.id, "echo up") == "up\n"


# --- create that may be repeated -------------------------------------------------------------


def test_request_key(api, runtime):
    fields = {"name": "box", "runtime": runtime, "request_key": "one", "env": {"A": "1"}}
    box = api.create(**fields)
    assert box.request_key == "one"
    assert api.create(**fields).id == box.id
    for other in ({"env": {"A": "2"}}, {"name": "other"}, {"expiry_action": 2},
                  {"resources": {"memory_bytes": 64 * MIB}}):
        with refused(grpc.StatusCode.ALREADY_EXISTS, "one"):
            api.create(**fields | other)
    with refused(grpc.StatusCode.ALREADY_EXISTS, "box"):
        api.create(**fields | {"request_key": "two"})
    api.stop("box")
    assert api.create(**fields).id == box.id
    assert [s.id for s in api.list()] == [box.id]
    api.delete("box")
    assert api.create(**fields).id != box.id


def test_request_key_out_of_range(api):
    for key in ("x" * 129, "a\nb", "\u00e9"):
        with refused(INVALID_ARGUMENT, "request_key"):
            api.create(request_key=key)
    assert api.create(request_key="x" * 128).request_key == "x" * 128


def test_request_key_at_the_same_time(api, runtime, pool):
    made = list(pool.map(lambda _: api.create(runtime=runtime, request_key="one"), range(16)))
    assert len({s.id for s in made}) == 1 == len(api.list())
    assert {state_name(s) for s in made} == {"RUNNING"}


def test_request_key_after_the_client_left(api, runtime):
    request = sandbox_pb2.SandboxServiceCreateRequest(runtime=runtime, request_key="one")
    call = api.sandboxes.Create.future(request, timeout=60)
    wait_until(api.list, "the create under way")
    call.cancel()
    box = api.create(runtime=runtime, request_key="one")
    assert [s.id for s in api.list()] == [box.id]
    assert api.sh(box.id, "echo up") == "up\n"


def test_request_key_after_a_crash(daemon, api, runtime):
    request = sandbox_pb2.SandboxServiceCreateRequest(runtime=runtime, request_key="one")
    call = api.sandboxes.Create.future(request, timeout=60)
    wait_until(lambda: daemon.traces("bundle"), "the create under way")
    daemon.kill()
    assert call.exception()
    daemon.start()
    [begun] = daemon.api.list()  # it is brought to its end, whether anybody asks again or not
    daemon.api.wait(begun.id, "RUNNING")
    box = daemon.api.create(runtime=runtime, request_key="one")
    assert [s.id for s in daemon.api.list()] == [box.id] == [begun.id]
    assert daemon.api.sh(box.id, "echo up") == "up\n"
    daemon.restart("SIGKILL")
    assert daemon.api.create(runtime=runtime, request_key="one").id == box.id


# --- a workspace that is kept ----------------------------------------------------------------


@pytest.mark.docker
def test_kept_workspace(daemon, api, sandbox, runtime):
    api.sh(sandbox.id, "echo kept >file; ln -s /etc/passwd link")
    with refused(NOT_FOUND, sandbox.id):
        api.create(runtime=runtime, workspace=sandbox.id)  # it is in use
    path = Path(api.delete(sandbox.id, keep_workspace=True))
    assert (path / "file").read_text() == "kept\n"
    assert list(api.list()) == []
    daemon.restart("SIGKILL")
    api = daemon.api
    assert (path / "file").read_text() == "kept\n"

    heir = api.create(runtime=runtime, workspace=sandbox.id)
    assert api.sh(heir.id, "cat file; readlink link; echo more >>file") == "kept\n/etc/passwd\n"
    assert not path.exists()
    with refused(NOT_FOUND, sandbox.id):
        api.create(runtime=runtime, workspace=sandbox.id)  # it is gone from there
    again = Path(api.delete(heir.id, keep_workspace=True))
    assert (again / "file").read_text() == "kept\nmore\n"
    shutil.rmtree(again)
    assert api.delete(api.create(runtime=runtime).id) == ""


def test_kept_workspace_of_a_stopped_one(api, sandbox):
    api.sh(sandbox.id, "echo kept >file")
    api.stop(sandbox.id)
    path = Path(api.delete(sandbox.id, keep_workspace=True))
    assert (path / "file").read_text() == "kept\n"
    shutil.rmtree(path)


def test_kept_workspace_outlives_a_create_that_fails(shimmed):
    daemon, shim = shimmed
    api = daemon.api
    box = api.create()
    api.sh(box.id, "echo kept >file")
    path = Path(api.delete(box.id, keep_workspace=True))
    shim.trouble("fail", "run")
    with refused(grpc.StatusCode.INTERNAL, "does not want"):
        api.create(workspace=box.id)
    assert (path / "file").read_text() == "kept\n"
    shim.heal()
    heir = api.create(workspace=box.id)
    assert api.sh(heir.id, "cat file") == "kept\n"


def test_workspace_that_is_none(api, runtime):
    with refused(NOT_FOUND, "workspace"):
        api.create(runtime=runtime, workspace="01arz3ndektsv4rrffq69g5fav")
    for wrong in ("../workspaces", "x", "/"):
        with refused(INVALID_ARGUMENT, "workspace"):
            api.create(runtime=runtime, workspace=wrong)
    assert list(api.list()) == []


# --- a time to live --------------------------------------------------------------------------


def test_expiry_stops(api, runtime):
    box = api.create(runtime=runtime, ttl_millis=4000)
    left = box.expires_at.ToMilliseconds() - time.time() * 1000
    assert 500 < left < 4500 and box.ttl_millis == 4000
    api.sh(box.id, "echo kept >file")
    with within(15):
        stopped = api.wait(box.id, "STOPPED")
    assert cause_name(stopped) == "STOPPED"
    assert not stopped.HasField("expires_at")  # it has nothing to do
    started = api.start(box.id)  # and it begins anew
    assert started.expires_at.ToMilliseconds() > time.time() * 1000
    assert api.sh(box.id, "cat file") == "kept\n"
    with within(15):
        api.wait(box.id, "STOPPED")


def test_expiry_deletes(daemon, api, runtime):
    fields = {"runtime": runtime, "ttl_millis": 4000,
              "expiry_action": sandbox_pb2.EXPIRY_ACTION_DELETE}
    running, stopped = api.create(**fields), api.create(**fields)
    api.stop(stopped.id, grace_millis=100)  # it counts in every state
    for box in (running, stopped):
        with within(15), refused(NOT_FOUND, box.id):
            api.wait(box.id, "FAILED")
    assert list(api.list()) == []
    assert not daemon.workspace(running).exists()


def test_expiry_of_a_paused_one(api, sandbox):
    api.keepalive(sandbox.id, ttl_millis=3000)
    api.pause(sandbox.id)
    with within(15):
        api.wait(sandbox.id, "STOPPED")


def test_keepalive(api):
    api.create(name="box", ttl_millis=4000)
    for _ in range(6):
        time.sleep(1)
        assert api.keepalive("box").ttl_millis == 4000
    assert api.state("box") == "RUNNING"
    longer = api.keepalive("box", ttl_millis=60000)
    assert longer.ttl_millis == 60000
    assert longer.expires_at.ToSeconds() > time.time() + 50
    forever = api.keepalive("box", forever=True)
    assert forever.ttl_millis == 0 and not forever.HasField("expires_at")
    with refused(FAILED_PRECONDITION):
        api.keepalive("box")
    for fields in ({"ttl_millis": 999}, {"ttl_millis": 31536000001},
                   {"ttl_millis": 5000, "forever": True}):
        with refused(INVALID_ARGUMENT, "ttl_millis"):
            api.keepalive("box", **fields)
    for ttl in (999, 31536000001):
        with refused(INVALID_ARGUMENT, "ttl_millis"):
            api.create(ttl_millis=ttl)
    api.keepalive("box", ttl_millis=1000)  # it has one again
    with within(15):
        api.wait("box", "STOPPED")


@HOWS
def test_expiry_and_a_restart(daemon, api, how):
    later = api.create(name="later", ttl_millis=12000)
    api.create(name="soon", ttl_millis=1000)
    api.create(name="kept", ttl_millis=1000)
    acknowledged = api.keepalive("kept", ttl_millis=60000)  # durable too
    {"SIGTERM": daemon.stop, "SIGKILL": daemon.kill}[how]()
    time.sleep(1.5)
    daemon.start()
    api = daemon.api
    with within(15):
        api.wait("soon", "STOPPED")
    assert abs(api.get("later").expires_at.ToMilliseconds() - later.expires_at.ToMilliseconds()) < 50
    assert api.get("kept").expires_at == acknowledged.expires_at
    assert api.state("later") == "RUNNING"
    api.wait("later", "STOPPED", timeout=30)
    assert -50 < time.time() * 1000 - later.expires_at.ToMilliseconds() < 15000


# --- wait ------------------------------------------------------------------------------------


def test_wait(api, sandbox, pool):
    assert api.wait(sandbox.id, "RUNNING", "PAUSED").id == sandbox.id  # at once
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        api.wait(sandbox.id, "PAUSED", timeout=0.5)
    waits = [pool.submit(api.wait, sandbox.id, *states)
             for states in ((), ("STOPPED",), ("FAILED", "STOPPED"))]
    time.sleep(0.3)
    assert not any(w.done() for w in waits)
    api.stop(sandbox.id)
    assert {state_name(w.result()) for w in waits} == {"STOPPED"}
    wait = pool.submit(api.wait, sandbox.id, "RUNNING")
    api.start(sandbox.id)
    assert state_name(wait.result()) == "RUNNING"
    wait = pool.submit(api.wait, sandbox.id)
    time.sleep(0.3)
    api.delete(sandbox.id)
    with refused(NOT_FOUND, sandbox.id):
        wait.result()


def test_wait_refuses(daemon, api, pool):
    box = api.create(name="box")
    with refused(INVALID_ARGUMENT, "states"):
        api.wait("box", "UNSPECIFIED")
    with refused(INVALID_ARGUMENT, "states"):
        api.wait("box", *["RUNNING"] * 9)
    with refused(NOT_FOUND, "nobody"):
        api.wait("nobody")
    wait = pool.submit(api.wait, box.id)
    time.sleep(0.3)
    daemon.stop()
    with refused(grpc.StatusCode.UNAVAILABLE):
        wait.result()
    daemon.start()


# --- stats -----------------------------------------------------------------------------------


@pytest.mark.docker
def test_stats(api, sandbox, runtime):
    before = api.stats(sandbox.id)
    assert before.sandbox_id == sandbox.id
    assert abs(before.at.ToSeconds() - time.time()) < 10
    assert before.memory_limit_bytes == sandbox.resources.memory_bytes
    assert before.pids_limit == max(sandbox.resources.pids, 4096 if runtime == "runsc" else 0)
    assert before.pids >= 1 and before.memory_bytes > 0 and before.oom_kills == 0

    call = api.stream(sandbox.id, "sh", "-c", "for i in 1 2 3 4 5; do sleep 1000 & done;"
                      " dd if=/dev/zero bs=40M 2>/dev/null | sleep 1000 & echo up; wait")
    assert output(call) == "up\n"
    wait_until(lambda: api.stats(sandbox.id).memory_bytes > before.memory_bytes + 38 * MIB, "memory")
    api.sh(sandbox.id, "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")
    api.sh(sandbox.id, "dd if=/dev/zero of=file bs=1M count=5 2>/dev/null; sync")
    after = api.stats(sandbox.id)
    assert after.memory_bytes - after.memory_cache_bytes > \
        before.memory_bytes - before.memory_cache_bytes + 30 * MIB
    assert after.cpu_nanos > before.cpu_nanos + 50_000_000
    assert after.pids >= before.pids + (5 if sandbox.runtime == "runc" else 0)
    assert 5 * MIB <= after.workspace_bytes - before.workspace_bytes < 6 * MIB
    call.cancel()

    api.pause(sandbox.id)
    one, other = api.stats(sandbox.id), api.stats(sandbox.id)
    assert one.memory_bytes > 0 and other.cpu_nanos - one.cpu_nanos < 5_000_000
    api.stop(sandbox.id)
    stopped = api.stats(sandbox.id)
    assert stopped.workspace_bytes >= 5 * MIB
    assert (stopped.cpu_nanos, stopped.memory_bytes, stopped.pids, stopped.oom_kills) == (0, 0, 0, 0)
    with refused(NOT_FOUND, "nobody"):
        api.stats("nobody")


def test_stats_is_not_led_astray(api):
    """Links out of the workspace count as links."""
    api.create(name="box")
    api.sh("box", "ln -s / root; ln -s /proc/self/root up; mkdir -- -x; echo x >-x/--help")
    assert api.stats("box").workspace_bytes < MIB


# --- how it ended ----------------------------------------------------------------------------


def kill_main(daemon, sandbox, signum=signal.SIGKILL):
    os.kill(daemon.init_pid(sandbox), signum)
    return daemon.api.wait(sandbox.id, "FAILED", timeout=10)


def assert_killed(sandbox):
    assert sandbox.exit.at.ToSeconds() > 0 and sandbox.reason
    assert (cause_name(sandbox), sandbox.exit.signal) == ("SIGNALED", signal.SIGKILL), sandbox


def test_exit_of_a_stop(api, sandbox):
    assert not sandbox.HasField("exit")
    stopped = api.stop(sandbox.id)
    assert cause_name(stopped) == "STOPPED" and stopped.exit.at.ToSeconds() > 0
    assert cause_name(api.start(sandbox.id)) == "STOPPED"  # that was the last time


@pytest.mark.docker
def test_exit_by_a_signal(daemon, sandbox):
    assert_killed(kill_main(daemon, sandbox))
    history = daemon.api.events(sandbox_id=sandbox.id)
    assert history[-1].state == sandbox_pb2.SANDBOX_STATE_FAILED and history[-1].reason


@HOWS
def test_exit_after_a_restart(daemon, sandbox, how):
    """It is somebody else's child then."""
    daemon.restart(how)
    failed = kill_main(daemon, sandbox)
    if TELLS_EXITS:
        assert_killed(failed)
    else:
        assert cause_name(failed) == "UNKNOWN" and failed.reason


@pytest.mark.docker
@HOWS
def test_exit_that_nobody_saw(daemon, api, sandbox, how):
    main = daemon.init_pid(sandbox)
    {"SIGTERM": daemon.stop, "SIGKILL": daemon.kill}[how]()
    os.kill(main, signal.SIGKILL)
    # As long as its parent, the host's PID 1, has not looked the kernel tells how it ended.
    wait_until(lambda: not Path(f"/proc/{main}").exists(), "it reaped", seconds=30)
    daemon.start()
    failed = daemon.api.wait(sandbox.id, "FAILED", timeout=10)
    # Docker, too, has seen it end, and tells in its way.
    expected = ("EXITED", 137, 0) if daemon.engine.name == "docker" else ("UNKNOWN", 0, 0)
    assert (cause_name(failed), failed.exit.code, failed.exit.signal) == expected
    assert "away" in failed.reason


def test_exit_by_itself(api, sandbox):
    """The supervisor ends when it is asked to, by whomever."""
    api.run(sandbox.id, "kill", "-TERM", "1")
    failed = api.wait(sandbox.id, "FAILED", timeout=15)
    assert cause_name(failed) == "EXITED" and failed.reason
    api.start(sandbox.id)


HUNGRY = ["dd", "if=/dev/zero", "of=/dev/null", "bs=400M", "count=1"]


@pytest.mark.docker
def test_process_out_of_memory(api, runtime):
    """Under runc the kernel kills the offender, and the sandbox goes on; under gVisor all of the
    sandbox's memory is one process's."""
    limit = 32 if runtime == "runc" else 192
    box = api.create(runtime=runtime, resources={"memory_bytes": limit * MIB})
    if runtime == "runc":
        result = api.run(box.id, *HUNGRY)
        assert result.signal == signal.SIGKILL and result.stdout == b""
        assert api.state(box.id) == "RUNNING"
        assert api.stats(box.id).oom_kills >= 1
    else:
        with pytest.raises(grpc.RpcError):
            api.run(box.id, *HUNGRY)
        assert_out_of_memory(api.wait(box.id, "FAILED", timeout=15))


def assert_out_of_memory(sandbox):
    assert cause_name(sandbox) == "OUT_OF_MEMORY" and "memory" in sandbox.reason
    assert sandbox.exit.signal == signal.SIGKILL


@pytest.mark.docker
def test_main_process_out_of_memory(daemon, api):
    """The kernel takes PID 1 where all others are smaller, and the host's administrator has it so."""
    box = api.create(runtime="runc", resources={"memory_bytes": 32 * MIB})
    call = api.stream(box.id, "sh", "-c", "echo up; while ! [ -e go ]; do sleep 0.05; done;"
                      " for i in 1 2 3 4 5 6 7 8; do dd if=/dev/zero bs=8M 2>/dev/null | sleep 1000 &"
                      " done; wait")
    assert output(call) == "up\n"
    # What is started from now on would inherit it.
    Path(f"/proc/{daemon.init_pid(box)}/oom_score_adj").write_text("1000")
    (daemon.workspace(box) / "go").touch()
    with pytest.raises(grpc.RpcError):
        list(call)
    assert_out_of_memory(api.wait(box.id, "FAILED", timeout=15))
    api.start(box.id)
    assert api.stats(box.id).oom_kills == 0  # since it came up


def test_runtime_that_fails(shimmed):
    """Its own line is the reason."""
    daemon, shim = shimmed
    box = daemon.api.create()
    daemon.api.stop(box.id)
    shim.trouble("fail", "run")
    with refused(grpc.StatusCode.INTERNAL, "does not want to"):
        daemon.api.start(box.id)
    assert daemon.api.state(box.id) == "FAILED"
    assert "does not want to" in daemon.api.get(box.id).reason


# --- operations that meet --------------------------------------------------------------------


@pytest.fixture
def deaf(daemon, api, sandbox):
    """A sandbox whose main process does not hear SIGTERM."""
    os.kill(daemon.init_pid(sandbox), signal.SIGSTOP)
    return sandbox


def test_operation_under_way_is_seen(api, deaf, pool):
    stop = pool.submit(api.stop, deaf.id, grace_millis=6000)
    seen = wait_until(lambda: operation(api, deaf.id), "the operation")
    assert seen.kind == sandbox_pb2.OPERATION_KIND_STOP and seen.step
    assert api.state(deaf.id) == "STOPPING"
    now = time.time()
    assert abs(seen.started_at.ToSeconds() - now) < 6
    # The grace, SIGKILL's ten seconds, and what the runtime may take.
    assert seen.started_at.ToSeconds() + 6 < seen.deadline.ToSeconds() < now + 60
    start = pool.submit(api.start, deaf.id)
    wait_until(lambda: operation(api, deaf.id).waiting == 1, "one that waits")
    assert not stop.done() and not start.done()
    assert state_name(stop.result()) == "STOPPED"
    assert state_name(start.result()) == "RUNNING"
    done = api.get(deaf.id)
    assert not done.HasField("operation")
    assert done.generation == deaf.generation + 2


def test_operations_join(api, deaf, pool):
    stops = [pool.submit(api.stop, deaf.id, grace_millis=1000) for _ in range(20)]
    assert {state_name(s.result()) for s in stops} == {"STOPPED"}
    starts = [pool.submit(api.start, deaf.id) for _ in range(20)]
    assert {state_name(s.result()) for s in starts} == {"RUNNING"}
    assert api.get(deaf.id).generation == deaf.generation + 2


def test_too_many_operations(api, deaf, pool):
    """Different ones cannot join; those that fit have their turn."""
    stop = api.sandboxes.Stop.future(sandbox_pb2.SandboxServiceStopRequest(
        sandbox_id=deaf.id, grace_millis=4000), timeout=60)
    wait_until(lambda: api.state(deaf.id) == "STOPPING", "the stop")
    start = sandbox_pb2.SandboxServiceStartRequest(sandbox_id=deaf.id)
    pause = sandbox_pb2.SandboxServicePauseRequest(sandbox_id=deaf.id)
    calls = [api.sandboxes.Start.future(start, timeout=60) if i % 2 == 0 else
             api.sandboxes.Pause.future(pause, timeout=60) for i in range(20)]
    codes = [call.code() for call in calls]
    assert codes[:2] == [grpc.StatusCode.OK] * 2  # started, paused
    assert set(codes[2:16:2]) == {FAILED_PRECONDITION}  # a paused one is not started
    assert {codes[16], codes[18]} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert set(codes[3::2]) == {grpc.StatusCode.OK}  # the last two join the one that has its turn
    assert stop.result().sandbox
    api.resume(deaf.id)


def test_delete_cuts_the_grace_of_a_stop(api, deaf, pool):
    stop = pool.submit(api.stop, deaf.id, grace_millis=60000)
    wait_until(lambda: api.state(deaf.id) == "STOPPING", "the stop")
    with within(20):
        api.delete(deaf.id)
        assert state_name(stop.result()) == "STOPPED"
    assert list(api.list()) == []


def test_stop_cuts_the_grace_of_a_stop(api, deaf, pool):
    stop = pool.submit(api.stop, deaf.id, grace_millis=60000)
    wait_until(lambda: api.state(deaf.id) == "STOPPING", "the stop")
    with within(20):
        assert state_name(api.stop(deaf.id, grace_millis=500)) == "STOPPED"
        assert state_name(stop.result()) == "STOPPED"


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_create_is_given_up(shimmed, pool, verb):
    daemon, shim = shimmed
    api = daemon.api
    shim.trouble("freeze", "run")
    create = pool.submit(api.create, name="box")
    wait_until(lambda: daemon.traces("pid"), "its main process")
    time.sleep(0.2)
    assert api.state("box") == "CREATING"
    with within(20):
        try:
            getattr(api, verb)("box")
        except grpc.RpcError as e:  # a create that fails leaves nothing
            assert e.code() == NOT_FOUND
        with refused(grpc.StatusCode.ABORTED):
            create.result()
    assert list(api.list()) == []


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_start_is_given_up(shimmed, pool, verb):
    daemon, shim = shimmed
    api = daemon.api
    api.create(name="box")
    api.sh("box", "echo kept >file")
    api.stop("box")
    shim.trouble("freeze", "run")
    start = pool.submit(api.start, "box")
    wait_until(lambda: daemon.traces("pid"), "its main process")
    time.sleep(0.2)
    assert api.state("box") == "STARTING"
    with within(20):
        getattr(api, verb)("box")
        with refused(grpc.StatusCode.ABORTED):
            start.result()
    if verb == "stop":
        assert api.state("box") == "STOPPED"
        shim.heal()
        api.start("box")
        assert api.sh("box", "cat file") == "kept\n"
    else:
        assert list(api.list()) == []


@pytest.mark.docker
@HOWS
def test_client_that_does_not_wait(daemon, api, deaf, how):
    """What has begun goes on, though the client goes; and when the daemon goes, it is taken up."""
    request = sandbox_pb2.SandboxServiceStopRequest(sandbox_id=deaf.id, grace_millis=1500)
    call = api.sandboxes.Stop.future(request, timeout=60)
    wait_until(lambda: api.state(deaf.id) == "STOPPING", "the stop")
    call.cancel()
    if how == "SIGKILL":
        daemon.kill()
        daemon.start()
    assert cause_name(daemon.api.wait(deaf.id, "STOPPED", timeout=20)) == "STOPPED"
