"""A sandbox that plays its own supervisor against the daemon: it owns the directory of the socket.
The test does so from the host, where the same directory is."""

import os
import socket
import struct
import threading
import time

import grpc
import pytest
from sandboxd.control.v1 import control_pb2
from sandboxd.v1 import process_pb2
from ttrpc import ttrpc_pb2

from harness import refused, wait_until
from ttrpc_client import DATA, RESPONSE, Client

MIB = 1 << 20


def response(stream, payload=b"", code=0):
    status = ttrpc_pb2.Response(payload=payload)
    status.status.code = code
    return frame(stream, RESPONSE, status.SerializeToString())


def frame(stream, kind, payload):
    return struct.pack(">IIBB", len(payload), stream, kind, 0) + payload


def hello(**fields):
    good = {"generation": 1, "version": "x", "boot_id": "a" * 32}
    return control_pb2.HelloResponse(**good | fields).SerializeToString()


class Impostor:
    """Listens in the place of a sandbox's supervisor. `play(connection, stream, request)` answers
    each request; it may send for ever."""

    def __init__(self, workspace, play):
        self.place, self.real = workspace / ".runtimed/sock", workspace / ".runtimed/real"
        self.play = play
        self.connections = []
        self.first = None
        os.rename(self.place, self.real)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.place))
        self.listener.listen(1000)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return  # closed
            self.first = self.first or time.monotonic()
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        try:
            while header := connection.recv(10, socket.MSG_WAITALL):
                length, stream, _, _ = struct.unpack(">IIBB", header)
                body = connection.recv(length, socket.MSG_WAITALL)
                self.play(connection, stream, ttrpc_pb2.Request.FromString(body))
        except (OSError, struct.error):
            pass  # the daemon has had enough

    def age(self):
        return self.first and time.monotonic() - self.first

    def leave(self):
        """The true supervisor's socket is back in its place."""
        os.rename(self.real, self.place)
        self.listener.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def impostor():
    """Puts impostors in place, before the daemon comes; they leave with the test."""
    there = []

    def put(daemon, sandbox, play):
        there.append(Impostor(daemon.workspace(sandbox), play))
        return there[-1]

    yield put
    for one in there:
        one.listener.close()


def for_ever(connection, data):
    while True:
        connection.sendall(data)


def hangs_up(connection, stream, request):
    connection.sendall(response(stream, hello()))
    connection.close()


PLAYS = {
    "greets and hangs up": hangs_up,
    "hangs up": lambda connection, stream, request: connection.close(),
    "says nothing": lambda connection, stream, request: None,
    "never ends its greeting": lambda connection, stream, request: connection.sendall(
        struct.pack(">IIBB", 4 * MIB, stream, RESPONSE, 0) + bytes(4 * MIB - 1)),
    "greets at length": lambda connection, stream, request: connection.sendall(
        response(stream, hello(version="x" * 3 * MIB))),
    "greets without an end": lambda connection, stream, request: for_ever(
        connection, frame(stream, DATA, bytes(1000))),
    "greets as somebody else": lambda connection, stream, request: connection.sendall(
        response(stream, hello(boot_id="../../etc"))),
    "then sends what nobody asked for": lambda connection, stream, request: for_ever(
        connection, response(stream, hello()) + frame(9999, RESPONSE, b"") * 1000),
    "then begins a huge frame": lambda connection, stream, request: connection.sendall(
        response(stream, hello()) + struct.pack(">IIBB", 4 * MIB, 7, RESPONSE, 0) +
        bytes(4 * MIB - 1)),
}


@pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS.keys())
def test_impostor(make_daemon, impostor, play):
    """It is sought with back-off, costs no memory, hurts no other sandbox, and is not the end of
    its own."""
    daemon = make_daemon(defaults={"start_timeout": "1s"})
    evil, good = daemon.api.create(name="evil"), daemon.api.create(name="good")
    daemon.kill()
    it = impostor(daemon, evil, play)
    daemon.start()
    before = daemon.memory()
    wait_until(lambda: it.age() and it.age() > 1, "an impostor that was tried for a while")
    assert daemon.api.sh("good", "echo fine") == "fine\n"
    assert len(it.connections) < 50
    assert len(daemon.log().splitlines()) < 200
    assert daemon.memory() < before + 4 * MIB  # gRPC's buffers are in it
    assert daemon.api.state("evil") == "RUNNING"
    it.leave()
    assert daemon.api.sh("evil", "echo back") == "back\n"
    assert daemon.api.get("evil").started_at == evil.started_at
    assert daemon.api.get("good") == good


