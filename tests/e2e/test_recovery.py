"""What goes wrong around a restart never costs a sandbox that is alive, and leaves nothing of one
that is not."""

import os
import resource
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from sandboxd.v1 import sandbox_pb2

from harness import find_runtime, refused, wait_until

LEFT = "cannot be reached"  # in the log, when one try has failed


def witness(api, ref):
    """The pid and the time of the start of a process in the sandbox."""
    return api.sh(ref, "cut -d' ' -f1,22 /proc/1/stat")


def assert_untouched(daemon, sandbox, pid):
    assert daemon.api.get(sandbox.id) == sandbox  # RUNNING, since the same time
    assert daemon.init_pid(sandbox) == pid
    assert Path(f"/proc/{pid}").exists()


def test_without_its_control_directory(make_daemon, runtime):
    daemon = make_daemon(defaults={"start_timeout": "1s"})
    sandbox = daemon.api.create(name="box", runtime=runtime)
    pid = daemon.init_pid(sandbox)
    daemon.api.sh("box", "echo kept >file; rm -rf .runtimed")
    with refused(grpc.StatusCode.UNAVAILABLE):
        daemon.api.run("box", "true")
    daemon.restart("SIGKILL")
    wait_until(lambda: "trying again" in daemon.log(), "a try")
    assert_untouched(daemon, sandbox, pid)
    daemon.api.stop("box", grace_millis=100)
    daemon.api.start("box")
    assert daemon.api.sh("box", "cat file") == "kept\n"


def test_tries_are_few(make_daemon):
    """As long as the sandbox keeps its directory away: the log is no place for it to fill."""
    daemon = make_daemon(defaults={"start_timeout": "1s"})
    daemon.api.create(name="box")
    daemon.api.sh("box", "rm -rf .runtimed")
    daemon.restart("SIGKILL")
    wait_until(lambda: "trying again" in daemon.log(), "a try")
    tries = daemon.log().count("trying again")
    daemon.api.sh(daemon.api.create().id, "sleep 2")
    assert daemon.log().count("trying again") - tries <= 6


def test_without_descriptors(make_daemon):
    """There are too few for all, until there are more."""
    daemon = make_daemon()
    idle = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    sandboxes = [daemon.api.create(name=f"box-{i}") for i in range(6)]
    before = [witness(daemon.api, s.id) for s in sandboxes]
    daemon.kill()
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (idle + 4, idle + 4))  # which it inherits
        daemon.process = None
        spawned = None
        start_within(daemon)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    wait_until(lambda: "Too many open files" in daemon.log(), "a lack of descriptors")
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, old)
    wait_until(lambda: {daemon.api.state(s.id) for s in sandboxes} == {"RUNNING"}, "all RUNNING")
    assert [witness(daemon.api, s.id) for s in sandboxes] == before
