"""HostService.Doctor and `sandboxctl doctor`."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import grpc
import pytest
from sandboxd.v1 import host_pb2

from harness import (ENVIRON, BUILD, Daemon, become, fill, find_runtime, refused, runtimes,
                     wait_until, within)
from shim import Shim, deaf_runsc

pytestmark = pytest.mark.oci_only("looks at the runtime programs; for Docker see test_docker.py")

HOST = ["kernel", "kernel.namespaces", "kernel.seccomp", "cgroups", "memory", "limits.nofile",
        "limits.files", "limits.pids", "limits.inotify", "clock", "socket", "directories",
        "disk.data", "disk.state", "locks", "runtimed", "image", "rootfs.overlay", "network.plugins",
        "network.filter", "network.subnets", "network.forward", "store"]


def begin(daemon, timeout=90, **fields):
    request = host_pb2.HostServiceDoctorRequest(**fields)
    return daemon.api.hosts.Doctor(request, timeout=timeout)


def status(finding):
    return host_pb2.FindingStatus.Name(finding.status).removeprefix("FINDING_STATUS_")


def examine(daemon, **fields):
    """{id: finding}; each comes once and is whole."""
    found = {}
    for response in begin(daemon, **fields):
        finding = response.finding
        assert finding.id not in found
        assert finding.found and finding.why, finding
        assert (finding.repair == "") == (status(finding) == "OK"), finding
        found[finding.id] = finding
    return found


def until(call, id):
    """Reads findings up to this one, which it returns."""
    for response in call:
        if response.finding.id == id:
            return response.finding
    raise AssertionError(f"it ended before {id}")


def only(name, path, type=None):
    """A configuration whose default is this runtime, beside the ones that are always there."""
    return {"runtime": name, "runtimes": runtimes() | {name: {"type": type or name,
                                                              "path": str(path)}}}


def no_sandbox(daemon):
    wait_until(lambda: not list(daemon.api.list()), "the sandbox that was tried is gone", 20)


def test_a_host_that_is_well(daemon):
    """With what each machine has: a clock that nothing keeps, low limits of open files and
    of what watches files, runtimes of its distribution."""
    found = examine(daemon)
    assert list(found)[:len(HOST)] == HOST and list(found)[-1] == "dns.servers"
    assert [f for f in found.values() if status(f) == "FAIL"] == []
    assert {f.id for f in found.values() if status(f) == "WARN"} <= {
        "limits.nofile", "limits.inotify", "clock", "memory", "disk.data", "network.forward",
        "runtime.runc.version", "runtime.runsc.version", "runtime.runsc-r22.version", "runtime.runsc-r22.platform"}
    for name in runtimes():
        for what in "program", "sandbox", "socket", "dns", "removal":
            assert status(found[f"runtime.{name}.{what}"]) == "OK"
    assert list(daemon.api.list()) == []


def test_under_each_runtime(daemon, runtime):
    found = examine(daemon)
    assert re.search(r"up after \d+ ms", found[f"runtime.{runtime}.sandbox"].found)
    assert ("--host-uds=create" in found[f"runtime.{runtime}.socket"].found) == (runtime == "runsc")
    if runtime == "runsc":
        assert found["runtime.runsc.platform"].found == "systrap"
        assert found["runtime.runsc.network"].found.startswith("gVisor's own stack: ")
    else:
        assert "runtime.runc.platform" not in found


def test_versions_with_known_holes(make_daemon, tmp_path):
    """Debian 12's runc, as it tells of itself, and gVisor's first with systrap."""
    for name, text in (("runc", "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1"),
                       ("runsc", "runsc version 0.0~20240729.0")):
        wrapper = tmp_path / name
        wrapper.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{text}" && exit\n'
                           f'exec {find_runtime(name)} "$@"\n')
        wrapper.chmod(0o755)
    daemon = make_daemon(runtimes={name: {"path": str(tmp_path / name)}
                                   for name in ("runc", "runsc")})
    found = examine(daemon)
    runc, runsc = found["runtime.runc.version"], found["runtime.runsc.version"]
    assert status(runc) == status(runsc) == "WARN"
    for cve in "CVE-2024-45310", "CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881":
        assert cve in runc.found
    assert "CVE-2024-21626" not in runc.found  # Debian has repaired that one in this package
    assert "1.1.5+ds1-1+deb12u1" in runc.found and "1.3.3" in runc.repair
    assert "CVE-2025-2713" in runsc.found and "20250319" in runsc.repair


@pytest.mark.parametrize("runtime", ["runsc", "runsc-r22"], indirect=True)
def test_a_wrapper_that_drops_the_flag(make_daemon, runtime, tmp_path):
    wrapper = deaf_runsc(tmp_path, runtime)
    daemon = make_daemon(defaults={"start_timeout": "3s"}, **only("deaf", wrapper, "runsc"))
    found = examine(daemon)["runtime.deaf.sandbox"]
    assert status(found) == "FAIL"
    assert "--host-uds=create" in found.found and "runtimes: {deaf: {path:" in found.repair
    no_sandbox(daemon)


def test_another_resolv_conf_inside(make_daemon, tmp_path):
    """A program in front of the runtime leaves the file out."""
    wrapper = tmp_path / "runc"
    wrapper.write_text('#!/bin/sh\n'
                       'for a; do case $a in --bundle=*)\n'
                       '        sed -i s,/etc/resolv.conf,/tmp/elsewhere, "${a#*=}/config.json" ;;\n'
                       'esac; done\n'
                       f'exec {find_runtime("runc")} "$@"\n')
    wrapper.chmod(0o755)
    daemon = make_daemon(**only("other", wrapper, "runc"))
    found = examine(daemon)
    assert status(found["runtime.other.dns"]) == "FAIL"
    assert "not what the daemon wrote" in found["runtime.other.dns"].found
    assert status(found["runtime.runc.dns"]) == status(found["runtime.other.removal"]) == "OK"


@pytest.mark.parametrize("default, expected", [("runsc", "FAIL"), ("runc", "WARN")])
def test_a_runtime_that_is_not_there(make_daemon, default, expected):
    daemon = make_daemon(runtime=default, runtimes={"runsc": {"path": "/nowhere/runsc"}})
    found = examine(daemon)
    assert status(found["runtime.runsc.program"]) == expected
    assert "/nowhere/runsc" in found["runtime.runsc.program"].found
    assert "apt-get install runsc" in found["runtime.runsc.program"].repair
    assert "runtime.runsc.version" not in found
    assert status(found["runtime.runc.sandbox"]) == "OK"


@pytest.fixture
def shimmed(make_daemon, tmp_path):
    """A daemon with runc behind a shim, as its default and only runtime."""
    shim = Shim(tmp_path, find_runtime("runc"))
    daemon = make_daemon(runtime="shim", defaults={"start_timeout": "17s"}, runtimes={
        "shim": {"type": "runc", "path": str(shim.path)},
        "runc": {"path": "/nowhere/runc"}, "runsc": {"path": "/nowhere/runsc"}})
    return daemon, shim


def test_a_runtime_that_hangs(shimmed):
    """Each step has its deadline; the rest is looked at all the same, and the daemon serves."""
    daemon, shim = shimmed
    shim.trouble("hang", "--version")
    with within(15):
        found = examine(daemon)
    assert status(found["runtime.shim.version"]) == "FAIL"
    assert "was not tried" in found["runtime.shim.version"].found
    assert "dns.servers" in found
    shim.heal()
    shim.trouble("garbage", "--version")
    shim.trouble("hang", "run")
    call = begin(daemon)
    with within(40):
        assert "does not tell" in until(call, "runtime.shim.version").found
        with within(8):
            daemon.api.list()
        sandbox = until(call, "runtime.shim.sandbox")
        assert until(call, "dns.servers").found
    assert status(sandbox) == "FAIL"
    assert "what hangs is the step 'runtime'" in sandbox.found and str(shim.path) in sandbox.found
    shim.heal()
    no_sandbox(daemon)
    assert shim.left() == []


def test_a_removal_that_hangs(shimmed):
    daemon, shim = shimmed
    shim.trouble("hang", "delete", "kill")
    with within(20):
        found = examine(daemon)
    assert status(found["runtime.shim.sandbox"]) == "OK"
    # What the kernel alone can do is done, so it goes all the same.
    assert status(found["runtime.shim.removal"]) == "OK" and list(daemon.api.list()) == []


def test_a_client_that_goes_away(shimmed):
    """Wherever it was: while the sandbox is made, tried, removed."""
    daemon, shim = shimmed
    shim.trouble("slow", "run", "delete")
    for id in "kernel", "runtime.shim.version", "runtime.shim.sandbox", "runtime.shim.dns":
        call = begin(daemon)
        until(call, id)
        call.cancel()
        no_sandbox(daemon)
    shim.heal()
    assert status(examine(daemon)["runtime.shim.removal"]) == "OK"


def test_one_at_a_time(shimmed):
    daemon, shim = shimmed
    shim.trouble("slow", "run")
    first = begin(daemon)
    until(first, "runtime.shim.version")
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "under way"):
        examine(daemon)
    assert until(first, "dns.servers")
    first.cancel()
    shim.heal()
    call = begin(daemon)
    until(call, "kernel")
    call.cancel()
    # What was given up holds up nobody, though the server learns of it a little later.
    wait_until(lambda: try_again(daemon), "the next may begin", 5)


def try_again(daemon):
    try:
        return examine(daemon)
    except grpc.RpcError as e:
        assert e.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        return None


def test_the_daemon_stops(shimmed):
    daemon, shim = shimmed
    shim.trouble("slow", "run")
    call = begin(daemon)
    until(call, "runtime.shim.version")
    wait_until(lambda: list(daemon.api.list()), "the sandbox that is tried")
    daemon.process.terminate()
    with refused(grpc.StatusCode.UNAVAILABLE, "stopping"):
        list(call)
    assert daemon.process.wait(20) == 0
    shim.heal()
    daemon.start()
    for sandbox in daemon.api.list():
        assert sandbox.ttl_millis == 120000


@pytest.fixture
def slow_image(tmp_path):
    """A root file system whose cat takes for ever, so that the sandbox that is tried stays."""
    def make(daemon):
        rootfs = tmp_path / "rootfs"
        shutil.copytree(daemon.data / "images/busybox/rootfs", rootfs, symlinks=True)
        (rootfs / "tmp").chmod(0o1777)
        cat = rootfs / "bin/cat"
        cat.unlink()
        cat.write_text("#!/bin/sh\nexec sleep 1000\n")
        cat.chmod(0o755)
        return rootfs

    return make


def test_the_daemon_is_killed(make_daemon, slow_image):
    """The sandbox that was tried is found again, and goes when its time to live is over."""
    rootfs = slow_image(make_daemon())
    daemon = make_daemon(defaults={"image": str(rootfs)})
    call = begin(daemon)
    until(call, "runtime.runc.sandbox")
    daemon.kill()
    daemon.start()
    [sandbox] = daemon.api.list()
    assert sandbox.name.startswith("doctor-") and sandbox.owner_uid == os.getuid()
    assert 0 < sandbox.expires_at.ToSeconds() - time.time() <= 120
    daemon.api.keepalive(sandbox.id, ttl_millis=1000)  # not two minutes
    no_sandbox(daemon)


def test_a_command_that_hangs_inside(make_daemon, slow_image):
    rootfs = slow_image(make_daemon())
    daemon = make_daemon(defaults={"image": str(rootfs)}, runtimes={
        "runsc": {"path": "/nowhere/runsc"}})
    with within(20):
        found = examine(daemon)
    assert status(found["runtime.runc.socket"]) == "FAIL"
    assert status(found["runtime.runc.removal"]) == "OK"


def test_files_that_others_may_write(daemon):
    os.chmod(daemon.socket, 0o666)
    os.chmod(daemon.data, 0o777)
    (daemon.state / "lock").unlink()
    found = examine(daemon)
    assert "every user" in found["socket"].found and found["socket"].repair.startswith("chmod")
    assert str(daemon.data) in found["directories"].found
    assert str(daemon.state / "lock") in found["locks"].found
    assert {f.id for f in found.values() if status(f) == "FAIL"} == {"socket", "directories",
                                                                     "locks"}


def test_a_full_disk(make_daemon, small_disk):
    daemon = make_daemon(data_dir=str(small_disk / "data"))
    daemon.data = small_disk / "data"
    filler = fill(small_disk)
    found = examine(daemon)
    assert status(found["disk.data"]) == "FAIL" and " 0 MiB are free" in found["disk.data"].found
    assert str(daemon.data) in found["disk.data"].repair
    assert status(found["disk.state"]) == "OK"
    assert status(found["store"]) == "OK"  # it has kept something in reserve
    for name in runtimes():
        assert status(found[f"runtime.{name}.sandbox"]) == "FAIL"
        assert "is full" in found[f"runtime.{name}.sandbox"].found
    found = examine(daemon)["store"]
    assert status(found) == "FAIL" and "nothing is created" in found.found
    filler.unlink()


def test_a_damaged_database(daemon):
    daemon.api.create()
    daemon.stop()
    with open(daemon.data / "sandboxd.db", "r+b") as f:
        f.write(b"\0" * 4096)
    whole = (daemon.data / "sandboxd.db").read_bytes()
    daemon.start()
    found = examine(daemon)
    assert status(found["store"]) == "FAIL" and "damaged" in found["store"].found
    assert status(found["runtime.runc.sandbox"]) == "FAIL"
    assert (daemon.data / "sandboxd.db").read_bytes() == whole
    daemon.kill()
    daemon.destroy()
    daemon.process = None


class NameServer(threading.Thread):
    """On loopback, port 53. Answers every question in the same way."""

    def __init__(self, address, code):
        super().__init__(daemon=True)
        self.code = code
        self.questions = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        self.start()

    def run(self):
        while True:
            question, peer = self.socket.recvfrom(512)
            if question == b"stop":
                return
            self.questions += 1
            self.socket.sendto(question[:2] + bytes([0x81, self.code]) + question[4:], peer)

    def stop(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"stop", self.socket.getsockname())
        self.join(10)
        self.socket.close()


@pytest.fixture
def name_servers():
    servers = [NameServer("127.53.0.1", 0), NameServer("127.53.0.2", 5)]
    yield servers
    for server in servers:
        server.stop()


def test_name_servers(make_daemon, name_servers):
    """They are asked on request only: no packet leaves the host otherwise."""
    good, refusing = name_servers
    daemon = make_daemon(runtimes={"runsc": {"path": "/nowhere/runsc"}},
                         dns={"servers": ["127.53.0.1", "127.53.0.2", "127.53.0.3"]})
    found = examine(daemon)["dns.servers"]
    assert status(found) == "OK" and "127.53.0.1; 127.53.0.2; 127.53.0.3; not asked" in found.found
    assert good.questions == refusing.questions == 0
    found = examine(daemon, ask_name_servers=True)["dns.servers"]
    assert status(found) == "WARN" and good.questions == refusing.questions == 1
    assert "127.53.0.1 answers; 127.53.0.2 refuses (code 5); 127.53.0.3 does not" in found.found


# --- sandboxctl ------------------------------------------------------------------------------


def test_the_command(ctl, daemon):
    done = ctl("doctor")
    assert done.returncode == 0 and done.stderr == "", done
    assert re.search(r"^ok    kernel +Linux ", done.stdout, re.M)
    assert re.search(r"\n\n\d+ ok, \d+ warn, 0 fail\n\Z", done.stdout)
    os.chmod(daemon.socket, 0o666)
    done = ctl("doctor")
    assert done.returncode == 1
    assert re.search(r"^fail  socket .*every user.*\n +why: .*\n +repair: chmod", done.stdout, re.M)
    assert ", 1 fail\n" in done.stdout


def test_json(ctl, daemon):
    done = ctl("doctor", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["complete"] is True and document["status"] in ("ok", "warn")
    assert [f["id"] for f in document["findings"]][:len(HOST)] == HOST
    assert {tuple(f) for f in document["findings"]} == {("id", "status", "found", "why", "repair")}
    os.chmod(daemon.socket, 0o666)
    done = ctl("doctor", "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["status"] == "fail"


def test_a_person_sees_something_at_once(shimmed):
    """The findings are printed as they come, also into a pipe."""
    daemon, shim = shimmed
    shim.trouble("hang", "run")
    with subprocess.Popen([BUILD / "sandboxctl", "--socket", daemon.socket, "doctor"],
                          stdout=subprocess.PIPE, env=ENVIRON, text=True) as process:
        with within(12):
            lines = [process.stdout.readline() for _ in HOST]
        assert lines[0].startswith("ok    kernel ")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT
    shim.heal()
    no_sandbox(daemon)


def test_without_a_daemon(daemon, ctl):
    daemon.kill()
    done = ctl("doctor")
    assert done.returncode == 3
    assert re.search(r"^fail  daemon.socket .*Connection refused", done.stdout, re.M)
    assert "daemon.process" in done.stdout  # another daemon of this host may run
    done = ctl("doctor", "--json", "--socket", "/nowhere/sock")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert document["status"] == "fail" and document["complete"] is False
    assert "'/nowhere'" in document["findings"][0]["found"]


def test_without_the_right(daemon):
    """As a user who may not even come near the socket. The program lies where everybody may read
    it."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        program = shutil.copy(BUILD / "sandboxctl", directory)
        done = subprocess.run([*become(65534), program, "--socket", daemon.socket, "doctor"], cwd="/",
                              text=True, stdout=subprocess.PIPE, env=ENVIRON, timeout=20)
    assert done.returncode == 3
    assert "you (nobody) may not pass" in done.stdout and "mode 0700" in done.stdout
    assert re.search(r"^ok    daemon.process +process \d+ is a sandboxd", done.stdout, re.M)


