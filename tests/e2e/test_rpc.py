"""Calls to sandboxes and what becomes of them, through the stock client."""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from sandboxd.v1 import process_pb2, sandbox_pb2

from harness import ULID, output, refused, wait_until

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def list_processes(api, ref, timeout=10):
    request = process_pb2.ProcessServiceListRequest(sandbox_id=ref)
    return list(api.processes.List(request, timeout=timeout).processes)


@pytest.fixture
def stopped(daemon):
    """Stops all processes of a sandbox as a hypervisor would, and lets them go on at the end."""
    pids = []

    def stop(sandbox):
        pids.append(daemon.init_pid(sandbox))
        os.kill(pids[-1], signal.SIGSTOP)
        return pids[-1]

    yield stop
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def test_list_of_processes(api, sandbox):
    assert list_processes(api, sandbox.id) == []
    call = api.stream(sandbox.id, "sh", "-c", "echo up; sleep 1000", kill_on_disconnect=True)
    assert output(call) == "up\n"
    [process] = list_processes(api, sandbox.id)
    assert process.program == "sh" and process.pid > 1
    assert abs(process.started_at.ToSeconds() - time.time()) < 60
    call.cancel()
    wait_until(lambda: list_processes(api, sandbox.id) == [], "the program ended")


def test_many_calls_at_once(api, sandbox):
    """Unary calls share one connection to the sandbox; no answer goes astray."""
    calls = [api.stream(sandbox.id, "sh", "-c", "echo up; sleep 1000", kill_on_disconnect=True)
             for _ in range(8)]
    assert {output(call) for call in calls} == {"up\n"}
    with ThreadPoolExecutor(16) as pool:
        lists = list(pool.map(lambda _: list_processes(api, sandbox.id), range(200)))
    assert all(len({p.pid for p in processes}) == 8 for processes in lists)
    for call in calls:
        call.cancel()


@pytest.mark.parametrize("runtime", ["runc"], indirect=True)
def test_deadline_of_a_stuck_sandbox(api, sandbox, stopped):
    other = api.create()
    stopped(sandbox)
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        list_processes(api, sandbox.id, timeout=0.5)
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        api.run(sandbox.id, "true", timeout=0.5)
    assert api.sh(other.id, "echo well") == "well\n"


@pytest.mark.parametrize("runtime", ["runc"], indirect=True)
def test_sandbox_goes_away_during_a_call(api, sandbox, stopped):
    """Neither a unary call nor a stream gets an invented result."""
    running = api.stream(sandbox.id, "sh", "-c", "echo up; sleep 1000")
    assert output(running) == "up\n"
    pid = stopped(sandbox)
    request = process_pb2.ProcessServiceListRequest(sandbox_id=sandbox.id)
    unary = api.processes.List.future(request, timeout=30)
    stream = api.stream(sandbox.id, "true", timeout=30)
    wait_until(lambda: api.metrics().get("sandboxd_routed_calls") == 3, "all three under way")
    os.kill(pid, signal.SIGKILL)
    for call in unary, stream, running:
        with refused(grpc.StatusCode.UNAVAILABLE):
            list(call) if call is not unary else call.result()


@pytest.mark.parametrize("runtime", ["runsc"], indirect=True)
def test_gvisor_goes_away_during_a_call(api, daemon, sandbox):
    running = api.stream(sandbox.id, "sh", "-c", "echo up; sleep 1000")
    assert output(running) == "up\n"
    os.kill(daemon.init_pid(sandbox), signal.SIGKILL)
    with refused(grpc.StatusCode.UNAVAILABLE):
        list(running)


def test_stop_ends_calls(api, sandbox):
    running = api.stream(sandbox.id, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
    assert output(running) == "up\n"
    api.stop(sandbox.id, grace_millis=100)
    try:  # that it was killed is a result, if runtimed could still tell it
        assert [event for event in running][-1].end.signal == signal.SIGKILL
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE


def test_who_asked_is_logged(api, daemon):
    """One line at the end of each call that changes something, whatever its outcome."""
    made = api.create()
    request = sandbox_pb2.SandboxServiceStopRequest(sandbox_id=made.id)
    api.sandboxes.Stop(request, timeout=60, metadata=[("traceparent", TRACE),
                                                      ("x-request-id", "ticket-17")])
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        api.run(made.id, "true")
    api.get(made.id)
    who = f"audit uid {os.getuid()}, pid {os.getpid()}: sandboxd.v1."
    audited = [line.partition(who)[2] for line in daemon.log().splitlines() if who in line]
    ends = [f"SandboxService/Create of sandbox {made.id}: OK after MS, request ID",
            f"SandboxService/Stop of sandbox {made.id}: OK after MS, request ticket-17, "
            f"traceparent {TRACE}",
            f"ProcessService/Start of sandbox {made.id}: FAILED_PRECONDITION after MS, request ID"]
    assert [re.sub(rf"request {ULID}", "request ID", re.sub(r"after \d+ ms", "after MS", line))
            for line in audited] == ends


def test_calls_may_end_while_the_daemon_stops(api, daemon):
    """It waits for them, though not for ever, and takes no new ones."""
    made = api.create()
    short = api.stream(made.id, "sh", "-c", "echo up; sleep 1; echo done")
    endless = api.stream(made.id, "sh", "-c", "echo up; sleep 1000")
    assert output(short) == output(endless) == "up\n"
    begin = time.monotonic()
    daemon.process.terminate()
    assert output(short) == "done\n"
    assert list(short)[-1].end.exit_code == 0
    with refused(grpc.StatusCode.UNAVAILABLE, "stopping"):
        list(endless)
    assert daemon.process.wait(20) == 0
    assert 1 < time.monotonic() - begin < 15
    api.close()
    daemon.start()
    assert daemon.api.state(made.id) == "RUNNING"


@pytest.mark.parametrize("runtime", ["runc"], indirect=True)
def test_unary_calls_may_end_while_the_daemon_stops(api, daemon, sandbox, stopped):
    pid = stopped(sandbox)
    call = api.processes.List.future(process_pb2.ProcessServiceListRequest(sandbox_id=sandbox.id),
                                     timeout=30)
    wait_until(lambda: api.metrics().get("sandboxd_routed_calls") == 1, "it is under way")
    daemon.process.terminate()
    time.sleep(0.3)
    assert not call.done()
    os.kill(pid, signal.SIGCONT)
    assert list(call.result().processes) == []
    assert daemon.process.wait(20) == 0
    api.close()
    daemon.start()
