"""From the first to the last of a sandbox's network, and of the daemon that made it."""

import json
import os
import shutil
from pathlib import Path

import grpc
import pytest
from sandboxd.v1 import sandbox_pb2

from harness import mounts, network_table, output, refused, wait_until
from lab import BRIDGE, ECHO, Box, run

pytestmark = pytest.mark.oci_only("its networks are the daemon's own; for Docker's see test_docker.py")

CHURN = 200 if os.environ.get("LONG") == "1" else 20
NONE = sandbox_pb2.NETWORK_MODE_NONE
on_runc = pytest.mark.parametrize("runtime", ["runc"], indirect=True)  # it is the same for all


class Talk:
    """A connection from a sandbox to the world."""

    def __init__(self, box, address):
        self.box, self.offset = box, 0
        self.pid = box.api.spawn(box.id, "./reach", "talk", address, str(ECHO), stdin_open=True)

    def say(self, word):
        self.box.api.send_input(self.box.id, self.pid, f"{word}\n".encode())
        events = self.box.api.attach(self.box.id, self.pid, stdout_offset=self.offset)
        heard = output(events)
        events.cancel()
        self.offset += len(heard)
        assert heard == f"world {word}\n"


@pytest.fixture
def talks(lab):
    """Makes some, over IPv4 and IPv6, that have begun."""
    def make(box):
        made = [Talk(box, address) for address in (lab.world.v4, lab.world.v6)]
        for talk in made:
            talk.say("begun")
        return made

    return make


def world(lab):
    return [f"{kind}/{a}/{ECHO}" for kind in ("tcp", "udp") for a in (lab.world.v4, lab.world.v6)]


def traces(daemon):
    """How many there are of what networks leave, and of what the daemon holds."""
    found = [line.split()[0] for line in daemon.network_traces()]
    counts = {kind: found.count(kind) for kind in sorted(set(found))}
    return counts | {"mounts": len(mounts(daemon.dir)),
                     "files": len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))}


def test_addresses(lab, make_box):
    """Those that it has, others after each start, and none between."""
    box = make_box()
    shown = list(box.sandbox.addresses)
    assert [a.split("/")[1] for a in shown] == ["32", "128"] or len(shown) == 2
    for _ in range(2):
        inside = box.api.sh(box.id, "ip -o address show dev eth0")
        assert all(f" {address}/" in inside for address in box.addresses())
        before = box.addresses()
        box.api.stop(box.id)
        assert box.addresses() == [] and box.lease() is None
        box.api.start(box.id)
        assert len(box.addresses()) == 2 and not set(before) & set(box.addresses())
        assert box.reach(*world(lab)).keys() == set(world(lab))
    two = make_box()
    assert not set(two.addresses()) & set(box.addresses())
    assert {a for s in box.api.list() for a in s.addresses} == \
        {*box.api.get(box.id).addresses, *box.api.get(two.id).addresses}


@on_runc
def test_ipv6_is_there_at_once(lab, make_box):
    """No waiting until the host's end is sure of its address; also where no pool hides it."""
    box = make_box({"network": {"pool": 0}})
    target = f"tcp/{lab.world.v6}/{ECHO}"
    assert box.reach("for=1", target) == {target: "world hello"}


def test_pause(make_box, talks):
    box = make_box()
    talking, addresses = talks(box), box.addresses()
    box.api.pause(box.id)
    assert box.addresses() == addresses
    box.api.resume(box.id)
    for talk in talking:
        talk.say("still there")


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_the_daemon_goes_and_another_comes(lab, make_box, talks, how):
    egress = {"rules": [{"cidr": a, "port_from": ECHO} for a in (lab.world.v4, lab.world.v6)]}
    box = make_box({"defaults": {"network": "bridge"}}, egress=egress)
    other = make_box()
    shut = [*other.serve(), f"tcp/{lab.world.v4}/80", f"tcp/{lab.world.host4}/{lab.host.port}"]
    talking, addresses = talks(box), box.addresses()
    if how == "SIGKILL":
        box.daemon.kill()
    else:
        box.daemon.stop()
    # Nobody has to be there for the rules.
    if other.sandbox.runtime == "runc":
        lease, = [o.parent for o in (box.daemon.state / "network").glob("*/sandbox")
                  if box.id in o.read_text()]
        assert lab.reached("for=2", *shut, *world(lab), netns=lease / "netns").keys() == \
            set(world(lab))
    box.daemon.start()
    for talk in talking:
        talk.say("still there")
    assert box.addresses() == addresses
    assert box.reach("for=2", *shut, *world(lab)).keys() == set(world(lab))
    # Another one has what those before it had; a new one gets nobody's address.
    assert not set(make_box().addresses()) & {*addresses, *other.addresses()}


