"""Bytes on the socket that no good client sends, and the corners of both protocols."""

import random
import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from sandboxd.v1 import host_pb2, process_pb2, sandbox_pb2

from harness import output, wait_until
from ttrpc_client import DATA, NO_DATA, REMOTE_CLOSED, REQUEST, Client, Error

SANDBOXES, PROCESSES = "sandboxd.v1.SandboxService", "sandboxd.v1.ProcessService"
INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 3, 4, 5
RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE = 8, 12, 14

noise = random.Random(20250101)
GARBAGE = {
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP/1 with the first letter of HTTP/2": b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise.randbytes(500),
    "noise": b"\x80" + noise.randbytes(5000),
    "HTTP/2 and then noise": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + noise.randbytes(5000),
    "a ttrpc frame of 4 GiB": bytes(10) + b"\xff\xff\xff\xff" + bytes(5000),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_closes_the_connection(daemon, api, data):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(daemon.socket))
        try:
            s.sendall(data)
            while s.recv(4096):  # it may say why; then it closes
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert list(api.list()) == []


def test_other_streams_go_on(daemon, api):
    """While garbage comes in on other connections a stream loses nothing."""
    api.create(name="box")
    api.sh("box", "mkfifo go")
    call = api.stream("box", "sh", "-c", "echo one; cat go; echo two")
    assert output(call) == "one\n"
    for data in list(GARBAGE.values()) * 5:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(daemon.socket))
            s.sendall(data)
    api.sh("box", "echo now >go")
    assert b"".join(event.data.data for event in call) == b"now\ntwo\n"


def test_many_connections(daemon):
    """Clients that connect and say nothing are not in the way of one that does."""
    idle = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    for s in idle:
        s.connect(str(daemon.socket))
    assert list(daemon.api.list()) == []
    for s in idle:
        s.close()


@pytest.fixture
def ttrpc(daemon):
    with Client(daemon.socket) as client:
        yield client


def list_sandboxes(ttrpc, **options):
    return ttrpc.unary(f"{SANDBOXES}/List", sandbox_pb2.SandboxServiceListRequest(),
                       sandbox_pb2.SandboxServiceListResponse, **options)


def start(ttrpc, *args, **options):
    request = process_pb2.ProcessServiceStartRequest(sandbox_id="box", args=args)
    return ttrpc.stream(f"{PROCESSES}/Start", request, process_pb2.ProcessServiceStartResponse,
                        **options)


def test_ttrpc_unary_and_stream(ttrpc, runtime):
    made = ttrpc.unary(f"{SANDBOXES}/Create",
                       sandbox_pb2.SandboxServiceCreateRequest(name="box", runtime=runtime),
                       sandbox_pb2.SandboxServiceCreateResponse).sandbox
    assert [s.id for s in list_sandboxes(ttrpc).sandboxes] == [made.id]
    first, *data, last = start(ttrpc, "sh", "-c", "echo out; exit 7")
    assert first.start.pid > 0
    assert b"".join(event.data.data for event in data) == b"out\n"
    assert last.end.exit_code == 7


def test_ttrpc_streams_share_a_connection(api, ttrpc):
    api.create(name="box")
    streams = {ttrpc.request(
        f"{PROCESSES}/Start",
        process_pb2.ProcessServiceStartRequest(sandbox_id="box", args=["echo", str(i)]),
        flags=REMOTE_CLOSED): f"{i}\n".encode() for i in range(10)}
    seen, open_ones = dict.fromkeys(streams, b""), set(streams)
    while open_ones:
        frame = ttrpc.receive()
        assert frame.type == DATA
        if not frame.flags & NO_DATA:
            event = process_pb2.ProcessServiceStartResponse.FromString(frame.payload)
            seen[frame.stream] += event.data.data
        if frame.flags & REMOTE_CLOSED:
            open_ones.remove(frame.stream)
    assert seen == streams


