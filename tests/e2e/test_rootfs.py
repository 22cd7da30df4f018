"""Root file systems that sandboxes may write: what they write is theirs, stays, and goes with them."""

import hashlib
import os
import re
import shutil
import stat
import subprocess
import time

import grpc
import pytest
from sandboxd.v1 import sandbox_pb2

from harness import become, mounts, refused, state_name, wait_until
from test_images import Images

pytestmark = pytest.mark.oci_only("Docker Engine has no root file system of ours to lay over")
OVERLAY = sandbox_pb2.ROOTFS_MODE_OVERLAY
READ_ONLY = sandbox_pb2.ROOTFS_MODE_READ_ONLY
ALL = pytest.mark.parametrize("runtime", ["runc", "runsc", "runsc-r22"], indirect=True)

# Of everything that a file system is asked for; in a root file system that is busybox's.
CHANGES = """
set -e
echo new >/etc/new && echo longer >>/etc/hosts && chmod 600 /etc/group
mkdir -p /opt/tool/bin && printf '#!/bin/sh\\necho ran\\n' >/opt/tool/bin/t && chmod 755 /opt/tool/bin/t
rm /etc/nsswitch.conf
rm -r /srv/gone && mkdir /srv/gone && echo again >/srv/gone/b
mv /srv/tree /srv/moved
ln /etc/new /etc/linked && ln -s ../opt/tool/bin/t /bin/t
"""
LOOK = """
cd /
cat etc/new etc/linked; tail -n 1 etc/hosts; stat -c %a etc/group; t
ls -A srv srv/gone srv/moved; cat srv/moved/deep/file
stat -c %h etc/new; readlink bin/t; ls etc/nsswitch.conf 2>/dev/null
true
"""
SEEN = """new
new
longer
600
ran
srv:
gone
moved

srv/gone:
b

srv/moved:
deep
image
2
../opt/tool/bin/t
"""


@pytest.fixture
def image(make_image):
    """A root file system with something to change in it."""
    with make_image() as rootfs:
        for path in ("srv/gone/a", "srv/tree/deep/file"):
            (rootfs / path).parent.mkdir(parents=True)
            (rootfs / path).write_text("image\n")
    return rootfs


def fingerprint(rootfs):
    """Of all there is: names, contents, owners, modes, times and attributes."""
    sums = hashlib.sha256()
    for directory, names, files in os.walk(rootfs):
        names.sort()
        for name in sorted(names + files) + ["."]:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            sums.update(repr((path, st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns,
                              st.st_ctime_ns, st.st_ino, st.st_nlink,
                              os.listxattr(path, follow_symlinks=False))).encode())
            if stat.S_ISREG(st.st_mode):
                sums.update(open(path, "rb").read())
    return sums.hexdigest()


def overlays(daemon):
    return sorted(os.listdir(daemon.data / "overlays"))


@ALL
def test_what_it_writes_stays(daemon, api, runtime, image):
    before = fingerprint(image)
    box = api.create(runtime=runtime, image="own", rootfs=OVERLAY)
    assert box.rootfs == OVERLAY
    api.sh(box.id, CHANGES)
    assert api.sh(box.id, LOOK) == SEEN
    api.stop(box.id)
    assert not mounts(daemon.dir) and overlays(daemon) == [box.id]
    api.start(box.id)
    assert api.sh(box.id, LOOK) == SEEN

    daemon.kill()
    daemon.start()
    api = daemon.api
    wait_until(lambda: state_name(api.get(box.id)) == "RUNNING", "it is found again")
    assert api.sh(box.id, LOOK + "echo after >/etc/new") == SEEN
    os.kill(daemon.init_pid(box), 9)
    api.wait(box.id, "FAILED")
    wait_until(lambda: not mounts(daemon.dir), "the end of its mount")
    api.start(box.id)
    assert api.sh(box.id, LOOK) == SEEN.replace("new", "after")
    assert fingerprint(image) == before

    api.delete(box.id)
    assert overlays(daemon) == [] and not mounts(daemon.dir)
    assert fingerprint(image) == before


@ALL
def test_nobody_sees_anothers(daemon, api, runtime, image):
    one, two = (api.create(runtime=runtime, image="own", rootfs=OVERLAY) for _ in range(2))
    reader = api.create(runtime=runtime, image="own")
    api.sh(one.id, "echo one >/etc/whose; rm /srv/tree/deep/file")
    api.sh(two.id, "echo two >/etc/whose")
    third = api.create(runtime=runtime, image="own", rootfs=OVERLAY)
    assert api.sh(one.id, "cat /etc/whose; ls /srv/tree/deep") == "one\n"
    assert api.sh(two.id, "cat /etc/whose; ls /srv/tree/deep") == "two\nfile\n"
    for other in (reader, third):
        assert api.sh(other.id, "ls /etc/whose 2>/dev/null; ls /srv/tree/deep") == "file\n"
    assert overlays(daemon) == sorted([one.id, two.id, third.id])


