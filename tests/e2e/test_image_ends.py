"""ImageService: archives that lie about themselves, and how an import ends."""

import glob
import hashlib
import http.server
import json
import lzma
import os
import shutil
import signal
import subprocess
import tarfile
import threading
import zlib

import pytest

from harness import wait_until
from test_images import (Images, as_layer, gone, images, layout, link, make_tar,  # noqa: F401
                         needs_registry, needs_tools, refused, registry, regular, rootfs, run, victim)

pytestmark = pytest.mark.oci_only("Docker Engine has images of its own")

LAYOUT = regular("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
INDEX = regular("index.json", b'{"schemaVersion":2,"manifests":[]}')


# --- OCI archives ---


@needs_tools
@pytest.mark.parametrize("prefix", ["", "oci-archive:"])
def test_archives_whose_members_lead_out(images, tmp_path, victim, prefix):
    """skopeo by itself writes them: it is not what unpacks an archive."""
    up = "../" * 20 + str(victim).lstrip("/")
    hostile = [
        (link("door", victim), regular("door/new"), regular("door/file")),
        (link("door", up), regular("door/new"), regular("door/file")),
        (link("one", "."), link("one/two", victim), regular("two/new"), regular("two/file")),
        (link("hard", victim / "file", tarfile.LNKTYPE), regular("hard")),
        (regular(f"{up}/new"), regular(f"{up}/file")),
        (regular(f"{victim}/new"), regular(f"{victim}/file")),
    ]
    for members in hostile:
        archive = make_tar(tmp_path / "hostile.tar", LAYOUT, INDEX, *members)
        images.refuses("INVALID_ARGUMENT", "", "mine", f"{prefix}{archive}")
        assert os.listdir(victim) == ["file"] and (victim / "file").read_text() == "the host's"


@needs_tools
@pytest.mark.parametrize("member", [
    link("blobs/sha256/link", "/dev/zero"), ("blobs/fifo", tarfile.FIFOTYPE, {}),
    ("blobs/device", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 5})])
def test_archives_with_what_is_no_file(images, tmp_path, layout, member):
    """skopeo would open it."""
    archive = make_tar(tmp_path / "hostile.tar", LAYOUT, INDEX, member)
    images.refuses("INVALID_ARGUMENT", "no files", "mine", f"oci-archive:{archive}")


# --- looks that take long, and children that do not end well ---


def child_of(daemon, program):
    """The pid of that program among the daemon's children; None: there is none."""
    found = subprocess.run(["pgrep", "-P", str(daemon.process.pid), "-x", program],
                           capture_output=True, text=True).stdout.split()
    return int(found[0]) if found else None


def test_a_look_that_takes_longer_than_the_rest(mounted, host_process, tmp_path):
    """At how much is unpacked by now: it has begun before the end of that, and gets no processor."""
    daemon = mounted("-t", "tmpfs", "tmpfs")
    images = Images(daemon)
    source = make_tar(tmp_path / "many.tar", *(regular(f"usr/{i % 100}/{i}", b"")
                                               for i in range(30000)))
    tasks = f"/proc/{daemon.process.pid}/task"

    others = set(os.listdir(tasks))

    def hold_up():
        """The thread that looks, if there is one now."""
        for thread in set(os.listdir(tasks)) - others:
            try:
                os.sched_setaffinity(int(thread), {0})
                os.sched_setscheduler(int(thread), os.SCHED_IDLE, os.sched_param(0))
            except ProcessLookupError:
                continue
            return os.path.exists(f"{tasks}/{thread}")
        return False

    call = images.begin("many", f"tar:{source}", timeout=60)
    tar = wait_until(lambda: child_of(daemon, "tar"), "its child")
    last = images.path(".staging/*/content/rootfs/usr/99/29*")
    wait_until(lambda: glob.glob(last), "nearly all files")
    os.kill(tar, signal.SIGSTOP)
    for _ in range(2):
        host_process("taskset", "-c", "0", "sh", "-c", "while :; do :; done")
    wait_until(hold_up, "a look")
    os.kill(tar, signal.SIGCONT)
    assert list(call)[-1].image.files > 30000


