"""Every crash point of the code has its crash."""

import re
from pathlib import Path

import test_crash_points
import test_image_crashes
import test_migrate

TOP = Path(__file__).parents[2]


def test_crash_points_are_all_in_the_code():
    """A step that is new has its crash."""
    tried = {f for operation in test_crash_points.OPERATIONS.values() for f in operation.failpoints}
    tried |= {*test_migrate.FAILPOINTS, *test_image_crashes.IMPORT, *test_image_crashes.SEED}
    sources = [path for part in ("daemon", "base") for path in (TOP / part).glob("*.c")]
    there = {name for path in sources
             for name in re.findall(r'FAILPOINT\("([a-z_.]+)"\)', path.read_text())}
    assert sources and tried == there
