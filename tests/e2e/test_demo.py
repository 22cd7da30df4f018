"""The demo of README.md, as a newcomer runs it (without the installing and the building)."""

import subprocess
from pathlib import Path

from harness import BUILD, DEPS, ENVIRON


def test_demo():
    root = Path(__file__).parents[2]
    done = subprocess.run([root / "docs/demo.sh", BUILD, DEPS], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120, env=ENVIRON)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("runc", "runsc", "uid=1000", "nameserver 1.1.1.1", "Nothing is left"):
        assert word in done.stdout
