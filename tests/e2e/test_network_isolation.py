"""What sandboxes do not reach, and what they are let reach. What is shown to be out of a sandbox's
reach is shown to answer elsewhere, in the same test."""

import json
import re
import socket

import grpc
import pytest
from sandboxd.v1 import sandbox_pb2

from harness import refused, wait_until
from lab import BRIDGE, ECHO, METADATA, REACH, Box, run

pytestmark = pytest.mark.oci_only("its networks are the daemon's own; for Docker's see test_docker.py")

HOST = sandbox_pb2.NETWORK_MODE_HOST
NONE = sandbox_pb2.NETWORK_MODE_NONE


def of_host():
    """The addresses of this machine, but those of loopback and of the links of sandboxes."""
    listed = json.loads(run("ip", "-j", "address", "show", "scope", "global").stdout)
    return [a["local"] for link in listed if link for a in link["addr_info"]
            if not re.match("lo$|veth", link["ifname"]) and "local" in a]


def echoes(*addresses, port=ECHO):
    return [f"{kind}/{a}/{port}" for a in addresses for kind in ("tcp", "udp")]


def pings(*addresses):
    return [f"ping/{a}" for a in addresses]


def world(lab):
    return echoes(lab.world.v4, lab.world.v6)


def check(reached, wanted):
    """With a message that tells what is too much, and what is missing."""
    assert sorted(reached) == sorted(wanted)


def test_the_host_is_not_reached(lab, make_box):
    box = make_box()
    gateways = [subnet.split("/")[0].replace(".0", ".1") for subnet in box.daemon.subnets]
    gateways[1] += "1"
    addresses = of_host() + gateways
    assert {lab.world.host4, lab.world.host6} < set(addresses)
    shut = echoes(*addresses, port=lab.host.port) + pings(*addresses)
    check(lab.reached(*shut), shut)
    outside = echoes(lab.world.host4, lab.world.host6, port=lab.host.port)
    check(lab.reached(*outside, netns=lab.world.netns), outside)
    check(box.reach(*shut, *world(lab)), world(lab))


def test_the_hosts_loopback_is_not_the_sandboxs(lab, make_box, runtime):
    box = make_box()
    name = f"lab{lab.token}{runtime}"
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0{name}")
    abstract.listen()
    shut = echoes("127.0.0.1", port=lab.loopback.port) + echoes("127.0.0.1", "::1",
                                                                port=lab.host.port)
    sockets = [f"unix/@{name}", f"unix/{box.daemon.socket}"]
    check(lab.reached(*shut), shut)
    for target in sockets:  # they take connections, and have no answer to "hello"
        assert "connect" not in run(REACH, "for=1", target, check=False).stderr
    got = box.api.run(box.id, "./reach", *shut, *sockets)
    assert got.stdout == b""
    for target in sockets:
        assert f"{target}: connect" in got.stderr.decode()
    abstract.close()


def test_metadata_services_are_not_reached(lab, make_box):
    """Because of network.deny, and nothing else."""
    box = make_box()
    shut = echoes(*METADATA) + [f"tcp/{a}/80" for a in METADATA] + pings(*METADATA)
    check(lab.reached(*echoes(*METADATA)), echoes(*METADATA))
    check(box.reach(*shut, *world(lab)), world(lab))
    other = make_box({"network": {"deny": []}})
    check(other.reach(*echoes(*METADATA)), echoes(*METADATA))


def test_published_ports_of_the_host_are_not_reached(lab, make_box):
    """They are the host's, although no program of its own has them."""
    box = make_box()
    shut = [f"tcp/{a}/{lab.published}" for a in (lab.world.host4, lab.world.host6)]
    assert set(lab.reached(*shut, netns=lab.world.netns).values()) == {"container hello"}
    check(box.reach(*shut, *world(lab)), world(lab))


@pytest.mark.parametrize("other", ["runc", "runsc"])
def test_sandboxes_do_not_reach_each_other(lab, make_box, runtime, other):
    one = make_box()
    two = make_box(runtime=other)
    ways = one.serve(), two.serve()
    addresses = one.addresses(), two.addresses()
    everything = [*ways[0], *ways[1], *pings(*addresses[0]), *pings(*addresses[1])]
    check(lab.reached(*everything), everything)  # the host does
    check(one.reach(*ways[1], *pings(*addresses[1]), *world(lab)), world(lab))
    check(two.reach(*ways[0], *pings(*addresses[0]), *world(lab)), world(lab))
    # Nor does anybody from outside, who knows the way.
    for address, gateway in zip(addresses[0], (lab.world.host4, lab.world.host6)):
        run("ip", "-n", lab.world.name, "route", "add", address, "via", gateway)
    check(lab.reached(*ways[0], netns=lab.world.netns), [])


