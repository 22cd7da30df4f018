"""Processes and what is known of them: Start's fields and errors, List, Wait, tags, how long they are
kept. Output, input and ends have files of their own."""

import time

import grpc
import pytest
from sandboxd.v1 import process_pb2

from harness import output, refused, wait_until, within
from pattern import INSIDE
from received import Received

RUNTIMES = pytest.mark.parametrize("runtime", ["runc", "runsc", "runsc-r22"], indirect=True)
RUNC = pytest.mark.parametrize("runtime", ["runc"], indirect=True)  # what the runtime has no part in
Code = grpc.StatusCode
HOUR, DAY = 3600 * 1000, 24 * 3600 * 1000
KIB, MIB = 1 << 10, 1 << 20


def answer(call, *args, **fields):
    """The code of its error, and the message."""
    try:
        result = call(*args, **fields)
        if isinstance(result, grpc.Call):
            list(result)
        return Code.OK, ""
    except grpc.RpcError as e:
        return e.code(), e.details()


# --- Start -----------------------------------------------------------------------------------


@RUNTIMES
def test_what_start_is_given(api, sandbox):
    """is what the program gets, and what List shows."""
    before = time.time()
    call = api.stream(
        sandbox.id, "sh", "-c", 'echo "$(pwd) $A $B $(id -u):$(id -g) $HOME"; read x; exit 3',
        env={"A": "b=c", "B": "ü", "HOME": "/tmp"}, cwd="/dev", user="sandbox:sandbox", stdin_open=True,
        tag="a-1.B_2", labels={"who": "test", "ü": ""}, keep_millis=60000)
    got = Received().until(call, lambda got: got.stdout.endswith(b"\n"))
    assert got.stdout.decode() == "/dev b=c ü 1000:1000 /tmp\n"
    shown, = api.ps(sandbox.id)
    assert shown.pid == got.pid
    assert (shown.program, shown.command[:6]) == ("sh", "sh -c ")
    assert (shown.tag, dict(shown.labels)) == ("a-1.B_2", {"who": "test", "ü": ""})
    assert not shown.terminal and shown.stdin_open and not shown.HasField("end")
    assert (shown.input_offset, shown.clients) == (0, 1)
    assert (shown.stdout_kept_from, shown.stdout_size) == (0, len(got.stdout))
    assert (shown.stderr_kept_from, shown.stderr_size) == (0, 0)
    assert abs(shown.started_at.ToMilliseconds() / 1000 - before) < 10

    api.send_input(sandbox.id, "a-1.B_2", b"x\n")
    got.all(call)
    assert (got.end.exit_code, got.end.signal) == (3, 0)
    assert not (got.end.oom or got.end.timed_out or got.end.output_open)
    assert shown.started_at.ToMilliseconds() <= got.end.ended_at.ToMilliseconds()
    assert api.ps(sandbox.id) == []
    shown, = api.ps(sandbox.id, all=True)
    assert shown.end == got.end
    assert not shown.stdin_open and (shown.input_offset, shown.clients) == (2, 0)
    assert (shown.tag, dict(shown.labels)) == ("a-1.B_2", {"who": "test", "ü": ""})


def test_the_same_end_for_all(api, sandbox, pool):
    """Start, Attach, Wait and List tell the same, before the end and after it."""
    call = api.stream(sandbox.id, "sh", "-c", "echo out; echo err >&2; sleep 1; kill -7 $$")
    got = Received().until(call, lambda got: got.stdout and got.stderr)
    waiters = [pool.submit(api.wait_process, sandbox.id, got.pid) for _ in range(5)]
    followers = [pool.submit(api.follow, sandbox.id, got.pid) for _ in range(5)]
    got.all(call)
    assert (got.end.exit_code, got.end.signal) == (135, 7)
    assert [w.result(20) for w in waiters] == [got.end] * 5
    assert [(f.result(20).end, f.result().stdout, f.result().stderr) for f in followers] == [
        (got.end, b"out\n", b"err\n")] * 5
    with within(10):
        assert api.wait_process(sandbox.id, got.pid) == got.end
        assert api.follow(sandbox.id, got.pid).end == got.end
        assert api.process(sandbox.id, got.pid).end == got.end


