"""sandboxctl beside a test: in pipes, and at a terminal."""

import fcntl
import os
import pty
import struct
import subprocess
import termios

import pexpect.fdpexpect
import pytest

from harness import BUILD, ENVIRON

PROMPT = r"\$ (\x1b\[6n)?$"  # busybox asks where the cursor is


@pytest.fixture
def ctl_environ(daemon):
    """How sandboxctl finds the daemon; a module may have another way."""
    return {"SANDBOXD_SOCKET": str(daemon.socket)}


@pytest.fixture
def popen(ctl_environ):
    """Starts sandboxctl, with pipes where nothing else is said; it ends with the test."""
    started = []

    def start(*args, **kwargs):
        kwargs = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                  "stderr": subprocess.PIPE} | kwargs
        environ = ENVIRON | ctl_environ | kwargs.pop("env", {})
        program = kwargs.pop("program", BUILD / "sandboxctl")
        started.append(subprocess.Popen([program, *args], env=environ, **kwargs))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(20)
        for pipe in process.stdin, process.stdout, process.stderr:
            if pipe:
                pipe.close()


class Terminal:
    """A terminal with sandboxctl in front of it."""

    def __init__(self, popen, rows=30, columns=100):
        self.popen = popen
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.screen = pexpect.fdpexpect.fdspawn(self.master, timeout=15)
        self.process = None

    def run(self, *args, program=BUILD / "sandboxctl"):
        self.before = self.modes()
        self.process = self.popen("--ctty", program, *args, program="setsid", stdin=self.slave,
                                  stdout=self.slave, stderr=self.slave, env={"TERM": "vt100"})
        return self

    def modes(self):
        return termios.tcgetattr(self.slave)

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def expect(self, *patterns):
        return self.screen.expect(list(patterns))

    def say(self, text):
        self.screen.send(text)

    def ask(self, command, answer):
        """A command for the shell; what it answers begins a line."""
        self.say(f"{command}\r")
        self.expect(r"\r\n" + answer)
        found = self.screen.match
        self.expect(PROMPT)
        return found

    def end(self):
        """Its exit status; the terminal is as before."""
        code = self.process.wait(20)
        assert self.modes() == self.before
        return code

    def close(self):
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(popen):
    made = []

    def make(*args, **kwargs):
        made.append(Terminal(popen, **kwargs))
        return made[-1].run(*args) if args else made[-1]

    yield make
    for t in made:
        if t.process:
            t.process.kill()
            t.process.wait(20)
        t.close()


@pytest.fixture
def shell(box, terminal):
    """In the sandbox "box", which the module makes."""
    t = terminal("exec", "-it", "-e", "PS1=$ ", "box", "--", "sh")
    t.expect(PROMPT)
    return t
