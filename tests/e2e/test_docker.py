"""Docker Engine itself: what it is told, and what it does behind the daemon's back."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import grpc
import pytest
from sandboxd.v1 import sandbox_pb2

from dockerd import DockerEngine, Dockerd
from harness import LONG, Oci, identity, output, refused, state_name, wait_until
from lab import REACH, answers
from test_doctor import examine, status

pytestmark = pytest.mark.docker_only
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
RUNTIMES = {"runc": {"type": "runc"}, "runsc": {"type": "runsc"}}


@pytest.fixture
def make_docker():
    """Makes Docker Engines with keys of their own in daemon.json."""
    made = []

    def make(**config):
        made.append(Dockerd(**config))
        made[-1].start()
        made[-1].load_busybox()
        return made[-1]

    yield make
    for docker in made:
        docker.destroy()


@pytest.fixture
def daemon_on(make_docker, make_daemon):
    """Makes daemons on such an engine."""
    return lambda docker, **config: make_daemon(on=DockerEngine(docker), **config)


# --- what it is told -------------------------------------------------------------------------


def test_what_docker_is_told(daemon, api, runtime):
    box = api.create(name="box", runtime=runtime, resources={"memory_bytes": 256 << 20,
                                                             "cpu_millis": 500})
    told = daemon.engine.container(daemon, box)
    host, config = told["HostConfig"], told["Config"]
    assert host["Runtime"] == runtime and not host["Privileged"]
    assert host["CapDrop"] == ["ALL"] and not host["CapAdd"]
    assert any("no-new-privileges" in option for option in host["SecurityOpt"])
    assert host["ReadonlyRootfs"] and host["Memory"] == host["MemorySwap"] == 256 << 20
    assert host["CpuQuota"] / host["CpuPeriod"] == 0.5
    assert host["PidsLimit"] >= (4096 if runtime == "runsc" else 1)
    assert host["NetworkMode"] == "none" and host["RestartPolicy"]["Name"] in ("", "no")
    assert [limit for limit in host["Ulimits"] if limit["Name"] == "nofile"]
    assert config["User"] == "1000:1000"
    assert config["Labels"]["sandboxd.managed"]
    assert daemon.api.info().instance in config["Labels"].values()
    mounts = {mount["Destination"]: mount for mount in told["Mounts"]}
    assert mounts["/home/sandbox"]["RW"]
    assert not mounts["/etc/resolv.conf"]["RW"] and not mounts["/run/sandboxd/runtimed"]["RW"]


# --- volumes ---------------------------------------------------------------------------------


def test_volumes_of_an_image(make_daemon, dockerd, tmp_path, runtime):
    """They are bounded, and in memory: Docker makes none of its own."""
    rootfs = shutil.copytree(dockerd.busybox, tmp_path / "rootfs", symlinks=True)
    for path in "data", "var/deep/er":
        (rootfs / path).mkdir(parents=True)
        (rootfs / path / "inside").write_text("of the image" * 100000)
    volumes = ["/data/", "/var//deep/er", "/srv/new", "/home/gradle/.gradle"]
    own = ["/tmp", "/run", "/home/sandbox"]
    dockerd.load(rootfs, "volumes", [f"VOLUME {json.dumps(volumes + own)}"])
    daemon = make_daemon(defaults={"tmp_size": "4MiB"})
    api = daemon.api
    box = api.create(image="volumes", runtime=runtime)
    assert dockerd.volumes() == []
    told = daemon.engine.container(daemon, box)
    assert {mount["Type"] for mount in told["Mounts"]} == {"bind"}
    for path in map(os.path.normpath, volumes):
        assert f" {path} tmpfs rw" in api.sh(box.id, "cat /proc/mounts")
        assert api.sh(box.id, f"ls -A {path}") == ""
        filled = api.run(box.id, "dd", "if=/dev/zero", f"of={path}/file", "bs=1M", "count=5")
        assert filled.code != 0 and b"No space left" in filled.stderr
        assert int(api.sh(box.id, f"stat -c %s {path}/file")) <= 4 << 20
        api.sh(box.id, f"echo 'echo runs' >{path}/file; chmod +x {path}/file; {path}/file")
    assert api.run(box.id, "touch", "/srv/file").code != 0  # the root, as ever
    api.sh(box.id, "echo kept >file")
    api.stop(box.id)
    api.start(box.id)
    assert api.sh(box.id, "ls -A /data; cat file") == "kept\n"
    assert dockerd.volumes() == []


@pytest.mark.parametrize("path", ["/", "/etc", "/home/sandbox/data", "/run/sandboxd", "/proc/sys",
                                  "/data/../etc", "data"])
def test_volume_that_no_sandbox_can_have(api, dockerd, path):
    dockerd.load(dockerd.busybox, "hostile", [f"VOLUME {json.dumps(['/data', path])}"])
    with refused(FAILED_PRECONDITION, "image 'hostile' declares the VOLUME", f"'{path}'"):
        api.create(image="hostile", runtime="runc")
    assert list(api.list()) == [] and dockerd.containers() == [] and dockerd.volumes() == []


@pytest.mark.parametrize("path, through, to", [
    ("/link", "/link", "/etc"), ("/link/y", "/link", "/home/sandbox"), ("/a/link/sys", "/a/link", "/proc"),
    ("/link/y", "/link", "x/" * 150), ("/bin/busybox", "/bin/busybox", None)])
def test_volume_that_leads_elsewhere(api, dockerd, tmp_path, path, through, to):
    """It would be somewhere else than it says: in the workspace, over /etc, ..."""
    rootfs = shutil.copytree(dockerd.busybox, tmp_path / "rootfs", symlinks=True)
    (rootfs / "a").mkdir()
    if to:
        (rootfs / through[1:]).symlink_to(to)
    dockerd.load(rootfs, "leads", [f"VOLUME {json.dumps(['/tmp', path])}"])
    with refused(FAILED_PRECONDITION, f"VOLUME '{path}' leads through '{through}'"):
        api.create(image="leads", runtime="runc")
    wait_until(lambda: dockerd.containers() == [], "no container")
    assert list(api.list()) == [] and dockerd.volumes() == []


def uid_map(pid):
    return Path(f"/proc/{pid}/uid_map").read_text().split()


def test_engine_that_maps_users(daemon_on, make_docker):
    """userns-remap. Those of a sandbox keep their numbers: its workspace is the host's."""
    docker = make_docker(**{"userns-remap": "daemon"})
    plain = docker.api("GET", f"/containers/{docker.run('plain', ['sleep', '1000'])}/json")
    assert uid_map(plain["State"]["Pid"])[:2] == ["0", "200000"]
    (docker.busybox / "opt/sandbox-skel").mkdir(parents=True)
    (docker.busybox / "opt/sandbox-skel/begun").write_text("with\n")
    docker.load(docker.busybox, "own")
    daemon = daemon_on(docker)
    api = daemon.api
    for runtime in "runc", "runsc":
        box = api.create(runtime=runtime, image="own")
        assert daemon.engine.container(daemon, box)["HostConfig"]["UsernsMode"] == "host"
        assert api.sh(box.id, "cat begun; echo more >>begun; touch own; id -u") == "with\n1000\n"
        assert api.sh(box.id, "stat -c %u:%g . begun own") == 3 * "1000:1000\n"
        workspace = daemon.data / "workspaces" / box.id
        assert {path.stat().st_uid for path in (workspace, *workspace.iterdir())} == {1000}
        api.stop(box.id)
        api.start(box.id)
        assert api.sh(box.id, "cat begun") == "with\nmore\n"
        if runtime == "runc":
            assert uid_map(daemon.init_pid(box))[:2] == ["0", "0"]
    daemon.restart("SIGKILL")
    assert {state_name(s) for s in daemon.api.list()} == {"RUNNING"}
    docker.remove("plain")


