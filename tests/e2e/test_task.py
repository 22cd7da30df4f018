"""Coding tasks: what they tell, how they end, and what outlives what. docs/tasks.md"""

import json
import os
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import grpc
import pytest
from sandboxd.v1 import task_pb2

from harness import refused, wait_until, within

RUNTIMES = pytest.mark.parametrize("runtime", ["runc", "runsc"], indirect=True)
RUNC = pytest.mark.parametrize("runtime", ["runc"], indirect=True)  # what the runtime has no part in
Code = grpc.StatusCode
GIT = "the image has git"


def status(task):
    """SUCCEEDED, FAILED, ..."""
    return task_pb2.TaskStatus.Name(task.result.status).removeprefix("TASK_STATUS_")


def failure(task):
    """TIMED_OUT, ...; UNSPECIFIED if it has not failed."""
    return task_pb2.TaskFailure.Name(task.result.failure).removeprefix("TASK_FAILURE_")


def phases(events):
    return [task_pb2.TaskPhase.Name(e.phase.phase).removeprefix("TASK_PHASE_")
            for e in events if e.HasField("phase")]


def said(events):
    return [e.message.text for e in events if e.HasField("message")]


def changed(events):
    """{path: ADDED, ...}"""
    kind = task_pb2.FileChangeKind.Name
    return {c.path: kind(c.kind).removeprefix("FILE_CHANGE_KIND_")
            for e in events if e.HasField("files") for c in e.files.changes}


@pytest.fixture
def git_sandbox(api, runtime, dev_image):
    """Of the development image, which has git."""
    return api.create(runtime=runtime, image=dev_image)


# --- what is told ------------------------------------------------------------------------------


@RUNTIMES
def test_a_task(api, sandbox):
    """Its phases, what its agent says on which stream, and its result."""
    events, task = api.run_task(
        sandbox.id, "echo one; sleep 0.3; echo two >&2; sleep 0.3; printf three", model="")
    assert phases(events) == ["CHECKPOINT", "AGENT_RUNNING", "BUILD_CHECK", "HEALTH_CHECK"]
    build, = [e.build for e in events if e.HasField("build")]
    assert build.status == task_pb2.TASK_BUILD_SKIPPED and "sandbox.yaml" in build.error
    assert said(events) == ["one", "three"]
    line, = [e.output for e in events if e.HasField("output")]
    assert (line.line, line.from_stderr) == ("two", True)
    assert status(task) == "SUCCEEDED" and failure(task) == "UNSPECIFIED"
    assert task.result.final_message == "three" and task.result.exit_code == 0
    assert task.phase == task_pb2.TASK_PHASE_DONE and task.last_event == len(events)
    assert task.result.build == task_pb2.TASK_BUILD_SKIPPED
    assert task.result.health == task_pb2.TASK_HEALTH_NONE
    assert task.result.duration_millis >= 600
    assert events[-1].done.status == task.result.status
    assert (task.number, task.agent, task.cwd) == (1, "shell", "/home/sandbox")
    # Without git it runs all the same, and says so.
    assert not task.checkpoint and "no git" in task.checkpoint_error
    assert not task.result.files_known
    note = [e.phase.note for e in events if e.HasField("phase")][1]
    assert note.startswith("no checkpoint: ") and "no git" in note


@RUNC
def test_failures(api, sandbox):
    _, task = api.run_task(sandbox.id, "echo sorry; exit 7")
    assert (status(task), failure(task), task.result.exit_code) == ("FAILED", "AGENT_FAILED", 7)
    assert "status 7" in task.result.error and task.result.final_message == "sorry"
    _, task = api.run_task(sandbox.id, "kill -9 $$")
    assert (failure(task), task.result.exit_code) == ("AGENT_FAILED", 137)
    _, task = api.run_task(sandbox.id, "hello", agent="codex")
    assert (status(task), failure(task)) == ("FAILED", "AGENT_NOT_STARTED")
    assert "codex" in task.result.error and "image" in task.result.error


