"""Fixtures of all tests that make sandboxes. A test's daemon must leave nothing behind."""

import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from dockerd import DockerEngine, Dockerd
from harness import DEPS, Daemon, Oci, find_runtime

STRICT = os.environ.get("STRICT") == "1"
DAEMONS = pytest.StashKey[list]()

# In the background of a shell, or by nohup, these are ignored, and so they would be in all that a test
# starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for daemon in item.stash.get(DAEMONS, []):
            report.sections.append(("log of sandboxd", daemon.log()[-20000:]))
    if report.skipped and STRICT:
        report.outcome = "failed"
        report.longrepr = f"skipped, which STRICT=1 does not allow: {report.longrepr[2]}"


@pytest.fixture(scope="session", autouse=True)
def root():
    if os.geteuid() != 0:
        pytest.exit("the end-to-end tests make real sandboxes: run them as root", 1)


@pytest.fixture(scope="session")
def dockerd():
    """The one that all tests share which do it no harm."""
    dockerd = Dockerd()
    try:
        dockerd.start()
        dockerd.load_busybox()
        yield dockerd
    finally:
        dockerd.destroy()


@pytest.fixture
def engine(request):
    """The other side of the matrix, for those who ask for it with parametrize."""
    docker_only = request.node.get_closest_marker("docker_only")
    if not docker_only and getattr(request, "param", "oci") == "oci":
        return Oci()
    return DockerEngine(request.getfixturevalue("dockerd"))


@pytest.fixture
def make_daemon(request, engine):
    """Makes daemons with keys of their own in the configuration; start=False: not started yet; of:
    the class; on: the engine."""
    daemons = request.node.stash[DAEMONS] = []

    def make(start=True, of=Daemon, on=engine, **config):
        daemon = of(on=on, **config)
        daemons.append(daemon)
        if start:
            daemon.start()
        return daemon

    yield make
    left = []
    try:
        for daemon in daemons:
            left += daemon.finish()
        for daemon in daemons:
            left += daemon.engine.leftovers()
    finally:
        for daemon in daemons:
            daemon.destroy()
            daemon.engine.clean()
    assert left == []


@pytest.fixture
def daemon(make_daemon):
    return make_daemon()


@pytest.fixture
def mounted(make_daemon):
    """A daemon whose data directory lies on a file system of its own, as `mount ARGS` has it."""
    made = []

    def make(*args, **config):
        daemon = make_daemon(start=False, **config)
        daemon.data.mkdir()
        subprocess.run(["mount", *args, daemon.data], check=True)
        made.append(daemon)
        daemon.start()
        return daemon

    yield make
    for daemon in made:
        for sandbox in daemon.api.list():
            daemon.remove(sandbox)
        daemon.stop()
        daemon.process = None
        subprocess.run(["umount", daemon.data], check=True)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 48 MiB of its own, without a part that is root's alone."""
    image, point = tmp_path / "disk", tmp_path / "mounted"
    point.mkdir()
    with open(image, "wb") as f:
        f.truncate(48 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True, timeout=60)
    if subprocess.run(["mount", "-o", "loop", image, point], timeout=60).returncode != 0:
        pytest.skip("no loop device can be mounted here")
    yield point
    subprocess.run(["umount", "-l", point], check=True, timeout=60)


@pytest.fixture
def api(daemon):
    return daemon.api


@pytest.fixture
def ctl(daemon):
    return daemon.ctl


@pytest.fixture(params=["runc", "runsc"])
def runtime(request):
    """The matrix. A test that is to run on other runtimes too names them with parametrize."""
    if not find_runtime(request.param):
        pytest.skip(f"no {request.param} on this machine: run 'make deps'")
    return request.param


@pytest.fixture
def sandbox(api, runtime):
    return api.create(runtime=runtime)


@pytest.fixture
def make_image(daemon):
    """An image like the default one; its root file system, to be changed before the end of `with`."""
    @contextmanager
    def make(name="own", **config):
        rootfs = daemon.engine.image(daemon, name)
        shutil.copytree(daemon.engine.busybox(daemon), rootfs, symlinks=True)
        (rootfs / "tmp").chmod(0o1777)
        yield rootfs
        daemon.engine.publish(daemon, name, rootfs, config)

    return make


@pytest.fixture
def dev_image(engine):
    """What `make image-dev` has made, as a create names it."""
    if not (DEPS / "image-dev.stamp").exists():
        pytest.skip("no development image: run 'make image-dev'")
    return engine.dev_image()


@pytest.fixture
def pool():
    """For calls that wait."""
    with ThreadPoolExecutor(32) as pool:
        yield pool


@pytest.fixture
def host_process():
    """Starts processes on the host that end with the test."""
    started = []

    def start(*args):
        started.append(subprocess.Popen(args))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(20)