def test_read_only_is_the_default(daemon, api, ctl, runtime, image):
    (image / "srv").chmod(0o777)
    box = api.create(runtime=runtime, image="own")
    assert box.rootfs == READ_ONLY
    assert b"Read-only" in api.run(box.id, "touch", "/srv/x").stderr
    assert overlays(daemon) == []

    daemon.configure(defaults={"rootfs": "overlay"})
    api.reload()
    box = api.create(runtime=runtime)
    assert box.rootfs == OVERLAY
    api.sh(box.id, "touch /etc/x")
    box = api.create(runtime=runtime, image="own", rootfs=READ_ONLY)
    assert b"Read-only" in api.run(box.id, "touch", "/srv/x").stderr

    made = ctl("create", "--runtime", runtime, "--rootfs", "overlay", "--name", "by-hand")
    assert made.returncode == 0, made.stderr
    assert re.search(r"^rootfs: +overlay$", ctl("get", "by-hand").stdout, re.MULTILINE)
    assert ctl("create", "--rootfs", "writable").returncode == 2


def test_of_an_image_with_a_user_of_its_own(daemon, api, runtime, make_image):
    """It writes what that user may."""
    with make_image(User="33:34") as rootfs:
        (rootfs / "srv/app").mkdir(parents=True)
        os.chown(rootfs / "srv/app", 33, 34)
    box = api.create(runtime=runtime, image="own", rootfs=OVERLAY)
    assert api.sh(box.id, "stat -c %u:%g /etc /srv/app; echo x >/srv/app/x; cat /srv/app/x") \
        == "0:0\n33:34\nx\n"
    assert b"Permission denied" in api.run(box.id, "touch", "/etc/x").stderr
    api.stop(box.id)
    api.start(box.id)
    assert api.sh(box.id, "cat /srv/app/x") == "x\n"


def test_what_it_makes_is_no_danger_to_the_host(daemon, api, runtime, image):
    """Neither devices, nor root's set-user-ID programs, nor what would lead the kernel elsewhere."""
    box = api.create(runtime=runtime, image="own", rootfs=OVERLAY)
    for command in (["mknod", "/srv/null", "c", "1", "3"], ["mknod", "/srv/device", "c", "0", "0"],
                    ["chown", "0", "/etc/hosts"], ["chown", "33", "/etc/hosts"]):
        assert api.run(box.id, *command).code != 0, command
    api.sh(box.id, "cp /bin/busybox /srv/id && chmod 6755 /srv/id && echo x >/etc/hosts")
    upper = daemon.data / "overlays" / box.id / "upper"
    made = os.lstat(upper / "srv/id")
    assert (made.st_uid, made.st_gid) == (1000, 1000)
    assert {os.lstat(path).st_uid for path in upper.rglob("*")} == {1000}
    assert not [p for p in upper.rglob("*") if stat.S_ISCHR(os.lstat(p).st_mode)]
    # No user of the host comes there.
    for user in (1000, 65534):
        for path in (upper, daemon.state / "bundles" / box.id / "rootfs"):
            seen = subprocess.run([*become(user), "stat", path], capture_output=True, check=False)
            assert b"Permission denied" in seen.stderr
    assert api.sh(box.id, "/srv/id -u") == "1000\n"
    # What it says of users and groups is nothing to the runtime.
    api.sh(box.id, """echo sandbox:x:0:0::/:/bin/sh >/etc/passwd
                      echo sandbox:x:1000:1000::/:/bin/sh >>/etc/passwd
                      for i in 0 4 6 42; do echo g$i:x:$i:sandbox; done >/etc/group""")
    api.stop(box.id)
    api.start(box.id)
    assert api.sh(box.id, "grep -E '^([UG]id|Groups)' /proc/self/status | tr -s '\t ' ' '") in (
        "Uid: 1000 1000 1000 1000\nGid: 1000 1000 1000 1000\nGroups: \n",
        "Uid: 1000 1000 1000 1000\nGid: 1000 1000 1000 1000\nGroups: 1000 \n")


def test_its_image_stays_below_it(daemon, api, ctl, runtime, tmp_path):
    """Whatever its name stands for, and while the sandbox is stopped."""
    rootfs = tmp_path / "rootfs"
    shutil.copytree(daemon.data / "images/busybox/rootfs", rootfs, symlinks=True)

    def load(marker):
        (rootfs / "etc/marker").write_text(marker)
        done = ctl("image", "import", "mine", f"dir:{rootfs}")
        assert done.returncode == 0, done.stderr
        return os.path.realpath(daemon.data / "images/mine")

    old = load("old\n")
    box = api.create(runtime=runtime, image="mine", rootfs=OVERLAY)
    api.sh(box.id, "echo mine >/etc/mine")
    api.stop(box.id)
    plain = api.create(runtime=runtime, image="mine")
    api.stop(plain.id)
    new = load("new\n")
    assert old != new
    daemon.restart("SIGTERM")  # which looks for what is unused, too
    api = daemon.api
    images = Images(daemon)
    time.sleep(0.5)
    assert os.path.isdir(old)
    api.start(box.id)
    api.start(plain.id)
    assert api.sh(box.id, "cat /etc/marker /etc/mine") == "old\nmine\n"
    assert api.sh(plain.id, "cat /etc/marker") == "new\n"
    with refused(grpc.StatusCode.FAILED_PRECONDITION, box.id):
        images.remove("mine")
    api.delete(box.id)
    api.delete(plain.id)
    images.remove("mine")
    wait_until(lambda: not os.path.exists(old) and not os.path.exists(new), "their end", 20)