def test_deadline_of_a_wait(api, sandbox):
    pid = api.spawn(sandbox.id, "sleep", "1000")
    with refused(Code.DEADLINE_EXCEEDED), within(10):
        api.wait_process(sandbox.id, pid, timeout=0.5)
    assert [p.pid for p in api.ps(sandbox.id)] == [pid]
    api.signal(sandbox.id, pid, 9)
    assert api.wait_process(sandbox.id, pid).signal == 9


def test_detach(api, sandbox):
    """The stream is a `start` alone, and the program goes on."""
    event, = api.stream(sandbox.id, "sh", "-c", "echo one; read x; echo two", detach=True,
                        stdin_open=True)
    shown = api.process(sandbox.id, event.start.pid)
    assert shown.clients == 0 and not shown.HasField("end")
    api.send_input(sandbox.id, event.start.pid, b"\n")
    assert api.follow(sandbox.id, event.start.pid).stdout == b"one\ntwo\n"


@RUNTIMES
def test_what_cannot_be_executed(api, sandbox):
    """is an `end` alone, detached or not; nothing is kept of it, its tag is free."""
    api.sh(sandbox.id, "echo text >file; echo '#!/no/such' >script; chmod +x script; mkdir dir")
    before = len(api.ps(sandbox.id, all=True))
    for args, fields, status in [(["no-such"], {}, 127), (["/no/such"], {}, 127),
                                 (["true"], {"cwd": "/nowhere"}, 127), (["./file"], {}, 126),
                                 (["./dir"], {}, 126), (["true", "x" * 200000], {}, 126)]:
        for detach in (False, True):
            got = Received().all(api.stream(sandbox.id, *args, detach=detach, tag="t", **fields))
            assert got.pid is None and got.end.error
            assert (got.end.exit_code, got.end.signal) == (status, 0), (args[0], got.end.error)
    assert len(api.ps(sandbox.id, all=True)) == before


GOOD = {
    "args": [["true"] + ["x"] * 4095],
    "env": [{f"K{i}": "v" for i in range(1024)}],
    "user": ["1000", "1000:1000", "sandbox", "sandbox:1000", "1000:sandbox"],
    "tag": ["a", "x" * 64, ".-_"],
    "labels": [{f"{i:02}": "v" * 22 for i in range(16)}],
    "terminal": [process_pb2.TerminalSize(rows=1, columns=65535)],
    "timeout_millis": [30 * DAY],
    "output_size": [256 * KIB, 256 * MIB],
    "keep_millis": [1, DAY],
    "keepalive_millis": [1000, HOUR],
    "disconnect_grace_millis": [1, HOUR],
}
BAD = {
    "args": [[], [""], ["true"] + ["x"] * 4096],
    "env": [{f"K{i}": "v" for i in range(1025)}, {"": "v"}, {"A=B": "v"}],
    "cwd": ["relative", "./x"],
    "tag": ["x" * 65, "a b", "ü", "a/b", "a\n"],
    "labels": [{str(i): "v" for i in range(17)}, {"k": "v" * 384}],
    "terminal": [process_pb2.TerminalSize(rows=rows, columns=columns)
                 for rows, columns in [(0, 80), (24, 0), (65536, 80), (24, 65536)]],
    "timeout_millis": [30 * DAY + 1, (1 << 64) - 1],
    "output_overflow": [3],
    "output_size": [1, 256 * KIB - 1, 256 * MIB + 1, (1 << 64) - 1],
    "keep_millis": [DAY + 1, (1 << 64) - 1],
    "keepalive_millis": [1, 999, HOUR + 1],
    "disconnect_grace_millis": [HOUR + 1],
}


@RUNC
def test_ranges(api, sandbox):
    """The first and the last good value of each field are taken; a bad one is named."""
    wrong = []
    for fields, expected in (GOOD, Code.OK), (BAD, Code.INVALID_ARGUMENT):
        for name, values in fields.items():
            for value in values:
                fields = {"args": ["true"]} | {name: value}
                code, text = answer(api.stream, sandbox.id, *fields.pop("args"), **fields)
                if code != expected or (code != Code.OK and name not in text):
                    wrong.append(f"{name}={str(value)[:60]}: {code} {text[:100]}")
    assert wrong == []


