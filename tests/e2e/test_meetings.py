"""Operations that meet each other, their clients' end, the daemon's, and a runtime that hangs."""

import os
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from sandboxd.v1 import sandbox_pb2

from harness import Api, cause_name, operation, refused, state_name, wait_until, within
from shim import Shim, shimmed_daemon
from ttrpc_client import Client, Error

ABORTED = grpc.StatusCode.ABORTED
NOT_FOUND = grpc.StatusCode.NOT_FOUND
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
SANDBOXES = "sandboxd.v1.SandboxService"


@pytest.fixture
def shimmed(make_daemon, tmp_path):
    """A daemon whose runtime, runc, makes trouble when it is told to."""
    return shimmed_daemon(make_daemon, tmp_path / "shim", "runc")


@pytest.fixture
def with_tool(make_daemon, tmp_path):
    """Makes a daemon for which a tool of the host's makes trouble when it is told to."""

    def make(name):
        shim = Shim(tmp_path / "bin", shutil.which(name), name)
        daemon = make_daemon(start=False)
        daemon.start(PATH=f"{shim.path.parent}:{os.environ['PATH']}")
        return daemon, shim

    return make


# --- keepalive -------------------------------------------------------------------------------


@contextmanager
def kept_alive(daemon, ref, clients=3):
    """Inside, some clients send Keepalive after Keepalive, whether it is there or not."""
    over = threading.Event()

    def hammer(api):
        answered = 0
        while not over.is_set():
            try:
                api.keepalive(ref, ttl_millis=600000)
                answered += 1
            except grpc.RpcError as e:
                assert e.code() == NOT_FOUND, e.details()
        api.close()
        return answered

    with ThreadPoolExecutor(clients) as pool:
        calls = [pool.submit(hammer, Api(daemon.socket)) for _ in range(clients)]
        try:
            yield
        finally:
            over.set()
        assert sum(call.result() for call in calls) > 0


def test_keepalive_during_create_and_delete(daemon, api):
    """It saves nothing of either: what is made has no operation under way, and what is gone has no
    row, also for the next daemon."""
    stay, go = [f"stay-{i}" for i in range(4)], [f"go-{i}" for i in range(4)]
    made = {}
    for name in stay + go:
        with kept_alive(daemon, name):
            made[name] = api.create(name=name, runtime="runc", ttl_millis=600000)
    for name in go:
        with kept_alive(daemon, name):
            time.sleep(0.01)
            api.delete(name)
    daemon.kill()
    daemon.start()
    assert {s.name: s.id for s in daemon.api.list()} == {name: made[name].id for name in stay}
    time.sleep(0.5)  # for what a next daemon would take up again
    for name in stay:
        found = daemon.api.get(name)
        assert state_name(found) == "RUNNING" and not found.HasField("operation")
        assert daemon.api.sh(name, "echo up") == "up\n"
    for name in go[:2]:
        assert daemon.api.create(name=name, runtime="runc").id != made[name].id


def test_request_key_after_keepalive(api):
    """What Keepalive changes is no part of what was asked for."""
    fields = {"runtime": "runc", "request_key": "one", "ttl_millis": 60000}
    box = api.create(**fields)
    api.keepalive(box.id, ttl_millis=120000)
    assert api.create(**fields).id == box.id
    api.keepalive(box.id, forever=True)
    assert api.create(**fields).id == box.id
    assert len(api.list()) == 1


def test_keepalive_while_its_end_waits(shimmed, pool):
    """The time was over when the stop was queued, and is not when the stop has its turn."""
    daemon, shim = shimmed
    api = daemon.api
    shim.trouble("slow", "pause")
    box = api.create(ttl_millis=1000)
    pause = pool.submit(api.pause, box.id)
    wait_until(lambda: (op := operation(api, box.id)) and op.waiting == 1, "the expiry's stop")
    assert not pause.done()
    api.keepalive(box.id, ttl_millis=600000)
    assert state_name(pause.result()) == "PAUSED"
    assert operation(api, box.id) is None
    time.sleep(0.3)
    assert api.state(box.id) == "PAUSED"
    api.keepalive(box.id, ttl_millis=1000)
    assert state_name(api.wait(box.id, "STOPPED", timeout=10)) == "STOPPED"


