"""`sandboxctl metrics`, and its --listen: what Prometheus finds there, also while the daemon is away."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from harness import BUILD, ENVIRON, become, wait_until, within
from metrics import Metrics

UNIT = Path(__file__).resolve().parents[2] / "packaging/systemd/sandboxd-metrics.service"
NOBODY, GROUP = 65534, 54321
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exporter:
    """sandboxctl metrics --listen, at an address of its own."""

    def __init__(self, path, *args, address="127.0.0.1:0", program=(BUILD / "sandboxctl",), **kwargs):
        self.process = subprocess.Popen(
            [*program, "--socket", path, "metrics", "--listen", address, *args],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRON, **kwargs)
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.process.communicate()

    def ask(self, path="/metrics", method="GET", data=None, timeout=30):
        """Status, headers, body."""
        request = Request(self.url.removesuffix("/metrics") + path, data, method=method)
        try:
            with urlopen(request, timeout=timeout) as reply:
                return reply.status, reply.headers, reply.read().decode()
        except HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def scrape(self):
        status, headers, body = self.ask()
        assert status == 200, body
        assert headers["Content-Type"] == CONTENT_TYPE
        return Metrics(body)

    def connect(self):
        host, port = self.url.removeprefix("http://").removesuffix("/metrics").rsplit(":", 1)
        return socket.create_connection((host.strip("[]"), int(port)), timeout=30)

    def sockets(self):
        """How many it has open."""
        n = 0
        for fd in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                n += os.readlink(fd).startswith("socket:")
        return n

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


@pytest.fixture
def listen(request):
    """Starts exporters; each must end as it should."""
    started = []

    def start(*args, **kwargs):
        started.append(Exporter(*args, **kwargs))
        return started[-1]

    yield start
    try:
        for exporter in started:
            if exporter.process.poll() is None:
                assert exporter.end() == (0, "")
    finally:
        for exporter in started:
            exporter.process.kill()
            exporter.process.wait(20)


@contextmanager
def frozen(process):
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


# --- sandboxctl metrics ----------------------------------------------------------------------


def test_printed(daemon, api, ctl):
    api.create()
    shown = ctl("metrics")
    assert (shown.returncode, shown.stderr) == (0, "")
    m = Metrics(shown.stdout)
    assert m.operations("create") == 1
    assert m.families == api.metrics().families
    as_json = json.loads(ctl("metrics", "--json").stdout)
    assert Metrics(as_json["text"]).families == m.families
    assert as_json["content_type"] == CONTENT_TYPE
    assert ctl("metrics", "x").returncode == 2
    daemon.stop()
    away = ctl("metrics")
    assert away.returncode == 3 and "cannot reach sandboxd" in away.stderr
    daemon.start()


@pytest.mark.parametrize("address", ["9464", "localhost:9464", "::1:9464", "127.0.0.1:99999"])
def test_addresses_that_are_none(ctl, address):
    shown = ctl("metrics", "--listen", address)
    assert shown.returncode == 2 and "ADDRESS:PORT" in shown.stderr


def test_an_address_in_use(daemon, ctl, listen):
    exporter = listen(daemon.socket)
    address = exporter.url.removeprefix("http://").removesuffix("/metrics")
    shown = ctl("metrics", "--listen", address)
    assert shown.returncode == 1 and f"listen on {address}: Address already in use" in shown.stderr


# --- over HTTP -------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
def test_pages(daemon, api, listen, address):
    exporter = listen(daemon.socket, address=address)
    api.create()
    assert exporter.scrape().operations("create") == 1
    assert exporter.scrape().families == api.metrics().families
    status, headers, body = exporter.ask(method="HEAD")
    assert (status, headers["Content-Type"], body) == (200, CONTENT_TYPE, "")
    assert exporter.ask("/metrics?x=y")[0] == 200
    status, _, body = exporter.ask("/")
    assert status == 200 and "/metrics" in body
    for path in ("/metric", "/metrics/", "//metrics", "/../metrics", "/favicon.ico"):
        assert exporter.ask(path)[0] == 404, path
    for method, data in [("POST", b"x" * 100000), ("PUT", b""), ("DELETE", None), ("OPTIONS", None)]:
        status, headers, _ = exporter.ask(method=method, data=data)
        assert (status, headers["Allow"]) == (405, "GET, HEAD"), method


def test_each_scrape_is_one_call(daemon, api, listen):
    exporter = listen(daemon.socket)
    for _ in range(5):
        exporter.scrape()
    m = api.metrics()
    assert m.rpcs("Metrics", service="sandboxd.v1.HostService") == 5
    wait_until(lambda: api.metrics().get("sandboxd_connections") == 1, "theirs closed")


def test_without_a_daemon(daemon, listen):
    """503, and why; a daemon that comes back is asked again."""
    exporter = listen(daemon.socket)
    first = exporter.scrape()
    for _ in range(2):
        daemon.stop()
        status, headers, body = exporter.ask()
        assert status == 503 and "UNAVAILABLE" in body and "cannot reach sandboxd" in body
        assert headers["Content-Type"] == "text/plain; charset=utf-8"
        assert exporter.ask("/")[0] == 200
        daemon.start()
        started = "process_start_time_seconds"
        assert exporter.scrape().get(started) > first.get(started)


def test_a_daemon_that_is_killed_meanwhile(daemon, listen, pool):
    exporter = listen(daemon.socket)
    daemon.process.send_signal(signal.SIGSTOP)
    asked = pool.submit(exporter.ask)
    time.sleep(0.3)
    daemon.kill()
    status, _, body = asked.result(timeout=10)
    assert status == 503 and "UNAVAILABLE" in body
    daemon.start()
    exporter.scrape()


def test_a_daemon_that_hangs(daemon, listen):
    exporter = listen(daemon.socket, "--timeout", "300ms")
    with frozen(daemon.process), within(5):
        status, _, body = exporter.ask()
        assert status == 503 and "DEADLINE_EXCEEDED" in body
        assert exporter.ask("/")[0] == 200
    exporter.scrape()


def test_many_at_once(daemon, api, listen, pool):
    """The daemon is asked once for all of them."""
    exporter = listen(daemon.socket)
    before = exporter.sockets()
    with frozen(daemon.process):
        asked = [pool.submit(exporter.ask) for _ in range(24)]
        # Theirs, and its own to the daemon.
        wait_until(lambda: exporter.sockets() == before + 25, "all have come")
        time.sleep(0.5)
        assert exporter.ask("/")[0] == 200  # nobody waits for those who wait
    bodies = {a.result(timeout=20)[2] for a in asked}
    assert len(bodies) == 1 and Metrics(*bodies).families
    assert api.metrics().rpcs("Metrics", service="sandboxd.v1.HostService") == 1


def test_clients_that_go(daemon, listen):
    """Before they are answered, or in the middle of it."""
    exporter = listen(daemon.socket)
    before = exporter.sockets()  # nobody was there yet
    with frozen(daemon.process):
        for i in range(20):
            with exporter.connect() as client:
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"[:40 if i % 2 else 20])
    for _ in range(20):
        with exporter.connect() as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            client.recv(10)
    exporter.scrape()
    wait_until(lambda: exporter.sockets() == before, "every connection closed", seconds=20)


def test_nonsense(daemon, listen):
    exporter = listen(daemon.socket)
    for data in (b"\0" * 100, b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"x" * 100000,
                 b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 20000 + b"\r\n",
                 b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50):
        with exporter.connect() as client:
            try:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
            except OSError:
                pass  # it was cut off
    exporter.scrape()


def test_silent_and_slow_clients(daemon, listen, pool):
    """More than are served at once. Who is silent is given up after some seconds; who says a byte now
    and then has no more time than others."""
    def say_slowly(client):
        began = time.monotonic()
        with client, pytest.raises(ConnectionError):
            for byte in b"GET /metrics HTTP/1.1\r\n" + b"x" * 1000:
                client.sendall(bytes([byte]))
                time.sleep(0.5)
        return time.monotonic() - began

    exporter = listen(daemon.socket)
    slow = [pool.submit(say_slowly, exporter.connect()) for _ in range(2)]
    clients = [exporter.connect() for _ in range(38)]
    for client in clients:
        client.sendall(b"GET /metrics HT")
    with within(30):
        exporter.scrape()
        for client in clients:
            try:
                assert client.recv(1) == b""
            except ConnectionError:
                pass
            client.close()
    assert all(10 < seconds.result(timeout=60) < 60 for seconds in slow)
    exporter.scrape()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_its_end(daemon, listen, pool, number):
    """At once, also with somebody who waits."""
    exporter = listen(daemon.socket)
    with frozen(daemon.process), within(5):
        asked = pool.submit(exporter.ask)
        time.sleep(0.3)
        assert exporter.end(number) == (0, "")
        try:
            assert asked.result(timeout=10)[0] == 503
        except OSError:
            pass  # it was cut off


def test_requests_that_come_at_its_end(daemon, listen):
    """In the same turn as the signal, and after it."""
    exporter = listen(daemon.socket)
    exporter.scrape()  # it has come so far as to look for signals
    with frozen(daemon.process), within(5):
        with frozen(exporter.process):
            clients = [exporter.connect() for _ in range(16)]
            for client in clients:
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            exporter.process.send_signal(signal.SIGTERM)
        _, errors = exporter.process.communicate(timeout=20)
        assert (exporter.process.returncode, errors) == (0, "")
    for client in clients:
        client.close()


def test_privileges(daemon, listen):
    """None, ever again, though root started it."""
    exporter = listen(daemon.socket)
    status = Path(f"/proc/{exporter.process.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {int(fields[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Amb")} == {0}
    assert fields["NoNewPrivs"] == "1"
    exporter.scrape()


@pytest.mark.parametrize("groups, role, status, word", [
    ([GROUP], "observer", 200, "sandboxd_sandboxes"),
    ([GROUP], "user", 503, "PERMISSION_DENIED"),
    ([], "observer", 503, "Permission denied")])
def test_a_user_of_its_own(make_daemon, listen, groups, role, status, word):
    """As the unit runs it: who has nothing but the group that may connect, and that group's role."""
    daemon = make_daemon(socket_group=str(GROUP), access={"groups": {str(GROUP): role}})
    daemon.dir.chmod(0o755)
    program = shutil.copy(BUILD / "sandboxctl", daemon.dir)  # which that user can reach
    exporter = listen(daemon.socket, program=[*become(NOBODY, groups), program], cwd="/")
    got, _, body = exporter.ask()
    assert (got, word in body) == (status, True), body


# --- the unit --------------------------------------------------------------------------------


def test_unit(tmp_path):
    """systemd has nothing to say about it, and finds little that it could do to the host."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/bin/sandboxctl", str(BUILD / "sandboxctl")))
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("no systemd-analyze: install systemd")
    verified = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True,
                              timeout=60)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    rated = subprocess.run([analyze, "security", "--offline=yes", "--threshold=15", "--no-pager",
                            unit], capture_output=True, text=True, timeout=60)
    assert rated.returncode == 0, rated.stdout + rated.stderr
