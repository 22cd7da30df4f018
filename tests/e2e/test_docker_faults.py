"""A Docker Engine that hangs, refuses, lies, and says what is no answer: tests/e2e/fake_docker.py.
Whatever it does, errors are clear, nothing else is held up, and nothing is left when it is well again."""

import os
import signal
import time

import grpc
import pytest
from sandboxd.v1 import sandbox_pb2

from dockerd import DockerEngine
from fake_docker import FakeDocker
from harness import LONG, identity, refused, state_name, wait_until, within

pytestmark = pytest.mark.docker_only
UNAVAILABLE, DEADLINE_EXCEEDED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED
MIB = 1 << 20
NESTED = b"[" * 1000000


def cases(names, table, short):
    """Parametrizes with a table; in the short form only with some of it."""
    chosen = {name: case for name, case in table.items() if LONG or name in short}
    return pytest.mark.parametrize(names, chosen.values(), ids=chosen.keys())


@pytest.fixture
def fake(dockerd, tmp_path):
    fake = FakeDocker(dockerd, tmp_path / "docker.sock")
    yield fake
    fake.heal()
    fake.close()


@pytest.fixture
def daemon(fake, make_daemon):
    """It waits for 6 s for a sandbox to come up."""
    daemon = make_daemon(on=DockerEngine(fake.dockerd, fake.socket),
                         defaults={"start_timeout": "6s"})
    yield daemon
    fake.heal()  # so that everything can be removed


def wait_for_nothing(daemon, fake):
    """No sandbox, and no container."""
    wait_until(lambda: list(daemon.api.list()) == [], "no sandbox")
    wait_until(lambda: fake.dockerd.containers() == [], "no container", seconds=15)


def is_well(daemon):
    box = daemon.api.create()
    assert daemon.api.sh(box.id, "echo up") == "up\n"
    daemon.api.delete(box.id)


# --- create ----------------------------------------------------------------------------------

# what the engine does, at which call; words of the message
CREATES = {
    "forbids create": ("refuse", "create", [403, "not for you"], ["not for you"]),
    "has the name": ("refuse", "create", [409, "the name is in use"], ["the name is in use"]),
    "breaks at create": ("refuse", "create", [500, "it broke here"], ["it broke here"]),
    "breaks without a word": ("say_instead", "create", [b"", 500], ["500"]),
    "lies at create": ("refuse_after", "create", [500, "it did, and lies"], ["it did, and lies"]),
    "breaks at start": ("refuse", "start", [500, "OCI runtime start failed"], ["OCI runtime start"]),
    "lies at start": ("refuse_after", "start", [500, "it did, and lies"], ["it did, and lies"]),
    "hangs at create": ("hang", "create", [], ["in time"]),
    "creates and hangs": ("hang_after", "create", [], ["in time"]),
    "hangs at start": ("hang", "start", [], ["in time"]),
    "starts and hangs": ("hang_after", "start", [], ["in time"]),
    "dies at create": ("drop", "create", [], []),
    "creates and dies": ("drop_after", "create", [], []),
    "dies at start": ("drop", "start", [], []),
    "starts and dies": ("drop_after", "start", [], []),
    "garbage": ("say_after", "create", [b"}{ what?"], []),
    "nothing": ("say_after", "create", [b""], []),
    "null": ("say_after", "create", [b"null"], []),
    "a list": ("say_after", "create", [b"[]"], []),
    "a number for an id": ("say_after", "create", [b'{"Id": 5}'], []),
    "no id": ("say_after", "create", [b'{"Id": "../../../x", "Warnings": null}'], []),
    "another id": ("say_after", "create", [b'{"Id": "%s"}' % (b"0" * 64)], []),
    "deep": ("say_after", "create", [NESTED], []),
    "half an answer": ("truncate", "create", [], []),
    "too short a length": ("lie_about_length", "create", [], []),
    "no end": ("endless", "create", [], []),
    "no end of the head": ("endless_head", "create", [], []),
    "no HTTP": ("no_http", "create", [], []),
    "no HTTP at start": ("no_http", "start", [], []),
    "inspect is garbage": ("say_instead", "inspect", [b"}{ what?"], []),
    "inspect is another": ("say_instead", "inspect", [b'{"Id": "x", "State": {"Pid": 1}}'], []),
    "inspect hangs": ("hang", "inspect", [], []),
}


