"""The log of the daemon: as JSON, and in a journal that the test plays."""

import json
import os
import re
import socket

import grpc
import pytest

from harness import BUILD, ULID, refused

ENDS = {"Create": "OK", "Delete": "OK", "Start": "NOT_FOUND"}  # of the calls below, in this order


def do_something(api):
    """Makes a sandbox and removes it; then what fails. The sandbox's id."""
    made = api.create()
    api.delete(made.id)
    with refused(grpc.StatusCode.NOT_FOUND):
        api.run("nobody", "true")
    return made.id


def test_json(make_daemon):
    daemon = make_daemon(log={"level": "info", "format": "json"})
    id = do_something(daemon.api)
    lines = [json.loads(line) for line in daemon.log().splitlines()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
               for line in lines)
    moves = [line["message"] for line in lines
             if line["level"] == "info" and line.get("sandbox_id") == id]
    assert moves == [f"sandbox {id}: {what}"
                     for what in ("creating -> running", "running -> deleting", "gone")]
    assert {line["runtime"] for line in lines if line.get("message") in moves} == {"runc"}
    audited = [line for line in lines if line["level"] == "audit"]
    assert {line["method"].split("/")[1]: line["status"] for line in audited} == ENDS
    assert [line.get("sandbox_id") for line in audited] == [id, id, None]
    assert {(line["uid"], line["pid"]) for line in audited} == {(os.getuid(), os.getpid())}
    assert all(isinstance(line["duration_ms"], int) for line in audited)
    assert all(re.fullmatch(ULID, line["request_id"]) for line in audited)


@pytest.fixture
def journal(tmp_path):
    """The socket of a journal, /run/systemd/journal/socket of whoever sees the directory there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "socket"))
        s.setblocking(False)
        yield s


def entries(journal):
    """What has come, each as a dictionary. https://systemd.io/JOURNAL_NATIVE_PROTOCOL/"""
    while True:
        try:
            text = journal.recv(65536).decode()
        except BlockingIOError:
            return
        yield dict(line.split("=", 1) for line in text.splitlines())


@pytest.fixture
def program(tmp_path):
    """sandboxd with a /run of its own, in which a directory of the test's is the journal's."""
    def make(directory):
        inside = tmp_path / "inside"
        inside.write_text("#!/bin/bash\nset -e\n"
                          "mount -t tmpfs none /run\n"
                          "mkdir -p /run/systemd/journal\n"
                          f"mount --bind {directory} /run/systemd/journal\n"
                          "JOURNAL_STREAM=$(stat -Lc %d:%i /dev/stderr)\n"
                          "export JOURNAL_STREAM\n"
                          f'exec {BUILD}/sandboxd "$@"\n')
        outside = tmp_path / "sandboxd"
        outside.write_text(f'#!/bin/bash\nexec unshare --mount bash {inside} "$@"\n')
        outside.chmod(0o755)
        return outside

    return make


def test_without_a_journal(make_daemon, program, tmp_path):
    """Nothing is lost: lines go to standard error, with the priority that systemd reads."""
    (tmp_path / "empty").mkdir()
    daemon = make_daemon(program=program(tmp_path / "empty"), log={"format": "journal"})
    id = do_something(daemon.api)
    assert f"<6>sandbox {id}: gone\n" in daemon.log()
    assert re.search(rf"^<5>uid \d+, pid \d+: sandboxd\.v1\.SandboxService/Delete of sandbox {id}: OK",
                     daemon.log(), re.MULTILINE)


def test_journal(make_daemon, program, journal, tmp_path):
    """Standard error is the journal: lines go there with their fields."""
    daemon = make_daemon(program=program(tmp_path), log={"level": "info"})
    id = do_something(daemon.api)
    came = list(entries(journal))
    assert all(entry["SYSLOG_IDENTIFIER"] == "sandboxd" for entry in came)
    moves = [entry for entry in came if entry.get("SANDBOX_ID") == id and "RUNTIME" in entry]
    assert [entry["MESSAGE"] for entry in moves] == [
        f"sandbox {id}: {what}" for what in ("creating -> running", "running -> deleting", "gone")]
    assert {(entry["RUNTIME"], entry["PRIORITY"]) for entry in moves} == {("runc", "6")}
    audited = [entry for entry in came if entry["PRIORITY"] == "5"]
    assert {entry["METHOD"].split("/")[1]: entry["STATUS"] for entry in audited} == ENDS
    assert {(entry["UID"], entry["PID"]) for entry in audited} == {
        (str(os.getuid()), str(os.getpid()))}
    assert all({"REQUEST_ID", "DURATION_MS"} <= set(entry) for entry in audited)
    assert daemon.log() == ""  # nothing twice