def test_a_child_that_is_killed(daemon, images, tmp_path):
    """By whom is not known: it is no file that is too large."""
    huge = tmp_path / "huge.tar"
    with open(huge, "wb") as file:
        file.truncate(60 << 30)
    call = images.begin("mine", f"tar:{huge}")
    os.kill(wait_until(lambda: child_of(daemon, "sha256sum"), "its child"), signal.SIGKILL)
    with refused("UNKNOWN", "signal 9"):
        list(call)
    gone(images)


def test_a_child_that_ignores_what_it_is_told(daemon, images, tmp_path):
    """One that is stopped takes no signal but the last."""
    huge = tmp_path / "huge.tar"
    with open(huge, "wb") as file:
        file.truncate(60 << 30)
    call = images.begin("mine", f"tar:{huge}")
    pid = wait_until(lambda: child_of(daemon, "sha256sum"), "its child")
    os.kill(pid, signal.SIGSTOP)
    call.cancel()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "its end")
    gone(images)


def test_a_bomb_against_the_memory(daemon, images, tmp_path):
    """xz keeps as much of the past as the archive says, here more than a child may have."""
    bomb = tmp_path / "bomb.tar.xz"
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]
    packed = bytearray(lzma.compress(bytes(1 << 20), filters=filters))
    at = packed.index(b"\x21\x01", 12) + 2  # the block's header: LZMA2, one byte of properties
    packed[at] = 40  # 4 GiB - 1
    end = 12 + (packed[12] + 1) * 4
    packed[end - 4:end] = zlib.crc32(packed[12:end - 4]).to_bytes(4, "little")
    bomb.write_bytes(packed)
    images.refuses("RESOURCE_EXHAUSTED", "memory", "mine", f"tar:{bomb}")


@needs_tools
@pytest.mark.parametrize("kind", ["tar", "layer"])
def test_a_full_disk(mounted, tmp_path, kind):
    """Full between two looks at it: whoever meets it first, it is no fault of the image."""
    images = Images(mounted("-t", "tmpfs", "-o", "size=48m", "tmpfs"))
    source = make_tar(tmp_path / "large.tar", *(regular(f"usr/{i}", os.urandom(1 << 20))
                                                for i in range(60)))
    with refused("RESOURCE_EXHAUSTED", "disk"):
        images.load("mine", f"tar:{source}" if kind == "tar" else as_layer(tmp_path, source))
    gone(images)


# --- what is told of it ---


def test_each_name_has_its_source(images, tmp_path, rootfs):
    run("tar", "-cf", tmp_path / "one.tar", "-C", rootfs, ".")
    os.link(tmp_path / "one.tar", tmp_path / "two.tar")
    for name in "one", "two":
        assert images.load(name, tmp_path / f"{name}.tar").source == str(tmp_path / f"{name}.tar")
    listed = images.list()
    assert listed["one"].digest == listed["two"].digest
    assert {n: listed[n].source for n in ("one", "two")} == {
        "one": str(tmp_path / "one.tar"), "two": str(tmp_path / "two.tar")}


def test_the_audit_names_the_image(daemon, images, rootfs):
    images.load("mine", rootfs)
    images.remove("mine")
    images.refuses("INVALID_ARGUMENT", "name", "No name", rootfs)
    wait_until(lambda: "ImageService/Import: INVALID_ARGUMENT after" in daemon.log(), "the last line")
    for line in ("Import of image mine: OK after", "Remove of image mine: OK after"):
        assert f"sandboxd.v1.ImageService/{line}" in daemon.log()


# --- what would be found out too late ---


@needs_tools
@pytest.mark.parametrize("options, words", [
    (["--config.user", "nobody-knows"], "nobody-knows"),
    (["--config.workingdir", "relative"], "WorkingDir"),
    (["--config.entrypoint", ""], "Entrypoint")])
