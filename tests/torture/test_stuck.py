"""What is stuck holds up nobody else, ends by its deadline with an error that names the cause, and
heals when the cause goes."""

import json
import os
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from form import LONG
from harness import fill, find_runtime, identity, refused, runtimes, wait_until, within
from probe import probing
from shim import Shim
from world import converges

START_TIMEOUT, REMOVE_TIMEOUT, PAUSE_TIMEOUT = 3, 8, 10  # seconds
SLACK = 3
ASKED = 6 if LONG else 1  # rounds in which a runtime cannot list
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
DAY = 24 * 3600

short_of_gvisor = pytest.mark.parametrize("runtime", ["runc", "runsc"] if LONG else ["runc"],
                                          indirect=True)


class Bad:
    """A daemon with a runtime that can be told to misbehave, a sandbox of it, and a good one."""

    def __init__(self, make_daemon, directory, runtime):
        self.shim = Shim(directory, find_runtime(runtime))
        self.daemon = make_daemon(
            runtimes=runtimes() | {"bad": {"type": runtime, "path": str(self.shim.path)}},
            defaults={"start_timeout": f"{START_TIMEOUT}s", "stop_timeout": "1s"})
        self.api = self.daemon.api
        self.good = self.api.create(name="good", runtime=runtime)
        self.box = self.api.create(name="box", runtime="bad")
        self.pid = self.api.sh("box", "sleep 100000 >/dev/null 2>&1 & echo $!").strip()

    def is_untouched(self):
        """The bad one's process runs on, and can be reached."""
        assert self.api.state("box") == "RUNNING"
        assert self.api.run("box", "kill", "-0", self.pid).code == 0

    def heals(self):
        """Every operation works again, on the one that was stuck too."""
        self.shim.heal()
        for verb in (self.api.stop, self.api.start, self.api.pause, self.api.resume):
            verb("box")
        assert self.api.sh("box", "echo up") == "up\n"
        self.api.delete("box")
        assert self.api.run(self.api.create(runtime="bad").id, "true").code == 0
        converges(self.daemon, {s.id: {"RUNNING"} for s in self.api.list()})
        assert self.shim.left() == []


@pytest.fixture
def bad(make_daemon, tmp_path, runtime):
    return Bad(make_daemon, tmp_path / "bad", runtime)


@short_of_gvisor
def test_runtime_that_hangs_on_run(bad, figure):
    with probing(bad.daemon, bad.good.id, figure):
        bad.shim.trouble("hang", "run")
        with within(START_TIMEOUT + REMOVE_TIMEOUT + SLACK), \
                refused(grpc.StatusCode.DEADLINE_EXCEEDED, str(bad.shim.path), "run"):
            bad.api.create(name="other", runtime="bad")
        assert bad.api.stop("box").state
        with within(START_TIMEOUT + REMOVE_TIMEOUT + SLACK), \
                refused(grpc.StatusCode.DEADLINE_EXCEEDED, str(bad.shim.path), "run"):
            bad.api.start("box")
        assert bad.api.state("box") == "FAILED" and "run" in bad.api.get("box").reason
        assert bad.shim.left() == []
    converges(bad.daemon, {bad.good.id: {"RUNNING"}, bad.box.id: {"FAILED"}})
    bad.heals()


@short_of_gvisor
def test_runtime_that_hangs_on_delete(bad, figure):
    """The kernel's word is enough: the processes are gone, and what the runtime knew."""
    with probing(bad.daemon, bad.good.id, figure):
        bad.shim.trouble("hang", "delete")
        for verb in (bad.api.stop, bad.api.start, bad.api.delete):
            with within(2 + REMOVE_TIMEOUT + SLACK):
                verb("box")
        converges(bad.daemon, {bad.good.id: {"RUNNING"}})
        assert str(bad.shim.path) in bad.daemon.log()
    bad.box = bad.api.create(name="box", runtime="bad")
    bad.heals()


@short_of_gvisor
def test_runtime_that_hangs_on_pause_and_resume(bad, figure):
    bad.api.pause(bad.api.create(name="paused", runtime="bad").id)
    with probing(bad.daemon, bad.good.id, figure), ThreadPoolExecutor(2) as pool:
        bad.shim.trouble("hang", "pause", "resume")
        with within(PAUSE_TIMEOUT + REMOVE_TIMEOUT + SLACK):
            calls = {"pause": pool.submit(bad.api.pause, "box"),
                     "resume": pool.submit(bad.api.resume, "paused")}
            for verb, call in calls.items():
                with refused(grpc.StatusCode.DEADLINE_EXCEEDED, str(bad.shim.path), verb):
                    call.result()
        bad.is_untouched()
        assert bad.api.state("paused") == "PAUSED"
    bad.shim.heal()
    bad.api.resume("paused")
    assert bad.api.sh("paused", "echo up") == "up\n"
    bad.heals()