@RUNC
def test_what_is_refused(api, sandbox):
    for code, words, fields in (
            (Code.INVALID_ARGUMENT, ["ghost", "claude-code, opencode, codex, shell"],
             {"agent": "ghost"}),
            (Code.INVALID_ARGUMENT, ["prompt"], {"prompt": ""}),
            (Code.INVALID_ARGUMENT, ["131071"], {"prompt": "x" * 131072}),
            (Code.INVALID_ARGUMENT, ["model"], {"model": "m"}),
            (Code.INVALID_ARGUMENT, ["cwd", "absolute"], {"cwd": "x"}),
            (Code.INVALID_ARGUMENT, ["cwd", "/nowhere"], {"cwd": "/nowhere"}),
            (Code.INVALID_ARGUMENT, ["timeout_millis"], {"timeout_millis": 999}),
            (Code.INVALID_ARGUMENT, ["env"], {"env": {"A=B": "c"}}),
            (Code.INVALID_ARGUMENT, ["request_key"], {"request_key": "x" * 129})):
        with refused(code, *words):
            api.start_task(sandbox.id, **{"prompt": "true"} | fields)
    with refused(Code.NOT_FOUND, "no task"):
        api.task(sandbox.id)
    with refused(Code.NOT_FOUND, "ghost"):
        list(api.follow_task(sandbox.id, "ghost"))
    with refused(Code.NOT_FOUND, "no task is active"):
        api.cancel_task(sandbox.id)
    assert api.list_tasks(sandbox.id) == []


@RUNTIMES
def test_one_at_a_time(api, sandbox):
    """The second is refused, and told of the first; the same key is the same task."""
    first = api.start_task(sandbox.id, "sleep 60", request_key="k1")
    with refused(Code.FAILED_PRECONDITION, first.id):
        api.start_task(sandbox.id, "true")
    with refused(Code.FAILED_PRECONDITION, first.id):
        api.revert_task(sandbox.id, first.id)
    assert api.start_task(sandbox.id, "other", request_key="k1").id == first.id
    assert api.task(sandbox.id).id == first.id
    with within(15):
        assert status(api.cancel_task(sandbox.id)) == "CANCELLED"
    assert api.start_task(sandbox.id, "other", request_key="k1").id == first.id
    _, second = api.run_task(sandbox.id, "true", request_key="k2")
    assert [t.id for t in api.list_tasks(sandbox.id)] == [first.id, second.id]
    assert (first.number, second.number) == (1, 2)


@RUNC
def test_ways_of_the_prompt(daemon, runtime):
    """As an argument, as input, in a file; flags of model and continuing where they belong."""
    daemon.configure(agents={
        "in": {"command": ["cat"]},
        "file": {"command": ["cat", "{prompt_file}"]},
        "flags": {"command": ["echo", "{continue}", "{model}", "--", "{prompt}"],
                  "model_flags": ["-m"], "continue_flags": ["resume", "--last"],
                  "env": ["A_B=c d"]},
        "shell": {"env": ["FROM=config"]}})
    daemon.restart("SIGTERM")
    api = daemon.api
    box = api.create(runtime=runtime)
    large = "line ü\n" * 100000  # no argument holds it
    for agent in ("in", "file"):
        events, _ = api.run_task(box.id, large, agent=agent)
        assert said(events) == large.splitlines()
    events, _ = api.run_task(box.id, "-p q", agent="flags", model="big", continue_last=True)
    assert said(events) == ["resume --last -m big -- -p q"]
    assert said(api.run_task(box.id, "p", agent="flags")[0]) == ["-- p"]
    assert said(api.run_task(box.id, "echo $FROM")[0]) == ["config"]
    # A reload reaches sandboxes that run.
    daemon.configure(agents={"shell": {"env": ["FROM=reload"]}})
    api.reload()
    wait_until(lambda: said(api.run_task(box.id, "echo $FROM")[0]) == ["reload"], "the new agents")
    with refused(Code.INVALID_ARGUMENT, "'in'"):
        api.start_task(box.id, "x", agent="in")


