"""A world outside of the host, to reach or not to reach: network namespaces of the test's own with
name servers and services in them, and what sees them from where. Several may be on a host at once."""

import ctypes
import http.server
import json
import os
import secrets
import selectors
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress
from ipaddress import ip_address, ip_network

import pytest
from sandboxd.v1 import sandbox_pb2

from harness import BUILD, wait_until

REACH = BUILD / "tests/reach"
BRIDGE = sandbox_pb2.NETWORK_MODE_BRIDGE
# Of AWS and most others, AWS, Google, Oracle, Scaleway, Linode, Alibaba.
METADATA = ("169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42",
            "fd00:a9fe:a9fe::1", "fd00:100::100:200")
ECHO, WEB, DNS = 7, 80, 53
PAGE = "a page of the world\n"

libc = ctypes.CDLL(None, use_errno=True)


def run(*command, check=True, **kwargs):
    return subprocess.run(list(map(str, command)), check=check, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=20, **kwargs)


def setns(file):
    """Of this thread."""
    if libc.setns(file.fileno(), 0x40000000) != 0:  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def inside(netns):
    """What makes a socket here, makes it in that namespace (a path; None: the host's)."""
    with open("/proc/thread-self/ns/net") as own, open(netns or own.name) as other:
        setns(other)
        try:
            yield
        finally:
            setns(own)


def listen(address, port, kind, netns=None):
    """address: "::" for all there are, of IPv4 too."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(netns):
        s = socket.socket(family, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        s.bind((address, port))
        if kind == socket.SOCK_STREAM:
            s.listen(64)
        return s


class Echo:
    """Answers "NAME WORD" to each WORD, over TCP and UDP, and keeps in mind from whom it came."""

    def __init__(self, name, port=0, address="::", netns=None):
        self.name = name
        self.heard = []  # (word, address of its sender)
        self.selector = selectors.DefaultSelector()
        streams = listen(address, port, socket.SOCK_STREAM, netns)
        self.port = streams.getsockname()[1]
        packets = listen(address, self.port, socket.SOCK_DGRAM, netns)
        if packets.family == socket.AF_INET6:
            packets.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self.add(streams, self.accept)
        self.add(packets, self.on_packet)
        self.awake, self.end = socket.socketpair()
        self.selector.register(self.awake, selectors.EVENT_READ, None)
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def add(self, s, on_readable):
        s.setblocking(False)
        self.selector.register(s, selectors.EVENT_READ, on_readable)

    def serve(self):
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    return
                with suppress(OSError):
                    key.data(key.fileobj)

    def accept(self, s):
        self.add(s.accept()[0], self.on_stream)

    def on_stream(self, s):
        data = s.recv(256)
        if data:
            s.send(self.answer(data, s.getpeername()))
        else:
            self.selector.unregister(s)
            s.close()

    def on_packet(self, s):
        """The answer comes from the address that was spoken to, of all there are."""
        data, to, _, peer = s.recvmsg(256, 256)
        s.sendmsg([self.answer(data, peer)], to, 0, peer)

    def answer(self, data, peer):
        address = ip_address(peer[0].split("%")[0])
        self.heard.append((data.decode().strip(), str(getattr(address, "ipv4_mapped", 0) or address)))
        return self.name.encode() + b" " + data

    def close(self):
        self.end.send(b"x")
        self.thread.join(20)
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()
        self.end.close()


class Web:
    """A page on all addresses of a namespace."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *args):
            pass

    def __init__(self, netns):
        self.server = http.server.ThreadingHTTPServer(("", WEB), self.Handler,
                                                      bind_and_activate=False)
        self.server.socket.close()
        self.server.socket = listen("::", WEB, socket.SOCK_STREAM, netns)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(20)