def test_sandboxes_that_may_reach_each_other(lab, make_box):
    """What network.allow lifts: this shows that the test above can fail."""
    one, two = make_box(), make_box()
    ways = one.serve()
    check(two.reach("for=1", *ways), [])
    one.daemon.config["network"]["allow"] = one.daemon.subnets
    one.daemon.restart("SIGTERM")
    check(two.reach(*ways), ways)


def test_what_the_configuration_allows_and_denies(lab, make_box):
    """allow: one port of the host; deny: what an open policy lets through otherwise."""
    services = echoes(lab.container.v4, lab.container.v6, port=lab.published)
    check(make_box().reach(*services), services)
    box = make_box({"network": {"allow": [f"{lab.world.host4}:{lab.host.port}/tcp"],
                                "deny": [f"{lab.container.v4}/32", f"{lab.container.v6}"]}})
    wanted = [f"tcp/{lab.world.host4}/{lab.host.port}", *world(lab)]
    check(box.reach(*wanted, *services, *pings(lab.container.v4, lab.world.host4),
                    *echoes(lab.world.host6, port=lab.host.port),
                    f"udp/{lab.world.host4}/{lab.host.port}"), wanted)


def test_a_reload_allows_and_denies(lab, make_box):
    """For those that run."""
    box = make_box()
    service = [f"tcp/{lab.world.host4}/{lab.host.port}"]
    check(box.reach("for=2", *service, *world(lab)), world(lab))
    network = box.daemon.config["network"]
    box.daemon.configure(network=network | {"allow": [lab.world.host4], "deny": [lab.world.v6]})
    assert box.api.reload().warning == ""
    changed = [*service, *echoes(lab.world.v4)]
    wait_until(lambda: sorted(box.reach("for=2", *service, *world(lab))) == sorted(changed), "that")
    box.daemon.configure(network=network)
    box.api.reload()
    wait_until(lambda: sorted(box.reach("for=2", *service, *world(lab))) == sorted(world(lab)),
               "as before")


# --- egress policies --------------------------------------------------------------------------


def rule(cidr, **fields):
    return {"cidr": cidr, **fields}


def test_egress_policies(lab, make_box):
    v4, v6 = lab.world.v4, lab.world.v6
    everything = [*world(lab), *echoes(lab.world.other4, lab.world.other6), f"tcp/{v4}/80",
                  f"tcp/{v6}/80", *pings(v4, v6)]
    for rules, wanted in (
            ([rule(v4)], [*echoes(v4), f"tcp/{v4}/80", f"ping/{v4}"]),
            ([rule(v6, port_from=ECHO)], echoes(v6)),
            ([rule(v4, port_from=ECHO, protocol="tcp"), rule(v6, port_from=ECHO, protocol="udp")],
             [f"tcp/{v4}/{ECHO}", f"udp/{v6}/{ECHO}"]),
            ([rule("0.0.0.0/0", port_from=70, port_to=90)], [f"tcp/{v4}/80"]),
            ([rule(lab.world.v6 + "/128", protocol="tcp", port_from=1, port_to=65535)],
             [f"tcp/{v6}/{ECHO}", f"tcp/{v6}/80"]),
            ([rule("203.0.113.0/24")], [])):
        box = make_box(egress={"rules": rules})
        check(box.reach("for=2", *everything), wanted)
    closed = make_box(egress={"policy": "EGRESS_POLICY_CLOSED"})
    check(closed.reach("for=2", *everything, *echoes(lab.world.host4, port=lab.host.port)), [])
    check(make_box(egress={"policy": "EGRESS_POLICY_OPEN"}).reach(*everything), everything)


def test_closed_is_closed_to_name_servers(lab, make_box):
    config = {"dns": {"servers": [lab.world.v4], "options": ["timeout:2"]}}
    assert make_box(config).lookup("web.lab.test")
    asked = lab.names.asked("web.lab.test")
    box = make_box(egress={"policy": "EGRESS_POLICY_CLOSED"})
    assert box.lookup("web.lab.test") == set() and lab.names.asked("web.lab.test") == asked
    named = make_box(egress={"rules": [rule(lab.world.v4, port_from=53)]})
    assert named.lookup("web.lab.test") == {lab.world.v4, lab.world.v6}
    check(named.reach("for=2", *world(lab)), [])


def test_the_policy_of_the_configuration(lab, make_box):
    box = make_box({"defaults": {"network": "bridge", "egress": f"{lab.world.v4}:{ECHO}/udp"}},
                   network=sandbox_pb2.NETWORK_MODE_UNSPECIFIED)
    assert box.sandbox.network == BRIDGE
    assert [r.cidr for r in box.sandbox.egress.rules] == [f"{lab.world.v4}/32"]
    wanted = [f"udp/{lab.world.v4}/{ECHO}"]
    check(box.reach("for=2", *world(lab)), wanted)
    check(make_box(egress={"policy": "EGRESS_POLICY_OPEN"}).reach(*world(lab)), world(lab))
    # Another one is for those that are made from then on.
    box.daemon.configure(defaults={"network": "bridge", "egress": "closed"})
    box.api.reload()
    check(make_box().reach("for=2", *world(lab)), [])
    check(box.reach("for=2", *world(lab)), wanted)
    box.api.stop(box.id)
    box.api.start(box.id)
    check(box.reach("for=2", *world(lab)), wanted)


