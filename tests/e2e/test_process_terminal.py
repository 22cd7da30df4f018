"""Programs at a terminal."""

import hashlib
import time

import grpc
import pytest
from sandboxd.v1 import process_pb2

from harness import refused, wait_until, within
from received import Received

RUNTIMES = pytest.mark.parametrize("runtime", ["runc", "runsc", "runsc-r22"], indirect=True)
RUNC = pytest.mark.parametrize("runtime", ["runc"], indirect=True)
Code = grpc.StatusCode


def size(rows, columns):
    return process_pb2.TerminalSize(rows=rows, columns=columns)


def opened(api, ref, *args, ready=b"ready", **fields):
    """A program at a terminal that has said it is ready: its call, and what came."""
    call = api.stream(ref, *args, terminal=size(24, 80), **fields)
    return call, Received().until(call, lambda got: ready in got.stdout)


@RUNTIMES
def test_its_size(api, sandbox):
    """From the start, and after Resize, of which the program is told."""
    call = api.stream(sandbox.id, "sh", "-c", "stty size; trap 'stty size' WINCH; echo ready; "
                      "while :; do sleep 0.1; done", terminal=size(33, 77))
    got = Received().until(call, lambda got: b"ready" in got.stdout)
    assert got.stdout == b"33 77\r\nready\r\n"
    assert api.process(sandbox.id, got.pid).terminal
    for rows, columns in (50, 132), (2, 29999):  # busybox tells no size beyond
        api.resize(sandbox.id, got.pid, rows, columns)
        told = f"{rows} {columns}\r\n".encode()
        got.until(call, lambda got: got.stdout.endswith(told))
    for rows, columns in (0, 80), (24, 0), (65536, 80):
        with refused(Code.INVALID_ARGUMENT, "rows"):
            api.resize(sandbox.id, got.pid, rows, columns)


def test_resize_without_a_terminal(api, sandbox):
    pid = api.spawn(sandbox.id, "sleep", "1000")
    with refused(Code.FAILED_PRECONDITION, "terminal"):
        api.resize(sandbox.id, pid, 24, 80)
    request = process_pb2.ProcessServiceResizeRequest(sandbox_id=sandbox.id, process={"pid": pid})
    with refused(Code.INVALID_ARGUMENT, "rows"):
        api.processes.Resize(request, timeout=10)
    ended = api.spawn(sandbox.id, "true", terminal=size(24, 80))
    api.wait_process(sandbox.id, ended)
    with refused(Code.FAILED_PRECONDITION):
        api.resize(sandbox.id, ended, 24, 80)


def test_one_stream(api, sandbox):
    """Input, output and errors are the terminal, and the program's session has it."""
    script = ("echo out; echo err >&2; tty; for i in 0 1 2; do readlink /proc/self/fd/$i; done;"
              "cut -d' ' -f5,6 /proc/self/stat; echo $$")
    done = api.run(sandbox.id, "sh", "-c", script, terminal=size(24, 80))
    lines = done.stdout.decode().split("\r\n")
    assert lines[:2] == ["out", "err"] and done.stderr == b""
    name = lines[2]
    assert name.startswith("/dev/")
    assert lines[3:6] == [name] * 3
    pid = lines[7]
    assert lines[6] == f"{pid} {pid}"


@RUNC
def test_dev_tty(api, sandbox):
    """gVisor has it, but EIO is all it gives."""
    assert api.run(sandbox.id, "sh", "-c", "echo direct >/dev/tty",
                   terminal=size(24, 80)).stdout == b"direct\r\n"


def test_keys(api, sandbox):
    """ctrl-C interrupts, backspace erases, ctrl-D on an empty line ends."""
    call, got = opened(api, sandbox.id, "sh", "-c", "echo ready; exec cat")
    api.send_input(sandbox.id, got.pid, b"\x03")
    got.all(call)
    assert (got.end.exit_code, got.end.signal) == (130, 2)

    call, got = opened(api, sandbox.id, "sh", "-c", "echo ready; exec cat")
    assert api.send_input(sandbox.id, got.pid, b"abx\x7fc\n") == 6
    got.until(call, lambda got: got.stdout.endswith(b"\r\nabc\r\n"))
    api.send_input(sandbox.id, got.pid, b"\x04")
    got.all(call)
    assert (got.end.exit_code, got.end.signal, got.end.stderr_size) == (0, 0, 0)


