"""All there is of a daemon's sandboxes, wherever it can be seen, held against what should be."""

import json
import os
import re
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import grpc
from sandboxd.v1 import sandbox_pb2

from harness import ULID, mounts, network_table, processes, state_name

ALIVE = {"RUNNING", "PAUSED"}
# Words of a runtime's command line that is at work, and not a sandbox of it.
VERBS = {"run", "delete", "pause", "resume", "state", "list", "kill"}
CGROUPS = Path("/sys/fs/cgroup")


def rows(daemon):
    """({id: state}, {id: operation under way}) as they are on the disk."""
    path = daemon.data / "sandboxd.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
        states = {row[0]: row[1].upper() for row in db.execute("SELECT id, state FROM sandbox")}
        return states, dict(db.execute("SELECT sandbox_id, kind FROM operation"))


def containers(daemon):
    """{id: status} as the runtimes know them."""
    found = {}
    for name, runtime in daemon.config["runtimes"].items():
        root = daemon.state / "runtime" / name
        command = [runtime["path"], f"--root={root}", "list", "--format=json"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=20)
        if result.returncode == 0:
            found |= {c["id"]: c["status"].upper() for c in json.loads(result.stdout) or []}
        else:  # runc, when a container goes while it looks
            found[name] = result.stderr
    return found


def cgroup_ids(instance, known):
    """In any hierarchy; of sandboxes that are known also where older versions made them."""
    tops = [top / "sandboxd" for top in (CGROUPS, *CGROUPS.glob("*/"))]
    found = {path.name for top in tops for path in (top / instance).glob("*/")}
    return found | known & {path.name for top in tops for path in top.glob("*/")}


def tree_ids(top):
    """Ids in the names of what lies there: {id: path}."""
    found = {}
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if name not in ("rootfs", "proc")]
        for name in names + files:
            for sandbox_id in re.findall(ULID, name):
                found.setdefault(sandbox_id, f"{directory}/{name}")
    return found


def leases(daemon):
    """{lease: the id of its sandbox, or None} of networks."""
    found = {}
    for directory in (daemon.state / "network").glob("*/"):
        if re.fullmatch(ULID, directory.name):
            owner = directory / "sandbox"
            found[directory.name] = json.loads(owner.read_text())["id"] if owner.exists() else None
    return found


