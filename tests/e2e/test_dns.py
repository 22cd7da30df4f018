"""/etc/resolv.conf."""

import grpc
import pytest

from harness import refused

gvisor = pytest.mark.parametrize("runtime", ["runsc", "runsc-r22"], indirect=True)


def servers(api, sandbox):
    text = api.sh(sandbox.id, "cat /etc/resolv.conf")
    return [line.split()[1] for line in text.splitlines() if line.startswith("nameserver")]


def test_configured(make_daemon, runtime):
    daemon = make_daemon(dns={"servers": ["9.9.9.9", "2620:fe::fe"], "search": ["example.org"]})
    sandbox = daemon.api.create(runtime=runtime)
    assert servers(daemon.api, sandbox) == ["9.9.9.9", "2620:fe::fe"]
    assert "search example.org" in daemon.api.sh(sandbox.id, "cat /etc/resolv.conf")


@gvisor
def test_default(api, sandbox):
    assert servers(api, sandbox) == ["1.1.1.1", "8.8.8.8"]


def test_cannot_be_written(api, sandbox):
    before = servers(api, sandbox)
    assert api.run(sandbox.id, "sh", "-c", "echo nameserver 6.6.6.6 >>/etc/resolv.conf").code != 0
    assert api.run(sandbox.id, "rm", "-f", "/etc/resolv.conf").code != 0
    assert servers(api, sandbox) == before


@gvisor
def test_loopback_is_refused_for_gvisor(make_daemon, runtime):
    daemon = make_daemon(dns={"servers": ["127.0.0.11"]})
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "127.0.0.11", "dns.servers"):
        daemon.api.create(runtime=runtime)
    assert list(daemon.api.list()) == []
    # Elsewhere it is the operator's choice.
    assert servers(daemon.api, daemon.api.create(runtime="runc")) == ["127.0.0.11"]