# --- create ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["deadline", "cancel", "SIGKILL"])
def test_kept_workspace_of_a_create_without_client(shimmed, end):
    """Whoever gives up the create, or is killed in it: the workspace is where it was."""
    daemon, shim = shimmed
    api = daemon.api
    box = api.create()
    api.sh(box.id, "echo kept >file")
    path = Path(api.delete(box.id, keep_workspace=True))
    shim.trouble("slow", "run")
    request = sandbox_pb2.SandboxServiceCreateRequest(workspace=box.id)
    call = api.sandboxes.Create.future(request, timeout=0.6 if end == "deadline" else 60)
    wait_until(lambda: daemon.traces("pid"), "its main process")
    assert not path.exists()
    if end == "deadline":
        assert call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    elif end == "cancel":
        call.cancel()
    else:
        daemon.kill()
        daemon.start()
    shim.heal()
    wait_until(lambda: not daemon.api.list(), "the create taken back")
    assert (path / "file").read_text() == "kept\n"
    heir = daemon.api.create(workspace=box.id)
    assert daemon.api.sh(heir.id, "cat file") == "kept\n"


def test_request_key_while_its_create_is_taken_back(with_tool):
    """Never an answer that a sandbox is there; and when it is gone, another is made."""
    daemon, rm = with_tool("rm")
    fields = {"runtime": "runc", "request_key": "one"}
    rm.trouble("fail")
    with refused(NOT_FOUND, "nothing-like-it"):
        daemon.api.create(image="nothing-like-it", **fields)
    rm.trouble("slow")  # what could not be removed is tried again, by and by
    while daemon.api.list():
        try:
            daemon.api.create(image="nothing-like-it", **fields)
            pytest.fail("it was made")
        except grpc.RpcError as e:
            # NOT_FOUND: it has gone in between, and this was a create of its own.
            assert e.code() in (UNAVAILABLE, NOT_FOUND), e.details()
            if e.code() == NOT_FOUND:
                break
        time.sleep(0.05)
    assert daemon.is_running()
    rm.heal()
    wait_until(lambda: not daemon.api.list(), "it is gone")
    assert daemon.api.sh(daemon.api.create(**fields).id, "echo up") == "up\n"


def test_request_key_while_it_is_deleted(with_tool, pool):
    daemon, rm = with_tool("rm")
    api = daemon.api
    box = api.create(runtime="runc", request_key="one")
    rm.trouble("slow")
    delete = pool.submit(api.delete, box.id)
    wait_until(lambda: api.state(box.id) == "DELETING", "the delete")
    with refused(UNAVAILABLE, "one"):
        api.create(runtime="runc", request_key="one")
    assert not delete.done()
    delete.result()
    rm.heal()
    assert api.create(runtime="runc", request_key="one").id != box.id


# --- start, stop and delete ------------------------------------------------------------------


def meet(daemon, *requests):
    """Sends the requests in one burst, so that they come in this order; their errors, or None."""
    with Client(daemon.socket) as client:
        streams = [client.request(f"{SANDBOXES}/{method}", request) for method, request in requests]
        frames = {frame.stream: frame for frame in (client.receive() for _ in streams)}
        errors = []
        for stream in streams:
            try:
                client.response(frames[stream])
                errors.append(None)
            except Error as e:
                errors.append(e.code)
    return errors


def test_stop_right_after_start(shimmed):
    """Also one that comes while the start is not on the disk yet ends it at once."""
    daemon, shim = shimmed
    api = daemon.api
    box = api.create()
    api.stop(box.id)
    requests = [("Start", sandbox_pb2.SandboxServiceStartRequest(sandbox_id=box.id)),
                ("Stop", sandbox_pb2.SandboxServiceStopRequest(sandbox_id=box.id))]
    for _ in range(3):
        start, stop = meet(daemon, *requests)
        assert start in (None, ABORTED.value[0]) and stop is None
        assert api.state(box.id) == "STOPPED"
    shim.trouble("freeze", "run")  # it would not come up for half a minute
    with within(15):
        assert meet(daemon, *requests) == [ABORTED.value[0], None]
    assert api.state(box.id) == "STOPPED"
    shim.heal()
    assert state_name(api.start(box.id)) == "RUNNING"


def test_delete_that_keeps_meets_one_that_does_not(with_tool, pool):
    """Nobody is told that a workspace was kept that is gone."""
    daemon, rm = with_tool("rm")
    api = daemon.api
    box = api.create(runtime="runc")
    rm.trouble("slow")
    delete = pool.submit(api.delete, box.id)
    wait_until(lambda: api.state(box.id) == "DELETING", "the delete")
    keep = pool.submit(api.delete, box.id, keep_workspace=True)
    wait_until(lambda: operation(api, box.id).waiting == 1, "one that waits")
    again = pool.submit(api.delete, box.id)
    with refused(NOT_FOUND, box.id):
        keep.result()
    assert delete.result() == again.result() == ""
    assert not (daemon.data / "kept" / box.id).exists()


