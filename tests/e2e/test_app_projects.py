"""Real web projects in the development image, supervised: a Vite app of npm, and one in Python."""

import os
import shutil
from pathlib import Path

import pytest
from sandboxd.v1 import app_pb2

from harness import DEPS, wait_until
from test_app import APP, health, state

PACKAGES = DEPS / "vite"
PROJECT = Path(__file__).parent / "vite"

SERVER = """
import http.server, os
from words import WORD

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/crash":
            os._exit(3)
        self.send_response(200 if self.path in ("/", "/health") else 404)
        self.end_headers()
        self.wfile.write(WORD.encode())

print("serving", flush=True)
http.server.HTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def sandbox(api, runtime, dev_image):
    return api.create(runtime=runtime, image=dev_image)


def bring(daemon, sandbox, *trees, **files):
    """Directories' content, and texts, into the app's directory, before anything runs in it."""
    top = daemon.workspace(sandbox) / "workspace"
    for tree in trees:
        shutil.copytree(tree, top / "app", symlinks=True, dirs_exist_ok=True)
    for name, text in files.items():
        (top / "app").mkdir(parents=True, exist_ok=True)
        (top / "app" / name.replace("_", ".")).write_text(text)
    for path in [top, *top.rglob("*")]:
        os.lchown(path, 1000, 1000)


def begin(api, sandbox, timeout=60):
    """The app; what the host has put there is not told of under gVisor."""
    api.restart_app(sandbox.id)
    app = api.wait_for_app(sandbox.id, timeout=timeout)
    assert health(app) == "READY", app
    return app


def fetch(api, sandbox, path, port):
    return api.sh(sandbox.id, f"curl -sS http://127.0.0.1:{port}{path}")


def test_vite(api, sandbox, daemon):
    """Ready; an edit is seen by its live reload; killed, given up, repaired; built."""
    if not PACKAGES.with_suffix(".stamp").exists():
        pytest.skip("no packages of npm: run 'make deps'")
    bring(daemon, sandbox, PROJECT, PACKAGES)
    starts = begin(api, sandbox).web.starts
    assert "/src/main.js" in fetch(api, sandbox, "/", 5173)
    assert "'one'" in fetch(api, sandbox, "/src/main.js", 5173)
    # What was transformed is kept until the watcher tells of a change.
    api.sh(sandbox.id, f"sed -i s/one/two/ {APP}/src/main.js")
    wait_until(lambda: "'two'" in fetch(api, sandbox, "/src/main.js", 5173), "the edit is served", 20)
    wait_until(lambda: b"page reload" in api.follow(sandbox.id, "app.web", until_now=True).stdout,
               "the page is told to reload", 20)

    api.signal(sandbox.id, "app.web", 9)
    wait_until(lambda: api.app(sandbox.id).web.starts > starts, "it is started again", 20)
    assert health(api.wait_for_app(sandbox.id)) == "READY"
    assert "'two'" in fetch(api, sandbox, "/src/main.js", 5173)

    api.sh(sandbox.id, f"echo 'export default {{' >{APP}/vite.config.js")
    api.restart_app(sandbox.id, "web")
    app = api.wait_for_app(sandbox.id, timeout=120)
    assert (health(app), state(app.web)) == ("DOWN", "GIVEN_UP"), app
    assert "with exit code 1" in app.health_detail
    assert b"vite.config.js" in api.follow(sandbox.id, "app.web").stderr
    done = api.build_app(sandbox.id, timeout=120)
    assert done.build.status == app_pb2.APP_BUILD_STATUS_FAILED and "vite.config.js" in done.output
    api.sh(sandbox.id, f"echo 'export default {{}}' >{APP}/vite.config.js")
    begin(api, sandbox)
    done = api.build_app(sandbox.id, timeout=120)
    assert done.build.status == app_pb2.APP_BUILD_STATUS_PASSED, done
    assert "built in" in done.output
    assert "two" in api.sh(sandbox.id, f"cat {APP}/dist/assets/*.js")


def test_python(api, sandbox, daemon):
    """Ready, crashed by a request, given up after a bad edit, repaired by the next."""
    bring(daemon, sandbox, server_py=SERVER, words_py="WORD = 'one'\n",
          sandbox_yaml="version: 1\nweb: {command: [python3, server.py], port: 8000,"
                       " health_path: /health}\n")
    starts = begin(api, sandbox).web.starts
    assert fetch(api, sandbox, "/", 8000) == "one"
    assert api.run(sandbox.id, "curl", "-sS", "http://127.0.0.1:8000/crash").code == 52
    wait_until(lambda: api.app(sandbox.id).web.starts > starts, "it is started again", 20)
    app = api.wait_for_app(sandbox.id)
    assert health(app) == "READY" and app.web.runs[1].exit_code == 3
    assert api.follow(sandbox.id, app.web.runs[1].pid).stdout == b"serving\n"

    api.sh(sandbox.id, f"echo 'WORD = (' >{APP}/words.py")
    api.restart_app(sandbox.id, "web")
    app = api.wait_for_app(sandbox.id, timeout=120)
    assert (health(app), state(app.web)) == ("DOWN", "GIVEN_UP"), app
    assert b"SyntaxError" in api.follow(sandbox.id, "app.web").stderr
    api.sh(sandbox.id, f"echo \"WORD = 'two'\" >{APP}/words.py")
    begin(api, sandbox)
    assert fetch(api, sandbox, "/", 8000) == "two"
