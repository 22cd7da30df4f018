"""Standard input: SendInput, StreamInput, CloseStdin."""

import hashlib
import itertools
import random
import threading
import time

import grpc
import pytest
from sandboxd.v1 import process_pb2

from harness import refused, selector, settled, wait_until, within
from received import Received
from supervisor import Supervisor

RUNTIMES = pytest.mark.parametrize("runtime", ["runc", "runsc", "runsc-r22"], indirect=True)
RUNC = pytest.mark.parametrize("runtime", ["runc"], indirect=True)  # what the runtime has no part in
Code = grpc.StatusCode
KIB, MIB = 1 << 10, 1 << 20
BLOCK = random.Random(6).randbytes(MIB)  # with NULs and everything


def code(call, *args, **fields):
    try:
        call(*args, **fields)
        return Code.OK
    except grpc.RpcError as e:
        return e.code()


def blocks(size, start=0):
    """BLOCK again and again, from `start` to `size`, in messages of 256 KiB at most."""
    while start < size:
        at = start % MIB
        data = BLOCK[at:at + min(256 * KIB, size - start)]
        yield data
        start += len(data)


def digest(size):
    whole = hashlib.sha256()
    for data in blocks(size):
        whole.update(data)
    return whole.hexdigest()


@RUNTIMES
def test_round_trip(api, sandbox):
    """Binary data, empty messages, and the end of it."""
    pid = api.spawn(sandbox.id, "cat", stdin_open=True)
    sent = 0
    for data in (b"\0", b"", BLOCK, b"\0" * 70000, b"x"):
        sent += len(data)
        assert api.send_input(sandbox.id, pid, data) == sent
    assert api.process(sandbox.id, pid).input_offset == sent
    api.close_stdin(sandbox.id, pid)
    got = api.follow(sandbox.id, pid)
    assert got.stdout == b"\0" + BLOCK + b"\0" * 70000 + b"x"
    assert got.end.exit_code == 0


@RUNTIMES
def test_stream_into_a_digest(api, sandbox, daemon):
    """200 MiB, and it costs nobody memory."""
    size = 200 * MIB
    pid = api.spawn(sandbox.id, "sha256sum", stdin_open=True)
    before = daemon.memory()
    messages = itertools.chain(({"data": data} for data in blocks(size)), [{"close_stdin": True}])
    assert api.stream_input(sandbox.id, pid, messages, timeout=120) == size
    assert api.follow(sandbox.id, pid).stdout.decode().split()[0] == digest(size)
    assert daemon.memory() - before < 8 * MIB
    if sandbox.runtime == "runc":
        assert Supervisor(daemon, sandbox).memory() < 16 * MIB


@RUNC
def test_the_last_message_of_a_stream_closes(api, sandbox):
    pid = api.spawn(sandbox.id, "cat", stdin_open=True)
    assert api.stream_input(sandbox.id, pid, [b"a", {"data": b"b", "close_stdin": True}]) == 2
    assert api.follow(sandbox.id, pid).stdout == b"ab"
    pid = api.spawn(sandbox.id, "cat", stdin_open=True)
    assert api.send_input(sandbox.id, pid, b"all", close_stdin=True) == 3
    assert api.follow(sandbox.id, pid).stdout == b"all"
    pid = api.spawn(sandbox.id, "cat", stdin_open=True)
    assert api.stream_input(sandbox.id, pid, [b"one"]) == 3  # its end closes nothing
    assert api.process(sandbox.id, pid).stdin_open
    assert api.stream_input(sandbox.id, pid, [b"two", {"close_stdin": True, "data": b""}]) == 6
    assert api.follow(sandbox.id, pid).stdout == b"onetwo"


@RUNC
def test_the_answer_to_a_stream(api, sandbox):
    """comes when the program's input has taken it all."""
    began = time.monotonic()
    pid = api.spawn(sandbox.id, "sh", "-c", "sleep 1; exec cat >/dev/null", stdin_open=True)
    assert api.stream_input(sandbox.id, pid, blocks(4 * MIB)) == 4 * MIB
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("script", ["sleep 0.5; exec 0<&-; sleep 30", "sleep 0.5"])
def test_a_stream_that_was_not_taken(api, sandbox, script):
    """is no success, also when the program went before the client's last message."""
    pid = api.spawn(sandbox.id, "sh", "-c", script, stdin_open=True)

    def messages():
        yield {"data": bytes(200 * KIB)}
        time.sleep(1)

    with refused(Code.FAILED_PRECONDITION):
        api.stream_input(sandbox.id, pid, messages())