# --- its runtimes ----------------------------------------------------------------------------


def test_runsc_without_the_flag(daemon_on, make_docker):
    """The way out is in the error, and it is one."""
    docker = make_docker()
    daemon = daemon_on(docker, runtimes=RUNTIMES | {"runsc-no-uds": {"type": "runsc"}})
    with refused(FAILED_PRECONDITION, "runsc-no-uds", "--host-uds=create", "daemon.json",
                 "runtimeArgs"):
        daemon.api.create(runtime="runsc-no-uds")
    assert list(daemon.api.list()) == [] and docker.containers() == []
    of = {r.name: r.problem for r in daemon.api.info().runtimes}
    assert "--host-uds=create" in of["runsc-no-uds"] and not of["runc"] + of["runsc"]
    for runtime in "runc", "runsc":
        daemon.api.create(runtime=runtime)

    docker.config["runtimes"]["runsc-no-uds"]["runtimeArgs"] = ["--host-uds=create"]
    docker.reload()
    daemon.restart("SIGTERM")
    box = daemon.api.create(runtime="runsc-no-uds")
    assert daemon.api.sh(box.id, "echo up") == "up\n"


def test_runtime_that_is_not_registered(daemon_on, make_docker):
    docker = make_docker(runtimes={})
    daemon = daemon_on(docker)
    with refused(FAILED_PRECONDITION, "runsc", "daemon.json", "--host-uds=create"):
        daemon.api.create(runtime="runsc")
    assert list(daemon.api.list()) == [] and docker.containers() == []
    daemon.api.create(runtime="runc")