def test_an_image_that_is_gone(daemon, api, runtime, image, tmp_path):
    """Of those that are made by hand nobody keeps any."""
    box = api.create(runtime=runtime, image="own", rootfs=OVERLAY)
    api.sh(box.id, "echo mine >/etc/mine")
    api.stop(box.id)
    image.rename(tmp_path / "elsewhere")
    with refused(grpc.StatusCode.NOT_FOUND, str(image)):
        api.start(box.id)
    (tmp_path / "elsewhere").rename(image)
    api.start(box.id)
    assert api.sh(box.id, "cat /etc/mine") == "mine\n"


def test_a_root_that_its_sandbox_spoilt(daemon, api, runtime, image):
    box = api.create(runtime=runtime, image="own", rootfs=OVERLAY)
    api.sh(box.id, "mv /etc /etc.old && mkdir /etc && cp /etc.old/passwd /etc")
    api.stop(box.id)
    api.start(box.id)  # there is something to mount upon again
    assert api.sh(box.id, "grep -c ^nameserver /etc/resolv.conf") != "0\n"

    outside = daemon.dir / "outside"
    outside.mkdir()
    api.sh(box.id, f"mv /etc /etc.older && ln -s {outside} /etc")
    api.stop(box.id)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "delete it"):
        api.start(box.id)
    assert state_name(api.get(box.id)) == "FAILED"
    assert os.listdir(outside) == [] and not mounts(daemon.dir)
    api.delete(box.id)
    assert overlays(daemon) == []


@pytest.mark.parametrize("runtime", ["runc"], indirect=True)  # gVisor forgets a pipe
def test_a_pipe_where_the_runtime_reads(make_daemon, runtime):
    """It holds up its own sandbox, until its deadline."""
    daemon = make_daemon(runtime=runtime, defaults={"start_timeout": "2s"})
    box = daemon.api.create(rootfs=OVERLAY)
    daemon.api.sh(box.id, "cd /etc && for f in passwd group; do rm $f; mkfifo $f; done")
    daemon.api.stop(box.id)
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        daemon.api.start(box.id)
    assert state_name(daemon.api.get(box.id)) == "FAILED"
    daemon.api.delete(box.id)
    assert overlays(daemon) == [] and not mounts(daemon.dir)


def test_its_workspace_is_another_thing(daemon, api, runtime, image):
    """It is kept without the root, and given to one that has another."""
    box = api.create(runtime=runtime, image="own", rootfs=OVERLAY)
    api.sh(box.id, "echo mine >mine; head -c 2000000 /dev/zero >/srv/large")
    assert api.stats(box.id).workspace_bytes < 1000000
    api.delete(box.id, keep_workspace=True)
    assert overlays(daemon) == []
    other = api.create(runtime=runtime, image="own", rootfs=OVERLAY, workspace=box.id)
    assert api.sh(other.id, "cat mine; ls /srv") == "mine\ngone\ntree\n"


def test_a_create_that_fails_leaves_nothing(daemon, api, runtime, image):
    (image / "opt/sandbox-skel").mkdir(parents=True)
    os.mkfifo(image / "opt/sandbox-skel/pipe")
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "pipe"):
        api.create(runtime=runtime, image="own", rootfs=OVERLAY)
    (image / "opt/sandbox-skel/pipe").unlink()
    runtimed = image / "run"
    runtimed.rmdir()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "run"):
        api.create(runtime=runtime, image="own", rootfs=OVERLAY)
    assert overlays(daemon) == [] and not mounts(daemon.dir)


def test_a_file_system_that_cannot(mounted, tmp_path):
    """As in a container, whose own root is an overlay."""
    for name in ("below", "upper", "work"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/below,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    daemon = mounted("-t", "overlay", "-o", options, "overlay")
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "an overlay itself", "let it lie on ext4",
                 "read-only root"):
        daemon.api.create(rootfs=OVERLAY)
    assert not daemon.api.list() and overlays(daemon) == []
    assert os.listdir(daemon.state / "bundles") == []
    box = daemon.api.create()
    assert daemon.api.sh(box.id, "echo up") == "up\n"


def test_a_file_system_in_memory(mounted, runtime):
    daemon = mounted("-t", "tmpfs", "-o", "size=64m", "tmpfs")
    box = daemon.api.create(runtime=runtime, rootfs=OVERLAY)
    daemon.api.sh(box.id, "echo mine >/etc/mine; mv /bin /bin2; /bin2/mv /bin2 /bin")
    daemon.api.stop(box.id)
    daemon.api.start(box.id)
    assert daemon.api.sh(box.id, "cat /etc/mine") == "mine\n"
