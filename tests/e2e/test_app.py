"""The app of a sandbox: what its sandbox.yaml names is kept running, in real sandboxes."""

import json
import signal
import subprocess
import time

import grpc
import pytest
from sandboxd.v1 import app_pb2

from harness import BUILD, refused, resident, wait_until, within

Code = grpc.StatusCode
APP = "/home/sandbox/workspace/app"
RUNC = pytest.mark.parametrize("runtime", ["runc"], indirect=True)
HEALTH = app_pb2.AppHealth.Name
STATE = app_pb2.AppProgramState.Name
KIB, MIB = 1 << 10, 1 << 20


def health(app):
    """READY, DOWN, ..."""
    return HEALTH(app.health).removeprefix("APP_HEALTH_")


def state(program):
    """RUNNING, GIVEN_UP, ..."""
    return STATE(program.state).removeprefix("APP_PROGRAM_STATE_")


def worker(api, sandbox, name="w"):
    """As Status tells it; None: there is none."""
    found = [w for w in api.app(sandbox.id).workers if w.name == name]
    return found[0] if found else None


def wait_for(api, sandbox, wanted, name="w", seconds=20):
    """The worker, once it is in that state."""
    return wait_until(lambda: (w := worker(api, sandbox, name)) and state(w) == wanted and w,
                      f"{name} is {wanted}", seconds)


def write(api, sandbox, text, name="sandbox.yaml", where=APP):
    """A file of the app, by a program in the sandbox, which replaces it as an editor does."""
    script = f"mkdir -p {where} && cat >{where}/.new && mv {where}/.new {where}/{name}"
    pid = api.spawn(sandbox.id, "sh", "-c", script, stdin_open=True)
    api.send_input(sandbox.id, pid, text.encode(), close_stdin=True)
    assert api.wait_process(sandbox.id, pid).exit_code == 0


def workers(**commands):
    """A sandbox.yaml with these."""
    lines = [f"- name: {name}\n  command: |\n    {command}\n" for name, command in commands.items()]
    return "version: 1\nworkers:\n" + "".join(lines)


WEB = "version: 1\nweb: {command: 'exec httpd -f -p $PORT -h www', port: 8080}\n"


# --- the web -----------------------------------------------------------------------------------


def test_web(api, sandbox):
    """Ready, killed, started again; found by its tag, with what it prints."""
    app = api.app(sandbox.id)
    assert (app.directory, app.has_manifest, health(app)) == (APP, False, "NONE")
    assert not app.HasField("web") and not app.workers and not app.problems
    write(api, sandbox, "hello\n", "index.html", f"{APP}/www")
    write(api, sandbox, WEB)
    app = api.wait_for_app(sandbox.id)  # which sees the file itself
    assert health(app) == "READY" and app.health_detail == "" and not app.problems
    assert (state(app.web), app.web.port, app.web.starts) == ("RUNNING", 8080, 1)
    assert api.sh(sandbox.id, "wget -qO- http://127.0.0.1:8080/") == "hello\n"
    shown, = api.ps(sandbox.id)
    assert (shown.pid, shown.tag) == (app.web.pid, "app.web")

    api.signal(sandbox.id, "app.web", 9)
    wait_until(lambda: api.app(sandbox.id).web.starts == 2, "it is started again")
    app = api.wait_for_app(sandbox.id)
    assert health(app) == "READY"
    now, before = app.web.runs
    assert before.pid == shown.pid != now.pid == app.web.pid
    assert (before.signal, before.exit_code, before.cause) == (
        9, 137, app_pb2.APP_END_CAUSE_ITSELF)
    assert not now.HasField("ended_at")
    # By request: at once, and with no failure.
    with within(15):
        api.restart_app(sandbox.id, "web")
        app = api.wait_for_app(sandbox.id)
    assert health(app) == "READY" and app.web.starts == 3 and app.web.failures == 0
    assert app.web.runs[1].cause == app_pb2.APP_END_CAUSE_REQUEST
    with refused(Code.NOT_FOUND, "no program 'absent'"):
        api.restart_app(sandbox.id, "absent")

    # Another port, another process; and then none.
    write(api, sandbox, WEB.replace("8080", "8081"))
    wait_until(lambda: api.app(sandbox.id).web.port == 8081, "the other port")
    assert health(api.wait_for_app(sandbox.id)) == "READY"
    assert api.sh(sandbox.id, "wget -qO- http://127.0.0.1:8081/") == "hello\n"
    api.sh(sandbox.id, f"rm {APP}/sandbox.yaml")
    wait_until(lambda: health(api.app(sandbox.id)) == "NONE", "there is no web any more")
    wait_until(lambda: api.ps(sandbox.id) == [], "nothing runs any more")