def test_doctor(make_daemon):
    daemon = make_daemon(runtimes=RUNTIMES | {"runsc-no-uds": {"type": "runsc"}})
    found = examine(daemon)
    assert "Docker Engine" in found["engine"].found
    for runtime in "runc", "runsc":
        assert status(found[f"runtime.{runtime}.socket"]) == "OK"
    told = [f for id, f in found.items() if "--host-uds=create" in f.found + f.repair
            and id.startswith("runtime.runsc-no-uds.") and status(f) != "OK"]
    assert told and not [id for id, f in found.items() if status(f) == "FAIL"]


# --- its restarts ----------------------------------------------------------------------------


def wait_for_docker(daemon):
    """Until the daemon has found it again."""
    def creates():
        try:
            return daemon.api.create(runtime="runc")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error.details()

    daemon.api.delete(wait_until(creates, "a create", seconds=20).id)


@pytest.mark.parametrize("how", ["stop", "kill"] if LONG else ["stop"])
def test_it_restarts_and_keeps_the_sandboxes(daemon_on, make_docker, pool, how):
    """live-restore. What needs no engine goes on while it is away."""
    docker = make_docker(**{"live-restore": True})
    daemon = daemon_on(docker)
    api = daemon.api
    boxes = list(pool.map(lambda i: api.create(runtime="runsc" if i % 5 == 0 else "runc"),
                          range(20)))
    before = [identity(daemon.init_pid(box)) for box in boxes]
    call = api.stream(boxes[0].id, "sh", "-c", "while :; do echo up; sleep 0.05; done")
    assert output(call)
    getattr(docker, how)()
    assert {state_name(s) for s in api.list()} == {"RUNNING"}
    assert list(pool.map(lambda box: api.sh(box.id, "echo $PPID"), boxes))
    with refused(grpc.StatusCode.UNAVAILABLE, str(docker.socket)):
        api.create(runtime="runc")
    os.kill(before[7][0], signal.SIGKILL)  # dies while nobody tells of it
    docker.start()
    wait_for_docker(daemon)
    wait_until(lambda: api.state(boxes[7].id) == "FAILED", "state FAILED", seconds=5)
    left = [(box, main) for i, (box, main) in enumerate(zip(boxes, before)) if i != 7]
    assert all(api.get(box.id) == box for box, _ in left)
    assert [identity(daemon.init_pid(box)) for box, _ in left] == [main for _, main in left]
    assert all("up" in output(call) for _ in range(5))
    call.cancel()
    api.start(boxes[7].id)
    list(pool.map(lambda box: api.stop(box.id, grace_millis=100), boxes))
    list(pool.map(lambda box: api.start(box.id), boxes[:4]))
    assert api.sh(boxes[0].id, "echo again") == "again\n"


