"""The Debian package."""

import hashlib
import os
import re
import subprocess

import pytest

from conftest import ROOT, make

VERSION = "7.8.9"


def said(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def unpacked(package, tmp_path_factory):
    """Its files, and what it tells dpkg in DEBIAN/."""
    directory = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "--raw-extract", package, directory], check=True)
    return directory


def test_lintian_has_nothing_to_say(package):
    changes, = package.parent.glob("*.changes")
    checked = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", changes],
                             capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr


def test_the_programs_have_the_version(unpacked):
    assert said(unpacked / "usr/bin/sandboxctl", "--version") == f"sandboxctl {VERSION}\n"
    assert said(unpacked / "usr/sbin/sandboxd", "--version") == f"sandboxd {VERSION}\n"


def test_the_version_is_one_everywhere():
    """Of the Makefile, and of the package where none is given."""
    makefile = re.search(r"^VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.M).group(1)
    changelog = ROOT / "packaging/debian/changelog"
    assert said("dpkg-parsechangelog", "--file", changelog, "--show-field", "Version").strip() \
        == makefile


def test_what_it_needs(package):
    field = lambda name: said("dpkg-deb", "--field", package, name).strip()
    needs = re.split(r",\s*", field("Depends"))
    assert "runc | crun" in needs
    assert any("sysusers" in need for need in needs)
    assert {need.split()[0] for need in needs} >= {"libc6", "libnghttp2-14", "libsqlite3-0"}
    assert set(field("Recommends").split(", ")) == {
        "busybox-static", "containernetworking-plugins", "nftables", "runsc", "skopeo", "umoci"}
    assert set(field("Suggests").split(", ")) == {
        "docker.io", "libcurl4 | libcurl4t64 | libcurl3-gnutls | libcurl3t64-gnutls",
        "openssh-client", "prometheus"}


def test_what_building_needs_is_named():
    """For each library of the Makefile the package that has it."""
    libraries = re.search(r"^PKGS\s*:=(.*)", (ROOT / "Makefile").read_text(), re.M).group(1).split()
    control = (ROOT / "packaging/debian/control").read_text()
    named = set(re.findall(r"^ ([a-z0-9.+-]+-dev)\b", control, re.M))
    for library in libraries:
        directory = said("pkg-config", "--variable=pcfiledir", library).strip()
        owner = said("dpkg", "--search", f"{directory}/{library}.pc").split(":")[0]
        assert owner in named, f"{library} is {owner}'s, which Build-Depends does not name"


def test_an_operator_s_configuration_is_kept(unpacked):
    conffiles = (unpacked / "DEBIAN/conffiles").read_text().split()
    assert conffiles == ["/etc/sandboxd/sandboxd.yaml"]


def test_completion_and_pages_are_where_debian_looks(unpacked):
    share = unpacked / "usr/share"
    assert (share / "zsh/vendor-completions/_sandboxctl").exists()
    assert (share / "bash-completion/completions/sandboxctl").exists()
    for page in "man1/sandboxctl.1.gz", "man5/sandboxd.yaml.5.gz", "man8/sandboxd.8.gz":
        assert (share / "man" / page).exists()


@pytest.fixture
def run_script(unpacked, tmp_path):
    """Runs a maintainer script as if systemd ran here; what it asks of systemd is told instead."""
    calls = tmp_path / "calls"
    for name in ("deb-systemd-invoke", "deb-systemd-helper", "systemctl", "systemd-sysusers",
                 "systemd-tmpfiles", "sandboxctl"):
        stub = tmp_path / name
        stub.write_text(f'#!/bin/sh\necho {name} "$@" $SANDBOXD_SOCKET >>{calls}\n')
        stub.chmod(0o755)

    def run(script, *args, **environ):
        text = (unpacked / "DEBIAN" / script).read_text().replace("/run/systemd/system", "/")
        calls.write_text("")
        subprocess.run(["sh", "-c", text, script, *args], check=True,
                       env={"PATH": f"{tmp_path}:{os.environ['PATH']}"} | environ)
        told = [line.split() for line in calls.read_text().splitlines()]
        return [(verb, *sorted(words)) for name, verb, *words in told
                if name in ("deb-systemd-invoke", "sandboxctl")]
    return run


def test_an_installation_starts_all(run_script):
    assert sorted(run_script("postinst", "configure")) == [
        ("start", "sandboxd-drain.service", "sandboxd.socket"), ("start", "sandboxd.service")]


def test_an_upgrade_restarts_the_daemon_and_nothing_else(unpacked, run_script):
    """A restarted drain unit would stop every sandbox, a restarted socket refuse clients."""
    assert run_script("prerm", "upgrade", "8.0") == []
    assert not (unpacked / "DEBIAN/preinst").exists()
    told = run_script("postinst", "configure", "7.0")
    # A unit that the operator has enabled himself.
    told = [call for call in told if call != ("try-restart", "sandboxd-metrics.service")]
    assert sorted(told) == [
        ("restart", "sandboxd.service"), ("start", "sandboxd-drain.service", "sandboxd.socket")]


def test_a_removal_drains_first(run_script):
    """While the daemon is there to do it; then nobody can start the daemon any more."""
    start, drain, stop, *_ = run_script("prerm", "remove")
    assert start == ("start", "sandboxd.service")
    assert drain[0] == "drain"
    assert {"stop", "sandboxd.service", "sandboxd.socket", "sandboxd-drain.service"} <= set(stop)


def test_a_removal_drains_this_host(run_script):
    """Whichever the one who removes it works with."""
    told = run_script("prerm", "remove", SANDBOXD_SOCKET="ssh://elsewhere")
    assert told == run_script("prerm", "remove")
    assert ("drain", "--timeout", "90s") in told


def test_the_same_tree_gives_the_same_bytes(package, tmp_path):
    make("deb", f"VERSION={VERSION}", build=tmp_path / "somewhere-else")
    again = tmp_path / "somewhere-else/deb" / package.name
    assert hashlib.sha256(again.read_bytes()).digest() \
        == hashlib.sha256(package.read_bytes()).digest()