def test_ttrpc_error_in_the_middle_of_a_stream(api, ttrpc):
    api.create(name="box")
    events = start(ttrpc, "sh", "-c", "echo one; sleep 1000")
    assert next(events).WhichOneof("event") == "start"
    assert next(events).data.data == b"one\n"
    api.delete("box")
    with pytest.raises(Error) as error:
        next(events)
    assert error.value.code == UNAVAILABLE
    assert list_sandboxes(ttrpc)  # the connection is as good as before


def test_ttrpc_deadline(api, ttrpc):
    """The client has no clock here: it is the daemon that ends the call."""
    api.create(name="box")
    with pytest.raises(Error) as error:
        list(start(ttrpc, "sleep", "1000", timeout_nano=300_000_000))
    assert error.value.code == DEADLINE_EXCEEDED


@pytest.mark.parametrize("path", ["no.such.Service/List", f"{SANDBOXES}/NoSuchMethod"])
def test_ttrpc_unimplemented(ttrpc, path):
    with pytest.raises(Error) as error:
        ttrpc.unary(path, host_pb2.HostServiceInfoRequest(), None)
    assert error.value.code == UNIMPLEMENTED
    assert list_sandboxes(ttrpc) is not None


def test_ttrpc_unknown_sandbox(ttrpc):
    with pytest.raises(Error) as error:
        list(start(ttrpc, "true"))
    assert error.value.code == NOT_FOUND and "box" in error.value.message


def test_ttrpc_stream_ids(ttrpc):
    """Odd and rising."""
    for stream, code in [(2, INVALID_ARGUMENT), (5, None), (3, INVALID_ARGUMENT), (7, None)]:
        try:
            list_sandboxes(ttrpc, stream=stream)
            assert code is None
        except Error as error:
            assert error.code == code


def test_ttrpc_request_that_is_too_long(ttrpc):
    ttrpc.send(1, REQUEST, bytes((4 << 20) + 1))
    frame = ttrpc.receive()
    with pytest.raises(Error) as error:
        ttrpc.response(frame)
    assert (frame.stream, error.value.code) == (1, RESOURCE_EXHAUSTED)


def test_ttrpc_malformed_message(ttrpc):
    ttrpc.send(1, REQUEST, b"\xff\xff\xff")
    with pytest.raises(Error) as error:
        ttrpc.response(ttrpc.receive())
    assert error.value.code == INVALID_ARGUMENT


@pytest.mark.parametrize("path", ["/no.such.Service/List", f"/{SANDBOXES}/NoSuchMethod"])
def test_grpc_unimplemented(api, path):
    call = api.channel.unary_unary(path)
    with pytest.raises(grpc.RpcError) as error:
        call(b"", timeout=10)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_grpc_malformed_message(api):
    call = api.channel.unary_unary(f"/{SANDBOXES}/Get")
    for data in (b"\xff\xff\xff", b"\x0a\x02\xc3\x28", b"\x0a\x03a\x00b"):  # no UTF-8; a NUL
        with pytest.raises(grpc.RpcError) as error:
            call(data, timeout=10)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_grpc_message_that_is_too_long(api):
    call = api.channel.unary_unary(f"/{SANDBOXES}/Get")
    with pytest.raises(grpc.RpcError) as error:
        call(bytes(8 << 20), timeout=10)
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.oci_only("the runtime is a script")
def test_grpc_deadline_of_a_create(make_daemon, tmp_path):
    """The caller has gone when the runtime comes to an end; nothing stays of the sandbox."""
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\ncase "$*" in *" run "*|*" create "*) sleep 1;; esac\n'
                    'exec runc "$@"\n')
    slow.chmod(0o755)
    daemon = make_daemon(runtimes={"slow": {"type": "runc", "path": str(slow)}})
    with pytest.raises(grpc.RpcError) as error:
        daemon.api.create(runtime="slow", timeout=0.3)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: not daemon.api.list(), "an empty list")


def test_grpc_errors_are_readable_text(api):
    """Percent-encoding of the message, both ways."""
    with pytest.raises(grpc.RpcError) as error:
        api.get("50% größer\n")
    assert "50% größer" in error.value.details()


def test_two_hundred_calls_at_once(api):
    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(lambda _: len(api.list()), range(200))) == [0] * 200
