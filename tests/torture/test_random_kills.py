"""Clients at work, and kill -9 at any moment: what was acknowledged is so, what runs is untouched,
nothing is left over."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc
import pytest
from sandboxd.v1 import sandbox_pb2

from form import LONG, SEED
from harness import Api, find_runtime, identity, state_name, wait_until
from world import converges

CLIENTS, ROUNDS = 20, 200 if LONG else 12
READY_SANDBOXES = 100
# What a client asks for in which state, and what is so once it is answered.
VERBS = {"RUNNING": ["exec", "exec", "exec", "stop", "pause", "delete"],
         "STOPPED": ["start", "start", "delete"],
         "PAUSED": ["resume", "resume", "stop", "delete"]}
AFTER = {"exec": "RUNNING", "start": "RUNNING", "resume": "RUNNING", "stop": "STOPPED",
         "pause": "PAUSED", "delete": "GONE"}
# No client sees the daemon come back later than this.
QUICK = {"initial_reconnect_backoff_ms": 100, "min_reconnect_backoff_ms": 100,
         "max_reconnect_backoff_ms": 200}


class Model:
    """A sandbox as its client knows it: what it was told, and what it asked for since."""

    def __init__(self, sandbox):
        self.id, self.key = sandbox.id, sandbox.request_key
        self.possible = {"RUNNING"}
        self.main = None  # who the main process is, since it came up


class Ended(Exception):
    """The test is over, well or not."""


class Failed(Exception):
    """A call that was answered with an error."""


class Client(threading.Thread):
    """Nobody else works on its sandboxes."""

    def __init__(self, daemon, number, runtime):
        super().__init__(name=f"client {number}")
        self.daemon, self.number, self.runtime = daemon, number, runtime
        self.random = random.Random(f"{SEED}-{number}")
        self.api = Api(daemon.socket, **QUICK)
        self.models, self.keys, self.counts = [], 0, Counter()
        self.unanswered = set()  # keys of creates: there is one, or none
        self.turn = threading.Lock()  # held for each step, and by who wants none to be made
        self.ending, self.error = False, None

    def run(self):
        try:
            while not self.ending:
                with self.turn:
                    self.step()
                time.sleep(0.001)  # or nobody else ever gets the lock
        except Ended:
            pass
        except Exception as e:  # told by the test
            self.error = f"{self.name}: {e!r}"

    def step(self):
        if len(self.models) < 2:
            self.create()
            return
        model = self.random.choice(self.models)
        state = self.observe(model)
        if state == "GONE":
            self.models.remove(model)
            return
        self.act(model, self.random.choice(VERBS[state]))

    def answered(self, call):
        """What it gave; None when the daemon died before it answered, or before it was asked."""
        if self.ending:
            raise Ended
        try:
            result = call()
        except grpc.RpcError as e:
            if e.code() != grpc.StatusCode.UNAVAILABLE:
                raise Failed(f"{e.code()}: {e.details()}") from e
            self.counts["unanswered"] += 1
            time.sleep(0.02)
            return None
        return result if result is not None else True

    def create(self):
        self.keys += 1
        key = f"{SEED}-{self.number}-{self.keys}"
        patient = self.random.random() < 0.8
        while (sandbox := self.answered(lambda: self.api.create(
                runtime=self.runtime, request_key=key, timeout=120))) is None:
            if not patient:
                self.unanswered.add(key)
                return
        assert state_name(sandbox) == "RUNNING", sandbox
        self.counts["create"] += 1
        self.models.append(Model(sandbox))

    def observe(self, model):
        """Its state, once nothing is under way."""
        end = time.monotonic() + 60
        while True:
            assert time.monotonic() < end, f"{model.id}: no answer, or no end of an operation"
            state = self.answered(lambda: self.state(model))
            if state is None:
                continue
            if state != "BUSY":
                break
            time.sleep(0.02)
        assert state in model.possible, f"{model.id}: {state}, not one of {model.possible}"
        model.possible = {state}
        return state

    def state(self, model):
        try:
            sandbox = self.api.get(model.id)
        except grpc.RpcError as e:
            if e.code() == grpc.StatusCode.NOT_FOUND:
                return "GONE"
            raise
        return "BUSY" if sandbox.HasField("operation") else state_name(sandbox)

    def act(self, model, verb):
        model.possible.add(AFTER[verb])
        if verb in ("start", "stop"):
            model.main = None
        call = {"exec": lambda: self.look(model), "start": lambda: self.api.start(model.id),
                "stop": lambda: self.api.stop(model.id, grace_millis=200),
                "pause": lambda: self.api.pause(model.id),
                "resume": lambda: self.api.resume(model.id),
                "delete": lambda: self.api.delete(model.id)}[verb]
        try:
            if self.answered(call) is not None:
                self.counts[verb] += 1
                model.possible = {AFTER[verb]}
        except Failed as e:
            # runc gives up on a cgroup v1 whose processes do not stand still soon enough. Then it
            # runs on.
            if verb != "pause" or "unable to freeze" not in str(e):
                raise
            self.counts["refused pause"] += 1
            model.possible.remove("PAUSED")

    def look(self, model):
        """Whose it is, and that it is the same that came up; the first time its mark is made."""
        said = self.api.sh(model.id, f"[ -e key ] || echo {model.key} >key; cat key")
        assert said == f"{model.key}\n"
        main = identity(self.daemon.init_pid(model))
        assert main and model.main in (None, main), f"{model.id}: {main}, was {model.main}"
        model.main = main

    def take_over(self, listed):
        """Sandboxes of creates that were not answered: at most one of each."""
        for key in self.unanswered:
            found = [s for s in listed if s.request_key == key]
            assert len(found) <= 1, found
            self.models += [Model(s) for s in found]
        self.unanswered = set()


class Load:
    """All the clients."""

    def __init__(self, daemon):
        self.daemon = daemon
        gvisor = "runsc" if find_runtime("runsc") else "runc"
        self.clients = [Client(daemon, i, gvisor if i % 5 == 0 else "runc")
                        for i in range(CLIENTS)]
        for client in self.clients:
            client.start()

    @contextmanager
    def halted(self):
        """Every client has its last answer; nobody may have met an error."""
        with ExitStack() as stack:
            for client in self.clients:
                assert client.turn.acquire(timeout=150), f"{client.name} hangs"
                stack.callback(client.turn.release)
            assert [c.error for c in self.clients if c.error] == []
            yield

    def end(self):
        for client in self.clients:
            client.ending = True
        for client in self.clients:
            client.join(150)
            client.api.close()

    def check(self, others):
        """Everything is as one of the clients knows it."""
        with self.halted():
            self.check_now(others)

    def check_now(self, others):
        wait_until(lambda: not any(s.state == sandbox_pb2.SANDBOX_STATE_CREATING
                                   for s in self.daemon.api.list()), "the last creates", seconds=30)
        listed = self.daemon.api.list()
        for client in self.clients:
            client.take_over(listed)
        expected = {m.id: m.possible for c in self.clients for m in c.models}
        converges(self.daemon, others | expected, seconds=60)
        for client in self.clients:
            for model in client.models:
                if client.observe(model) == "RUNNING":
                    client.look(model)

    def counts(self):
        total = sum((client.counts for client in self.clients), Counter())
        return ", ".join(f"{total[verb]} {verb}" for verb in sorted(total))


def runs_long(api, runtime):
    """A sandbox with a process that must outlive everything: (sandbox, pid inside)."""
    sandbox = api.create(runtime=runtime)
    return sandbox, api.sh(sandbox.id, "sleep 100000 >/dev/null 2>&1 & echo $!").strip()


def inside(api, sandbox, pid):
    return api.sh(sandbox.id, f"cut -d' ' -f1,2,22 /proc/{pid}/stat")


def time_to_ready(daemon, n=None):
    """Seconds from the start of the program to the first List that is answered."""
    began = time.monotonic()
    daemon.start()
    listed = daemon.api.list()
    took = time.monotonic() - began
    assert n is None or [state_name(s) for s in listed].count("RUNNING") == n
    return took


def test_random_kills(make_daemon, figure):
    daemon = make_daemon(defaults={"start_timeout": "60s"}, log={"level": "info"})
    others = [runs_long(daemon.api, r) for r in ("runc", "runc", "runsc") if find_runtime(r)]
    mains = {s.id: identity(daemon.init_pid(s)) for s, _ in others}
    insides = [inside(daemon.api, *other) for other in others]
    expected = {s.id: {"RUNNING"} for s, _ in others}
    chance = random.Random(SEED)
    load, slowest = Load(daemon), 0
    try:
        for n in range(1, ROUNDS + 1):
            time.sleep(chance.uniform(0.05, 1.5))
            daemon.kill()
            slowest = max(slowest, time_to_ready(daemon))
            assert {s.id: identity(daemon.init_pid(s)) for s, _ in others} == mains
            if n % (10 if LONG else 4) == 0:
                load.check(expected)
        load.check(expected)
        assert [inside(daemon.api, *other) for other in others] == insides
    finally:
        load.end()
    figure(f"SEED={SEED}, {ROUNDS} kills, {load.counts()}; slowest start under load "
           f"{slowest * 1000:.0f} ms")
    assert slowest < 30


def test_ready_with_many_sandboxes(make_daemon, figure):
    daemon = make_daemon(log={"level": "info"})
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: daemon.api.create(runtime="runc"), range(READY_SANDBOXES)))
    before = [identity(daemon.init_pid(s)) for s in made]
    times = []
    for _ in range(5):
        daemon.kill()
        times.append(time_to_ready(daemon, READY_SANDBOXES))
    figure(f"{READY_SANDBOXES} sandboxes adopted, ready after "
           + ", ".join(f"{t * 1000:.0f}" for t in times) + " ms")
    assert [identity(daemon.init_pid(s)) for s in made] == before
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda s: daemon.api.sh(s.id, "hostname"), made))
    assert said == [f"{s.id}\n" for s in made]
    converges(daemon, {s.id: {"RUNNING"} for s in made})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda s: daemon.api.delete(s.id), made))
    converges(daemon, {})
