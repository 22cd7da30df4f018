"""Prometheus' text, read."""

import os
import re
import subprocess
from pathlib import Path

PROMTOOL = Path(os.environ.get("DEPS", "build/deps")).resolve() / "prometheus/usr/bin/promtool"
HEAD = re.compile(r"# (HELP|TYPE) (\w+) (.*)")
SAMPLE = re.compile(r'(\w+)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'(\w+)="((?:\\.|[^"\\])*)"')


class Metrics:
    """families: name -> (type, help). samples: (name, labels) -> value."""

    def __init__(self, text):
        self.text = text
        self.families, self.samples = {}, {}
        helps = {}
        for line in text.splitlines():
            if head := HEAD.fullmatch(line):
                what, name, rest = head.groups()
                if what == "HELP":
                    helps[name] = rest
                else:
                    assert name not in self.families
                    self.families[name] = (rest, helps[name])
                continue
            name, labels, value = SAMPLE.fullmatch(line).groups()
            key = name, frozenset(LABEL.findall(labels or ""))
            assert key not in self.samples, line
            self.samples[key] = float(value)

    def all(self, name, **labels):
        """The samples of this name that have these labels."""
        wanted = set(labels.items())
        return {key[1]: value for key, value in self.samples.items()
                if key[0] == name and wanted <= key[1]}

    def get(self, name, **labels):
        """The sum of them; there is one at least."""
        found = self.all(name, **labels)
        assert found, f"no {name} with {labels}"
        return sum(found.values())

    def names(self):
        """Of all samples, as an expression may use them."""
        return {name for name, _ in self.samples}

    def labels(self, family):
        """The names of its labels, without those of a histogram's buckets."""
        return {label for (name, labels) in self.samples if self.family_of(name) == family
                for label, _ in labels} - {"le"}

    def family_of(self, name):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        return base if self.families.get(base, [""])[0] == "histogram" else name

    def operations(self, kind, result="ok"):
        return self.get("sandboxd_operations_total", kind=kind, result=result)

    def rpcs(self, method, code="OK", service="sandboxd.v1.SandboxService"):
        """0 for a code that never occurred."""
        return sum(self.all("sandboxd_rpcs_total", service=service, method=method,
                            code=code).values())


def promtool(*args, **kwargs):
    return subprocess.run([PROMTOOL, *args], capture_output=True, text=True, timeout=60, **kwargs)
