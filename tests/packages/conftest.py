"""What `make install` and `make deb` make, each once for all tests."""

import os
import subprocess
from pathlib import Path

import pytest

from harness import BUILD

pytest_plugins = ["daemon_fixtures"]

ROOT = Path(__file__).parents[2]
# What runs the tests is a make; its flags and variables are none of the makes that are tested.
ENVIRON = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}


def make(*args, build=BUILD, **kwargs):
    done = subprocess.run(["make", f"BUILD={build}", *args], cwd=ROOT, env=ENVIRON, text=True,
                          capture_output=True, timeout=500, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """Where everything is installed, as a package has it."""
    tree = tmp_path_factory.mktemp("tree")
    make("install", f"DESTDIR={tree}", "prefix=/usr")
    return tree


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """The .deb of a version that nothing in the tree names; the other files lie beside it."""
    build = tmp_path_factory.mktemp("deb")
    make("deb", "VERSION=7.8.9", build=build)
    found, = build.glob("deb/sandboxd_7.8.9_*.deb")
    return found