class NameServer:
    """dnsmasq: `records` are those of its option host-record; no other name exists."""

    def __init__(self, directory, addresses, records, netns=None):
        self.log = directory / f"dnsmasq-{addresses[0]}"
        enter = ["nsenter", f"--net={netns}"] if netns else []
        command = [*enter, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
                   "--no-resolv", "--no-hosts", "--user=root", "--pid-file=", "--local=/#/",
                   "--bind-interfaces", "--except-interface=lo", "--log-queries",
                   f"--log-facility={self.log}",
                   *(f"--listen-address={a}" for a in addresses),
                   *(f"--host-record={r}" for r in records)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def wait(self):
        wait_until(lambda: self.log.exists() and "started" in self.log.read_text(), "dnsmasq")

    def asked(self, name):
        """How often somebody has."""
        return self.log.read_text().count(f"] {name} from ")

    def close(self):
        self.process.terminate()
        self.process.wait(20)


class Namespace:
    """Joined to the host by a link with addresses at both ends."""

    def __init__(self, name, link, subnet4, subnet6):
        self.name, self.link = name, link
        self.netns = f"/run/netns/{name}"
        self.host4, self.v4, self.other4 = (str(ip_network(subnet4)[n]) for n in (1, 2, 3))
        self.host6, self.v6, self.other6 = (str(ip_network(subnet6)[n]) for n in (1, 2, 3))

    def make(self):
        """In a method of its own: what it made is removed when it fails too."""
        name, link = self.name, self.link
        run("ip", "netns", "add", name)
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        for where, device, addresses in (
                ([], link, (self.host4, self.host6)),
                (["-n", name], "eth0", (self.v4, self.v6, self.other4, self.other6))):
            run("ip", *where, "link", "set", device, "up")
            for address in addresses:
                self.add(address, device, where, 28 if "." in address else 64)
        run("ip", "-n", name, "link", "set", "lo", "up")
        for gateway in self.host4, self.host6:
            run("ip", "-n", name, "route", "add", "default", "via", gateway)

    @staticmethod
    def add(address, device, where, prefix):
        v6 = ["nodad"] if ":" in address else []  # no waiting for somebody who has it too
        run("ip", *where, "address", "add", f"{address}/{prefix}", "dev", device, *v6)

    def close(self):
        for command in ["ip", "link", "delete", self.link], ["ip", "netns", "delete", self.name]:
            run(*command, check=False)


class Lab:
    """The world, with all that is public; a container on the host with a published port; and what
    listens on the host's own addresses."""

    def __init__(self, directory):
        self.directory = directory
        self.closing = []
        try:
            self.make()
        except BaseException:
            self.close()
            raise

    def opened(self, thing):
        self.closing.append(thing)
        return thing

    def make(self):
        number = secrets.randbits(12)
        self.token = f"{number:03x}{secrets.token_hex(2)}"
        subnet4 = f"10.{208 + number // 256}.{number % 256}"
        self.world = self.namespace("w", f"{subnet4}.0/28", f"fd5a:1ab:{number:x}:1::/64")
        self.container = self.namespace("c", f"{subnet4}.16/28", f"fd5a:1ab:{number:x}:2::/64")
        self.metric = 10000 + number  # others on this host may have their own ways there
        self.route_metadata()
        netns = self.world.netns
        self.echo = self.opened(Echo("world", ECHO, netns=netns))
        self.web = self.opened(Web(netns))
        self.host = self.opened(Echo("host"))
        self.loopback = self.opened(Echo("loopback", address="127.0.0.1"))
        self.names = self.name_server([self.world.v4, self.world.v6],
                                      [f"web.lab.test,{self.world.v4},{self.world.v6}",
                                       f"only4.lab.test,{self.world.v4}",
                                       f"only6.lab.test,{self.world.v6}"], netns)
        self.other_names = self.name_server([self.world.other4, self.world.other6],
                                            [f"web.lab.test,{self.world.other4},"
                                             f"{self.world.other6}"], netns)
        self.published = self.publish()

    def namespace(self, what, subnet4, subnet6):
        namespace = self.opened(Namespace(f"sandboxd-lab-{self.token}{what}",
                                          f"lab{self.token}{what}", subnet4, subnet6))
        namespace.make()
        return namespace

    def name_server(self, addresses, records, netns=None):
        server = self.opened(NameServer(self.directory, addresses, records, netns))
        server.wait()
        return server

    def route_metadata(self):
        for address in METADATA:
            bits, via = (128, self.world.v6) if ":" in address else (32, self.world.v4)
            self.world.add(address, "lo", ["-n", self.world.name], bits)
            run("ip", "route", "add", f"{address}/{bits}", "via", via, "metric", self.metric)

    def publish(self):
        """A port of the host that is a container's, as Docker does it; its number."""
        echo = self.opened(Echo("container", netns=self.container.netns))
        self.table = f"lab_{self.token}"
        text = f"""table inet {self.table} {{
            chain prerouting {{
                type nat hook prerouting priority dstnat
                ip daddr {self.world.host4} tcp dport {echo.port} dnat ip to {self.container.v4}
                ip6 daddr {self.world.host6} tcp dport {echo.port} dnat ip6 to {self.container.v6}
            }}
        }}"""
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True, timeout=20)
        return echo.port

    def reached(self, *args, netns=None):
        """What answers to whom is there: {target: answer}. netns: a path; None: the host."""
        enter = ["nsenter", f"--net={netns}"] if netns else []
        return answers(run(*enter, REACH, *args, check=False).stdout)

    def close(self):
        with suppress(AttributeError):
            run("nft", "delete", "table", "inet", self.table, check=False)
        for thing in reversed(self.closing):
            thing.close()


