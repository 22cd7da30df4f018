"""Bad input: a clear error that says what to do, and nothing left behind."""

import shutil
import subprocess

import grpc
import pytest

from harness import BUILD, become, refused

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND

# fields of Create, the code, words of the message
CREATES = {
    "runtime": ({"runtime": "kata"}, INVALID, ["kata", "runc"]),
    "image": ({"image": "no-such-image"}, NOT_FOUND, ["no-such-image"]),
    "image path": ({"image": "/no/such/directory"}, NOT_FOUND, ["/no/such/directory"]),
    "image traversal": ({"image": "../../etc"}, INVALID, ["../../etc"]),
    "name": ({"name": "No Good"}, INVALID, ["No Good", "a-z"]),
    "long name": ({"name": "a" * 64}, INVALID, ["63"]),
    "name with a dash at its end": ({"name": "box-"}, INVALID, ["box-"]),
    "memory": ({"resources": {"memory_bytes": 1}}, INVALID, ["memory"]),
    "cpu": ({"resources": {"cpu_millis": 1}}, INVALID, ["cpu"]),
    "pids": ({"resources": {"pids": 1}}, INVALID, ["pids"]),
    "variable": ({"env": {"A=B": "c"}}, INVALID, ["name", "'='"]),
    "too many variables": ({"env": {f"V{i}": "" for i in range(257)}}, INVALID, ["256"]),
}


@pytest.mark.docker
@pytest.mark.parametrize("fields, code, words", CREATES.values(), ids=CREATES.keys())
def test_create(daemon, fields, code, words):
    if daemon.engine.name == "docker" and fields.get("image", "").startswith("/"):
        code = INVALID  # no reference to an image
    with refused(code, *words):
        daemon.api.create(**fields)
    assert list(daemon.api.list()) == []
    assert list(daemon.data.glob("workspaces/*")) == daemon.traces("bundle") == []


@pytest.mark.docker
def test_name_is_taken(api):
    first = api.create(name="box")
    with refused(grpc.StatusCode.ALREADY_EXISTS, "box"):
        api.create(name="box")
    assert [s.id for s in api.list()] == [first.id]
    api.delete("box")
    api.create(name="box")  # free again


CALLS = ["get", "start", "stop", "delete", "run"]


@pytest.mark.parametrize("call", CALLS)
def test_no_such_sandbox(api, call):
    with refused(NOT_FOUND, "nobody"):
        getattr(api, call)("nobody", *(["true"] if call == "run" else []))


@pytest.mark.parametrize("call", CALLS)
def test_no_sandbox_named(api, call):
    with refused(INVALID, "sandbox_id"):
        getattr(api, call)("", *(["true"] if call == "run" else []))


# keys of the configuration, words of the message; all exit with 78 (EX_CONFIG)
CONFIGS = {
    "unknown key": ({"colour": "blue"}, ["colour"]),
    "unknown runtime": ({"runtime": "kata"}, ["kata"]),
    "unknown type of runtime": ({"runtimes": {"x": {"type": "vm"}}}, ["vm", "runc"]),
    "relative directory": ({"data_dir": "data"}, ["data_dir", "absolute"]),
    "long socket path": ({"socket": "/tmp/" + "x" * 103}, ["socket", "107"]),
    "no address": ({"dns": {"servers": ["dns.example.org"]}}, ["dns.servers", "dns.example.org"]),
    "four servers": ({"dns": {"servers": ["1.1.1.1"] * 4}}, ["dns.servers", "3"]),
    "timeout": ({"defaults": {"start_timeout": "soon"}}, ["start_timeout", "soon"]),
    "memory": ({"defaults": {"memory": "much"}}, ["memory", "much"]),
    "message size": ({"rpc": {"message_size": "1B"}}, ["rpc.message_size", "256KiB"]),
    "no method": ({"rpc": {"message_sizes": {"Create": "1MiB"}}},
                  ["rpc.message_sizes.Create", "a method such as"]),
    "group of the socket": ({"socket_group": "no-such-group"}, ["socket_group", "no-such-group"]),
    "user": ({"access": {"users": {"no-such-user": "admin"}}},
             ["access.users.no-such-user", "the name or number of a user"]),
    "role": ({"access": {"groups": {"0": "owner"}}}, ["access.groups.0", "owner", "observer"]),
    "root without rights": ({"access": {"users": {"root": "observer"}}}, ["root is always that"]),
    "log level": ({"log": {"level": "loud"}}, ["log.level", "loud"]),
}


@pytest.mark.parametrize("config, words", CONFIGS.values(), ids=CONFIGS.keys())
def test_configuration(make_daemon, config, words):
    daemon = make_daemon(start=False, **config)
    for args in ([], ["--check-config"]):
        done = daemon.run(*args)
        assert done.returncode == 78, done
        assert f"{daemon.config_file}:" in done.stderr  # file:line:column
        for word in words:
            assert word in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not daemon.data.exists() and not daemon.state.exists()