def test_policies_of_the_command_line(lab, make_daemon, runtime):
    daemon = make_daemon()
    egress = f"{lab.world.v4}:{ECHO}/tcp,[{lab.world.v6}]:1-{ECHO}"
    done = daemon.ctl("create", "--runtime", runtime, "--name", "box", "--network", "bridge",
                      "--egress", egress)
    assert done.returncode == 0, done.stderr
    box = Box(daemon, runtime, daemon.api.get("box"))
    check(box.reach("for=2", *world(lab), f"tcp/{lab.world.v6}/80"),
          [f"tcp/{lab.world.v4}/{ECHO}", *echoes(lab.world.v6)])
    shown = json.loads(daemon.ctl("get", "--json", "box").stdout)
    assert shown["network"] == "bridge" and shown["addresses"] == list(box.sandbox.addresses)
    for address in box.sandbox.addresses:
        assert address in daemon.ctl("get", "box").stdout


def test_policies_that_are_none(make_daemon, runtime):
    api = make_daemon().api
    for egress, *words in (({"rules": [rule("10.0.0.1/8")]}, "10.0.0.1/8"),
                           ({"rules": [rule("web.lab.test")]}, "web.lab.test"),
                           ({"policy": "EGRESS_POLICY_LIST"},),
                           ({"policy": "EGRESS_POLICY_OPEN", "rules": [rule("10.0.0.0/8")]},),
                           ({"rules": [rule("10.0.0.0/8")] * 65}, "64")):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, *words):
            api.create(runtime=runtime, network=BRIDGE, egress=egress)
    for network in NONE, HOST:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "egress"):
            api.create(runtime=runtime, network=network, egress={"policy": "EGRESS_POLICY_CLOSED"})
    assert list(api.list()) == []


# --- other ways -------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ["runc"], indirect=True)
def test_addresses_of_others_are_no_use(lab, make_box):
    """Whoever is root in the sandbox's namespace cannot speak for others."""
    box, other = make_box(), make_box()
    netns = box.netns()
    strange = [*other.addresses(), "203.0.113.7", lab.world.host4, "fd5a:1ab:ffff::7"]
    for address in [*strange, *box.addresses()]:
        if address in strange:
            bits = "128" if ":" in address else "32"
            run("nsenter", f"--net={netns}", "ip", "address", "add", f"{address}/{bits}", "dev",
                "eth0", *(["nodad"] if ":" in address else []))
        target = lab.world.v6 if ":" in address else lab.world.v4
        lab.reached("for=1", f"from={address}", f"say={box.id}-{address}", *echoes(target),
                    netns=netns)
    heard = {word.removeprefix(f"{box.id}-") for word, _ in lab.echo.heard if box.id in word}
    assert heard == set(box.addresses())


def test_the_hosts_network(lab, make_box):
    """It is what it says: no isolation."""
    box = make_box(network=HOST)
    assert list(box.sandbox.addresses) == [] and box.lease() is None
    wanted = [*echoes("127.0.0.1", port=lab.loopback.port), *world(lab)]
    check(box.reach(*wanted), wanted)


def test_no_network_has_no_lease(lab, make_box):
    box = make_box(network=NONE)
    assert list(box.sandbox.addresses) == [] and box.lease() is None
    check(box.reach("for=1", *world(lab)), [])
    assert not (box.daemon.state / "network/ipam").exists()


@pytest.mark.parametrize("version", [0, 1])
def test_one_version_of_ip_alone(lab, make_daemon, runtime, version):
    daemon = make_daemon(start=False)
    daemon.config["network"]["subnets"] = [daemon.subnets[version]]
    daemon.start()
    box = Box(daemon, runtime)
    assert len(box.addresses()) == 1
    check(box.reach("for=2", *world(lab)), world(lab)[2 * version:2 * version + 2])


def test_two_daemons(lab, make_daemon, runtime):
    """They know nothing of each other, and each holds its own."""
    one, two = (Box(make_daemon(), runtime) for _ in range(2))
    ways = one.serve(), two.serve()
    check(one.reach("for=2", *ways[1], *world(lab)), world(lab))
    check(two.reach("for=2", *ways[0], *world(lab)), world(lab))
    assert one.daemon.finish() == []
    check(two.reach(*world(lab)), world(lab))
    check(lab.reached(*ways[1]), ways[1])
    one.daemon.start()
    two.daemon.restart("SIGKILL")
    check(two.reach(*world(lab)), world(lab))
