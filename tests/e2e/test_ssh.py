"""sandboxctl on one host, sandboxd on another: ssh between them."""

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from ctl_fixtures import PROMPT
from harness import BUILD, ENVIRON, Api, identity, stats, wait_until, within
from ssh_host import SSHD, SshHost

MiB = 1 << 20


@pytest.fixture(scope="module")
def host():
    if not SSHD.exists():
        pytest.skip("no sshd: run 'make deps'")
    host = SshHost()
    try:
        host.start()
        yield host
    finally:
        host.stop()
        shutil.rmtree(host.dir)


@pytest.fixture
def ctl_environ(daemon, host):
    (host.dir / "calls").unlink(missing_ok=True)
    return host.environ(daemon.socket)


@pytest.fixture
def ctl(ctl_environ):
    def run(*args, timeout=60, env=None):
        return subprocess.run([BUILD / "sandboxctl", *args], stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=timeout,
                              env=ENVIRON | ctl_environ | (env or {}))

    return run


@pytest.fixture
def box(api):
    return api.create(runtime="runc", name="box")


def transports(process):
    """The ssh processes of a sandboxctl, alive or not."""
    return [pid for pid, parent in stats("RSDTtIZ") if parent == process.pid]


def break_transports(process):
    """Kills each ssh that it had. With one, others may end by themselves."""
    pids = transports(process)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


# --- commands ---------------------------------------------------------------------------------


