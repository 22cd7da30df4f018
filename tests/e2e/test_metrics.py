"""HostService.Metrics: the numbers agree with what was done, and are not more than they should be."""

import json
import os
import re
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from sandboxd.v1 import sandbox_pb2

from harness import Daemon, refused, runtimes, wait_until, within
from metrics import PROMTOOL, promtool
from shim import shimmed_daemon
from ttrpc_client import Client, Error

LONG = os.environ.get("LONG") == "1"
ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "packaging/prometheus/sandboxd.rules.yml"
RULES_TEST = ROOT / "packaging/prometheus/sandboxd.test.yml"
DASHBOARD = ROOT / "packaging/grafana/sandboxd.json"
DOCS = ROOT / "docs/metrics.md"
SANDBOXES = "sandboxd.v1.SandboxService"
KIB, MIB = 1 << 10, 1 << 20


# --- what was done ---------------------------------------------------------------------------


def test_operations(daemon, api):
    """Each that was done is counted once, and timed."""
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda _: api.create(runtime="runc").id, range(6)))
    api.stop(ids[0])
    api.stop(ids[1])
    api.start(ids[0])
    api.pause(ids[2])
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        api.start(ids[2])
    api.resume(ids[2])
    api.delete(ids[3])
    took = time.monotonic() - began
    m = api.metrics()
    done = {"create": 6, "start": 1, "stop": 2, "pause": 1, "resume": 1, "delete": 1,
            "clean_up": 0, "undo_create": 0}
    for kind, n in done.items():
        assert m.operations(kind) == n, kind
        assert m.operations(kind, "failed") == 0
        tried = n + m.operations(kind, "refused")
        assert m.get("sandboxd_operation_duration_seconds_count", kind=kind) == tried
        assert m.get("sandboxd_operation_duration_seconds_bucket", kind=kind, le="+Inf") == tried
    assert m.operations("start", "refused") == 1
    for kind in ("create", "stop", "delete"):
        seconds = m.get("sandboxd_operation_duration_seconds_sum", kind=kind)
        assert 0.001 * done[kind] < seconds < 4 * took
    states = {"running": 4, "stopped": 1, "paused": 0, "failed": 0}
    for state, n in states.items():
        assert m.get("sandboxd_sandboxes", state=state) == n, state
        assert m.get("sandboxd_sandboxes", state=state, runtime="runc") == n
    assert m.get("sandboxd_sandboxes") == 5
    assert m.get("sandboxd_sandbox_exits_total", cause="stopped") == 2
    assert m.get("sandboxd_limit_usage_ratio", limit="sandboxes") == 5 / 10000
    assert m.get("sandboxd_sandboxes_unreachable") == 0


def test_calls(daemon, api):
    """By method and code, over both wires; what nobody serves is one series."""
    api.create(name="box")
    before = api.metrics()
    for _ in range(3):
        api.get("box")
    for _ in range(2):
        with refused(grpc.StatusCode.NOT_FOUND):
            api.get("nobody")
    for path in ("/a.B/C", "/a.B/D", f"/{SANDBOXES}/Nothing"):
        with refused(grpc.StatusCode.UNIMPLEMENTED):
            api.channel.unary_unary(path)(b"", timeout=10)
    with Client(daemon.socket) as client, pytest.raises(Error):
        client.unary("x.Y/Z", sandbox_pb2.SandboxServiceListRequest(),
                     sandbox_pb2.SandboxServiceListResponse)
    call = api.watch()
    next(call)
    m = api.metrics()
    assert m.rpcs("Get") - before.rpcs("Get") == 3
    assert m.rpcs("Get", "NOT_FOUND") == 2
    assert m.rpcs("unknown", "UNIMPLEMENTED", service="unknown") == 4
    assert m.rpcs("Create") == 1
    # This one is not over yet, the one before is.
    assert m.rpcs("Metrics", service="sandboxd.v1.HostService") == 1
    assert m.get("sandboxd_rpcs_in_flight") == 2
    assert m.get("sandboxd_watchers") == 1
    call.cancel()
    wait_until(lambda: api.metrics().rpcs("Watch", "CANCELLED") == 1, "the end of the watch")
    after = api.metrics()
    assert after.get("sandboxd_watchers") == 0 and after.get("sandboxd_rpcs_in_flight") == 1
    assert after.get("sandboxd_connections_accepted_total") >= 2
    # What these did added the codes that there were not, and nothing else.
    new = set(after.samples) - set(before.samples)
    assert {dict(labels)["code"] for _, labels in new} == {"NOT_FOUND", "UNIMPLEMENTED", "CANCELLED"}
    assert len(new) == 3


