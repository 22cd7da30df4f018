"""The daemon is killed at every step of every operation. When it has started again everything is
either done or undone, nothing is left over, and nothing else was touched."""

import os
import shutil
import signal
from collections import namedtuple
from pathlib import Path

import grpc
import pytest
from sandboxd.v1 import sandbox_pb2

from daemon_fixtures import DAEMONS
from form import LONG
from harness import BUILD, Api, Daemon, cause_name, find_runtime, identity, wait_until
from shim import Shim
from world import converges, is_settled

PROGRAM = Path(os.environ.get("FAILPOINTS_BUILD", BUILD / "failpoints")) / "sandboxd"

BRING_UP = ["bring_up.intended", "bring_up.workspace", "bring_up.bundle", "bring_up.run",
            "bring_up.pid_saved", "bring_up.ready", "bring_up.saved"]
REMOVE = ["take_down.deleted", "take_down.cgroup", "take_down.state", "take_down.bundle"]

BRIDGE = {"network": sandbox_pb2.NETWORK_MODE_BRIDGE}
OVERLAY = {"rootfs": sandbox_pb2.ROOTFS_MODE_OVERLAY}
MOUNT = ["bring_up.overlay", "bring_up.overlay_lower", "bring_up.overlay_mounted",
         "bring_up.bundle", "bring_up.run", "bring_up.saved"]
GIVE_BACK = ["network.deleted", "take_down.network"]

# before: the subject's state, None when it is not there; after: the state that is right whatever
# the step was, but where `unless` says another; fields: of its create.
Operation = namedtuple("Operation", "before call failpoints after unless fields", defaults=[{}, {}])
OPERATIONS = {
    # Its client has a key to ask for it with: it is finished. Nobody could find the other.
    "create": Operation(None, lambda w: w.create(w.key), BRING_UP, "RUNNING"),
    "create, no key": Operation(None, lambda w: w.create(), BRING_UP, "GONE",
                                {"bring_up.saved": "RUNNING"}),
    "failed create": Operation(None, lambda w: w.create(w.key, runtime="broken"), REMOVE, "GONE"),
    "start": Operation("STOPPED", lambda w: w.api.start("subject"), BRING_UP, "RUNNING"),
    "stop": Operation("RUNNING", lambda w: w.api.stop("subject"),
                      ["stop.intended", "take_down.signalled", "take_down.exited", *REMOVE,
                       "stop.saved"], "STOPPED"),
    "stop paused": Operation("PAUSED", lambda w: w.api.stop("subject"),
                             ["stop.intended", "take_down.signalled", "take_down.exited"],
                             "STOPPED"),
    "delete": Operation("RUNNING", lambda w: w.api.delete("subject"),
                        ["delete.intended", "take_down.exited", *REMOVE, "delete.workspace",
                         "delete.row"], "GONE"),
    "delete stopped": Operation("STOPPED", lambda w: w.api.delete("subject"),
                                ["delete.intended", "delete.workspace", "delete.row"], "GONE"),
    "delete, kept": Operation("RUNNING", lambda w: w.api.delete("subject", keep_workspace=True),
                              ["delete.intended", "take_down.exited", "delete.kept", "delete.row"],
                              "GONE"),
    "pause": Operation("RUNNING", lambda w: w.api.pause("subject"),
                       ["pause.intended", "pause.done", "pause.saved"], "PAUSED"),
    "resume": Operation("PAUSED", lambda w: w.api.resume("subject"),
                        ["resume.intended", "resume.done", "resume.saved"], "RUNNING"),
    "create, bridge": Operation(None, lambda w: w.create(w.key, **BRIDGE),
                                ["network.namespace", "network.added", "network.kept",
                                 "bring_up.network", "bring_up.run", "bring_up.saved"],
                                "RUNNING", fields=BRIDGE),
    "start, bridge": Operation("STOPPED", lambda w: w.api.start("subject"),
                               ["network.added", "bring_up.network", "bring_up.saved"],
                               "RUNNING", fields=BRIDGE),
    "stop, bridge": Operation("RUNNING", lambda w: w.api.stop("subject"), GIVE_BACK, "STOPPED",
                              fields=BRIDGE),
    "delete, bridge": Operation("RUNNING", lambda w: w.api.delete("subject"), GIVE_BACK, "GONE",
                                fields=BRIDGE),
    "create, overlay": Operation(None, lambda w: w.create(w.key, **OVERLAY),
                                 ["bring_up.overlay_half", *MOUNT], "RUNNING", fields=OVERLAY),
    "create, overlay, no key": Operation(None, lambda w: w.create(**OVERLAY),
                                         ["bring_up.overlay_half", "bring_up.overlay_mounted"],
                                         "GONE", fields=OVERLAY),
    "start, overlay": Operation("STOPPED", lambda w: w.api.start("subject"), MOUNT, "RUNNING",
                                fields=OVERLAY),
    "stop, overlay": Operation("RUNNING", lambda w: w.api.stop("subject"),
                               ["take_down.exited", *REMOVE, "stop.saved"], "STOPPED",
                               fields=OVERLAY),
    "delete, overlay": Operation("RUNNING", lambda w: w.api.delete("subject"),
                                 ["take_down.bundle", "delete.overlay", "delete.workspace",
                                  "delete.row"], "GONE", fields=OVERLAY),
    "delete, kept, overlay": Operation(
        "STOPPED", lambda w: w.api.delete("subject", keep_workspace=True),
        ["delete.overlay", "delete.kept"], "GONE", fields=OVERLAY),
    "clean up": Operation("RUNNING", lambda w: w.kill_subject(),
                          ["clean_up.begun", *REMOVE, "clean_up.saved"], "FAILED"),
}


