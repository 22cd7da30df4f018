"""A daemon of its own for a test, its API, and what it may not leave behind."""

import itertools
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections import namedtuple
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from sandboxd.v1 import app_pb2, app_pb2_grpc, host_pb2, host_pb2_grpc, process_pb2, process_pb2_grpc
from sandboxd.v1 import sandbox_pb2, sandbox_pb2_grpc, task_pb2, task_pb2_grpc

from metrics import Metrics
from received import Received

BUILD = Path(os.environ.get("BUILD", "build")).resolve()
DEPS = Path(os.environ.get("DEPS", "build/deps")).resolve()
LONG = os.environ.get("LONG") == "1"  # all of it, where a part shows nearly as much
# No variable of the caller's configures the daemon or the client.
ENVIRON = {k: v for k, v in os.environ.items() if not k.startswith("SANDBOXD_")}
ULID = r"[0-9a-hjkmnp-tv-z]{26}"


def find_runtime(name):
    """The program that a runtime of the tests stands for, or None: `runc`, `runsc` (r24, Debian
    13's), `runsc-r22` (Debian 12's)."""
    fetched = DEPS / {"runsc": "runsc-r24"}.get(name, name) / "usr/bin/runsc"
    return str(fetched) if fetched.exists() else shutil.which(name)


def runtimes():
    """For the configuration: all that are there."""
    found = {name: find_runtime(name) for name in ("runc", "runsc", "runsc-r22")}
    return {name: {"type": name.split("-")[0], "path": path} for name, path in found.items() if path}


def become(user, groups=()):
    """What begins a command that is to run as a user of this number, in his group and in these."""
    # Of subprocess itself, `user` and `preexec_fn` fork in a way that hangs once Debian 13's grpcio was
    # used.
    others = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    return ["setpriv", f"--reuid={user}", f"--regid={user}", others]


def wait_until(condition, what, seconds=10):
    """Until the condition holds; returns what it gave."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)
    return value


def settled(value, seconds=0.3):
    """What it is once it does not change for so long; that must come to pass within a minute."""
    end, last = time.monotonic() + 60, None
    while (now := value()) != last:
        assert time.monotonic() < end, f"it does not settle: {now}"
        last = now
        time.sleep(seconds)
    return now


@contextmanager
def within(seconds):
    """What is inside takes no longer."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"it took {took:.1f} s"


@contextmanager
def refused(code, *words):
    """The call inside fails with this code, and its message has these words."""
    with pytest.raises(grpc.RpcError) as info:
        yield
    assert info.value.code() == code, info.value.details()
    for word in words:
        assert word in info.value.details()


def state_name(sandbox):
    """RUNNING, STOPPED, ..."""
    return sandbox_pb2.SandboxState.Name(sandbox.state).removeprefix("SANDBOX_STATE_")


def cause_name(sandbox):
    """Why its main process ended: STOPPED, SIGNALED, ..."""
    return sandbox_pb2.ExitCause.Name(sandbox.exit.cause).removeprefix("EXIT_CAUSE_")


Result = namedtuple("Result", "stdout stderr code signal error")


def operation(api, ref):
    """The one that is under way, or None."""
    found = api.get(ref)
    return found.operation if found.HasField("operation") else None


