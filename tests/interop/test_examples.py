"""The examples, which docs/api.md shows, do what they say, each with the stock client of its
language."""

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import BUILD, ENVIRON, ULID, Daemon

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
OUT = BUILD / "interop" / "examples"

NEEDS = {
    "python": [],
    "node": ["node", "npm"],
    "go": ["go", "protoc"],
    "rust": ["cargo", "protoc"],
    "grpcurl": ["go"],
}
if not shutil.which("cargo"):
    del NEEDS["rust"]  # no package that `make deps` installs: without it there is no such test


@pytest.fixture(scope="module")
def build():
    """Builds an example; returns the command that runs it."""
    def build(language):
        missing = [tool for tool in NEEDS[language] if not shutil.which(tool)]
        if missing:
            pytest.skip(f"no {' and no '.join(missing)} on this machine")
        done = subprocess.run([EXAMPLES / "build.sh", language, OUT], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=540,
                              env=ENVIRON | {"PYTHON": sys.executable})
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return build


@pytest.fixture
def daemon():
    daemon = Daemon(runtime="runc")
    try:
        daemon.start()
        yield daemon
        assert daemon.finish() == []
    finally:
        daemon.destroy()


def run(command, *args, **env):
    return subprocess.run([*command, *args], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60, env=ENVIRON | env)


@pytest.fixture(params=["argument", "variable"])
def run_with_socket(request, daemon):
    """Both ways to say which socket."""
    def run_with_socket(command, **env):
        if request.param == "argument":
            return run(command, daemon.socket, **env)
        return run(command, SANDBOXD_SOCKET=str(daemon.socket), **env)

    return run_with_socket


@pytest.mark.parametrize("language", [name for name in NEEDS if name != "grpcurl"])
def test_example(build, daemon, run_with_socket, language):
    done = run_with_socket(build(language))
    assert done.returncode == 0, done.stderr
    created = re.fullmatch(rf"created ({ULID})\n"
                           r"to stdout\n"
                           r"exit status 3\n"
                           r"(?:NOT_FOUND|NotFound): no sandbox 'no-such-box'; .*\n"
                           r"deleted\n", done.stdout)
    assert created, done.stdout
    assert done.stderr == "to stderr\n"
    assert daemon.ids() == {created.group(1)}
    assert list(daemon.api.list()) == []


def json_documents(text):
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        yield document
        text = text[end:]


def test_grpcurl(build, daemon, run_with_socket):
    """It has the types from the daemon, by reflection."""
    done = run_with_socket(build("grpcurl"))
    assert done.returncode == 0, done.stderr
    output, refused, deleted = re.fullmatch(r"(.*)\n(grpcurl: status \d+)\n\{\}\n(.*)\n",
                                            done.stdout, re.S).groups()
    created, *events = json_documents(output)
    assert created["sandbox"]["state"] == "SANDBOX_STATE_RUNNING"
    assert daemon.ids() == {created["sandbox"]["id"]}
    assert [next(iter(event)) for event in events[:1] + events[-1:]] == ["start", "end"]
    data = {event["data"]["stream"]: base64.b64decode(event["data"]["data"])
            for event in events[1:-1]}
    assert data == {"OUTPUT_STREAM_STDOUT": b"to stdout\n", "OUTPUT_STREAM_STDERR": b"to stderr\n"}
    assert events[-1]["end"]["exitCode"] == 3
    assert refused == "grpcurl: status 69"  # 64 and the code, NOT_FOUND is 5
    assert "Code: NotFound" in done.stderr and "no sandbox 'no-such-box'" in done.stderr
    assert deleted == "deleted"
    assert list(daemon.api.list()) == []


@pytest.mark.parametrize("language", NEEDS)
def test_without_a_daemon(build, tmp_path, language):
    """An example that reached nothing does not end as if it had."""
    done = run(build(language), tmp_path / "no-such-socket")
    assert done.returncode != 0
    assert "created" not in done.stdout and "deleted" not in done.stdout
