"""sandboxctl: pause, wait, events and what else belongs to a sandbox's life."""

import json
import re
import signal
import subprocess
import threading
import time

import grpc
import pytest

from harness import BUILD, ENVIRON, LONG, ULID, wait_until


@pytest.fixture
def box(ctl):
    return ctl("create", "--name", "box", check=True).stdout.strip()


def read_json(done):
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def events(ctl, *args):
    done = ctl("events", "--json", "--no-follow", *args)
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


class Running:
    """A sandboxctl that goes on; its lines as they come."""

    def __init__(self, daemon, *args):
        self.process = subprocess.Popen(
            [BUILD / "sandboxctl", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
            env=ENVIRON | {"SANDBOXD_SOCKET": str(daemon.socket)})
        self.lines = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def end(self):
        code = self.process.wait(30)
        self.reader.join(30)
        return code, self.process.stderr.read()

    def stop(self):
        self.process.kill()
        self.end()


@pytest.fixture
def follow(daemon):
    started = []

    def start(*args):
        started.append(Running(daemon, *args))
        return started[-1]

    yield start
    for running in started:
        running.stop()


def test_pause_and_resume(ctl, runtime):
    ctl("create", "--name", "box", "--runtime", runtime, check=True)
    for _ in range(2):  # it is so already
        paused = ctl("pause", "box")
        assert (paused.returncode, paused.stdout) == (0, "")
    assert "paused" in ctl("ls").stdout
    assert read_json(ctl("get", "--json", "box"))["state"] == "paused"
    assert ctl("exec", "box", "--", "true").returncode == 125
    assert read_json(ctl("resume", "--json", "box"))["state"] == "running"
    assert ctl("exec", "box", "--", "true").returncode == 0
    assert ctl("resume", "box").returncode == 0
    assert ctl("stop", "box").returncode == 0
    for command in "pause", "resume":
        refused = ctl(command, "box")
        assert refused.returncode == 1 and "FAILED_PRECONDITION" in refused.stderr


def test_wait(ctl, box, follow):
    assert ctl("wait", "box", "--state", "paused,running").stdout == "running\n"
    waiting = follow("wait", "box")
    late = ctl("wait", "--timeout", "300ms", "box")
    assert late.returncode == 1 and "DEADLINE_EXCEEDED" in late.stderr
    assert waiting.process.poll() is None
    ctl("stop", "box", check=True)
    assert waiting.end()[0] == 0 and waiting.lines == ["stopped\n"]
    assert read_json(ctl("wait", "--json", "box"))["id"] == box
    assert ctl("wait", "nobody").returncode == 1


def test_keep_workspace(ctl, box, daemon):
    ctl("exec", "box", "--", "sh", "-c", "echo kept >file", check=True)
    removed = ctl("rm", "--keep-workspace", "box")
    assert removed.returncode == 0, removed
    kept = daemon.data / "kept" / box
    assert removed.stdout.split() == [box, str(kept)]
    assert (kept / "file").read_text() == "kept\n"
    again = ctl("create", "--workspace", box)
    assert again.returncode == 0, again
    ref = again.stdout.strip()
    assert ctl("exec", ref, "--", "cat", "file").stdout == "kept\n"
    removed = read_json(ctl("rm", "--keep-workspace", "--json", ref))
    assert removed == [{"id": ref, "workspace_path": str(daemon.data / "kept" / ref)}]
    # Taken over for the last time, so that nothing is left.
    last = ctl("create", "--workspace", ref, check=True).stdout.strip()
    assert read_json(ctl("rm", "--json", last)) == [last]
    assert list((daemon.data / "kept").iterdir()) == []


def test_no_such_workspace(ctl):
    done = ctl("create", "--workspace", "0" * 26)
    assert done.returncode == 1 and "NOT_FOUND" in done.stderr


def test_request_key(ctl):
    made = [ctl("create", "--request-key", "a key", check=True).stdout for _ in range(2)]
    assert made[0] == made[1]
    other = ctl("create", "--request-key", "a key", "--name", "other")
    assert other.returncode == 1 and "ALREADY_EXISTS" in other.stderr
    assert read_json(ctl("get", "--json", made[0].strip()))["request_key"] == "a key"


@pytest.mark.parametrize("expiry", ["stop", "delete"])
def test_ttl(ctl, expiry):
    ctl("create", "--name", "box", "--ttl", "3s", "--expiry", expiry, check=True)
    if expiry == "stop":
        assert ctl("wait", "box", "--timeout", "30s").stdout == "stopped\n"
    else:
        wait_until(lambda: ctl("get", "box").returncode == 1, "its end", 30)


def test_keepalive(ctl):
    ctl("create", "--name", "box", "--ttl", "1h", check=True)
    shown = ctl("get", "box").stdout
    assert re.search(r"^ttl: +1h, then it is stopped$", shown, re.M)
    assert re.search(r"^expires: .*\(in (59 minutes|1 hour)\)$", shown, re.M)
    longer = read_json(ctl("keepalive", "--json", "--ttl", "3h", "box"))
    assert longer["ttl_millis"] == 3 * 3600 * 1000
    assert ctl("keepalive", "box").stdout == ""
    for_ever = read_json(ctl("keepalive", "--json", "--forever", "box"))
    assert (for_ever["ttl_millis"], for_ever["expires_at"]) == (0, None)
    assert "expires" not in ctl("get", "box").stdout
    none = ctl("keepalive", "box")
    assert none.returncode == 1 and "FAILED_PRECONDITION" in none.stderr
    both = ctl("keepalive", "--forever", "--ttl", "1h", "box")
    assert both.returncode == 1 and "INVALID_ARGUMENT" in both.stderr


def test_stats(ctl, runtime):
    box = ctl("create", "--name", "box", "--runtime", runtime, check=True).stdout.strip()
    asleep = ctl("create", "--name", "asleep", "--runtime", runtime, check=True).stdout.strip()
    ctl("exec", "box", "--", "dd", "if=/dev/zero", "of=big", "bs=1M", "count=8", check=True)
    ctl("stop", "asleep", check=True)
    used, = read_json(ctl("stats", "--json"))
    assert used["sandbox_id"] == box
    assert used["cpu_nanos"] > 0 and used["pids"] > 0 and used["oom_kills"] == 0
    assert 0 < used["memory_bytes"] <= used["memory_limit_bytes"]
    assert used["workspace_bytes"] >= 8 << 20
    idle, = read_json(ctl("stats", "--json", "asleep"))
    assert (idle["sandbox_id"], idle["memory_bytes"], idle["pids"]) == (asleep, 0, 0)
    head, line = ctl("stats").stdout.splitlines()
    assert head.split()[:2] == ["ID", "NAME"] and line.split()[:2] == [box, "box"]
    some = ctl("stats", "nobody", "box")
    assert some.returncode == 1 and "nobody" in some.stderr and box in some.stdout


def test_events(ctl, box, follow):
    following = follow("events")
    only = follow("events", "--json", "--since", "1", "box")
    wait_until(lambda: len(only.lines) > 1, "what there was")
    ctl("stop", "box", check=True)
    wait_until(lambda: any(" stopped" in line for line in following.lines), "an event")
    for line in following.lines:
        assert re.fullmatch(rf"\d+ \S+Z {box} box \S+( .*)?\n", line)
    there = events(ctl)
    assert there[-1] == {"kind": "synced", "sequence": len(there) - 1}
    assert [e["sequence"] for e in there[:-1]] == list(range(1, len(there)))
    assert {e["sandbox_id"] for e in there[:-1]} == {box}
    assert there[-2]["state"] == "stopped" and there[-2]["operation"] == "stop"
    wait_until(lambda: len(only.lines) >= len(there), "the same")
    told = [json.loads(line) for line in only.lines]
    assert [e for e in told if e["kind"] != "synced"] == there[:-1]
    assert events(ctl, "--since", "2", "box") == there[1:]
    assert events(ctl, "--since", "1h") == there


def test_events_of_one_that_is_gone(ctl, box):
    assert ctl("rm", "box").returncode == 0
    *_, last, _ = events(ctl, box)
    assert last["kind"] == "deleted"
    assert ctl("events", "--no-follow", "box").returncode == 1


def test_events_that_are_too_old(ctl, box):
    beyond = ctl("events", "--no-follow", "--since", "1000")
    assert beyond.returncode == 1 and "OUT_OF_RANGE" in beyond.stderr
    wait_until(lambda: not [e for e in events(ctl, "--since", "1s") if e["kind"] == "state"],
               "the time")


def test_events_of_a_daemon_that_takes_long_to_go(daemon, follow, box, ctl):
    """It has said goodbye, and holds the connection still: no event is lost or told twice."""
    following = follow("events", "--json")
    wait_until(lambda: following.lines, "synced")
    with pytest.raises(grpc.RpcError):
        watch = daemon.api.watch(timeout=20)
        assert next(watch).WhichOneof("item") == "sandbox"
        daemon.process.terminate()
        list(watch)
    daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(1)
    daemon.process.send_signal(signal.SIGCONT)
    assert daemon.process.wait(20) == 0
    assert following.process.poll() is None
    daemon.start()
    assert ctl("stop", "box").returncode == 0
    told = events(ctl)
    wait_until(lambda: "stopped" in following.lines[-1], "an event")
    since = json.loads(following.lines[0])["sequence"]
    assert [json.loads(line) for line in following.lines[1:]] == told[since:-1]


@pytest.mark.parametrize("pause", [1.2] + LONG * [31])
def test_events_go_on_over_each_restart(daemon, follow, box, ctl, pause):
    """However long nothing has happened between them."""
    following = follow("events", "--json")
    wait_until(lambda: following.lines, "synced")
    daemon.restart("SIGTERM")
    time.sleep(pause)
    daemon.restart("SIGTERM")
    ctl("stop", "box", check=True)
    wait_until(lambda: "stopped" in following.lines[-1], "an event")
    assert following.process.poll() is None


def test_events_end_with_the_daemon(daemon, follow, box):
    """It is waited for, but not for ever."""
    following = follow("events", "--json", "--timeout", "5s")
    wait_until(lambda: following.lines, "synced")
    daemon.process.terminate()
    code, said = following.end()
    assert code == 3 and "UNAVAILABLE" in said
    assert daemon.process.wait(20) == 0


def test_history(ctl, box):
    ctl("stop", "box", check=True)
    shown = ctl("get", "box")
    assert shown.returncode == 0 and shown.stderr == ""
    assert re.search(r"^state: +stopped$", shown.stdout, re.M)
    assert re.search(r"^ended: +stopped, as it was asked to \(.*\)$", shown.stdout, re.M)
    assert re.search(r"^EVENT +TIME +STATE +BY +REASON$", shown.stdout, re.M)
    got = read_json(ctl("get", "--json", "box"))
    assert [e["state"] for e in got["history"]][-2:] == ["stopping", "stopped"]
    assert got["exit"]["cause"] == "stopped" and got["operation"] is None
    for _ in range(8):
        ctl("start", "box", check=True)
        ctl("stop", "box", check=True)
    assert len(read_json(ctl("get", "--json", "box"))["history"]) == 20


def test_reason_of_an_end(ctl, daemon, api, runtime):
    """Its main process is killed from outside."""
    ctl("create", "--name", "box", "--runtime", runtime, check=True)
    subprocess.run(["kill", "-9", str(daemon.init_pid(api.get("box")))], check=True)
    assert ctl("wait", "box", "--timeout", "30s").stdout == "failed\n"
    got = read_json(ctl("get", "--json", "box"))
    assert got["reason"] and got["exit"]["cause"] in ("signaled", "exited")
    assert re.search(r"^reason: +\S", ctl("get", "box").stdout, re.M)
    assert got["history"][-1]["state"] == "failed" and got["history"][-1]["reason"]


@pytest.mark.parametrize("args", [
    ["wait"], ["wait", "--state", "up", "box"], ["pause"], ["resume", "a", "b"],
    ["keepalive", "--ttl", "soon", "box"], ["events", "a", "b"], ["events", "--since", "0"],
    ["create", "--expiry", "never"], ["rm", "--keep-workspace"], ["stop", "--ttl", "1s", "box"]])
def test_usage(ctl, args):
    done = ctl(*args)
    assert done.returncode == 2 and done.stderr and done.stdout == ""


def test_id_is_printed_alone(ctl):
    assert re.fullmatch(f"{ULID}\n", ctl("create", "--ttl", "1h", "--request-key", "k").stdout)