class Api:
    """The stock gRPC client, with a deadline on everything."""

    def __init__(self, path, **options):
        # Its own connections: none in the back-off that another channel earned.
        options = {"use_local_subchannel_pool": 1} | options
        self.channel = grpc.insecure_channel(f"unix:{path}",
                                             options=[(f"grpc.{k}", v) for k, v in options.items()])
        self.sandboxes = sandbox_pb2_grpc.SandboxServiceStub(self.channel)
        self.processes = process_pb2_grpc.ProcessServiceStub(self.channel)
        self.apps = app_pb2_grpc.AppServiceStub(self.channel)
        self.hosts = host_pb2_grpc.HostServiceStub(self.channel)
        self.tasks = task_pb2_grpc.TaskServiceStub(self.channel)

    def close(self):
        self.channel.close()

    def info(self):
        return self.hosts.Info(host_pb2.HostServiceInfoRequest(), timeout=10)

    def reload(self, **fields):
        """The response: what was applied, and what needs a restart."""
        return self.hosts.Reload(host_pb2.HostServiceReloadRequest(**fields), timeout=30)

    def metrics(self):
        return Metrics(self.hosts.Metrics(host_pb2.HostServiceMetricsRequest(), timeout=10).text)

    def is_serving(self):
        """What grpc.health.v1 says of the whole daemon."""
        check = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        return check(b"", timeout=10) == b"\x08\x01"  # status: SERVING

    def create(self, timeout=60, **fields):
        request = sandbox_pb2.SandboxServiceCreateRequest(**fields)
        return self.sandboxes.Create(request, timeout=timeout).sandbox

    def get(self, ref):
        request = sandbox_pb2.SandboxServiceGetRequest(sandbox_id=ref)
        return self.sandboxes.Get(request, timeout=10).sandbox

    def list(self):
        request = sandbox_pb2.SandboxServiceListRequest()
        return self.sandboxes.List(request, timeout=10).sandboxes

    def start(self, ref, timeout=60):
        request = sandbox_pb2.SandboxServiceStartRequest(sandbox_id=ref)
        return self.sandboxes.Start(request, timeout=timeout).sandbox

    def stop(self, ref, timeout=60, **fields):
        request = sandbox_pb2.SandboxServiceStopRequest(sandbox_id=ref, **fields)
        return self.sandboxes.Stop(request, timeout=timeout).sandbox

    def pause(self, ref, timeout=60):
        request = sandbox_pb2.SandboxServicePauseRequest(sandbox_id=ref)
        return self.sandboxes.Pause(request, timeout=timeout).sandbox

    def resume(self, ref, timeout=60):
        request = sandbox_pb2.SandboxServiceResumeRequest(sandbox_id=ref)
        return self.sandboxes.Resume(request, timeout=timeout).sandbox

    def delete(self, ref, timeout=60, **fields):
        """Where the workspace is, if it was kept."""
        request = sandbox_pb2.SandboxServiceDeleteRequest(sandbox_id=ref, **fields)
        return self.sandboxes.Delete(request, timeout=timeout).workspace_path

    def keepalive(self, ref, **fields):
        request = sandbox_pb2.SandboxServiceKeepaliveRequest(sandbox_id=ref, **fields)
        return self.sandboxes.Keepalive(request, timeout=10).sandbox

    def wait(self, ref, *states, timeout=60):
        """For one of these, as `state` names them."""
        states = [f"SANDBOX_STATE_{state}" for state in states]
        request = sandbox_pb2.SandboxServiceWaitRequest(sandbox_id=ref, states=states)
        return self.sandboxes.Wait(request, timeout=timeout).sandbox

    def stats(self, ref):
        request = sandbox_pb2.SandboxServiceStatsRequest(sandbox_id=ref)
        return self.sandboxes.Stats(request, timeout=60).stats

    def watch(self, timeout=60, **fields):
        """The items of the stream, as they come."""
        request = sandbox_pb2.SandboxServiceWatchRequest(**fields)
        return self.sandboxes.Watch(request, timeout=timeout)

    def events(self, since=1, **fields):
        """All events from this number on that are told by now."""
        return [item.event for item in self.watch(from_sequence=since, until_now=True, **fields)
                if item.WhichOneof("item") == "event"]

    def state(self, ref):
        return state_name(self.get(ref))

    def stream(self, ref, *args, timeout=60, **fields):
        """The events of a command, as they come."""
        request = process_pb2.ProcessServiceStartRequest(sandbox_id=ref, args=args, **fields)
        return self.processes.Start(request, timeout=timeout)

    def run(self, ref, *args, **fields):
        """A command to its end. The events are checked: see Received."""
        got = Received().all(self.stream(ref, *args, **fields))
        assert got.end and not got.keepalives
        return Result(got.stdout, got.stderr, got.end.exit_code, got.end.signal, got.end.error)

    def sh(self, ref, script, **fields):
        """What a shell script in the sandbox prints; it must succeed."""
        result = self.run(ref, "sh", "-c", script, **fields)
        assert result.code == 0, result
        return result.stdout.decode()

    def spawn(self, ref, *args, **fields):
        """A program that no client waits for; its pid."""
        event, = self.stream(ref, *args, detach=True, **fields)
        assert event.start.pid > 1, event
        return event.start.pid

    def attach(self, ref, which, timeout=60, **fields):
        """Its events, as they come. which: here and below a pid or a tag."""
        request = process_pb2.ProcessServiceAttachRequest(sandbox_id=ref, process=selector(which),
                                                          **fields)
        return self.processes.Attach(request, timeout=timeout)

    def follow(self, ref, which, timeout=60, gaps=False, **fields):
        """What Attach tells until its stream ends."""
        offsets = {key: None if fields.get("from_now") else fields.get(key, 0)
                   for key in ("stdout_offset", "stderr_offset")}
        return Received(gaps=gaps, **offsets).all(self.attach(ref, which, timeout, **fields))

    def ps(self, ref, **fields):
        request = process_pb2.ProcessServiceListRequest(sandbox_id=ref, **fields)
        return list(self.processes.List(request, timeout=20).processes)

    def process(self, ref, pid):
        """As List shows it, whether it runs or not."""
        found, = [p for p in self.ps(ref, all=True) if p.pid == pid]
        return found

    def send_input(self, ref, which, data=b"", timeout=20, **fields):
        """How much was taken so far."""
        request = process_pb2.ProcessServiceSendInputRequest(
            sandbox_id=ref, process=selector(which), data=data, **fields)
        return self.processes.SendInput(request, timeout=timeout).offset

    def stream_input(self, ref, which, messages, timeout=60):
        """messages: of each the fields, or only the data. How much was taken so far."""
        def requests():
            fields = {"sandbox_id": ref, "process": selector(which)}
            for message in messages:
                fields |= message if isinstance(message, dict) else {"data": message}
                yield process_pb2.ProcessServiceStreamInputRequest(**fields)
                fields = {}

        return self.processes.StreamInput(requests(), timeout=timeout).offset

    def close_stdin(self, ref, which):
        request = process_pb2.ProcessServiceCloseStdinRequest(sandbox_id=ref,
                                                              process=selector(which))
        self.processes.CloseStdin(request, timeout=20)

    def signal(self, ref, which, number, scope="UNSPECIFIED", timeout=20, **fields):
        """To how many processes it was sent."""
        request = process_pb2.ProcessServiceSignalRequest(
            sandbox_id=ref, process=selector(which), signal=number,
            scope=f"SIGNAL_SCOPE_{scope}", **fields)
        return self.processes.Signal(request, timeout=timeout).processes

    def resize(self, ref, which, rows, columns):
        request = process_pb2.ProcessServiceResizeRequest(
            sandbox_id=ref, process=selector(which),
            size=process_pb2.TerminalSize(rows=rows, columns=columns))
        self.processes.Resize(request, timeout=20)

    def wait_process(self, ref, which, timeout=60):
        """How it ended."""
        request = process_pb2.ProcessServiceWaitRequest(sandbox_id=ref, process=selector(which))
        return self.processes.Wait(request, timeout=timeout).end

    def app(self, ref):
        """What there is of a sandbox's app."""
        return self.apps.Status(app_pb2.AppServiceStatusRequest(sandbox_id=ref), timeout=20).app

    def wait_for_app(self, ref, timeout=60):
        """The app, once its web is ready or cannot become it."""
        return self.apps.Wait(app_pb2.AppServiceWaitRequest(sandbox_id=ref), timeout=timeout).app

    def restart_app(self, ref, program=""):
        request = app_pb2.AppServiceRestartRequest(sandbox_id=ref, program=program)
        self.apps.Restart(request, timeout=20)

    def build_app(self, ref, timeout=60):
        """The response."""
        return self.apps.Build(app_pb2.AppServiceBuildRequest(sandbox_id=ref), timeout=timeout)


    def start_task(self, ref, prompt, agent="shell", timeout=20, **fields):
        request = task_pb2.TaskServiceStartRequest(sandbox_id=ref, agent=agent, prompt=prompt,
                                                   **fields)
        return self.tasks.Start(request, timeout=timeout).task

    def task(self, ref, task_id=""):
        """As Get shows it; the last one by default."""
        request = task_pb2.TaskServiceGetRequest(sandbox_id=ref, task_id=task_id)
        return self.tasks.Get(request, timeout=20).task

    def list_tasks(self, ref):
        request = task_pb2.TaskServiceListRequest(sandbox_id=ref)
        return list(self.tasks.List(request, timeout=20).tasks)

    def follow_task(self, ref, task_id="", since=1, timeout=120, **fields):
        """Its events, as they come. since: the number of the first."""
        request = task_pb2.TaskServiceEventsRequest(sandbox_id=ref, task_id=task_id, since=since,
                                                    **fields)
        return (response.event for response in self.tasks.Events(request, timeout=timeout))

    def finish_task(self, ref, task_id="", **fields):
        """All its events, to the end."""
        events = list(self.follow_task(ref, task_id, **fields))
        assert [e.number for e in events] == list(range(1, len(events) + 1))
        assert [e.WhichOneof("event") for e in events].index("done") == len(events) - 1
        return events

    def run_task(self, ref, prompt, **fields):
        """The events of a task, and how it is in the end."""
        task = self.start_task(ref, prompt, **fields)
        events = self.finish_task(ref, task.id)
        return events, self.task(ref, task.id)

    def cancel_task(self, ref, task_id="", timeout=60):
        request = task_pb2.TaskServiceCancelRequest(sandbox_id=ref, task_id=task_id)
        return self.tasks.Cancel(request, timeout=timeout).task

    def revert_task(self, ref, task_id, timeout=120):
        """How many files were written, how many removed."""
        request = task_pb2.TaskServiceRevertRequest(sandbox_id=ref, task_id=task_id)
        response = self.tasks.Revert(request, timeout=timeout)
        return response.files_restored, response.files_removed