def test_web_that_is_wrong(api, sandbox):
    """A wrong answer, nobody at the port, and one that cannot be started."""
    api.sh(sandbox.id, f"mkdir -p {APP}/www")
    write(api, sandbox, WEB.replace("port: 8080", "port: 8080, health_path: /health"))
    wait_until(lambda: health(api.app(sandbox.id)) == "ERROR", "an error")
    assert api.app(sandbox.id).health_detail == "it answers with status 404 of HTTP"
    write(api, sandbox, "fine\n", "health", f"{APP}/www")
    assert health(api.wait_for_app(sandbox.id)) == "READY"  # without a restart
    assert api.app(sandbox.id).web.starts == 1

    write(api, sandbox, "version: 1\nweb: {command: sleep 1000, port: 8080}\n")
    wait_until(lambda: "nobody listens" in api.app(sandbox.id).health_detail, "nobody listens")
    assert health(api.app(sandbox.id)) == "STARTING"
    with refused(Code.DEADLINE_EXCEEDED):
        api.wait_for_app(sandbox.id, timeout=1)
    write(api, sandbox, "version: 1\nweb: {command: [./absent], port: 8080}\n")
    wait_until(lambda: state(api.app(sandbox.id).web) == "GIVEN_UP", "it is given up", 30)
    app = api.wait_for_app(sandbox.id)
    assert health(app) == "DOWN" and "./absent" in app.health_detail
    assert all(run.pid == 0 and "absent" in run.error for run in app.web.runs[:5])


# --- workers -----------------------------------------------------------------------------------


def test_give_up_and_begin_again(api, sandbox):
    write(api, sandbox, workers(w="echo try; exit 7", ok="exec sleep 1000"))
    with within(30):
        w = wait_for(api, sandbox, "GIVEN_UP", seconds=30)
    assert (w.starts, w.failures, w.pid, len(w.runs)) == (5, 5, 0, 5)
    assert "with exit code 7" in w.reason
    # Each run has its own output, by its pid; the tag means the last.
    for run in w.runs:
        assert api.follow(sandbox.id, run.pid).stdout == b"try\n"
    assert api.follow(sandbox.id, "app.worker.w").end.exit_code == 7
    # The wait between two starts grows.
    starts = [run.started_at.ToMilliseconds() for run in reversed(w.runs)]
    waits = [b - a for a, b in zip(starts, starts[1:])]
    assert all(wait >= least for wait, least in zip(waits, (500, 1000, 2000, 4000))), waits
    assert state(worker(api, sandbox, "ok")) == "RUNNING"

    api.sh(sandbox.id, f"touch {APP}/sandbox.yaml")  # the same words change nothing
    time.sleep(1)
    assert worker(api, sandbox).starts == 5
    write(api, sandbox, workers(w="exec sleep 1000", ok="exec sleep 1000"))
    assert wait_for(api, sandbox, "RUNNING").failures == 0
    assert worker(api, sandbox, "ok").starts == 1


def test_daemon_flood_and_deaf(api, sandbox, daemon):
    """Programs that put themselves into the background, print without end, or ignore SIGTERM."""
    write(api, sandbox, workers(
        daemon="setsid sh -c 'exec sleep 4711' >/dev/null 2>&1 & sleep 0.2",
        flood="exec yes 0123456789abcdef",
        deaf="trap '' TERM; while :; do sleep 1; done"))
    w = wait_for(api, sandbox, "GIVEN_UP", "daemon", 40)
    assert "foreground" in w.reason and w.runs[0].left_behind == 1
    assert "4711" not in api.sh(sandbox.id, "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; done")

    flood = wait_for(api, sandbox, "RUNNING", "flood")
    wait_until(lambda: api.process(sandbox.id, flood.pid).stdout_size > 100 * MIB, "100 MiB", 60)
    shown = api.process(sandbox.id, flood.pid)
    assert shown.stdout_size - shown.stdout_kept_from <= 4 * MIB
    got = api.follow(sandbox.id, "app.worker.flood", gaps=True, until_now=True)
    assert b"\n0123456789abcdef\n" in got.stdout
    write(api, sandbox, workers(deaf="trap '' TERM; while :; do sleep 1; done"))
    wait_until(lambda: worker(api, sandbox, "flood") is None, "the flood is over")

    deaf = wait_for(api, sandbox, "RUNNING", "deaf")
    api.restart_app(sandbox.id, "deaf")
    assert state(worker(api, sandbox, "deaf")) == "ENDING"
    wait_until(lambda: worker(api, sandbox, "deaf").starts == deaf.starts + 1, "its end", 20)
    last = worker(api, sandbox, "deaf").runs[1]
    assert (last.signal, last.cause) == (9, app_pb2.APP_END_CAUSE_REQUEST)
    with within(20):  # a stop is not held up
        api.stop(sandbox.id)


