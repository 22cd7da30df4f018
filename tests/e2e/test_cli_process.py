"""sandboxctl exec, attach, ps, kill and logs: as one uses them, at a terminal and in pipes."""

import fcntl
import hashlib
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import time
from threading import Thread

import pytest

from ctl_fixtures import PROMPT
from harness import BUILD, ENVIRON, wait_until


@pytest.fixture
def box(api, runtime):
    return api.create(runtime=runtime, name="box")


@pytest.fixture
def runc_box(api):
    return api.create(runtime="runc", name="box")


# --- at a terminal ---


def test_a_shell(shell, ctl):
    """Size, resize, TERM, keys, job control, the exit status; and the terminal as before."""
    shell.ask("stty size", "30 100")
    shell.ask("echo $TERM", "vt100")
    shell.resize(41, 77)
    shell.process.send_signal(signal.SIGWINCH)  # the kernel's goes to whose terminal this is
    wait_until(lambda: shell.ask("stty size", r"(\d+ \d+)").group(1) == b"41 77", "the new size")
    shell.say("sleep 100\r")
    time.sleep(0.2)
    shell.say("\x03")
    shell.expect(PROMPT)
    shell.say("sleep 1000\r")
    words = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    wait_until(lambda: "sleep 1000" in ctl("exec", "box", "--", "sh", "-c", words).stdout,
               "it is in the foreground")
    shell.say("\x1a")
    shell.expect("Stopped")
    shell.expect(PROMPT)
    shell.say("fg\r")
    shell.expect("sleep 1000")
    shell.say("\x03")
    shell.expect(PROMPT)
    shell.ask("(exit 7)", "")
    shell.say("exit 7\r")
    assert shell.end() == 7


def test_end_of_file_by_key(shell):
    shell.say("\x04")
    assert shell.end() == 0


def test_a_password(shell):
    shell.say("read -s -p 'secret: ' it; echo; echo =$it=\r")
    shell.expect("secret: $")
    shell.say("abc123\r")
    shell.expect("=abc123=")
    assert b"abc123" not in shell.screen.before


def test_an_editor(shell):
    shell.say("vi poem\r")
    shell.expect("poem")
    shell.say("iroses")
    shell.expect("roses")
    shell.say("\x1b")
    time.sleep(0.3)  # so long a lone escape may be the beginning of a key
    shell.say(":wq\r")
    shell.expect(PROMPT)
    shell.ask("cat poem", "roses")


def test_an_interpreter(box, terminal):
    t = terminal("exec", "-it", "box", "--", "bc", "-i")
    t.say("6*7\r")
    t.expect(r"\r\n42\r\n")
    t.say("quit\r")
    assert t.end() == 0


def python(*args):
    """What Debian's own prints."""
    return subprocess.run(["/usr/bin/python3", *args], check=True, capture_output=True, text=True,
                          timeout=20).stdout


@pytest.fixture
def python_box(daemon, api, runtime):
    """A sandbox of an image that has Python too, the host's; where that is in it."""
    api.delete(api.create(runtime=runtime).id)  # there is an image then
    rootfs = daemon.dir / "python"
    shutil.copytree(daemon.data / "images/busybox/rootfs", rootfs, symlinks=True)
    ask = "import os, readline, sys; print(sys.executable, os.__file__, readline.__file__, sep='\\n')"
    program, os_py, readline = python("-c", ask).split()
    libraries = os.path.dirname(os_py)
    shutil.copytree(libraries, rootfs / libraries[1:],
                    ignore=shutil.ignore_patterns("test", "config-*", "*-packages"))
    used = subprocess.run(["ldd", program, readline], check=True, capture_output=True, text=True)
    for path in program, *set(re.findall(r"(/\S+) \(0x", used.stdout)):
        to = rootfs / path[1:]
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
    api.create(runtime=runtime, name="box", image=str(rootfs))
    return program


@pytest.mark.oci_only("its image is a directory of the host")
def test_python(python_box, terminal):
    """With its line editing, which makes the terminal raw."""
    # readline's in every version, without colours.
    command = ["exec", "-it", "-e", "PYTHON_BASIC_REPL=1", "-e", "NO_COLOR=1", "box", "--", python_box,
               "-q"]
    t = terminal(*command)
    t.expect(">>> $")
    t.say("6*7\r")
    t.expect(r"\r\n42\r\n>>> $")
    t.say("6*8\x7f9\r")
    t.expect(r"\r\n54\r\n>>> $")
    t.say("import os; os.get_terminal_size()\r")
    t.expect(r"columns=100, lines=30\)\r\n>>> $")
    t.say("input('name: ')\r")
    t.expect(r"\r\nname: $")
    t.say("Zoë\r")
    t.expect("'Zoë'\r\n>>> $".encode())
    t.say("import time; time.sleep(1000)\r")
    time.sleep(0.5)
    t.say("\x03")
    t.expect("KeyboardInterrupt\r\n>>> \x07?$")  # gVisor types the ctrl-C as well
    t.say("exit(3)\r")
    assert t.end() == 3
    t.run(*command)
    t.expect(">>> $")
    t.say("\x04")
    assert t.end() == 0