def selector(which):
    """Of a process, by its pid or its tag."""
    return process_pb2.ProcessSelector(**{"pid" if isinstance(which, int) else "tag": which})


def output(call):
    """The data of a stream's next event that has some."""
    for event in call:
        if event.WhichOneof("event") == "data":
            return event.data.data.decode()
    raise AssertionError("the stream ended")


class Oci:
    """The engine of a daemon: what is known of its sandboxes without asking the daemon."""

    name = "oci"
    config = {}  # of the daemon

    def traces(self, daemon, what):
        """What there is of sandboxes, by the step that makes it: "bundle", "container" (the runtime
        knows of it), "pid" (its main process has started)."""
        pattern = {"bundle": "bundles/*", "container": "runtime/*/*", "pid": "bundles/*/pid"}[what]
        return list(daemon.state.glob(pattern))

    def init_pid(self, daemon, sandbox):
        """The process on the host that is, or holds, the sandbox's PID 1."""
        return int((daemon.state / "bundles" / sandbox.id / "pid").read_text())

    def busybox(self, daemon):
        """The root file system of the default image."""
        return self.image(daemon, "busybox")

    def image(self, daemon, name):
        """Where the root file system of a new image is to be made."""
        return daemon.data / "images" / name / "rootfs"

    def dev_image(self):
        """The development image, as a create names it."""
        return str(DEPS / "image-dev")

    def publish(self, daemon, name, rootfs, config):
        """It can be used from now on. config: that of an OCI image."""
        if config:
            (rootfs.parent / "image.json").write_text(json.dumps({"config": config}))

    def leftovers(self):
        """What of no daemon's sandbox, for people."""
        return []

    def clean(self):
        pass