# --- other people's rules ---------------------------------------------------------------------


class Elsewhere(Daemon):
    """On a host of its own, as far as the network goes."""

    netns = None

    def command(self, *args):
        return ["nsenter", f"--net={self.netns}", *super().command(*args)]


@pytest.fixture
def elsewhere(make_daemon):
    name = f"sandboxd-doctor-{secrets.token_hex(4)}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=20)
    daemon = make_daemon(start=False, of=Elsewhere)
    daemon.netns = f"/run/netns/{name}"
    daemon.start()
    yield daemon
    daemon.stop()
    subprocess.run(["ip", "netns", "delete", name], check=True, timeout=20)
    daemon.process = None


def test_a_table_that_drops_what_is_forwarded(elsewhere):
    def look(rules):
        subprocess.run(["nsenter", f"--net={elsewhere.netns}", "nft", "-f", "-"], input=rules,
                       text=True, check=True, timeout=20)
        call = begin(elsewhere)
        found = until(call, "network.forward")
        call.cancel()
        no_sandbox(elsewhere)
        return status(found), found.found

    assert look("") == ("OK", "no table drops what it does not know")
    def table(name, *chains):
        """chains: name, hook, policy"""
        text = "".join(f"chain {chain} {{ type filter hook {hook} priority 0; policy {policy}; }}\n"
                       for chain, hook, policy in chains)
        return f"table {name} {{\n{text}chain plain {{\ndrop\n}}\n}}\n"

    assert look(table("ip one", ("in", "input", "drop"), ("FORWARD", "forward", "accept")))[0] == "OK"
    assert look(table("ip filter", ("FORWARD", "forward", "drop"))) == \
        ("WARN", "FORWARD of the table ip filter drops what it does not accept")
    many = "".join(table(f"inet t{n}", ("c", "forward", "drop")) for n in range(300))
    state, found = look(many)
    assert state == "WARN" and "FORWARD of the table ip filter" in found