@RUNC
def test_offsets(api, sandbox):
    """What was taken before is not written again; what would leave a hole is refused."""
    pid = api.spawn(sandbox.id, "cat", stdin_open=True)
    send = api.send_input
    assert send(sandbox.id, pid, b"abc", offset=0) == 3
    assert send(sandbox.id, pid, b"abc", offset=0) == 3
    assert send(sandbox.id, pid, b"bcde", offset=1) == 5
    with refused(Code.OUT_OF_RANGE):
        send(sandbox.id, pid, b"x", offset=6)
    assert send(sandbox.id, pid, b"f") == 6
    assert send(sandbox.id, pid, b"", offset=6) == 6
    assert api.stream_input(sandbox.id, pid, [{"data": b"efgh", "offset": 4}, b"i"]) == 9
    assert api.stream_input(sandbox.id, pid, [{"data": b"hij", "offset": 7},
                                              {"data": b"jk", "offset": 9}]) == 11
    with refused(Code.OUT_OF_RANGE):
        api.stream_input(sandbox.id, pid, [{"data": b"x", "offset": 12}])
    assert send(sandbox.id, pid, b"kl", offset=10, close_stdin=True) == 12
    assert send(sandbox.id, pid, b"kl", offset=10, close_stdin=True) == 12  # it did arrive
    with refused(Code.FAILED_PRECONDITION):
        send(sandbox.id, pid, b"klm", offset=10)
    assert api.follow(sandbox.id, pid).stdout == b"abcdefghijkl"


def test_a_stream_that_breaks(api, sandbox):
    """List tells where to go on."""
    size = 32 * MIB
    pid = api.spawn(sandbox.id, "sha256sum", stdin_open=True)
    sent, over = threading.Event(), threading.Event()

    def requests():
        for data in itertools.islice(blocks(size), 60):
            yield process_pb2.ProcessServiceStreamInputRequest(
                sandbox_id=sandbox.id, process=selector(pid), data=data)
        sent.set()
        over.wait(20)

    call = api.processes.StreamInput.future(requests(), timeout=60)
    assert sent.wait(20)
    call.cancel()
    over.set()
    offset = settled(lambda: api.process(sandbox.id, pid).input_offset)
    assert 1000 < offset <= 60 * 256 * KIB
    messages = ({"data": data, "offset": at} for at, data in
                numbered(blocks(size, offset - 1000), offset - 1000))
    assert api.stream_input(sandbox.id, pid, messages) == size
    api.close_stdin(sandbox.id, pid)
    assert api.follow(sandbox.id, pid).stdout.decode().split()[0] == digest(size)


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_the_daemon_goes(daemon, api, sandbox, how):
    """The client does not know what arrived, and sends it again with its offset."""
    pid = api.spawn(sandbox.id, "sha256sum", stdin_open=True)
    assert api.send_input(sandbox.id, pid, BLOCK[:1000], offset=0) == 1000
    daemon.restart(how)
    assert daemon.api.send_input(sandbox.id, pid, BLOCK[:1000], offset=0) == 1000
    assert daemon.api.send_input(sandbox.id, pid, BLOCK[500:], offset=500) == MIB
    daemon.api.close_stdin(sandbox.id, pid)
    assert daemon.api.follow(sandbox.id, pid).stdout.decode().split()[0] == digest(MIB)


# --- closed ----------------------------------------------------------------------------------


def test_closed_from_the_start(api, sandbox):
    """It is /dev/null then."""
    with within(10):
        assert api.run(sandbox.id, "cat") == (b"", b"", 0, 0, "")
        assert api.sh(sandbox.id, "readlink /proc/self/fd/0; read x || echo end") == \
            "/dev/null\nend\n"
    pid = api.spawn(sandbox.id, "sleep", "1000")
    assert not api.process(sandbox.id, pid).stdin_open
    with refused(Code.FAILED_PRECONDITION):
        api.send_input(sandbox.id, pid, b"x")
    with refused(Code.FAILED_PRECONDITION):
        api.stream_input(sandbox.id, pid, [b"x"])
    api.close_stdin(sandbox.id, pid)


def test_closed_by_a_client(api, sandbox):
    pid = api.spawn(sandbox.id, "sh", "-c", "cat; exec sleep 1000", stdin_open=True)
    api.send_input(sandbox.id, pid, b"x")
    for _ in range(2):
        api.close_stdin(sandbox.id, pid)
    assert not api.process(sandbox.id, pid).stdin_open
    with refused(Code.FAILED_PRECONDITION):
        api.send_input(sandbox.id, pid, b"x")
    with refused(Code.FAILED_PRECONDITION):
        api.stream_input(sandbox.id, pid, [b"x"])
    assert api.process(sandbox.id, pid).input_offset == 1