@pytest.mark.parametrize("file", ["conflist", "result", "sandbox"])
def test_what_the_daemon_kept_of_it_is_damaged(lab, make_box, file):
    """Then it reaches less than before, or the same."""
    box = make_box(egress={"policy": "EGRESS_POLICY_CLOSED"})
    lease = box.lease()
    box.daemon.kill()
    (lease / file).write_text("{")
    box.daemon.start()
    if file != "conflist":
        wait_until(lambda: not lease.exists(), "its network gone")
    assert box.api.state(box.id) == "RUNNING"
    assert box.reach("for=1", *world(lab), f"tcp/{lab.world.host4}/{lab.host.port}") == {}
    box.api.stop(box.id)
    box.api.start(box.id)
    assert box.reach("for=1", *world(lab)) == {}


def test_the_end_of_a_sandbox(lab, make_box):
    """Whatever it was: nothing stays but the pool."""
    box = make_box({"network": {"pool": 1}, "defaults": {"stop_timeout": "1s"}})
    daemon = box.daemon
    box.api.delete(make_box().id)
    wait_until(lambda: traces(daemon).get("lease") == 2, "one lease in use, one in the pool")
    before = traces(daemon)
    two = make_box(egress={"policy": "EGRESS_POLICY_CLOSED"})
    os.kill(daemon.init_pid(two.sandbox), 9)
    two.api.wait(two.id, "FAILED")
    wait_until(lambda: two.lease() is None, "no lease")
    assert two.addresses() == []
    two.api.delete(two.id)
    del before["files"]
    wait_until(lambda: traces(daemon).items() >= before.items(), "as before")
    assert box.reach(*world(lab)).keys() == set(world(lab))


def test_many_in_a_row(make_daemon):
    """Sandboxes come and go: as many namespaces, links, rules, mounts and addresses as before."""
    daemon = make_daemon(network={"pool": 2}, log={"level": "info"})

    def come_and_go(i):
        egress = {"policy": "EGRESS_POLICY_CLOSED"} if i % 3 else {"rules": [{"cidr": "::/0"}]}
        daemon.api.delete(daemon.api.create(network=BRIDGE, egress=egress).id)

    def settled():
        return traces(daemon).get("lease") == 2 and traces(daemon)

    come_and_go(0)
    wait_until(lambda: traces(daemon).get("lease") == 2, "the pool")
    before = wait_until(settled, "the pool")
    for i in range(CHURN):
        come_and_go(i)
    wait_until(lambda: traces(daemon) == before, f"{before}", seconds=20)


@on_runc
def test_more_than_the_pool_has(lab, make_box, pool):
    """They wait for their turn."""
    daemon = make_box({"network": {"pool": 1}}).daemon
    boxes = list(pool.map(lambda _: Box(daemon, "runc"), range(8)))
    assert len({a for box in boxes for a in box.addresses()}) == 16
    for box in boxes:
        assert box.reach(*world(lab)).keys() == set(world(lab))


def test_a_pool_of_another_size(make_daemon):
    """By a reload: what is missing is made at once."""
    daemon = make_daemon(network={"pool": 0})
    daemon.api.delete(daemon.api.create(network=BRIDGE).id)
    assert traces(daemon).get("lease", 0) == 0
    daemon.configure(network=daemon.config["network"] | {"pool": 3})
    daemon.api.reload()
    wait_until(lambda: traces(daemon).get("lease") == 3, "three leases")


