"""The daemon under a service manager: what it tells it, the watchdog, and the socket that it is
handed. The service manager is the test's own; tests/system has the real one."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from callers import Callers, assert_only_interrupted, checked, cli_callers, stock_callers
from harness import BUILD, ENVIRON, Api, find_runtime, runtimes, wait_until
from service_manager import ActivatedDaemon, ManagedDaemon


@pytest.fixture
def managed(make_daemon):
    return make_daemon(of=ManagedDaemon)


@pytest.fixture
def activated(make_daemon):
    return make_daemon(of=ActivatedDaemon)


# --- what it tells -------------------------------------------------------------------------------

def test_ready_status_and_stopping(make_daemon):
    daemon = make_daemon(of=ManagedDaemon, start=False)
    daemon.launch(WATCHDOG_USEC="1000000")
    daemon.manager.wait_for(READY="1")
    assert daemon.is_listening()  # it is ready when it says so
    daemon.api = Api(daemon.socket)
    daemon.apis.append(daemon.api)
    daemon.api.create(name="box")
    daemon.manager.wait_for(STATUS="1 sandbox, 1 running")
    daemon.restart("SIGTERM")
    daemon.manager.wait_for(STATUS="1 sandbox, 1 running")
    told = [key for message in daemon.manager.all for key in message
            if key not in ("STATUS", "WATCHDOG")]
    assert told == ["READY", "STOPPING", "READY"]


def test_a_failed_start_says_why(make_daemon):
    daemon = make_daemon(of=ManagedDaemon, start=False, log={"level": "silly"})
    daemon.launch()
    assert daemon.process.wait(10) == 78
    failed, = daemon.manager.take()
    assert "log.level" in failed["STATUS"] and failed["ERRNO"] == "22"
    daemon.config["log"] = {"level": "debug"}
    daemon.start()
    second = make_daemon(of=ManagedDaemon, start=False, data_dir=str(daemon.data))
    second.launch()
    assert second.process.wait(10) == 1
    failed = second.manager.wait_for(ERRNO="17")
    assert "another sandboxd uses data_dir" in failed["STATUS"]
    second.process = None


@pytest.mark.oci_only("the runtime is a script")
def test_runtimes_do_not_see_the_service_manager(make_daemon, tmp_path):
    """runc would wait for its container to speak to it."""
    wrapper = tmp_path / "runc"
    wrapper.write_text(f'#!/bin/sh\nenv >>{tmp_path}/environment\nexec {find_runtime("runc")} "$@"\n')
    wrapper.chmod(0o755)
    daemon = make_daemon(of=ActivatedDaemon, start=False,
                         runtimes=runtimes() | {"runc": {"type": "runc", "path": str(wrapper)}})
    daemon.start(WATCHDOG_USEC="60000000")
    daemon.api.create(name="box")
    environment = (tmp_path / "environment").read_text()
    assert "PATH=" in environment
    for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"):
        assert name not in environment


@pytest.mark.parametrize("how", ["signal", "call"])
def test_a_reload_is_told(managed, how):
    """Its beginning and its end, also when nothing comes of it."""
    for _ in range(2):
        if how == "call":
            managed.ctl("reload")
        else:
            managed.process.send_signal(signal.SIGHUP)
        told = managed.manager.wait_for(RELOADING="1")
        assert 0 < int(told["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        managed.manager.wait_for(READY="1")
        managed.config_file.write_text("what: is this")


# --- the watchdog --------------------------------------------------------------------------------

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000


class StoppedThread:
    """One thread of a process stands still, as if its disk did not answer."""

    def __init__(self, pid, name):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.tid, = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()
                     if (task / "comm").read_text().strip() == name]

    def ptrace(self, request):
        result = self.libc.ptrace(request, self.tid, None, None)
        assert result == 0, os.strerror(ctypes.get_errno())

    def __enter__(self):
        self.ptrace(PTRACE_SEIZE)
        self.ptrace(PTRACE_INTERRUPT)
        os.waitpid(self.tid, WALL)

    def __exit__(self, *_):
        self.ptrace(PTRACE_DETACH)


INTERVAL = 0.4  # seconds; what waits for a disk has five times as long


def test_the_watchdog_is_fed_while_the_store_answers(make_daemon):
    daemon = make_daemon(of=ManagedDaemon, start=False)
    daemon.start(WATCHDOG_USEC=str(int(INTERVAL * 1e6)))
    fed = {"WATCHDOG": "1"}
    assert daemon.manager.count(5 * INTERVAL, **fed) >= 5
    with StoppedThread(daemon.process.pid, "sandboxd-store"):
        assert daemon.manager.count(2 * INTERVAL, **fed) >= 2  # a disk may take its time
        wait_until(lambda: "the store's thread has not got on" in daemon.log(), "a word")
        assert daemon.manager.count(3 * INTERVAL, **fed) == 0
        assert daemon.api.info()  # the loop turns
    daemon.manager.wait_for(**fed)
    daemon.api.create(name="box")


def test_the_watchdog_is_not_fed_by_a_loop_that_stands(make_daemon):
    daemon = make_daemon(of=ManagedDaemon, start=False)
    daemon.start(WATCHDOG_USEC=str(int(INTERVAL * 1e6)))
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        assert daemon.manager.count(3 * INTERVAL, WATCHDOG="1") == 0
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    daemon.manager.wait_for(WATCHDOG="1")


# --- the socket ----------------------------------------------------------------------------------

def socket_activate(daemon, *options):
    """By systemd's own program, which starts the daemon when somebody connects."""
    daemon.config_file.write_text(json.dumps(daemon.config))
    with open(daemon.log_file, "ab") as log:
        return subprocess.Popen(["systemd-socket-activate", *options, *daemon.command()],
                                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRON)