def orphan_bundle(daemon):
    """What a crash between two steps could leave: a bundle with this daemon's mark."""
    sandbox_id = "0" * 25 + "1"
    directory = daemon.state / "bundles" / sandbox_id
    directory.mkdir()
    config = {"annotations": {"io.sandboxd.instance": daemon.api.info().instance,
                              "io.sandboxd.runtime": "runc"}}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@short_of_gvisor
@pytest.mark.parametrize("what", ["hang", "garbage", "fail"] if LONG else ["garbage"])
def test_runtime_that_cannot_list(bad, figure, what):
    """As long as one cannot tell what it has, nothing is cleared away."""
    with probing(bad.daemon, bad.good.id, figure):
        bad.shim.trouble(what, "list")
        time.sleep(1)  # what was asked before may be answered yet
        orphan = orphan_bundle(bad.daemon)
        # Only when there is something to clear away is it asked.
        wait_until(lambda: bad.daemon.log().count("cannot be asked what it runs") >= ASKED,
                   "rounds without an answer", seconds=20 * ASKED)
        time.sleep(1)
        assert orphan.exists()
        bad.is_untouched()
    bad.shim.heal()
    wait_until(lambda: not orphan.exists(), "the orphan removed", seconds=60)
    bad.heals()


@short_of_gvisor
@pytest.mark.parametrize("what", ["garbage", "nothing", "fail"])
def test_runtime_that_does_nothing(bad, figure, what):
    """Whatever it says, and whether it says that it did."""
    with probing(bad.daemon, bad.good.id, figure):
        bad.shim.trouble(what)
        with within(START_TIMEOUT + REMOVE_TIMEOUT + SLACK), \
                refused(grpc.StatusCode.INTERNAL, str(bad.shim.path)):
            bad.api.create(name="other", runtime="bad")
        with within(PAUSE_TIMEOUT + SLACK), refused(grpc.StatusCode.INTERNAL, "pause"):
            bad.api.pause("box")
        bad.is_untouched()
        with within(1 + REMOVE_TIMEOUT + SLACK):
            bad.api.stop("box")
    bad.shim.heal()  # or it could not be asked what it has
    converges(bad.daemon, {bad.good.id: {"RUNNING"}, bad.box.id: {"STOPPED"}})
    bad.api.start("box")
    bad.heals()


@short_of_gvisor
def test_supervisor_that_is_stopped(bad, figure):
    """From its start on, or later."""
    with probing(bad.daemon, bad.good.id, figure):
        bad.shim.trouble("freeze", "run")
        with within(START_TIMEOUT + REMOVE_TIMEOUT + SLACK), \
                refused(grpc.StatusCode.DEADLINE_EXCEEDED, "runtimed"):
            bad.api.create(name="other", runtime="bad")
        bad.shim.heal()
        os.kill(bad.daemon.init_pid(bad.box), signal.SIGSTOP)
        with within(4), refused(grpc.StatusCode.DEADLINE_EXCEEDED):
            bad.api.run("box", "true", timeout=2)
        assert bad.api.state("box") == "RUNNING"
        with within(0.5 + SLACK):
            bad.api.stop("box", grace_millis=500)
        bad.api.start("box")
        os.kill(bad.daemon.init_pid(bad.box), signal.SIGSTOP)
        with within(SLACK):
            bad.api.delete("box")
    converges(bad.daemon, {bad.good.id: {"RUNNING"}})
    bad.api.create(name="box", runtime="bad")
    bad.heals()


# --- the host --------------------------------------------------------------------------------


def test_full_disk(small_disk, make_daemon, figure):
    daemon = make_daemon(start=False, data_dir=str(small_disk / "data"))
    daemon.data = small_disk / "data"
    daemon.start()
    api = daemon.api
    good, stopped, deleted = (api.create(name=n) for n in ("good", "stopped", "deleted"))
    with probing(daemon, good.id, figure):
        filler = fill(small_disk)
        with within(5), refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "disk"):
            api.create()
        # What takes no space, and what gives some back.
        with within(5):
            api.stop("stopped")
        with within(5):
            api.delete("deleted")
        fill(small_disk)
        with within(5), refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "disk"):
            api.create()
        assert api.state("stopped") == "STOPPED" and api.state("good") == "RUNNING"
        assert len(api.list()) == 2
        assert api.sh("good", "echo x >file 2>/dev/null || echo full") == "full\n"
    converges(daemon, {good.id: {"RUNNING"}, stopped.id: {"STOPPED"}})
    daemon.restart("SIGKILL")  # on a full disk too
    converges(daemon, {good.id: {"RUNNING"}, stopped.id: {"STOPPED"}})
    filler.unlink()

    def creates():
        try:
            return daemon.api.create(name="new")
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, e.details()

    new = wait_until(creates, "room again", seconds=30)
    daemon.api.start("stopped")
    converges(daemon, {s.id: {"RUNNING"} for s in (good, stopped, new)})


