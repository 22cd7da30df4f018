"""make install and make uninstall."""

import re
import subprocess

import pytest

from conftest import ROOT, make

PROGRAMS = ["usr/sbin/sandboxd", "usr/bin/sandboxctl", "usr/libexec/sandboxd/runtimed"]
FILES = [
    "etc/sandboxd/sandboxd.yaml",
    "usr/lib/sysusers.d/sandboxd.conf",
    "usr/lib/tmpfiles.d/sandboxd.conf",
    "usr/share/bash-completion/completions/sandboxctl",
    "usr/share/doc/sandboxd/HACKING.md",
    "usr/share/doc/sandboxd/LICENSE",
    "usr/share/doc/sandboxd/README.md",
    "usr/share/doc/sandboxd/docs/operations.md",
    "usr/share/doc/sandboxd/examples/python/example.py",
    "usr/share/man/man1/sandboxctl.1",
    "usr/share/man/man5/sandboxd.yaml.5",
    "usr/share/man/man8/sandboxd.8",
    "usr/share/sandboxd/proto/sandboxd/v1/sandbox.proto",
    "usr/share/zsh/site-functions/_sandboxctl",
]


def files(tree):
    return {str(f.relative_to(tree)) for f in tree.rglob("*") if not f.is_dir()}


def test_everything_is_there(tree):
    units = {f"usr/lib/systemd/system/{f.name}" for f in (ROOT / "packaging/systemd").iterdir()}
    assert {u.rpartition("/")[2] for u in units} >= {"sandboxd.service", "sandboxd.socket",
                                                    "sandboxd-drain.service"}
    watched = {f"usr/share/sandboxd/{f.relative_to(ROOT / 'packaging')}"
               for pattern in ("grafana/*.json", "prometheus/*.rules.yml")
               for f in (ROOT / "packaging").glob(pattern)}
    assert files(tree) >= units | watched | {*PROGRAMS, *FILES}
    for name in files(tree):
        assert (tree / name).stat().st_mode & 0o777 == (0o755 if name in PROGRAMS else 0o644), name
    assert (tree / "etc/sandboxd/conf.d").is_dir()


def test_the_installed_daemon_makes_a_sandbox(tree, make_daemon):
    """It finds the supervisor where `make install` put it."""
    daemon = make_daemon(start=False)
    daemon.program = tree / "usr/sbin/sandboxd"
    daemon.start()
    box = daemon.api.create(runtime="runc")
    assert daemon.api.sh(box.id, "echo $((6 * 7))") == "42\n"


def test_the_example_is_a_configuration(tree):
    checked = subprocess.run([tree / "usr/sbin/sandboxd", "--check-config", "--config",
                              tree / "etc/sandboxd/sandboxd.yaml"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("given, sbin, bin", [
    ([], "/opt/sandboxd/sbin", "/opt/sandboxd/bin"),
    (["sbindir=/usr/bin", "bindir=/opt/bin"], "/usr/bin", "/opt/bin")])
def test_units_name_the_programs_where_they_are(tmp_path, given, sbin, bin):
    make("install", f"DESTDIR={tmp_path}", "prefix=/opt/sandboxd", *given)
    named = set()
    for unit in (tmp_path / "opt/sandboxd/lib/systemd/system").iterdir():
        for line in re.findall(r"^Exec\w+=(.*)", unit.read_text(), re.M):
            named |= set(re.findall(r"/\S*bin/sandbox\w+", line))
    assert named == {f"{sbin}/sandboxd", f"{bin}/sandboxctl"}
    assert all((tmp_path / name[1:]).exists() for name in named)


def test_clients_can_be_generated(tree, tmp_path):
    """Of what is installed alone."""
    proto = tree / "usr/share/sandboxd/proto"
    subprocess.run(["protoc", f"-I{proto}", f"--python_out={tmp_path}",
                    *proto.rglob("*.proto")], check=True)


def test_uninstall_leaves_what_an_operator_wrote(tmp_path):
    make("install", f"DESTDIR={tmp_path}")
    make("uninstall", f"DESTDIR={tmp_path}")
    assert files(tmp_path) == set()
    config = tmp_path / "etc/sandboxd/sandboxd.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("runtime: runsc\n")
    make("install", f"DESTDIR={tmp_path}")
    assert config.read_text() == "runtime: runsc\n"
    make("uninstall", f"DESTDIR={tmp_path}")
    assert files(tmp_path) == {"etc/sandboxd/sandboxd.yaml"}
