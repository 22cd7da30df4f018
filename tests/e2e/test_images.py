"""ImageService and `sandboxctl image`: images from everywhere, and what is no image."""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time

import grpc
import pytest
from sandboxd.v1 import image_pb2, image_pb2_grpc

import harness
from harness import wait_until

pytestmark = pytest.mark.oci_only("Docker Engine has images of its own")

TOOLS = [tool for tool in ("skopeo", "umoci") if not shutil.which(tool)]
needs_tools = pytest.mark.skipif(bool(TOOLS), reason=f"no {TOOLS} here: run 'make deps'")
REGISTRY = harness.DEPS / "docker-registry/usr/bin/docker-registry"
needs_registry = pytest.mark.skipif(bool(TOOLS) or not REGISTRY.exists(),
                                    reason="no registry and its tools here: run 'make deps'")
BUSYBOX = next((p for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p)), None)


def gone(images, seconds=20):
    """Nothing is left that no name stands for."""
    wait_until(lambda: not images.left(), "nothing left", seconds)


def run(*argv, **more):
    return subprocess.run([str(a) for a in argv], check=True, capture_output=True, **more)


def refused(code, *words):
    return harness.refused(grpc.StatusCode[code], *words)


def ok(ctl, *args, **more):
    done = ctl(*args, **more)
    assert done.returncode == 0, done.stderr
    return done


class Images:
    """The service of one daemon, and its directory."""

    def __init__(self, daemon):
        self.stub = image_pb2_grpc.ImageServiceStub(daemon.api.channel)
        self.directory = str(daemon.data / "images")

    def begin(self, name, source, timeout=120, **fields):
        return self.stub.Import(image_pb2.ImageServiceImportRequest(
            name=name, source=str(source), **fields), timeout=timeout)

    def load(self, name, source, **fields):
        messages = list(self.begin(name, source, **fields))
        assert all(m.WhichOneof("event") == "progress" for m in messages[:-1])
        assert messages[0].progress.step == "looking"
        return messages[-1].image

    def list(self):
        return {i.name: i for i in self.stub.List(image_pb2.ImageServiceListRequest(),
                                                  timeout=20).images}

    def remove(self, name):
        self.stub.Remove(image_pb2.ImageServiceRemoveRequest(name=name), timeout=20)

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def left(self):
        """What is there beside the names and what they stand for."""
        names = [n for n in os.listdir(self.directory) if not n.startswith(".")]
        used = {os.path.basename(os.readlink(self.path(n))) for n in names
                if os.path.islink(self.path(n))}
        return [f"{d}/{n}" for d in (".staging", ".garbage", ".content")
                for n in os.listdir(self.path(d)) if n not in used]

    def refuses(self, code, text, name, source, **fields):
        before = sorted(os.listdir(self.directory))
        with refused(code, text):
            self.load(name, source, **fields)
        gone(self)
        assert sorted(os.listdir(self.directory)) == before


@pytest.fixture
def images(daemon):
    return Images(daemon)