@RUNTIMES
def test_secrets(daemon, api, sandbox):
    """reach the agent, and nothing else: neither event, log nor file has them."""
    secret = "sk-" + "7" * 40
    events, task = api.run_task(
        sandbox.id, f'test "$KEY" = {secret[:3]}{"$(printf %040d 0 | tr 0 7)"} && echo right;'
                    ' echo "a $KEY b $KEY"; echo $KEY >&2; echo $SHORT', env={"KEY": secret, "SHORT": "ab"})
    assert said(events) == ["right", "a [redacted] b [redacted]", "ab"]
    assert secret not in str(events) + str(task) + daemon.log()
    found = api.sh(sandbox.id, f"grep -r {secret[:10]} /home/sandbox || echo none")
    assert found == "none\n"
    assert said(api.run_task(sandbox.id, 'echo "<$KEY>"')[0]) == ["<>"]


# --- events ------------------------------------------------------------------------------------


@RUNTIMES
def test_events_from_every_number(daemon, api, sandbox):
    """The same sequence, over disconnects and the death of the daemon."""
    task = api.start_task(sandbox.id, "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.2; done")
    got = []
    while not got or not got[-1].HasField("done"):
        for event in daemon.api.follow_task(sandbox.id, task.id, since=len(got) + 1):
            got.append(event)
            if len(got) % 3 == 0 and not event.HasField("done"):
                break
        if len(got) in (6, 9):
            daemon.restart("SIGKILL")
    api = daemon.api
    assert api.finish_task(sandbox.id, task.id) == got
    assert said(got) == list("12345678")
    for since in range(1, len(got) + 2):
        assert list(api.follow_task(sandbox.id, task.id, since=since)) == got[since - 1:]
    with refused(Code.OUT_OF_RANGE, str(len(got) + 2)):
        list(api.follow_task(sandbox.id, task.id, since=len(got) + 2))


@RUNC
def test_until_now(api, sandbox):
    task = api.start_task(sandbox.id, "echo 1; sleep 60")
    wait_until(lambda: said(api.follow_task(sandbox.id, until_now=True)) == ["1"], "a message")
    with refused(Code.OUT_OF_RANGE):
        list(api.follow_task(sandbox.id, since=1000, until_now=True))
    api.cancel_task(sandbox.id, task.id)


@RUNTIMES
def test_many_events(daemon, api, sandbox):
    """100,000 of them: all there, in order, and the supervisor no larger than before."""
    def supervisor():
        return int(api.sh(sandbox.id, "grep VmRSS /proc/1/status").split()[1]) * 1024

    api.run_task(sandbox.id, "true")
    before = supervisor()
    task = api.start_task(sandbox.id, "seq 1 100000", timeout_millis=300000)
    texts = said(api.follow_task(sandbox.id, task.id, timeout=300))
    assert texts == [str(i) for i in range(1, 100001)]
    assert status(api.task(sandbox.id)) == "SUCCEEDED"
    wait_until(lambda: supervisor() < before + (1 << 20), "no more memory than before")


@RUNTIMES
def test_strange_output(api, sandbox):
    """Invalid UTF-8, NUL, half lines, lines of 10 MiB, nothing."""
    events, task = api.run_task(
        sandbox.id, r"""printf 'a\377\000b\r\n\n'; head -c 10485760 /dev/zero | tr '\0' x;
                        printf '\nü'; printf '%65535s\n' | tr ' ' y; printf half""")
    first, empty, large, cut, last = [e.message for e in events if e.HasField("message")]
    assert (first.text, empty.text, last.text) == ("a��b", "", "half")
    assert large.text == "x" * 65536 and large.omitted_bytes == 10485760 - 65536
    assert cut.text == "ü" + "y" * 65534 and cut.omitted_bytes == 1
    assert status(task) == "SUCCEEDED" and task.result.final_message == "half"


@RUNC
def test_a_flood(api, sandbox):
    """is held up, then counted; the task goes on."""
    task = api.start_task(sandbox.id, "yes | head -n 1200000; echo last", timeout_millis=300000)
    last = None
    for last in api.follow_task(sandbox.id, task.id, since=990000, timeout=300):
        pass
    assert last.HasField("done") and last.number <= 1000000
    task = api.task(sandbox.id)
    assert status(task) == "SUCCEEDED"
    assert task.result.events_lost > 200000 and task.result.final_message == "last"


# --- ends --------------------------------------------------------------------------------------


