"""Completion in real shells, with the scripts where a package puts them."""

import os
import pty
import subprocess
import termios

import pexpect.fdpexpect
import pytest

from harness import BUILD, ENVIRON

ALL = "\x14"  # ctrl-T is made to put all that is offered into the line

# Each in a shell without the user's settings. bash-completion and compinit find the installed script
# by themselves.
SHELLS = {
    "bash": ("bash", ["--norc", "--noprofile", "-i"],
             [". /usr/share/bash-completion/bash_completion",
              r"""bind '"\C-t": insert-completions'"""]),
    "zsh": ("zsh", ["-f", "-i"],
            ["fpath=($SITE $fpath)",
             "autoload -U compinit && compinit -u -D",
             "zle -C everything complete-word _generic",
             "bindkey -e && bindkey '^T' everything",
             "zstyle ':completion:everything:*' completer _all_matches _complete",
             "zstyle ':completion:everything:*' insert true"]),
}


class Shell:
    def __init__(self, name, tree, socket):
        program, args, setup = SHELLS[name]
        environ = ENVIRON | {"TERM": "dumb", "PATH": f"{BUILD}:{os.environ['PATH']}",
                             "SANDBOXD_SOCKET": str(socket), "HOME": "/nonexistent",
                             "XDG_DATA_DIRS": str(tree / "usr/share"),
                             "SITE": str(tree / "usr/share/zsh/site-functions")}
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (100, 1000))
        self.process = subprocess.Popen(["setsid", "--ctty", program, *args], env=environ, stdin=slave,
                                        stdout=slave, stderr=slave)
        os.close(slave)
        self.terminal = pexpect.fdpexpect.fdspawn(master, encoding="utf-8", timeout=20)
        for line in [*setup, 'show() { echo "<$*>"; }', "show ready"]:
            self.terminal.sendline(line)
        self.terminal.expect("<ready>")

    def close(self):
        self.process.kill()
        self.process.wait(20)
        self.terminal.close()

    def complete(self, line):
        """The words that are offered in place of the line's last one."""
        kept, _, word = line.rpartition(" ")
        self.terminal.send(f"{line}{ALL}")
        self.terminal.sendline("\x01show ")  # at the beginning of the line
        self.terminal.expect(r"<(sandboxctl[^<>]*)>")
        words = self.terminal.match.group(1).split()
        offered = words[len(kept.split()):]
        return [] if offered == [word] else offered


@pytest.fixture(params=sorted(SHELLS))
def complete(request, tree, daemon):
    shell = Shell(request.param, tree, daemon.socket)
    yield shell.complete
    shell.close()


def test_commands_and_options(complete):
    assert sorted(complete("sandboxctl st")) == ["start", "stats", "stop"]
    assert complete("sandboxctl keepa") == ["keepalive"]
    assert "ls" in complete("sandboxctl --json ")
    assert complete("sandboxctl stop --gr") == ["--grace"]
    assert complete("sandboxctl ls --gr") == []
    assert set(complete("sandboxctl create --me")) == {"--memory"}
    assert set(complete("sandboxctl kill --k")) == {"--kill-after"}
    assert complete("sandboxctl no-such-command ") == []


def test_values(complete, tmp_path):
    assert sorted(complete("sandboxctl create --expiry ")) == ["delete", "stop"]
    assert sorted(complete("sandboxctl create --runtime run")) == ["runc", "runsc", "runsc-r22"]
    assert complete("sandboxctl wait --state running,fa") == ["running,failed"]
    assert sorted(complete("sandboxctl completion ")) == ["bash", "zsh"]
    (tmp_path / "socket").touch()
    assert complete(f"sandboxctl --socket {tmp_path}/so") == [f"{tmp_path}/socket"]


def test_values_behind_an_equals_sign(complete, tmp_path):
    assert complete("sandboxctl create --expiry=d") == ["--expiry=delete"]
    assert complete("sandboxctl create --runtime=runsc-") == ["--runtime=runsc-r22"]
    (tmp_path / "socket").touch()
    assert complete(f"sandboxctl --socket={tmp_path}/so") == [f"--socket={tmp_path}/socket"]


def test_sandboxes_and_processes(complete, api):
    box = api.create(name="box", runtime="runc")
    api.create(name="bottle", runtime="runc")
    unnamed = api.create(runtime="runc")
    assert sorted(complete("sandboxctl stop bo")) == ["bottle", "box"]
    assert set(complete("sandboxctl rm box ")) == {"bottle", "box", unnamed.id}
    assert complete(f"sandboxctl exec -i {unnamed.id[:-2]}") == [unnamed.id]
    assert complete("sandboxctl create bo") == []
    api.spawn(box.id, "sleep", "600", tag="sleeper")
    assert complete("sandboxctl logs --follow box s") == ["sleeper"]
    assert complete("sandboxctl exec box -- sl") == []


def test_no_daemon_is_no_trouble(complete, daemon):
    daemon.stop()
    assert complete("sandboxctl stop ") == []
    assert complete("sandboxctl stop --gr") == ["--grace"]
    daemon.start()


@pytest.mark.parametrize("shell, installed", [
    ("bash", "bash-completion/completions/sandboxctl"),
    ("zsh", "zsh/site-functions/_sandboxctl"),
])
def test_the_program_prints_what_is_installed(tree, shell, installed):
    printed = subprocess.run([BUILD / "sandboxctl", "completion", shell], capture_output=True)
    assert printed.stdout == (tree / "usr/share" / installed).read_bytes()


@pytest.mark.parametrize("shell, args", [("bash", ["--norc"]), ("zsh", ["-f"])])
def test_a_shell_takes_it_without_an_installation(shell, args):
    script = "autoload -U compinit; compinit -u -D; " if shell == "zsh" else ""
    script += f". <({BUILD}/sandboxctl completion {shell})"
    done = subprocess.run([shell, *args, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
