"""Bounds that many or large requests meet, and what they may not cost; and those that the operator
sets (`rpc:` in the configuration)."""

import asyncio
import os
import struct
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from sandboxd.v1 import process_pb2, sandbox_pb2, sandbox_pb2_grpc
from ttrpc import ttrpc_pb2

from harness import output, refused, resident, wait_until
from ttrpc_client import REMOTE_CLOSED, REQUEST, Client, Error

SANDBOXES, PROCESSES = "sandboxd.v1.SandboxService", "sandboxd.v1.ProcessService"
INVALID_ARGUMENT, RESOURCE_EXHAUSTED = 3, 8
KIB, MIB = 1 << 10, 1 << 20
LARGE = {f"K{i}": "v" * 1000 for i in range(120)}


def test_list_of_large_records(daemon, api, ctl):
    """All of them together are longer than a message may be."""
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: api.create(env=LARGE).id, range(40)))
    assert {s.id for s in api.list()} == ids
    with Client(daemon.socket) as client:
        reply = client.unary(f"{SANDBOXES}/List", sandbox_pb2.SandboxServiceListRequest(),
                             sandbox_pb2.SandboxServiceListResponse)
    assert {s.id for s in reply.sandboxes} == ids
    shown = ctl("ls")
    assert shown.returncode == 0 and all(i in shown.stdout for i in ids)


def test_pipelined_requests_for_a_large_record(daemon, api):
    """A client that asks on and on before it reads is held up, and gets every answer."""
    api.create(name="box", env=LARGE)
    request = ttrpc_pb2.Request(
        service=SANDBOXES, method="Get",
        payload=sandbox_pb2.SandboxServiceGetRequest(sandbox_id="box").SerializeToString())
    body = request.SerializeToString()
    asked = range(1, 400, 2)
    with Client(daemon.socket) as client:
        client.socket.sendall(b"".join(struct.pack(">IIBB", len(body), stream, REQUEST, 0) + body
                                       for stream in asked))
        for stream in asked:
            frame = client.receive()
            assert frame.stream == stream
            reply = sandbox_pb2.SandboxServiceGetResponse.FromString(client.response(frame))
            assert dict(reply.sandbox.env) == LARGE


def test_requests_that_grow_when_they_are_decoded(daemon, api):
    """Four MiB of unknown fields each."""
    create = api.channel.unary_unary(f"/{SANDBOXES}/Create")
    before = resident(daemon.process.pid)  # 9 MiB more with libcurl, for Docker Engine
    calls = [create.future(b"\xf8\x7f\x01" * 1300000, timeout=60) for _ in range(60)]
    assert {call.code() for call in calls} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert daemon.memory() < 128 * MIB
    wait_until(lambda: resident(daemon.process.pid) < before + 9 * MIB, "its memory given back")


def test_half_requests_do_not_add_up(daemon):
    """They share one budget; who is over it is told so, and their end gives it back."""
    clients = [Client(daemon.socket) for _ in range(40)]
    for client in clients:
        try:
            client.socket.sendall(struct.pack(">IIBB", 4 * MIB, 1, REQUEST, 0) + bytes(4 * MIB - 1))
        except OSError:
            pass
    assert daemon.memory() < 128 * MIB
    for client in clients:
        client.socket.close()
    wait_until(lambda: list(daemon.api.list()) == [], "room for a request")


def test_a_name_is_never_taken_for_an_id(api):
    one = api.create()
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "name"):
        api.create(name=one.id)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "name"):
        api.create(name="0123456789abcdefghjkmnpqrs")
    # Nor does it catch what is meant for the one whose id begins so: nothing says who is meant.
    other = api.create(name=one.id[:25])
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "whole id"):
        api.get(one.id[:25])
    assert api.get(one.id).id == one.id and api.get(other.id).id == other.id
    api.delete(one.id)
    assert api.get(one.id[:25]).id == other.id


def test_names_of_variables(api):
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "env", "="):
        api.create(env={"A=B": "c"})
    assert list(api.list()) == []
    sandbox = api.create(env={"A": "b=c"})
    assert api.sh(sandbox.id, "echo $A") == "b=c\n"
    for env in ({"A=B": "c"}, {"": "c"}):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "env"):
            api.run(sandbox.id, "true", env=env)


def test_a_command_in_a_sandbox_that_is_at_rest(api, ctl):
    api.create(name="box")
    api.stop("box")
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "is stopped; start it first"):
        api.run("box", "true")
    shown = ctl("exec", "box", "true")
    assert shown.returncode != 0 and "is stopped; start it first" in shown.stderr


# --- as the operator sets them ---------------------------------------------------------------


def asks(client):
    """Sends a request."""
    return client.request(f"{SANDBOXES}/List", sandbox_pb2.SandboxServiceListRequest())


def is_served(client):
    asks(client)
    client.response(client.receive())
    return True


def is_closed(client, data=b""):
    """By the server, after this data; False when it says nothing for as long as the client waits."""
    try:
        client.socket.sendall(data)
        return client.socket.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def connect_as(uid, path):
    os.seteuid(uid)
    try:
        return Client(path)
    finally:
        os.seteuid(0)


