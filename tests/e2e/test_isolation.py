"""What a sandbox is, seen from inside."""

import re

import grpc
import pytest

from harness import wait_until

pytestmark = pytest.mark.docker


def test_user_and_rights(api, sandbox):
    assert api.sh(sandbox.id, "id -u; id -g") == "1000\n1000\n"
    status = api.sh(sandbox.id, "cat /proc/self/status")
    sets = dict(re.findall(r"^(Cap\w+):\s*(\w+)$", status, re.M))
    assert {"CapInh", "CapPrm", "CapEff", "CapBnd"} <= set(sets)
    assert {int(value, 16) for value in sets.values()} == {0}
    if sandbox.runtime == "runc":  # gVisor does not show it
        assert re.search(r"^NoNewPrivs:\s*1$", status, re.M)
        assert re.search(r"^Seccomp:\s*2$", status, re.M)


def test_network_is_loopback_only(api, sandbox):
    devices = api.sh(sandbox.id, "cat /proc/net/dev")
    assert re.findall(r"^\s*(\S+):", devices, re.M) == ["lo"]
    assert api.run(sandbox.id, "nc", "-w", "3", "1.1.1.1", "53").code != 0


def test_file_system(api, sandbox):
    for place in ("/", "/etc", "/bin", "/usr", "/run"):
        assert api.run(sandbox.id, "touch", f"{place}/x").code != 0, place
    root = [line for line in api.sh(sandbox.id, "cat /proc/mounts").splitlines()
            if line.split()[1] == "/"]
    assert re.search(r"\bro\b", root[-1].split()[3])
    assert api.sh(sandbox.id, "touch /tmp/x /home/sandbox/x && ls /tmp /home/sandbox")


def test_the_supervisor_cannot_be_changed(api, sandbox):
    assert api.run(sandbox.id, "sh", "-c", "echo x >/run/sandboxd/runtimed").code != 0
    assert api.run(sandbox.id, "rm", "-f", "/run/sandboxd/runtimed").code != 0
    assert api.sh(sandbox.id, "tr '\\0' ' ' </proc/1/cmdline").startswith("/run/sandboxd/runtimed")


def test_host_processes_are_out_of_sight(api, sandbox, host_process):
    host_process("sleep", "987654")
    seen = api.sh(sandbox.id, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "987654" not in seen and "runtimed" in seen


@pytest.mark.parametrize("runtime", ["runc"], indirect=True)
def test_a_sandbox_cannot_kill_its_supervisor(api, sandbox):
    """Linux keeps a namespace's PID 1 from signals of its own; gVisor does not."""
    api.run(sandbox.id, "kill", "-9", "1")
    assert api.sh(sandbox.id, "echo alive") == "alive\n"


def test_sandboxes_do_not_see_each_other(api, runtime):
    one, other = api.create(runtime=runtime), api.create(runtime=runtime)
    api.sh(one.id, "echo secret >/home/sandbox/file; echo secret >/tmp/file; "
                   "sleep 876543 >/dev/null 2>&1 &")
    assert api.sh(other.id, "ls /home/sandbox /tmp") == "/home/sandbox:\n\n/tmp:\n"
    assert "876543" not in api.sh(other.id, "cat /proc/[0-9]*/cmdline")


@pytest.mark.parametrize("runtime", ["runc"], indirect=True)
def test_host_details_are_masked(api, sandbox):
    assert api.run(sandbox.id, "cat", "/proc/kcore").stdout == b""
    assert api.run(sandbox.id, "sh", "-c", "echo 1 >/proc/sys/kernel/sysrq").code != 0


def test_memory_limit(api, runtime):
    """A program that takes more than the limit is killed; under gVisor its whole sandbox is."""
    sandbox = api.create(runtime=runtime, resources={"memory_bytes": 64 << 20})
    try:
        assert api.run(sandbox.id, "tail", "/dev/zero").signal == 9
    except grpc.RpcError as error:
        assert runtime == "runsc" and error.code() == grpc.StatusCode.UNAVAILABLE
        wait_until(lambda: api.state(sandbox.id) == "FAILED", "state FAILED")
        assert "killed" in api.get(sandbox.id).reason