def leave_children(script):
    """A script behind whose back some of its children hide, and none dies of SIGTERM."""
    return ("trap '' TERM; (trap '' TERM; setsid sleep 1000 >/dev/null 2>&1 &)"
            " ; (setsid sh -c 'trap \"\" TERM; sleep 1001 & wait' &); " + script)


def sleepers(api, sandbox):
    return int(api.sh(sandbox.id, "cat /proc/[0-9]*/comm 2>/dev/null | grep -c '^sleep$' || :"))


@RUNTIMES
def test_cancel(api, git_sandbox):
    """The whole tree is gone within two seconds, also who minds no SIGTERM, and what was changed is
    told."""
    task = api.start_task(git_sandbox.id, leave_children("echo x >made; echo begun; sleep 1002"))
    next(e for e in api.follow_task(git_sandbox.id) if e.HasField("message"))
    wait_until(lambda: sleepers(api, git_sandbox) == 3, "all of it runs")
    with ThreadPoolExecutor() as pool:
        began = time.monotonic()
        cancel = pool.submit(api.cancel_task, git_sandbox.id)
        wait_until(lambda: sleepers(api, git_sandbox) == 0, "all of it is gone")
        assert time.monotonic() - began < 2.5  # with the looking
        done = cancel.result()
    assert done.id == task.id and status(done) == "CANCELLED" and done.result.error == ""
    assert changed(api.finish_task(git_sandbox.id)) == {"made": "ADDED"}
    assert api.cancel_task(git_sandbox.id, task.id) == done  # idempotent


@RUNTIMES
def test_timeout(api, git_sandbox):
    began = time.monotonic()
    events, task = api.run_task(git_sandbox.id, leave_children("rm .profile; sleep 1002"),
                                timeout_millis=2000)
    assert (status(task), failure(task)) == ("FAILED", "TIMED_OUT")
    assert sleepers(api, git_sandbox) == 0
    assert changed(events) == {".profile": "DELETED"}
    assert time.monotonic() - began < 15


@RUNTIMES
def test_a_daemon_does_not_outlive_the_task(api, sandbox):
    _, task = api.run_task(sandbox.id, "setsid sleep 1000 >/dev/null 2>&1 & echo done")
    assert status(task) == "SUCCEEDED" and task.result.final_message == "done"
    assert sleepers(api, sandbox) == 0


@RUNTIMES
def test_a_stop_in_the_middle(api, git_sandbox):
    """The task is finished as failed at the next start, and not taken up again; what it has done may
    be reverted."""
    sandbox = git_sandbox
    task = api.start_task(sandbox.id, "touch again-$(date +%s%N); echo begun; sleep 100")
    wait_until(lambda: said(api.follow_task(sandbox.id, until_now=True)) == ["begun"], "a message")
    api.stop(sandbox.id, grace_millis=500)
    api.start(sandbox.id)
    events = api.finish_task(sandbox.id)
    assert said(events) == ["begun"]
    done = api.task(sandbox.id)
    assert (status(done), failure(done)) == ("FAILED", "INTERRUPTED")
    assert events[-1].done == done.result and done.id == task.id
    assert done.last_event == len(events)
    time.sleep(0.5)
    assert api.sh(sandbox.id, "ls again-* | wc -l") == "1\n"
    assert done.checkpoint and api.revert_task(sandbox.id, task.id) == (0, 1)
    _, second = api.run_task(sandbox.id, "true")
    assert second.number == 2 and status(second) == "SUCCEEDED"


@RUNC
def test_a_crash_in_the_middle(daemon, api, sandbox):
    task = api.start_task(sandbox.id, "echo begun; sleep 100")
    wait_until(lambda: said(api.follow_task(sandbox.id, until_now=True)) == ["begun"], "a message")
    os.kill(daemon.init_pid(sandbox), signal.SIGKILL)
    api.wait(sandbox.id, "FAILED", "STOPPED")
    api.start(sandbox.id)
    done = api.task(sandbox.id, task.id)
    assert (status(done), failure(done)) == ("FAILED", "INTERRUPTED")


