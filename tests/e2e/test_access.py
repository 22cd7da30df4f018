"""Who may do what: real users of the host, every method, what is theirs and what is another's."""

import grp
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

import as_user
from harness import refused, wait_until

# No user or group of these numbers need exist.
ALICE, BOB, OLGA, ADA, EVE = 61001, 61002, 61003, 61004, 61005
CONNECT, USERS, OBSERVERS = 62000, 62001, 62002
ACCESS = {"users": {str(ADA): "admin"},
          "groups": {str(USERS): "user", str(OBSERVERS): "observer"}}
PEOPLE = {  # uid, groups; whoever connects must be able to open the socket
    "alice": (ALICE, [CONNECT, USERS]),  # a user; the sandbox in question is hers
    "bob": (BOB, [USERS, CONNECT]),  # another user
    "olga": (OLGA, [OBSERVERS, CONNECT]),  # an observer
    "ada": (ADA, [CONNECT]),  # an admin by her uid
    "eve": (EVE, [CONNECT]),  # nobody
    "root": (0, [0]),
}


class Person:
    """Somebody who calls, in a process of its own."""

    def __init__(self, daemon, uid, groups):
        script = Path(__file__).parent / "as_user.py"
        self.process = subprocess.Popen(
            [sys.executable, script, str(uid), ",".join(map(str, groups)), daemon.socket],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, method, fields=None, **more):
        print(json.dumps({"method": method, "fields": fields, **more}), file=self.process.stdin,
              flush=True)
        line = self.process.stdout.readline()
        assert line, "as_user.py has ended"
        return json.loads(line)

    def ok(self, method, fields=None, **more):
        """The responses of a call that must succeed."""
        answer = self.call(method, fields, **more)
        assert answer["code"] == "OK", answer
        return answer["responses"]

    def end(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture
def shared_daemon(make_daemon):
    daemon = make_daemon(start=False, socket_group=str(CONNECT), access=ACCESS)
    daemon.dir.chmod(0o755)  # others than root find the socket
    daemon.start()
    return daemon


@pytest.fixture
def people(shared_daemon):
    there = {name: Person(shared_daemon, *who) for name, who in PEOPLE.items()}
    yield there
    for person in there.values():
        person.end()


SANDBOX, HOST, IMAGE, PROCESS, APP, TASK = (
    f"sandboxd.v1.{name}Service"
    for name in ("Sandbox", "Host", "Image", "Process", "App", "Task"))
PID_1 = {"pid": 1}

# Of each method: who may on Alice's sandbox, or at all, and what else is asked for. Whoever is let
# through need not succeed; whoever is not is told PERMISSION_DENIED.
OWNER = {"alice", "ada", "root"}
READERS = OWNER | {"olga"}
ANY = READERS | {"bob"}
ADMINS = {"ada", "root"}
MATRIX = {
    f"{SANDBOX}/Get": (READERS, {}),
    f"{SANDBOX}/List": (ANY, None),
    f"{SANDBOX}/Wait": (READERS, {"states": ["SANDBOX_STATE_RUNNING"]}),
    f"{SANDBOX}/Stats": (READERS, {}),
    f"{SANDBOX}/Watch": (READERS, {"untilNow": True}),
    f"{SANDBOX}/Keepalive": (OWNER, {"ttlMillis": 3600000}),
    f"{SANDBOX}/Pause": (OWNER, {}),
    f"{SANDBOX}/Resume": (OWNER, {}),
    f"{SANDBOX}/Stop": (OWNER, {"graceMillis": 100}),
    f"{SANDBOX}/Start": (OWNER, {}),
    f"{SANDBOX}/Create": ({"alice", "bob", "ada", "root"}, None),  # a bad name: see below
    f"{PROCESS}/Start": (OWNER, {"args": ["true"]}),
    f"{PROCESS}/Attach": (OWNER, {"process": PID_1}),
    f"{PROCESS}/List": (OWNER, {}),
    f"{PROCESS}/SendInput": (OWNER, {"process": PID_1, "data": "YQ=="}),
    f"{PROCESS}/StreamInput": (OWNER, {"process": PID_1, "data": "YQ=="}),
    f"{PROCESS}/CloseStdin": (OWNER, {"process": PID_1}),
    f"{PROCESS}/Signal": (OWNER, {"process": PID_1, "signal": 10}),
    f"{PROCESS}/Resize": (OWNER, {"process": PID_1, "size": {"rows": 1, "columns": 1}}),
    f"{PROCESS}/Wait": (OWNER, {"process": PID_1}),
    f"{APP}/Status": (OWNER, {}),
    f"{APP}/Restart": (OWNER, {}),
    f"{APP}/Wait": (OWNER, {}),
    f"{APP}/Build": (OWNER, {}),
    f"{TASK}/Start": (OWNER, {"agent": "shell", "prompt": "true"}),
    f"{TASK}/Get": (OWNER, {}),
    f"{TASK}/List": (OWNER, {}),
    f"{TASK}/Events": (OWNER, {}),
    f"{TASK}/Cancel": (OWNER, {}),
    f"{TASK}/Revert": (OWNER, {"taskId": "x"}),
    f"{HOST}/Info": (ANY, None),
    f"{HOST}/Metrics": (ADMINS | {"olga"}, None),
    f"{HOST}/Doctor": (ADMINS, None),
    f"{HOST}/Reload": (ADMINS, None),
    f"{IMAGE}/Import": (ADMINS, None),
    f"{IMAGE}/List": (ANY, None),
    f"{IMAGE}/Remove": (ADMINS, None),
    "grpc.health.v1.Health/Check": (ANY, None),
    "grpc.health.v1.Health/List": (ANY, None),
    "grpc.health.v1.Health/Watch": (ANY, None),
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": (ANY, None),
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": (ANY, None),
    f"{HOST}/Drain": (ADMINS, None),
    f"{SANDBOX}/Delete": (OWNER, {}),  # the last
}
# What ends the matter for those who come after, who may and who may not, is asked for by these only.
DONE_ONCE = {f"{SANDBOX}/Delete": "alice", f"{HOST}/Drain": None, f"{HOST}/Doctor": None}
NOT_AUDITED = {f"{SANDBOX}/Get", f"{SANDBOX}/List", f"{SANDBOX}/Wait", f"{SANDBOX}/Stats",
               f"{SANDBOX}/Watch", f"{HOST}/Info", f"{HOST}/Metrics", f"{IMAGE}/List",
               f"{PROCESS}/List", f"{PROCESS}/SendInput", f"{PROCESS}/Resize", f"{PROCESS}/Wait",
               f"{APP}/Status", f"{APP}/Wait",
               f"{TASK}/Get", f"{TASK}/List", f"{TASK}/Events"}


def audit_lines(daemon, method, uid):
    """The status of each call, as the log has it."""
    return re.findall(rf"audit uid {uid}, pid \d+: {re.escape(method)}(?: of (?:sandbox|image) [\w.-]+)?: (\w+) ",
                      daemon.log())


def served(root):
    """Every method that the daemon has, by its own word."""
    found, = root.ok("grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    return re.findall(rb"[a-z0-9_.]+\.[A-Z]\w+", bytes.fromhex(found))


def test_matrix(shared_daemon, people):
    """Roles x methods x own and foreign."""
    known = {f"{service}/{method}" for service, found in as_user.SERVICES.items()
             for method in found.methods_by_name} | set(as_user.RAW)
    assert known <= set(MATRIX)  # a new method needs its row here, too
    assert {name.decode() for name in served(people["root"])} == {m.split("/")[0] for m in known}
    sandbox, = people["alice"].ok(f"{SANDBOX}/Create", {"env": {"KEY": "secret"}}, seconds=60)
    sandbox = sandbox["sandbox"]
    assert sandbox["ownerUid"] == ALICE
    wrong = []
    for method, (allowed, fields) in MATRIX.items():
        if method not in known:
            continue  # this build does not have it
        if fields is not None:
            fields = {"sandboxId": sandbox["id"], **fields}
        if method == f"{SANDBOX}/Create":
            fields = {"name": "No Good"}  # who may is told that, and no sandbox is made
        for name in sorted(PEOPLE, key=lambda name: (name in allowed, name)):
            if name in allowed and DONE_ONCE.get(method, name) != name:
                continue
            before = len(audit_lines(shared_daemon, method, PEOPLE[name][0]))
            answer = people[name].call(method, fields, seconds=1 if "Watch" in method else 20)
            denied = answer["code"] == "PERMISSION_DENIED"
            lines = audit_lines(shared_daemon, method, PEOPLE[name][0])[before:]
            audited = denied or (method in known - NOT_AUDITED and method.startswith("sandboxd"))
            if denied != (name not in allowed) or lines != [answer["code"]] * audited:
                wrong.append((name, method, answer, lines))
            if denied and not re.search(r"role.*'access'", answer["details"]):
                wrong.append((name, method, answer))
    assert wrong == []


def ids(items):
    return [item["id"] for item in items]


def test_everybody_sees_what_is_his(shared_daemon, people):
    """List and Watch, live and from the database, also of what was deleted."""
    hers, = people["alice"].ok(f"{SANDBOX}/Create", {"name": "hers", "env": {"KEY": "secret"}},
                               seconds=60)
    his, = people["bob"].ok(f"{SANDBOX}/Create", {"env": {"KEY": "secret"}}, seconds=60)
    hers, his = hers["sandbox"]["id"], his["sandbox"]["id"]
    sees = {"alice": [hers], "bob": [his], "olga": [hers, his], "ada": [hers, his]}

    def stories(person, **fields):
        items = people[person].ok(f"{SANDBOX}/Watch", {"untilNow": True, **fields})
        return (ids(item["sandbox"] for item in items if "sandbox" in item),
                {item["event"]["sandboxId"] for item in items if "event" in item})

    for person, expected in sees.items():
        listed, = people[person].ok(f"{SANDBOX}/List")
        assert ids(listed["sandboxes"]) == expected
        assert stories(person)[0] == expected
        assert stories(person, fromSequence=1)[1] == set(expected)
    # The environment may hold secrets: an observer does not see it.
    assert [people[person].ok(f"{SANDBOX}/Get", {"sandboxId": hers})[0]["sandbox"].get("env")
            for person in ("alice", "olga", "ada")] == [{"KEY": "secret"}, None, {"KEY": "secret"}]
    # A name or the beginning of an id opens no door, and tells nothing of what is behind it.
    for ref in ("hers", hers, hers[:-1]):
        answer = people["bob"].call(f"{SANDBOX}/Get", {"sandboxId": ref})
        assert answer["code"] == "PERMISSION_DENIED"
        assert f"'{ref}'" in answer["details"] and str(ALICE) not in answer["details"]
        assert ref == hers or hers not in answer["details"]
    assert people["bob"].call(f"{SANDBOX}/Get", {"sandboxId": "nobody"})["code"] == "NOT_FOUND"
    people["alice"].ok(f"{SANDBOX}/Delete", {"sandboxId": hers}, seconds=60)
    shared_daemon.restart("SIGKILL")
    for person in ("alice", "bob"):  # connect anew
        people[person].end()
        people[person] = Person(shared_daemon, *PEOPLE[person])
    assert stories("bob", fromSequence=1) == ([], {his})
    assert stories("alice", fromSequence=1, sandboxId=hers) == ([], {hers})
    assert stories("bob", fromSequence=1, sandboxId=hers) == ([], set())


def test_a_request_key_is_its_owners(people):
    """Two users who make up the same one know nothing of each other."""
    fields = {"requestKey": "nightly"}
    made = {person: people[person].ok(f"{SANDBOX}/Create", fields, seconds=60)[0]["sandbox"]["id"]
            for person in ("alice", "bob", "root")}
    assert len(set(made.values())) == 3
    for person, id in made.items():
        again, = people[person].ok(f"{SANDBOX}/Create", fields, seconds=60)
        assert again["sandbox"]["id"] == id


def test_a_kept_workspace_is_its_owners(shared_daemon, people):
    def create(person, **fields):
        return people[person].call(f"{SANDBOX}/Create", fields, seconds=60)

    def keep(person, answer):
        id = answer["responses"][0]["sandbox"]["id"]
        people[person].ok(f"{SANDBOX}/Delete", {"sandboxId": id, "keepWorkspace": True}, seconds=60)
        return id

    hers = keep("alice", create("alice"))
    denied = create("bob", workspace=hers)
    assert denied["code"] == "PERMISSION_DENIED" and "role admin" in denied["details"]
    assert audit_lines(shared_daemon, f"{SANDBOX}/Create", BOB) == ["PERMISSION_DENIED"]
    hers = keep("alice", create("alice", workspace=hers))  # it is there, and still hers
    taken = create("ada", workspace=hers)
    assert taken["code"] == "OK"
    adas = keep("ada", taken)
    assert create("alice", workspace=adas)["code"] == "PERMISSION_DENIED"
    os.removexattr(shared_daemon.data / "kept" / adas, "trusted.sandboxd.owner")
    assert create("alice", workspace=adas)["code"] == "PERMISSION_DENIED"  # nobody knows whose
    adas = keep("ada", create("ada", workspace=adas))
    (shared_daemon.data / "kept" / adas).rename(shared_daemon.dir / "away")


@pytest.mark.oci_only("its image is a directory of the host")
def test_a_directory_of_the_host_is_no_image_for_users(shared_daemon, people):
    rootfs = str(shared_daemon.data / "images/busybox/rootfs")
    denied = people["alice"].call(f"{SANDBOX}/Create", {"image": rootfs})
    assert denied["code"] == "PERMISSION_DENIED" and "role admin" in denied["details"]
    for person in ("ada", "root"):
        people[person].ok(f"{SANDBOX}/Create", {"image": rootfs}, seconds=60)


def test_the_hosts_network_is_not_for_users(people):
    denied = people["alice"].call(f"{SANDBOX}/Create", {"network": "NETWORK_MODE_HOST"})
    assert denied["code"] == "PERMISSION_DENIED" and "role admin" in denied["details"]
    for person in ("ada", "root"):
        people[person].ok(f"{SANDBOX}/Create", {"network": "NETWORK_MODE_HOST"}, seconds=60)


def test_a_reload_gives_and_takes_roles(shared_daemon, people, pool):
    """For calls from then on; what has begun goes on."""
    hers, = people["alice"].ok(f"{SANDBOX}/Create", seconds=60)
    hers = hers["sandbox"]["id"]
    assert people["eve"].call(f"{SANDBOX}/List")["code"] == "PERMISSION_DENIED"
    running = pool.submit(people["alice"].ok, f"{PROCESS}/Start", {
        "sandboxId": hers, "args": ["sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.1; done"]})
    wait_until(lambda: shared_daemon.api.ps(hers), "the process")
    shared_daemon.configure(access={"users": {str(EVE): "observer"}, "groups": {}})
    shared_daemon.api.reload()
    listed, = people["eve"].ok(f"{SANDBOX}/List")
    assert ids(listed["sandboxes"]) == [hers]
    shared_daemon.api.sh(hers, "touch /tmp/go")
    assert set(running.result(20)[-1]["end"]) == {"endedAt"}  # exit_code 0
    for person in ("alice", "ada", "olga"):
        assert people[person].call(f"{SANDBOX}/List")["code"] == "PERMISSION_DENIED"
    shared_daemon.configure(access={"users": {"no-such-user": "admin"}})
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "access.users.no-such-user"):
        shared_daemon.api.reload()
    people["eve"].ok(f"{SANDBOX}/List")  # as before


def test_the_socket_is_the_groups(shared_daemon, people):
    mode = shared_daemon.socket.lstat()
    assert (stat.S_IMODE(mode.st_mode), mode.st_uid, mode.st_gid) == (0o660, 0, CONNECT)
    stranger = Person(shared_daemon, ALICE, [USERS])
    try:
        assert stranger.call(f"{HOST}/Info", seconds=2)["code"] == "UNAVAILABLE"
    finally:
        stranger.end()
    people["alice"].ok(f"{HOST}/Info")


def test_without_the_group_root_alone_connects(daemon):
    """sandboxd's default group is not on this machine, or on it: then it has the socket."""
    mode = daemon.socket.lstat()
    try:
        group = grp.getgrnam("sandboxd").gr_gid
        assert (stat.S_IMODE(mode.st_mode), mode.st_gid) == (0o660, group)
    except KeyError:
        assert (stat.S_IMODE(mode.st_mode), mode.st_gid) == (0o600, 0)
        assert "there is no group 'sandboxd'" in daemon.log()
    with refused(grpc.StatusCode.NOT_FOUND):
        daemon.api.get("nobody")