@pytest.mark.parametrize("how", ["stop", "kill"] if LONG else ["kill"])
def test_it_restarts_and_takes_the_sandboxes_along(daemon_on, make_docker, pool, how):
    """Without live-restore. They have failed then, and start again with what they had."""
    docker = make_docker()
    daemon = daemon_on(docker)
    api = daemon.api
    boxes = list(pool.map(lambda i: api.create(runtime="runsc" if i % 5 == 0 else "runc"),
                          range(20)))
    list(pool.map(lambda box: api.sh(box.id, "echo kept >file"), boxes))
    getattr(docker, how)()
    docker.start()
    wait_until(lambda: {state_name(s) for s in api.list()} == {"FAILED"}, "state FAILED", seconds=20)
    assert all(s.reason for s in api.list())
    wait_for_docker(daemon)
    list(pool.map(lambda box: api.start(box.id), boxes))
    assert {api.sh(box.id, "cat file") for box in boxes} == {"kept\n"}


@pytest.mark.parametrize("step, live_restore", [
    ("container", False), ("pid", True)] + LONG * [("container", True), ("pid", False)])
def test_it_dies_in_the_middle_of_creates(daemon_on, make_docker, step, live_restore):
    """Each create comes to an end, and nothing stays of those that fail."""
    docker = make_docker(**{"live-restore": live_restore})
    daemon = daemon_on(docker)
    request = sandbox_pb2.SandboxServiceCreateRequest(runtime="runc")
    calls = [daemon.api.sandboxes.Create.future(request, timeout=60) for _ in range(6)]
    wait_until(lambda: daemon.traces(step), step)
    docker.kill()
    done = [call for call in calls if not call.exception()]
    for call in set(calls) - set(done):
        assert call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), \
            call.details()
    docker.start()
    wait_for_docker(daemon)
    told = {call.result().sandbox.id for call in done}
    assert {s.id for s in daemon.api.list()} == told
    wait_until(lambda: len(docker.containers()) <= len(told), "the other containers gone")


def test_both_die_in_the_middle_of_creates(daemon_on, make_docker):
    docker = make_docker()
    daemon = daemon_on(docker)
    request = sandbox_pb2.SandboxServiceCreateRequest(runtime="runc")
    calls = [daemon.api.sandboxes.Create.future(request, timeout=60) for _ in range(6)]
    wait_until(lambda: daemon.traces("pid"), "a container that runs")
    docker.kill()
    daemon.kill()
    told = {call.result().sandbox.id for call in calls if not call.exception()}
    daemon.start()  # the engine is not there yet
    assert daemon.api.list() is not None
    docker.start()
    wait_for_docker(daemon)
    assert told <= {s.id for s in daemon.api.list()}
    for sandbox in daemon.api.list():
        wait_until(lambda: daemon.api.state(sandbox.id) in ("RUNNING", "FAILED"), "an end of it")


# --- who else is there -----------------------------------------------------------------------


def test_what_others_do_to_a_container(daemon, api, dockerd):
    """It is seen by the engine's events."""
    boxes = {verb: api.create(name=verb, runtime="runc") for verb in ("kill", "stop", "rm")}
    for verb, box in boxes.items():
        container = daemon.engine.container(daemon, box)["Id"]
        if verb == "rm":
            dockerd.remove(container)
        else:
            dockerd.api("POST", f"/containers/{container}/{verb}")
        wait_until(lambda: api.state(box.id) == "FAILED", f"FAILED after {verb}", seconds=12)
        assert api.get(box.id).reason
        api.start(box.id)
        assert api.sh(box.id, "echo again") == "again\n"


def test_what_others_do_while_the_daemon_is_away(daemon, api, dockerd):
    """Longer ago than events are asked for again."""
    boxes = [api.create(runtime="runc") for _ in range(2)]
    containers = [daemon.engine.container(daemon, box)["Id"] for box in boxes]
    api.pause(boxes[1].id)
    daemon.kill()
    dockerd.api("POST", f"/containers/{containers[0]}/pause")
    dockerd.api("POST", f"/containers/{containers[1]}/unpause")
    time.sleep(3)
    daemon.start()
    api = daemon.api
    wait_until(lambda: [api.state(box.id) for box in boxes] == ["PAUSED", "RUNNING"], "as it is")
    api.resume(boxes[0].id)
    assert [api.sh(box.id, "echo up") for box in boxes] == 2 * ["up\n"]


