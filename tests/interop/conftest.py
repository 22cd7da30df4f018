"""Servers for the clients: echod alone, or one before another."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

STRICT = os.environ.get("STRICT") == "1"
BUILD = Path(os.environ.get("BUILD", "build")).resolve()
SERVER = BUILD / "tests" / "echod"
OUT = BUILD / "interop"
SERVERS = pytest.StashKey[list]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for server in item.stash.get(SERVERS, []):
            report.sections.append((f"log of {server.name}", server.log()[-5000:]))
    if report.skipped and STRICT:
        report.outcome = "failed"
        report.longrepr = f"skipped, which STRICT=1 does not allow: {report.longrepr[2]}"


def left_out(name):
    """Why build.sh made no such client, or None."""
    missing = OUT / f"{name}.missing"
    return missing.read_text().strip() if missing.exists() else None


# What `make deps` cannot install everywhere, as Debian's are too old: without them there are no such
# tests.
OPTIONAL = {"go", "rust"}


def pytest_report_header():
    return [f"left out: {name}: {left_out(name)}" for name in sorted(OPTIONAL) if left_out(name)]


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(name...): what build.sh has to have made")


def pytest_collection_modifyitems(config, items):
    for item in list(items):
        names = {n for mark in item.iter_markers("needs") for n in mark.args if left_out(n)}
        if names & OPTIONAL:
            items.remove(item)
            config.hook.pytest_deselected(items=[item])
        elif names:
            item.add_marker(pytest.mark.skip(reason=left_out(names.pop())))


class Server:
    def __init__(self, name, folder, socket, *options):
        self.name, self.socket, self._terminated = name, socket, False
        self._log, self._last = open(folder / f"{name}.log", "w+b"), None
        self.process = subprocess.Popen([SERVER, *options, socket], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=self._log)
        ready = self.process.stdout.readline()
        assert ready == b"ready\n", f"{name} did not start: {ready} {self.log()}"

    def log(self):
        if not self._log.closed:
            self._last = Path(self._log.name).read_text(errors="replace")
        return self._last

    def terminate(self):
        """Once: a second SIGTERM would not wait for the calls that are under way."""
        if not self._terminated:
            self.process.terminate()
        self._terminated = True

    def destroy(self):
        self.process.kill()
        self.process.wait(20)
        self.process.stdout.close()
        self.log()
        self._log.close()


class Servers:
    """`front` is what the clients talk to. `seen` gets their calls in the end, and `sandbox` is what
    makes the front pass them on, or empty."""

    def __init__(self, route, folder, started):
        socket = folder / "sock"
        if route == "direct":
            self.front = self.seen = self._start(started, "echod", folder, socket)
            self.sandbox = ""
        else:
            inside = folder / "workspace" / ".runtimed"
            inside.mkdir(parents=True)
            self.seen = self._start(started, "the inner echod", folder, inside / "sock")
            self.front = self._start(started, "the outer echod", folder, socket, "--route",
                                     inside.parent)
            self.sandbox = "x"

    @staticmethod
    def _start(started, *args):
        started.append(Server(*args))
        return started[-1]


@pytest.fixture
def serve(request):
    """Starts servers for the route "direct" or "routed". In the end they must end well."""
    folder = Path(tempfile.mkdtemp(prefix="interop-"))  # a short path: it is for sockets
    started = request.node.stash[SERVERS] = []
    try:
        yield lambda route="direct": Servers(route, folder, started)
        for server in reversed(started):
            server.terminate()
            assert server.process.wait(20) == 0, f"{server.name} ended badly"
    finally:
        for server in started:
            server.destroy()
        shutil.rmtree(folder)
