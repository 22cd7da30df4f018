"""A Docker Engine of the benchmark's own, with one container."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from harness import cgroups

START_MAX = 30  # seconds, until it answers
PROGRAMS = "containerd", "dockerd", "docker"
# They make these wherever else they are told to live; the innermost first.
COMMON = [Path("/run") / name for name in ("docker/plugins", "docker", "containerd/s", "containerd")]


def lacking():
    """Those of its programs that are not there."""
    return [program for program in PROGRAMS if not shutil.which(program)]


class Docker:
    """In private directories, and without networks, so that the host's firewall stays as it is."""

    def __init__(self, rootfs):
        """rootfs: of the container."""
        self.dir = Path(tempfile.mkdtemp(prefix="docker-"))
        self.log_file = self.dir / "log"
        self.cgroup = f"sandboxd-bench-{os.getpid()}"
        self.made = [path for path in COMMON if not path.exists()]
        self.servers = []
        self.container = None
        try:
            self.start()
            self.run_container(rootfs)
        except BaseException:
            self.destroy()
            raise

    def start(self):
        containerd, config = self.dir / "containerd.sock", self.dir / "config.json"
        config.write_text("{}")  # and not the host's
        self.serve("containerd", "--config=/dev/null", f"--address={containerd}",
                   f"--root={self.dir}/containerd", f"--state={self.dir}/containerd-state")
        self.serve("dockerd", f"--config-file={config}", f"--host=unix://{self.dir}/sock",
                   f"--containerd={containerd}", f"--data-root={self.dir}/data",
                   f"--exec-root={self.dir}/exec", f"--pidfile={self.dir}/pid",
                   f"--cgroup-parent=/{self.cgroup}", "--storage-driver=vfs", "--bridge=none",
                   "--iptables=false", "--ip6tables=false", "--ip-forward=false",
                   "--ip-masq=false")
        end = time.monotonic() + START_MAX
        while subprocess.run(self.command("version"), capture_output=True).returncode != 0:
            assert time.monotonic() < end, f"dockerd does not answer: {self.log_file.read_text()}"
            time.sleep(0.1)

    def serve(self, *command):
        with open(self.log_file, "ab") as log:
            self.servers.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                                 stderr=log))

    def command(self, *args):
        return ["docker", f"--host=unix://{self.dir}/sock", *map(str, args)]

    def ask(self, *args, **kwargs):
        """What the client prints."""
        return subprocess.run(self.command(*args), check=True, stdout=subprocess.PIPE, text=True,
                              timeout=60, **kwargs).stdout.strip()

    def run_container(self, rootfs):
        with subprocess.Popen(["tar", "-C", rootfs, "-c", "."], stdout=subprocess.PIPE) as tar:
            image = self.ask("import", "-", stdin=tar.stdout)
        self.container = self.ask("run", "--detach", "--network=none", image, "sleep", "1000000")

    def exec_command(self, *args):
        return self.command("exec", self.container, *args)

    def destroy(self):
        """Nothing of it stays."""
        if self.container:
            self.ask("rm", "--force", self.container)
        for server in reversed(self.servers):
            server.terminate()
            server.wait(30)
        for path in cgroups([self.cgroup]):
            path.rmdir()
        for path in self.made:
            if path.exists() and not any(path.iterdir()):
                path.rmdir()
        shutil.rmtree(self.dir)
