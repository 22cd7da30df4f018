"""A Docker Engine of the benchmark's own, with one container."""

import subprocess

from dockerd import PATH, ROOT, Dockerd
from harness import ENVIRON


class Docker(Dockerd):
    """The containers have no network, which costs time that a sandbox does not take either."""

    def __enter__(self):
        try:
            self.start()
            self.load_busybox()
            self.container = self.run_detached("runc", "sleep", "1000000")
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(self, *_):
        self.destroy()

    def command(self, *args):
        """As a user types it."""
        return [ROOT / "usr/bin/docker", f"--host=unix://{self.socket}", *map(str, args)]

    def run_detached(self, runtime, *command):
        """The id of a container that runs it."""
        return subprocess.run(
            self.command("run", "--detach", "--network=none", f"--runtime={runtime}", "busybox",
                         *command),
            check=True, stdout=subprocess.PIPE, text=True, env=ENVIRON | {"PATH": PATH}).stdout.strip()

    def exec_command(self, *args):
        return self.command("exec", self.container, *args)