# --- sandbox.yaml ------------------------------------------------------------------------------


def test_broken_file_boots_the_rest(api, sandbox):
    write(api, sandbox, "version: 1\nimage: postgres\nworkers:\n- {name: a, command: sleep 1000}\n"
                        "- {name: B, command: sleep 1000}\n- {name: c, comand: sleep 1000}\n"
                        "- {name: d, command: sleep 1000}\nbuild: [make\n")
    wait_for(api, sandbox, "RUNNING", "a")
    wait_for(api, sandbox, "RUNNING", "d")
    app = api.app(sandbox.id)
    assert [w.name for w in app.workers] == ["a", "d"]
    assert [(p.line, p.column) for p in app.problems] == [(2, 1), (5, 10), (6, 3), (6, 13), (9, 1)]
    assert app.problems[0].text.startswith("image: a key of Compose files")
    before = {w.name: w.pid for w in app.workers}
    # What such a file does not name goes on; a whole one ends it.
    write(api, sandbox, "version: 1\nworkers: [{name: a, command: sleep 1000}\n")
    wait_until(lambda: len(api.app(sandbox.id).problems) == 1, "it is read")
    assert {w.name: w.pid for w in api.app(sandbox.id).workers} == before
    write(api, sandbox, "version: 1\nworkers: [{name: a, command: sleep 1000}]\n")
    wait_until(lambda: [w.name for w in api.app(sandbox.id).workers] == ["a"], "d is ended")
    assert worker(api, sandbox, "a").pid == before["a"]
    # Whatever is there instead of a file.
    for script in ("mkdir sandbox.yaml", "mkfifo sandbox.yaml", "head -c 100000 /dev/zero >sandbox.yaml",
                   "head -c 60000 /dev/urandom >sandbox.yaml", "ln -s sandbox.yaml sandbox.yaml",
                   "ln -s /dev/zero sandbox.yaml", "touch sandbox.yaml; chmod 0 sandbox.yaml"):
        api.sh(sandbox.id, f"cd {APP}; rm -rf sandbox.yaml; {script}")
        api.restart_app(sandbox.id)  # which reads it
        assert api.app(sandbox.id).problems, script
        assert [w.name for w in api.app(sandbox.id).workers] == ["a"], script


def test_directory_made_anew(api, sandbox):
    """The file appears, goes with its directory, and comes back; by another directory's rename, too."""
    write(api, sandbox, workers(w="exec sleep 1000"))
    wait_for(api, sandbox, "RUNNING")
    api.sh(sandbox.id, "rm -r workspace")
    wait_until(lambda: not api.app(sandbox.id).workers, "it is ended")
    api.sh(sandbox.id, "mkdir -p workspace/app")
    time.sleep(0.5)
    write(api, sandbox, workers(w="pwd; exec sleep 1000"))
    wait_for(api, sandbox, "RUNNING")
    api.sh(sandbox.id, "mv workspace old")
    wait_until(lambda: not api.app(sandbox.id).workers, "it is ended")
    api.sh(sandbox.id, "mv old workspace")
    wait_for(api, sandbox, "RUNNING")
    wait_until(lambda: api.follow(sandbox.id, "app.worker.w", until_now=True).stdout
               == f"{APP}\n".encode(), "it says where it is")