def test_ctrl_z(api, sandbox):
    """A shell with job control gets it back, and goes on with it."""
    call, got = opened(api, sandbox.id, "sh", "-c", "echo ready; exec sh -i", env={"PS1": "$ "})
    api.send_input(sandbox.id, got.pid, b"cat\n")
    time.sleep(0.3)
    # The shell reads ahead what is typed while it reads its own line.
    for keys, answer in ((b"\x1a", b"Stopped"), (b"fg\n", b"cat\r\n"),
                         (b"to cat\n", b"to cat\r\nto cat\r\n"), (b"\x04", b"$ ")):
        n = len(got.stdout)
        api.send_input(sandbox.id, got.pid, keys)
        got.until(call, lambda got: answer in got.stdout[n:])
    api.send_input(sandbox.id, got.pid, b"exit 6\n")
    assert got.all(call).end.exit_code == 6


def test_a_password(api, sandbox):
    """The program turns the echo off, and on again."""
    script = "printf 'Password: '; stty -echo; read p; stty echo; echo; echo ${#p}"
    call, got = opened(api, sandbox.id, "sh", "-c", script, ready=b"Password: ")
    time.sleep(0.5)
    api.send_input(sandbox.id, got.pid, b"secret\n")
    got.all(call)
    assert b"secret" not in got.stdout and got.stdout.endswith(b"\r\n6\r\n")


@pytest.mark.parametrize("before", [b"", b"whole line\n", b"half a line"])
def test_end_of_input(api, sandbox, before):
    """CloseStdin types as many ctrl-D as it takes."""
    call, got = opened(api, sandbox.id, "sh", "-c", "echo ready; cat | wc -c")
    if before:
        api.send_input(sandbox.id, got.pid, before)
    api.close_stdin(sandbox.id, got.pid)
    got.all(call)
    assert got.end.exit_code == 0
    assert got.stdout.endswith(b"%d\r\n" % len(before))


def test_input_after_its_end(api, sandbox):
    """A terminal stays open."""
    call, got = opened(api, sandbox.id, "sh", "-c", "echo ready; cat >/dev/null; read x; echo got $x")
    api.close_stdin(sandbox.id, got.pid)
    time.sleep(0.3)
    assert api.process(sandbox.id, got.pid).stdin_open
    api.send_input(sandbox.id, got.pid, b"more\n")
    assert got.all(call).stdout.endswith(b"got more\r\n")


@RUNTIMES
def test_nothing_is_lost_at_the_end(api, sandbox):
    """What was printed just before the end, when the terminal is closed already."""
    text = "".join(f"{i}\r\n" for i in range(1, 20001)).encode()
    for _ in range(3):
        assert api.run(sandbox.id, "seq", "1", "20000", terminal=size(24, 80)).stdout == text
    for i in range(20):
        assert api.run(sandbox.id, "echo", str(i), terminal=size(1, 1)).stdout == b"%d\r\n" % i


def test_raw(api, sandbox):
    """Every byte goes through as it is, both ways. In gVisor those of signals are signals still."""
    data = bytes(range(256))
    if sandbox.runtime != "runc":
        data = data.translate(None, b"\x03\x1a\x1c")
    call, got = opened(api, sandbox.id, "sh", "-c",
                       f"stty raw -echo; printf ready; exec head -c {len(data)}")
    api.send_input(sandbox.id, got.pid, data)
    assert got.all(call).stdout == b"ready" + data


def test_much_input(api, sandbox):
    """More than a terminal takes at once, while the program is busy with other things."""
    call, got = opened(api, sandbox.id, "sh", "-c",
                       "stty raw -echo; printf ready; sleep 0.5; head -c 880000 | sha1sum")
    data = bytes(range(30, 250)) * 4000
    assert api.stream_input(sandbox.id, got.pid,
                            [data[i:i + 100000] for i in range(0, len(data), 100000)]) == len(data)
    assert hashlib.sha1(data).hexdigest().encode() in got.all(call).stdout


def test_children_at_the_terminal(api, sandbox):
    """When its leader ends they get SIGHUP, but not in gVisor, where they have it open still."""
    call, got = opened(api, sandbox.id, "sh", "-c", "sleep 98761 & echo ready; read x")
    api.send_input(sandbox.id, got.pid, b"\n")
    with within(5):
        got.all(call)
    assert got.end.output_open == (sandbox.runtime != "runc")
    if not got.end.output_open:
        wait_until(lambda: "98761" not in api.sh(sandbox.id, "cat /proc/[0-9]*/cmdline"), "SIGHUP")