def test_a_life_over_ssh(ctl, host, runtime, api):
    made = ctl("create", "--runtime", runtime, "--name", "box")
    assert (made.returncode, made.stderr) == (0, "")
    assert [s.id for s in api.list()] == [made.stdout.strip()]
    assert "box" in ctl("ls").stdout
    done = ctl("exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert json.loads(ctl("get", "--json", "box").stdout)["state"] == "running"
    assert ctl("get", "nobody").returncode == 1
    assert ctl("rm", "box").returncode == 0
    assert not api.list()
    assert len(host.calls()) == 6  # one for each command


def test_a_name_of_the_configuration_and_a_path_that_needs_quoting(ctl, host, daemon):
    odd = Path(daemon.dir) / "it's $(touch x) é"
    odd.symlink_to(daemon.socket)
    quoted = str(odd).replace(" ", "%20").replace("$", "%24")
    done = ctl("--socket", f"ssh://box{quoted}", "info", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["instance"] == daemon.api.info().instance


def test_bytes_both_ways(popen, box):
    """100 MiB to a program and back."""
    data = random.Random(1).randbytes(MiB) * 100
    cat = popen("exec", "-i", "box", "--", "cat", stdin=subprocess.PIPE)
    feeder = Thread(target=lambda: (cat.stdin.write(data), cat.stdin.close()))
    feeder.start()
    digest, n = hashlib.sha256(), 0
    while piece := cat.stdout.read(MiB):
        digest.update(piece)
        n += len(piece)
    feeder.join(20)
    assert (cat.wait(20), n) == (0, len(data)), cat.stderr.read()
    assert digest.digest() == hashlib.sha256(data).digest()


def test_events_as_they_happen(ctl, popen, api, box):
    events = popen("events", "--json", "--since", "1")
    seen = [json.loads(events.stdout.readline())]
    api.pause(box.id)
    while seen[-1].get("state") != "paused":
        seen.append(json.loads(events.stdout.readline()))
    events.send_signal(signal.SIGINT)
    assert events.wait(20) == -signal.SIGINT
    assert ctl("resume", "box").returncode == 0


# --- a program that is followed -----------------------------------------------------------------


def test_a_terminal(shell, host):
    assert shell.ask("stty size", r"(\d+) (\d+)").groups() == (b"30", b"100")
    shell.resize(40, 120)
    os.kill(shell.process.pid, signal.SIGWINCH)
    assert shell.ask("sleep 0.5; stty size", r"(\d+) (\d+)").groups() == (b"40", b"120")
    shell.say("sh -c 'echo here we a''re; sleep 60'\r")
    shell.expect("here we are")
    time.sleep(0.2)
    shell.say("\x03")  # a key: for the program
    shell.expect(PROMPT)
    assert len(host.calls()) == 3  # output, input, signals and sizes: a connection for each
    assert len(transports(shell.process)) == 3
    shell.say("exit 3\r")
    assert shell.end() == 3


def test_ctrl_c_is_for_the_program_and_not_for_ssh(terminal, box):
    """Without -t the keyboard's signals go to all of the foreground: sandboxctl passes them on."""
    t = terminal("exec", "box", "--", "sh", "-c",
                 "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done")
    t.expect("ready")
    t.say("\x03")
    t.expect("caught")
    assert t.process.wait(20) == 5


@pytest.fixture
def unknown_host(host):
    """ssh asks whether it is the right one."""
    hosts = host.dir / "known_hosts"
    known = hosts.read_text()
    hosts.write_text("")
    yield
    hosts.write_text(known)


def test_ssh_asks_the_user(terminal, box, unknown_host):
    t = terminal("exec", "-it", "-e", "PS1=$ ", "box", "--", "sh")
    t.expect("continue connecting")
    t.say("yes\r")
    t.expect(PROMPT)
    t.ask("stty size", "30 100")
    t.say("exit 4\r")
    assert t.end() == 4


@pytest.mark.parametrize("command", [["ls"], ["exec", "-it", "box", "--", "true"]], ids=" ".join)
def test_ctrl_c_while_ssh_asks(terminal, box, unknown_host, command):
    t = terminal(*command)
    t.expect("continue connecting")
    ssh = [identity(pid) for pid in transports(t.process)]
    assert len(ssh) == 1
    t.say("\x03")
    assert t.process.wait(20) == -signal.SIGINT
    wait_until(lambda: identity(ssh[0][0]) != ssh[0], "ssh has ended")


@pytest.fixture
def ssh_that_asks(host):
    """For a password, so that the terminal shows nothing of what is typed."""
    ssh = host.bin / "ssh"
    usual = ssh.read_text()
    ssh.write_text("#!/bin/sh\n"
                   "trap 'kill $!; sleep 0.3; stty echo </dev/tty; exit 1' TERM\n"
                   "stty -echo </dev/tty; sleep 60 & echo password: >/dev/tty; wait\n")
    yield
    ssh.write_text(usual)


def test_a_question_without_an_answer_leaves_the_terminal_as_it_was(terminal, ssh_that_asks):
    t = terminal("--timeout", "1s", "ls")
    t.expect("password:")
    assert t.modes() != t.before
    assert t.end() == 3


def test_ctrl_c_at_a_question_leaves_the_terminal_as_it_was(terminal, ssh_that_asks):
    """Nobody is left then to wait for ssh. A shell keeps the terminal."""
    t = terminal().run("-c", 'trap : INT; "$0" ls; read end', BUILD / "sandboxctl", program="sh")
    t.expect("password:")
    assert t.modes() != t.before
    t.say("\x03")
    wait_until(lambda: t.modes() == t.before, "the terminal is as before")


def test_the_daemon_restarts(daemon, popen, box, host):
    counter = popen("exec", "-i", "box", "--", "sh", "-c",
                    "while read line; do echo $line; done", stdin=subprocess.PIPE)
    said = b""
    for i in range(40):
        counter.stdin.write(b"%d\n" % i)
        counter.stdin.flush()
        said += counter.stdout.readline() if i == 0 else b""
        if i == 10:
            daemon.restart("SIGKILL")
        elif i == 20:
            daemon.restart("SIGTERM")
        time.sleep(0.02)
    counter.stdin.close()
    assert said + counter.stdout.read() == b"".join(b"%d\n" % i for i in range(40))
    assert counter.wait(20) == 0
    assert counter.stderr.read() == b""


def test_the_transport_breaks(shell, host):
    """Each ssh is killed; the program has gone on, and none of them stays a zombie."""
    shell.say("n=1\r")
    shell.expect(PROMPT)
    before = break_transports(shell.process)
    assert shell.ask("echo $((n + 41))", "42")
    wait_until(lambda: not set(before) & set(transports(shell.process)), "they are reaped")
    shell.say("exit\r")
    assert shell.end() == 0


def test_no_descriptor_is_left_open(shell, host):
    def descriptors():
        return len(os.listdir(f"/proc/{shell.process.pid}/fd"))

    counts = []
    for _ in range(5):
        break_transports(shell.process)
        shell.ask("echo $((40 + 2))", "42")
        wait_until(lambda: len(transports(shell.process)) == 3, "all connections are there again")
        counts.append(descriptors())
    assert len(set(counts)) == 1, counts
    shell.say("exit\r")
    assert shell.end() == 0


def test_no_ssh_outlives_it(popen, box):
    events = popen("events", "--json", "--since", "1")
    events.stdout.readline()
    ssh = [identity(pid) for pid in transports(events)]
    assert len(ssh) == 1
    events.kill()
    wait_until(lambda: identity(ssh[0][0]) != ssh[0], "ssh has ended")


def test_what_is_left_of_a_client_is_killed(popen, api, box):
    """The program does not outlive its client, at the other end of an ssh either."""
    client = popen("exec", "--tag", "job", "box", "--", "sleep", "60")
    wait_until(lambda: api.ps(box.id), "it runs")
    client.kill()
    wait_until(lambda: not api.ps(box.id), "it is killed", 20)


# --- what goes wrong --------------------------------------------------------------------------------


FAILURES = {
    "bare": "its shell does not find sandboxctl in PATH",
    "old": "sandboxctl there is of another version",
    "noisy": r"said 'Welcome\x1b[2J!' where sandboxctl was to answer",
    "nobody": "cannot reach host '127.0.0.1': what ssh said tells why",
}


def test_failures(ctl, host, daemon):
    """The exit status, the cause, and not a word of a request that may have arrived."""
    for user, said in FAILURES.items():
        env = {"SANDBOXD_SOCKET": host.url(daemon.socket, user=user)}
        for command, status in (("ls",), 3), (("exec", "box", "--", "true"), 125):
            done = ctl(*command, env=env)
            assert (done.returncode, done.stdout) == (status, "")
            assert said in done.stderr
            assert "unknown" not in done.stderr
    assert "Permission denied" in done.stderr  # to nobody: ssh's own words


def test_the_wrong_socket(ctl, host):
    """doctor, too: what is wrong with this host explains nothing."""
    for command in "ls", "doctor":
        done = ctl("--socket", host.url("/nowhere/s"), command)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.startswith("sandboxctl: host '127.0.0.1': cannot reach sandboxd at "
                                      "'/nowhere/s': No such file or directory")


def test_the_wrong_key(ctl, host):
    hosts = host.dir / "known_hosts"
    known = hosts.read_text()
    hosts.write_text(known.split()[0] + " " + (host.dir / "user.pub").read_text())
    try:
        done = ctl("ls")
    finally:
        hosts.write_text(known)
    assert done.returncode == 3
    assert "IDENTIFICATION HAS CHANGED" in done.stderr
    assert "what ssh said tells why" in done.stderr


def test_no_host(ctl):
    done = ctl("--socket", "ssh://root@127.0.0.1:1", "ls")
    assert done.returncode == 3
    assert "Connection refused" in done.stderr and "what ssh said tells why" in done.stderr


def test_no_answer_in_time(ctl, host, daemon):
    """Of a host that lets us in and says nothing; and of one that does not even say it is ssh."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for url in (host.url(daemon.socket, user="slow"),
                    f"ssh://root@127.0.0.1:{silent.getsockname()[1]}"):
            with within(5):
                done = ctl("--socket", url, "--timeout", "1s", "ls")
            assert done.returncode == 3
            assert "no answer in time" in done.stderr


def test_no_ssh_program(ctl):
    done = ctl("ls", env={"PATH": "/nowhere"})
    assert done.returncode == 3
    assert "execute 'ssh'" in done.stderr


def test_what_is_no_address(ctl, host):
    """The table of them is in tests/unit/test_cli_ssh.c. No ssh is started."""
    for address in "ssh://", "ssh://-oProxyCommand=true", "ssh://a b", "ssh://-l@h", "ssh://h/a?b":
        for command in ("ls",), ("exec", "box", "--", "true"):
            done = ctl("--socket", address, *command)
            assert done.returncode == 2
            assert address in done.stderr
    assert host.calls() == []


# --- dial-stdio -----------------------------------------------------------------------------------


def test_a_tunnel_for_any_client(host, daemon, box, host_process):
    """Stock gRPC through ssh and dial-stdio."""
    tunnel = daemon.dir / "tunnel"
    ssh = (f"{host.bin}/ssh -T -oClearAllForwardings=yes -oPermitLocalCommand=no -oTunnel=no "
           "-oRemoteCommand=none -oSessionType=default -oStdinNull=no "
           "-oForkAfterAuthentication=no box "
           f"sandboxctl dial-stdio --socket {daemon.socket}")
    host_process("socat", f"UNIX-LISTEN:{tunnel},fork", f"EXEC:{ssh}")
    wait_until(tunnel.exists, "a tunnel")
    api = Api(tunnel)
    try:
        assert api.info().instance == daemon.api.info().instance
        zeros = api.run(box.id, "head", "-c", str(8 * MiB), "/dev/zero")
        assert (zeros.code, len(zeros.stdout)) == (0, 8 * MiB)
    finally:
        api.close()


def test_dial_stdio_is_for_this_host(ctl):
    done = ctl("dial-stdio")  # with SANDBOXD_SOCKET=ssh://
    assert done.returncode == 2
    assert "is for a socket of this host" in done.stderr


def test_metrics_are_served_of_this_host(ctl, host):
    done = ctl("metrics", "--listen", "127.0.0.1:0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is for a socket of this host" in done.stderr
    assert ctl("metrics").returncode == 0
    assert len(host.calls()) == 1


def test_dial_stdio_without_a_daemon(popen):
    done = popen("dial-stdio", env={"SANDBOXD_SOCKET": "/nowhere/s"})
    assert done.wait(20) == 3
    assert done.stdout.read() == b""
    assert b"cannot reach sandboxd at '/nowhere/s'" in done.stderr.read()


def test_a_daemon_that_ends_ends_dial_stdio(popen, daemon):
    def connections():
        return daemon.api.metrics().get("sandboxd_connections")

    before = connections()
    relay = popen("dial-stdio", env={"SANDBOXD_SOCKET": str(daemon.socket)}, stdin=subprocess.PIPE)
    wait_until(lambda: connections() == before + 1, "its connection")
    assert relay.poll() is None
    daemon.restart("SIGTERM")
    assert relay.wait(20) == 0