def test_a_container_of_another_name(daemon, api, dockerd):
    """It is the sandbox's, whatever it is called; who has the name now is not."""
    box = api.create(runtime="runc")
    container = daemon.engine.container(daemon, box)["Id"]
    dockerd.api("POST", f"/containers/{container}/rename", name="renamed")
    other = dockerd.run(f"sandboxd-{box.id}", ["sleep", "1000"])
    try:
        dockerd.api("POST", f"/containers/{container}/pause")
        wait_until(lambda: api.state(box.id) == "PAUSED", "the event of the pause")
        api.resume(box.id)
        api.pause(box.id)
        api.resume(box.id)
        assert api.sh(box.id, "echo up") == "up\n"
        api.delete(box.id)
        assert [c["Id"] for c in dockerd.containers()] == [other]
        assert dockerd.containers()[0]["State"] == "running"
    finally:
        dockerd.remove_containers()


def test_what_is_not_ours_stays(daemon, dockerd, make_daemon):
    """A container of another program, and one of another daemon's."""
    other = make_daemon()
    box = other.api.create(name="box", runtime="runc")
    main = identity(other.init_pid(box))
    plain = dockerd.run("plain", ["sleep", "1000"])
    try:
        orphan = daemon.api.create(name="orphan", runtime="runc")
        labels = daemon.engine.container(daemon, orphan)["Config"]["Labels"]
        daemon.api.delete("orphan")
        daemon.kill()  # which would remove it before it starts
        dockerd.run("leftover", ["sleep", "1000"], labels)  # as if its delete had been half done
        daemon.start()
        wait_until(lambda: not dockerd.named("leftover"), "the orphan removed")
        assert dockerd.named("plain")["State"] == "running"
        assert identity(other.init_pid(box)) == main and other.api.sh("box", "echo up") == "up\n"
    finally:
        dockerd.remove(plain)


def test_labels_of_images_and_of_others(daemon, api, dockerd):
    """Docker tells them with each event, and gives those of an image to its containers."""
    dockerd.load(dockerd.busybox, "talker", [f"LABEL note={'x' * 20000}"])
    dockerd.load(dockerd.busybox, "helper", ["LABEL sandboxd.helper=true"])
    with refused(FAILED_PRECONDITION, "20011 bytes of labels"):
        api.create(runtime="runc", image="talker")
    box = api.create(runtime="runc", image="helper")
    big = dockerd.run("big", ["sleep", "1000"], {"note": "x" * 300000})
    try:
        daemon.restart("SIGKILL")
        assert daemon.api.sh(box.id, "echo up") == "up\n"
        dockerd.api("POST", f"/containers/{daemon.engine.container(daemon, box)['Id']}/pause")
        wait_until(lambda: daemon.api.state(box.id) == "PAUSED", "the event of the pause")
    finally:
        dockerd.remove(big)


def test_somebody_prunes_its_network(daemon_on, make_docker):
    """Which has no container just then."""
    docker = make_docker()
    daemon = daemon_on(docker)
    box = daemon.api.create(runtime="runc", network="NETWORK_MODE_BRIDGE")
    daemon.api.stop(box.id)
    assert docker.api("POST", "/networks/prune")["NetworksDeleted"] == ["sandboxd"]
    daemon.api.start(box.id)
    assert "eth0" in daemon.api.sh(box.id, "cat /proc/net/dev")


def test_a_policy_of_the_other_engine(make_daemon, dockerd):
    """It would be in force no more."""
    daemon = make_daemon(on=Oci())
    box = daemon.api.create(runtime="runc", network="NETWORK_MODE_BRIDGE",
                            egress={"policy": "EGRESS_POLICY_CLOSED"})
    daemon.api.stop(box.id)
    daemon.stop()
    daemon.engine = DockerEngine(dockerd)
    daemon.config |= daemon.engine.config
    daemon.start()
    with refused(FAILED_PRECONDITION, "egress", "engine oci"):
        daemon.api.start(box.id)
    assert dockerd.containers() == []


METADATA = "169.254.169.254"


