"""Watch and Wait: whoever looks on misses nothing, or is told what."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from sandboxd.v1 import sandbox_pb2

from harness import refused, wait_until

UNKNOWN_ID = "0" * 26


def items(call):
    """(kind, item) of each, until the stream ends."""
    for response in call:
        kind = response.WhichOneof("item")
        yield kind, getattr(response, kind)


def snapshot(call):
    """What comes before `synced`, and its number."""
    sandboxes = []
    for kind, item in items(call):
        if kind == "synced":
            return sandboxes, item.sequence
        assert kind == "sandbox"
        sandboxes.append(item)
    raise AssertionError("the stream ended")


def replay(api, start=1, **fields):
    """The events from a number on, up to now."""
    *events, (last, synced) = items(api.watch(from_sequence=start, until_now=True, **fields))
    assert last == "synced" and all(kind == "event" for kind, _ in events)
    assert not events or events[-1][1].sequence <= synced.sequence
    return [event for _, event in events]


def states(events):
    return [sandbox_pb2.SandboxState.Name(e.state).removeprefix("SANDBOX_STATE_") for e in events]


def take_until(call, condition):
    """Events, up to the one that meets the condition."""
    events = []
    for kind, item in items(call):
        if kind == "event":
            events.append(item)
            if condition(item):
                return events
    raise AssertionError("the stream ended")


def is_stopped(event):
    return event.state == sandbox_pb2.SANDBOX_STATE_STOPPED


def test_snapshot_then_events(api, runtime):
    first = api.create(runtime=runtime, env={"A": "1"})
    second = api.create(name="box", runtime=runtime)
    call = api.watch()
    there, sequence = snapshot(call)
    assert [s.id for s in there] == [first.id, second.id]
    assert there[0].env == {} and there[1].name == "box"
    assert {s.state for s in there} == {sandbox_pb2.SANDBOX_STATE_RUNNING}
    api.stop("box")
    events = take_until(call, is_stopped)
    assert [e.sequence for e in events] == [sequence + 1 + i for i in range(len(events))]
    assert states(events) == ["STOPPING", "STOPPED"]
    for event in events:
        assert (event.sandbox_id, event.sandbox_name) == (second.id, "box")
        assert event.operation == sandbox_pb2.OPERATION_KIND_STOP
        assert event.at.seconds >= second.created_at.seconds
    call.cancel()


def test_nothing_ever_happened(api):
    assert snapshot(api.watch(until_now=True)) == ([], 0)
    assert replay(api) == []


def test_until_now(api):
    api.create(name="box")
    call = api.watch(until_now=True)
    there, sequence = snapshot(call)
    assert len(there) == 1 and list(call) == []
    events = replay(api)
    assert [e.sequence for e in events] == list(range(1, sequence + 1))
    assert states(events)[-1] == "RUNNING"


def test_one_sandbox(api):
    one, other = api.create(), api.create()
    call = api.watch(sandbox_id=one.id)
    there, _ = snapshot(call)
    assert [s.id for s in there] == [one.id]
    api.stop(other.id)
    api.stop(one.id)
    assert {e.sandbox_id for e in take_until(call, is_stopped)} == {one.id}
    call.cancel()
    assert {e.sandbox_id for e in replay(api, sandbox_id=other.id)} == {other.id}


def test_one_that_is_gone(api):
    """Its events are kept; one that never was has none."""
    gone = api.create(name="box")
    call = api.watch(sandbox_id=gone.id)
    snapshot(call)
    api.delete("box")
    take_until(call, lambda e: e.kind == sandbox_pb2.EVENT_KIND_DELETED)
    call.cancel()
    events = replay(api, sandbox_id=gone.id)
    assert events[-1].kind == sandbox_pb2.EVENT_KIND_DELETED
    assert states(events)[0] == "CREATING"
    assert replay(api, sandbox_id=UNKNOWN_ID) == []
    assert snapshot(api.watch(sandbox_id=UNKNOWN_ID, until_now=True))[0] == []


@pytest.mark.parametrize("ref", ["box", "0" * 25, "0" * 26 + "x", "../../etc"])
def test_only_whole_ids(api, ref):
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "id"):
        list(api.watch(sandbox_id=ref))


def test_resume(api):
    """From any number on: the same events."""
    api.create(name="box")
    api.stop("box")
    api.start("box")
    events = replay(api)
    for start in range(1, len(events) + 1):
        assert replay(api, start) == events[start - 1:]
    assert replay(api, len(events) + 1) == []


def test_beyond_the_end(api):
    api.create()
    last = len(replay(api))
    for start in last + 2, 2**63 - 1, 2**63, 2**64 - 1:
        with refused(grpc.StatusCode.OUT_OF_RANGE, str(last + 1)):
            list(api.watch(from_sequence=start))


def follow(api, start, events):
    """Collects events until the daemon goes away."""
    try:
        for kind, item in items(api.watch(from_sequence=start, timeout=120)):
            assert kind != "gap"
            if kind == "event":
                events.append(item)
    except grpc.RpcError as e:  # or it is the test that closes the channel
        assert e.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def busy(api, name):
    try:
        api.create(name=name)
        while True:
            api.stop(name, grace_millis=1)
            api.start(name)
    except grpc.RpcError:
        return


def test_no_event_is_lost_or_repeated_when_the_daemon_dies(daemon):
    events = []
    with ThreadPoolExecutor(8) as pool:
        for life in range(3):
            before = len(events)
            workers = [pool.submit(busy, daemon.api, f"box-{life}-{i}") for i in range(4)]
            watcher = pool.submit(follow, daemon.api, len(events) + 1, events)
            wait_until(lambda: len(events) > before + 10, "some events", 30)
            daemon.kill()
            watcher.result(30)
            for worker in workers:
                worker.result(30)
            daemon.start()
    assert [e.sequence for e in events] == list(range(1, len(events) + 1))
    assert replay(daemon.api)[:len(events)] == events


def forget_events(daemon, before):
    """As the daemon itself does with old ones."""
    with sqlite3.connect(daemon.data / "sandboxd.db") as db:
        db.execute("DELETE FROM event WHERE sequence < ?", (before,))
    db.close()


def test_a_gap_is_told(daemon, api):
    sandbox = api.create(name="box")
    api.stop("box")
    events = replay(api)
    daemon.stop()
    forget_events(daemon, 3)
    daemon.start()
    api = daemon.api
    (kind, gap), *others = items(api.watch(from_sequence=1, until_now=True))
    assert (kind, gap.from_sequence, gap.to_sequence) == ("gap", 1, 3)
    assert [e for k, e in others if k == "event"][:len(events) - 2] == events[2:]
    # Of what is there nothing is said to be missing.
    assert replay(api, 3)[:len(events) - 2] == events[2:]
    (kind, gap), *_ = items(api.watch(from_sequence=2, until_now=True, sandbox_id=sandbox.id))
    assert (kind, gap.from_sequence, gap.to_sequence) == ("gap", 2, 3)


def test_a_slow_reader_gets_everything(api):
    api.create(name="box")
    call = api.watch(from_sequence=1)
    next(call)  # and no more for now
    for _ in range(20):
        api.stop("box", grace_millis=1)
        api.start("box")
    events = replay(api)
    read = [1] + [e.sequence for e in take_until(call, lambda e: e.sequence == len(events))]
    assert read == [e.sequence for e in events]
    call.cancel()


def test_many_watch(api):
    calls = [api.watch() for _ in range(50)]
    for call in calls:
        snapshot(call)
    api.create(name="box")
    expected = replay(api)
    for call in calls:
        assert take_until(call, lambda e: e.sequence == len(expected)) == expected
        call.cancel()


def test_stopping_the_daemon_ends_watches_and_waits(daemon, api):
    api.create(name="box")
    watching, waiting = api.watch(), wait_for(api, "box")
    snapshot(watching)
    with pytest.raises(grpc.FutureTimeoutError):
        waiting.result(0.5)
    daemon.process.terminate()
    with refused(grpc.StatusCode.UNAVAILABLE, "stopping"):
        list(watching)
    with refused(grpc.StatusCode.UNAVAILABLE, "stopping"):
        waiting.result()
    assert daemon.process.wait(20) == 0


# --- Wait ---


def wait_for(api, ref, *names, timeout=60):
    request = sandbox_pb2.SandboxServiceWaitRequest(
        sandbox_id=ref, states=[f"SANDBOX_STATE_{name}" for name in names])
    return api.sandboxes.Wait.future(request, timeout=timeout)


def test_wait_for_the_end(api, runtime):
    api.create(name="box", runtime=runtime)
    waiting = wait_for(api, "box")
    with pytest.raises(grpc.FutureTimeoutError):
        waiting.result(0.5)
    api.stop("box")
    assert waiting.result().sandbox.state == sandbox_pb2.SANDBOX_STATE_STOPPED
    assert wait_for(api, "box").result() == waiting.result()


def test_wait_for_some_state(api):
    api.create(name="box")
    assert wait_for(api, "box", "PAUSED", "RUNNING").result().sandbox.name == "box"
    waiting = [wait_for(api, "box", state) for state in ("STOPPING", "STOPPED")]
    with pytest.raises(grpc.FutureTimeoutError):
        waiting[0].result(0.5)
    api.stop("box")
    for call, state in zip(waiting, ("STOPPING", "STOPPED")):
        assert call.result().sandbox.state == getattr(sandbox_pb2, f"SANDBOX_STATE_{state}")


def test_wait_for_one_that_is_deleted(api):
    api.create(name="box")
    waiting = wait_for(api, "box")
    with pytest.raises(grpc.FutureTimeoutError):
        waiting.result(0.5)
    api.delete("box")
    with refused(grpc.StatusCode.NOT_FOUND):
        waiting.result()
    with refused(grpc.StatusCode.NOT_FOUND):
        wait_for(api, "box").result()


def test_wait_with_a_deadline(api):
    api.create(name="box")
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        wait_for(api, "box", timeout=0.3).result()
    waiting = wait_for(api, "box")
    waiting.cancel()
    api.stop("box")  # and nobody is told


@pytest.mark.parametrize("states", [[0], [9], [-1], [3, 99], [3] * 9])
def test_wait_for_no_state(api, states):
    api.create(name="box")
    request = sandbox_pb2.SandboxServiceWaitRequest(sandbox_id="box", states=states)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "states"):
        api.sandboxes.Wait(request, timeout=10)
