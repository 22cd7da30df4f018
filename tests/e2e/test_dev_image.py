"""The image that `make image-dev` makes: what an agent does in it, without a network."""

import json
import stat
import tarfile
from pathlib import Path

import pytest
from sandboxd.v1 import sandbox_pb2

from harness import BUILD, DEPS, wait_until

pytestmark = pytest.mark.oci_only("its image is a directory of the host")

IMAGE = DEPS / "image-dev"
ARCHIVE = BUILD / "image-dev.tar"
# No address of the internet: whatever is not on the sandbox's own loopback fails at once.
NPM = {"npm_config_registry": "http://127.0.0.1:4873", "npm_config_fetch_retries": "0",
       "npm_config_update_notifier": "false", "npm_config_audit": "false",
       "npm_config_fund": "false"}


@pytest.fixture(scope="module", autouse=True)
def image():
    """Whole: the stamp is written last."""
    if not IMAGE.with_suffix(".stamp").exists() or not ARCHIVE.exists():
        pytest.skip("no development image: run 'make image-dev'")


@pytest.fixture
def sandbox(api, runtime):
    return api.create(runtime=runtime, image=str(IMAGE))


def write(daemon, sandbox, tmp_path, **files):
    """Text files into the sandbox's workspace, which nothing runs in yet."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        daemon.bring(sandbox, tmp_path / name)


def test_user_and_places(api, sandbox):
    assert api.sh(sandbox.id, "id -un; id -gn; id -u; id -g; pwd") == \
        "sandbox\nsandbox\n1000\n1000\n/home/sandbox\n"
    assert api.sh(sandbox.id, "getent passwd sandbox") == \
        "sandbox:x:1000:1000:sandbox:/home/sandbox:/bin/bash\n"
    assert api.sh(sandbox.id, "stat -c %a /tmp; touch /tmp/x; getent hosts localhost >/dev/null") \
        == "1777\n"
    assert api.run(sandbox.id, "touch", "/opt/x").code == 1  # the image is everybody's
    assert api.sh(sandbox.id, "cat /etc/machine-id; cat /etc/hostname") == "sandbox\n"


def test_workspace(api, sandbox):
    """It begins with what the image has for it."""
    assert api.sh(sandbox.id, "cd /opt/sandbox-skel; for f in .*rc .profile .gitconfig; do"
                              " cmp $f ~/$f && stat -c %U ~/$f; done") == "sandbox\n" * 3
    assert api.sh(sandbox.id, "echo ${PATH##*:}") == "/home/sandbox/.local/bin\n"
    got = api.run(sandbox.id, "bash", "-lc", "echo $LANG ${PATH%%:*}; npm prefix --global")
    assert got.stdout == b"C.UTF-8 /home/sandbox/.local/bin\n/home/sandbox/.local\n", got


def test_shell_and_tools(api, sandbox):
    got = api.run(sandbox.id, "bash", "-c", 'a=(x "y z"); [[ ${#a[@]} == 2 ]] && echo "${a[1]^^}"')
    assert got.stdout == b"Y Z\n" and got.code == 0
    api.sh(sandbox.id, "mkdir src; echo 'needle ü' >src/a; echo hay >src/b; : >src/c.bin")
    assert api.sh(sandbox.id, "rg --line-number needle src") == "src/a:1:needle ü\n"
    assert api.run(sandbox.id, "rg", "absent", "src").code == 1
    assert api.sh(sandbox.id, """echo '{"a": [1, 2]}' | jq -c .a""") == "[1,2]\n"
    assert api.sh(sandbox.id, "tar -cJf src.tar.xz src && tar -tJf src.tar.xz | wc -l") == "4\n"
    assert api.sh(sandbox.id, "python3 -m zipfile -c s.zip src && unzip -qp s.zip src/b") == "hay\n"
    assert api.sh(sandbox.id, "for p in curl ssh less ps patch make g++ pip3 npx; do"
                              " command -v $p >/dev/null || echo no $p; done") == ""
    assert api.sh(sandbox.id, "LANG=C.UTF-8 locale charmap") == "UTF-8\n"


def test_compiler(api, sandbox, daemon, tmp_path):
    write(daemon, sandbox, tmp_path, **{
        "half.c": "int half(int n) { return n / 2; }\n",
        "main.c": "#include <math.h>\n#include <pthread.h>\n#include <stdio.h>\nint half(int);\n"
                  "int main(int argc, char **argv) {\n"
                  '\tprintf("%d %.1f\\n", half(84), sqrt(argc + 8.0));\n\treturn 0;\n}\n',
        "Makefile": "CFLAGS := -O2 -Wall -Werror\nmain: main.o half.o\n\t$(CC) -o $@ $^ -lm\n"})
    api.sh(sandbox.id, "make -j2")
    assert api.sh(sandbox.id, "./main") == "42 3.0\n"
    assert "up to date" in api.sh(sandbox.id, "make")
    api.sh(sandbox.id, "echo 'int half(int n) { return x; }' >half.c")
    broken = api.run(sandbox.id, "make")
    assert broken.code == 2 and b"half.c:1:" in broken.stderr


def test_python(api, sandbox):
    api.sh(sandbox.id, "python3 -m venv --system-site-packages v && v/bin/python -m pip --version",
           timeout=120)
    assert api.sh(sandbox.id, "v/bin/python -c 'import sys; print(sys.prefix)'") == \
        "/home/sandbox/v\n"
    api.sh(sandbox.id, "python3 -c 'import ssl, sqlite3, ctypes, lzma'")
    # The image's own modules are compiled: they cannot be, once it is read-only.
    assert api.sh(sandbox.id, "python3 -v -c 'import json' 2>&1 | grep -c 'matches.*json/__init__'"
                  ) == "1\n"


def test_web_server(api, sandbox):
    api.sh(sandbox.id, "mkdir www; head -c 3000000 /dev/urandom >www/data; echo hello >www/page")
    api.spawn(sandbox.id, "python3", "-m", "http.server", "8000", "--bind", "127.0.0.1",
              "--directory", "www")
    fetch = "curl -sSf --retry 50 --retry-connrefused --retry-delay 1 http://127.0.0.1:8000"
    assert api.sh(sandbox.id, f"{fetch}/page") == "hello\n"
    api.sh(sandbox.id, f"{fetch}/data | cmp - www/data")
    assert api.run(sandbox.id, "sh", "-c", f"{fetch}/absent").code == 22


def test_git(api, sandbox):
    def git(script):
        return api.sh(sandbox.id, f"set -e; {script}")

    git("git init -q origin; cd origin; echo one >file; git add file; git commit -qm first")
    assert git("cd origin; git branch --show-current; git log --format='%an: %s'") == \
        "main\nsandbox: first\n"
    git("git clone -q origin local; cmp origin/file local/file")

    api.spawn(sandbox.id, "git", "daemon", "--listen=127.0.0.1", "--export-all", "--reuseaddr",
              "--base-path=/home/sandbox", "/home/sandbox/origin")
    there = "git://127.0.0.1/origin"
    wait_until(lambda: api.run(sandbox.id, "git", "ls-remote", there).code == 0,
               "the git server answers", 20)
    git(f"git clone -q {there} remote; cmp origin/file remote/file")
    git("cd origin; echo two >>file; git commit -qam second")
    assert git("cd remote; git pull -q; cat file") == "one\ntwo\n"
    assert api.run(sandbox.id, "git", "clone", f"{there}-absent").code == 128


def test_node(api, sandbox):
    got = api.run(sandbox.id, "node", "-e",
                  "setTimeout(() => console.log(require('os').userInfo().username, 6 * 7), 5)")
    assert got.stdout == b"sandbox 42\n" and got.code == 0, got
    assert api.run(sandbox.id, "node", "-e", "process.exit(3)").code == 3


def test_npm(api, sandbox, daemon, tmp_path):
    """A package and what it depends on, from a tarball and from a registry."""
    def npm(script):
        return api.sh(sandbox.id, f"set -e; {script}", env=NPM, timeout=120)

    for name, depends, main in (
            ("words", {}, "module.exports = 'hello'"),
            ("greet", {"words": "^1.0.0"}, "console.log(require('words'), 'from npm')")):
        package = {"name": name, "version": "1.2.0", "main": "index.js", "dependencies": depends}
        write(daemon, sandbox, tmp_path, **{"package.json": json.dumps(package), "index.js": main})
        npm(f"mkdir {name}; mv package.json index.js {name}; npm pack --silent ./{name}")
    npm("mkdir a; cd a; npm init -y; npm install --offline ../words-1.2.0.tgz")
    assert npm("cd a; node -p \"require('words')\"") == "hello\n"

    daemon.bring(sandbox, Path(__file__).parent / "registry.py")
    server = api.spawn(sandbox.id, "python3", "registry.py", "4873", "words-1.2.0.tgz",
                       "greet-1.2.0.tgz")
    wait_until(lambda: api.run(sandbox.id, "curl", "-sf", "127.0.0.1:4873/greet").code == 0,
               "the registry answers", 20)
    npm("rm -r .npm")  # a cache, which knows the tarballs by now
    npm("mkdir b; cd b; npm init -y; npm install greet")
    assert npm("cd b; node -e \"require('greet')\"") == "hello from npm\n"
    lock = json.loads(npm("cat b/package-lock.json"))["packages"]["node_modules/words"]
    assert lock["version"] == "1.2.0" and lock["resolved"].startswith(NPM["npm_config_registry"])
    npm("cd b; rm -r node_modules; npm ci; node -e \"require('greet')\"")

    absent = api.run(sandbox.id, "npm", "install", "absent", env=NPM)
    assert absent.code == 1 and b"E404" in absent.stderr
    asked = api.follow(sandbox.id, server, until_now=True).stdout.decode()
    assert "GET /greet " in asked and "GET /words/-/words-1.2.0.tgz " in asked


def test_archive():
    """It holds the root file system, and nothing that an import would refuse."""
    names = []
    with tarfile.open(ARCHIVE) as tar:
        for member in tar:
            names.append(member.name)
            there = IMAGE / member.name
            status = there.lstat()
            assert member.isreg() or member.isdir() or member.issym() or member.islnk(), member
            assert not member.mode & (stat.S_ISUID | stat.S_ISGID) or member.isdir(), member
            assert (member.uid, member.gid) == (status.st_uid, status.st_gid), member
            assert member.mode == stat.S_IMODE(status.st_mode) or member.issym(), member
    assert names == sorted(names, key=lambda name: name.split("/"))
    assert len(names) == 1 + sum(1 for _ in IMAGE.rglob("*"))
    assert {f"./{path}" for path in ("etc/passwd", "opt/sandbox-skel/.profile", "usr/bin/npm",
                                     "run/sandboxd/runtimed")} <= set(names)


def test_imported(api, ctl, runtime):
    """The archive, as everybody's image."""
    done = ctl("image", "import", "dev", str(ARCHIVE), timeout=300)
    assert done.returncode == 0 and done.stdout.startswith("dev sha256:"), done.stderr
    sandbox = api.create(runtime=runtime, image="dev")
    assert api.sh(sandbox.id, "node -p '6 * 7'; python3 -c 'print(6 * 7)'") == "42\n42\n"
    assert api.sh(sandbox.id, "set -e; git init -q a; cd a; echo one >file; git add file;"
                              " git commit -qm first; git log --format='%an: %s'") == \
        "sandbox: first\n"