def test_routed_bytes(api, sandbox):
    def moved(direction):
        return api.metrics().get("sandboxd_routed_bytes_total", direction=direction)

    result = api.run(sandbox.id, "head", "-c", str(MIB), "/dev/zero")
    assert len(result.stdout) == MIB
    assert MIB < moved("from_sandbox") < 1.1 * MIB
    assert 0 < moved("to_sandbox") < 4 * KIB
    pid = api.spawn(sandbox.id, "cat", stdin_open=True)
    api.send_input(sandbox.id, pid, b"x" * 32 * KIB)
    assert 32 * KIB < moved("to_sandbox") < 40 * KIB
    assert api.metrics().get("sandboxd_routed_calls") == 0


@pytest.mark.oci_only("a shim stands before the runtime")
def test_failures(make_daemon, tmp_path):
    """A runtime that does not want to, and a main process that is killed."""
    daemon, shim = shimmed_daemon(make_daemon, tmp_path, "runc")
    api = daemon.api
    box = api.create()
    os.kill(daemon.init_pid(box), signal.SIGKILL)
    wait_until(lambda: api.state(box.id) == "FAILED", "its end")
    wait_until(lambda: api.metrics().operations("clean_up") == 1, "the clean-up")
    shim.trouble("fail")
    with pytest.raises(grpc.RpcError):
        api.create()
    shim.heal()
    m = api.metrics()
    assert m.operations("create") == 1 and m.operations("create", "failed") == 1
    assert m.get("sandboxd_sandboxes", state="failed", runtime="shim") == 1
    assert m.get("sandboxd_sandbox_exits_total", cause="signaled") == 1


@pytest.mark.oci_only("a shim stands before the runtime")
def test_a_flood(make_daemon, tmp_path, pool):
    """Sandboxes that come up, those that wait for a place, and how many had to."""
    daemon, shim = shimmed_daemon(make_daemon, tmp_path, "runc")
    shim.trouble("slow", "run")
    asked = [pool.submit(daemon.api.create) for _ in range(20)]
    wait_until(lambda: daemon.api.metrics().get("sandboxd_sandboxes_waiting") == 4, "a queue")
    m = daemon.api.metrics()
    assert m.get("sandboxd_sandboxes_coming_up") == 16
    assert m.get("sandboxd_sandboxes", state="creating", runtime="shim") == 20
    for create in asked:
        create.result()
    m = daemon.api.metrics()
    assert m.get("sandboxd_sandboxes_waiting") == m.get("sandboxd_sandboxes_coming_up") == 0
    assert m.get("sandboxd_limit_hits_total", limit="sandboxes_coming_up") == 4
    assert m.operations("create") == 20


def test_restart(daemon, api, sandbox):
    """What is alive is adopted; counters begin anew."""
    other = api.create()
    api.stop(other.id)
    before = api.metrics()
    daemon.restart("SIGKILL")
    m = daemon.api.metrics()
    assert m.get("sandboxd_sandboxes_adopted_total") == 1
    assert m.get("sandboxd_sandboxes") == 2
    assert m.operations("create") == 0 and before.operations("create") == 2
    started = "process_start_time_seconds"
    assert before.get(started) < m.get(started) <= time.time()


def test_a_supervisor_that_does_not_answer(daemon, api):
    """After a restart it is sought; nobody waits for it."""
    box = api.create()
    os.kill(daemon.init_pid(box), signal.SIGSTOP)
    daemon.restart("SIGTERM")
    with within(8):
        assert daemon.api.metrics().get("sandboxd_sandboxes_unreachable") == 1
    os.kill(daemon.init_pid(box), signal.SIGCONT)
    wait_until(lambda: daemon.api.metrics().get("sandboxd_sandboxes_unreachable") == 0,
               "its supervisor")


def test_a_removed_runtime(make_daemon):
    """The sandbox is still counted, under a name that none can have."""
    real = runtimes()
    daemon = make_daemon(runtimes=real | {"mine": real["runc"]})
    box = daemon.api.create(runtime="mine")
    daemon.api.stop(box.id)
    daemon.stop()
    daemon.config["runtimes"] = real
    daemon.start()
    m = daemon.api.metrics()
    assert m.get("sandboxd_sandboxes", state="stopped", runtime="(not configured)") == 1
    assert not m.all("sandboxd_sandboxes", runtime="mine")
    daemon.stop()
    daemon.config["runtimes"] = real | {"mine": real["runc"]}  # to be removed
    daemon.start()