def test_a_configuration_that_no_sandbox_can_have(images, layout, options, words):
    run("umoci", "config", "--image", layout, "--clear", "config.entrypoint", "--clear", "config.cmd",
        *options)
    images.refuses("INVALID_ARGUMENT", words, "mine", f"oci:{layout}")


def test_an_image_of_a_sandbox_that_names_its_path(daemon, images, rootfs):
    images.load("mine", rootfs)
    sandbox = daemon.api.create(image=images.path("mine", "rootfs"))
    daemon.api.stop(sandbox.id)
    with refused("FAILED_PRECONDITION", sandbox.id):
        images.remove("mine")
    daemon.api.delete(sandbox.id)
    images.remove("mine")


def test_a_tarball_that_changes_and_hides_it(images, tmp_path):
    """Its owner can set the time of the last write back."""
    tarball = make_tar(tmp_path / "large.tar", regular("etc/large", bytes(700 << 20)))
    before = os.stat(tarball)
    call = images.begin("mine", f"tar:{tarball}")
    while next(call).progress.step != "checking":
        pass
    with open(tarball, "r+b") as file:
        file.seek(600 << 20)
        file.write(b"something else")
    os.utime(tarball, ns=(before.st_atime_ns, before.st_mtime_ns))
    with refused("ABORTED", "has changed"):
        list(call)
    gone(images)


@needs_registry
def test_an_image_of_a_registry_by_its_digest(images, registry):
    """The manifest's, which is not the one that List has: that is the configuration's."""
    box = f"docker://127.0.0.1:{registry}/box"
    shown = run("skopeo", "inspect", "--tls-verify=false", f"{box}:1").stdout
    image = images.load("digest", f"{box}@{json.loads(shown)['Digest']}", insecure=True)
    assert image.digest == images.load("tag", f"{box}:1", insecure=True).digest
    images.refuses("UNKNOWN", "skopeo failed: ", "mine", f"{box}@{image.digest}", insecure=True)


# --- several at once, and the daemon's end ---


def test_two_imports_of_one_name(images, tmp_path, rootfs):
    """Each is told what it imported; the name stands for one of them, and the other goes."""
    sources = []
    for i in range(2):
        (rootfs / "etc/marker").write_text(f"{i}\n")
        run("tar", "-cf", tmp_path / f"{i}.tar", "-C", rootfs, ".")
        sources.append(tmp_path / f"{i}.tar")
    digests = ["sha256:" + hashlib.sha256(s.read_bytes()).hexdigest() for s in sources]
    for _ in range(10):
        calls = [images.begin("mine", s) for s in sources]
        told = [list(call)[-1].image for call in calls]
        assert [image.digest for image in told] == digests
        assert [image.source for image in told] == [str(s) for s in sources]
        assert images.list()["mine"].digest in digests
    images.load("mine", sources[0])
    gone(images)
    assert images.list()["mine"].digest == digests[0]


def test_a_remove_during_imports_of_the_same(images, tmp_path, rootfs):
    run("tar", "-cf", tmp_path / "one.tar", "-C", rootfs, ".")
    for _ in range(10):
        calls = [images.begin(name, tmp_path / "one.tar") for name in ("one", "two")]
        list(calls[0])
        images.remove("one")
        image = list(calls[1])[-1].image
        assert os.path.exists(images.path("two/rootfs/etc/marker")) and image.name == "two"
        images.remove("two")
    gone(images)