@cases("trouble, call, args, words", CREATES, short=[
    "forbids create", "lies at create", "breaks at start", "creates and hangs", "starts and dies",
    "garbage", "another id", "half an answer", "no end", "inspect is another"])
def test_create(daemon, fake, trouble, call, args, words):
    bystander = daemon.api.create(name="bystander")
    main = identity(daemon.init_pid(bystander))
    fake.trouble(trouble, call, args=args)
    with pytest.raises(grpc.RpcError) as info, within(25):
        daemon.api.create(name="box", timeout=30)
    code, details = info.value.code(), info.value.details()
    assert code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED), details
    assert "docker" in details.lower() or words
    for word in words:
        assert word in details
    assert daemon.memory() < 64 * MIB
    assert daemon.api.sh("bystander", "echo up") == "up\n"
    fake.heal()
    wait_until(lambda: [s.name for s in daemon.api.list()] == ["bystander"], "the create taken back",
               seconds=20)
    wait_until(lambda: len(fake.dockerd.containers()) == 1, "its container gone", seconds=20)
    assert identity(daemon.init_pid(bystander)) == main
    is_well(daemon)


@pytest.mark.parametrize("trouble", ["slow", "drip"])
def test_slow(daemon, fake, trouble):
    fake.trouble(trouble, "create")
    box = daemon.api.create()
    assert daemon.api.sh(box.id, "echo up") == "up\n"


def test_an_image_takes_long_to_read(fake, make_daemon):
    """The container that is made for it is nobody's orphan, however often the daemon looks around."""
    daemon = make_daemon(on=DockerEngine(fake.dockerd, fake.socket))
    fake.trouble("held_up", "archive")
    request = sandbox_pb2.SandboxServiceCreateRequest(runtime="runc")
    call = daemon.api.sandboxes.Create.future(request, timeout=60)
    helper, = wait_until(fake.dockerd.containers, "a container to read from")
    time.sleep(11)  # two looks, and some
    assert [c["Id"] for c in fake.dockerd.containers()] == [helper["Id"]]
    fake.heal()
    assert daemon.api.sh(call.result().sandbox.id, "echo up") == "up\n"
    assert "not in the database" not in daemon.log()


def test_nobody_waits_for_one_that_is_stuck(daemon, fake, pool):
    box = daemon.api.create(name="box")
    fake.trouble("hang", "create", "start", "inspect", "list", "stop", "kill", "remove")
    stuck = [pool.submit(daemon.api.create, timeout=60) for _ in range(8)]
    wait_until(lambda: fake.calls.count("create") >= 2, "creates that hang")
    with within(8):
        assert daemon.api.sh("box", "echo up") == "up\n"
        assert daemon.api.get("box") == box and len(daemon.api.list()) >= 1
        assert daemon.api.info() and daemon.is_running()
    for call in stuck:
        with refused(DEADLINE_EXCEEDED):
            call.result()
    fake.heal()
    wait_until(lambda: [s.name for s in daemon.api.list()] == ["box"], "the creates taken back",
               seconds=20)
    assert daemon.api.get("box") == box


# --- the end of a sandbox --------------------------------------------------------------------

ENDS = {
    "hangs": ("hang", []),
    "does it and hangs": ("hang_after", []),
    "breaks": ("refuse", [500, "it broke here"]),
    "lies": ("refuse_after", [500, "it broke here"]),
    "forbids": ("refuse", [403, "not for you"]),
    "dies": ("drop", []),
    "does it and dies": ("drop_after", []),
    "garbage": ("no_http", []),
}


@cases("trouble, args", ENDS, short=["hangs", "lies", "does it and dies"])
@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_end(daemon, fake, verb, trouble, args):
    """When it is answered, no process is left, whatever the engine does; else the next try does it."""
    box = daemon.api.create(name="box")
    main = identity(daemon.init_pid(box))
    fake.trouble(trouble, "stop", "kill", "remove", args=args)
    try:
        with within(25):
            if verb == "stop":
                daemon.api.stop("box", grace_millis=100)
            else:
                daemon.api.delete("box")
    except grpc.RpcError as error:
        assert error.code() in (UNAVAILABLE, DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL,
                                grpc.StatusCode.PERMISSION_DENIED), error.details()
        assert "docker" in error.details().lower()
    else:
        assert identity(main[0]) != main
    fake.heal()
    if any(s.name == "box" for s in daemon.api.list()):
        daemon.api.delete("box")
    wait_for_nothing(daemon, fake)
    assert identity(main[0]) != main


