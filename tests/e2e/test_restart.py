"""Sandboxes outlive the daemon."""

import os
import signal

import grpc
import pytest

from harness import output, refused, wait_until

pytestmark = pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])


@pytest.mark.docker
@pytest.mark.parametrize("runtime", ["runc", "runsc", "runsc-r22"], indirect=True)
def test_same_sandbox_same_processes(daemon, api, sandbox, how):
    pid = api.sh(sandbox.id, "echo kept >file; sleep 1000 >/dev/null 2>&1 & echo $!").strip()
    stat = f"cut -d' ' -f1,22 /proc/{pid}/stat"  # with the time of its start
    before = api.sh(sandbox.id, stat), daemon.init_pid(sandbox)
    stopped = api.create(name="stopped", runtime=sandbox.runtime)
    api.stop("stopped")

    daemon.restart(how)
    api = daemon.api
    again = api.get(sandbox.id)
    assert again == sandbox
    assert (api.sh(sandbox.id, stat), daemon.init_pid(sandbox)) == before
    assert "sleep" in api.sh(sandbox.id, f"cat /proc/{pid}/stat")
    assert api.sh(sandbox.id, "cat file") == "kept\n"
    assert api.state("stopped") == "STOPPED"
    api.start("stopped")
    assert api.get("stopped").id == stopped.id

    api.stop(sandbox.id)
    assert api.state(sandbox.id) == "STOPPED"
    api.start(sandbox.id)
    assert api.sh(sandbox.id, "cat file") == "kept\n"


def test_a_running_command_goes_on(daemon, api, sandbox, how):
    call = api.stream(sandbox.id, "sh", "-c", "echo $$; while :; do sleep 0.1; done")
    pid = output(call).strip()
    daemon.process.send_signal(signal.Signals[how])
    with refused(grpc.StatusCode.UNAVAILABLE):
        list(call)
    daemon.restart(how)
    assert daemon.api.run(sandbox.id, "kill", "-0", pid).code == 0


@pytest.mark.docker
def test_death_while_the_daemon_is_away(daemon, api, sandbox, how):
    init = daemon.init_pid(sandbox)
    {"SIGTERM": daemon.stop, "SIGKILL": daemon.kill}[how]()
    os.kill(init, signal.SIGKILL)
    daemon.start()
    wait_until(lambda: daemon.api.state(sandbox.id) == "FAILED", "state FAILED", seconds=3)
    assert daemon.api.get(sandbox.id).reason
    daemon.api.start(sandbox.id)
    assert daemon.api.sh(sandbox.id, "echo again") == "again\n"


@pytest.mark.docker
def test_reboot(daemon, api, sandbox, how, host_process):
    """What need not outlive a reboot is gone; so are the processes."""
    api.sh(sandbox.id, "echo kept >file")
    init = daemon.init_pid(sandbox)
    {"SIGTERM": daemon.stop, "SIGKILL": daemon.kill}[how]()
    os.kill(init, signal.SIGKILL)
    host_process("find", daemon.state, "-mindepth", "1", "-delete").wait()
    daemon.start()
    wait_until(lambda: daemon.api.state(sandbox.id) == "FAILED", "state FAILED", seconds=3)
    daemon.api.start(sandbox.id)
    assert daemon.api.sh(sandbox.id, "cat file") == "kept\n"
