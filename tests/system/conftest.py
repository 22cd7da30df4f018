"""The tests of this directory are one story, told in order, of one machine."""

import shutil
import subprocess

import pytest

from harness import BUILD, find_runtime
from machine import HOST, Machine

pytest_plugins = ["daemon_fixtures"]

MACHINE = pytest.StashKey[Machine]()


def pytest_configure(config):
    config.stash[MACHINE] = None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    machine = item.config.stash[MACHINE]
    if report.failed and machine:
        report.sections.append(("journal of the machine", machine.journal("-u", "sandboxd*")[-20000:]))


@pytest.fixture(scope="session")
def machine(request, root):
    if not HOST.exists() or not shutil.which("systemd-nspawn"):
        pytest.skip("there is no Debian to boot, or no systemd-nspawn: run 'make deps'")
    machine = request.config.stash[MACHINE] = Machine()
    try:
        if find_runtime("runsc"):
            machine.put(find_runtime("runsc"), "/usr/bin/runsc")
        machine.boot()
        yield machine
    finally:
        left = machine.destroy()
    assert left == []


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """Of the package as it was built, and of one with a higher version: a path."""
    built, = (BUILD / "deb").glob("sandboxd_*.deb")
    directory = tmp_path_factory.mktemp("higher")
    subprocess.run(["dpkg-deb", "-R", built, directory / "tree"], check=True, timeout=60)
    control = directory / "tree/DEBIAN/control"
    lines = ["Version: 99.0" if line.startswith("Version:") else line
             for line in control.read_text().splitlines()]
    control.write_text("\n".join(lines) + "\n")
    subprocess.run(["dpkg-deb", "-b", directory / "tree", directory / "higher.deb"], check=True,
                   stdout=subprocess.DEVNULL, timeout=120)
    return {"built": built, "higher": directory / "higher.deb"}
