"""What a sandbox makes of its image."""

import json
import os
import shutil

import grpc
import pytest


@pytest.fixture
def make_image(daemon):
    """An image like the default one; its root file system, to be changed before it is used."""
    def make(name="own", **config):
        rootfs = daemon.data / "images" / name / "rootfs"
        shutil.copytree(daemon.data / "images/busybox/rootfs", rootfs, symlinks=True)
        (rootfs / "tmp").chmod(0o1777)
        if config:
            (rootfs.parent / "image.json").write_text(json.dumps({"config": config}))
        return rootfs
    return make


def refusal(call):
    with pytest.raises(grpc.RpcError) as info:
        call()
    return info.value.code(), info.value.details()


def test_a_fresh_workspace_is_seeded(daemon, api, runtime, make_image):
    skel = make_image() / "opt/sandbox-skel"
    (skel / "project").mkdir(parents=True)
    (skel / "project/run").write_text("#!/bin/sh\necho from the image\n")
    (skel / "project/run").chmod(0o4755)
    (skel / ".profile").symlink_to("project/run")
    one = api.create(runtime=runtime, image="own")
    assert api.sh(one.id, "./.profile; stat -c %a:%u:%g project/run") \
        == "from the image\n755:1000:1000\n"
    api.sh(one.id, "rm -r project; echo mine >.mine")

    api.stop(one.id)
    api.start(one.id)
    assert api.sh(one.id, "ls -A | grep -v runtimed") == ".mine\n.profile\n"
    api.delete(one.id, keep_workspace=True)
    other = api.create(runtime=runtime, image="own", workspace=one.id)
    assert api.sh(other.id, "ls -A | grep -v runtimed") == ".mine\n.profile\n"
    assert os.listdir(daemon.data / "seeding") == []


def test_what_cannot_be_seeded_fails_the_create(daemon, api, runtime, make_image):
    skel = make_image() / "opt/sandbox-skel"
    skel.mkdir(parents=True)
    os.mkfifo(skel / "pipe")
    code, details = refusal(lambda: api.create(runtime=runtime, image="own"))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "'pipe' is neither a file, a directory nor a link" in details
    assert os.listdir(daemon.data / "seeding") == os.listdir(daemon.data / "workspaces") == []