def test_delete_that_keeps_meets_a_create(shimmed, pool):
    """A create that is given up keeps nothing."""
    daemon, shim = shimmed
    api = daemon.api
    shim.trouble("freeze", "run")
    create = pool.submit(api.create, name="box")
    wait_until(lambda: daemon.traces("pid"), "its main process")
    with within(20), refused(NOT_FOUND):
        api.delete("box", keep_workspace=True)
    with refused(ABORTED):
        create.result()
    assert list(api.list()) == [] and os.listdir(daemon.data / "kept") == []


def test_stop_of_a_failed_one(daemon, api, sandbox):
    """How it ended stays known."""
    os.kill(daemon.init_pid(sandbox), signal.SIGKILL)
    api.wait(sandbox.id, "FAILED")
    wait_until(lambda: operation(api, sandbox.id) is None, "it is cleared away")
    failed = api.get(sandbox.id)
    assert cause_name(failed) in ("SIGNALED", "EXITED")
    stopped = api.stop(sandbox.id)
    assert state_name(stopped) == "STOPPED"
    assert stopped.exit == failed.exit


# --- what is frozen --------------------------------------------------------------------------


def test_pause_that_can_neither_be_done_nor_undone(shimmed):
    """The kernel undoes what the runtime cannot; that it may stand all the same is said, and resume is
    there for it. (Twice a runtime that hangs, and twice its `state`: twenty seconds.)"""
    daemon, shim = shimmed
    api = daemon.api
    box = api.create()
    shim.trouble("linger", "pause")
    shim.trouble("hang", "resume", "state")
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "pause"):
        api.pause(box.id)
    found = api.get(box.id)
    assert state_name(found) == "RUNNING" and "resume" in found.reason
    assert api.sh(box.id, "echo up", timeout=10) == "up\n"
    assert shim.left() == []
    shim.heal()
    resumed = api.resume(box.id)
    assert state_name(resumed) == "RUNNING" and resumed.reason == ""
    assert api.sh(box.id, "echo up", timeout=10) == "up\n"


@contextmanager
def frozen(pid):
    """By somebody else than the daemon, until the end of this, if it is there yet."""
    of = {names: path for _, names, path in
          (line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())}
    if "freezer" in of:
        file = Path(f"/sys/fs/cgroup/freezer{of['freezer']}/freezer.state")
        on, off = "FROZEN", "THAWED"
    else:
        file, on, off = Path(f"/sys/fs/cgroup{of['']}/cgroup.freeze"), "1", "0"
    file.write_text(on)
    wait_until(lambda: file.read_text().strip() == on, "it stands")
    try:
        yield
    finally:
        if file.exists():
            file.write_text(off)


@pytest.mark.docker
def test_delete_of_what_somebody_else_has_frozen(daemon, api, sandbox):
    with frozen(daemon.init_pid(sandbox)):
        with within(5):
            api.delete(sandbox.id)
        assert list(api.list()) == []


# --- daemons ---------------------------------------------------------------------------------


def test_two_daemons_of_one_instance(daemon, make_daemon):
    """A copy of data_dir would take the original's sandboxes for its own, or for nobody's."""
    copy = make_daemon(start=False)
    daemon.stop()
    subprocess.run(["cp", "-a", daemon.data, copy.data], check=True, timeout=20)
    daemon.start()
    box = daemon.api.create(runtime="runc")
    refusal = copy.run()
    assert refusal.returncode != 0
    assert str(copy.data) in refusal.stderr and "copy" in refusal.stderr
    assert daemon.api.sh(box.id, "echo up") == "up\n"
    daemon.api.delete(box.id)
    daemon.kill()  # then nobody has it, however it ended
    copy.start()
    assert list(copy.api.list()) == []
    copy.stop()
    daemon.start()


def test_end_of_the_daemon_during_a_measurement(with_tool):
    """It does not wait for a `du` that hangs, nor does who waits for it."""
    daemon, du = with_tool("du")
    box = daemon.api.create(runtime="runc")
    du.trouble("stand")
    request = sandbox_pb2.SandboxServiceStatsRequest(sandbox_id=box.id)
    call = daemon.api.sandboxes.Stats.future(request, timeout=60)
    wait_until(du.left, "du")
    with within(5):
        daemon.process.terminate()
        assert call.code() == UNAVAILABLE
        assert daemon.process.wait(20) == 0
    wait_until(lambda: not du.left(), "the end of du")
    daemon.start()
    assert daemon.api.sh(box.id, "echo up") == "up\n"
