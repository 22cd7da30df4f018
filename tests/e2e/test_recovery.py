"""What goes wrong around a restart never costs a sandbox that is alive, and leaves nothing of one
that is not."""

import os
import shutil
from pathlib import Path

import grpc
import pytest
from sandboxd.v1 import sandbox_pb2

from harness import refused, runtimes, wait_until


def assert_untouched(daemon, sandbox, pid):
    """Before pid was `daemon.init_pid(sandbox)`."""
    assert daemon.api.get(sandbox.id) == sandbox  # RUNNING, since the same time
    assert daemon.init_pid(sandbox) == pid
    assert Path(f"/proc/{pid}").exists()


@pytest.mark.docker
def test_without_its_control_directory(daemon, api, sandbox):
    pid = daemon.init_pid(sandbox)
    api.sh(sandbox.id, "echo kept >file; rm -rf .runtimed")
    with refused(grpc.StatusCode.UNAVAILABLE):
        api.run(sandbox.id, "true")
    daemon.restart("SIGKILL")
    api = daemon.api
    wait_until(lambda: "trying again" in daemon.log(), "a try")
    assert_untouched(daemon, sandbox, pid)
    api.stop(sandbox.id, grace_millis=100)
    api.start(sandbox.id)
    assert api.sh(sandbox.id, "cat file") == "kept\n"


def test_tries_become_rare(daemon, api):
    """However long a sandbox keeps its directory away: the log is not its to fill."""
    api.create(name="box")
    api.sh("box", "rm -rf .runtimed")
    daemon.restart("SIGKILL")
    wait_until(lambda: "trying again" in daemon.log(), "a try")
    before = daemon.log().count("trying again")
    daemon.api.sh(daemon.api.create().id, "sleep 2")
    assert daemon.log().count("trying again") - before < 10


def starts(daemon, files):
    """With a limit of so many open files: does it come up?"""
    plain = daemon.command
    daemon.command = lambda: ["prlimit", f"--nofile={files}", *plain()]
    try:
        daemon.start()
    except AssertionError:
        pass
    daemon.command = plain
    return daemon.is_running()


@pytest.mark.docker
def test_without_descriptors(daemon, api):
    """There are too few to start, then to reach all sandboxes, and at last enough."""
    idle = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    sandboxes = [api.create() for _ in range(6)]
    pids = [daemon.init_pid(s) for s in sandboxes]
    daemon.kill()
    # Of those to Docker Engine one that idles may hold several.
    few = idle - (8 if daemon.engine.name == "docker" else 2)
    assert next(files for files in range(few, idle + 30) if starts(daemon, files)) > few
    assert "Too many open files" in daemon.log()
    daemon.kill()
    daemon.start()
    for sandbox, pid in zip(sandboxes, pids):
        assert_untouched(daemon, sandbox, pid)
        assert daemon.api.sh(sandbox.id, "echo up") == "up\n"


def test_its_runtime_is_no_longer_configured(make_daemon):
    """Nobody can stop it then, and nobody has to."""
    daemon = make_daemon(defaults={"start_timeout": "1s"})
    daemon.config["runtimes"] = runtimes() | {"other": {"type": "runc"}}
    daemon.restart("SIGTERM")
    sandbox = daemon.api.create(name="box", runtime="other")
    pid = daemon.init_pid(sandbox)
    daemon.api.sh("box", "rm .runtimed/sock")
    daemon.kill()
    del daemon.config["runtimes"]["other"]
    daemon.start()
    wait_until(lambda: "cannot be reached" in daemon.log(), "a try")
    assert_untouched(daemon, sandbox, pid)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "'other'"):
        daemon.api.stop("box")
    daemon.config["runtimes"]["other"] = {"type": "runc"}
    daemon.restart("SIGTERM")
    assert_untouched(daemon, sandbox, pid)


@pytest.mark.oci_only("its image is a directory of the host")
def test_image_whose_resolv_conf_is_a_link(daemon, api, runtime, tmp_path):
    """As in images with systemd-resolved. What the runtime makes of it in the bundle goes too."""
    image = tmp_path / "image"
    rootfs, = daemon.data.glob("images/*/rootfs")
    shutil.copytree(rootfs, image, symlinks=True)
    conf = image / "etc/resolv.conf"
    conf.unlink(missing_ok=True)
    conf.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    api.create(name="box", runtime=runtime, image=str(image))
    assert "nameserver" in api.sh("box", "cat /etc/resolv.conf")
    api.stop("box")
    api.start("box")
    api.delete("box")
    assert list(api.list()) == []


def create_some(api, n, runtime):
    request = sandbox_pb2.SandboxServiceCreateRequest(runtime=runtime)
    return [api.sandboxes.Create.future(request, timeout=60) for _ in range(n)]


@pytest.mark.docker
@pytest.mark.parametrize("step", ["bundle", "container", "pid"])
def test_killed_in_the_middle_of_creates(daemon, api, runtime, step):
    """What had not come up is gone, with all that it had; what had is there."""
    calls = create_some(api, 4, runtime)
    wait_until(lambda: daemon.traces(step), step)
    daemon.kill()
    told = {call.result().sandbox.id for call in calls if not call.exception()}
    daemon.start()
    wait_until(lambda: {s.state for s in daemon.api.list()} <= {sandbox_pb2.SANDBOX_STATE_RUNNING},
               "only what runs")
    there = {s.id for s in daemon.api.list()}
    assert told <= there
    for ref in there:
        assert daemon.api.sh(ref, "echo up") == "up\n"
        daemon.api.delete(ref)
    wait_until(lambda: daemon.traces("container") + daemon.traces("bundle") == [],
               "nothing left", seconds=2)


@pytest.mark.docker
def test_stopped_in_the_middle_of_creates(daemon, api):
    """Whose create was under way hears how it went; the others, that they come too late."""
    calls = create_some(api, 20, "runc")
    wait_until(lambda: daemon.traces("bundle"), "the first")
    daemon.process.terminate()
    assert daemon.process.wait(20) == 0
    told = set()
    for call in calls:
        if call.exception():
            assert call.code() == grpc.StatusCode.UNAVAILABLE
        else:
            told.add(call.result().sandbox.id)
    api.close()
    daemon.start()
    assert {s.id for s in daemon.api.list()} == told != set()
    for ref in told:
        assert daemon.api.sh(ref, "echo up") == "up\n"


@pytest.mark.oci_only("damages what the runtime's program has written")
def test_damaged_state_of_the_runtime(daemon, api, runtime):
    """As a runtime leaves it that was killed while it wrote. It cannot delete the sandbox then."""
    api.create(name="box", runtime=runtime)
    states = [path for path in daemon.state.glob("runtime/**/*state*") if path.is_file()]
    assert states
    for path in states:
        os.truncate(path, 0)
    api.delete("box")
    assert list(api.list()) == []
    assert list(daemon.state.glob("runtime/*/*")) == []
