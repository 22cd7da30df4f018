"""Tasks, and the end of the daemon, of the supervisor or of the sandbox at any moment: each task has one
end, which everybody is told, and what was told stays so."""

import os
import random
import signal
import time

import grpc
import pytest
from sandboxd.v1 import task_pb2

from form import LONG, SEED
from harness import find_runtime, wait_until

ROUNDS = 60 if LONG else 8
# Some hundred events in about a second.
PROMPT = "for i in $(seq 1 40); do echo $i; echo x >f$i; sleep 0.02; done"
RUNTIMES = ["runc", "runsc"]


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    if not find_runtime(request.param):
        pytest.skip(f"{request.param} is not there")
    return request.param


def told(daemon, sandbox, task):
    """The events that there are now, from the first on; without those on whose way the daemon or the
    sandbox went."""
    events = []
    try:
        for event in daemon.api.follow_task(sandbox.id, task.id, until_now=True):
            events.append(event)
    except grpc.RpcError:
        pass
    return events


def is_done(daemon, sandbox, task):
    found = daemon.api.task(sandbox.id, task.id)
    return found if found.phase == task_pb2.TASK_PHASE_DONE else None


def check(daemon, sandbox, task, before):
    """The end is told everywhere alike, and what was told before is part of it."""
    done = wait_until(lambda: is_done(daemon, sandbox, task), "an end", 30)
    events = daemon.api.finish_task(sandbox.id, task.id)
    assert events[:len(before)] == before
    assert events[-1].done == done.result and done.last_event == len(events)
    assert done in daemon.api.list_tasks(sandbox.id)
    return done


@pytest.mark.parametrize("victim", ["daemon", "supervisor", "sandbox"])
def test_kills(daemon, runtime, victim):
    dice = random.Random(f"{SEED}-{runtime}-{victim}")
    sandbox = daemon.api.create(runtime=runtime)
    ends = []
    for _ in range(ROUNDS):
        task = daemon.api.start_task(sandbox.id, PROMPT)
        time.sleep(dice.uniform(0, 1.3))
        before = told(daemon, sandbox, task)
        if victim == "daemon":
            daemon.restart("SIGKILL")
        elif victim == "supervisor":
            os.kill(daemon.init_pid(sandbox), signal.SIGKILL)
            daemon.api.wait(sandbox.id, "FAILED", "STOPPED")
            daemon.api.start(sandbox.id)
        else:
            daemon.api.stop(sandbox.id, grace_millis=dice.choice([1, 300]))
            daemon.api.start(sandbox.id)
        ends.append(check(daemon, sandbox, task, before))
    statuses = {end.result.status for end in ends}
    if victim == "daemon":
        assert statuses == {task_pb2.TASK_STATUS_SUCCEEDED}
    else:
        assert task_pb2.TASK_STATUS_FAILED in statuses
        assert {end.result.failure for end in ends} <= {0, task_pb2.TASK_FAILURE_INTERRUPTED}
    # The daemon has all of them, the sandbox or not.
    wait_until(lambda: daemon.api.task(sandbox.id) == ends[-1], "the last")
    time.sleep(3)
    daemon.api.delete(sandbox.id)
    assert daemon.api.list_tasks(sandbox.id) == ends