def cells():
    """The short form: every step under runc, a third of them under gVisor; of the crashes during the
    recovery a third and a sixth. A lease is the same for both: under runc only."""
    points = [(o, f) for o, operation in OPERATIONS.items() for f in operation.failpoints]
    for runtime in ("runc", "runsc"):
        for again in (False, True):
            for i, (operation, failpoint) in enumerate(points):
                if runtime == "runsc" and OPERATIONS[operation].fields == BRIDGE:
                    continue
                some = i % (6 if again and runtime == "runsc" else 3) == again
                if LONG or some or runtime == "runc" and not again:
                    column = f"{runtime}, twice" if again else runtime
                    mark = pytest.mark.crash_point(operation, failpoint, column)
                    yield pytest.param(runtime, operation, failpoint, again, marks=mark,
                                       id=f"{operation}-{failpoint}-{column}".replace(", ", "-"))


class World:
    """One daemon for many crashes, with sandboxes that have no part in them: one that runs, and one
    that is stopped."""

    def __init__(self, runtime):
        # No pool: a lease is made when the subject needs it, and removed when it does not.
        self.daemon = Daemon(program=PROGRAM, runtime=runtime, defaults={"stop_timeout": "2s"},
                             network={"pool": 0})
        self.shim = Shim(self.daemon.dir / "shim", find_runtime(runtime))
        self.shim.trouble("fail-after", "run")
        self.daemon.config["runtimes"] = {
            runtime: {"type": runtime, "path": find_runtime(runtime)},
            "broken": {"type": runtime, "path": str(self.shim.path)}}
        self.daemon.start()
        self.bystander = self.api.create(name="bystander")
        self.process = self.run_something("bystander")
        self.stopped = self.api.create(name="stopped")
        self.api.sh("stopped", "echo kept >file")
        self.api.stop("stopped")
        self.bystander_before = self.look("bystander", self.process)
        self.subject, self.subject_process, self.crashes = None, None, 0

    @property
    def api(self):
        return self.daemon.api

    def run_something(self, ref):
        """A process that goes on; its pid in the sandbox."""
        script = "echo kept >file; sleep 100000 >/dev/null 2>&1 & echo $!"
        return self.api.sh(ref, script).strip()

    def look(self, ref, pid):
        """What must never change while it runs: the process on the host, and one inside."""
        inside = self.api.sh(ref, f"cut -d' ' -f1,2,22 /proc/{pid}/stat")
        return identity(self.daemon.init_pid(self.api.get(ref))), inside

    @property
    def key(self):
        return f"crash-{self.crashes}"

    def create(self, key="", **fields):
        return self.api.create(name="subject", request_key=key, **fields)

    def kill_subject(self):
        os.kill(self.daemon.init_pid(self.subject), signal.SIGKILL)
        wait_until(lambda: not self.daemon.is_running(), "the failpoint", seconds=20)
        self.api.list()

    def prepare(self, state, fields):
        self.crashes += 1
        self.subject = None
        if state is None:
            return
        self.subject = self.create(**fields)
        self.subject_process = self.run_something("subject")
        if fields == OVERLAY:
            self.api.sh("subject", "echo written >/etc/motd")
        if state == "STOPPED":
            self.api.stop("subject")
        if state == "PAUSED":
            self.api.pause("subject")

    def crash(self, call, failpoint):
        """The daemon comes up well with its failpoint, and comes there when it is asked to."""
        self.daemon.kill()
        self.daemon.start(SANDBOXD_FAILPOINT=failpoint)
        wait_until(lambda: is_settled(self.api), "nothing under way")
        with pytest.raises(grpc.RpcError) as info:
            call(self)
        assert self.daemon.process.wait(20) == -signal.SIGKILL
        assert info.value.code() == grpc.StatusCode.UNAVAILABLE, info.value.details()
        self.api.close()

    def crash_again(self, failpoint):
        """In the middle of the recovery, where that comes by the same point."""
        daemon = self.daemon
        daemon.launch(SANDBOXD_FAILPOINT=failpoint)
        wait_until(lambda: not daemon.is_running() or daemon.is_listening(), "a socket")
        daemon.api = Api(daemon.socket)
        wait_until(lambda: not daemon.is_running() or is_settled(daemon.api), "the recovery",
                   seconds=30)
        if not daemon.is_running():
            assert daemon.process.returncode == -signal.SIGKILL, daemon.log()[-2000:]
        daemon.kill()

    def converges(self, state, kept=()):
        """With the subject in this state. Returns it."""
        expected = {self.bystander.id: {"RUNNING"}, self.stopped.id: {"STOPPED"}}
        found = [s for s in self.api.list() if s.name == "subject"]
        subject = self.subject or (found[0] if found else None)
        if subject and state != "GONE":
            expected[subject.id] = {state}
        elif state != "GONE":
            raise AssertionError(f"it is gone, and should be {state}")
        converges(self.daemon, expected, kept)
        assert self.look("bystander", self.process) == self.bystander_before
        assert (self.daemon.workspace(self.stopped) / "file").read_text() == "kept\n"
        return subject


