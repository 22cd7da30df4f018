"""The configuration of a daemon that runs: reload, what it reaches, and what it must not touch."""

import json
import os
import signal

import grpc
import pytest

from harness import refused, wait_until

gvisor = pytest.mark.parametrize("runtime", ["runsc", "runsc-r22"], indirect=True)


def resolv(api, sandbox):
    return api.sh(sandbox.id, "cat /etc/resolv.conf")


def servers(api, sandbox):
    return [line.split()[1] for line in resolv(api, sandbox).splitlines()
            if line.startswith("nameserver")]


def keys(changes):
    return [change.key for change in changes]


def texts(changes):
    return {change.key: (change.old_value, change.new_value) for change in changes}


# --- DNS ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("runtime", ["runc", "runsc", "runsc-r22"], indirect=True)
def test_name_servers_reach_running_sandboxes(make_daemon, runtime):
    """At once, in place, and without a rest of a longer text; also one that does not run now."""
    daemon = make_daemon(dns={"servers": ["9.9.9.9", "149.112.112.112"],
                              "search": ["a-rather-long-name.example.org"]})
    running, paused, stopped = (daemon.api.create(runtime=runtime) for _ in range(3))
    daemon.api.pause(paused.id)
    daemon.api.stop(stopped.id)
    inode = daemon.api.sh(running.id, "stat -c %i /etc/resolv.conf")

    daemon.configure(dns={"servers": ["8.8.4.4"]})
    assert texts(daemon.api.reload().applied) == {
        "dns.servers": ("[9.9.9.9, 149.112.112.112]", "[8.8.4.4]"),
        "dns.search": ("[a-rather-long-name.example.org]", "[]")}
    text = resolv(daemon.api, running)
    assert text.splitlines()[1:] == ["nameserver 8.8.4.4"] and text.endswith("4.4\n")
    assert daemon.api.sh(running.id, "stat -c %i /etc/resolv.conf") == inode
    daemon.api.resume(paused.id)
    assert servers(daemon.api, paused) == ["8.8.4.4"]
    daemon.api.start(stopped.id)
    assert servers(daemon.api, stopped) == ["8.8.4.4"]

    daemon.configure(dns={"servers": ["2620:fe::fe", "1.0.0.1", "9.9.9.9"], "options": ["rotate"]})
    daemon.api.reload()
    for sandbox in running, paused, stopped:
        assert servers(daemon.api, sandbox) == ["2620:fe::fe", "1.0.0.1", "9.9.9.9"]
        assert resolv(daemon.api, sandbox).endswith("options rotate\n")


@gvisor
def test_loopback_servers_and_gvisor(make_daemon, runtime):
    """They are fine where runc is the default; a sandbox under gVisor keeps its own."""
    daemon = make_daemon(dns={"servers": ["9.9.9.9"]})
    bare, isolated = daemon.api.create(runtime="runc"), daemon.api.create(runtime=runtime)
    daemon.configure(dns={"servers": ["127.0.0.53"]})
    response = daemon.api.reload()
    assert "1 running sandbox" in response.warning and "127.0.0.53" in response.warning
    assert servers(daemon.api, bare) == ["127.0.0.53"]
    assert servers(daemon.api, isolated) == ["9.9.9.9"]
    daemon.configure(runtime=runtime)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, str(daemon.config_file), "dns.servers",
                 "127.0.0.53"):
        daemon.api.reload()
    daemon.configure(dns={"servers": ["1.0.0.1"]})
    assert daemon.api.reload().warning == ""
    assert servers(daemon.api, bare) == servers(daemon.api, isolated) == ["1.0.0.1"]


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_name_servers_after_a_restart(make_daemon, how):
    daemon = make_daemon(dns={"servers": ["9.9.9.9"]})
    sandbox = daemon.api.create()
    daemon.configure(dns={"servers": ["1.0.0.1"]})
    daemon.restart(how)
    wait_until(lambda: servers(daemon.api, sandbox) == ["1.0.0.1"], "the new servers")


# --- what a reload applies ------------------------------------------------------------------------

def test_defaults_are_those_of_the_next_sandbox(make_daemon):
    daemon = make_daemon(defaults={"memory": "128MiB", "pids": 100})
    before = daemon.api.create()
    daemon.configure(defaults={"memory": "64MiB", "cpus": "1.5", "pids": 100})
    assert texts(daemon.api.reload().applied) == {"defaults.memory": ("128MiB", "64MiB"),
                                                  "defaults.cpus": ("2", "1.5")}
    after = daemon.api.create().resources
    assert (after.memory_bytes, after.cpu_millis, after.pids) == (64 << 20, 1500, 100)
    assert daemon.api.get(before.id).resources.memory_bytes == 128 << 20


