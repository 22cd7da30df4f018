"""The life of a host: the package is installed, the daemon is restarted, killed, stuck and upgraded
under load, the host goes down and comes up, and the package goes. One story, told in order."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from callers import (Callers, assert_only_interrupted, checked, cli_callers, stock_callers)
from harness import Api, find_runtime, wait_until

UNITS = ("sandboxd.service", "sandboxd.socket", "sandboxd-drain.service")
GET_METRICS = ("exec 3<>/dev/tcp/127.0.0.1/9464; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3;"
               "cat <&3")
STORY = {}  # what a later test has to know of an earlier one


@pytest.fixture
def stock(machine):
    apis = [Api(machine.socket) for _ in range(2)]
    yield apis
    for api in apis:
        api.close()


def may_lower_oom_score():
    """Who lacks CAP_SYS_RESOURCE may not; systemd goes on without."""
    effective = re.search(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text()).group(1)
    return int(effective, 16) & 1 << 24


def main_pid(machine):
    return machine.show("sandboxd.service", "MainPID")


def identity(machine, name):
    """What a sandbox keeps, and its main process with the time of its start."""
    sandbox = json.loads(checked(machine.ctl("--json", "get", name)).stdout)
    pid = machine.sh(f"cat /run/sandboxd/bundles/{sandbox['id']}/pid")
    return (sandbox["id"], checked(machine.ctl("exec", name, "--", "cat", "marker")).stdout, pid,
            machine.sh(f"cut -d' ' -f22 /proc/{pid}/stat"), sandbox.get("addresses"))


def create(machine, name, *options):
    checked(machine.ctl("create", "--name", name, *options))
    checked(machine.ctl("exec", name, "--", "sh", "-c", f"echo {name}-$$ >marker"))
    STORY["boxes"][name] = identity(machine, name)


def are_the_same(machine):
    """The sandboxes are what they were."""
    return {name: identity(machine, name) for name in STORY["boxes"]} == STORY["boxes"]


def test_install(machine, package):
    STORY["files"] = machine.files()
    STORY["users"] = machine.sh("cat /etc/passwd /etc/group")
    machine.install(package["built"])
    for unit in UNITS:
        assert machine.show(unit, "ActiveState") == "active", unit
        assert machine.show(unit, "UnitFileState") == "enabled", unit
    verify = machine.run("systemd-analyze", "verify", "--man=no",
                         *[machine.show(unit, "FragmentPath") for unit in UNITS])
    assert verify.stderr == "" and verify.returncode == 0
    assert machine.sh("stat -c '%a %U:%G' /run/sandboxd/sandboxd.sock") == "660 root:sandboxd\n"
    assert "0 sandboxes, 0 running" in machine.show("sandboxd.service", "StatusText")


def test_sandboxes(machine):
    """Nothing of them is below the unit, which systemd may kill whole."""
    STORY["boxes"] = {}
    for name in ("box", "other"):
        create(machine, name)
    for id, _, pid, *_ in STORY["boxes"].values():
        cgroup = machine.sh(f"cat /proc/{pid}/cgroup")
        assert id in cgroup and "sandboxd.service" not in cgroup
        assert machine.sh(f"cat /proc/{pid}/oom_score_adj").strip() == "0"
    if may_lower_oom_score():
        assert machine.sh(f"cat /proc/{main_pid(machine)}/oom_score_adj").strip() == "-900"
    before = main_pid(machine)
    # It may fail with EIO, for a process that it has just found is gone.
    machine.run("systemctl", "kill", "--signal=KILL", "sandboxd.service")
    wait_until(lambda: main_pid(machine) not in (before, "0"), "another daemon", 60)
    assert are_the_same(machine)
    del STORY["boxes"]["other"]  # whom clients will stop


def test_journal(machine):
    """A real one: what is said of a sandbox is found by its field, and who asked for it."""
    id = STORY["boxes"]["box"][0]
    lines = [json.loads(line) for line in machine.sh(
        f"journalctl --no-pager -o json -u sandboxd.service SANDBOX_ID={id}").splitlines()]
    assert any(line["MESSAGE"].endswith("creating -> running") and line["RUNTIME"] == "runc"
               and line["PRIORITY"] == "6" for line in lines)
    create, = [line for line in lines
               if line.get("METHOD") == "sandboxd.v1.SandboxService/Create"]
    assert (create["STATUS"], create["UID"], create["PRIORITY"]) == ("OK", "0", "5")
    assert create["REQUEST_ID"] in create["MESSAGE"] and int(create["DURATION_MS"]) > 0
    assert all(line["SYSLOG_IDENTIFIER"] == "sandboxd" for line in lines)


def test_metrics(machine):
    """Nothing that keeps the service from harm keeps it from its work; to run it is the operator's
    choice."""
    assert machine.show("sandboxd-metrics.service", "UnitFileState") == "disabled"
    machine.sh("echo 'access: {groups: {sandboxd: observer}}' >/etc/sandboxd/conf.d/metrics.yaml;"
               "systemctl reload sandboxd; systemctl start sandboxd-metrics")
    assert main_pid(machine) != machine.show("sandboxd-metrics.service", "MainPID") != "0"
    reply = wait_until(lambda: machine.run("bash", "-c", GET_METRICS).stdout, "an answer")
    assert reply.startswith("HTTP/1.1 200 OK"), reply
    assert 'sandboxd_sandboxes{state="running",runtime="runc"} 2\n' in reply
    machine.sh("systemctl stop sandboxd-metrics; rm /etc/sandboxd/conf.d/metrics.yaml;"
               "systemctl reload sandboxd")
    assert machine.show("sandboxd-metrics.service", "Result") == "success"


def test_gvisor(machine):
    if not find_runtime("runsc"):
        pytest.skip("no runsc on this machine: run 'make deps'")
    create(machine, "gvisor", "--runtime", "runsc")
    assert are_the_same(machine)


def test_network(machine):
    """With the packages that ours recommends. Whatever the daemon lives through, its addresses stay,
    and its link answers."""
    create(machine, "net", "--network", "bridge")
    assert len(STORY["boxes"]["net"][-1]) == 2
    assert_link(machine)


def assert_link(machine):
    for address in STORY["boxes"]["net"][-1]:
        machine.sh(f"busybox ping -c 1 -w 5 {address.partition('/')[0]}")


def test_a_stream_begins(machine):
    """It counts until it is told to stop: whatever happens to the daemon, no number is lost."""
    STORY["streams"] = [subprocess.Popen(
        machine.command("sandboxctl", "exec", name, "--", "sh", "-c",
                        "i=0; until [ -e stop ]; do echo $i; i=$((i+1)); sleep 0.05; done"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) for name in STORY["boxes"]]


def test_restart_under_load(machine, stock):
    with Callers(*cli_callers(machine.ctl), *stock_callers(stock)) as clients:
        for _ in range(3):
            clients.get_on()
            before = main_pid(machine)
            machine.sh("systemctl restart sandboxd.service")
            assert main_pid(machine) != before
        clients.get_on()
    assert "\n".join(clients.failures) == ""
    assert are_the_same(machine)


def test_kill_under_load(machine, stock):
    with Callers(*cli_callers(machine.ctl), *stock_callers(stock)) as clients:
        for _ in range(2):
            clients.get_on()
            machine.sh("systemctl kill --kill-who=main --signal=KILL sandboxd.service")
        clients.get_on()
    assert_only_interrupted(clients.failures, 2, len(stock))
    assert are_the_same(machine)


def test_a_stopped_daemon_is_started_by_a_client(machine):
    """By those of the streams at the latest, which seek the next one at once."""
    before = main_pid(machine)
    machine.sh("systemctl stop sandboxd.service")
    assert not machine.is_alive(before)
    assert are_the_same(machine)
    assert machine.show("sandboxd.service", "ActiveState") == "active"
    assert machine.show("sandboxd.service", "NRestarts") == "0"  # it was started, not started again


def test_watchdog(machine):
    drop_in = "/run/systemd/system/sandboxd.service.d"
    machine.sh(f"mkdir -p {drop_in}; printf '[Service]\\nWatchdogSec=2s\\n' >{drop_in}/test.conf;"
               "systemctl daemon-reload; systemctl restart sandboxd.service")
    before = main_pid(machine)
    machine.sh(f"kill -STOP {before}")
    wait_until(lambda: main_pid(machine) not in (before, "0"), "another daemon", 60)
    assert "Watchdog timeout" in machine.journal("-u", "sandboxd.service")
    assert are_the_same(machine)
    machine.sh(f"rm -r {drop_in}; systemctl daemon-reload; systemctl restart sandboxd.service")


def test_reload(machine):
    """A wrong configuration is refused, and changes nothing."""
    before = main_pid(machine)
    machine.sh("systemctl reload sandboxd.service")
    machine.sh("mkdir -p /etc/sandboxd/conf.d; echo 'lgo: {}' >/etc/sandboxd/conf.d/50-wrong.yaml")
    assert machine.run("systemctl", "reload", "sandboxd.service").returncode != 0
    assert "lgo" in machine.journal("-u", "sandboxd.service")
    assert machine.show("sandboxd.service", "ActiveState") == "active"
    assert main_pid(machine) == before
    machine.sh("rm /etc/sandboxd/conf.d/50-wrong.yaml; systemctl reload sandboxd.service")


def test_a_wrong_configuration(machine):
    """The daemon ends with 78, which no restart mends. Those who wait start it some more times; then
    the socket is closed too, which they are not left to wait for. The sandboxes live."""
    machine.sh("cp /etc/sandboxd/sandboxd.yaml /root/;"
               "echo 'lgo: {level: debug}' >>/etc/sandboxd/sandboxd.yaml")
    assert machine.run("systemctl", "restart", "sandboxd.service").returncode != 0
    wait_until(lambda: machine.show("sandboxd.socket", "ActiveState") == "failed", "an end", 60)
    assert machine.show("sandboxd.service", "SubState") == "failed"
    assert machine.show("sandboxd.service", "ExecMainStatus") == "78"
    assert machine.show("sandboxd.service", "NRestarts") == "0"
    assert "lgo" in machine.journal("-u", "sandboxd.service")
    time.sleep(3)  # what has triggered the socket counts for 2 s (systemd.socket(5))
    machine.sh("mv /root/sandboxd.yaml /etc/sandboxd/; systemctl start sandboxd.service")
    assert are_the_same(machine)


def test_upgrade_under_load(machine, stock, package):
    before = main_pid(machine)
    with Callers(*cli_callers(machine.ctl), *stock_callers(stock)) as clients:
        clients.get_on()
        machine.install(package["higher"])
        clients.get_on()
    assert machine.sh("dpkg-query -Wf '${Version}' sandboxd") == "99.0"
    assert main_pid(machine) != before
    assert "\n".join(clients.failures) == ""
    assert are_the_same(machine)
    assert machine.show("sandboxd-drain.service", "ActiveState") == "active"


def test_the_streams_have_gone_on(machine):
    assert_link(machine)
    for name, stream in zip(STORY["boxes"], STORY["streams"]):
        checked(machine.ctl("exec", name, "--", "touch", "stop"))
        numbers = [int(line) for line in stream.communicate(timeout=60)[0].splitlines()]
        assert numbers == list(range(len(numbers))) and len(numbers) > 100
        assert stream.returncode == 0


def test_shutdown_and_boot(machine):
    """The sandboxes are stopped as they should be; what they keep is there again."""
    machine.power_off()
    machine.boot()
    boot = machine.journal("--boot=-1", "-u", "sandboxd-drain.service")
    assert "no sandbox is up" in boot
    assert "was not stopped" not in boot
    sandboxes = json.loads(machine.ctl("--json", "ls").stdout)
    assert {(s["state"], s["exit"]["cause"]) for s in sandboxes} == {("stopped", "stopped")}
    for name, (id, marker, *_) in STORY["boxes"].items():
        checked(machine.ctl("start", name))
        assert identity(machine, name)[:2] == (id, marker)


def test_purge(machine):
    """Nothing is left: no file, no user, no unit, no process, no cgroup, no link, no rule."""
    machine.sh("dpkg --purge sandboxd", timeout=120)
    left = machine.files() - STORY["files"]
    assert left == set()
    assert machine.sh("cat /etc/passwd /etc/group") == STORY["users"]
    wait_until(lambda: machine.sh("systemctl list-units --all --no-legend 'sandboxd*'") == "",
               "systemd has forgotten its units", 30)
    assert not {"sandboxd", "runtimed"} & set(machine.sh("cat /proc/[0-9]*/comm").split())
    assert os.listdir(f"/proc/{machine.leader}/root/sys/class/net") == ["lo"]
    assert machine.sh("nft list tables") == ""