@pytest.fixture(scope="module")
def worlds():
    made = {}
    yield made
    left = []
    try:
        for world in made.values():
            left += world.daemon.finish()
    finally:
        for world in made.values():
            world.daemon.destroy()
    assert left == []


@pytest.fixture
def world(request, worlds, runtime):
    if not PROGRAM.exists():
        pytest.skip(f"no daemon with failpoints: make FAILPOINTS=1 BUILD={PROGRAM.parent}")
    if runtime not in worlds:
        worlds[runtime] = World(runtime)
    request.node.stash[DAEMONS] = [worlds[runtime].daemon]
    yield worlds[runtime]
    if ("failed", True) in request.node.user_properties:
        worlds.pop(runtime).daemon.destroy()


def check_subject(world, subject, before, state):
    """It is whole: what it had it has, and it takes the operations of its state."""
    if state == "FAILED":
        assert subject.reason
        assert cause_name(world.api.get("subject")) in ("SIGNALED", "UNKNOWN")
    if state in ("FAILED", "STOPPED"):
        world.api.start("subject")
    if state == "PAUSED":
        world.api.resume("subject")
    if before:
        assert world.api.sh("subject", "cat file") == "kept\n"
    if before and subject.rootfs == sandbox_pb2.ROOTFS_MODE_OVERLAY:
        assert world.api.sh("subject", "cat /etc/motd") == "written\n"
    if (before, state) in (("RUNNING", "PAUSED"), ("PAUSED", "RUNNING")):
        assert world.api.run("subject", "kill", "-0", world.subject_process).code == 0


@pytest.mark.parametrize("runtime, operation, failpoint, again", cells(), indirect=["runtime"])
def test_crash(world, operation, failpoint, again):
    before, call, _, after, unless, fields = OPERATIONS[operation]
    if fields == BRIDGE and not Path("/usr/lib/cni/ptp").exists():
        pytest.skip("no CNI plugins: apt install containernetworking-plugins")
    state = unless.get(failpoint, after)
    keeps = operation.startswith("delete, kept")
    world.prepare(before, fields)
    world.crash(call, failpoint)
    if again:
        world.crash_again(failpoint)
    world.daemon.start()
    wait_until(lambda: is_settled(world.api), "nothing under way", seconds=30)
    subject = world.converges(state, kept={world.subject.id} if keeps else ())

    if operation in ("create", "create, bridge", "create, overlay"):
        # The client, who heard nothing, asks again: there is one, and never a second.
        assert world.create(world.key, **fields).id == subject.id
    elif operation.startswith("create") and operation.endswith("no key"):
        assert subject or world.create()  # its name is not taken
    elif keeps:
        world.api.create(name="subject", workspace=world.subject.id)
        assert world.api.sh("subject", "cat file") == "kept\n"
    elif state != "GONE":
        check_subject(world, world.api.get("subject"), before, state)
    if keeps or operation.endswith("no key") or state != "GONE":
        world.api.delete("subject")
    world.subject = None
    world.converges("GONE")
    shutil.rmtree(world.daemon.data / "kept", ignore_errors=True)
