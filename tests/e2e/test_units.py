"""The systemd units, as `systemd-analyze verify` sees them: unknown keys do not change its exit
status, so nothing may be said at all."""

import subprocess
from pathlib import Path

import pytest

from harness import BUILD

UNITS = Path(__file__).parents[2] / "packaging/systemd"
NAMES = sorted(path.name for path in UNITS.iterdir())


@pytest.fixture
def verify(tmp_path):
    """Of the units, with something added to each of them: what is said."""
    def run(added=""):
        for name in NAMES:
            text = (UNITS / name).read_text()
            for program in ("/usr/sbin/sandboxd", "/usr/bin/sandboxctl"):
                text = text.replace(program, str(BUILD / Path(program).name))
            (tmp_path / name).write_text(text + added)
        result = subprocess.run(["systemd-analyze", "verify", "--man=no",
                                 *[tmp_path / name for name in NAMES]],
                                capture_output=True, text=True, timeout=60)
        return result.stdout + result.stderr, result.returncode

    return run


def test_units_are_clean(verify):
    assert NAMES == ["sandboxd-drain.service", "sandboxd-metrics.service", "sandboxd.service",
                     "sandboxd.socket"]
    assert verify() == ("", 0)


def test_a_mistake_is_noticed(verify):
    said, _ = verify("\n[Service]\nKilMode=process\n")
    assert "KilMode" in said