def test_started_by_a_connection(make_daemon):
    daemon = make_daemon(start=False)
    daemon.process = socket_activate(daemon, "-l", daemon.socket)
    wait_until(daemon.socket.exists, "a socket")
    daemon.api = Api(daemon.socket)
    daemon.apis.append(daemon.api)
    sandbox = daemon.api.create(name="box")
    assert daemon.api.sh("box", "echo up") == "up\n"
    daemon.stop()  # systemd-socket-activate has become the daemon
    assert daemon.socket.exists()  # it is not the daemon's
    daemon.socket.unlink()
    daemon.start()
    assert daemon.api.get("box").id == sandbox.id


@pytest.mark.parametrize("options, words", [
    (("-l", "{dir}/a", "-l", "{dir}/b"), "2 sockets"),
    (("-d", "-l", "{dir}/a"), "no Unix stream socket"),
], ids=["two", "datagrams"])
def test_a_wrong_socket_is_refused(make_daemon, options, words):
    daemon = make_daemon(start=False)
    process = socket_activate(daemon, *[o.format(dir=daemon.dir) for o in options])
    wait_until((daemon.dir / "a").exists, "a socket")
    kind = socket.SOCK_DGRAM if "-d" in options else socket.SOCK_STREAM
    with socket.socket(socket.AF_UNIX, kind) as s:
        wait_until(lambda: s.connect_ex(str(daemon.dir / "a")) == 0, "somebody who listens")
        s.send(b"?")
        assert process.wait(10) == 1
    assert words in daemon.log() and "ListenStream=" in daemon.log()


@pytest.fixture
def stock(activated):
    """Stock clients, each with a connection of its own."""
    own = [Api(activated.socket) for _ in range(3)]
    activated.apis += own
    return own


def test_a_restart_refuses_nobody(activated, stock):
    """Clients wait for the next daemon; whoever was connected is told to go there."""
    activated.api.create(name="box")
    activated.api.create(name="other")
    with Callers(*cli_callers(activated.ctl), *stock_callers(stock),
                 lambda: checked(activated.ctl("exec", "box", "--", "true"))) as clients:
        for _ in range(5):
            clients.get_on()
            activated.restart("SIGTERM")
        clients.get_on()
    assert "\n".join(clients.failures) == ""


def test_a_crash_refuses_nobody(activated, stock):
    """A call that was under way is lost, which only the CLI makes up for; the next one waits."""
    activated.api.create(name="box")
    activated.api.create(name="other")
    counting = subprocess.Popen(
        [BUILD / "sandboxctl", "--socket", activated.socket, "exec", "box", "--", "sh", "-c",
         "i=0; while [ $i -lt 100 ]; do echo $i; i=$((i+1)); sleep 0.05; done"],
        stdout=subprocess.PIPE, text=True)
    with Callers(*cli_callers(activated.ctl), *stock_callers(stock)) as clients:
        for _ in range(3):
            clients.get_on()
            activated.restart("SIGKILL")
        clients.get_on()
    assert_only_interrupted(clients.failures, 3, len(stock))
    assert counting.communicate(timeout=60)[0] == "".join(f"{i}\n" for i in range(100))
    assert counting.returncode == 0


def test_events_go_on_after_a_restart(activated):
    events = subprocess.Popen([BUILD / "sandboxctl", "--socket", activated.socket, "events",
                               "--since", "1"], stdout=subprocess.PIPE, text=True)
    activated.api.create(name="before")
    activated.restart("SIGKILL")
    activated.api.create(name="between")
    activated.restart("SIGTERM")
    activated.api.create(name="after")
    sequences, names = [], []
    while names.count("after") < 2:
        words = events.stdout.readline().split()
        sequences.append(int(words[0]))
        names.append(words[3])
    events.terminate()
    events.wait(10)
    events.stdout.close()
    assert sequences == list(range(1, len(sequences) + 1))
    assert sorted(names) == ["after", "after", "before", "before", "between", "between"]