def sockets(daemon):
    """How many Unix sockets the daemon has open."""
    unix = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
    count = 0
    for fd in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        try:
            count += os.readlink(fd).removeprefix("socket:").strip("[]") in unix
        except FileNotFoundError:
            pass  # it was closed meanwhile
    return count


@pytest.mark.oci_only("the daemon has connections to Docker, too")
def test_connections_of_one_user(make_daemon):
    """One too many is closed; other users have theirs, and whoever goes makes room."""
    daemon = make_daemon(rpc={"connections_per_user": 2}, access={"users": {"65534": "observer"}})
    daemon.dir.chmod(0o755)
    daemon.socket.chmod(0o666)
    with Client(daemon.socket) as client:
        assert is_served(client)  # and so it has seen all that came before
    wait_until(lambda: sockets(daemon) == 1, "no connection, only what listens")
    with Client(daemon.socket) as one, Client(daemon.socket) as two:
        assert is_served(one) and is_served(two)
        with Client(daemon.socket) as three:
            assert is_closed(three)
        with connect_as(65534, daemon.socket) as other:
            assert is_served(other)
        assert is_served(one) and is_served(two)
    assert list(daemon.api.list()) == []


def test_connections(make_daemon):
    """One too many waits until another goes."""
    daemon = make_daemon(rpc={"connections": 2})
    with Client(daemon.socket) as one, Client(daemon.socket) as two:
        assert is_served(one) and is_served(two)
        with Client(daemon.socket, timeout=0.5) as three:
            asks(three)
            with pytest.raises(TimeoutError):
                three.receive()
            one.socket.close()
            three.socket.settimeout(10)
            three.response(three.receive())


def test_silent_connections(make_daemon):
    """Those that never spoke, stopped in the middle of a message, or have nothing more to ask."""
    daemon = make_daemon(rpc={"greeting_timeout": "300ms", "message_timeout": "900ms",
                              "idle_timeout": "1500ms"})
    half = struct.pack(">IIBB", 100, 3, REQUEST, 0) + b"x"
    for before, data, seconds in [(0, b"", 0.3), (1, half, 0.9), (1, b"", 1.5)]:
        with Client(daemon.socket, timeout=10) as client:
            start = time.monotonic()
            assert not before or is_served(client)
            assert is_closed(client, data)
            assert seconds - 0.1 < time.monotonic() - start < seconds + 5


def test_idle_timeout_and_open_calls(make_daemon):
    """A connection with a call is not idle, however little the call says."""
    daemon = make_daemon(rpc={"idle_timeout": "300ms"})
    daemon.api.create(name="box")
    request = process_pb2.ProcessServiceStartRequest(sandbox_id="box",
                                                     args=["sh", "-c", "sleep 2; echo done"])
    with Client(daemon.socket, timeout=10) as client:
        events = client.stream(f"{PROCESSES}/Start", request,
                               process_pb2.ProcessServiceStartResponse)
        assert b"".join(event.data.data for event in events) == b"done\n"
        assert is_closed(client)
    assert daemon.api.sh("box", "sleep 2; echo done") == "done\n"


@pytest.mark.oci_only("the daemon has connections to Docker, too")
def test_idle_timeout_and_clients_of_grpc(make_daemon):
    """They are told before, and connect again by themselves: no call fails."""
    daemon = make_daemon(rpc={"idle_timeout": "100ms", "greeting_timeout": "2s"})
    for _ in range(5):
        assert list(daemon.api.list()) == []
        time.sleep(0.2)
    # This client reads only while it has a call, so it does not go by itself.
    wait_until(lambda: sockets(daemon) == 1, "closed")
    with refused(grpc.StatusCode.UNAVAILABLE):
        daemon.api.list()
    assert list(daemon.api.list()) == []


