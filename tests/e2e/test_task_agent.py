"""A real coding agent, opencode, without a screen: it works in a sandbox on a prompt, with a stand-in
for a model on the sandbox's own loopback."""

import json
from pathlib import Path

import pytest
from sandboxd.v1 import task_pb2

from harness import DEPS, wait_until
from test_task import RUNTIMES, changed, git_sandbox, phases, said, status  # noqa: F401

PACKAGES = DEPS / "agent"
SERVER = Path(__file__).parent / "model_server.py"
PORT = 8099
MODEL = {"npm": "@ai-sdk/openai-compatible", "models": {"m": {"name": "m", "tool_call": True}},
         "options": {"baseURL": f"http://127.0.0.1:{PORT}/v1", "apiKey": "{env:MODEL_KEY}"}}
CONFIG = {"provider": {"stand-in": MODEL}, "model": "stand-in/m", "small_model": "stand-in/m"}
# No address of the internet: there is none to be reached.
ENV = {"OPENCODE_CONFIG_CONTENT": json.dumps(CONFIG), "OPENCODE_DISABLE_AUTOUPDATE": "1",
       "OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
       "OPENCODE_DISABLE_LSP_DOWNLOAD": "1", "MODEL_KEY": "sk-0123456789",
       "PATH": "/home/sandbox/bin:/usr/local/bin:/usr/bin:/bin"}


@RUNTIMES
def test_opencode(daemon, api, git_sandbox):  # noqa: F811
    """Prompt in, file written, messages, tools and tokens out, and the result right."""
    program = next(PACKAGES.glob("node_modules/opencode-*/bin/opencode"), None)
    if not program or not PACKAGES.with_suffix(".stamp").exists():
        pytest.skip("no agent of npm: run 'make deps'")
    box = git_sandbox.id
    api.sh(box, "mkdir -p bin workspace/app")
    daemon.bring(git_sandbox, program, SERVER)
    api.sh(box, "mv opencode bin/; chmod 755 bin/opencode")
    api.spawn(box, "python3", SERVER.name, str(PORT), "/home/sandbox/workspace/app/hello.txt")
    wait_until(lambda: api.run(box, "curl", "-s", f"http://127.0.0.1:{PORT}/").code == 0, "the model")

    events, task = api.run_task(box, "Write hello.txt.", agent="opencode", env=ENV,
                                timeout_millis=180000)
    assert status(task) == "SUCCEEDED", events
    assert phases(events)[:2] == ["CHECKPOINT", "AGENT_RUNNING"]
    tool, = [e.tool for e in events if e.HasField("tool")]
    assert tool.name == "write" and tool.finished and not tool.failed
    assert json.loads(tool.input) == {"filePath": "/home/sandbox/workspace/app/hello.txt",
                                      "content": "made by a stand-in\n"}
    assert said(events) == ["All done."] and task.result.final_message == "All done."
    # Two questions to the model, each of 100 tokens, which answered with 20.
    assert (task.result.usage.input_tokens, task.result.usage.output_tokens) == (200, 40)
    assert changed(events) == {"hello.txt": "ADDED"} and task.result.files_added == 1
    assert api.sh(box, "cat workspace/app/hello.txt") == "made by a stand-in\n"
    assert api.revert_task(box, task.id) == (0, 1)
    assert api.sh(box, "ls workspace/app") == ""


@RUNTIMES
def test_opencode_without_a_model(daemon, api, git_sandbox):  # noqa: F811
    """What the agent says of its failure is the task's."""
    program = next(PACKAGES.glob("node_modules/opencode-*/bin/opencode"), None)
    if not program or not PACKAGES.with_suffix(".stamp").exists():
        pytest.skip("no agent of npm: run 'make deps'")
    box = git_sandbox.id
    daemon.bring(git_sandbox, program)
    api.sh(box, "mkdir -p bin; mv opencode bin/; chmod 755 bin/opencode")
    _, task = api.run_task(box, "Hello.", agent="opencode", model="stand-in/absent", env=ENV,
                           timeout_millis=180000)
    assert status(task) == "FAILED"
    assert task.result.failure == task_pb2.TASK_FAILURE_AGENT_FAILED and task.result.error
