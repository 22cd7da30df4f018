"""A Docker API socket that makes trouble where it is told to. It stands in front of a real dockerd, to
which everything else goes through, so that what an engine did before it failed is real too."""

import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingUnixStreamServer

from dockerd import Connection

# What calls are named in the tests.
CALLS = {name: re.compile(rf"{pattern}$") for name, pattern in {
    "ping": "(GET|HEAD) /_ping",
    "version": "GET /version",
    "info": "GET /info",
    "events": "GET /events",
    "list": "GET /containers/json",
    "create": "POST /containers/create",
    "inspect": "GET /containers/[^/]+/json",
    "start": "POST /containers/[^/]+/start",
    "stop": "POST /containers/[^/]+/stop",
    "kill": "POST /containers/[^/]+/kill",
    "pause": "POST /containers/[^/]+/pause",
    "unpause": "POST /containers/[^/]+/unpause",
    "remove": "DELETE /containers/[^/]+",
    "logs": "GET /containers/[^/]+/logs",
    "archive": "GET /containers/[^/]+/archive",
    "image": "GET /images/.+/json",
    "pull": "POST /images/create",
    "network": "GET /networks/[^/]+",
    "networks": "GET /networks",
    "make-network": "POST /networks/create",
}.items()}
ENDLESS = b" " * 65536


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except OSError:  # the client has gone, or dockerd has: so does this connection
            self.close_connection = True

    def serve(self):
        self.close_connection = False
        self.name = self.call_name()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        front = self.server.front
        front.calls.append(self.name)
        front.connections[self.connection] = self.name
        trouble, *args = front.troubles.get(self.name, ["none"])
        getattr(self, trouble)(body, *args)

    def finish(self):
        self.server.front.connections.pop(self.connection, None)
        super().finish()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve

    def call_name(self):
        line = f"{self.command} {re.sub('^/v1[.][0-9]+', '', self.path.partition('?')[0])}"
        return next((name for name, pattern in CALLS.items() if pattern.match(line)), line)

    def log_message(self, *args):
        pass

    # --- what becomes of a call: the troubles by name ------------------------------------------

    def none(self, body):
        """What dockerd says, as it says it."""
        with self.ask(body) as response:
            length = response.getheader("Content-Length")
            if response.status in (204, 304):  # which have no body
                length = 0
            self.begin(response.status, response.getheader("Content-Type"), length)
            while data := response.read1(65536):
                self.say(data, length)
            if length is None:
                self.wfile.write(b"0\r\n\r\n")

    def hang(self, body):
        """Never an answer; as long as it is so."""
        self.stuck()

    def hang_after(self, body):
        """It is done, and never an answer."""
        self.done(body)
        self.stuck()

    def slow(self, body, seconds=0.8):
        time.sleep(seconds)
        self.none(body)

    def held_up(self, body):
        """An answer when all is well again."""
        while not self.server.front.over(self.name):
            time.sleep(0.02)
        self.none(body)

    def drip(self, body):
        """It is done; the answer comes a byte at a time."""
        data = self.done(body)
        self.begin(200, "application/json", len(data))
        for byte in data:
            self.say(bytes([byte]), True)
            time.sleep(0.005)

    def drop(self, body):
        """The connection ends instead of an answer."""
        self.close_connection = True

    def drop_after(self, body):
        self.done(body)
        self.close_connection = True

    def refuse(self, body, status, message="it does not want to"):
        self.answer(status, json.dumps({"message": message}).encode())

    def refuse_after(self, body, status, message="it did, and lies"):
        self.done(body)
        self.refuse(body, status, message)

    def say_instead(self, body, data, status=200):
        """Anything that is not JSON, or not what was asked for."""
        self.answer(status, data)

    def say_after(self, body, data, status=200):
        self.done(body)
        self.answer(status, data)

    def truncate(self, body):
        """It is done, and the answer ends half way, with the connection."""
        data = self.done(body)
        self.begin(200, "application/json", len(data) or 100)
        self.say(data[:len(data) // 2], True)
        self.close_connection = True

    def lie_about_length(self, body):
        """It is done, and there is more of the answer than the head said: it would be the next."""
        data = self.done(body)
        self.begin(200, "application/json", len(data) // 2)
        self.say(data, True)

    def endless(self, body):
        """It is done, and the answer has no end."""
        self.done(body)
        self.begin(200, "application/json", None)
        while not self.server.front.over(self.name):
            self.say(ENDLESS, None)

    def endless_head(self, body):
        self.done(body)
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.server.front.over(self.name):
            self.wfile.write(b"X-More: " + b"x" * 1000 + b"\r\n")

    def no_http(self, body):
        self.wfile.write(b"\x15\x03\x01\x00\x02\x02\x16 what?\n")
        self.close_connection = True

    # --- their words --------------------------------------------------------------------------

    def ask(self, body):
        headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
        connection = Connection(self.server.front.dockerd.socket, timeout=120)
        connection.request(self.command, self.path, body or None, headers)
        return connection.getresponse()

    def done(self, body):
        """What dockerd answers."""
        with self.ask(body) as response:
            return response.read()

    def begin(self, status, kind, length):
        """length None: nobody knows it ahead."""
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def say(self, data, length):
        self.wfile.write(data if length is not None else b"%x\r\n%s\r\n" % (len(data), data))

    def answer(self, status, data):
        self.begin(status, "application/json", len(data))
        self.wfile.write(data)

    def stuck(self):
        while not self.server.front.over(self.name):
            time.sleep(0.02)
        self.close_connection = True


class Server(ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # whoever was served has gone


class FakeDocker:
    def __init__(self, dockerd, path):
        self.dockerd = dockerd
        self.socket = path
        self.troubles = {}
        self.calls = []  # the names of all that were made
        self.connections = {}  # and what was last called on each
        self.server = None
        self.open()

    def open(self):
        """Again after `close`, with the same troubles."""
        self.server = Server(str(self.socket), Handler)
        self.server.front = self
        threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True).start()

    def close(self):
        """As an engine that has died: nobody listens, and every connection ends."""
        self.server.shutdown()
        self.server.server_close()
        self.server = None
        self.socket.unlink()
        self.cut()

    def trouble(self, what, *calls, args=()):
        """what: a method of Handler, with what it takes; calls: as CALLS names them, or all."""
        for call in calls or CALLS:
            assert call in CALLS, call
            self.troubles[call] = what, *args

    def heal(self):
        """Also what waits in its trouble goes on, or ends."""
        self.troubles = {}

    def over(self, call):
        return self.server is None or call not in self.troubles

    def cut(self, *calls):
        """Ends the connections that are in one of these calls, or all."""
        for connection, call in list(self.connections.items()):
            if call in calls or not calls:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it ended meanwhile
