"""The Compose file is one that Compose takes. What it starts is tried by hand: that needs a Docker
Engine (docs/operations.md)."""

import re
import shutil
import subprocess

import pytest
import yaml

from conftest import ROOT
from harness import ENVIRON


@pytest.fixture
def config(tmp_path):
    """The file as Compose understands it, with these lines in .env."""
    shutil.copy(ROOT / "packaging/docker-compose.yml", tmp_path)

    def config(*lines):
        (tmp_path / ".env").write_text("".join(f"{line}\n" for line in lines))
        done = subprocess.run(["docker-compose", "config"], cwd=tmp_path, env=ENVIRON,
                              capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return yaml.safe_load(done.stdout)["services"]["sandboxd"]
    return config


def test_without_settings_nothing_is_overridden(config):
    service = config()
    assert set(service["environment"].values()) == {""}
    assert service["image"] == "sandboxd"


def test_settings(config):
    service = config("SANDBOXD_RUNTIME=runsc", "SANDBOXD_DNS=9.9.9.9, 1.1.1.1",
                     "SANDBOXD_IMAGE=registry.example/sandboxd:2", "SANDBOXD_BASE=debian:12-slim")
    assert service["environment"]["SANDBOXD_RUNTIME"] == "runsc"
    assert service["environment"]["SANDBOXD_DNS"] == "9.9.9.9, 1.1.1.1"
    assert service["image"] == "registry.example/sandboxd:2"
    assert service["build"]["args"]["BASE"] == "debian:12-slim"


def test_the_example_settings_are_the_file_s(config):
    example = (ROOT / "packaging/.env.example").read_text()
    known = set(re.findall(r"\$\{(\w+)", (ROOT / "packaging/docker-compose.yml").read_text()))
    assert set(re.findall(r"^#(\w+)=", example, re.M)) == known
    config(*re.findall(r"^#(\w+=.*)", example, re.M))


def test_sandboxes_can_outlive_the_container(config):
    service = config()
    assert service["pid"] == "host" and service["privileged"] is True
    recipe = (ROOT / "packaging/Dockerfile").read_text()
    assert '"nsenter", "--target", "1", "--cgroup"' in recipe
    mounted = {v if isinstance(v, str) else f"{v['source']}:{v['target']}"
               for v in service["volumes"]}
    for path in "/sys/fs/cgroup", "/var/lib/sandboxd", "/run/sandboxd":
        assert any(m.startswith(f"{path}:{path}") for m in mounted), mounted
