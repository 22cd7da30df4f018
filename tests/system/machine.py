"""A Debian of its own with a real systemd, in a container of systemd-nspawn.

What it changes lies in a tmpfs over the tree that `make deps` fetched. Its cgroups are the host's:
where those are of version 1 the container sees them read-only, and we open them for it; those of its
sandboxes are removed at the end."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from harness import DEPS, ULID, cgroups, wait_until

HOST = DEPS / "host"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="sandboxd-system-"))
        self.root = self.dir / "root"
        self.name = f"sandboxd-{os.getpid()}"
        self.container = None
        self.leader = None  # its PID 1, as the host knows it
        self.seen = ""      # all that its journal ever showed
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.dir], check=True, timeout=20)
        for name in ("root", "upper", "work"):
            (self.dir / name).mkdir()
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                        f"lowerdir={HOST},upperdir={self.dir}/upper,workdir={self.dir}/work",
                        self.root], check=True, timeout=20)
        (self.root / "var/log/journal").mkdir(parents=True, exist_ok=True)

    # --- power ---

    def boot(self):
        console = open(self.dir / "console", "ab")
        self.container = subprocess.Popen(
            ["systemd-nspawn", "-D", self.root, "-M", self.name, "--register=no", "--keep-unit",
             "--private-network", "--capability=all", "--system-call-filter=@known",
             "--console=pipe", "--boot"],
            stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        console.close()
        self.leader = wait_until(self.find_leader, "a PID 1", 60)
        wait_until(lambda: self.run("systemctl", "is-system-running").stdout.strip() in
                   ("running", "degraded"), "the end of the boot", 120)
        self.sh("for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do"
                " mount -o remount,bind,rw $d 2>/dev/null || true; done")

    def find_leader(self):
        """Once systemd runs there."""
        task = f"/proc/{self.container.pid}/task/{self.container.pid}/children"
        for pid in Path(task).read_text().split():
            try:
                if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                    return int(pid)
            except OSError:
                pass  # it has ended meanwhile
        return None

    def power_off(self):
        self.journal()
        self.run("systemctl", "--no-block", "poweroff")
        assert self.container.wait(120) == 0
        self.container = None

    def destroy(self):
        """Whatever the state of things; returns what is left."""
        ids = set(re.findall(rf"\b{ULID}\b", self.journal()))
        if self.container:
            self.container.send_signal(signal.SIGTERM)
            try:
                self.container.wait(20)
            except subprocess.TimeoutExpired:
                self.container.kill()
                self.container.wait(20)
        for path in cgroups(ids):
            try:
                path.rmdir()
            except OSError:
                pass  # it is told below
        left = [f"cgroup {path}" for path in cgroups(ids)]
        subprocess.run(["umount", "-l", self.root], check=True, timeout=20)
        subprocess.run(["umount", "-l", self.dir], check=True, timeout=20)
        shutil.rmtree(self.dir)
        shutil.rmtree(Path("/run/systemd/nspawn/propagate") / self.name, ignore_errors=True)
        return left

    # --- what is done there ---

    def command(self, *args):
        return ["nsenter", "--target", str(self.leader), "--mount", "--uts", "--ipc", "--net",
                "--pid", "--cgroup", "--root", "--wd", "env", "-i", f"PATH={PATH}",
                "DEBIAN_FRONTEND=noninteractive", *args]

    def run(self, *args, timeout=60):
        return subprocess.run(self.command(*args), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout)

    def sh(self, script, timeout=60):
        """What it prints; it must succeed."""
        result = self.run("sh", "-ec", script, timeout=timeout)
        assert result.returncode == 0, f"{script}: {result.stdout}{result.stderr}"
        return result.stdout

    def ctl(self, *args):
        return self.run("sandboxctl", *args)

    def put(self, file, path):
        shutil.copy(file, self.root / path.lstrip("/"))

    def install(self, package):
        self.put(package, "/root/sandboxd.deb")
        self.sh("dpkg -i /root/sandboxd.deb && rm /root/sandboxd.deb", timeout=120)

    def show(self, unit, name):
        return self.sh(f"systemctl show --property={name} --value {unit}").strip()

    def is_alive(self, pid):
        return self.run("test", "-e", f"/proc/{pid}").returncode == 0

    def journal(self, *options):
        if self.container and self.container.poll() is None:
            text = self.run("journalctl", "--no-pager", "--output=short-monotonic", *options).stdout
            self.seen += text
            return text
        return self.seen

    @property
    def socket(self):
        """Of the daemon, for clients on the host."""
        return f"/proc/{self.leader}/root/run/sandboxd/sandboxd.sock"

    def files(self):
        """All that lies there, but for what systemd, dpkg and the kernel keep for themselves."""
        skipped = ("/proc", "/sys", "/dev", "/tmp", "/run/systemd", "/run/udev", "/run/log",
                   "/var/log", "/var/cache", "/var/lib/dpkg", "/var/lib/systemd", "/run/credentials",
                   "/run/initctl", "/run/dbus", "/run/user", "/run/host", "/var/tmp")
        pruned = " -o ".join(f"-path {path}" for path in skipped)
        return set(self.sh(f"find / \\( {pruned} \\) -prune -o -print").splitlines())