class Daemon:
    """build/sandboxd, or another build of it, in a private directory with a configuration of its
    own."""

    def __init__(self, program=BUILD / "sandboxd", on=Oci(), **config):
        """on: its engine."""
        self.program = program
        self.engine = on
        self.dir = Path(tempfile.mkdtemp(prefix="sandboxd-"))
        self.socket = self.dir / "sandboxd.sock"
        self.data = self.dir / "data"
        self.state = self.dir / "state"
        self.log_file = self.dir / "log"
        self.config_file = self.dir / "sandboxd.yaml"
        self.config = {"socket": str(self.socket), "data_dir": str(self.data),
                       "state_dir": str(self.state), "runtimes": runtimes(),
                       "log": {"level": "debug"}} | on.config | config
        # No other daemon of this host gives its sandboxes these addresses.
        self.subnets = next_subnets()
        self.config["network"] = {"subnets": self.subnets} | config.get("network", {})
        self.pass_fds = ()
        self.process = None
        self.api = None
        self.apis = []  # of each start: open to the end, so that calls hear what became of them
        self.last_log = ""

    def command(self, *args):
        return [self.program, "--config", self.config_file, *args]

    def configure(self, **config):
        """Other keys in its file, for a reload."""
        self.config |= config
        self.config_file.write_text(json.dumps(self.config, indent=2))  # JSON is YAML

    def launch(self, **environ):
        """With these variables added to its environment. Does not wait until it listens."""
        self.configure()
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=ENVIRON | environ,
                                            pass_fds=self.pass_fds)

    def start(self, **environ):
        self.launch(**environ)
        wait_until(lambda: self.is_listening() or self.process.poll() is not None, "a socket")
        assert self.process.poll() is None, f"it ended: {self.log()}"
        self.api = Api(self.socket)
        self.apis.append(self.api)

    def is_listening(self):
        """This daemon: what one that was killed was about to start may hold its socket yet."""
        with socket.socket(socket.AF_UNIX) as s:
            if s.connect_ex(str(self.socket)) != 0:
                return False
            peer = s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            return struct.unpack("3i", peer)[0] == self.process.pid

    def run(self, *args, timeout=20):
        """For a daemon that is expected to end by itself."""
        self.configure()
        return subprocess.run(self.command(*args), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout, env=ENVIRON)

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        self.process.terminate()
        assert self.process.wait(20) == 0

    def kill(self):
        self.process.kill()
        self.process.wait(20)

    def restart(self, how):
        {"SIGTERM": self.stop, "SIGKILL": self.kill}[how]()
        self.start()

    def log(self):
        if self.log_file.exists():
            self.last_log = self.log_file.read_text(errors="replace")
        return self.last_log  # after destroy too

    def ctl(self, *args, timeout=60, **kwargs):
        return subprocess.run([BUILD / "sandboxctl", *args], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=timeout,
                              env=ENVIRON | {"SANDBOXD_SOCKET": str(self.socket)}, **kwargs)

    def memory(self):
        """The most that has been resident so far, in bytes."""
        return resident(self.process.pid, "VmHWM")

    def workspace(self, sandbox):
        return self.data / "workspaces" / sandbox.id

    def bring(self, sandbox, *files):
        """Copies files of the host into the sandbox's workspace."""
        for file in files:
            there = shutil.copy(file, self.workspace(sandbox))
            os.chown(there, 1000, 1000)

    def init_pid(self, sandbox):
        """The process on the host that is, or holds, the sandbox's PID 1."""
        return self.engine.init_pid(self, sandbox)

    def traces(self, what):
        """See Oci."""
        return self.engine.traces(self, what)

    def finish(self):
        """Removes every sandbox, stops the daemon, and returns what is left over."""
        if self.process is not None:
            if not self.is_running():
                self.start()
            for sandbox in self.api.list():
                self.remove(sandbox)
            wait_until(lambda: not self.zombies(), "every child of the daemon reaped")
        for api in self.apis:
            api.close()  # whoever stays and does not read is waited for
        if self.process is not None:
            self.stop()
        return self.leftovers()

    def remove(self, sandbox):
        """Or it is gone meanwhile: one whose create was interrupted is taken back."""
        try:
            self.api.delete(sandbox.id)
        except grpc.RpcError as e:
            if e.code() == grpc.StatusCode.DEADLINE_EXCEEDED and self.engine.name == "docker":
                self.api.delete(sandbox.id)  # a busy machine's engine did not answer in time
            elif e.code() != grpc.StatusCode.NOT_FOUND:
                raise

    def zombies(self):
        return [pid for pid, parent in stats("Z") if parent == self.process.pid]

    def ids(self):
        """Of every sandbox there ever was, also of those that no client was told of."""
        return set(re.findall(rf"(?<!request )\b{ULID}\b", self.log()))  # those are of calls

    def leftovers(self):
        ids = self.ids()
        ours = [str(self.dir), *ids]
        found = [f"process {pid}: {what}" for pid, what in processes(ours)]
        found += [f"mount {point}" for point in mounts(self.dir)]
        found += [f"cgroup {path}" for path in cgroups(ids)]
        found += [f"path {path}" for path in self.dir.rglob("*")
                  if any(id in path.name for id in ids)]
        return found + self.network_traces()

    def network_traces(self):
        """What there is of its sandboxes' networks, in files and in the kernel. Its table may stay,
        empty."""
        kept = self.state / "network"
        if not (kept / "ipam").exists():  # no plugin has been at work
            return []
        found = [f"lease {path}" for path in kept.iterdir() if path.name != "ipam"]
        found += [f"address {path}" for path in kept.glob("ipam/*/*")
                  if not re.match("lock$|last_reserved_ip", path.name)]
        for subnet in self.config["network"]["subnets"]:
            for what in ["route", "show", "root"], ["address", "show", "to"]:
                version = "-6" if ":" in subnet else "-4"
                listed = subprocess.run(["ip", version, "-o", *what, subnet], check=True, timeout=20,
                                        capture_output=True, text=True)
                found += [f"{what[0]} {line}" for line in listed.stdout.splitlines()]
        return found + self.rules()

    def rules(self):
        """What its table holds for single sandboxes."""
        listed = subprocess.run(["nft", "-j", "list", "table", "inet", network_table(self.state)],
                                capture_output=True, text=True, timeout=20, check=False)
        objects = json.loads(listed.stdout)["nftables"] if listed.returncode == 0 else []
        found = [f"{kind} {o[kind]['name']} {element}" for o in objects for kind in ("set", "map")
                 if kind in o for element in o[kind].get("elem", [])]
        return found + [f"chain {o['chain']['name']}" for o in objects
                        if o.get("chain", {}).get("name", "").startswith("p_")]

    def destroy(self):
        """Whatever the state of things: nothing of this daemon stays."""
        ids = self.ids()
        if self.is_running():
            self.process.kill()
            self.process.wait(20)
        wait_until(lambda: not kill([str(self.dir), *ids]), "the end of every process")
        for point in mounts(self.dir):
            subprocess.run(["umount", "-l", point], check=False, timeout=20)
        if shutil.which("nft"):  # the rules outlive their daemon
            subprocess.run(["nft", "delete", "table", "inet", network_table(self.state)],
                           check=False, timeout=20, stderr=subprocess.DEVNULL)
        for path in cgroups(ids):
            path.rmdir()
        shutil.rmtree(self.dir, ignore_errors=True)