@pytest.mark.parametrize("verb", ["pause", "unpause"])
def test_pause(daemon, fake, verb):
    box = daemon.api.create(name="box")
    if verb == "unpause":
        daemon.api.pause("box")
    fake.trouble("refuse", verb, args=[500, "it does not want to"])
    with pytest.raises(grpc.RpcError) as info:
        (daemon.api.pause if verb == "pause" else daemon.api.resume)("box")
    assert "it does not want to" in info.value.details()
    fake.heal()
    assert state_name(daemon.api.resume("box")) == "RUNNING"
    assert daemon.api.sh(box.id, "echo up") == "up\n"


# --- its events ------------------------------------------------------------------------------


def dies(daemon, box):
    """Its main process; the daemon hears of it."""
    os.kill(daemon.init_pid(box), signal.SIGKILL)
    wait_until(lambda: daemon.api.state(box.id) == "FAILED", "state FAILED", seconds=10)


def test_events_break(daemon, fake):
    """What happens between is made up for."""
    one, two = daemon.api.create(), daemon.api.create()
    fake.trouble("refuse", "events", args=[500])
    fake.cut("events")
    os.kill(daemon.init_pid(one), signal.SIGKILL)
    time.sleep(0.5)
    fake.heal()
    wait_until(lambda: daemon.api.state(one.id) == "FAILED", "state FAILED", seconds=10)
    dies(daemon, two)


EVENTS = {
    "garbage": ("say_instead", [b"}{ what?\n"]),
    "other types": ("say_instead", [b'{"Type": 5, "Actor": []}\n' * 1000]),
    "no container": ("say_instead", [b'{"Type": "container", "Action": "die", "Actor": {"ID": "x"}}\n']),
    "deep": ("say_instead", [NESTED]),
    "endless": ("endless", []),
    "no HTTP": ("no_http", []),
    "drop": ("drop", []),
    "hang": ("hang", []),
}


def test_labels_of_another(daemon, fake):
    """As of an image that somebody made of a sandbox's container: what becomes of its containers is
    nothing of the sandbox's."""
    box = daemon.api.create()
    labels = daemon.engine.container(daemon, box)["Config"]["Labels"]
    other = fake.dockerd.run("other", ["sleep", "1000"], labels)
    try:
        fake.dockerd.api("POST", f"/containers/{other}/pause")
        for _ in range(3):
            before = fake.calls.count("list")
            fake.cut("events")
            wait_until(lambda: fake.calls.count("list") > before, "another list")
            assert daemon.api.sh(box.id, "sleep 0.5; echo up") == "up\n"
        assert daemon.api.state(box.id) == "RUNNING"
    finally:
        fake.dockerd.remove(other)


@cases("trouble, args", EVENTS, short=["garbage", "endless", "hang"])
def test_events_of_no_sense(daemon, fake, trouble, args):
    box = daemon.api.create()
    fake.trouble(trouble, "events", args=args)
    fake.cut("events")
    wait_until(lambda: "events" in fake.calls[1:], "it asks again")
    time.sleep(1)
    assert daemon.api.sh(box.id, "echo up") == "up\n"
    assert daemon.api.state(box.id) == "RUNNING" and daemon.memory() < 64 * MIB
    assert fake.calls.count("events") < 20  # it does not storm
    fake.heal()
    dies(daemon, box)


# --- registries ------------------------------------------------------------------------------


