"""/etc/resolv.conf."""

import json

import grpc
import pytest

from harness import refused, wait_until

gvisor = pytest.mark.parametrize("runtime", ["runsc", "runsc-r22"], indirect=True)


OWN = {"servers": ["10.9.9.9", "2001:db8::53"], "search": ["own.example", "example"],
       "options": ["ndots:3", "rotate"]}
OWN_TEXT = ["nameserver 10.9.9.9", "nameserver 2001:db8::53", "search own.example example",
            "options ndots:3 rotate"]


def lines(api, ref):
    """Without the comment."""
    return api.sh(ref, "cat /etc/resolv.conf").splitlines()[1:]


def servers(api, sandbox):
    text = api.sh(sandbox.id, "cat /etc/resolv.conf")
    return [line.split()[1] for line in text.splitlines() if line.startswith("nameserver")]


@pytest.mark.docker
def test_configured(make_daemon, runtime):
    daemon = make_daemon(dns={"servers": ["9.9.9.9", "2620:fe::fe"], "search": ["example.org"]})
    sandbox = daemon.api.create(runtime=runtime)
    assert servers(daemon.api, sandbox) == ["9.9.9.9", "2620:fe::fe"]
    assert "search example.org" in daemon.api.sh(sandbox.id, "cat /etc/resolv.conf")


@pytest.mark.docker
@gvisor
def test_default(api, sandbox):
    assert servers(api, sandbox) == ["1.1.1.1", "8.8.8.8"]


@pytest.mark.docker
def test_cannot_be_written(api, sandbox):
    before = servers(api, sandbox)
    assert api.run(sandbox.id, "sh", "-c", "echo nameserver 6.6.6.6 >>/etc/resolv.conf").code != 0
    assert api.run(sandbox.id, "rm", "-f", "/etc/resolv.conf").code != 0
    assert servers(api, sandbox) == before


@pytest.mark.docker
@gvisor
def test_loopback_is_refused_for_gvisor(make_daemon, runtime):
    daemon = make_daemon(dns={"servers": ["127.0.0.11"]})
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "127.0.0.11", "dns.servers"):
        daemon.api.create(runtime=runtime)
    assert list(daemon.api.list()) == []
    # Elsewhere it is the operator's choice.
    assert servers(daemon.api, daemon.api.create(runtime="runc")) == ["127.0.0.11"]


# --- of a sandbox's own -----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_own_stays_for_life(make_daemon, runtime, how):
    daemon = make_daemon(dns={"servers": ["9.9.9.9"], "options": ["edns0"]})
    box = daemon.api.create(name="box", runtime=runtime, dns=OWN)
    part = daemon.api.create(name="part", runtime=runtime, dns={"search": ["part.example"]})
    assert {f: list(getattr(box.dns, f)) for f in OWN} == OWN
    assert not daemon.api.create(name="plain", runtime=runtime).HasField("dns")
    part_text = ["nameserver 9.9.9.9", "search part.example", "options edns0"]
    assert lines(daemon.api, "box") == OWN_TEXT and lines(daemon.api, "part") == part_text

    daemon.api.stop("part")
    daemon.restart(how)
    assert daemon.api.get("box").dns == box.dns and daemon.api.get("part").dns == part.dns
    assert lines(daemon.api, "box") == OWN_TEXT
    daemon.api.stop("box")
    for name, text in ("box", OWN_TEXT), ("part", part_text):
        daemon.api.start(name)
        assert lines(daemon.api, name) == text
    assert [s.dns for s in daemon.api.list()][:2] == [box.dns, part.dns]


@pytest.mark.docker
def test_a_reload_changes_only_what_was_not_given(make_daemon, runtime):
    daemon = make_daemon(dns={"servers": ["9.9.9.9"]})
    for name, own in ("all", OWN), ("some", {"servers": ["10.9.9.9"]}), ("none", {}):
        daemon.api.create(name=name, runtime=runtime, dns=own)
    daemon.configure(dns={"servers": ["8.8.4.4"], "search": ["new.example"], "options": ["edns0"]})
    assert daemon.api.reload().warning == ""
    rest = ["search new.example", "options edns0"]
    assert lines(daemon.api, "all") == OWN_TEXT
    assert lines(daemon.api, "some") == ["nameserver 10.9.9.9", *rest]
    assert lines(daemon.api, "none") == ["nameserver 8.8.4.4", *rest]

    # So does the next start of the daemon.
    daemon.configure(dns={"servers": ["1.0.0.1"]})
    daemon.restart("SIGKILL")
    wait_until(lambda: lines(daemon.api, "none") == ["nameserver 1.0.0.1"], "the new servers")
    wait_until(lambda: lines(daemon.api, "some") == ["nameserver 10.9.9.9"], "the new lists")
    assert lines(daemon.api, "all") == OWN_TEXT