@needs_tools
@pytest.mark.parametrize("kind", ["tar", "layer", "archive"])
def test_the_daemon_is_killed_at_every_step(daemon, tmp_path, rootfs, layout, kind):
    """Afterwards there is the image, or there is nothing."""
    tarball, archive = tmp_path / "one.tar", tmp_path / "oci.tar"
    run("tar", "-cf", tarball, "-C", rootfs, ".")
    run("skopeo", "copy", f"oci:{layout}", f"oci-archive:{archive}:one")
    source = {"tar": f"tar:{tarball}", "layer": f"oci:{layout}", "archive": archive}[kind]
    for step in ("looking", "fetching", "checking", "unpacking", "preparing", "publishing"):
        call = Images(daemon).begin("mine", source)
        for message in call:
            if message.progress.step == step or message.WhichOneof("event") == "image":
                break
        daemon.kill()
        daemon.start()
        images = Images(daemon)
        gone(images)
        if "mine" in images.list():
            assert step == "publishing" or message.WhichOneof("event") == "image"
            assert os.path.exists(images.path("mine/rootfs/etc/marker"))
            images.remove("mine")


@needs_tools
@pytest.mark.parametrize("kind", ["layout", "archive"])
def test_a_blob_that_lies_elsewhere(images, tmp_path, layout, kind):
    """An image of a file does not make the host ask who knows whom."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    source = as_layer(tmp_path, make_tar(tmp_path / "layer.tar", regular("usr/x")))
    path = source.removeprefix("oci:")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        index = json.load(open(f"{path}/index.json", encoding="utf-8"))
        blobs = f"{path}/blobs/sha256/"
        manifest = json.load(open(blobs + index["manifests"][0]["digest"][7:], encoding="utf-8"))
        for blob in manifest["config"], manifest["layers"][0]:
            blob["urls"] = [f"http://127.0.0.1:{server.server_port}/blob"]
            os.unlink(blobs + blob["digest"][7:])
        data = json.dumps(manifest).encode()
        digest = hashlib.sha256(data).hexdigest()
        with open(blobs + digest, "wb") as file:
            file.write(data)
        index["manifests"][0] |= {"digest": f"sha256:{digest}", "size": len(data)}
        with open(f"{path}/index.json", "w", encoding="utf-8") as file:
            json.dump(index, file)
        if kind == "archive":
            run("tar", "-cf", tmp_path / "oci.tar", "-C", path, ".")
            source = f"oci-archive:{tmp_path}/oci.tar"
        images.refuses("INVALID_ARGUMENT", "failed", "mine", source)
        server.shutdown()
    assert asked == []


# --- layers ---


def blob(layout, descriptor):
    with open(f"{layout}/blobs/sha256/{descriptor['digest'].split(':')[1]}", "rb") as file:
        return json.load(file)


def put_blob(layout, value):
    """Of that value, as a descriptor tells of it."""
    data = json.dumps(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    with open(f"{layout}/blobs/sha256/{digest}", "wb") as file:
        file.write(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


@needs_tools
@pytest.mark.parametrize("changes", [
    lambda layers: {"layers": layers[:1]}, lambda layers: {"layers": []},
    lambda layers: {"Layers": layers[:1]}, lambda layers: {"layer\u017f": layers[:1]},
    lambda layers: {"layers": [layers[0], layers[0]]}])
def test_an_image_of_other_layers(images, tmp_path, layout, changes):
    """It would stand for the one whose configuration it has."""
    path = layout.removesuffix(":one")
    (tmp_path / "over").mkdir()
    (tmp_path / "over/marker").write_text("mended\n")
    run("umoci", "insert", "--image", layout, tmp_path / "over", "/etc")
    shutil.copytree(path, tmp_path / "short")
    with open(f"{tmp_path}/short/index.json", "r+", encoding="utf-8") as file:
        index = json.load(file)
        manifest = blob(path, index["manifests"][0])
        assert len(manifest["layers"]) == 2
        manifest |= changes(manifest["layers"])
        index["manifests"][0] |= put_blob(tmp_path / "short", manifest)
        file.seek(0)
        file.truncate()
        json.dump(index, file)
    images.refuses("INVALID_ARGUMENT", "", "short", f"oci:{tmp_path}/short:one")
    images.load("whole", f"oci:{layout}")
    with open(images.path("whole/rootfs/etc/marker"), encoding="utf-8") as file:
        assert file.read() == "mended\n"