def test_idle_timeout_of_busy_clients(make_daemon):
    """Calls that are sent just when the connection's time is over."""
    daemon = make_daemon(rpc={"idle_timeout": "100ms"})

    async def call_now_and_then():
        async with grpc.aio.insecure_channel(
                f"unix:{daemon.socket}",
                options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            api = sandbox_pb2_grpc.SandboxServiceStub(channel)
            for i in range(40):
                await api.List(sandbox_pb2.SandboxServiceListRequest(), timeout=10)
                await asyncio.sleep(0.097 + i % 10 / 2000)

    async def clients():
        await asyncio.gather(*(call_now_and_then() for _ in range(8)))

    asyncio.run(clients())


def test_unfinished_messages(make_daemon):
    """All clients share what there is for them."""
    daemon = make_daemon(rpc={"unfinished_size": "8MiB"})
    half = struct.pack(">IIBB", 4 * MIB, 1, REQUEST, 0) + bytes(3 * MIB)
    clients = [Client(daemon.socket, timeout=seconds) for seconds in (1, 1, 20)]
    assert [is_closed(client, half) for client in clients] == [False, False, True]
    for client in clients:
        client.socket.close()


Raw = namedtuple("Raw", "bytes")
Raw.SerializeToString = lambda raw: raw.bytes


def over_grpc(daemon, path, message):
    """The code and the message of a call that fails."""
    call = daemon.api.channel.unary_stream(f"/{path}")(message, timeout=10)
    with pytest.raises(grpc.RpcError):
        list(call)
    return call.code().value[0], call.details()


def over_ttrpc(daemon, path, message):
    with Client(daemon.socket) as client, pytest.raises(Error) as error:
        client.request(path, Raw(message), flags=REMOTE_CLOSED)
        client.response(client.receive())
    return error.value.code, error.value.message


@pytest.mark.parametrize("call", [over_grpc, over_ttrpc])
def test_message_size(make_daemon, call):
    """What has the greatest size is looked at (and is no message), one byte more is not."""
    daemon = make_daemon(rpc={"message_size": "300KiB",
                              "message_sizes": {f"{SANDBOXES}/Get": "1KiB",
                                                f"{SANDBOXES}/Create": "1MiB",
                                                f"{PROCESSES}/Start": "2KiB"}})
    for path, size in [(f"{SANDBOXES}/List", 300 * KIB), (f"{SANDBOXES}/Get", 1 * KIB),
                       (f"{SANDBOXES}/Create", 1 * MIB), (f"{PROCESSES}/Start", 2 * KIB)]:
        assert call(daemon, path, bytes(size))[0] == INVALID_ARGUMENT
        code, message = call(daemon, path, bytes(size + 1))
        assert code == RESOURCE_EXHAUSTED
        assert f"the limit of {path.split('/')[1]} is {size}" in message
    assert list(daemon.api.list()) == []


def test_decoded_size(make_daemon):
    """A message that is a tenth of it on the wire."""
    grows = b"\xf8\x7f\x01" * 250000
    for size, code in [("8MiB", "RESOURCE_EXHAUSTED"), ("256MiB", "NOT_FOUND")]:
        daemon = make_daemon(rpc={"decoded_size": size})
        found, message = over_grpc(daemon, f"{SANDBOXES}/Get", b"\x0a\x03box" + grows)
        assert (found, "8388608 bytes" in message) == (getattr(grpc.StatusCode, code).value[0],
                                                       size == "8MiB")


def test_calls_per_connection_over_ttrpc(make_daemon):
    daemon = make_daemon(rpc={"calls_per_connection": 2})
    daemon.api.create(name="box")
    request = process_pb2.ProcessServiceStartRequest(sandbox_id="box", args=["sleep", "1000"])
    with Client(daemon.socket) as client:
        for _ in range(2):
            client.request(f"{PROCESSES}/Start", request, flags=REMOTE_CLOSED)
            client.receive()  # it has started
        with pytest.raises(Error) as error:
            is_served(client)
        assert error.value.code == RESOURCE_EXHAUSTED and "2 calls" in error.value.message
        with Client(daemon.socket) as other:
            assert is_served(other)


def test_calls_per_connection_over_grpc(make_daemon):
    """The client knows the limit: its third call waits."""
    daemon = make_daemon(rpc={"calls_per_connection": 2})
    daemon.api.create(name="box")
    calls = [daemon.api.stream("box", "sh", "-c", "echo on; sleep 1000") for _ in range(2)]
    assert [output(call) for call in calls] == ["on\n", "on\n"]
    request = sandbox_pb2.SandboxServiceListRequest()
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        daemon.api.sandboxes.List(request, timeout=1)
    third = daemon.api.sandboxes.List.future(request, timeout=10)
    calls[0].cancel()
    assert len(third.result().sandboxes) == 1
    calls[1].cancel()


def test_metadata_size(make_daemon):
    daemon = make_daemon(rpc={"metadata_size": "2KiB"})
    request = sandbox_pb2.SandboxServiceListRequest()
    for size, served in [(1000, True), (2100, False)]:
        metadata = ttrpc_pb2.KeyValue(key="key", value="v" * size)
        envelope = ttrpc_pb2.Request(service=SANDBOXES, method="List", metadata=[metadata])
        with Client(daemon.socket) as client:
            client.send(1, REQUEST, envelope.SerializeToString())
            frame = client.receive()
        status = ttrpc_pb2.Response.FromString(frame.payload).status
        assert status.code == (0 if served else RESOURCE_EXHAUSTED)
        try:
            daemon.api.sandboxes.List(request, metadata=[("key", "v" * size)], timeout=10)
            assert served
        except grpc.RpcError as error:
            assert not served and error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert list(daemon.api.list()) == []  # on the same connection


def test_drain_timeout(make_daemon):
    """How long streams go on after the daemon was told to stop."""
    script = "echo one; sleep 2; echo two"
    for timeout, outputs, code in [("500ms", "", grpc.StatusCode.UNAVAILABLE),
                                   ("20s", "two\n", grpc.StatusCode.OK)]:
        daemon = make_daemon(rpc={"drain_timeout": timeout})
        daemon.api.create(name="box")
        call = daemon.api.stream("box", "sh", "-c", script)
        assert output(call) == "one\n"
        daemon.process.terminate()
        got = ""
        try:
            for event in call:
                got += event.data.data.decode()
        except grpc.RpcError:
            pass
        assert (got, call.code()) == (outputs, code)
        assert daemon.process.wait(10) == 0