def test_default_runtime(make_daemon):
    daemon = make_daemon()
    daemon.configure(runtime="runsc")
    assert keys(daemon.api.reload().applied) == ["runtime"]
    assert daemon.api.info().runtime == "runsc"
    # One that the running daemon does not know yet.
    daemon.configure(runtime="other", runtimes=daemon.config["runtimes"] | {"other": {"type": "runc"}})
    response = daemon.api.reload()
    assert keys(response.applied) == []
    assert keys(response.needs_restart) == ["runtime", *(f"runtimes.other.{key}" for key in (
        "type", "path", "network_stack"))]
    assert daemon.api.info().runtime == "runsc"


def test_limits_of_the_server(make_daemon):
    create = "sandboxd.v1.SandboxService/Create"
    daemon = make_daemon()
    daemon.configure(rpc={"message_sizes": {create: "1KiB"}})
    assert keys(daemon.api.reload().applied) == ["rpc.message_sizes"]
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED):
        daemon.api.create(env={"LONG": "x" * 2000})
    daemon.configure(rpc={})
    daemon.api.reload()
    daemon.api.create(env={"LONG": "x" * 2000})


def test_log(make_daemon):
    daemon = make_daemon(log={"level": "warn"})
    assert "listens on" not in daemon.log()
    daemon.configure(log={"level": "info", "format": "json"})
    daemon.api.reload()
    reloaded, audited = map(json.loads, daemon.log().splitlines()[-2:])
    assert "reloaded" in reloaded["message"]
    assert audited["method"] == "sandboxd.v1.HostService/Reload"


def test_what_needs_a_restart_stays(make_daemon):
    daemon = make_daemon()
    was = {key: daemon.config[key] for key in ("socket", "data_dir", "state_dir")}
    daemon.configure(socket="/run/elsewhere.sock", data_dir="/elsewhere", state_dir="/other",
                     defaults={"pids": 99})
    response = daemon.api.reload()
    assert texts(response.applied) == {"defaults.pids": ("512", "99")}
    assert texts(response.needs_restart) == {key: (was[key], daemon.config[key]) for key in was}
    assert keys(daemon.api.reload().needs_restart) == list(was)  # as long as it differs
    daemon.api.create()
    assert daemon.data.exists() and not daemon.api.info().data_dir == "/elsewhere"
    daemon.configure(**was)
    assert keys(daemon.api.reload().needs_restart) == []


# --- what it must not touch -----------------------------------------------------------------------

def test_failed_reload_leaves_the_daemon_as_it_was(make_daemon, runtime):
    daemon = make_daemon(dns={"servers": ["9.9.9.9"]}, defaults={"memory": "128MiB"})
    sandbox = daemon.api.create(runtime=runtime)
    before = daemon.api.info()
    good = daemon.config_file.read_text()
    daemon.configure(dns={"servers": ["1.0.0.1"]}, defaults={"memory": "64MiB", "pids": 5},
                     runtime="runsc", log={"level": "error"})
    wrong = f"{daemon.config_file}:"
    with refused(grpc.StatusCode.INVALID_ARGUMENT, wrong, "defaults.pids: expected", "found '5'"):
        daemon.api.reload()
    with refused(grpc.StatusCode.INVALID_ARGUMENT, wrong):
        daemon.api.reload(dry_run=True)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.log().count("not reloaded") >= 2, "the log to say so")
    daemon.config_file.unlink()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, str(daemon.config_file)):
        daemon.api.reload()

    assert daemon.api.info() == before
    assert servers(daemon.api, sandbox) == ["9.9.9.9"]
    fresh = daemon.api.create(runtime=runtime)
    assert (fresh.resources.memory_bytes, fresh.resources.pids) == (128 << 20, 512)
    assert servers(daemon.api, fresh) == ["9.9.9.9"]
    daemon.config_file.write_text(good)
    assert not daemon.api.reload(dry_run=True).applied


def test_dry_run_changes_nothing(make_daemon):
    daemon = make_daemon(dns={"servers": ["9.9.9.9"]})
    sandbox = daemon.api.create()
    daemon.configure(dns={"servers": ["1.0.0.1"]}, engine=daemon.engine.name,
                     socket="/run/elsewhere.sock")
    for _ in range(2):
        response = daemon.api.reload(dry_run=True)
        assert keys(response.applied) == ["dns.servers"]
        assert keys(response.needs_restart) == ["socket"]
    assert servers(daemon.api, sandbox) == ["9.9.9.9"]


# --- ways to ask ----------------------------------------------------------------------------------

def test_hangup_signal(make_daemon):
    daemon = make_daemon(dns={"servers": ["9.9.9.9"]})
    sandbox = daemon.api.create()
    daemon.configure(dns={"servers": ["1.0.0.1"]})
    for _ in range(20):  # a burst is one reload, or two
        daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: servers(daemon.api, sandbox) == ["1.0.0.1"], "the new servers")
    assert "dns.servers: [1.0.0.1], was [9.9.9.9]" in daemon.log()


