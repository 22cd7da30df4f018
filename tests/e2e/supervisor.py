"""A sandbox's supervisor as the host sees it. Under runc only: under gVisor it is no process of the
host."""

import os
import re
from pathlib import Path

from harness import resident, stats


class Supervisor:
    def __init__(self, daemon, sandbox):
        self.pid = daemon.init_pid(sandbox)
        self.directory = daemon.workspace(sandbox) / ".runtimed"

    def memory(self):
        return resident(self.pid)

    def memory_max(self):
        return resident(self.pid, "VmHWM")

    def switches(self):
        """How often it was taken off a processor: never while it sleeps."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return sum(int(n) for n in re.findall(r"ctxt_switches:\s*(\d+)", text))

    def fds(self):
        for fd in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                yield fd, os.readlink(fd)
            except FileNotFoundError:
                pass  # closed meanwhile

    def descriptors(self):
        """What it has open: {what: how many}, without numbers."""
        found = {}
        for _, target in self.fds():
            what = re.sub(r"\d+", "", target)
            found[what] = found.get(what, 0) + 1
        return found

    def deleted(self):
        """Bytes on the disk in files without a name."""
        return sum(os.stat(fd).st_blocks * 512 for fd, target in self.fds()
                   if "(deleted)" in target)

    def files(self):
        """What lies beside its socket, by name."""
        return {path.name for path in self.directory.iterdir()} - {"sock"}

    def zombies(self):
        return [pid for pid, parent in stats("Z") if parent == self.pid]