def test_no_file_descriptors(daemon, figure):
    """List goes on; what needs one says so, and nothing is lost."""
    api = daemon.api
    good, other = api.create(name="good"), api.create(name="other")
    who = [identity(daemon.init_pid(s)) for s in (good, other)]
    pid = daemon.process.pid
    with probing(daemon, good.id, figure, exec_may_fail=True):
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with within(START_TIMEOUT + REMOVE_TIMEOUT + SLACK), pytest.raises(grpc.RpcError) as e:
                api.create(name="new")
            assert "open files" in e.value.details(), e.value.details()
            with within(5), pytest.raises(grpc.RpcError) as e:
                api.run("good", "true", timeout=4)
            assert "open files" in e.value.details(), e.value.details()
            time.sleep(6)  # the daemon looks after things meanwhile
            assert daemon.is_running()
            assert {s.name for s in api.list()} >= {"good", "other"}
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert [identity(daemon.init_pid(s)) for s in (good, other)] == who
    # What could not be taken back then is now.
    converges(daemon, {s.id: {"RUNNING"} for s in (good, other)}, seconds=40)
    assert api.sh("good", "echo up") == "up\n"
    api.stop("other")
    api.start("other")
    api.create(name="new")
    converges(daemon, {s.id: {"RUNNING"} for s in api.list()})


class Clock:
    """The daemon's own wall clock."""

    def __init__(self, daemon, directory):
        self.file = directory / "clock"
        self.ahead(0)
        plain = daemon.command
        daemon.command = lambda *args: [
            "env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME_TIMESTAMP_FILE={self.file}",
            "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_ONLY_CMDS=sandboxd",
            *plain(*args)]

    def ahead(self, seconds):
        temporary = self.file.with_suffix(".new")
        temporary.write_text(f"{seconds:+d}\n")
        temporary.rename(self.file)


@pytest.fixture
def clock(make_daemon, tmp_path):
    if not FAKETIME.exists():
        pytest.skip("no libfaketime on this machine: run 'make deps'")
    daemon = make_daemon(start=False, defaults={"stop_timeout": "1s"})
    clock = Clock(daemon, tmp_path)
    daemon.start()
    return daemon, clock


def seconds_ahead(daemon):
    """Of the daemon's clock, by the time at which it makes something."""
    made = daemon.api.create()
    daemon.api.delete(made.id)
    return made.created_at.ToSeconds() - time.time()


def test_clock_that_jumps(clock, figure):
    daemon, clock = clock
    api = daemon.api
    good = api.create(name="good")
    # That it works at all.
    clock.ahead(DAY)
    assert abs(seconds_ahead(daemon) - DAY) < 60
    clock.ahead(0)
    assert abs(seconds_ahead(daemon)) < 60

    with probing(daemon, good.id, figure):
        began = time.monotonic()
        api.create(name="box", ttl_millis=5000)
        for ahead in (DAY, -DAY, 0):
            clock.ahead(ahead)
            time.sleep(1)
            assert api.state("box") == "RUNNING", f"{ahead} s ahead"
        clock.ahead(-DAY)  # and not late either
        assert api.wait("box", "STOPPED", timeout=20).state
        assert 4.9 <= time.monotonic() - began < 10

    # A jump while the daemon is away is no reason either: it is the same boot of the host.
    clock.ahead(0)
    began = time.monotonic()
    api.create(name="later", ttl_millis=5000)
    daemon.kill()
    clock.ahead(DAY)
    daemon.start()
    assert daemon.api.state("later") == "RUNNING"
    time.sleep(2)
    assert daemon.api.state("later") == "RUNNING"
    assert daemon.api.wait("later", "STOPPED", timeout=20).state
    assert 4.9 <= time.monotonic() - began < 10
    # Nor is anything that was decided by the time of day undone by it.
    clock.ahead(0)
    daemon.restart("SIGKILL")
    converges(daemon, {s.id: {"RUNNING", "STOPPED"} for s in daemon.api.list()})
    assert daemon.api.state("good") == "RUNNING"