def resident(pid, what="VmRSS"):
    """Of a process of the host, in bytes; VmHWM: the most so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{what}:\s*(\d+) kB", status).group(1)) * 1024


def identity(pid):
    """What tells a process of the host from every other there ever was; None: it is not alive."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (pid, int(fields[19])) if fields[0] not in "ZX" else None  # its time of start, proc(5)


def stats(states):
    """(pid, pid of the parent) of the host's processes that are in one of these states."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it has ended meanwhile
        if state in states:
            yield int(entry.name), int(parent)


def processes(words):
    """(pid, command line) of those alive that have one of these words in their command line or
    cgroup. What only waits for the host's PID 1 to reap it is not alive."""
    for pid, _ in stats("RSDTtI"):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
            text = command + Path(f"/proc/{pid}/cgroup").read_text()
        except OSError:
            continue
        if pid != os.getpid() and any(word in text for word in words):
            yield pid, command


def kill(words):
    """Those that `processes` finds, frozen or not; whether there were any."""
    found = False
    for pid, _ in processes(words):
        found = True
        try:
            os.kill(pid, signal.SIGKILL)
            for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
                number, names, path = line.split(":", 2)
                if names == "freezer":
                    Path(f"/sys/fs/cgroup/freezer{path}/freezer.state").write_text("THAWED")
                elif number == "0" and Path(f"/sys/fs/cgroup{path}/cgroup.freeze").exists():
                    Path(f"/sys/fs/cgroup{path}/cgroup.freeze").write_text("0")
        except OSError:
            pass  # it has ended meanwhile
    return found


