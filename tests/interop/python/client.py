"""A client on grpcio.

usage: client.py SOCKET SCENARIO SANDBOX_ID SEEN_SOCKET
"""

import os
import sys
import threading
import time
from contextlib import contextmanager

import grpc
import health_pb2
import health_pb2_grpc
from google.protobuf import any_pb2
from google.rpc import status_pb2
from sandboxd.test.v1 import echo_pb2 as pb
from sandboxd.test.v1 import echo_pb2_grpc

PATIENCE = 30
MESSAGE_MAX = 4 << 20
ROUTED_MAX = 512 << 10  # the largest answer of a sandbox, with its envelope
TEXT = "früher 100% – 終わり"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
Code = grpc.StatusCode


class Client:
    def __init__(self, socket, sandbox, seen, **options):
        self.socket, self.sandbox = socket, sandbox
        self.channel = self.dial(**options)
        self.echo = echo_pb2_grpc.EchoServiceStub(self.channel)
        self.seen = echo_pb2_grpc.EchoServiceStub(grpc.insecure_channel(f"unix:{seen}"))

    def dial(self, **options):
        """A channel with a connection of its own."""
        options["grpc.use_local_subchannel_pool"] = 1
        return grpc.insecure_channel(f"unix:{self.socket}", options=list(options.items()))

    def request(self, **fields):
        return pb.EchoServiceUnaryRequest(sandbox_id=self.sandbox, **fields)

    def unary(self, timeout=PATIENCE, **fields):
        return self.echo.Unary(self.request(**fields), timeout=timeout)

    def count(self, **fields):
        return self.echo.Count(pb.EchoServiceCountRequest(sandbox_id=self.sandbox, **fields),
                               timeout=PATIENCE)

    def sum(self, messages):
        return self.echo.Sum(messages, timeout=PATIENCE)

    def await_seen(self, key, what, wanted):
        end = time.monotonic() + 10
        while True:
            seen = self.seen.Seen(pb.EchoServiceSeenRequest(key=key), timeout=PATIENCE)
            if wanted(seen):
                return
            assert time.monotonic() < end, f"the server never saw the call {what}: {seen}"
            time.sleep(0.01)

    def await_cancelled(self, key):
        self.await_seen(key, "cancelled", lambda seen: (seen.cancelled, seen.finished) == (1, 1))

    def cancel_reaches(self):
        """Whether the server that answers a unary call learns that it was cancelled. Between servers
        that is ttrpc, which has no word for it: there a deadline, or the connection's end."""
        return not self.sandbox


class Chat:
    """Sends when it is told, takes when it is told."""

    def __init__(self, client):
        self.client, self.messages, self.closed = client, [], False
        self.change = threading.Condition()
        self.call = client.echo.Chat(self._sent(), timeout=PATIENCE)

    def _sent(self):
        while True:
            with self.change:
                self.change.wait_for(lambda: self.messages or self.closed, PATIENCE)
                if not self.messages:
                    return
                message = self.messages.pop(0)
            yield message

    def send(self, **fields):
        with self.change:
            self.messages.append(pb.EchoServiceChatRequest(sandbox_id=self.client.sandbox, **fields))
            self.change.notify()

    def half_close(self):
        with self.change:
            self.closed = True
            self.change.notify()

    def exchange(self, **fields):
        self.send(**fields)
        return next(self.call)


def new_key():
    return f"{os.getpid()}-{time.monotonic_ns()}"


@contextmanager
def refused(code, message=None):
    """The call inside fails with this code."""
    try:
        yield
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()} instead of {code}: {error.details()}"
        assert message is None or error.details() == message, error.details()
    else:
        raise AssertionError(f"the call was to fail with {code}")


def unary(c):
    assert c.unary(payload=b"\0payload\xff").payload == b"\0payload\xff"
    response = c.unary(timeout=None)
    assert response.payload == b"" and response.timeout_nanos == 0, response


def metadata(c):
    key = new_key()
    sent = [("x-plain", "some value"), ("x-raw-bin", b"\xff\0\x80"), ("traceparent", PARENT)]
    got = c.echo.Unary(c.request(key=key), metadata=sent, timeout=PATIENCE).metadata
    assert got["traceparent"] == PARENT, got
    if c.sandbox:  # what may be a secret is not for a sandbox
        assert list(got) == ["traceparent"], got
    else:
        assert got["x-plain"] == "some value", got
        assert got["x-raw-bin"].rstrip("=") == "/wCA", got  # as on the wire
    c.await_seen(key, "with its traceparent", lambda seen: seen.traceparent == PARENT)


def error(c):
    with refused(Code.FAILED_PRECONDITION, TEXT):
        c.unary(ending=pb.Ending(code=9, message=TEXT))


