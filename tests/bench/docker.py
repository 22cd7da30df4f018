"""A Docker Engine of the benchmark's own, with one container."""

import subprocess

from dockerd import PATH, ROOT, Dockerd
from harness import ENVIRON

IMAGE = "bench"


class Docker(Dockerd):
    """The containers have no network, which costs time that a sandbox does not take either."""

    def __init__(self, rootfs):
        """rootfs: of the container."""
        super().__init__()
        self.container = None
        try:
            self.start()
            self.load(rootfs, IMAGE)
            self.container = self.run("sleep", "1000000")
        except BaseException:
            self.destroy()
            raise

    def command(self, *args):
        """As a user types it."""
        return [ROOT / "usr/bin/docker", f"--host=unix://{self.socket}", *map(str, args)]

    def ask(self, *args):
        """What the client prints."""
        return subprocess.run(self.command(*args), check=True, stdout=subprocess.PIPE, text=True,
                              timeout=60, env=ENVIRON | {"PATH": PATH}).stdout.strip()

    def run(self, *command):
        """The id of a container that runs it."""
        return self.ask("run", "--detach", "--network=none", IMAGE, *command)

    def exec_command(self, *args):
        return self.command("exec", self.container, *args)
