"""What bears this daemon's mark and belongs to no sandbox is cleared away; nothing else is."""

import json
import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest
from sandboxd.v1 import sandbox_pb2

from harness import cgroups, find_runtime, identity, mounts, wait_until

pytestmark = pytest.mark.oci_only("makes bundles and runs them with the runtime's program")

ORPHAN = "01" + "0" * 24
FOREIGN = "01" + "0" * 23 + "1"
SECONDS = 40  # some 20 of quarantine, and a few rounds
MARK = "io.sandboxd.instance"
FLAGS = {"runc": [], "runsc": ["--host-uds=create", "--network=none", "--overlay2=none",
                               "--platform=systrap"]}


def bundle_like(daemon, sandbox, new_id, **annotations):
    """That of a sandbox, as if it had been made for another."""
    bundle = daemon.state / "bundles" / new_id
    shutil.copytree(daemon.state / "bundles" / sandbox.id, bundle)
    (bundle / "pid").unlink(missing_ok=True)
    text = (bundle / "config.json").read_text().replace(sandbox.id, new_id)
    config = json.loads(text)
    config["annotations"] |= annotations
    config["process"]["args"] = ["sleep", "100000"]
    (bundle / "config.json").write_text(json.dumps(config))
    workspace = daemon.data / "workspaces" / new_id
    workspace.mkdir()
    os.chown(workspace, 1000, 1000)
    (workspace / "precious").write_text(new_id)
    return bundle


def run_bundle(daemon, runtime, bundle):
    """Its main process."""
    root = daemon.state / "runtime" / runtime
    with open(bundle / "log", "ab") as log:
        subprocess.run([find_runtime(runtime), f"--root={root}", *FLAGS[runtime], "run", "--detach",
                        f"--bundle={bundle}", f"--pid-file={bundle / 'pid'}", bundle.name],
                       stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, timeout=20)
    return identity(int((bundle / "pid").read_text()))


def kept_copies(daemon, of):
    """Files of its workspace, wherever they were put."""
    return [p for p in daemon.data.glob("**/precious") if p.read_text() == of]


def orphan_events(api):
    return [e for e in api.events() if e.kind == sandbox_pb2.EVENT_KIND_ORPHAN]


def test_orphan(daemon, api, sandbox, runtime, make_daemon):
    neighbour = make_daemon()
    other = neighbour.api.create(runtime=runtime)
    assert neighbour.api.info().instance != api.info().instance
    bystanders = [(daemon, sandbox), (neighbour, other)]
    before = [identity(d.init_pid(s)) for d, s in bystanders]
    last = max(e.sequence for e in api.events())

    bundle = bundle_like(daemon, sandbox, ORPHAN)
    main = run_bundle(daemon, runtime, bundle)
    assert main and cgroups({ORPHAN})
    wait_until(lambda: not identity(main[0]), "its end", seconds=SECONDS)
    wait_until(lambda: not bundle.exists() and not cgroups({ORPHAN}), "its traces", seconds=10)
    assert not [p for p in daemon.state.glob("runtime/*/*") if ORPHAN in p.name]

    # What it had written may be worth something: it is put aside.
    wait_until(lambda: not (daemon.data / "workspaces" / ORPHAN).exists(), "its workspace",
               seconds=SECONDS)
    [precious] = kept_copies(daemon, ORPHAN)
    told = wait_until(lambda: orphan_events(api), "an event")
    assert {e.sandbox_id for e in told} == {ORPHAN}
    assert all(e.sequence > last and e.reason for e in told)
    counted = api.metrics().all("sandboxd_orphans_total")
    assert sorted(counted.values()) == [1, 1]  # removed, and put aside
    assert [identity(d.init_pid(s)) for d, s in bystanders] == before
    assert api.sh(sandbox.id, "echo up") == neighbour.api.sh(other.id, "echo up") == "up\n"
    shutil.rmtree(precious.parent)


def test_what_is_not_ours(daemon, api, sandbox, make_daemon):
    """Another instance's container in our directories, and another daemon's in its own."""
    neighbour = make_daemon()
    other = neighbour.api.create()
    before = identity(neighbour.init_pid(other))
    bundle = bundle_like(daemon, sandbox, FOREIGN, **{MARK: neighbour.api.info().instance})
    (daemon.state / "bundles" / "notes").mkdir()
    # One of ours, so that it is known when there was a round.
    orphan = bundle_like(daemon, sandbox, ORPHAN)
    shutil.rmtree(daemon.data / "workspaces" / ORPHAN)
    shutil.rmtree(daemon.data / "workspaces" / FOREIGN)
    wait_until(lambda: not orphan.exists(), "the orphan's end", seconds=SECONDS)
    time.sleep(5)
    assert (bundle / "config.json").exists()
    assert (daemon.state / "bundles" / "notes").exists()
    assert identity(neighbour.init_pid(other)) == before
    assert {e.sandbox_id for e in orphan_events(api)} == {ORPHAN}
    shutil.rmtree(bundle)


def test_orphan_of_a_crash(daemon, api, runtime):
    """A row that is lost with its sandbox alive, as in a database of yesterday that was accepted."""
    box = api.create(runtime=runtime, rootfs=sandbox_pb2.ROOTFS_MODE_OVERLAY)
    api.sh(box.id, "echo written >/etc/motd")
    main = identity(daemon.init_pid(box))
    daemon.kill()
    with closing(sqlite3.connect(daemon.data / "sandboxd.db")) as db, db:
        db.execute("DELETE FROM sandbox WHERE id = ?", (box.id,))
    daemon.start()
    wait_until(lambda: identity(main[0]) is None, "its end", seconds=SECONDS)
    wait_until(lambda: not (daemon.data / "workspaces" / box.id).exists(), "its workspace",
               seconds=SECONDS)
    wait_until(lambda: not (daemon.data / "overlays" / box.id).exists(), "its root", seconds=10)
    written, = daemon.data.glob(f"quarantine/{box.id}.root.*/upper/etc/motd")
    assert written.read_text() == "written\n"
    assert box.id in {e.sandbox_id for e in orphan_events(daemon.api)}
    assert not mounts(daemon.dir)
    for path in daemon.data.glob(f"*/*{box.id}*"):
        shutil.rmtree(path)