# Root's file, and one in a directory of its own; its script does what those of libraries do.
PACKAGE = """
set -e
mkdir -p repo/box/DEBIAN repo/box/usr/bin repo/box/var/lib/box
printf '%s\n' 'Package: box' 'Version: 1' 'Architecture: all' 'Maintainer: a <a@b>' \
    'Description: box' >repo/box/DEBIAN/control
printf '#!/bin/sh\nldconfig\n' >repo/box/DEBIAN/postinst
printf '#!/bin/sh\necho boxed\n' >repo/box/usr/bin/box
chmod 755 repo/box/DEBIAN/postinst repo/box/usr/bin/box
cd repo
dpkg-deb --root-owner-group --build box box_1_all.deb >/dev/null
dpkg-scanpackages . >Packages 2>/dev/null
echo "deb [trusted=yes] file:$PWD ./" >/etc/apt/sources.list
"""


def test_packages_in_a_root_of_its_own(api, runtime):
    """As an agent installs them: apt, dpkg and npm into the system's directories; they stay."""
    box = api.create(runtime=runtime, image=str(IMAGE), rootfs=sandbox_pb2.ROOTFS_MODE_OVERLAY)
    api.sh(box.id, PACKAGE)
    api.sh(box.id, "apt-get update && apt-get install -y box && box | grep -qx boxed", timeout=120)
    assert api.sh(box.id, "dpkg-query -W box; dpkg --verify box") == "box\t1\n"
    api.sh(box.id, """mkdir tool && cd tool && echo '#!/bin/sh\necho tooled' >run.sh &&
                      echo '{"name": "tool", "version": "1.0.0", "bin": "run.sh"}' >package.json &&
                      chmod 755 run.sh && npm install --global --prefix /usr/local "$(npm pack)" """,
           env=NPM)
    api.stop(box.id)
    api.start(box.id)
    assert api.sh(box.id, "box; tool") == "boxed\ntooled\n"
    api.sh(box.id, "apt-get remove -y box")
    assert api.run(box.id, "which", "box").code == 1
    other = api.create(runtime=runtime, image=str(IMAGE))
    assert api.run(other.id, "which", "tool").code == 1