def test_registries(daemon, fake):
    """What they do not name Docker is not told to pull; what is there already may be of anywhere."""
    is_well(daemon)
    pulls = fake.calls.count("pull")  # of the image of trials, which is no registry's
    daemon.configure(images={"registries": ["docker.io/library", "127.0.0.1:1/team"]})
    assert [change.key for change in daemon.api.reload().applied] == ["images.registries"]
    for image, name in [("169.254.169.254/latest/meta-data:1", "169.254.169.254/latest/meta-data"),
                        ("127.0.0.1:1/other/box", "127.0.0.1:1/other/box"),
                        ("localhost:1/team/box", "localhost:1/team/box"),
                        ("team/box:2", "docker.io/team/box")]:
        with refused(PERMISSION_DENIED, f"image '{image}' is {name}, which images.registries"):
            daemon.api.create(image=image)
    assert fake.calls.count("pull") == pulls
    wait_for_nothing(daemon, fake)
    with refused(grpc.StatusCode.NOT_FOUND, "127.0.0.1:1/team/box:1' cannot be pulled"):
        daemon.api.create(image="127.0.0.1:1/team/box:1")
    assert fake.calls.count("pull") == pulls + 1
    fake.dockerd.load(fake.dockerd.busybox, "other.example/box")
    daemon.api.create(image="other.example/box")


# --- the daemon's own start ------------------------------------------------------------------


def test_engine_that_is_not_there(make_daemon, dockerd, tmp_path):
    """The daemon serves, and says so; it does not have to be told when the engine has come."""
    daemon = make_daemon(on=DockerEngine(dockerd, tmp_path / "docker.sock"))
    with refused(UNAVAILABLE, str(tmp_path / "docker.sock")):
        daemon.api.create()
    assert list(daemon.api.list()) == []
    fake = FakeDocker(dockerd, tmp_path / "docker.sock")

    def creates():
        try:
            return daemon.api.create()
        except grpc.RpcError as error:
            assert error.code() == UNAVAILABLE, error.details()

    box = wait_until(creates, "a create", seconds=20)
    assert daemon.api.sh(box.id, "echo up") == "up\n"
    daemon.api.delete(box.id)
    fake.close()


def test_engine_that_thinks_long_about_what_it_is(fake, make_daemon):
    """As Podman does on a busy host. The start does not wait for it; later there is time."""
    fake.trouble("slow", "version", args=[6])
    daemon = make_daemon(on=DockerEngine(fake.dockerd, fake.socket))
    with refused(UNAVAILABLE, "in time"):
        daemon.api.create(runtime="runc")
    wait_until(lambda: can_create(daemon), "a create", seconds=20)


STARTS = {
    "hang": ("hang", []),
    "500": ("refuse", [500, "it broke"]),
    "403": ("refuse", [403, "not for you"]),
    "drop": ("drop", []),
    "garbage": ("say_instead", [b"}{ what?"]),
    "deep": ("say_instead", [NESTED]),
    "endless": ("endless", []),
    "endless head": ("endless_head", []),
    "no HTTP": ("no_http", []),
    "half an answer": ("truncate", []),
}


@cases("trouble, args", STARTS, short=["hang", "garbage", "endless head"])
def test_engine_in_trouble_at_the_start(daemon, fake, trouble, args):
    """A sandbox is reached all the same, and is as before when the engine is well."""
    box = daemon.api.create(name="box")
    main = identity(daemon.init_pid(box))
    daemon.kill()
    fake.trouble(trouble, args=args)
    daemon.start()
    time.sleep(1)
    assert daemon.api.get("box") == box and daemon.memory() < 64 * MIB
    wait_until(lambda: can(daemon, "box"), "a command in it")
    with pytest.raises(grpc.RpcError) as info, within(25):
        daemon.api.create(timeout=30)
    assert info.value.code() in (UNAVAILABLE, DEADLINE_EXCEEDED, grpc.StatusCode.FAILED_PRECONDITION)
    assert "docker" in info.value.details().lower()
    assert identity(main[0]) == main
    fake.heal()
    wait_until(lambda: can_create(daemon), "a create", seconds=20)
    assert daemon.api.get("box") == box and identity(daemon.init_pid(box)) == main
    dies(daemon, box)


def can(daemon, ref):
    try:
        return daemon.api.sh(ref, "echo up") == "up\n"
    except grpc.RpcError:
        return False


def can_create(daemon):
    try:
        daemon.api.delete(daemon.api.create(timeout=20).id)
        return True
    except grpc.RpcError:
        return False
