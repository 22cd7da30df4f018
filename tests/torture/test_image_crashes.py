"""The daemon is killed while it imports an image, and while it fills a workspace from one."""

import os
import shutil
import signal

import grpc
import pytest
from sandboxd.v1 import image_pb2, image_pb2_grpc

from harness import wait_until
from test_crash_points import PROGRAM

IMPORT = ["image_import.prepared", "image_import.content"]
SEED = ["bring_up.seeded"]


def crashes(daemon, failpoint, call):
    daemon.kill()
    daemon.start(SANDBOXD_FAILPOINT=failpoint)
    with pytest.raises(grpc.RpcError) as info:
        call(daemon.api)
    assert info.value.code() == grpc.StatusCode.UNAVAILABLE, info.value.details()
    assert daemon.process.wait(20) == -signal.SIGKILL
    daemon.api.close()


def load(api, source):
    """The messages of an import of `source` as "own"."""
    request = image_pb2.ImageServiceImportRequest(name="own", source=str(source))
    return list(image_pb2_grpc.ImageServiceStub(api.channel).Import(request, timeout=60))


@pytest.fixture
def target(make_daemon):
    if not PROGRAM.exists():
        pytest.skip(f"no daemon with failpoints: make FAILPOINTS=1 BUILD={PROGRAM.parent}")
    return make_daemon(program=PROGRAM)


@pytest.fixture
def rootfs(target, tmp_path):
    """The default image's, with something to fill a workspace with."""
    copy = shutil.copytree(target.data / "images/busybox/rootfs", tmp_path / "rootfs", symlinks=True)
    (copy / "opt/sandbox-skel").mkdir(parents=True)
    (copy / "opt/sandbox-skel/seed").write_text("seeded\n")
    return copy


@pytest.mark.parametrize("failpoint", IMPORT)
def test_import(target, rootfs, failpoint):
    crashes(target, failpoint, lambda api: load(api, rootfs))
    target.start()
    images = target.data / "images"
    wait_until(lambda: not any(os.listdir(images / d)
                               for d in (".staging", ".garbage", ".content")), "nothing left")
    assert not (images / "own").exists()
    load(target.api, rootfs)
    target.api.create(name="box", image="own")
    assert target.api.sh("box", "cat seed") == "seeded\n"


def test_seeding(target, rootfs):
    load(target.api, rootfs)
    crashes(target, SEED[0], lambda api: api.create(name="box", image="own", request_key="once"))
    target.start()
    wait_until(lambda: os.listdir(target.data / "seeding") == [], "nothing left aside")
    box = target.api.create(name="box", image="own", request_key="once")
    assert target.api.sh("box", "cat seed") == "seeded\n"
    assert os.listdir(target.data / "workspaces") == [box.id]