def test_store(daemon, api):
    sandbox = api.create()
    api.events()
    m = api.metrics()
    assert m.get("sandboxd_store_duration_seconds_count", kind="write") >= 2
    assert m.get("sandboxd_store_duration_seconds_count", kind="read") >= 1
    assert 0 < m.get("sandboxd_store_duration_seconds_sum", kind="write") < 60
    assert m.get("sandboxd_store_queue_length") == 0
    assert m.get("sandboxd_store_failures_total") == 0
    assert m.get("sandboxd_store_refused") == m.get("sandboxd_store_reserve_missing") == 0
    # A row that was changed behind its back: the database is refused.
    daemon.stop()
    with closing(sqlite3.connect(daemon.data / "sandboxd.db")) as db, db:
        db.execute("UPDATE sandbox SET name = 'x'")
    daemon.start()
    m = daemon.api.metrics()
    assert m.get("sandboxd_store_refused") == 1
    daemon.stop()
    with closing(sqlite3.connect(daemon.data / "sandboxd.db")) as db, db:
        db.execute("UPDATE sandbox SET name = ?", (sandbox.name,))
    daemon.start()
    assert daemon.api.metrics().get("sandboxd_store_refused") == 0


def test_a_wrong_configuration(daemon, api):
    """As the last reload found it."""
    good = daemon.config_file.read_text()
    for text, wrong in [("nonsense: 1", 1), (good, 0)]:
        daemon.config_file.write_text(text)
        if wrong:
            with pytest.raises(grpc.RpcError):
                api.reload(dry_run=True)
            assert api.metrics().get("sandboxd_config_refused") == 0  # it was only tried
            with pytest.raises(grpc.RpcError):
                api.reload()
        else:
            api.reload()
        assert api.metrics().get("sandboxd_config_refused") == wrong


def test_limits(make_daemon):
    """Each is counted under the name that the configuration has for it."""
    daemon = make_daemon(rpc={"connections": 10, "connections_per_user": 4,
                              "message_size": "1MiB", "decoded_size": "8MiB",
                              "metadata_size": "1KiB"})
    api = daemon.api
    api.create(name="box")
    send = api.channel.unary_unary(f"/{SANDBOXES}/Get")
    for message in (bytes(MIB + 1), b"\x0a\x03box" + b"\xf8\x7f\x01" * 250000):
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED):
            send(message, timeout=10)
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED):
        send(b"", metadata=[("key", "v" * 2000)], timeout=10)
    clients = [Client(daemon.socket) for _ in range(5)]  # one of ours is there
    wait_until(lambda: api.metrics().get("sandboxd_limit_hits_total",
                                         limit="connections_per_user") == 2, "two refusals")
    m = api.metrics()
    hits = {dict(labels)["limit"]: n for labels, n in m.all("sandboxd_limit_hits_total").items()}
    assert {name: n for name, n in hits.items() if n} == {
        "message_size": 1, "decoded_size": 1, "metadata_size": 1, "connections_per_user": 2}
    assert m.get("sandboxd_limit_usage_ratio", limit="connections") == 0.4
    assert m.get("sandboxd_connections") == 4
    for client in clients:
        client.socket.close()


def test_process(daemon, api):
    """As the kernel tells it."""
    proc = Path(f"/proc/{daemon.process.pid}")
    m = api.metrics()
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    cpu = (int(fields[11]) + int(fields[12])) / ticks
    assert abs(m.get("process_cpu_seconds_total") - cpu) < 0.5
    resident = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    assert abs(m.get("process_resident_memory_bytes") - resident) < MIB
    assert abs(m.get("process_open_fds") - len(list((proc / "fd").iterdir()))) <= 1
    assert m.get("process_max_fds") >= 1024
    up = float(Path("/proc/uptime").read_text().split()[0]) - int(fields[19]) / ticks
    assert abs(time.time() - m.get("process_start_time_seconds") - up) < 2
    assert m.get("sandboxd_build_info", version=api.info().version) == 1


# --- what it costs ---------------------------------------------------------------------------


@pytest.mark.oci_only("so many creates are a matter of minutes there")
def test_as_many_series_as_before(daemon, api):
    """However many sandboxes there were."""
    n = 1000 if LONG else 150
    api.delete(api.create(runtime="runc").id)
    before = api.metrics()

    def live(_):
        api.delete(api.create(runtime="runc").id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(live, range(n)))
    after = api.metrics()
    assert set(after.samples) == set(before.samples)
    assert after.operations("create") == after.operations("delete") == n + 1
    assert after.rpcs("Create") == after.rpcs("Delete") == n + 1
    assert len(after.text) < 64 * KIB