def test_another_user(api, sandbox):
    for user in "root", "0", "0:0", "1000:0", "sandbox:root", "1001", "nobody":
        with refused(Code.PERMISSION_DENIED, "user"):
            list(api.stream(sandbox.id, "id", user=user))


@RUNC
def test_limit_of_pids(api, runtime):
    """The sandbox has none left; who ends makes room."""
    sandbox = api.create(runtime=runtime, resources={"pids": 16})
    pids = []
    with refused(Code.UNAVAILABLE, "pids"):
        for _ in range(17):
            pids.append(api.spawn(sandbox.id, "sleep", "1000"))
    assert 8 <= len(pids) < 16
    api.signal(sandbox.id, pids[0], 9)
    api.wait_process(sandbox.id, pids[0])
    assert api.run(sandbox.id, "true").code == 0


# --- tags and pids ---------------------------------------------------------------------------


def test_tags(api, sandbox):
    """One running process has it; then another may, and it names that one."""
    first = api.spawn(sandbox.id, "sh", "-c", "echo first; sleep 1000", tag="web")
    assert output(api.attach(sandbox.id, "web")) == "first\n"
    with refused(Code.ALREADY_EXISTS, "web"):
        api.spawn(sandbox.id, "true", tag="web")
    api.signal(sandbox.id, "web", 9)
    assert api.wait_process(sandbox.id, "web").signal == 9
    second = api.spawn(sandbox.id, "sh", "-c", "echo second; sleep 1000", tag="web")
    assert output(api.attach(sandbox.id, "web")) == "second\n"
    assert output(api.attach(sandbox.id, first)) == "first\n"
    api.signal(sandbox.id, "web", 15)
    assert api.wait_process(sandbox.id, second).signal == 15
    assert api.follow(sandbox.id, "web").stdout == b"second\n"  # of several the last one


def test_list(api, daemon, sandbox):
    """The oldest first; a long command is cut, never within a character."""
    name = "/home/sandbox/" + "ä" * 40
    daemon.bring(sandbox, INSIDE)
    api.sh(sandbox.id, f"ln -s inside {name}")
    argument = "1000." + "0" * 200
    pids = [api.spawn(sandbox.id, *args) for args in
            (["sleep", "1000"], [name, "eat", "1"], ["sleep", argument], ["sleep", "1000"])]
    shown = api.ps(sandbox.id)
    assert [p.pid for p in shown] == pids
    assert shown[0].command == "sleep 1000"
    assert shown[2].command == f"sleep {argument}"[:96]
    for process, whole in (shown[1].program, name), (shown[1].command, f"{name} eat 1"):
        assert whole.startswith(process) and len(process.encode()) in (63, 64, 95, 96, len(whole.encode()))
    api.signal(sandbox.id, pids[1], 9)
    api.wait_process(sandbox.id, pids[1])
    assert [p.pid for p in api.ps(sandbox.id)] == [pids[0], *pids[2:]]
    assert set(pids) <= {p.pid for p in api.ps(sandbox.id, all=True)}


def scoped(api, ref, which):
    """Every method that names a process, as it is called."""
    return {
        "Attach": lambda: list(api.attach(ref, which)),
        "SendInput": lambda: api.send_input(ref, which, b"x"),
        "StreamInput": lambda: api.stream_input(ref, which, [b"x"]),
        "CloseStdin": lambda: api.close_stdin(ref, which),
        "Signal": lambda: api.signal(ref, which, 15),
        "Resize": lambda: api.resize(ref, which, 24, 80),
        "Wait": lambda: api.wait_process(ref, which),
    }


@RUNC
def test_no_such_process(api, sandbox):
    api.run(sandbox.id, "true", tag="known")
    for which in 99999, 1, "unknown":
        for method, call in scoped(api, sandbox.id, which).items():
            assert answer(call)[0] == Code.NOT_FOUND, method


