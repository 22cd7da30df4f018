"""A database and a sandbox as the first version made them. The daemon is killed at every step of the
way to the present schema."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from harness import find_runtime, identity, wait_until
from test_crash_points import PROGRAM
from world import converges

# In one line, as it wrote it: the tables found are compared letter by letter.
SCHEMA_1 = "".join("""\
CREATE TABLE sandbox (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  runtime TEXT NOT NULL,
  image TEXT NOT NULL,
  env TEXT NOT NULL,
  memory INTEGER NOT NULL,
  cpu_millis INTEGER NOT NULL,
  pids INTEGER NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  pid INTEGER NOT NULL,
  pid_start_time INTEGER NOT NULL,
  boot_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  started_at INTEGER NOT NULL
) STRICT;
PRAGMA journal_mode = WAL;
PRAGMA user_version = 1;
""".splitlines())
FLAGS = {"runc": [], "runsc": ["--host-uds=create", "--network=none", "--overlay2=none",
                               "--platform=systrap"]}
FAILPOINTS = ["migrate.backup", "migrate.begun", "migrate.saved"]


def millis(timestamp):
    return timestamp.seconds * 1000 + timestamp.nanos // 1000000


def save_as_version_1(daemon, sandbox, state, reason="", who=(0, 0)):
    resources = sandbox.resources
    env = json.dumps([f"{k}={v}" for k, v in sandbox.env.items()])
    row = (sandbox.id, sandbox.name, sandbox.runtime, sandbox.image, env, resources.memory_bytes,
           resources.cpu_millis, resources.pids, state, reason, *who, "",
           millis(sandbox.created_at), millis(sandbox.started_at))
    with closing(sqlite3.connect(daemon.data / "sandboxd.db")) as db, db:
        db.execute(f"INSERT INTO sandbox VALUES ({','.join('?' * len(row))})", row)


def run_as_version_1(daemon, sandbox, like):
    """The container that the first version made: its cgroup lies elsewhere, it has no marks. Its
    bundle is like this one."""
    bundle = daemon.state / "bundles" / sandbox.id
    root = daemon.state / "runtime" / sandbox.runtime
    for directory in (bundle.parent, root):
        directory.mkdir(0o700, parents=True)
    shutil.copytree(like, bundle)
    (bundle / "pid").unlink()
    config = json.loads((bundle / "config.json").read_text())
    config["linux"]["cgroupsPath"] = f"/sandboxd/{sandbox.id}"
    config.pop("annotations", None)
    (bundle / "config.json").write_text(json.dumps(config))
    (daemon.workspace(sandbox) / ".runtimed/sock").unlink(missing_ok=True)
    with open(bundle / "log", "ab") as log:
        subprocess.run([find_runtime(sandbox.runtime), f"--root={root}", *FLAGS[sandbox.runtime],
                        "run", "--detach", f"--bundle={bundle}", f"--pid-file={bundle / 'pid'}",
                        sandbox.id], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True,
                       timeout=20)
    wait_until((daemon.workspace(sandbox) / ".runtimed/sock").exists, "its supervisor")
    return identity(daemon.init_pid(sandbox))


@pytest.fixture
def old(make_daemon, runtime, tmp_path):
    """A daemon that was never started on what the first version left: (daemon, sandboxes by name,
    who the running one's main process is)."""
    if not PROGRAM.exists():
        pytest.skip(f"no daemon with failpoints: make FAILPOINTS=1 BUILD={PROGRAM.parent}")
    path = find_runtime(runtime)
    daemon = make_daemon(program=PROGRAM, runtime=runtime,
                         runtimes={runtime: {"type": runtime, "path": path}})
    made = {}
    for name in ("running", "stopped", "failed"):
        made[name] = daemon.api.create(name=name, env={"NAME": name})
        daemon.api.sh(name, "echo kept >file")
    bundle = shutil.copytree(daemon.state / "bundles" / made["running"].id, tmp_path / "bundle")
    for name in made:
        daemon.api.stop(name)
    daemon.stop()
    shutil.rmtree(daemon.state)
    daemon.state.mkdir(0o700)
    for file in daemon.data.glob("sandboxd.db*"):
        file.unlink()
    with closing(sqlite3.connect(daemon.data / "sandboxd.db")) as db:
        db.executescript(SCHEMA_1)
    os.chmod(daemon.data / "sandboxd.db", 0o600)
    who = run_as_version_1(daemon, made["running"], bundle)
    save_as_version_1(daemon, made["running"], "running", who=who)
    save_as_version_1(daemon, made["stopped"], "stopped")
    save_as_version_1(daemon, made["failed"], "failed", reason="of old")
    return daemon, made, who


def cells():
    for runtime in ("runc", "runsc"):
        for failpoint in FAILPOINTS:
            mark = pytest.mark.crash_point("migrate", failpoint, runtime)
            yield pytest.param(runtime, failpoint, marks=mark)


@pytest.mark.parametrize("runtime, failpoint", cells(), indirect=["runtime"])
def test_crash(old, failpoint):
    daemon, made, who = old
    for _ in range(2):  # where it has come by already, the second is an ordinary start
        daemon.launch(SANDBOXD_FAILPOINT=failpoint)
        wait_until(lambda: not daemon.is_running() or daemon.is_listening(), "an end")
        if daemon.is_running():
            assert failpoint == "migrate.saved"
            daemon.process.kill()
        assert daemon.process.wait(20) == -signal.SIGKILL
    daemon.start()
    converges(daemon, {made[name].id: {name.upper()} for name in made})
    api = daemon.api
    assert identity(daemon.init_pid(made["running"])) == who
    assert api.sh("running", "cat file; echo $NAME") == "kept\nrunning\n"
    assert api.get("failed").reason == "of old"
    assert api.get("stopped").created_at == made["stopped"].created_at
    backup = daemon.data / "sandboxd.db.v1.backup"
    with closing(sqlite3.connect(f"file:{backup}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA user_version").fetchall() == [(1,)]
        assert db.execute("SELECT count(*) FROM sandbox").fetchall() == [(3,)]
    for name in made:
        api.stop(name)
    converges(daemon, {made[name].id: {"STOPPED"} for name in made})
    for name in made:
        api.start(name)
        assert api.sh(name, "cat file; echo $NAME") == f"kept\n{name}\n"
