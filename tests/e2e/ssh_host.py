"""Another host, to be reached by ssh: a real sshd on loopback, with users, keys and a configuration of
its own, in a mount namespace that ends with it."""

import os
import shlex
import socket
import subprocess
import tempfile
from pathlib import Path

from harness import BUILD, DEPS, ENVIRON, wait_until

SSHD = DEPS / "openssh-server/usr/sbin/sshd"
# Whom the host knows, with their login shells; all of them are root. A shell of ours is what it
# says, or a script.
USERS = {
    "root": "/bin/sh",
    "bare": "/bin/sh",  # has no sandboxctl
    "old": "#!/bin/sh\necho 'no command' >&2; exit 2\n",
    "noisy": '#!/bin/sh\nprintf "Welcome\\033[2J!\\n"; exec /bin/sh "$@"\n',
    "slow": "#!/bin/sh\nexec sleep 60\n",
}
# Before the server starts: the accounts, its private directory, its helpers where it looks for them.
START = """
mount --bind {dir}/passwd /etc/passwd
mount --bind {dir}/shadow /etc/shadow
mount --bind {libs}/openssh /usr/lib/openssh
mount -t tmpfs none /run
mkdir /run/sshd
exec {sshd} -D -e -f {dir}/sshd_config
"""


class SshHost:
    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="sshd-"))
        self.bin = self.dir / "bin"  # ssh with the client's configuration, as `ssh` in PATH
        self.log = self.dir / "log"
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.process = None

    def start(self):
        for key in "host", "user":
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir / key],
                           check=True, timeout=20)
        self.write_accounts()
        self.write_server()
        self.write_client()
        self.run()

    def run(self):
        libs = SSHD.parents[1] / "lib"
        script = START.format(dir=self.dir, libs=libs, sshd=SSHD)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": ENVIRON["PATH"], "LD_LIBRARY_PATH": ":".join(map(str, libs.glob("*-*")))})
        wait_until(self.is_listening, "sshd listens")

    def is_listening(self):
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def write_accounts(self):
        passwd = ["sshd:x:100:65534::/run/sshd:/usr/sbin/nologin"]
        for user, shell in USERS.items():
            if shell.startswith("#!"):
                script = self.dir / f"shell-{user}"
                script.write_text(shell)
                script.chmod(0o755)
                shell = script
            passwd.append(f"{user}:x:0:0::/:{shell}")
        (self.dir / "passwd").write_text("\n".join(passwd) + "\n")
        (self.dir / "shadow").write_text("".join(f"{user}:*:19000::::::\n" for user in USERS))

    def write_server(self):
        (self.dir / "sshd_config").write_text(f"""
            ListenAddress 127.0.0.1
            Port {self.port}
            HostKey {self.dir}/host
            PidFile none
            AuthorizedKeysFile {self.dir}/user.pub
            StrictModes no
            UsePAM no
            PermitRootLogin yes
            PasswordAuthentication no
            KbdInteractiveAuthentication no
            MaxStartups 100
            Match User bare
                SetEnv PATH=/usr/bin:/bin
            Match User *,!bare
                SetEnv PATH={BUILD}:/usr/bin:/bin
            """)

    def write_client(self):
        key = (self.dir / "host.pub").read_text()
        (self.dir / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}")
        # What follows the command line of a user's own configuration must not get in the way.
        (self.dir / "ssh_config").write_text(f"""
            Host box
                HostName 127.0.0.1
                Port {self.port}
                User root
            Host *
                IdentityFile {self.dir}/user
                IdentitiesOnly yes
                UserKnownHostsFile {self.dir}/known_hosts
                GlobalKnownHostsFile none
                RequestTTY force
                RemoteCommand cat /etc/motd
                LocalForward 127.0.0.1:1 127.0.0.1:1
                ExitOnForwardFailure yes
                SessionType none
                StdinNull yes
                ForkAfterAuthentication yes
                Tunnel yes
                PermitLocalCommand yes
                LocalCommand echo a command of its own
            """)
        self.bin.mkdir()
        ssh = self.bin / "ssh"
        ssh.write_text(f'#!/bin/sh\necho "$$ $*" >>{self.dir}/calls\n'
                       f'exec {shlex.quote(self.client())} -F {self.dir}/ssh_config "$@"\n')
        ssh.chmod(0o755)

    @staticmethod
    def client():
        for directory in os.environ["PATH"].split(":"):
            if os.access(f"{directory}/ssh", os.X_OK):
                return f"{directory}/ssh"
        raise AssertionError("no ssh: run 'make deps'")

    def calls(self):
        """The pid and the arguments of each ssh there was."""
        calls = self.dir / "calls"
        return [line.split(" ", 1) for line in calls.read_text().splitlines()] if calls.exists() else []

    def url(self, path, user="root"):
        return f"ssh://{user}@127.0.0.1:{self.port}{path}"

    def environ(self, path, **kwargs):
        """Of a sandboxctl that is to go to the daemon with this socket."""
        return {"SANDBOXD_SOCKET": self.url(path, **kwargs),
                "PATH": f"{self.bin}:{ENVIRON['PATH']}"}

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None