@RUNTIMES
def test_closed_by_the_program(api, sandbox):
    call = api.stream(sandbox.id, "sh", "-c", "exec <&-; echo; exec sleep 1000", stdin_open=True)
    got = Received().until(call, lambda got: got.stdout)
    wait_until(lambda: code(api.send_input, sandbox.id, got.pid, b"x") == Code.FAILED_PRECONDITION,
               "the refusal")
    with refused(Code.FAILED_PRECONDITION):
        api.stream_input(sandbox.id, got.pid, [b"x"])
    assert not api.process(sandbox.id, got.pid).stdin_open
    assert not api.process(sandbox.id, got.pid).HasField("end")


def test_closed_by_the_end(api, sandbox):
    pid = api.spawn(sandbox.id, "true", stdin_open=True)
    api.wait_process(sandbox.id, pid)
    with refused(Code.FAILED_PRECONDITION):
        api.send_input(sandbox.id, pid, b"x")
    with refused(Code.FAILED_PRECONDITION):
        api.stream_input(sandbox.id, pid, [b"x"])
    api.close_stdin(sandbox.id, pid)


def test_the_end_is_told_while_input_waits(api, sandbox):
    """A program that ends without having read it."""
    call = api.stream(sandbox.id, "sh", "-c", "read x; exit 5", stdin_open=True)
    got = Received().until(call, lambda got: got.pid)
    assert code(api.stream_input, sandbox.id, got.pid,
                itertools.chain([b"line\n"], blocks(4 * MIB))) == Code.FAILED_PRECONDITION
    assert got.all(call).end.exit_code == 5


# --- a program that does not read ------------------------------------------------------------


def test_no_room(api, sandbox, pool, daemon):
    """8 MiB wait at most. Then SendInput refuses, and has written nothing of that message."""
    api.sh(sandbox.id, "mkfifo go")
    pid = api.spawn(sandbox.id, "sh", "-c", "read x <go; exec sha256sum", stdin_open=True)
    calls = [pool.submit(code, api.send_input, sandbox.id, pid, BLOCK, timeout=2)
             for _ in range(20)]
    codes = [call.result(20) for call in calls]
    assert set(codes) <= {Code.OK, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED}
    assert codes.count(Code.RESOURCE_EXHAUSTED) >= 11
    taken = settled(lambda: api.process(sandbox.id, pid).input_offset)
    assert taken == (20 - codes.count(Code.RESOURCE_EXHAUSTED)) * MIB
    assert 8 * MIB <= taken <= 9 * MIB + 64 * KIB
    if sandbox.runtime == "runc":
        assert Supervisor(daemon, sandbox).memory() < 16 * MIB
    api.sh(sandbox.id, "echo >go")
    api.close_stdin(sandbox.id, pid)
    assert api.follow(sandbox.id, pid).stdout.decode().split()[0] == digest(taken)


def test_a_stream_is_held_up(api, sandbox, pool, daemon):
    """By what the program does not read; other calls are not, and no memory grows."""
    sent = 0

    def messages():
        nonlocal sent
        for data in blocks(400 * MIB):
            yield data
            sent += len(data)

    pid = api.spawn(sandbox.id, "sleep", "1000", stdin_open=True)
    call = pool.submit(code, api.stream_input, sandbox.id, pid, messages())
    before = settled(lambda: sent, 2)
    assert 0 < before < 64 * MIB
    with within(10):
        assert api.run(sandbox.id, "true").code == 0
        assert api.process(sandbox.id, pid).input_offset <= 9 * MIB
    time.sleep(0.5)
    assert sent == before and not call.done()
    assert daemon.memory() < 64 * MIB
    if sandbox.runtime == "runc":
        assert Supervisor(daemon, sandbox).memory() < 16 * MIB
    api.signal(sandbox.id, pid, 9)
    assert call.result(10) == Code.FAILED_PRECONDITION
    if sandbox.runtime == "runc":
        wait_until(lambda: Supervisor(daemon, sandbox).memory() < 3 * MIB, "its memory given back")


# --- of the tests ----------------------------------------------------------------------------


def numbered(messages, offset):
    for data in messages:
        yield offset, data
        offset += len(data)