@pytest.fixture
def rootfs(tmp_path):
    """A small one, as somebody might have it."""
    root = tmp_path / "root"
    for name in ("bin", "etc", "usr/share"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for applet in ("sh", "cat", "ls", "id", "sleep", "stat"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/marker").write_text("as it was\n")
    os.link(root / "etc/marker", root / "usr/share/marker")
    (root / "usr/share/private").write_text("x")
    (root / "usr/share/private").chmod(0o640)
    os.chown(root / "usr/share/private", 7, 8)
    return root


@pytest.fixture
def layout(tmp_path, rootfs):
    """The same as an OCI layout, with a configuration; its path and tag."""
    path = tmp_path / "layout"
    run("umoci", "init", "--layout", path)
    run("umoci", "new", "--image", f"{path}:one")
    run("umoci", "insert", "--image", f"{path}:one", rootfs, "/")
    run("umoci", "config", "--image", f"{path}:one", "--config.entrypoint", "/bin/sh",
        "--config.cmd=-c", "--config.cmd=id", "--config.env", "COLOUR=blue", "--config.user", "7:8",
        "--config.workingdir", "/usr/share")
    return f"{path}:one"


def tree(root):
    """{path: type, mode, owner, size or target} of all in it."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            what = os.readlink(path) if os.path.islink(path) else \
                hashlib.sha256(open(path, "rb").read()).hexdigest() if os.path.isfile(path) else ""
            found[os.path.relpath(path, root)] = (oct(st.st_mode), st.st_uid, st.st_gid, what)
    return found


def content(images, name):
    with open(images.path(name, "image.json"), encoding="utf-8") as file:
        return json.load(file)


# --- the same image from everywhere ---


@needs_tools
def test_one_image_from_every_source(images, tmp_path, rootfs, layout):
    docker, archive, tarball = (tmp_path / n for n in ("docker.tar", "oci.tar", "plain.tar.gz"))
    run("skopeo", "copy", f"oci:{layout}", f"docker-archive:{docker}:some/image:one")
    run("skopeo", "copy", f"oci:{layout}", f"oci-archive:{archive}:one")
    run("tar", "-czf", tarball, "-C", rootfs, ".")
    sources = {
        "layout": f"oci:{layout}", "layout-found": layout.removesuffix(":one"),
        "archive": f"oci-archive:{archive}", "archive-found": archive,
        "docker": f"docker-archive:{docker}", "docker-found": docker,
        "tar": f"tar:{tarball}", "tar-found": tarball,
        "dir": f"dir:{rootfs}", "dir-found": rootfs,
    }
    loaded = {name: images.load(name, source) for name, source in sources.items()}
    trees = {name: tree(images.path(name, "rootfs")) for name in sources}
    for name, found in trees.items():
        assert found == trees["layout"], name
        assert loaded[name].files == len(found)
        assert loaded[name].size > os.path.getsize(BUSYBOX)
    for kind in ("layout", "archive", "docker", "tar", "dir"):  # the same bytes: the same digest
        assert loaded[kind].digest == loaded[f"{kind}-found"].digest
        assert os.readlink(images.path(kind)) == os.readlink(images.path(f"{kind}-found"))
    assert loaded["layout"].digest == loaded["archive"].digest
    assert loaded["tar"].digest == "sha256:" + hashlib.sha256(tarball.read_bytes()).hexdigest()
    assert trees["dir"]["usr/share/private"][:3] == ("0o100640", 7, 8)
    assert content(images, "layout")["config"] == {
        "Entrypoint": ["/bin/sh"], "Cmd": ["-c", "id"], "Env": ["COLOUR=blue"], "User": "7:8",
        "WorkingDir": "/usr/share"}
    assert content(images, "docker")["config"] == content(images, "layout")["config"]
    assert content(images, "tar")["config"] == {}
    assert set(images.list()) == {"busybox", *sources}
    assert images.left() == []


def test_a_sandbox_runs_from_it(daemon, images, ctl, runtime, rootfs):
    images.load("mine", rootfs)
    sandbox = daemon.api.create(runtime=runtime, image="mine")
    shown = ok(ctl, "exec", sandbox.id, "--", "cat", "/etc/marker", "/etc/passwd").stdout
    assert "as it was" in shown and "sandbox:x:1000:1000" in shown
    assert "uid=1000(sandbox) gid=1000(sandbox)" in ok(ctl, "exec", sandbox.id, "--", "id").stdout


def test_prepared_for_use(images, tmp_path, rootfs):
    (rootfs / "etc/resolv.conf").symlink_to("/etc/../../../../tmp/hostile")
    (rootfs / "etc/passwd").symlink_to("/etc/people")
    (rootfs / "etc/people").write_text("root:x:0:0::/:/bin/sh\nweb:x:1000:50::/:/bin/sh")
    (rootfs / "tmp").symlink_to("/var/tmp")
    (rootfs / "dev").symlink_to("/dev")
    os.mkfifo(rootfs / "usr/fifo")
    os.mknod(rootfs / "usr/disk", 0o060666, os.makedev(8, 0))
    os.mknod(rootfs / "usr/.wh.gone", 0o020000, os.makedev(0, 0))
    image = images.load("odd", rootfs)
    root = images.path("odd", "rootfs")
    assert image.left_out == 3
    assert not os.listdir(os.path.join(root, "dev")) and not os.path.islink(f"{root}/dev")
    assert os.lstat(f"{root}/tmp").st_mode == 0o041777
    assert open(f"{root}/etc/resolv.conf").read() == "" and not os.path.islink(f"{root}/etc/resolv.conf")
    assert os.readlink(f"{root}/etc/passwd") == "/etc/people"  # it has a user 1000
    assert "sandbox:x:1000:" in open(f"{root}/etc/group").read()
    assert sorted(os.listdir(f"{root}/usr")) == ["share"]


# --- names ---


def test_a_name_moves_on_while_a_sandbox_runs(daemon, images, ctl, runtime, rootfs):
    first = images.load("mine", rootfs)
    old = os.path.realpath(images.path("mine"))
    sandbox = daemon.api.create(runtime=runtime, image="mine")
    (rootfs / "etc/marker").write_text("new\n")
    second = images.load("mine", rootfs)
    assert second.digest != first.digest
    assert ok(ctl, "exec", sandbox.id, "--", "cat", "/etc/marker").stdout == "as it was\n"
    time.sleep(0.5)
    assert os.path.isdir(old)  # it is used
    other = daemon.api.create(runtime=runtime, image="mine")
    assert ok(ctl, "exec", other.id, "--", "cat", "/etc/marker").stdout == "new\n"
    with refused("FAILED_PRECONDITION", f"{sandbox.id}, {other.id}"):
        images.remove("mine")
    ok(ctl, "rm", sandbox.id)
    ok(ctl, "rm", other.id)
    images.remove("mine")
    wait_until(lambda: not os.path.exists(old), "its end", 20)
    gone(images)
    with refused("NOT_FOUND", "mine"):
        images.remove("mine")


def test_content_stays_as_long_as_a_name_stands_for_it(images, rootfs):
    images.load("one", rootfs)
    images.load("two", rootfs)
    where = os.path.realpath(images.path("one"))
    images.remove("one")
    assert "one" not in images.list()
    assert images.path("two") and os.path.realpath(images.path("two")) == where
    time.sleep(0.5)
    assert os.path.isdir(where)
    images.remove("two")
    wait_until(lambda: not os.path.exists(where), "its end", 20)


def test_what_was_made_by_hand_is_left_alone(images, rootfs):
    shutil.copytree(rootfs, images.path("hand", "rootfs"), symlinks=True)
    assert images.list()["hand"].digest == ""
    for name in ("hand", "busybox"):
        images.refuses("FAILED_PRECONDITION", name, name, rootfs)
        with refused("FAILED_PRECONDITION", name):
            images.remove(name)
    assert os.path.exists(images.path("hand", "rootfs/bin/busybox"))


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "Upper", "x" * 64, "a b", "-\n"])
def test_names_that_are_none(images, rootfs, name):
    images.refuses("INVALID_ARGUMENT", "name", name, rootfs)
    with refused("INVALID_ARGUMENT", "name"):
        images.remove(name)


@pytest.mark.parametrize("source", [
    "", "relative", "oci:relative", "dir:../x", "/a/../b", "docker://", "docker://-o", "docker://a b",
    "docker://x;y", "oci:/a:--tag", "oci:/a:b c", "containers-storage:x", "--help", "http://x/y",
    "/" + "x" * 5000, "docker://" + "x" * 600])
def test_sources_that_are_none(images, source):
    images.refuses("INVALID_ARGUMENT", "source", "mine", source)


# --- what is no image ---


def make_tar(path, *members, mode="w"):
    """(name, type, more) each."""
    with tarfile.open(path, mode) as tar:
        for name, kind, more in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            data = more.pop("data", b"")
            info.size = len(data)
            for key, value in more.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return path


def regular(name, data=b"hostile"):
    return name, tarfile.REGTYPE, {"data": data}


def link(name, to, kind=tarfile.SYMTYPE):
    return name, kind, {"linkname": str(to)}


def as_layer(tmp_path, tarball):
    """An OCI layout whose one layer is this tarball."""
    path = tmp_path / "hostile"
    shutil.rmtree(path, ignore_errors=True)
    blobs = path / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}",
                "size": len(data)}

    layer = tarball.read_bytes()
    config = blob(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {
        "type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}).encode(),
        "config.v1+json")
    manifest = blob(json.dumps({"schemaVersion": 2, "config": config,
                                "layers": [blob(layer, "layer.v1.tar")]}).encode(),
                    "manifest.v1+json")
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return f"oci:{path}"


@pytest.fixture
def victim(tmp_path):
    """A file and a directory of the host, which must stay as they are."""
    directory = tmp_path / "victim"
    directory.mkdir()
    (directory / "file").write_text("the host's")
    yield directory
    assert os.listdir(directory) == ["file"] and (directory / "file").read_text() == "the host's"
    assert os.stat(directory / "file").st_nlink == 1


@pytest.fixture(params=["tar", "layer"])
def pack(request, tmp_path):
    """Makes a source of members, each way."""
    if request.param == "layer" and TOOLS:
        pytest.skip(f"no {TOOLS} here: run 'make deps'")

    def make(*members):
        path = make_tar(tmp_path / "hostile.tar", *members)
        return f"tar:{path}" if request.param == "tar" else as_layer(tmp_path, path)

    make.kind = request.param
    return make


def load_or_refuse(images, source):
    """True when it became an image; nothing but that is left in either case."""
    if "hostile" in images.list():
        images.remove("hostile")
    try:
        images.load("hostile", source)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        gone(images)
        assert "hostile" not in images.list()
        return False
    gone(images)
    return True


def inside(images, *parts):
    return images.path("hostile", "rootfs", *parts)


def test_members_that_lead_out(images, pack, victim):
    up = "../" * 20 + str(victim).lstrip("/")
    for name in (f"{up}/new", f"a/{up}/new", f"{victim}/new", f"//{victim}/new", "../escaped", ".."):
        load_or_refuse(images, pack(regular("etc/x"), regular(name)))
        assert not os.path.exists(images.path("escaped"))
        assert not os.path.exists(images.path(".staging", "escaped"))


def test_members_behind_links_that_lead_out(images, pack, victim):
    up = "../" * 20 + str(victim).lstrip("/")
    for to in (victim, up):
        load_or_refuse(images, pack(link("door", to), regular("door/new"), regular("door/file")))
        assert not os.path.exists(victim / "new")
        # In two steps, through directories of its own.
        load_or_refuse(images, pack(link("one", "."), link("one/two", to), regular("two/new")))


def test_links_that_lead_out_are_links_only(images, pack, victim):
    source = pack(link("etc/passwd", victim / "file"), link("etc/group", victim / "new"),
                  link("etc/resolv.conf", victim / "file"), link("tmp", victim), link("run", victim),
                  regular("usr/x"))
    assert load_or_refuse(images, source)
    assert os.path.isdir(inside(images, "tmp")) and not os.path.islink(inside(images, "tmp"))


def test_a_root_directory_that_is_a_link(images, pack, victim):
    for name in (".", "./", "/"):
        load_or_refuse(images, pack(link(name, victim), regular("new"), regular("./new")))


@pytest.mark.parametrize("etc", ["link", "file"])
def test_etc_that_is_no_directory(images, pack, victim, etc):
    member = link("etc", victim) if etc == "link" else regular("etc")
    assert not load_or_refuse(images, pack(member, regular("usr/x")))


def test_hard_links_that_lead_out(images, pack, victim):
    up = "../" * 20 + str(victim).lstrip("/")
    for to in (f"{victim}/file", f"{up}/file", "../../../../image.json"):
        load_or_refuse(images, pack(regular("usr/x"), link("usr/hard", to, tarfile.LNKTYPE)))
    # To a link that leads out, and then written through.
    load_or_refuse(images, pack(link("soft", victim / "file"),
                                link("hard", "soft", tarfile.LNKTYPE), regular("hard")))


def test_devices_are_left_out(images, pack):
    members = [regular("usr/x"), ("usr/sda", tarfile.BLKTYPE, {"devmajor": 8, "devminor": 0}),
               ("usr/mem", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 1}),
               ("usr/fifo", tarfile.FIFOTYPE, {})]
    assert load_or_refuse(images, pack(*members))
    assert os.listdir(inside(images, "usr")) == ["x"]


def test_whiteouts(images, pack, victim):
    """In a layer they remove, inside; in a tarball they are files as others."""
    up = "../" * 20 + str(victim).lstrip("/")
    source = pack(regular("usr/.wh.file"), regular("usr/.wh..wh..opq"), regular("usr/x"))
    load_or_refuse(images, source)
    load_or_refuse(images, pack(regular("usr/x"), regular(f"{up}/.wh.file")))
    load_or_refuse(images, pack(link("door", victim), regular("door/.wh.file")))
    load_or_refuse(images, pack(link("door", up), regular("door/.wh..wh..opq")))


@pytest.mark.parametrize("name", [".wh...", ".wh..", "usr/.wh...", "a/../.wh...", ".wh", ".wh.",
                                  "door/.wh..."])
def test_whiteouts_of_what_is_above(images, pack, rootfs, name):
    """umoci may be led one directory up: it is the import's own, and holds nothing else."""
    images.load("other", rootfs)
    before = tree(images.path("other", "rootfs"))
    load_or_refuse(images, pack(link("door", "/"), regular("usr/x"), regular(name)))
    assert tree(images.path("other", "rootfs")) == before
    assert sorted(n for n in os.listdir(images.directory) if n.startswith(".")) == \
        [".content", ".garbage", ".staging"]


def test_truncated_and_damaged(images, tmp_path, rootfs):
    tarball = tmp_path / "whole.tar"
    run("tar", "-cf", tarball, "-C", rootfs, ".")
    whole = tarball.read_bytes()
    cases = {"half": whole[:len(whole) // 2], "noise": os.urandom(100000),
             "text": b"no archive\n" * 100, "empty": b"",
             "gzip": run("gzip", "-c", tarball).stdout[:-20000]}
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        for prefix in ("", "tar:", "docker-archive:", "oci-archive:"):
            if TOOLS and prefix not in ("", "tar:"):
                continue
            images.refuses("INVALID_ARGUMENT", "failed: ", "mine", f"{prefix}{tmp_path / name}")


@needs_tools
def test_damaged_layouts(images, tmp_path, layout):
    path = layout.removesuffix(":one")
    images.refuses("INVALID_ARGUMENT", "skopeo failed: ", "mine", f"oci:{path}:other")
    largest = max((os.path.join(path, "blobs/sha256", n)
                   for n in os.listdir(f"{path}/blobs/sha256")), key=os.path.getsize)
    data = open(largest, "rb").read()
    with open(largest, "wb") as file:
        file.write(data[:len(data) // 2])
    images.refuses("INVALID_ARGUMENT", "skopeo failed: ", "mine", f"oci:{layout}")
    with open(f"{path}/index.json", "w", encoding="utf-8") as file:
        file.write("[" * 100000)
    images.refuses("INVALID_ARGUMENT", "skopeo failed: ", "mine", f"oci:{layout}")


def test_what_lies_there_is_something_else(images, tmp_path, rootfs):
    os.mkfifo(tmp_path / "fifo")
    images.refuses("NOT_FOUND", "nothing", "mine", tmp_path / "nowhere")
    images.refuses("INVALID_ARGUMENT", "neither", "mine", tmp_path / "fifo")
    images.refuses("INVALID_ARGUMENT", "neither", "mine", "/dev/zero")
    images.refuses("INVALID_ARGUMENT", "directory", "mine", f"tar:{rootfs}")
    images.refuses("INVALID_ARGUMENT", "directory", "mine", f"dir:{rootfs}/etc/marker")


@needs_tools
def test_a_registry_that_is_not_there(images):
    images.refuses("UNKNOWN", "skopeo failed: ", "mine", "docker://127.0.0.1:1/some/image:one")


# --- a registry ---


class Relay:
    """Stands before a registry; what it answers passes until more than `free` bytes of one connection
    have, which is inside of the layer. Then the registry is dead, or very slow."""

    def __init__(self, port, then, free=200 << 10):
        self.target, self.then, self.free = port, then, free
        self.reached, self.closed, self.sockets = threading.Event(), threading.Event(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            self.sockets.append(client)
            if self.then == "dead" and self.reached.is_set():
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.target))
            self.sockets.append(server)
            for source, to, free in (client, server, None), (server, client, self.free):
                threading.Thread(target=self.relay, args=(source, to, free), daemon=True).start()

    def relay(self, source, to, free):
        passed = 0
        try:
            while data := source.recv(16 << 10):
                passed += len(data)
                if free is not None and passed > free:
                    self.reached.set()
                    if self.then == "dead":
                        break
                    for i in range(0, len(data), 64):
                        to.sendall(data[i:i + 64])
                        if self.closed.wait(0.1):
                            break
                else:
                    to.sendall(data)
        except OSError:
            pass
        for end in source, to:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.closed.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        for end in (self.listener, *self.sockets):
            end.close()


@pytest.fixture
def registry(tmp_path, layout):
    """The port of one of our own, which has the layout's image as box:1."""
    config, log = tmp_path / "registry.yml", tmp_path / "registry.log"
    config.write_text(json.dumps({  # YAML, too
        "version": 0.1, "http": {"addr": "127.0.0.1:0"},
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}}))
    with open(log, "wb") as file:
        process = subprocess.Popen([REGISTRY, "serve", config], stdin=subprocess.DEVNULL,
                                   stdout=file, stderr=file)
    try:
        found = wait_until(lambda: re.search(r"listening on 127\.0\.0\.1:(\d+)", log.read_text()),
                           "the registry listens", 20)
        port = int(found[1])
        run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}",
            f"docker://127.0.0.1:{port}/box:1")
        yield port
    finally:
        process.kill()
        process.wait(20)


@pytest.fixture
def relay(registry):
    started = []

    def start(then):
        started.append(Relay(registry, then))
        return started[-1]

    yield start
    for one in started:
        one.close()


@needs_registry
def test_registries_that_images_may_come_from(make_daemon, registry):
    """Another one is never asked."""
    here = f"127.0.0.1:{registry}"
    images = Images(make_daemon(images={"registries": [f"{here}/box", "docker.io/library"]}))
    images.load("box", f"docker://{here}/box:1", insecure=True)
    for name in f"{here}/box2", f"localhost:{registry}/box", "docker.io/team/box":
        images.refuses("PERMISSION_DENIED", f"'{name}:1' is {name}, which images.registries",
                       "mine", f"docker://{name}:1", insecure=True)


@needs_registry
def test_an_image_of_a_registry(images, ctl, layout, registry):
    source = f"docker://127.0.0.1:{registry}/box:1"
    done = ok(ctl, "image", "import", "--insecure", "box", source)
    image = images.list()["box"]
    found, config = tree(images.path("box", "rootfs")), content(images, "box")["config"]
    assert done.stdout == f"box {image.digest}\n" and image.source == source
    images.remove("box")
    wait_until(lambda: not os.listdir(images.path(".content")), "its end", 20)  # not shared below

    there = images.load("layout", f"oci:{layout}")
    assert image.digest == there.digest and image.files == there.files
    assert found == tree(images.path("layout", "rootfs"))
    assert config == content(images, "layout")["config"]
    assert images.left() == []


@needs_registry
def test_a_sandbox_runs_from_a_registrys(daemon, ctl, runtime, registry):
    ok(ctl, "image", "import", "--insecure", "box", f"docker://127.0.0.1:{registry}/box:1")
    sandbox = daemon.api.create(runtime=runtime, image="box")
    shown = ok(ctl, "exec", sandbox.id, "--", "cat", "/etc/marker", "/etc/passwd").stdout
    assert "as it was" in shown and "sandbox:x:1000:1000" in shown


@needs_registry
def test_what_a_registry_does_not_give(images, ctl, registry):
    source = f"docker://127.0.0.1:{registry}/box"
    images.refuses("UNKNOWN", "HTTP response to HTTPS client", "box", f"{source}:1")
    images.refuses("UNKNOWN", "manifest unknown", "box", f"{source}:2", insecure=True)
    images.refuses("UNKNOWN", "unknown", "box", f"{source}es:1", insecure=True)
    failed = ctl("image", "import", "box", f"{source}:1")
    assert failed.returncode == 1 and "HTTP response to HTTPS client" in failed.stderr
    failed = ctl("image", "import", "--insecure", "box", f"{source}:2")
    assert failed.returncode == 1 and "manifest unknown" in failed.stderr
    assert "box" not in images.list()


@needs_registry
def test_a_registry_that_dies_inside_a_layer(images, relay):
    dying = relay("dead")
    start = time.monotonic()
    images.refuses("UNKNOWN", "skopeo failed: ", "box", f"docker://127.0.0.1:{dying.port}/box:1",
                   insecure=True)
    assert dying.reached.is_set() and time.monotonic() - start < 30


@needs_registry
@pytest.mark.parametrize("how", ["interrupt", "cancel"])
def test_a_slow_registry_and_a_client_that_goes(images, popen, relay, how):
    slow = relay("slow")
    source = f"docker://127.0.0.1:{slow.port}/box:1"

    def fetches():
        return subprocess.run(["pgrep", "-f", f"^skopeo .*{source}"],
                              capture_output=True).returncode == 0

    if how == "interrupt":
        client = popen("image", "import", "--insecure", "box", source)
    else:
        call = images.begin("box", source, insecure=True)
    assert slow.reached.wait(20)
    assert fetches() and os.listdir(images.path(".staging"))
    if how == "interrupt":
        client.send_signal(signal.SIGINT)
        assert client.wait(10) != 0
    else:
        call.cancel()
    wait_until(lambda: not fetches(), "the end of skopeo")
    gone(images)
    assert set(images.list()) == {"busybox"}


# --- bounds ---


@pytest.fixture
def small(make_daemon):
    return Images(make_daemon(images={"max_size": "32MiB", "max_files": 2000,
                                      "import_timeout": "20s"}))


def test_a_bomb_of_one_file(small, tmp_path):
    bomb = tmp_path / "bomb.tar.gz"
    run("bash", "-c", f"head -c 400M /dev/zero >{tmp_path}/zero && "
        f"tar -czf {bomb} -C {tmp_path} zero && rm {tmp_path}/zero")
    assert bomb.stat().st_size < 1 << 20
    small.refuses("RESOURCE_EXHAUSTED", "images.max_size", "mine", f"tar:{bomb}")


def test_a_bomb_of_many(small, tmp_path, pack):
    chunk = bytes(1 << 20)
    source = pack(*(regular(f"usr/{i}", chunk) for i in range(200)))
    small.refuses("RESOURCE_EXHAUSTED", "images.max_size", "mine", source)


def test_too_many_files(small, tmp_path, pack):
    source = pack(*(regular(f"usr/{i}", b"") for i in range(100000)))
    small.refuses("RESOURCE_EXHAUSTED", "images.max_files", "mine", source)


def test_100000_files(mounted, pack):
    """In memory: ext4 without a journal gives out no inode that was deleted in the last minutes, and
    looks at each of those for every new one (recently_deleted in fs/ext4/ialloc.c); after other tests
    that takes half a minute."""
    images = Images(mounted("-t", "tmpfs", "tmpfs"))
    image = images.load("many", pack(*(regular(f"usr/{i % 100}/{i}", b"") for i in range(100000))))
    assert image.files > 100000
    images.remove("many")
    gone(images, 60)


def test_a_tree_that_is_too_deep(images, pack):
    images.refuses("INVALID_ARGUMENT", "in one another", "mine",
                   pack(regular("/".join(["d"] * 1000))))


def test_two_at_once_and_a_client_that_goes(images, tmp_path):
    """Each waits for tar, which reads a file that is slow to come."""
    slow = tmp_path / "slow.tar"
    with open(slow, "wb") as file:  # tar passes over it for long
        for i in range(40):
            header = tarfile.TarInfo(f"usr/{i}")
            header.size = 1 << 30
            file.write(header.tobuf())
            file.seek(1 << 30, os.SEEK_CUR)
        file.truncate()
    first, second = (images.begin(name, f"tar:{slow}") for name in ("one", "two"))
    for call in (first, second):
        assert next(call).progress.step == "looking"
    with refused("RESOURCE_EXHAUSTED", "2 images"):
        images.load("three", f"tar:{slow}")
    first.cancel()
    second.cancel()
    gone(images)
    assert set(images.list()) == {"busybox"}
    with refused("NOT_FOUND", "nothing"):  # there is room again
        images.load("three", tmp_path / "nowhere")


def test_the_deadline(make_daemon, tmp_path):
    images = Images(make_daemon(images={"import_timeout": "1s"}))
    huge = tmp_path / "huge.tar"
    with open(huge, "wb") as file:
        file.truncate(60 << 30)
    images.refuses("DEADLINE_EXCEEDED", "images.import_timeout", "mine", f"tar:{huge}")


# --- the daemon's end ---


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_the_daemon_ends_meanwhile(daemon, tmp_path, signum):
    images = Images(daemon)
    huge = tmp_path / "huge.tar"
    with open(huge, "wb") as file:
        file.truncate(60 << 30)
    call = images.begin("mine", f"tar:{huge}")
    while next(call).progress.step != "checking":
        pass
    assert os.listdir(images.path(".staging"))
    if signum == signal.SIGKILL:
        daemon.kill()
    else:
        daemon.stop()
    with pytest.raises(grpc.RpcError) as error:
        list(call)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    daemon.start()
    images = Images(daemon)
    gone(images)
    assert set(images.list()) == {"busybox"}
    assert subprocess.run(["pgrep", "-f", f"^sha256sum.*{huge}"]).returncode == 1


# --- the command ---


def test_the_command(images, ctl, rootfs):
    done = ok(ctl, "image", "import", "mine", os.path.basename(rootfs), cwd=os.path.dirname(rootfs))
    image = images.list()["mine"]
    assert done.stdout == f"mine {image.digest}\n" and done.stderr == ""
    assert image.source == str(rootfs)
    table = ok(ctl, "image", "ls").stdout.splitlines()
    assert table[0].split() == ["NAME", "DIGEST", "SIZE", "FILES", "SOURCE"]
    assert table[1].split() == ["busybox", "-", "-", "-", "-"] and table[2].split()[:2] == ["mine", image.digest[:19]]
    shown = json.loads(ok(ctl, "image", "ls", "--json").stdout)
    assert [i["name"] for i in shown] == ["busybox", "mine"] and shown[1]["files"] == image.files
    ok(ctl, "image", "rm", "mine")
    failed = ctl("image", "rm", "mine")
    assert failed.returncode == 1 and "not found" in failed.stderr
    failed = ctl("image", "import", "mine", "debian:12")
    assert failed.returncode == 1 and "docker://" in failed.stderr
    for image, way_out in {"mine": "image import", "debian:12": "image import", "/none": "directory"}.items():
        failed = ctl("create", "--image", image)
        assert failed.returncode == 1 and way_out in failed.stderr