def mounts(directory):
    """The mount points below a directory, the innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [p for p in reversed(points) if p.startswith(f"{directory}/")]


def fill(directory):
    """A file in it takes its file system to the last byte."""
    path = directory / "filler"
    with open(path, "ab", buffering=0) as f:
        for size in 1 << 20, 4096, 1:
            with suppress(OSError):
                while f.write(bytes(size)):
                    pass
    return path


SUBNETS = itertools.count(os.getpid() * 977)  # other tests may run on this host at once


def next_subnets():
    """For the sandboxes of a daemon."""
    number = next(SUBNETS) % (1 << 13)
    return [f"10.{144 + number // 256}.{number % 256}.0/24", f"fd73:616e:6478:{number:x}::/64"]


def network_table(state_dir):
    """The name of the nftables table (inet) of a daemon with this state directory."""
    hash_ = 0xcbf29ce484222325  # FNV-1a, as network_instance of daemon/network.c
    for byte in str(state_dir).encode():
        hash_ = (hash_ ^ byte) * 0x100000001b3 & (1 << 64) - 1
    return f"sandboxd_{hash_:016x}"


def cgroups(ids):
    """Directories of these sandboxes in any hierarchy, and those in them; the innermost first."""
    return [Path(top) / name for top, names, _ in os.walk("/sys/fs/cgroup", topdown=False)
            for name in names if any(id in f"{top}/{name}" for id in ids)]
