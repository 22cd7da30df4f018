"""HostService.Drain: the host goes out of service, and comes back."""

import json

import grpc
import pytest
from sandboxd.v1 import host_pb2

from harness import refused, wait_until, within


def drain(api, timeout=60, **fields):
    """The messages, as they come."""
    return api.hosts.Drain(host_pb2.HostServiceDrainRequest(**fields), timeout=timeout)


def assert_out_of_service(api, ref):
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "drained", "sandboxctl drain --cancel"):
        api.create()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "drained"):
        api.start(ref)
    assert not api.is_serving()


@pytest.mark.docker
def test_all_are_stopped_and_none_is_started(daemon, api, runtime):
    for name in ("one", "two", "paused", "stopped"):
        api.create(name=name, runtime=runtime)
    api.sh("one", "echo kept >file")
    api.pause("paused")
    api.stop("stopped")
    messages = list(drain(api))
    assert messages[0].remaining == 3 and messages[-1].remaining == 0
    remaining = [m.remaining for m in messages]
    assert remaining == sorted(remaining, reverse=True)
    assert not messages[-1].failures
    assert {api.state(name) for name in ("one", "two", "paused", "stopped")} == {"STOPPED"}
    assert_out_of_service(api, "one")
    assert api.get("one").exit.cause  # it was stopped, and did not just end

    message, = drain(api, cancel=True)
    assert message.remaining == 0
    assert api.is_serving()
    api.start("one")
    assert api.sh("one", "cat file") == "kept\n"


def test_a_drained_host_drains_at_once(daemon, api):
    assert [m.remaining for m in drain(api)] == [0]
    assert [m.remaining for m in drain(api)] == [0]


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_a_restart_of_the_daemon_ends_it(daemon, api, how):
    api.create(name="box")
    list(drain(api))
    daemon.restart(how)
    assert daemon.api.is_serving()
    assert daemon.api.state("box") == "STOPPED"
    daemon.api.start("box")


def test_all_at_once_and_with_grace(daemon, api):
    """Each is given its time, but not one after the other."""
    for i in range(6):
        api.create(name=f"box-{i}")
        api.spawn(f"box-{i}", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    with within(12):
        list(drain(api, grace_millis=3000))
    assert {s.state for s in api.list()} == {api.get("box-0").state}
    assert api.state("box-0") == "STOPPED"


def test_what_is_under_way_is_stopped_too(daemon, api, pool):
    creates = [pool.submit(api.create, name=f"box-{i}") for i in range(8)]
    wait_until(lambda: len(api.list()) >= 4, "creates under way")
    assert list(drain(api))[-1].remaining == 0
    for create in creates:
        if create.exception():
            assert create.exception().code() in (grpc.StatusCode.FAILED_PRECONDITION,
                                                 grpc.StatusCode.ABORTED,
                                                 grpc.StatusCode.CANCELLED), create.exception()
    assert {api.state(s.id) for s in api.list()} <= {"STOPPED"}


def test_a_client_that_goes_does_not_end_it(daemon, api):
    api.create(name="box")
    api.spawn("box", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    call = drain(api, grace_millis=1500)
    assert next(call).remaining == 1
    call.cancel()
    assert list(drain(api, grace_millis=100))[-1].remaining == 0  # who is in more of a hurry
    assert api.state("box") == "STOPPED"
    with pytest.raises(grpc.RpcError):
        api.create()


def test_failures_are_told(make_daemon, runtime):
    daemon = make_daemon(runtimes={"other": {"type": "runc"}} | {"runc": {"type": "runc"}})
    box = daemon.api.create(name="box", runtime="other")
    daemon.kill()
    del daemon.config["runtimes"]["other"]
    daemon.start()
    last = list(drain(daemon.api))[-1]
    failure, = last.failures
    assert failure.sandbox_id == box.id and "'other'" in failure.reason
    assert daemon.api.state("box") == "RUNNING"
    result = daemon.ctl("drain")
    assert result.returncode == 1 and box.id in result.stderr
    daemon.config["runtimes"]["other"] = {"type": "runc"}
    daemon.restart("SIGTERM")


def test_refusals(api):
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "grace_millis"):
        list(drain(api, grace_millis=600001))
    assert api.is_serving()


def test_cli(daemon, api, ctl):
    for name in ("one", "two"):
        api.create(name=name)
    result = ctl("drain")
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.splitlines()[0] == "stopping 2 sandboxes"
    assert "drain --cancel" in result.stdout.splitlines()[-1]
    assert ctl("create").returncode == 1
    assert json.loads(ctl("--json", "drain").stdout) == {"remaining": 0, "failures": []}
    assert ctl("drain", "--cancel").stdout == "sandboxes are created and started again\n"
    assert ctl("start", "one").returncode == 0


def test_cli_says_what_is_left_after_its_time(daemon, api, ctl):
    api.create(name="box")
    api.spawn("box", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    result = ctl("drain", "--timeout", "500ms", "--grace", "3s")
    assert result.returncode == 1
    assert "1 sandbox is being stopped yet" in result.stderr
    assert "DEADLINE_EXCEEDED" in result.stderr
    wait_until(lambda: api.state("box") == "STOPPED", "the end of it")