def test_what_is_refused(api, runtime):
    for dns, *words in (
            ({"servers": ["10.0.0.1"] * 4}, "dns.servers", "1 to 3", "found 4"),
            ({"servers": ["dns.example"]}, "dns.servers", "IPv4 or IPv6 address", "'dns.example'"),
            ({"servers": [""]}, "dns.servers", "IPv4 or IPv6 address"),
            ({"servers": ["10.0.0.1\noptions x"]}, "dns.servers", "IPv4 or IPv6 address"),
            ({"servers": ["fe80::1%eth0"]}, "dns.servers", "IPv4 or IPv6 address", "fe80::1%eth0"),
            ({"search": ["a"] * 7}, "dns.search", "0 to 6", "found 7"),
            ({"search": ["a b"]}, "dns.search", "DNS name", "'a b'"),
            ({"options": ["x"] * 17}, "dns.options", "0 to 16", "found 17"),
            ({"options": ["x" * 65]}, "dns.options", "at most 64")):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, *words):
            api.create(runtime=runtime, dns=dns)
    assert list(api.list()) == []


@gvisor
def test_own_loopback_is_refused_for_gvisor(api, runtime):
    for address in "127.0.0.1", "127.1.2.3", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1":
        with refused(grpc.StatusCode.INVALID_ARGUMENT, f"dns.servers: gVisor's network stack cannot "
                     f"reach the loopback address {address};", "name a server on the network"):
            api.create(runtime=runtime, dns={"servers": ["10.0.0.1", address]})
    assert list(api.list()) == []
    # Under runc it may be a resolver that runs in the sandbox.
    box = api.create(runtime="runc", dns={"servers": ["127.0.0.1", "::1"]})
    assert servers(api, box) == ["127.0.0.1", "::1"]


@gvisor
def test_own_servers_where_the_configurations_are_no_use(make_daemon, runtime):
    daemon = make_daemon(dns={"servers": ["127.0.0.53"]})
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "127.0.0.53", "when you create the sandbox"):
        daemon.api.create(runtime=runtime, dns={"search": ["a.example"]})
    assert list(daemon.api.list()) == []
    box = daemon.api.create(runtime=runtime, dns={"servers": ["10.9.9.9"]})
    assert servers(daemon.api, box) == ["10.9.9.9"]
    daemon.configure(dns={"servers": ["127.0.0.54"]})
    assert daemon.api.reload().warning == ""
    assert servers(daemon.api, box) == ["10.9.9.9"]


def test_a_repeated_request_has_the_same(api):
    box = api.create(request_key="one", dns=OWN)
    assert api.create(request_key="one", dns=OWN).id == box.id
    for other in {}, OWN | {"servers": OWN["servers"][::-1]}, OWN | {"options": []}:
        with refused(grpc.StatusCode.ALREADY_EXISTS, "one"):
            api.create(request_key="one", dns=other)


def test_command_line(api, ctl):
    ctl("create", "--name", "box", "--dns", "10.9.9.9", "--dns=2001:db8::53", "--dns-search",
        "own.example", "--dns-search", "example", "--dns-option", "ndots:3", "--dns-option",
        "rotate", check=True)
    assert lines(api, "box") == OWN_TEXT
    assert json.loads(ctl("get", "--json", "box", check=True).stdout)["dns"] == OWN
    shown = [" ".join(line.split()) for line in ctl("get", "box").stdout.splitlines()]
    for line in ("dns: 10.9.9.9", "dns: 2001:db8::53", "dns search: own.example",
                 "dns search: example", "dns option: ndots:3", "dns option: rotate"):
        assert line in shown
    done = ctl("create", "--dns", "nobody")
    assert done.returncode == 1 and "INVALID_ARGUMENT: dns.servers" in done.stderr