def test_elsewhere_and_at_start(api, runtime, daemon):
    """In the directory that the sandbox's environment names; and a sandbox that starts again starts
    its app, also after the daemon was killed."""
    sandbox = api.create(runtime=runtime, env={"SANDBOXD_APP_DIR": "/home/sandbox/here"})
    write(api, sandbox, workers(w="echo $PORT in $(pwd); exec sleep 1000"), where="/home/sandbox/here")
    wait_for(api, sandbox, "RUNNING")
    assert api.app(sandbox.id).directory == "/home/sandbox/here"
    wait_until(lambda: api.follow(sandbox.id, "app.worker.w", until_now=True).stdout
               == b"in /home/sandbox/here\n", "it has said where it is")
    first = worker(api, sandbox)
    daemon.restart("SIGKILL")
    assert worker(daemon.api, sandbox).pid == first.pid
    with within(15):
        daemon.api.stop(sandbox.id)
    with refused(Code.FAILED_PRECONDITION):
        daemon.api.app(sandbox.id)
    daemon.api.start(sandbox.id)
    assert wait_for(daemon.api, sandbox, "RUNNING").starts == 1


def test_tags_are_its_own(api, sandbox):
    for tag in ("app.web", "app.worker.x", "app."):
        with refused(Code.INVALID_ARGUMENT, tag, "a program of the app"):
            api.run(sandbox.id, "true", tag=tag)
    api.run(sandbox.id, "true", tag="app")


# --- the build -----------------------------------------------------------------------------------


def test_build(api, sandbox):
    done = api.build_app(sandbox.id)
    assert done.build.status == app_pb2.APP_BUILD_STATUS_SKIPPED and "there is no" in done.build.error
    write(api, sandbox, "version: 1\nbuild: {command: 'echo out; echo err >&2; sleep 0.3; exit 4'}\n")
    done = api.build_app(sandbox.id)
    assert (done.build.status, done.build.exit_code) == (app_pb2.APP_BUILD_STATUS_FAILED, 4)
    assert sorted(done.output.split()) == ["err", "out"] and done.build.took_millis >= 300
    assert api.app(sandbox.id).build == done.build
    assert api.follow(sandbox.id, "app.build").stdout == b"out\n"
    write(api, sandbox, "version: 1\nbuild: {command: sleep 1000, timeout_seconds: 1}\n")
    done = api.build_app(sandbox.id)
    assert done.build.status == app_pb2.APP_BUILD_STATUS_FAILED and done.build.timed_out

    write(api, sandbox, "version: 1\nbuild: {command: sleep 2}\n")
    going = api.apps.Build.future(app_pb2.AppServiceBuildRequest(sandbox_id=sandbox.id), timeout=30)
    wait_until(lambda: [p.tag for p in api.ps(sandbox.id)] == ["app.build"], "it runs")
    with refused(Code.FAILED_PRECONDITION, "a build is under way"):
        api.build_app(sandbox.id)
    going.cancel()  # it goes on
    wait_until(lambda: api.app(sandbox.id).build.status == app_pb2.APP_BUILD_STATUS_PASSED, "its end")


# --- sandboxctl ----------------------------------------------------------------------------------


def test_cli(api, ctl, sandbox, tmp_path):
    write(api, sandbox, "hello\n", "index.html", f"{APP}/www")
    write(api, sandbox, WEB + "workers:\n- {name: w, command: 'echo one; exec sleep 1000'}\n"
                        "build: {command: 'echo built'}\nrestart: always\n")
    wait_for(api, sandbox, "RUNNING")
    done = ctl("app", "wait", sandbox.id)
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["manifest:", f"{APP}/sandbox.yaml"]
    assert lines[1].split() == ["web:", "ready"]
    assert lines[4].split()[:2] == ["web", "running"] and lines[5].split()[:2] == ["w", "running"]
    assert lines[-1].startswith("sandbox.yaml:6:1: restart: a key of Compose files")
    shown = json.loads(ctl("app", "status", "--json", sandbox.id).stdout)
    assert shown["health"] == "ready" and shown["web"]["port"] == 8080 and shown["build"] is None
    assert [(w["name"], w["state"], w["starts"]) for w in shown["workers"]] == [("w", "running", 1)]

    done = ctl("app", "build", sandbox.id)
    assert (done.returncode, done.stdout) == (0, "built\n") and "passed after" in done.stderr
    assert ctl("app", "logs", sandbox.id, "build").stdout == "built\n"
    assert ctl("app", "logs", sandbox.id, "w").stdout == "one\n"
    assert ctl("app", "logs", sandbox.id, "absent").returncode == 1
    assert ctl("app", "restart", sandbox.id, "absent").returncode == 1
    assert ctl("app", "restart", sandbox.id).returncode == 0
    wait_until(lambda: worker(api, sandbox).starts == 2, "it is started again")

    write(api, sandbox, "version: 1\nweb: {command: exit 3, port: 8080}\n")
    api.restart_app(sandbox.id)
    done = ctl("app", "wait", sandbox.id)
    assert done.returncode == 1 and "down: it ended after" in done.stdout
    assert "given up" in done.stdout
    done = ctl("app", "build", sandbox.id)
    assert done.returncode == 1 and "skipped: sandbox.yaml names no build" in done.stderr


