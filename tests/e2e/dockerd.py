"""A Docker Engine of the tests' own: real dockerd and containerd, which `make deps` has unpacked, or
those that DOCKER names.

They live in a mount and a network namespace of their own, where /run is empty: the machine's own
Docker, its links and its firewall are neither seen nor touched, and what was mounted or configured
ends with the last process in there. Mounts of the host still arrive there, so that binds of host
paths are what the host sees."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from harness import DEPS, ENVIRON, Daemon, cgroups, find_runtime, kill, wait_until

ROOT = Path(os.environ.get("DOCKER", DEPS / "docker"))
LIBRARIES = ":".join(map(str, ROOT.glob("lib/*-linux-gnu")))
PATH = f"{ROOT}/usr/bin:{ROOT}/usr/sbin:{ENVIRON['PATH']}"
START_MAX = 30  # seconds, until it answers
# Without Kubernetes' side of it.
CONTAINERD = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
# In the namespaces, before anything else. What keeps them is the process that this becomes.
NAMESPACES = "mount -t tmpfs tmpfs /run && ip link set lo up && exec sleep infinity"
# A runsc from before release-20240807 cannot start on Linux 6.11 and newer unless /proc/sys/net/core
# of the container's network is out of its sight (docs/gvisor.md). At the other verbs it is itself.
RUNSC = """#!/bin/sh
case " $* " in *' start '*) ;; *) exec '@REAL@' "$@" ;; esac
state=$('@REAL@' $(echo "$*" | sed 's/ start / state /'))
net=/proc/$(echo "$state" | sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p')/ns/net
exec unshare --mount --propagation=slave sh -c '
nsenter --net="$0" sh -c "[ ! -e /proc/sys/net/core ] ||
        mount -t tmpfs -o ro,size=4k none /proc/sys/net/core"
exec "$@"' "$net" '@REAL@' "$@"
"""


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout=60):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class ApiError(Exception):
    def __init__(self, status, message):
        super().__init__(f"{status}: {message}")
        self.status = status


class Dockerd:
    """In a private directory. Its runtimes are runc, also by other names, and of the tests' runsc
    what there is, as docs/docker.md tells to register them; `NAME-no-uds` is the same without
    --host-uds=create."""

    def __init__(self, **config):
        """config: keys of daemon.json."""
        self.dir = Path(tempfile.mkdtemp(prefix="dockerd-"))
        self.socket = self.dir / "docker.sock"
        self.log_file = self.dir / "log"
        self.busybox = self.dir / "busybox"  # the root file system of the image of that name
        self.has_dev_image = False
        self.name = self.dir.name  # also that of its cgroup; stands in every command line and cgroup
        self.config = {
            "hosts": [f"unix://{self.socket}"], "containerd": f"{self.dir}/containerd.sock",
            "data-root": f"{self.dir}/data", "exec-root": f"{self.dir}/exec",
            "pidfile": f"{self.dir}/pid", "cgroup-parent": f"/{self.name}",
            "exec-opts": ["native.cgroupdriver=cgroupfs"], "bridge": "none",
            "runtimes": self.make_runtimes()} | config
        self.namespaces = self.containerd = self.process = None

    def make_runtimes(self):
        made = {name: {"path": "runc"} for name in ("other", "mine")}
        for name in "runsc", "runsc-r22":
            if real := find_runtime(name):
                path = self.dir / name
                path.write_text(RUNSC.replace("@REAL@", real))
                path.chmod(0o755)
                made[name] = {"path": str(path), "runtimeArgs": ["--host-uds=create"]}
                made[f"{name}-no-uds"] = {"path": str(path)}
        return made

    def start(self):
        """All of it, or what of it does not run."""
        if self.namespaces is None:
            self.namespaces = self.spawn("unshare", "--mount", "--net", "--propagation=slave",
                                         "sh", "-c", NAMESPACES)
            wait_until(lambda: "sleep" in Path(f"/proc/{self.namespaces.pid}/comm").read_text(),
                       "namespaces for dockerd")
            if "userns-remap" in self.config:
                self.map_users()
            (self.dir / "containerd.toml").write_text(CONTAINERD)
            self.containerd = self.spawn_inside(
                "containerd", f"--config={self.dir}/containerd.toml", f"--address={self.dir}/containerd.sock",
                f"--root={self.dir}/containerd", f"--state={self.dir}/containerd-state")
        self.launch()
        wait_until(self.answers, "dockerd answers", START_MAX)

    def map_users(self):
        """Users to map those of containers to: in the namespaces `daemon` has some."""
        users = self.dir / "users"
        users.write_text("daemon:200000:65536\n")
        for file in "/etc/subuid", "/etc/subgid":
            self.inside("mount", "--bind", str(users), file)
        self.dir.chmod(0o711)  # for what is root in a container

    def launch(self):
        """dockerd alone; does not wait until it answers."""
        (self.dir / "daemon.json").write_text(json.dumps(self.config))
        self.process = self.spawn_inside("dockerd", f"--config-file={self.dir}/daemon.json")

    def spawn(self, *command):
        with open(self.log_file, "ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    env=ENVIRON | {"PATH": PATH, "LD_LIBRARY_PATH": LIBRARIES})

    def spawn_inside(self, *command):
        return self.spawn("nsenter", f"--target={self.namespaces.pid}", "--mount", "--net", *command)

    def answers(self):
        assert self.process.poll() is None, f"dockerd ended: {self.log()}"
        try:
            return self.api("GET", "/_ping") == "OK"
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

    def reload(self):
        """What it takes from daemon.json while it runs; runtimes among it."""
        (self.dir / "daemon.json").write_text(json.dumps(self.config))
        reloads = self.log().count("Reloaded configuration")
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.log().count("Reloaded configuration") > reloads, "dockerd reloads")

    def inside(self, *command):
        """Runs it in the namespaces."""
        assert self.spawn_inside(*command).wait(20) == 0, self.log()

    def kill(self):
        self.process.kill()
        self.process.wait(30)

    def log(self):
        return self.log_file.read_text(errors="replace")

    def api(self, method, path, body=None, timeout=60, **query):
        """What it answers: JSON, or text."""
        connection = Connection(self.socket, timeout)
        kind = {"Content-Type": "application/json"}
        if isinstance(body, bytes):
            kind = {"Content-Type": "application/x-tar"}
        elif body is not None:
            body = json.dumps(body)
        try:
            connection.request(method, f"{path}?{urlencode(query, doseq=True)}", body, kind)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        finally:
            connection.close()
        if response.status >= 400:
            raise ApiError(response.status, text)
        return json.loads(text) if "json" in response.getheader("Content-Type", "") else text

    def containers(self, **filters):
        """All of them, also those that do not run. filters: {"label": ["a=b"]}, ..."""
        return self.api("GET", "/containers/json", all="1", filters=json.dumps(filters))

    def named(self, name):
        """The container, or None."""
        return next(iter(self.containers(name=[f"^/{name}$"])), None)

    def run(self, name, command, labels={}, image="busybox", **host):
        """The id of a container, as `docker run` makes it; host: of its HostConfig."""
        container = self.api("POST", "/containers/create", name=name, body={
            "Image": image, "Cmd": command, "Labels": labels,
            "HostConfig": {"NetworkMode": "none"} | host})["Id"]
        self.api("POST", f"/containers/{container}/start")
        return container

    def logs(self, container):
        """stdout and stderr, with the heads of their chunks between."""
        return self.api("GET", f"/containers/{container}/logs", stdout="1", stderr="1")

    def load(self, rootfs, name, changes=()):
        """An image of that directory; changes: as `docker import --change` takes them."""
        tar = subprocess.run(["tar", "-C", rootfs, "-c", "."], check=True, stdout=subprocess.PIPE,
                             timeout=60)
        repo, _, tag = name.partition(":")
        self.api("POST", "/images/create", tar.stdout, fromSrc="-", repo=repo, tag=tag or "latest",
                 changes=list(changes))

    def load_busybox(self):
        """The image that the other engine has, so that tests find the same in their sandboxes."""
        daemon = Daemon()
        try:
            daemon.start()
            daemon.stop()
            shutil.move(daemon.data / "images/busybox/rootfs", self.busybox)
            self.load(self.busybox, "busybox")
        finally:
            daemon.destroy()

    def volumes(self):
        """Their names."""
        return [volume["Name"] for volume in self.api("GET", "/volumes")["Volumes"] or []]

    def leftovers(self):
        """Of containers, for people."""
        found = [f"container {c['Names']} {c['Id']}" for c in self.containers()]
        found += [f"volume {name}" for name in self.volumes()]
        return found + [f"cgroup {path}" for path in cgroups([f"/{self.name}/"])]

    def remove(self, container):
        self.api("DELETE", f"/containers/{container}", force="1", v="1")

    def remove_containers(self):
        for container in self.containers():
            try:
                self.remove(container["Id"])
            except ApiError as error:
                assert error.status in (404, 409), error  # it is being removed
        wait_until(lambda: not self.containers(), "every container removed", seconds=30)

    def destroy(self):
        """Whatever the state of things: nothing of it stays."""
        wait_until(lambda: not kill([self.name]), "the end of every process of dockerd's")
        for process in self.process, self.containerd, self.namespaces:
            if process is not None:
                process.kill()
                process.wait(20)
        for path in cgroups([self.name]):
            path.rmdir()
        shutil.rmtree(self.dir)


class DockerEngine:
    """As harness.Oci."""

    name = "docker"

    def __init__(self, dockerd, socket=None):
        """socket: another way to it."""
        self.dockerd = dockerd
        self.config = {"engine": "docker", "docker": {"socket": str(socket or dockerd.socket)},
                       "runtimes": {name: {"type": name.split("-")[0]}
                                    for name in ("runc", "runsc", "runsc-r22")}}

    def traces(self, daemon, what):
        if what == "bundle":
            return list(daemon.state.glob("bundles/*"))
        states = ["running"] if what == "pid" else []
        return self.dockerd.containers(label=["sandboxd.managed"], status=states)

    def container(self, daemon, sandbox):
        """As `inspect` shows it."""
        found, = self.dockerd.containers(label=[f"sandboxd.id={sandbox.id}"])
        return self.dockerd.api("GET", f"/containers/{found['Id']}/json")

    def busybox(self, daemon):
        return self.dockerd.busybox

    def image(self, daemon, name):
        return self.dockerd.dir / f"image-{name}"

    def dev_image(self):
        if not self.dockerd.has_dev_image:
            self.dockerd.load(DEPS / "image-dev", "dev")
            self.dockerd.has_dev_image = True
        return "dev"

    def publish(self, daemon, name, rootfs, config):
        changes = ["ENV {}={}".format(name, json.dumps(value)) for name, _, value in
                   (variable.partition("=") for variable in config.get("Env", []))]
        changes += [f"{key.upper()} {json.dumps(config[key])}" for key in ("Entrypoint", "Cmd")
                    if key in config]
        changes += [f"{word} {config[key]}" for key, word in [("User", "USER"),
                                                             ("WorkingDir", "WORKDIR")]
                    if config.get(key)]
        self.dockerd.load(rootfs, name, changes)
        shutil.rmtree(rootfs)

    def init_pid(self, daemon, sandbox):
        return self.container(daemon, sandbox)["State"]["Pid"]

    def leftovers(self):
        return self.dockerd.leftovers()

    def clean(self):
        self.dockerd.remove_containers()
