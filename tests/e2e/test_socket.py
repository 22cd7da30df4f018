"""The control socket: made by the sandbox, reached from the host."""

import socket
import stat

import grpc
import pytest

from harness import refused
from shim import deaf_runsc

gvisor = pytest.mark.parametrize("runtime", ["runsc", "runsc-r22"], indirect=True)


@pytest.mark.docker
def test_socket_lies_in_the_workspace(daemon, sandbox):
    mode = (daemon.workspace(sandbox) / ".runtimed/sock").lstat().st_mode
    assert stat.S_ISSOCK(mode)


@pytest.mark.oci_only("the runtime is a script; see test_docker.py")
@gvisor
def test_without_host_uds_create_fails_and_says_so(make_daemon, runtime, tmp_path):
    """The same runtime with the flag taken away: bind succeeds inside, nothing appears outside."""
    wrapper = deaf_runsc(tmp_path, runtime)
    daemon = make_daemon(runtimes={"deaf": {"type": "runsc", "path": str(wrapper)}},
                         defaults={"start_timeout": "3s"})
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "--host-uds=create"):
        daemon.api.create(runtime="deaf", timeout=20)
    assert list(daemon.api.list()) == []


@pytest.fixture
def decoy(daemon):
    """A listening socket on the host that no sandbox has any business with."""
    with socket.socket(socket.AF_UNIX) as s:
        (daemon.dir / "decoy").mkdir()
        s.bind(str(daemon.dir / "decoy/sock"))
        s.listen(64)
        s.setblocking(False)
        yield s


SWAPS = {
    "socket": "rm -f .runtimed/sock && ln -s {decoy}/sock .runtimed/sock",
    "directory": "mv .runtimed away && ln -s {decoy} .runtimed",
}


@pytest.mark.docker
@pytest.mark.parametrize("swap", SWAPS.values(), ids=SWAPS.keys())
def test_a_swapped_socket_is_not_followed(daemon, api, sandbox, decoy, swap):
    api.sh(sandbox.id, swap.format(decoy=daemon.dir / "decoy"))
    for _ in range(3):
        with pytest.raises(grpc.RpcError):
            api.run(sandbox.id, "true", timeout=10)
    daemon.restart("SIGKILL")  # it looks for the socket again
    with pytest.raises(grpc.RpcError):
        daemon.api.run(sandbox.id, "true", timeout=10)
    with pytest.raises(BlockingIOError):
        decoy.accept()  # nobody came
    daemon.api.stop(sandbox.id)
    daemon.api.start(sandbox.id)  # the daemon clears the way for a fresh socket
    assert daemon.api.sh(sandbox.id, "echo back") == "back\n"
