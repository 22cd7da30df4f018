"""sandboxctl and the daemon's own command line."""

import json
import re
import socket
import struct
import subprocess
from threading import Thread

import pytest

import ttrpc_client
from harness import BUILD, ULID


def test_whole_life(ctl, runtime):
    made = ctl("create", "--name", "box", "--runtime", runtime, "--env", "A=b c")
    assert made.returncode == 0, made
    assert re.fullmatch(f"{ULID}\n", made.stdout)
    box = made.stdout.strip()

    listing = ctl("ls")
    assert box[:8] in listing.stdout and "box" in listing.stdout and runtime in listing.stdout
    done = ctl("exec", "box", "--", "sh", "-c", 'echo "$A"; echo err >&2; exit 7')
    assert (done.stdout, done.stderr, done.returncode) == ("b c\n", "err\n", 7)
    assert ctl("stop", "box").returncode == 0
    stopped = ctl("exec", "box", "--", "true")
    assert stopped.returncode == 125 and "start" in stopped.stderr
    assert ctl("start", "box").returncode == 0
    assert json.loads(ctl("get", "--json", "box").stdout)["id"] == box
    assert ctl("rm", "box").returncode == 0
    assert box not in ctl("ls").stdout


def test_exit_codes_of_exec(ctl):
    ctl("create", "--name", "box", check=True)
    for command, code in [(["true"], 0), (["false"], 1), (["no-such-program"], 127),
                          (["/etc"], 126), (["sh", "-c", "kill -9 $$"], 137)]:
        assert ctl("exec", "box", "--", *command).returncode == code, command
    assert ctl("exec", "nobody", "--", "true").returncode == 125


def test_info(ctl, daemon):
    info = ctl("info")
    assert info.returncode == 0
    assert "runc" in info.stdout and str(daemon.data) in info.stdout


@pytest.mark.parametrize("args, words", [
    (["create", "--runtime", "kata"], ["kata", "runc"]),
    (["create", "--image", "no-such-image"], ["no-such-image"]),
    (["create", "--name", "No Good"], ["No Good"]),
    (["get", "nobody"], ["nobody"]),
    (["rm", "nobody"], ["nobody"]),
])
def test_errors_of_the_daemon(ctl, args, words):
    done = ctl(*args)
    assert done.returncode == 1 and done.stdout == ""
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("args", [[], ["dance"], ["create", "--colour"], ["exec"], ["rm"],
                                  ["create", "--env", "NOEQUALS"]])
def test_usage(ctl, args):
    done = ctl(*args)
    assert done.returncode == 2 and done.stderr and done.stdout == ""


def test_what_no_call_can_hold(ctl):
    for args in (["get", b"\xff"], ["exec", "box", "--", "cat", b"caf\xe9"]):
        done = ctl(*args)
        assert done.returncode == 2 and "is not UTF-8" in done.stderr and "\\x" in done.stderr


def test_usage_says_what_is_wrong(ctl):
    assert "'box' is too much" in ctl("create", "box").stderr
    assert "something is missing" in ctl("exec", "box").stderr


def test_the_first_word_of_two(ctl):
    for args in (["help", "task"], ["task", "--help"], ["task", "-h"]):
        done = ctl(*args)
        assert done.returncode == 0 and done.stderr == ""
        assert "task revert" in done.stdout and "app build" not in done.stdout
    for args in (["task"], ["task", "begin"]):
        done = ctl(*args)
        assert done.returncode == 2 and "task start" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("command, code", [("ls", 3), ("logs box 1", 3), ("exec box -- true", 125),
                                           ("exec -d box -- true", 125), ("attach box 1", 125)])
def test_no_daemon(make_daemon, command, code):
    """Where the exit status is a program's ours is another."""
    daemon = make_daemon(start=False)
    done = daemon.ctl(*command.split())
    assert done.returncode == code
    assert str(daemon.socket) in done.stderr


def test_a_daemon_that_does_not_answer(make_daemon):
    daemon = make_daemon(start=False)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(daemon.socket))
        mute.listen()
        for command, code in [("ls", 1), ("logs box 1", 1), ("exec box -- true", 125),
                              ("exec -d box -- true", 125), ("attach box 1", 125)]:
            done = daemon.ctl("--timeout", "500ms", *command.split(), timeout=20)
            assert done.returncode == code and "DEADLINE_EXCEEDED" in done.stderr, command


@pytest.mark.parametrize("command", ["get box", "app status box", "app wait box", "app build box",
                                     "task events box", "task cancel box"])
def test_an_answer_that_holds_nothing(make_daemon, command):
    """Some answers are what a sandbox says."""
    daemon = make_daemon(start=False)

    def answer(listener):
        connection, _ = listener.accept()
        with connection:
            header = connection.recv(10, socket.MSG_WAITALL)
            length, stream = struct.unpack(">II", header[:8])
            connection.recv(length, socket.MSG_WAITALL)
            connection.sendall(struct.pack(">IIBB", 0, stream, ttrpc_client.RESPONSE, 0))
            connection.recv(1)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(daemon.socket))
        listener.listen()
        thread = Thread(target=answer, args=[listener])
        thread.start()
        done = daemon.ctl(*command.split(), timeout=20)
        thread.join(20)
    assert done.returncode == 1 and done.stdout == ""
    assert "INTERNAL: the answer holds no" in done.stderr


def test_an_answer_in_time_is_enough(ctl):
    ctl("create", "--name", "box", check=True)
    done = ctl("exec", "--timeout", "2s", "box", "--", "sh", "-c", "sleep 3; echo end")
    assert (done.returncode, done.stdout) == (0, "end\n")


def test_an_address_of_another_kind(ctl):
    done = ctl("--socket", "unix:///run/sandboxd/sandboxd.sock", "ls")
    assert done.returncode == 2 and "expected a path" in done.stderr


def test_a_sandbox_cannot_write_to_the_terminal_through_ls(ctl):
    """Names are checked; what a sandbox supplies is escaped."""
    assert ctl("create", "--name", "a\x1b[2J").returncode == 1
    assert "\x1b" not in ctl("get", "a\x1b[2J").stderr


def test_daemon_command_line(make_daemon):
    daemon = make_daemon(start=False, runtime="runsc", dns={"servers": ["9.9.9.9"]})
    assert daemon.run("--check-config").returncode == 0
    assert not daemon.data.exists()
    printed = daemon.run("--print-config")
    assert printed.returncode == 0
    assert "9.9.9.9" in printed.stdout and str(daemon.data) in printed.stdout
    # What was printed is a configuration that says the same.
    daemon.config_file.write_text(printed.stdout)
    again = subprocess.run(daemon.command("--print-config"), capture_output=True, text=True,
                           timeout=10)
    assert again.stdout == printed.stdout


def test_versions_agree():
    said = [subprocess.run([BUILD / name, "--version"], capture_output=True, text=True,
                           timeout=10).stdout for name in ("sandboxd", "sandboxctl")]
    assert len({re.search(r"\d+\.\d+\.\d+", text).group() for text in said}) == 1