@pytest.fixture
def metadata(make_docker):
    """A Docker Engine on whose network there is a metadata service."""
    docker = make_docker()
    script = f"""ip netns add cloud && ip link add cloud0 type veth peer name eth0 netns cloud
                 ip address add 169.254.0.1/16 dev cloud0 && ip link set cloud0 up
                 ip -n cloud address add {METADATA}/16 dev eth0 && ip -n cloud link set eth0 up
                 ip -n cloud route add default via 169.254.0.1"""
    docker.inside("sh", "-ec", script)
    serving = [docker.spawn_inside(*enter, REACH, "serve", "80")
               for enter in (("ip", "netns", "exec", "cloud"), ())]
    yield docker
    for process in serving:
        process.kill()
        process.wait(20)


def test_what_its_network_reaches(metadata, daemon_on, runtime):
    """Of the host, and the metadata service, unless rules hold it, as docs/docker.md has them."""
    metadata.api("POST", "/networks/create", {
        "Name": "sandboxd", "Options": {"com.docker.network.bridge.enable_icc": "false",
                                        "com.docker.network.bridge.name": "sandboxd0"}})
    daemon = daemon_on(metadata)
    box = daemon.api.create(runtime=runtime, network="NETWORK_MODE_BRIDGE")
    daemon.bring(box, REACH)
    host = metadata.api("GET", "/networks/sandboxd")["IPAM"]["Config"][0]["Gateway"]

    def reach():
        return answers(daemon.api.run(box.id, "./reach", *targets).stdout.decode())

    targets = [f"{kind}/{address}/80" for kind in ("tcp", "udp") for address in (METADATA, host)]
    assert set(reach()) == set(targets)
    text = (Path(__file__).parents[2] / "docs/docker.md").read_text()
    rules = re.findall("^    (iptables .*)$", text, re.MULTILINE)
    assert len(rules) == 2
    for rule in rules:
        metadata.inside(*rule.split())
    assert reach() == {}


# --- name servers ----------------------------------------------------------------------------

SERVER, NAME, ADDRESS = "10.254.0.53", "there.example", "10.254.1.2"


@pytest.fixture
def resolver(make_docker):
    """A Docker Engine in whose network there is a name server."""
    docker = make_docker()
    docker.inside("ip", "address", "add", f"{SERVER}/32", "dev", "lo")
    docker.spawn_inside("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv",
                        "--no-hosts", f"--listen-address={SERVER}", "--bind-interfaces", "--user=root",
                        f"--pid-file={docker.dir}/dnsmasq", f"--address=/{NAME}/{ADDRESS}")
    return docker


def looked_up(docker, runtime, network):
    """What a container says that nobody gave another resolv.conf."""
    script = f"cat /etc/resolv.conf; nslookup {NAME}"
    container = docker.run("asks", ["sh", "-c", script], Runtime=runtime, NetworkMode=network,
                           Dns=[SERVER])
    docker.api("POST", f"/containers/{container}/wait")
    text = docker.logs(container)
    docker.remove(container)
    return text


def test_embedded_resolver(resolver, make_daemon):
    """gVisor's network cannot reach Docker's resolver in a network of its own; in a sandbox names
    are found all the same."""
    daemon = make_daemon(on=DockerEngine(resolver), dns={"servers": [SERVER]})
    boxes = [daemon.api.create(runtime=runtime, network="NETWORK_MODE_BRIDGE")
             for runtime in ("runc", "runsc")]
    network = daemon.engine.container(daemon, boxes[0])["HostConfig"]["NetworkMode"]
    assert resolver.api("GET", f"/networks/{network}")["Driver"] == "bridge"

    plain = looked_up(resolver, "runc", network)
    assert "127.0.0.11" in plain and ADDRESS in plain
    plain = looked_up(resolver, "runsc", network)
    assert "127.0.0.11" in plain and ADDRESS not in plain
    assert re.search("refused|timed out|no servers", plain)

    for box in boxes:
        assert f"nameserver {SERVER}" in daemon.api.sh(box.id, "cat /etc/resolv.conf")
        assert ADDRESS in daemon.api.run(box.id, "nslookup", NAME).stdout.decode()