def test_a_terminal_without_input(runc_box, terminal, popen):
    """Its keys are ours: ctrl-C is a signal, which is passed on."""
    t = terminal("exec", "-t", "box", "--", "sh", "-c", "tty; sleep 1000")
    t.expect("/dev/pts/")
    t.say("\x03")
    assert t.end() == 130
    # And one that does not know its size.
    t = terminal(rows=0, columns=0)
    t.run("exec", "-t", "box", "--", "stty", "size")
    t.expect("24 80")
    assert t.end() == 0
    done = popen("exec", "-t", "box", "--", "stty", "size")
    assert done.communicate(timeout=20) == (b"24 80\r\n", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_restores_the_terminal(runc_box, terminal, ctl, number):
    t = terminal("exec", "-it", "-e", "PS1=$ ", "box", "--", "sh")
    t.expect(PROMPT)
    assert t.modes() != t.before
    t.process.send_signal(number)
    assert t.end() == -number
    if number != signal.SIGUSR1:  # that waits for the supervisor
        wait_until(lambda: "running" not in ctl("ps", "box").stdout, "the end of the shell", 3)


def test_stop_and_continue(runc_box, terminal):
    t = terminal("exec", "-it", "-e", "PS1=$ ", "box", "--", "sh")
    t.expect(PROMPT)
    raw = t.modes()
    t.process.send_signal(signal.SIGTSTP)
    wait_until(lambda: t.modes() == t.before, "the terminal as before")
    t.process.send_signal(signal.SIGCONT)
    wait_until(lambda: t.modes() == raw, "a raw terminal")
    t.ask("echo here", "here")


def test_a_terminal_survives_the_daemon(runc_box, terminal, daemon):
    t = terminal("exec", "-it", "-e", "PS1=$ ", "box", "--", "sh")
    t.expect(PROMPT)
    daemon.restart("SIGKILL")
    t.ask("echo here", "here")
    t.resize(20, 60)
    t.process.send_signal(signal.SIGWINCH)
    wait_until(lambda: t.ask("stty size", r"(\d+ \d+)").group(1) == b"20 60", "the new size")
    daemon.kill()
    t.process.send_signal(signal.SIGTERM)  # nobody to pass it on to
    assert t.end() == -signal.SIGTERM


# --- in pipes ---


def test_input(box, ctl, popen):
    every_byte = bytes(range(256)) * 5000
    done = popen("exec", "-i", "box", "--", "cat", stdin=subprocess.PIPE)
    assert done.communicate(every_byte, timeout=60) == (every_byte, b"")
    assert done.returncode == 0
    # Without -i it is empty; /dev/null ends at once.
    assert ctl("exec", "box", "--", "cat").stdout == ""
    assert ctl("exec", "-i", "box", "--", "cat").stdout == ""


def test_input_of_a_script(runc_box, daemon):
    """A here-document, and an input that is closed."""
    script = "ctl exec -i box -- cat <<END\na  b\nEND\nctl exec -i box -- wc -c <&-"
    done = subprocess.run(["sh", "-c", script.replace("ctl", f"{BUILD}/sandboxctl")],
                          capture_output=True, text=True, timeout=60,
                          env=ENVIRON | {"SANDBOXD_SOCKET": str(daemon.socket)})
    assert (done.stdout, done.stderr) == ("a  b\n0\n", "")


def test_no_terminal_here(runc_box, popen, ctl):
    """What would type an end of input that a shell may miss, and never end, is refused."""
    for stdin in subprocess.DEVNULL, subprocess.PIPE:
        refused = popen("exec", "-it", "box", "--", "sh", stdin=stdin)
        assert b"not a terminal" in refused.communicate(timeout=20)[1] and refused.returncode == 2
    assert ctl("ps", "--all", "--json", "box").stdout == "[]\n"
    assert ctl("exec", "-itd", "box", "--", "sh").returncode == 0  # for an attach


def test_input_from_files(runc_box, popen, tmp_path):
    data = random.Random(1).randbytes(5_000_000)
    (tmp_path / "file").write_bytes(data)
    with open(tmp_path / "file", "rb") as f, open(tmp_path / "copy", "wb") as copy:
        assert popen("exec", "-i", "box", "--", "cat", stdin=f, stdout=copy).wait(60) == 0
    assert (tmp_path / "copy").read_bytes() == data


def test_much_input(box, runtime, popen):
    """Byte for byte."""
    chunk = random.Random(2).randbytes(1 << 20)
    digest = hashlib.sha256()
    size = 200 if runtime == "runc" else 40  # MiB; gVisor is slow
    done = popen("exec", "-i", "box", "--", "sha256sum", stdin=subprocess.PIPE)
    for _ in range(size):
        done.stdin.write(chunk)
        digest.update(chunk)
    out, err = done.communicate(timeout=60)
    assert out.split()[0].decode() == digest.hexdigest() and err == b""


def test_input_that_nobody_wants(runc_box, popen):
    """The program's end is the end, whatever still comes."""
    done = popen("exec", "-i", "box", "--", "head", "-c", "3", stdin=subprocess.PIPE)
    done.stdin.write(b"abcdef")
    done.stdin.flush()
    assert done.wait(20) == 0 and done.stdout.read() == b"abc"


def test_a_descriptor_stays_as_it_was(runc_box, popen):
    """Whether it blocks concerns everybody who has it."""
    ours, theirs = os.pipe()
    done = popen("exec", "-i", "box", "--", "cat", stdin=ours, stdout=theirs)
    time.sleep(0.3)
    for fd in ours, theirs:
        assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK
    done.kill()
    os.close(ours)
    os.close(theirs)


def test_output_to_nobody(runc_box, popen, ctl):
    done = popen("exec", "box", "--", "yes")
    done.stdout.readline()
    done.stdout.close()
    assert done.wait(20) == 128 + signal.SIGPIPE
    assert ctl("ps", "box").stdout.count("\n") == 1  # gone, too


@pytest.mark.parametrize("command", ["events --since 1", "logs -f box it", "task events -f box"])
def test_who_follows_for_nobody_ends(runc_box, popen, ctl, command):
    """Also when nothing comes any more that could not be written: ... | head -1."""
    ctl("exec", "-d", "--tag", "it", "box", "--", "sh", "-c", "echo up; sleep 1000", check=True)
    ctl("task", "start", "--agent", "shell", "box", "--", "sleep 1000", check=True)
    done = popen(*command.split())
    done.stdout.readline()
    time.sleep(0.5)
    assert done.poll() is None
    done.stdout.close()
    assert done.wait(5) == 128 + signal.SIGPIPE and done.stderr.read() == b""


@pytest.mark.parametrize("command", ["ls", "events --no-follow", "exec -d box -- true",
                                     "task start --agent shell box -- true", "app build box"])
def test_output_that_cannot_be_written(runc_box, popen, api, command):
    """Is no success, and says so."""
    if command.startswith("app"):
        api.sh(runc_box.id, "mkdir -p workspace/app && cd workspace/app && "
                            "echo 'build: {command: echo built}' >sandbox.yaml")
    with open("/dev/full", "wb") as full:
        done = popen(*command.split(), stdout=full)
    assert done.wait(20) == 1 and b"cannot write the output" in done.stderr.read()
    if not command.startswith("task"):  # one is active
        done = popen(*command.split())
        done.stdout.close()
        assert done.wait(20) == 128 + signal.SIGPIPE


def test_a_slow_reader_holds_up_nothing_else(runc_box, popen):
    """Signals pass while the output waits."""
    done = popen("exec", "box", "--", "sh", "-c",
                 "trap 'echo hup >heard' HUP; (trap '' HUP; yes) & wait; wait")
    assert select.select([done.stdout], [], [], 20)[0]
    time.sleep(1)  # until it waits
    done.send_signal(signal.SIGHUP)
    heard = lambda: popen("exec", "box", "--", "cat", "heard").communicate(timeout=20)[0]
    wait_until(lambda: heard() == b"hup\n", "the signal")


def test_signals(box, popen):
    done = popen("exec", "box", "--", "sh", "-c", "echo up; sleep 1000")
    assert done.stdout.readline() == b"up\n"
    done.send_signal(signal.SIGINT)
    assert done.wait(20) == 130
    # One that does not listen: the third ends sandboxctl, and with it the program.
    done = popen("exec", "box", "--", "sh", "-c",
                 "trap 'echo heard' INT; echo up; while :; do sleep 0.1; done")
    assert done.stdout.readline() == b"up\n"
    for _ in range(2):
        done.send_signal(signal.SIGINT)
        assert done.stdout.readline() == b"heard\n"
    done.send_signal(signal.SIGINT)
    assert done.wait(20) == -signal.SIGINT


def test_an_ignored_signal_stays_ignored(runc_box, popen):
    done = popen("--ignore-signal=HUP", BUILD / "sandboxctl", "exec", "box", "--", "sh", "-c",
                 "echo up; sleep 1; echo down", program="env")
    assert done.stdout.readline() == b"up\n"
    done.send_signal(signal.SIGHUP)
    assert done.communicate(timeout=20) == (b"down\n", b"")


def test_a_killed_client_takes_its_program_along(runc_box, popen, ctl):
    done = popen("exec", "box", "--", "sh", "-c", "echo up; sleep 1000")
    assert done.stdout.readline() == b"up\n"
    done.kill()
    wait_until(lambda: "running" not in ctl("ps", "box").stdout, "the end of the program", 15)
    assert "killed 9" in ctl("ps", "-a", "box").stdout


def test_time_limit(runc_box, ctl):
    assert ctl("exec", "--run-timeout", "300ms", "box", "--", "sleep", "100").returncode == 124
    assert "timed out" in ctl("ps", "-a", "box").stdout


@pytest.mark.parametrize("runtime, how", [("runc", "SIGKILL"), ("runsc", "SIGKILL"),
                                          ("runc", "SIGTERM")], indirect=["runtime"])
def test_exec_survives_the_daemon(box, popen, daemon, how):
    """Input and output come byte for byte, with the daemon gone in the middle."""
    data = random.Random(3).randbytes(40 << 20)
    done = popen("exec", "-i", "box", "--", "sh", "-c", "cat; echo end >&2; exit 9",
                 stdin=subprocess.PIPE)

    def write():
        with done.stdin as pipe:
            pipe.write(data)

    writer = Thread(target=write, daemon=True)
    writer.start()
    got = bytearray()
    for part in range(2 if how == "SIGKILL" else 1):
        while len(got) < (part + 1) * (10 << 20):
            got += done.stdout.read1(1 << 20)
        daemon.restart(how)
    got += done.stdout.read()
    writer.join(30)
    assert done.wait(30) == 9
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    assert done.stderr.read() == b"end\n"


def test_a_long_absence_of_the_daemon_is_told(runc_box, popen, daemon):
    done = popen("exec", "box", "--", "sh", "-c", "echo up; sleep 4; echo down")
    assert done.stdout.readline() == b"up\n"
    daemon.kill()
    assert b"trying" in done.stderr.readline()
    daemon.start()
    assert b"back" in done.stderr.readline()
    assert done.stdout.readline() == b"down\n" and done.wait(20) == 0


def test_what_became_of_a_sandbox_is_told(runc_box, popen, api):
    done = popen("exec", "box", "--", "sh", "-c", "echo up; sleep 1000")
    assert done.stdout.readline() == b"up\n"
    api.stop("box")
    out, err = done.communicate(timeout=40)
    assert done.returncode in (125, 128 + signal.SIGTERM, 128 + signal.SIGKILL)
    assert done.returncode != 125 or b"unknown" in err


# --- processes ---


def test_ps_and_kill(box, ctl):
    pid = ctl("exec", "-d", "--tag", "web", "--label", "a=b", "box", "--", "sleep", "1000").stdout
    assert re.fullmatch(r"\d+\n", pid)
    listing = ctl("ps", "box").stdout
    assert re.search(rf"^{pid.strip()} +web +running .* sleep 1000$", listing, re.M)
    (found,) = json.loads(ctl("ps", "--json", "box").stdout)
    assert found["labels"] == {"a": "b"} and found["tag"] == "web" and found["end"] is None
    assert ctl("kill", "box", pid.strip(), "-s", "SIGUSR1").returncode == 0
    wait_until(lambda: "running" not in ctl("ps", "box").stdout, "its end")
    assert "killed 10" in ctl("ps", "-a", "box").stdout
    assert ctl("kill", "box", "web").returncode == 1
    assert ctl("kill", "box", "nobody").returncode == 1
    assert ctl("kill", "box", "web", "-s", "NOSUCH").returncode == 2


def test_kill_a_tree(box, ctl):
    script = "trap '' TERM; (trap '' TERM; setsid sleep 1000) & sleep 1001"
    ctl("exec", "-d", "--tag", "web", "box", "--", "sh", "-c", script, check=True)
    wait_until(lambda: "sleep 1000" in ctl("exec", "box", "--", "ps").stdout, "the tree")
    assert ctl("kill", "--kill-after", "300ms", "box", "web").returncode == 0
    assert "sleep" not in ctl("exec", "box", "--", "ps").stdout


def test_ps_does_not_drive_the_terminal(runc_box, ctl):
    ctl("exec", "-d", "box", "--", "sh", "-c", "sleep 1000; :", "\x1b[2J", check=True)
    assert "\x1b" not in ctl("ps", "box").stdout and r"\x1b[2J" in ctl("ps", "box").stdout


def test_logs(box, ctl, popen):
    script = "echo one; echo two >&2; cat go; echo three"
    ctl("exec", "box", "--", "mkfifo", "go", check=True)
    ctl("exec", "-d", "--tag", "job", "box", "--", "sh", "-c", script, check=True)
    wait_until(lambda: "two" in ctl("logs", "box", "job").stderr, "output")
    assert ctl("logs", "box", "job").stdout == "one\n"
    following = popen("logs", "-f", "box", "job")
    assert following.stdout.readline() == b"one\n"
    ctl("exec", "box", "--", "sh", "-c", "echo go >go", check=True)
    assert following.communicate(timeout=20) == (b"go\nthree\n", b"two\n")
    assert following.returncode == 0
    done = ctl("logs", "--since-offset", "4", "--stderr-offset", "1", "box", "job")
    assert (done.stdout, done.stderr, done.returncode) == ("go\nthree\n", "wo\n", 0)
    lines = [json.loads(line) for line in ctl("logs", "--json", "box", "job").stdout.splitlines()]
    assert lines[0]["event"] == "start" and lines[-1]["event"] == "end"
    assert lines[-1]["stdout_size"] == 13 and lines[-1]["stderr_size"] == 4
    assert ctl("logs", "box", "nobody").returncode == 1


def test_lost_output_is_told(runc_box, ctl):
    """More than is kept."""
    ctl("exec", "-d", "--tag", "job", "box", "--", "sh", "-c", "seq 1 4000000; echo end", check=True)
    wait_until(lambda: "exited" in ctl("ps", "-a", "box").stdout, "its end", 30)
    done = ctl("logs", "box", "job")
    assert done.returncode == 0 and done.stdout.endswith("\n4000000\nend\n")
    lost = int(re.search(r"(\d+) bytes of stdout are lost", done.stderr).group(1))
    assert lost + len(done.stdout) == sum(len(str(i)) + 1 for i in range(1, 4000001)) + 4


def test_logs_survive_the_daemon(runc_box, ctl, popen, daemon):
    script = "i=0; while [ $i -lt 60 ]; do echo $i; i=$((i + 1)); sleep 0.05; done"
    ctl("exec", "-d", "--tag", "job", "box", "--", "sh", "-c", script, check=True)
    following = popen("logs", "-f", "box", "job")
    assert following.stdout.readline() == b"0\n"
    daemon.restart("SIGKILL")
    out, err = following.communicate(timeout=30)
    assert out == b"".join(b"%d\n" % i for i in range(1, 60)) and err == b""


def test_attach(box, ctl, popen):
    ctl("exec", "-d", "-i", "--tag", "job", "box", "--", "sh", "-c",
        "echo before; read x; echo =$x=; exit 5", check=True)
    wait_until(lambda: ctl("logs", "box", "job").stdout, "output")
    done = popen("attach", "-i", "box", "job", stdin=subprocess.PIPE)
    assert done.communicate(b"abc\n", timeout=20) == (b"=abc=\n", b"")
    assert done.returncode == 5
    assert ctl("attach", "box", "@job").returncode == 5  # it is kept


def test_attach_and_detach(box, terminal, ctl):
    pid = ctl("exec", "-dt", "-e", "PS1=$ ", "box", "--", "sh").stdout.strip()
    for _ in range(2):
        t = terminal("attach", "box", pid)
        t.say("\r")
        t.expect(PROMPT)
        wait_until(lambda: t.ask("stty size", r"(\d+ \d+)").group(1) == b"30 100", "the size")
        t.say("\x10\x11")
        t.expect("detached")
        assert t.end() == 0
        assert "running" in ctl("ps", "box").stdout
    t = terminal("attach", "box", pid)
    t.say("\r")
    t.expect(PROMPT)
    t.process.terminate()
    assert t.end() == -signal.SIGTERM
    assert "running" in ctl("ps", "box").stdout
    t = terminal("attach", "box", pid)
    t.say("exit 3\r")
    assert t.end() == 3