ANSWERS = {
    "too long": (lambda connection, stream: for_ever(
        connection, frame(stream, DATA, b"\x12" + bytes(3 * MIB))),
        grpc.StatusCode.RESOURCE_EXHAUSTED),
    "an unknown status": (lambda connection, stream: connection.sendall(
        response(stream, code=4711)), grpc.StatusCode.UNKNOWN),
    "nonsense": (lambda connection, stream: connection.sendall(
        frame(stream, RESPONSE, b"\xff\xff\xff")), grpc.StatusCode.INTERNAL),
    "no frame": (lambda connection, stream: connection.sendall(
        b"\xff" * 1000), grpc.StatusCode.UNAVAILABLE),
    "no end": (lambda connection, stream: connection.sendall(frame(stream, DATA, b"")[:-1]),
               grpc.StatusCode.DEADLINE_EXCEEDED),
}


@pytest.mark.parametrize("answer, code", ANSWERS.values(), ids=ANSWERS.keys())
def test_answer_to_a_command(daemon, api, impostor, answer, code):
    sandbox = api.create(name="evil")

    def play(connection, stream, request):
        if request.method == "Hello":
            connection.sendall(response(stream, hello()))
        else:
            answer(connection, stream)

    it = impostor(daemon, sandbox, play)  # commands have connections of their own
    before = daemon.memory()
    with refused(code):
        list(api.stream("evil", "true", timeout=2))
    assert daemon.memory() < before + 4 * MIB
    it.leave()
    assert api.sh("evil", "echo back") == "back\n"


def test_readers_that_stall_on_an_endless_answer(daemon, api, impostor):
    """What a client does not read is not read from the sandbox either."""
    sandbox = api.create(name="evil")
    it = impostor(daemon, sandbox, lambda connection, stream, request: for_ever(
        connection, frame(stream, DATA, b"\x12" + b"z" * 65000)))
    before = daemon.memory()
    clients = [Client(daemon.socket) for _ in range(30)]
    for client in clients:
        client.request("sandboxd.v1.ProcessService/Start",
                       process_pb2.ProcessServiceStartRequest(sandbox_id="evil", args=["true"]))
    wait_until(lambda: len(it.connections) == 30, "30 calls")
    for client in clients:
        assert client.receive().type == DATA  # it came; now nobody reads any more
    assert list(api.list())
    assert daemon.memory() < before + 30 * MIB
    for client in clients:
        client.socket.close()
    it.leave()
    assert api.sh("evil", "echo back") == "back\n"


# --- clients ---------------------------------------------------------------------------------

def h2(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(
        ">I", stream) + payload


def literal(name, value):
    """A header field that is neither indexed nor compressed (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


AUTHORITIES = [None, "", "localhost", "/run/sandboxd/sandboxd.sock", "%2Frun%2Fsandboxd.sock"]


@pytest.mark.parametrize("authority", AUTHORITIES)
def test_authority_is_whatever_the_client_makes_of_a_socket(daemon, authority):
    """grpc-go, tonic and others each send another one over a Unix socket, or none."""
    fields = {":method": "POST", ":scheme": "http", ":path": "/sandboxd.v1.HostService/Info",
              ":authority": authority, "te": "trailers", "content-type": "application/grpc"}
    headers = b"".join(literal(k, v) for k, v in fields.items() if v is not None)
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(daemon.socket))
        s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2(4, 0, 0, b"") +
                  h2(1, 4, 1, headers) + h2(0, 1, 1, bytes(5)))
        answer = b""
        while b"runc" not in answer:
            answer += s.recv(65536) or pytest.fail(f"the connection was closed after {answer}")
