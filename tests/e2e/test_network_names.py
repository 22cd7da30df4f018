"""What sandboxes reach of the world, by name and by address: three resolvers, two versions of IP."""

import grpc
import pytest

from harness import refused
from lab import DNS, ECHO, PAGE

pytestmark = pytest.mark.oci_only("its networks are the daemon's own; for Docker's see test_docker.py")

every_runtime = pytest.mark.parametrize("runtime", ["runc", "runsc", "runsc-r22"], indirect=True)


@pytest.fixture
def dns(lab):
    """The configuration of a daemon that uses the world's first name server."""
    return {"dns": {"servers": [lab.world.v4], "search": ["lab.test"]}}


def everywhere(lab):
    return [f"{kind}/{a}/{ECHO}" for kind in ("tcp", "udp") for a in (lab.world.v4, lab.world.v6)]


@every_runtime
def test_the_world_is_reached(lab, make_box):
    box = make_box()
    for target in everywhere(lab):  # runsc-r22 with the host's stack is no good at many at once
        assert box.reach("for=20", target) == {target: "world hello"}, target


def test_who_is_seen_outside(lab, make_box):
    """The host: the addresses of sandboxes mean nothing out there."""
    box = make_box()
    box.reach(f"say={box.id}", *everywhere(lab))
    senders = {address for word, address in lab.echo.heard if word == box.id}
    assert senders == {lab.world.host4, lab.world.host6}


@every_runtime
@pytest.mark.parametrize("server", ["v4", "v6"])
def test_names_with_musl(lab, make_box, server):
    box = make_box({"dns": {"servers": [getattr(lab.world, server)], "search": ["lab.test"]}})
    both = {lab.world.v4, lab.world.v6}
    for name, addresses in {"web.lab.test": both, "web": both, "only4": {lab.world.v4},
                            "only6.lab.test": {lab.world.v6}, "absent.lab.test": set()}.items():
        assert box.lookup(name) == addresses, name


@every_runtime
def test_pages_with_busybox(lab, make_box, dns):
    """Its C library is glibc, without anything of it in the image."""
    box = make_box(dns)
    for name in "only4.lab.test", "only6.lab.test", "only4", "only6", "web":
        assert box.api.sh(box.id, f"wget -qO - http://{name}/", timeout=60) == PAGE
    assert box.api.run(box.id, "wget", "-qO", "-", "http://absent/").code != 0


def test_pages_in_the_development_image(lab, make_box, dns, dev_image):
    """glibc as it is on a machine, and what an agent uses."""
    box = make_box(dns, image=dev_image)

    def sh(script):
        return box.api.sh(box.id, script, timeout=60)

    assert sh("getent ahosts web | awk '{print $1}' | sort -u").split() == \
        sorted([lab.world.v4, lab.world.v6])
    for family, name in ("-4", "web"), ("-6", "web"), ("-4", "only4"), ("-6", "only6.lab.test"):
        assert sh(f"curl -sSf -m 20 {family} http://{name}/") == PAGE
    assert box.api.run(box.id, "curl", "-sSf", "-m", "20", "http://absent/").code == 6
    assert sh("python3 -c 'import urllib.request as u; print(u.urlopen(\"http://web/\").read())'"
              ) == f"{PAGE.encode()!r}\n"
    assert sh("node -e 'require(\"http\").get(\"http://web/\", r => r.pipe(process.stdout))'") == PAGE


@every_runtime
def test_another_name_server_by_reload(lab, make_box, dns):
    box = make_box(dns)
    first, second = ({getattr(lab.world, f"{which}{v}") for v in (4, 6)}
                     for which in ("v", "other"))
    assert box.lookup("web.lab.test") == first
    box.daemon.configure(dns={"servers": [lab.world.other6]})
    assert box.api.reload().warning == ""
    assert box.lookup("web.lab.test") == second
    assert box.lookup("web") == set()  # nor does it search any more

    # Who is paused meanwhile finds it when it goes on.
    box.api.pause(box.id)
    box.daemon.configure(**dns)
    assert box.api.reload().warning == ""
    box.api.resume(box.id)
    assert box.lookup("web") == first


def test_a_sandbox_has_its_own(lab, make_box, dns):
    make_box(dns)
    own = make_box(dns={"servers": [lab.world.other4], "search": ["example", "lab.test"]})
    assert own.lookup("web") == {lab.world.other4, lab.world.other6}
    assert own.lookup("only4") == set()


def test_a_dead_server_is_passed_over(lab, make_box):
    """The next one of the list has the answer."""
    box = make_box({"dns": {"servers": [lab.container.v4, lab.world.v6],
                            "options": ["timeout:1"]}})
    assert box.lookup("web.lab.test") == {lab.world.v4, lab.world.v6}


def test_a_name_server_on_the_host(lab, make_box):
    """Its port 53 is open to sandboxes, and no other."""
    addresses = [lab.world.host4, lab.world.host6]
    server = lab.name_server(addresses, [f"web.lab.test,{lab.world.v4}"])
    try:
        for address in addresses:
            box = make_box({"dns": {"servers": [address]}})
            assert box.lookup("web.lab.test") == {lab.world.v4}
            other = next(a for a in addresses if a != address)
            shut = [f"{kind}/{a}/{lab.host.port}" for kind in ("tcp", "udp") for a in addresses]
            shut.append(f"tcp/{other}/{DNS}")  # not a server of this configuration
            assert box.reach(f"tcp/{lab.world.v4}/{ECHO}", *shut).keys() == \
                {f"tcp/{lab.world.v4}/{ECHO}"}
            assert lab.reached(*shut[:-1], netns=lab.world.netns).keys() == set(shut[:-1])
    finally:
        lab.closing.remove(server)
        server.close()


def test_a_resolver_on_the_hosts_loopback(lab, make_box):
    """It is nobody's in a sandbox: gVisor refuses it, under runc it is the sandbox's loopback."""
    config = {"dns": {"servers": ["127.0.0.53"]}}
    if "runsc" in (box_runtime := make_box.runtime):
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "127.0.0.53", "dns.servers"):
            make_box(config)
    else:
        box = make_box(config)
        assert box_runtime == "runc" and box.lookup("web.lab.test") == set()