def answers(text):
    return dict(line.split(" ", 1) for line in text.splitlines())


class Box:
    """A sandbox with a network, and what is reached from it."""

    def __init__(self, daemon, runtime, sandbox=None, **fields):
        """sandbox: that there is already."""
        self.daemon = daemon
        self.sandbox = sandbox or self.api.create(runtime=runtime, **{"network": BRIDGE} | fields)
        self.id = self.sandbox.id
        daemon.bring(self.sandbox, REACH)

    @property
    def api(self):
        """Of the daemon that runs now."""
        return self.daemon.api

    def reach(self, *args):
        """{target: answer}"""
        return answers(self.api.run(self.id, "./reach", *args).stdout.decode())

    def lookup(self, name):
        """The addresses that musl's resolver finds; none: it does not."""
        found = self.api.run(self.id, "./reach", "lookup", name, timeout=60)
        return set(found.stdout.decode().split())

    def serve(self, port=9000):
        """Answers "served WORD" from now on; the targets that are at its addresses."""
        events = self.api.stream(self.id, "./reach", "serve", str(port), timeout=3600)
        assert [next(events).WhichOneof("event") for _ in range(2)] == ["start", "data"]
        self.server = events
        return [f"{kind}/{a}/{port}" for a in self.addresses() for kind in ("tcp", "udp")]

    def addresses(self):
        """IPv4 first."""
        found = [a.split("/")[0] for a in self.api.get(self.id).addresses]
        return sorted(found, key=lambda a: ":" in a)

    def lease(self):
        """The directory of its network."""
        for owner in (self.daemon.state / "network").glob("*/sandbox"):
            if json.loads(owner.read_text())["id"] == self.id:
                return owner.parent
        return None

    def netns(self):
        return self.lease() / "netns"

    def link(self):
        """The host's interface to it."""
        interfaces = json.loads((self.lease() / "result").read_text())["interfaces"]
        link, = [i["name"] for i in interfaces if not i.get("sandbox")]
        return link


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    if lacking := [p for p in ("dnsmasq", "nft", "ip") if not shutil.which(p)]:
        pytest.skip(f"no {', '.join(lacking)} on this machine: run 'make deps'")
    if not os.path.exists("/usr/lib/cni/ptp"):
        pytest.skip("no CNI plugins on this machine: run 'make deps'")
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.close()


@pytest.fixture
def make_box(lab, make_daemon, runtime):
    """Makes sandboxes with networks: of one daemon, whose configuration the first call gives."""
    daemons = []

    def make(config=None, **fields):
        if config is not None or not daemons:
            daemons.append(make_daemon(**config or {}))
        return Box(daemons[-1], **{"runtime": runtime} | fields)

    make.runtime = runtime
    return make
