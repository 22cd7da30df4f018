"""What a sandbox makes of its image."""

import os

import grpc
import pytest


def refusal(call):
    with pytest.raises(grpc.RpcError) as info:
        call()
    return info.value.code(), info.value.details()


@pytest.mark.docker
def test_a_fresh_workspace_is_seeded(daemon, api, runtime, make_image):
    with make_image() as rootfs:
        skel = rootfs / "opt/sandbox-skel"
        (skel / "project").mkdir(parents=True)
        (skel / "project/run").write_text("#!/bin/sh\necho from the image\n")
        (skel / "project/run").chmod(0o4755)
        (skel / ".profile").symlink_to("project/run")
        (skel / "project/dev").mkdir()
        (skel / "project/dev/notes").write_text("no device\n")
    one = api.create(runtime=runtime, image="own")
    assert api.sh(one.id, "./.profile; stat -c %a:%u:%g project/run") \
        == "from the image\n755:1000:1000\n"
    assert api.sh(one.id, "cat project/dev/notes") == "no device\n"
    api.sh(one.id, "rm -r project; echo mine >.mine")

    api.stop(one.id)
    api.start(one.id)
    assert api.sh(one.id, "ls -A | grep -v runtimed") == ".mine\n.profile\n"
    api.delete(one.id, keep_workspace=True)
    other = api.create(runtime=runtime, image="own", workspace=one.id)
    assert api.sh(other.id, "ls -A | grep -v runtimed") == ".mine\n.profile\n"
    assert os.listdir(daemon.data / "seeding") == []


def test_what_cannot_be_seeded_fails_the_create(daemon, api, runtime, make_image):
    with make_image() as rootfs:
        (rootfs / "opt/sandbox-skel").mkdir(parents=True)
        os.mkfifo(rootfs / "opt/sandbox-skel/pipe")
    code, details = refusal(lambda: api.create(runtime=runtime, image="own"))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "'pipe' is neither a file, a directory nor a link" in details
    assert os.listdir(daemon.data / "seeding") == os.listdir(daemon.data / "workspaces") == []


@pytest.mark.docker
def test_environment(daemon, api, runtime, make_image):
    with make_image(Env=["PATH=/opt/bin:/bin", "HOME=/root", "A=image", "B=image"]):
        pass
    sandbox = api.create(runtime=runtime, image="own", env={"A": "sandbox"})
    assert api.sh(sandbox.id, "echo $PATH $HOME $A $B", env={"B": "call"}) \
        == "/opt/bin:/bin /home/sandbox sandbox call\n"


@pytest.mark.docker
def test_program_and_directory(daemon, api, runtime, make_image):
    with make_image(Entrypoint=["sh", "-c", "pwd; echo $0 $1"], Cmd=["--workdir", "a b"],
                    WorkingDir="/srv/app") as rootfs:
        (rootfs / "srv/app").mkdir(parents=True)
    sandbox = api.create(runtime=runtime, image="own")
    assert api.run(sandbox.id).stdout == b"/srv/app\n--workdir a b\n"
    assert api.run(sandbox.id, cwd="/tmp").stdout == b"/tmp\n--workdir a b\n"
    assert api.sh(sandbox.id, "pwd") == "/srv/app\n"


def test_a_directory_that_no_sandbox_has(daemon, api, runtime, make_image):
    """Below /home there is the workspace alone."""
    with make_image(WorkingDir="/home/node") as rootfs:
        (rootfs / "home/node").mkdir()
    sandbox = api.create(runtime=runtime, image="own")
    assert api.sh(sandbox.id, "pwd") == "/home/sandbox\n"
    code, details = refusal(lambda: api.run(sandbox.id))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "names no program" in details


@pytest.mark.docker
def test_user(daemon, api, runtime, make_image):
    with make_image(User="web:staff") as rootfs:
        with open(rootfs / "etc/passwd", "a") as file:
            file.write("web:x:3333:4444::/srv:/bin/sh\n")
        with open(rootfs / "etc/group", "a") as file:
            file.write("staff:x:5555:\n")
        (rootfs / "opt/sandbox-skel").mkdir(parents=True)
        (rootfs / "opt/sandbox-skel/file").write_text("x")
    one = api.create(runtime=runtime, image="own")
    ours = "id -u; id -g; touch mine; stat -c %u:%g mine file . .runtimed"
    expected = "3333\n5555\n" + "3333:5555\n" * 4
    assert api.sh(one.id, ours) == expected
    assert api.run(one.id, "true", user="web").code == 0
    status = api.sh(one.id, "grep ^Cap /proc/self/status")
    assert {line.split()[1] for line in status.splitlines()} == {"0" * 16}
    api.stop(one.id)
    api.start(one.id)
    assert api.sh(one.id, ours) == expected

    # Another image has another user: what belongs to this one is not given to it.
    api.delete(one.id, keep_workspace=True)
    code, details = refusal(lambda: api.create(runtime=runtime, workspace=one.id))
    assert code == grpc.StatusCode.FAILED_PRECONDITION and "belongs to user 3333" in details
    again = api.create(runtime=runtime, image="own", workspace=one.id)
    assert api.sh(again.id, ours) == expected


@pytest.mark.parametrize("user", ["root", "0:0", ""])
def test_no_root(daemon, api, runtime, make_image, user):
    with make_image(User=user):
        pass
    sandbox = api.create(runtime=runtime, image="own")
    assert api.sh(sandbox.id, "id -u; id -g") == "1000\n1000\n"


def test_a_broken_description(daemon, api, runtime, make_image):
    with make_image(User="nobody-knows"):
        pass
    code, details = refusal(lambda: api.create(runtime=runtime, image="own"))
    assert code == grpc.StatusCode.FAILED_PRECONDITION and "nobody-knows" in details
    assert os.listdir(daemon.data / "workspaces") == []


@pytest.mark.oci_only("the description is Docker's own")
def test_a_description_that_is_none(daemon, api, runtime, make_image):
    with make_image(User="nobody-knows"):
        pass
    (daemon.data / "images/own/image.json").write_text("{")
    code, details = refusal(lambda: api.create(runtime=runtime, image="own"))
    assert code == grpc.StatusCode.FAILED_PRECONDITION and "image.json" in details
    assert os.listdir(daemon.data / "workspaces") == []