@RUNTIMES
def test_an_agent_that_deletes_everything(api, sandbox):
    """Also what the supervisor keeps in the workspace: the task ends as it should."""
    task = api.start_task(sandbox.id, "echo bye; rm -rf ~/.runtimed; echo gone")
    # Its socket has gone, too: the connection that there is still serves.
    done = wait_until(lambda: (t := api.task(sandbox.id, task.id)).phase == task_pb2.TASK_PHASE_DONE
                      and t, "the end")
    assert status(done) == "SUCCEEDED" and done.result.final_message == "gone"


@RUNTIMES
def test_an_agent_that_changes_its_events(api, sandbox):
    """Who follows misses none; who comes later is told so."""
    for how in ("echo junk >>$E", ": >$E"):
        task = api.start_task(sandbox.id, "echo one; sleep 0.5; E=$(ls ~/.runtimed/tasks/*/events | tail -1);"
                                          f" {how}; echo two; sleep 0.3; echo three")
        events = list(api.follow_task(sandbox.id, task.id))
        assert said(events) == ["one", "two", "three"] and events[-1].HasField("done")
        assert status(api.task(sandbox.id, task.id)) == "SUCCEEDED"
    with refused(Code.DATA_LOSS, "event 1 "):
        list(api.follow_task(sandbox.id, task.id))


# --- the app -----------------------------------------------------------------------------------


