"""A small ttrpc client: frames by hand, so that a test can also send what no client would.

https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md
"""

import socket
import struct
from collections import namedtuple

from ttrpc import ttrpc_pb2

REQUEST, RESPONSE, DATA = 1, 2, 3
REMOTE_CLOSED, REMOTE_OPEN, NO_DATA = 1, 2, 4

Frame = namedtuple("Frame", "stream type flags payload")


class Error(Exception):
    def __init__(self, status):
        super().__init__(f"{status.code}: {status.message}")
        self.code, self.message = status.code, status.message


class Client:
    def __init__(self, path, timeout=30):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))
        self.next_stream = 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, stream, kind, payload=b"", flags=0):
        self.socket.sendall(struct.pack(">IIBB", len(payload), stream, kind, flags) + payload)

    def _read(self, n):
        data = b""
        while len(data) < n:
            more = self.socket.recv(n - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def receive(self):
        """The next frame; EOFError when the server has closed."""
        length, stream, kind, flags = struct.unpack(">IIBB", self._read(10))
        return Frame(stream, kind, flags, self._read(length))

    def request(self, path, message, flags=0, timeout_nano=0, stream=None):
        """Sends a request for "package.Service/Method"; returns its stream id."""
        service, method = path.split("/")
        if stream is None:
            stream, self.next_stream = self.next_stream, self.next_stream + 2
        envelope = ttrpc_pb2.Request(service=service, method=method, timeout_nano=timeout_nano,
                                     payload=message.SerializeToString())
        self.send(stream, REQUEST, envelope.SerializeToString(), flags)
        return stream

    def response(self, frame):
        """The payload of a response; Error when it is one."""
        assert frame.type == RESPONSE, frame
        response = ttrpc_pb2.Response.FromString(frame.payload)
        if response.status.code:
            raise Error(response.status)
        return response.payload

    def unary(self, path, message, reply, **options):
        stream = self.request(path, message, **options)
        frame = self.receive()
        assert frame.stream == stream
        payload = self.response(frame)
        return reply.FromString(payload)

    def stream(self, path, message, reply, **options):
        """The messages of a server's stream; Error when it ends with one."""
        stream = self.request(path, message, flags=REMOTE_CLOSED, **options)
        while True:
            frame = self.receive()
            assert frame.stream == stream
            if frame.type == RESPONSE:
                self.response(frame)
                return
            if not frame.flags & NO_DATA:
                yield reply.FromString(frame.payload)
            if frame.flags & REMOTE_CLOSED:
                return