@pytest.mark.parametrize("method", ["sandboxd.v1.SandboxService/Got", "sandboxd.v1.Sandboxes/Get",
                                    "sandboxd.control.v1.ControlService/Hello"])
def test_limit_of_a_method_that_is_not_there(make_daemon, method):
    daemon = make_daemon(start=False)
    daemon.config_file.write_text("rpc:\n  message_sizes:\n"
                                  "    sandboxd.v1.SandboxService/Get: 1MiB\n"
                                  f"    {method}: 1MiB\n")
    for args in ([], ["--check-config"]):
        done = subprocess.run(daemon.command(*args), capture_output=True, text=True, timeout=20)
        assert done.returncode == 78
        assert done.stderr == (f"sandboxd: {daemon.config_file}:4:5: rpc.message_sizes.{method}: "
                               f"expected a method that sandboxd serves, found '{method}'\n")
    assert not daemon.socket.exists()


def test_limit_of_a_forwarded_method_and_of_reflection(make_daemon):
    sizes = {"sandboxd.v1.ProcessService/Start": "1MiB", "grpc.health.v1.Health/Check": "1KiB",
             "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": "4KiB"}
    make_daemon(rpc={"message_sizes": sizes})


def test_malformed_yaml(make_daemon):
    daemon = make_daemon(start=False)
    daemon.config_file.write_text("runtime: runc\ndns:\n  servers: [1.1.1.1\n")
    done = subprocess.run(daemon.command(), capture_output=True, text=True, timeout=10)
    assert done.returncode == 78
    assert f"{daemon.config_file}:" in done.stderr
    assert not daemon.data.exists()


def test_no_configuration_file(make_daemon):
    daemon = make_daemon(start=False)
    done = subprocess.run(daemon.command(), capture_output=True, text=True, timeout=10)
    assert done.returncode == 78
    assert str(daemon.config_file) in done.stderr


def test_second_daemon_on_the_same_data(make_daemon):
    first = make_daemon()
    first.api.create(name="box")
    second = make_daemon(start=False, data_dir=str(first.data))
    done = second.run()
    assert done.returncode == 1
    assert str(first.data) in done.stderr
    assert not second.socket.exists()
    assert first.api.sh("box", "echo fine") == "fine\n"


def test_second_daemon_on_the_same_socket(make_daemon):
    first = make_daemon()
    second = make_daemon(start=False, socket=str(first.socket))
    done = second.run()
    assert done.returncode == 1
    assert str(first.socket) in done.stderr
    assert list(first.api.list()) == []  # still answers


def test_not_root(make_daemon):
    daemon = make_daemon(start=False)
    daemon.dir.chmod(0o755)
    shutil.copy(BUILD / "sandboxd", daemon.dir / "bin")  # nobody may be kept out of BUILD
    daemon.config_file.write_text("runtime: runc\n")
    done = subprocess.run(
        [*become(65534), daemon.dir / "bin", "--config", daemon.config_file],
        capture_output=True, text=True, timeout=10, cwd="/")
    assert done.returncode == 1
    assert "root" in done.stderr


@pytest.mark.oci_only("a runtime's program is Docker's affair; see test_docker.py")
def test_runtime_that_is_not_there(make_daemon):
    daemon = make_daemon(runtimes={"ghost": {"type": "runc", "path": "/no/such/program"}})
    ghost = next(r for r in daemon.api.info().runtimes if r.name == "ghost")
    assert "/no/such/program" in ghost.problem
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "/no/such/program"):
        daemon.api.create(runtime="ghost")
    assert list(daemon.api.list()) == []


@pytest.mark.oci_only("the runtime is a script; see test_docker_faults.py")
@pytest.mark.parametrize("script, words", [
    ("echo 'it broke here' >&2; exit 1", ["it broke here"]),
    ("exec sleep 1000", ["in time"]),
], ids=["fails", "hangs"])
def test_runtime_that_does_not_work(make_daemon, tmp_path, script, words):
    """Its `run` does not, that is."""
    program = tmp_path / "broken"
    program.write_text(f'#!/bin/sh\ncase "$*" in *" run "*) {script};; *) exec runc "$@";; esac\n')
    program.chmod(0o755)
    daemon = make_daemon(runtimes={"broken": {"type": "runc", "path": str(program)},
                                   "runc": {"path": shutil.which("runc")}},
                         defaults={"start_timeout": "2s"})
    with pytest.raises(grpc.RpcError) as failure:
        daemon.api.create(runtime="broken", timeout=20)
    for word in words:
        assert word in failure.value.details()
    assert list(daemon.api.list()) == []
    daemon.api.create(runtime="runc")  # the others go on