SERVER = """
import http.server
page = open("page", "rb").read()  # once: an edit needs a restart
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page)
http.server.HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
MANIFEST = """
version: 1
web: {command: python3 server.py, port: 8000, restart_after_task: true}
build: {command: sh build.sh, timeout_seconds: 20}
"""


def write(api, box, **files):
    for name, text in files.items():
        name = name.replace("_", ".")
        api.sh(box, f"mkdir -p workspace/app; cat >workspace/app/{name} <<'EOF'\n{text}\nEOF")


@RUNTIMES
def test_an_app_is_built_and_restarted(api, git_sandbox):
    """Its files are edited, added and deleted; the build passes; the web shows the new page."""
    box = git_sandbox.id
    write(api, box, server_py=SERVER, page="old", build_sh="test -s page && echo built >out", gone="x")
    write(api, box, sandbox_yaml=MANIFEST)
    wait_until(lambda: api.app(box).has_manifest, "it is seen")
    assert api.wait_for_app(box).web.starts == 1
    look = "curl -s http://127.0.0.1:8000/"
    assert api.sh(box, look) == "old\n"

    events, task = api.run_task(box, "echo new >page; echo a >added; rm gone; echo fine")
    assert phases(events) == ["CHECKPOINT", "AGENT_RUNNING", "BUILD_CHECK", "HEALTH_CHECK"]
    assert changed(events) == {"page": "MODIFIED", "added": "ADDED", "gone": "DELETED"}
    assert status(task) == "SUCCEEDED"
    assert task.result.build == task_pb2.TASK_BUILD_PASSED
    assert task.result.health == task_pb2.TASK_HEALTH_READY
    assert api.sh(box, look) == "new\n" and api.app(box).web.starts == 2

    events, task = api.run_task(box, "echo newer >page; echo 'echo no such thing; exit 3' >build.sh")
    assert phases(events) == ["CHECKPOINT", "AGENT_RUNNING", "BUILD_CHECK"]
    assert (status(task), failure(task)) == ("FAILED", "BUILD_FAILED")
    build, = [e.build for e in events if e.HasField("build")]
    assert (build.status, build.exit_code, build.output) == (
        task_pb2.TASK_BUILD_FAILED, 3, "no such thing\n")
    assert "status 3" in task.result.error
    # What could not be built is not put in the place of what runs.
    assert api.sh(box, look) == "new\n" and api.app(box).web.starts == 2

    events, task = api.run_task(box, "exit 1")
    assert failure(task) == "AGENT_FAILED" and phases(events) == ["CHECKPOINT", "AGENT_RUNNING"]
    assert task.result.build == task_pb2.TASK_BUILD_SKIPPED


def cancel_in(api, box, phase):
    """A task that is in this phase for long; as it is in the end."""
    api.start_task(box, "echo x >made")
    wait_until(lambda: phase in phases(api.follow_task(box, until_now=True)), phase)
    with within(15):
        done = api.cancel_task(box)
    assert status(done) == "CANCELLED" and done.result.files_added == 1
    return done


@RUNC
def test_cancel_of_a_build(api, git_sandbox):
    box = git_sandbox.id
    write(api, box, sandbox_yaml="version: 1\nbuild: {command: sleep 1000}")
    cancel_in(api, box, "BUILD_CHECK")
    wait_until(lambda: sleepers(api, git_sandbox) == 0, "it is gone")


@RUNC
def test_cancel_of_a_health_check(api, git_sandbox):
    """The web never answers: it would be waited for for a minute."""
    box = git_sandbox.id
    write(api, box, sandbox_yaml="version: 1\nweb: {command: sleep 1000, port: 8000}")
    done = cancel_in(api, box, "HEALTH_CHECK")
    assert api.run_task(box, "exit 1")[1].number == done.number + 1


# --- what the daemon keeps ---------------------------------------------------------------------


@RUNTIMES
def test_results_outlive_the_sandbox(daemon, api, sandbox):
    """and the daemon."""
    first = api.run_task(sandbox.id, "echo one; exit 1")[1]
    last = api.start_task(sandbox.id, "echo two")
    for event in api.follow_task(sandbox.id, last.id):
        if event.HasField("done"):
            break  # whoever sees it finds the task done
    last = api.task(sandbox.id, last.id)
    assert status(last) == "SUCCEEDED"
    api.stop(sandbox.id)
    for _ in range(2):
        api = daemon.api
        assert api.list_tasks(sandbox.id) == [first, last]
        assert api.task(sandbox.id) == last and api.task(sandbox.id, first.id) == first
        with refused(Code.FAILED_PRECONDITION, "start it first", "no such task"):
            api.task(sandbox.id, "x" * 26)
        with refused(Code.FAILED_PRECONDITION, "start it first"):
            list(api.follow_task(sandbox.id))
        daemon.restart("SIGKILL")
    api = daemon.api
    api.start(sandbox.id)
    assert api.list_tasks(sandbox.id) == [first, last]
    api.delete(sandbox.id)
    assert api.list_tasks(sandbox.id) == [first, last] and api.task(sandbox.id, first.id) == first
    with refused(Code.NOT_FOUND, sandbox.id):
        list(api.follow_task(sandbox.id))
    with refused(Code.NOT_FOUND):
        api.list_tasks(sandbox.id[:20])
    with refused(Code.NOT_FOUND):
        api.task(sandbox.id[:-1] + "0")


@RUNTIMES
def test_deleted_at_once(api, sandbox):
    """The moment the last event is seen is late enough."""
    task = api.start_task(sandbox.id, "echo one")
    for event in api.follow_task(sandbox.id, task.id):
        if event.HasField("done"):
            break
    api.delete(sandbox.id)
    assert status(api.task(sandbox.id, task.id)) == "SUCCEEDED"


def kept_tasks(daemon):
    with closing(sqlite3.connect(f"file:{daemon.data}/sandboxd.db?mode=ro", uri=True, timeout=10)) as db:
        return {row[0] for row in db.execute("SELECT id FROM task")}


@RUNC
def test_more_tasks_than_are_kept(daemon, api, sandbox):
    ids = [api.run_task(sandbox.id, f"echo {i}")[1].id for i in range(70)]
    assert [t.id for t in api.list_tasks(sandbox.id)] == ids[-64:]
    assert {p.name for p in (daemon.workspace(sandbox) / ".runtimed/tasks").iterdir()} == set(ids[-64:])
    with refused(Code.NOT_FOUND, ids[0]):
        api.task(sandbox.id, ids[0])
    # The daemon asks a sandbox with so much to tell once a second.
    wait_until(lambda: ids[-1] in kept_tasks(daemon), "the daemon has the last one", 30)
    api.stop(sandbox.id)
    assert [t.id for t in api.list_tasks(sandbox.id)] == ids[-64:]


@RUNC
def test_numbers_go_on(daemon, api, sandbox):
    """Also where the workspace has forgotten them, for the daemon has not."""
    api.run_task(sandbox.id, "true")
    api.run_task(sandbox.id, "rm -rf ~/.runtimed/tasks; true")
    api.sh(sandbox.id, "rm -rf ~/.runtimed/tasks")
    api.stop(sandbox.id)
    api.start(sandbox.id)
    assert api.list_tasks(sandbox.id) == []
    task = wait_until(lambda: (t := api.run_task(sandbox.id, "true")[1]).number > 2 and t, "above 2")
    api.delete(sandbox.id)
    assert task in api.list_tasks(sandbox.id)


# --- files -------------------------------------------------------------------------------------


TREE = r"""mkdir -p app/src app/.git/hooks; cd app; rm -r .git; git init -q .;
printf 'one\r\ntwo\n' >src/text; printf '\000\001\377' >binary; ln -s src/text link; echo '*.log' >.gitignore
printf '#!/bin/sh\n' >run; chmod 755 run; echo s >private; chmod 600 private; echo l >x.log
git add src; git -c user.name=a -c user.email=b commit -qm c; echo '* text eol=crlf' >.gitattributes
git config core.fsmonitor /nowhere; printf '#!/bin/sh\ntouch /tmp/hooked\n' >.git/hooks/post-index-change
chmod 755 .git/hooks/post-index-change
mkdir vendor; cd vendor; git init -q; echo in >in; git add in; git -c user.name=a -c user.email=b commit -qm c
echo untracked >un; cd ..; mkdir node_modules; echo m >node_modules/m; mkfifo pipe"""

LOOK = r"""cd app; find . -path ./x.log -o \( -type f -o -type l \) -print0 | sort -z |
 xargs -0 sh -c 'for f; do stat -c "%n %a %F" "$f"; if [ -L "$f" ]; then readlink "$f"; else sha256sum "$f"; fi; done' x"""

EDIT = r"""echo more >>src/text; rm binary; ln -sf private link; chmod 644 run private; echo new >'a "b"
c'; mkdir -p deep/er; echo x >deep/er/file; echo y >>vendor/in; rm vendor/un; echo '' >.gitignore; echo z >>x.log
rm src/text; mkdir src/text; echo d >src/text/d; echo done"""


@RUNTIMES
def test_changes_and_revert(api, git_sandbox):
    """What the agent has done to files is told exactly, and taken back byte for byte; the user's
    repository is not touched."""
    box = git_sandbox.id
    api.sh(box, f"mkdir -p workspace; cd workspace; {TREE}")
    look = "cd workspace; " + LOOK
    before = api.sh(box, look)
    head = api.sh(box, "cd workspace/app; git rev-parse HEAD; sha256sum .git/index .git/config")
    events, task = api.run_task(box, EDIT)
    assert task.cwd == "/home/sandbox/workspace/app"
    assert status(task) == "SUCCEEDED" and task.checkpoint and task.result.files_known
    assert changed(events) == {
        "src/text": "DELETED", "src/text/d": "ADDED", "binary": "DELETED", "link": "MODIFIED",
        "run": "MODIFIED", 'a "b"\nc': "ADDED", "deep/er/file": "ADDED", "vendor/in": "MODIFIED",
        "vendor/un": "DELETED", ".gitignore": "MODIFIED", "x.log": "ADDED"}
    counts = (task.result.files_added, task.result.files_modified, task.result.files_deleted)
    assert counts == (4, 4, 3)
    assert {c.path for c in task.result.files_changed} == set(changed(events))
    api.sh(box, "echo later >workspace/app/later")
    assert api.revert_task(box, task.id) == (7, 3)
    assert api.sh(box, look) == before
    assert api.sh(box, "cd workspace/app; cat x.log; ls -d deep 2>&1; ls /tmp/hooked 2>&1 || :") \
        .startswith("l\nz\n")  # ignored then: left alone
    assert api.sh(box, "cd workspace/app; git rev-parse HEAD;"
                       " sha256sum .git/index .git/config") == head
    assert api.run(box, "ls", "/tmp/hooked").code != 0
    assert api.revert_task(box, task.id) == (0, 0)


@RUNTIMES
def test_revert_of_an_earlier_task(api, git_sandbox):
    box = git_sandbox.id
    ids = [api.run_task(box, f"echo {i} >>f; echo {i} >f{i}")[1].id for i in range(3)]
    assert api.revert_task(box, ids[1]) == (1, 2)
    assert api.sh(box, "cat f; ls f*") == "0\nf\nf0\n"
    with refused(Code.INVALID_ARGUMENT, "task_id"):
        api.revert_task(box, "")
    api.sh(box, "rm -r .runtimed/checkpoints")
    with refused(Code.UNKNOWN, "not there any more"):
        api.revert_task(box, ids[0])


@RUNC
def test_revert_without_a_checkpoint(api, sandbox):
    _, task = api.run_task(sandbox.id, "true")
    with refused(Code.FAILED_PRECONDITION, "no git"):
        api.revert_task(sandbox.id, task.id)


# --- the command line --------------------------------------------------------------------------


@RUNC
def test_cli(api, ctl, git_sandbox):
    box = git_sandbox.id
    done = ctl("task", "start", "--agent", "shell", "-f", "-e", "KEY=12345678", box, "--",
               "echo one; echo two >&2;", "echo $KEY; echo x >made; rm .profile")
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    first = api.task(box)
    assert lines[0] == first.id
    # Behind the time that has passed, or blanks in its place.
    shown = [line[10:] for line in lines[1:]]
    assert shown[:2] == ["-- checkpoint", "-- agent_running"]
    assert {"one", "| two", "[redacted]", "deleted  .profile", "added    made"} <= set(shown)
    assert "-- build_check" in shown and "the build: skipped: " in "".join(shown)
    assert shown[-2].startswith("-- succeeded after ")
    assert shown[-1].strip() == "1 files added, 0 modified, 1 deleted; build skipped, health none"

    done = ctl("task", "start", "--agent", "shell", "-f", "--json", box, "--", "printf '\\033[31m'; exit 3")
    assert done.returncode == 1
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["number"] for e in events] == list(range(1, len(events) + 1))
    assert events[-1]["done"]["status"] == "failed" and events[-1]["done"]["exit_code"] == 3
    second = api.task(box)
    done = ctl("task", "events", box, second.id, "--since", "3")
    assert done.returncode == 0 and "\\x1b[31m" in done.stdout and "\x1b" not in done.stdout

    done = ctl("task", "ls", box)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[:3] for row in rows] == [["ID", "AGENT", "STATE"], [first.id, "shell", "succeeded"],
                                         [second.id, "shell", "failed"]]
    assert "+1 ~0 -1" in done.stdout
    shown = json.loads(ctl("task", "ls", "--json", box).stdout)
    assert [t["id"] for t in shown] == [first.id, second.id]
    assert shown[0]["result"]["files_changed"] == [{"path": ".profile", "kind": "deleted"},
                                                   {"path": "made", "kind": "added"}]
    done = ctl("task", "revert", box, first.id)
    assert (done.returncode, done.stdout) == (0, "1 files restored, 1 removed\n")

    third = ctl("task", "start", "--agent", "shell", box, "--", "sleep 1000").stdout.strip()
    done = ctl("task", "start", "--agent", "shell", box, "--", "true")
    assert done.returncode == 1 and third in done.stderr
    done = ctl("task", "cancel", box)
    assert done.returncode == 0 and "cancelled" in done.stdout and third in done.stdout
    done = ctl("task", "start", box, "--", "hello")  # the default agent, which the image lacks
    assert done.returncode == 0
    wait_until(lambda: failure(api.task(box)) == "AGENT_NOT_STARTED", "the end")
    assert "claude" in api.task(box).result.error


@RUNC
def test_cli_follows_over_a_restart(daemon, api, sandbox, popen):
    process = popen("task", "start", "--agent", "shell", "-f", sandbox.id, "--",
                    "echo one; sleep 3; echo two")
    wait_until(lambda: api.list_tasks(sandbox.id), "the task")
    time.sleep(0.5)
    daemon.restart("SIGKILL")
    out, _ = process.communicate(timeout=30)
    said_ = [line[10:] for line in out.decode().splitlines()]
    assert process.returncode == 0 and said_.count("one") == said_.count("two") == 1