def links(daemon):
    """The interfaces that the packet filter holds for sandboxes."""
    command = ["nft", "-j", "list", "set", "inet", network_table(daemon.state), "links"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    if result.returncode != 0:  # no sandbox of this daemon has had a network
        return []
    sets = [entry["set"] for entry in json.loads(result.stdout)["nftables"] if "set" in entry]
    return [link for found in sets for link in found.get("elem", [])]


def root_problems(daemon, listed):
    """Whoever may write his root has a layer for it, whole, and nobody else."""
    wanted = [s.id for s in listed if s.rootfs == sandbox_pb2.ROOTFS_MODE_OVERLAY]
    found = {path.name: {part.name for part in path.glob("*")}
             for path in (daemon.data / "overlays").glob("*")}
    yield from unequal("overlays", found, {i: {"upper", "work", "image"} for i in wanted})


def mount_problems(daemon, listed):
    """Nothing is mounted but the networks there are, and the roots of those that live."""
    roots = [daemon.state / "bundles" / s.id / "rootfs" for s in listed
             if state_name(s) in ALIVE and s.rootfs == sandbox_pb2.ROOTFS_MODE_OVERLAY]
    networks = [daemon.state / "network" / name / "netns" for name in leases(daemon)]
    yield from unequal("mounts", sorted(mounts(daemon.dir)), sorted(map(str, roots + networks)))


def network_problems(daemon, listed):
    """Whoever lives and shall have a network has one, and nobody else."""
    wanted = [s for s in listed
              if state_name(s) in ALIVE and s.network == sandbox_pb2.NETWORK_MODE_BRIDGE]
    found = leases(daemon)
    yield from unequal("leases", sorted(map(str, found.values())), sorted(s.id for s in wanted))
    yield from unequal("links in the rules", len(links(daemon)), len(wanted))
    yield from (f"{s.id}: it has no address" for s in wanted if not s.addresses)


def process_problems(daemon, alive, instance):
    """Processes that should not be, and runtimes that are still at work."""
    for pid, command in processes([str(daemon.dir), instance]):
        if pid == daemon.process.pid:
            continue
        try:
            cgroup = Path(f"/proc/{pid}/cgroup").read_text()
        except OSError:
            continue  # it has ended meanwhile
        if not alive & set(re.findall(ULID, command + cgroup)):
            yield f"process {pid}: {command}"
        elif VERBS & set(command.split()):
            yield f"runtime {pid}: {command}"


def state_problems(listed, expected):
    states = {s.id: state_name(s) for s in listed}
    for sandbox in listed:
        if sandbox.HasField("operation"):
            kind = sandbox_pb2.OperationKind.Name(sandbox.operation.kind)
            yield f"{sandbox.id}: {kind} is under way: {sandbox.operation.step}"
        if sandbox.id not in expected:
            yield f"{sandbox.id}: {states[sandbox.id]}, and should be gone"
    for sandbox_id, allowed in expected.items():
        state = states.get(sandbox_id, "GONE")
        if state not in allowed:
            reason = next((s.reason for s in listed if s.id == sandbox_id), "")
            yield f"{sandbox_id}: {state}, not {'/'.join(sorted(allowed))}: {reason}"


def get_problems(api, listed):
    for sandbox in listed:
        got = api.get(sandbox.id)
        got.env.clear()
        if got != sandbox:
            yield f"{sandbox.id}: Get and List differ: {got} {sandbox}"


def unequal(what, found, wanted):
    if found != wanted:
        yield f"{what}: {found}, not {wanted}"


def differences(daemon, expected, kept=()):
    """What is not as it should be, for people. expected: of each sandbox's id the states in which
    it may be; kept: ids of the workspaces that outlived their sandboxes."""
    api = daemon.api
    listed = api.list()
    states = {s.id: state_name(s) for s in listed}
    alive = {i: state for i, state in states.items() if state in ALIVE}
    instance = api.info().instance
    found = [*state_problems(listed, expected), *get_problems(api, listed)]
    on_disk, operations = rows(daemon)
    found += unequal("rows", on_disk, states)
    found += unequal("rows of operations", operations, {})
    found += unequal("containers", containers(daemon), alive)
    found += unequal("cgroups", cgroup_ids(instance, set(states)), set(alive))
    found += network_problems(daemon, listed)
    found += root_problems(daemon, listed)
    found += mount_problems(daemon, listed)
    for directory, wanted in {"workspaces": states, "kept": kept}.items():
        there = {path.name for path in (daemon.data / directory).glob("*")}
        found += unequal(directory, there, set(wanted))
    bundles = {path.name for path in (daemon.state / "bundles").glob("*")}
    found += unequal("bundles", bundles, set(alive))
    on_state = {*alive, *leases(daemon)}
    for top, wanted in {daemon.data: {*states, *kept}, daemon.state: on_state}.items():
        found += [f"left: {path}" for i, path in tree_ids(top).items() if i not in wanted]
    found += process_problems(daemon, set(alive), instance)
    return found


def converges(daemon, expected, kept=(), seconds=20):
    """Until everything is as it should be."""
    end = time.monotonic() + seconds
    while True:
        try:
            found = differences(daemon, expected, kept)
        except grpc.RpcError as e:
            found = [f"{e.code()}: {e.details()}"]
        if not found:
            return
        assert time.monotonic() < end, f"not within {seconds} s: {found}"
        time.sleep(0.05)


def is_settled(api):
    """It answers, and nothing is under way."""
    try:
        return not any(s.HasField("operation") for s in api.list())
    except grpc.RpcError:
        return False