def test_many_at_once(make_daemon, pool):
    """One works, the others are told to come again."""
    daemon = make_daemon()
    daemon.configure(defaults={"pids": 99})

    def reload():
        try:
            daemon.api.reload()
            return grpc.StatusCode.OK
        except grpc.RpcError as e:
            return e.code()

    codes = {future.result() for future in [pool.submit(reload) for _ in range(100)]}
    assert grpc.StatusCode.OK in codes
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert not daemon.api.reload(dry_run=True).applied


def test_conf_d_and_environment(make_daemon):
    daemon = make_daemon(start=False, dns={"servers": ["9.9.9.9"]})
    conf_d = daemon.dir / "conf.d"
    conf_d.mkdir()
    (conf_d / "10-pids.yaml").write_text("defaults: {pids: 77}\n")
    daemon.start(SANDBOXD_DNS="1.0.0.1")
    (conf_d / "20-pids.yaml").write_text("defaults: {pids: 88}\ndns: {servers: [8.8.4.4]}\n")
    assert texts(daemon.api.reload().applied) == {"defaults.pids": ("77", "88")}
    sandbox = daemon.api.create()
    assert sandbox.resources.pids == 88 and servers(daemon.api, sandbox) == ["1.0.0.1"]
    (conf_d / "30-wrong.yaml").write_text("log:\n  levle: info\n")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, f"{conf_d}/30-wrong.yaml:2:3: log.levle",
                 "did you mean 'level'?"):
        daemon.api.reload()


# --- the command lines ----------------------------------------------------------------------------

def test_config_diff_and_reload(make_daemon):
    daemon = make_daemon(defaults={"pids": 100})
    same = daemon.ctl("config", "diff")
    assert (same.returncode, same.stdout, same.stderr) == (0, "", "")
    daemon.configure(defaults={"pids": 200}, socket="/run/elsewhere.sock")
    differs = daemon.ctl("config", "diff")
    assert differs.returncode == 1 and differs.stderr == ""
    assert [line.split() for line in differs.stdout.splitlines()] == [
        ["KEY", "RUNNING", "FILE", "NEEDS"],
        ["defaults.pids", "100", "200", "reload"],
        ["socket", str(daemon.socket), "/run/elsewhere.sock", "restart"]]
    assert json.loads(daemon.ctl("config", "diff", "--json").stdout)["changes"] == [
        {"key": "defaults.pids", "old": "100", "new": "200", "needs_restart": False},
        {"key": "socket", "old": str(daemon.socket), "new": "/run/elsewhere.sock",
         "needs_restart": True}]

    done = daemon.ctl("reload")
    assert done.returncode == 0 and done.stderr == ""
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["KEY", "BEFORE", "AFTER", "IN", "FORCE"],
        ["defaults.pids", "100", "200", "yes"],
        ["socket", str(daemon.socket), "/run/elsewhere.sock", "needs", "a", "restart"]]
    assert "defaults.pids" not in daemon.ctl("config", "diff").stdout

    daemon.configure(defaults={"pids": 5})
    for command in ["reload"], ["config", "diff"]:
        failed = daemon.ctl(*command)
        assert failed.returncode == 1 and failed.stdout == ""
        assert "defaults.pids: expected" in failed.stderr
    assert daemon.ctl("config").returncode == daemon.ctl("config", "show").returncode == 2
    assert "config diff" in daemon.ctl("help", "config", "diff").stdout


def test_command_line(make_daemon):
    """--set counts before all else, also at a reload."""
    daemon = make_daemon(start=False, defaults={"pids": 99})
    printed = daemon.run("--set", "dns.servers=9.9.9.9 1.0.0.1", "--set", "defaults.cpus=100%",
                         "--print-config")
    assert printed.returncode == 0
    assert "\n  servers: [9.9.9.9, 1.0.0.1]\n" in printed.stdout
    assert f"\n  cpus: {os.cpu_count()}\n" in printed.stdout
    wrong = daemon.run("--set", "dns.sevrers=9.9.9.9", "--check-config")
    assert wrong.returncode == 78
    assert wrong.stderr == "sandboxd: --set dns.sevrers: unknown key; did you mean 'servers'?\n"
    assert daemon.run("--print-config=all").returncode == 2

    without = daemon.command
    daemon.command = lambda *args: without("--set", "defaults.pids=77", *args)
    daemon.start()
    daemon.configure(defaults={"pids": 88, "nofile": 1000})
    assert keys(daemon.api.reload().applied) == ["defaults.nofile"]
    assert daemon.api.create().resources.pids == 77
