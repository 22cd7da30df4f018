"""Bounds that many or large requests meet, and what they may not cost."""

import re
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from sandboxd.v1 import sandbox_pb2
from ttrpc import ttrpc_pb2

from harness import refused, wait_until
from ttrpc_client import REQUEST, Client

SANDBOXES = "sandboxd.v1.SandboxService"
MIB = 1 << 20
LARGE = {f"K{i}": "v" * 1000 for i in range(120)}


def resident(daemon):
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+) kB", status).group(1)) * 1024


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
    calls = [create.future(b"\xf8\x7f\x01" * 1300000, timeout=60) for _ in range(60)]
    assert {call.code() for call in calls} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert daemon.memory() < 128 * MIB
    wait_until(lambda: resident(daemon) < 16 * MIB, "its memory given back")


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
    prefix = api.create(name=one.id[:25])  # a name is looked up before a part of an id
    assert api.get(one.id).id == one.id
    assert api.get(one.id[:25]).id == prefix.id


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