def test_no_address_left(make_daemon):
    daemon = make_daemon(start=False, defaults={"start_timeout": "3s"})
    daemon.config["network"] |= {"subnets": [daemon.subnets[0].replace("/24", "/29")], "pool": 0}
    daemon.start()
    boxes = [daemon.api.create(network=BRIDGE) for _ in range(5)]
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "no IP addresses available"):
        daemon.api.create(network=BRIDGE)
    daemon.api.create(network=NONE)
    daemon.api.delete(boxes[0].id)
    assert daemon.api.create(network=BRIDGE).addresses == boxes[0].addresses


def test_no_plugins(lab, make_daemon, tmp_path):
    plugins = tmp_path / "plugins"
    daemon = make_daemon(network={"plugins": [str(plugins)]})
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "ptp", "network.plugins",
                 "apt install containernetworking-plugins"):
        daemon.api.create(network=BRIDGE)
    assert list(daemon.api.list()) == []
    assert daemon.api.sh(daemon.api.create().id, "echo fine") == "fine\n"
    shutil.copytree("/usr/lib/cni", plugins)
    box = Box(daemon, "runc")  # at once: nobody has to be told
    assert box.reach(*world(lab)).keys() == set(world(lab))


def test_no_nft(lab, make_daemon):
    daemon = make_daemon(start=False)
    programs = daemon.dir / "programs"
    programs.mkdir()
    for program in {p.name: p for d in ("/usr/sbin", "/usr/bin") for p in Path(d).iterdir()}.values():
        if program.name != "nft":
            (programs / program.name).symlink_to(program)
    daemon.start(PATH=str(programs))
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "nft", "apt install nftables"):
        daemon.api.create(network=BRIDGE)
    assert list(daemon.api.list()) == []
    assert daemon.api.sh(daemon.api.create().id, "echo fine") == "fine\n"
    (programs / "nft").symlink_to(shutil.which("nft"))
    box = Box(daemon, "runc")
    assert box.reach(*world(lab)).keys() == set(world(lab))


@on_runc
def test_somebody_removes_the_rules(lab, make_box):
    """They come back by themselves."""
    box = make_box({"network": {"pool": 0}}, egress={"rules": [{"cidr": lab.world.v4}]})
    before = box.daemon.rules()
    run("nft", "delete", "table", "inet", network_table(box.daemon.state))
    wait_until(lambda: box.daemon.rules() == before, "the rules")
    wanted = {t for t in world(lab) if lab.world.v4 in t}
    assert box.reach("for=2", *world(lab)).keys() == wanted


@pytest.fixture
def conflist(lab, make_daemon):
    """A daemon with an operator's own list of this one plugin."""
    made = []

    def make(**plugin):
        daemon = make_daemon(start=False)
        made.append(daemon)
        ipam = {"type": "host-local", "dataDir": f"{daemon.state}/network/ipam",
                "ranges": [[{"subnet": subnet}] for subnet in daemon.subnets],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}
        path = daemon.dir / "own.conflist"
        path.write_text(json.dumps({"cniVersion": "1.0.0", "name": "own",
                                    "plugins": [plugin | {"ipam": ipam}]}))
        daemon.config["network"] |= {"conflist": str(path), "pool": 0}
        daemon.start()
        return daemon

    return make


def test_a_bridge_of_the_operator(lab, conflist, runtime):
    """Where sandboxes share an Ethernet: the rules hold there too."""
    bridge = f"lab{lab.token}b"
    daemon = conflist(type="bridge", bridge=bridge, isGateway=True)
    try:
        one, two = Box(daemon, runtime), Box(daemon, runtime)
        ways = one.serve()
        assert lab.reached(*ways).keys() == set(ways)
        shut = [*ways, *(f"ping/{a}" for a in one.addresses()),
                f"tcp/{lab.world.host4}/{lab.host.port}", f"tcp/169.254.169.254/{ECHO}"]
        assert two.reach("for=2", *shut, *world(lab)).keys() == set(world(lab))
        for box in one, two:
            daemon.api.delete(box.id)
    finally:
        run("ip", "link", "delete", bridge, check=False)


def test_a_network_that_no_rule_could_hold(lab, conflist):
    daemon = conflist(type="macvlan", master=lab.world.link, mode="bridge")
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "no interface on the host", "ptp"):
        daemon.api.create(network=BRIDGE)
    assert list(daemon.api.list()) == []