@RUNC
def test_cli_logs_follow_restarts(api, sandbox, popen):
    write(api, sandbox, workers(w="n=$(cat n 2>/dev/null || echo 0); echo run $n; echo $((n + 1)) >n;"
                                  " while [ ! -e go$n ]; do sleep 0.05; done"))
    wait_for(api, sandbox, "RUNNING")
    following = popen("app", "logs", "-f", sandbox.id, "w", text=True)
    for n in range(3):
        assert following.stdout.readline() == f"run {n}\n"
        api.sh(sandbox.id, f"touch {APP}/go{n}")
    following.send_signal(signal.SIGINT)
    assert following.wait(20) != 0
    write(api, sandbox, workers(w="exit 9"))
    wait_for(api, sandbox, "GIVEN_UP", seconds=30)
    following = popen("app", "logs", "-f", sandbox.id, "w")
    assert following.wait(20) == 1


def test_cli_check(tmp_path):
    """Strict, with the place; no daemon is needed."""
    def check(text, *args):
        (tmp_path / "s.yaml").write_text(text)
        return subprocess.run([BUILD / "sandboxctl", "app", "check", *args, "s.yaml"], cwd=tmp_path,
                              capture_output=True, text=True, timeout=20)

    done = check(WEB)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = check("version: 1\nservices:\n  web: {image: x}\nbuild: {command: make, timeout_seconds: 0}\n")
    assert done.returncode == 1
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == \
        ["s.yaml:2:1", "s.yaml:4:41"]
    problem, = json.loads(check("version: 1\nweb:\n\tport: 1\n", "--json").stdout)["problems"]
    assert (problem["line"], problem["column"]) == (3, 1) and "YAML" in problem["text"]
    (tmp_path / "s.yaml").unlink()
    done = subprocess.run([BUILD / "sandboxctl", "app", "check", tmp_path / "s.yaml"], timeout=20,
                          capture_output=True, text=True)
    assert done.returncode == 2 and "there is no file" in done.stderr


# --- what it costs -------------------------------------------------------------------------------


@RUNC
def test_memory(api, sandbox, daemon):
    """The supervisor stays small: without an app, with one that runs, and after many files and starts.
    What is of its program, and not its own, all sandboxes share."""
    supervisor = daemon.init_pid(sandbox)

    def own():
        return resident(supervisor, "RssAnon")

    wait_until(lambda: resident(supervisor) <= MIB, "it lets go of its program")
    idle, private = resident(supervisor), own()
    api.sh(sandbox.id, f"mkdir -p {APP}/www")
    write(api, sandbox, WEB + "workers:\n" + "".join(
        f"- {{name: w{i}, command: sleep 1000}}\n" for i in range(3)))
    api.restart_app(sandbox.id)
    assert health(api.wait_for_app(sandbox.id)) == "READY"
    time.sleep(3)
    with_app = own()
    print(f"{idle / MIB:.2f} MiB, its own {private / KIB:.0f}, with an app {with_app / KIB:.0f} KiB")
    assert with_app - private <= 128 * KIB
    for i in range(20):
        write(api, sandbox, workers(**{f"w{k}": f"echo {i}; exec sleep 1000" for k in range(30)}))
        api.restart_app(sandbox.id)
    write(api, sandbox, "version: 1\n")
    wait_until(lambda: api.ps(sandbox.id) == [], "all are ended", 30)
    time.sleep(3)
    print(f"after 600 starts {own() / KIB:.0f} KiB")
    assert own() - private <= 1 * MIB