def switches(pid):
    """How often the process has gone to sleep of its own will: once for each time it woke up."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)$", text, re.M).group(1))


class Alone(Daemon):
    """In a network of its own: it is told of each change to the packet filter of the one it is in,
    and other tests make some."""

    def command(self, *args):
        return ["unshare", "--net", *super().command(*args)]


def test_an_idle_daemon_is_idle(make_daemon):
    """Its loop wakes up to look around, twice in five seconds at most, and for nothing else."""
    daemon = make_daemon(of=Alone)
    api = daemon.api
    api.create(runtime="runc")
    time.sleep(6)  # it has looked around
    turns = api.metrics().get("sandboxd_loop_lag_seconds_count")
    before = switches(daemon.process.pid)
    time.sleep(10)
    assert switches(daemon.process.pid) - before <= 12
    assert api.metrics().get("sandboxd_loop_lag_seconds_count") - turns <= 16


def test_loop_lag(daemon, api):
    """It is in the sum, and as long as the turns were."""
    for _ in range(200):
        api.list()
    m = api.metrics()
    count = m.get("sandboxd_loop_lag_seconds_count")
    assert count > 200
    assert m.get("sandboxd_loop_lag_seconds_bucket", le="+Inf") == count
    assert m.get("sandboxd_loop_lag_seconds_sum") < 5


# --- what others make of it ------------------------------------------------------------------


@pytest.fixture
def told(api):
    """By a daemon to which everything happened that adds a series."""
    api.create(name="box")
    api.run("box", "true")
    return api.metrics()


@pytest.fixture
def tool():
    if not PROMTOOL.exists():
        pytest.skip(f"no {PROMTOOL}: run 'make deps'")


def test_prometheus_likes_it(tool, told):
    checked = promtool("check", "metrics", input=told.text)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_alerts(tool):
    checked = promtool("check", "rules", RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = promtool("test", "rules", RULES_TEST)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    names = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    assert len(names) >= 12
    assert names == set(re.findall(r'alertname="(\w+)"', RULES_TEST.read_text()))


def metric_names(text):
    return set(re.findall(r"\b(?:sandboxd|process)_\w+", text))


def test_alerts_and_dashboard_know_what_there_is(told):
    """No expression asks for a metric, or for a label of one, that there is not."""
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [target["expr"] for panel in dashboard["panels"]
                   for target in panel.get("targets", [])]
    expressions += [a["expr"] for a in dashboard["annotations"]["list"]]
    expressions += [v["query"]["query"] for v in dashboard["templating"]["list"]
                    if v["type"] == "query"]
    assert len(expressions) > 30
    rules = RULES.read_text()
    expressions += re.findall(r"expr: (?:>-\n)?(.*?)\n {8}(?:for|labels):", rules, re.S)
    for expression in expressions:
        names = metric_names(expression)
        assert names or "up{" in expression, expression
        assert names <= told.names(), expression
        known = {"job", "instance", "le"}.union(*(told.labels(told.family_of(n)) for n in names))
        used = set(re.findall(r'(\w+)(?:=~?|!~|!=)"', expression))
        for group in re.findall(r"\b(?:by|ignoring) \(([^)]*)\)", expression):
            used |= set(re.findall(r"\w+", group))
        assert used <= known, expression
    shown = {told.family_of(name) for name in metric_names(DASHBOARD.read_text())}
    assert set(told.families) - shown == set()


def test_dashboard_is_whole(told):
    """Each panel has an id and a place of its own, and asks the chosen source for the chosen hosts."""
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({p["id"] for p in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "${datasource}"
            selected = re.findall(r"(\w+)\{", target["expr"])
            assert selected and len(selected) == target["expr"].count('instance=~"$instance"')


def test_documentation(told):
    """docs/metrics.md says what there is: each metric with its type, its labels and its help."""
    rows = re.findall(r"^\| `((?:sandboxd|process)_\w+)` \| (\w+) \| (.*) \| (.*) \|$",
                      DOCS.read_text(), re.M)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels)), text)
                  for name, kind, labels, text in rows}
    assert len(documented) == len(rows)
    assert documented == {name: (kind, told.labels(name), text)
                          for name, (kind, text) in told.families.items()}
    limits = {dict(labels)["limit"] for labels in told.all("sandboxd_limit_hits_total")}
    limits |= {dict(labels)["limit"] for labels in told.all("sandboxd_limit_usage_ratio")}
    rpc = set(re.findall(r"^\| `rpc\.(\w+)`", (ROOT / "docs/configuration.md").read_text(), re.M))
    for limit in limits - rpc:
        assert f"`{limit}`" in DOCS.read_text(), limit