@RUNC
def test_a_process_must_be_named(api, sandbox):
    for name in "Attach", "SendInput", "CloseStdin", "Signal", "Resize", "Wait":
        for process in None, process_pb2.ProcessSelector():
            request = getattr(process_pb2, f"ProcessService{name}Request")(
                sandbox_id=sandbox.id, process=process)
            code, text = answer(getattr(api.processes, name), request, timeout=20)
            assert (code, "process" in text) == (Code.INVALID_ARGUMENT, True), (name, code, text)
    request = process_pb2.ProcessServiceStreamInputRequest(sandbox_id=sandbox.id, data=b"x")
    assert answer(api.processes.StreamInput, iter([request]),
                  timeout=20)[0] == Code.INVALID_ARGUMENT


@RUNC
def test_no_such_sandbox(api, sandbox):
    """Nor one that does not run."""
    api.stop(sandbox.id)
    for ref, code in {"": Code.INVALID_ARGUMENT, "no-such": Code.NOT_FOUND,
                      sandbox.id: Code.FAILED_PRECONDITION}.items():
        calls = scoped(api, ref, 2) | {"List": lambda r=ref: api.ps(r),
                                       "Start": lambda r=ref: list(api.stream(r, "true"))}
        for method, call in calls.items():
            assert answer(call)[0] == code, (ref, method, answer(call))


def test_the_sandbox_goes(api, sandbox, pool):
    """Calls under way are told so; no end is made up."""
    call = api.stream(sandbox.id, "sh", "-c", "trap '' TERM; echo; exec cat", stdin_open=True)
    got = Received().until(call, lambda got: got.stdout)
    waiting = [pool.submit(answer, api.wait_process, sandbox.id, got.pid),
               pool.submit(answer, api.follow, sandbox.id, got.pid)]
    wait_until(lambda: api.process(sandbox.id, got.pid).clients == 2, "the follower")
    api.stop(sandbox.id, grace_millis=100)
    with refused(Code.UNAVAILABLE):
        got.all(call)
    assert [w.result(10)[0] for w in waiting] == [Code.UNAVAILABLE] * 2
    api.start(sandbox.id)
    assert api.ps(sandbox.id, all=True) == []


def test_clients_are_counted(api, sandbox):
    def clients():
        return api.process(sandbox.id, got.pid).clients

    call = api.stream(sandbox.id, "sh", "-c", "echo; sleep 1000")
    got = Received().until(call, lambda got: got.stdout)
    more = [api.attach(sandbox.id, got.pid) for _ in range(3)]
    for one in more:
        Received().until(one, lambda got: got.stdout)
    assert clients() == 4
    for one in more:
        one.cancel()
    wait_until(lambda: clients() == 1, "the others gone")
    call.cancel()
    wait_until(lambda: clients() == 0, "the last one gone")


# --- kept ------------------------------------------------------------------------------------


def test_kept_for_a_time(api, sandbox):
    began = time.monotonic()
    pid = api.spawn(sandbox.id, "echo", "x", tag="t", keep_millis=3000)
    assert api.wait_process(sandbox.id, pid).exit_code == 0
    assert api.follow(sandbox.id, "t").stdout == b"x\n"
    wait_until(lambda: api.ps(sandbox.id, all=True) == [], "its time to be over")
    assert time.monotonic() - began > 2.9
    for which in pid, "t":
        with refused(Code.NOT_FOUND):
            api.wait_process(sandbox.id, which)


@RUNC
def test_kept_in_number(api, sandbox):
    """1,024 of them. Those whose end nobody was told stay longest."""
    untold = api.spawn(sandbox.id, "echo", "untold")
    wait_until(lambda: api.process(sandbox.id, untold).HasField("end"), "the end of the first")
    first = Received().all(api.stream(sandbox.id, "true")).pid
    for _ in range(1100):
        api.run(sandbox.id, "true")
    kept = [p.pid for p in api.ps(sandbox.id, all=True)]
    assert len(kept) == 1024
    assert untold in kept and first not in kept
    assert api.follow(sandbox.id, untold).stdout == b"untold\n"