def details(c):
    packed = [any_pb2.Any(), any_pb2.Any()]
    packed[0].Pack(pb.EchoServiceSeenRequest(key=TEXT))
    packed[1].Pack(pb.EchoServiceSumResponse(messages=7))
    try:
        c.unary(ending=pb.Ending(code=10, message=TEXT, details=packed))
    except grpc.RpcError as failed:
        assert failed.code() == Code.ABORTED and failed.details() == TEXT, failed
        raw = dict(failed.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(raw)
    assert (status.code, status.message, list(status.details)) == (10, TEXT, packed), status


def deadline(c):
    key, start = new_key(), time.monotonic()
    with refused(Code.DEADLINE_EXCEEDED):
        c.unary(timeout=0.3, hang=True, key=key)
    assert 0.29 <= time.monotonic() - start < 5
    c.await_cancelled(key)


def timeout(c):
    left = c.unary(timeout=20).timeout_nanos
    assert 10e9 < left <= 20.1e9, left  # the library rounds up to a tenth of a second


def cancel(c):
    key = new_key()
    call = c.echo.Unary.future(c.request(hang=True, key=key), timeout=PATIENCE)
    c.await_seen(key, "start", lambda seen: seen.started == 1)
    assert call.cancel()
    if c.cancel_reaches():
        c.await_cancelled(key)
    c.unary()


def stream(c):
    got = [(r.number, len(r.payload)) for r in c.count(count=1000, size=10)]
    assert got == [(i, 10) for i in range(1000)]


def stream_slow(c):
    """64 MiB, through pauses, and other calls on the same connection meanwhile."""
    expected = 0
    for response in c.count(count=1024, size=64 << 10):
        if expected % 128 == 0:
            time.sleep(0.05)
            c.unary()
        assert (response.number, len(response.payload)) == (expected, 64 << 10)
        expected += 1
    assert expected == 1024


def stream_error(c):
    got = []
    with refused(Code.DATA_LOSS, TEXT):
        for response in c.count(count=10, ending=pb.Ending(code=15, message=TEXT)):
            got.append(response.number)
    assert got == list(range(10))


def stream_cancel(c):
    key = new_key()
    call = c.count(size=1000, key=key)
    for i in range(10):
        assert next(call).number == i
    call.cancel()
    c.await_cancelled(key)
    c.unary()


def sum_(c):
    response = c.sum(pb.EchoServiceSumRequest(sandbox_id=c.sandbox, payload=bytes(i))
                     for i in range(1000))
    assert (response.messages, response.bytes) == (1000, 999 * 1000 // 2), response


def sum_none(c):
    response = c.sum(iter(()))
    assert (response.messages, response.bytes) == (0, 0), response


def sum_slow(c):
    """8 MiB to a handler that does not take them at first."""
    def messages():
        yield pb.EchoServiceSumRequest(sandbox_id=c.sandbox, pause_millis=500)
        for _ in range(128):
            yield pb.EchoServiceSumRequest(payload=bytes(64 << 10))

    response = c.sum(messages())
    assert (response.messages, response.bytes) == (129, 8 << 20), response


def chat(c):
    talk = Chat(c)
    for i in range(1000):
        response = talk.exchange(payload=b"%d" % i)
        assert (response.number, response.payload) == (i, b"%d" % i), response
    talk.half_close()
    assert not list(talk.call)


def chat_half_close(c):
    """The answers come although the client's side is closed."""
    requests = [pb.EchoServiceChatRequest(sandbox_id=c.sandbox) for _ in range(10)]
    got = [r.number for r in c.echo.Chat(iter(requests), timeout=PATIENCE)]
    assert got == list(range(10)), got


def chat_error(c):
    """The server ends the call while the client still sends."""
    talk = Chat(c)
    talk.exchange()
    with refused(Code.OUT_OF_RANGE, TEXT):
        talk.exchange(ending=pb.Ending(code=11, message=TEXT))
    talk.half_close()
    c.unary()


def chat_cancel(c):
    talk, key = Chat(c), new_key()
    talk.exchange(key=key)
    talk.call.cancel()
    c.await_cancelled(key)
    talk.half_close()


def sized(c, size):
    """A payload that makes a request so large when serialized."""
    return bytes(2 * size - 64 - c.request(payload=bytes(size - 64)).ByteSize())


def answered(c, size):
    """A response_size that makes the answer so large when serialized."""
    asked = size - 4096
    return asked + size - c.unary(timeout=None, response_size=asked).ByteSize()


def largest(c):
    c.unary(payload=sized(c, MESSAGE_MAX - 2), response_size=1)  # the field takes 2 bytes
    response = c.unary(timeout=None, response_size=answered(c, MESSAGE_MAX))
    assert response.ByteSize() == MESSAGE_MAX, response.ByteSize()


def too_large(c):
    with refused(Code.RESOURCE_EXHAUSTED):
        c.unary(payload=sized(c, MESSAGE_MAX - 1), response_size=1)
    with refused(Code.RESOURCE_EXHAUSTED):
        c.unary(timeout=None, response_size=answered(c, MESSAGE_MAX + 1))
    c.unary()


def routed_limit(c):
    """Inside, ttrpc's envelope needs some of the 4 MiB, and answers are smaller."""
    c.unary(payload=sized(c, MESSAGE_MAX - 16384), response_size=1)
    with refused(Code.RESOURCE_EXHAUSTED):
        c.unary(payload=sized(c, MESSAGE_MAX - 2), response_size=1)
    size = ROUTED_MAX - 16
    assert c.unary(timeout=None, response_size=answered(c, size)).ByteSize() == size
    with refused(Code.RESOURCE_EXHAUSTED):
        c.unary(timeout=None, response_size=answered(c, ROUTED_MAX))
    c.unary()


def concurrent(c):
    """1000 calls on one connection that end, then 1000 that are in flight together."""
    calls = [c.echo.Unary.future(c.request(payload=b"%d" % i), timeout=PATIENCE)
             for i in range(1000)]
    assert [call.result().payload for call in calls] == [b"%d" % i for i in range(1000)]
    key = new_key()
    hanging = [c.echo.Unary.future(c.request(hang=True, key=key), timeout=PATIENCE)
               for _ in range(1000)]
    c.await_seen(key, "start 1000 times", lambda seen: seen.started == 1000)
    for call in hanging:
        assert call.cancel()
    if c.cancel_reaches():
        c.await_seen(key, "cancelled 1000 times", lambda seen: seen.cancelled == 1000)
    c.unary()


def connections(c):
    """1000 at once, each with a call."""
    channels = [c.dial() for _ in range(1000)]
    for _ in range(2):
        calls = [echo_pb2_grpc.EchoServiceStub(channel).Unary.future(c.request(), timeout=PATIENCE)
                 for channel in channels]
        for call in calls:
            call.result()
    for channel in channels:
        channel.close()


def unimplemented(c):
    for path in "/sandboxd.test.v1.EchoService/None", "/no.such.Service/Unary":
        with refused(Code.UNIMPLEMENTED):
            c.channel.unary_unary(path)(b"", timeout=PATIENCE)
    c.unary()


def compressed(c):
    try:
        c.echo.Unary(c.request(payload=bytes(10000)), compression=grpc.Compression.Gzip,
                     timeout=PATIENCE)
    except grpc.RpcError as failed:
        assert failed.code() == Code.UNIMPLEMENTED and "identity" in failed.details(), failed
    else:
        raise AssertionError("a compressed request was taken")
    c.unary()


def keepalive(c):
    """Ten pings in two seconds while a call is in flight, and some without."""
    with refused(Code.DEADLINE_EXCEEDED):
        c.unary(timeout=2, hang=True)
    time.sleep(0.5)
    c.unary()


def health(c):
    stub, serving = health_pb2_grpc.HealthStub(c.channel), health_pb2.HealthCheckResponse.SERVING
    for service in "", "sandboxd.test.v1.EchoService":
        request = health_pb2.HealthCheckRequest(service=service)
        assert stub.Check(request, timeout=PATIENCE).status == serving
        watch = stub.Watch(request, timeout=PATIENCE)
        assert next(watch).status == serving
        watch.cancel()
    request = health_pb2.HealthCheckRequest(service="no.such.Service")
    with refused(Code.NOT_FOUND):
        stub.Check(request, timeout=PATIENCE)
    watch = stub.Watch(request, timeout=PATIENCE)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def shutdown(c):
    """A stream is under way when the server is told to stop."""
    talk = Chat(c)
    talk.exchange()
    print("under way", flush=True)
    assert sys.stdin.readline()
    # For a moment the server may still take a call that crosses its GOAWAY.
    end = time.monotonic() + 5
    with refused(Code.UNAVAILABLE):
        while time.monotonic() < end:
            c.unary()
            time.sleep(0.01)
    talk.exchange()
    talk.half_close()
    assert not list(talk.call)


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    socket, name, sandbox, seen = sys.argv[1:]
    pings = {"grpc.keepalive_time_ms": 200, "grpc.keepalive_timeout_ms": 1000,
             "grpc.keepalive_permit_without_calls": 1, "grpc.http2.max_pings_without_data": 0}
    client = Client(socket, sandbox, seen, **(pings if name == "keepalive" else {}))
    {"sum": sum_}.get(name, globals().get(name))(client)


if __name__ == "__main__":
    main()
