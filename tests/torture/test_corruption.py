"""A damaged database: either it serves every sandbox, or it says what is wrong and changes nothing.
Never is a sandbox touched."""

import os
import random
import shutil
import sqlite3
from collections import Counter, namedtuple
from contextlib import closing

import grpc
import pytest

from form import LONG, SEED
from harness import find_runtime, identity, state_name, wait_until
from world import converges

SAMPLE = 16  # damages in the short form, of each file
PAGE, WAL_HEADER, FRAME_HEADER = 4096, 32, 24  # https://www.sqlite.org/fileformat2.html
RESTARTED = "box-1"
REFUSALS = (grpc.StatusCode.DATA_LOSS, grpc.StatusCode.FAILED_PRECONDITION)


class Saved:
    """All plain files of the daemon's own directories, as they lie there when it was killed."""

    def __init__(self, daemon, directory):
        self.pairs = []
        for top in (daemon.data, daemon.state):
            copy = directory / top.name
            copy.mkdir(parents=True)
            for path in top.iterdir():
                if path.is_file() and not path.name.endswith("-shm"):
                    shutil.copy2(path, copy / path.name)
            self.pairs.append((top, copy))

    def restore(self):
        for top, copy in self.pairs:
            for path in top.iterdir():
                if path.is_file():
                    path.unlink()
            for path in copy.iterdir():
                shutil.copy2(path, top / path.name)


Damage = namedtuple("Damage", "what apply")


def flipped(offset):
    def apply(path):
        with open(path, "r+b") as f:
            f.seek(offset)
            byte = f.read(1)[0]
            f.seek(offset)
            f.write(bytes([byte ^ 0xff]))
    return Damage(f"byte {offset} flipped", apply)


def zeroed(offset, size):
    def apply(path):
        with open(path, "r+b") as f:
            f.seek(offset)
            f.write(bytes(size))
    return Damage(f"bytes {offset} to {offset + size} zero", apply)


def cut(size):
    return Damage(f"cut at {size}", lambda path: os.truncate(path, size))


Layout = namedtuple("Layout", "header unit unit_header")
LAYOUTS = {"sandboxd.db": Layout(0, PAGE, 8),
           "sandboxd.db-wal": Layout(WAL_HEADER, FRAME_HEADER + PAGE, FRAME_HEADER)}


def damages(path):
    """For each page, or frame, of a file: bytes flipped in what describes it and in what it holds,
    all of it zero, the file cut there."""
    header, unit, unit_header = LAYOUTS[path.name]
    size = path.stat().st_size
    every = [flipped(offset) for offset in range(0, header, 4)]
    for start in range(header, size, unit):
        inside = [0, 3, 8, 12, unit_header + 1, unit_header + 40, unit // 2, unit - 30, unit - 1]
        every += [flipped(start + offset) for offset in inside if start + offset < size]
        every += [zeroed(start, min(unit, size - start)), cut(start), cut(start + unit // 2)]
    every += [cut(0)] if header else []
    return every


def frame_pages(wal):
    """The page that each frame of a write-ahead log holds."""
    data = wal.read_bytes() if wal.exists() else b""
    return [int.from_bytes(data[start:start + 4], "big")
            for start in range(WAL_HEADER, len(data), FRAME_HEADER + PAGE)]


def read_pages(database, scratch):
    """Numbers of the pages that are read from the database's main file, and are full of cells: not
    unused, nor in the log. Of the events, which are only ever added: the last byte of such a page
    belongs to a cell."""
    for path in database.parent.glob(f"{database.name}*"):
        shutil.copy2(path, scratch / path.name)
    with closing(sqlite3.connect(scratch / database.name)) as db:
        rows = db.execute("SELECT pageno FROM dbstat WHERE name IN ('event', 'event_of')"
                          " AND pagetype = 'leaf'").fetchall()
    newer = frame_pages(database.with_name(f"{database.name}-wal"))
    return [number for (number,) in rows if number not in newer]


def seen_damages(path, scratch):
    """Those that cannot stay unnoticed."""
    if path.name.endswith("-wal"):
        return damages(path)  # each ends the log too soon, and that is one commit at least
    starts = [PAGE * (number - 1) for number in read_pages(path, scratch)]
    return [d for start in starts for d in (flipped(start + PAGE - 1), zeroed(start, PAGE))]


def chosen(path, scratch):
    """(damage, whether it must be seen): all of them, or a sample."""
    seen, every = seen_damages(path, scratch), damages(path)
    assert len(seen) > 1, "too little was written to be damaged"
    if not LONG:
        chance = random.Random(SEED)
        seen = chance.sample(seen, min(SAMPLE // 2, len(seen)))
        every = chance.sample(every, SAMPLE - len(seen))
    return [(d, True) for d in seen] + [(d, False) for d in every]


def names(api):
    return {s.name: state_name(s) for s in api.list()}


class Three:
    """Sandboxes that run, with something in each, and a daemon that was killed."""

    def __init__(self, daemon, directory):
        self.daemon = daemon
        self.made = []
        for i, runtime in enumerate(("runc", "runc", "runsc")):
            box = daemon.api.create(name=f"box-{i}", runtime=runtime)
            daemon.api.sh(box.id, f"echo {i} >file; sleep 100000 >/dev/null 2>&1 &")
            self.made.append(box)
        # Rows that were, so that there are more pages than one; some of it is in the main file,
        # some only in the log. Without that one is as it was before it was started again.
        self.come_and_go(range(20))
        daemon.restart("SIGTERM")
        daemon.api.stop(RESTARTED)
        daemon.api.start(RESTARTED)
        self.come_and_go(range(20, 26))
        self.before = [identity(daemon.init_pid(s)) for s in self.made]
        daemon.kill()
        self.saved = Saved(daemon, directory / "saved")
        self.counts = Counter()
        self.healed = False

    def come_and_go(self, numbers):
        for i in numbers:
            self.daemon.api.create(name=f"gone-{i}", env={"LARGE": "v" * 3000})
            self.daemon.api.delete(f"gone-{i}")

    def files(self):
        return {path.name: path.read_bytes() for path in self.daemon.data.glob("sandboxd.db*")
                if not path.name.endswith("-shm")}

    def assert_untouched(self):
        assert [identity(self.daemon.init_pid(s)) for s in self.made] == self.before
        for i, sandbox in enumerate(self.made):
            assert (self.daemon.workspace(sandbox) / "file").read_text() == f"{i}\n"

    def assert_refuses(self, problem):
        """Nothing is changed, and what could be read is served."""
        api = self.daemon.api
        assert not api.is_serving()
        there = names(api)
        assert {n for n in there if not n.startswith("gone-")} <= {s.name for s in self.made}
        for sandbox in self.made:
            if sandbox.name in there:
                assert api.get(sandbox.name).id == sandbox.id
                assert there[sandbox.name] == "RUNNING" or sandbox.name == RESTARTED
            if there.get(sandbox.name) == "RUNNING":
                assert api.sh(sandbox.id, "cat file") == f"{sandbox.name[-1]}\n"
        calls = [lambda: api.create(name="new")]
        for ref in there:
            calls += [lambda r=ref: api.stop(r), lambda r=ref: api.pause(r),
                      lambda r=ref: api.delete(r), lambda r=ref: api.keepalive(r, ttl_millis=5000)]
        for call in calls:
            with pytest.raises(grpc.RpcError) as info:
                call()
            assert info.value.code() in REFUSALS, info.value.details()
            assert info.value.details() and problem
        assert names(api) == there

    def assert_serves(self):
        api = self.daemon.api
        assert api.is_serving()
        assert names(api) == {s.name: "RUNNING" for s in self.made}
        for sandbox in self.made:
            assert api.sh(sandbox.id, "cat file") == f"{sandbox.name[-1]}\n"

    def start_damaged(self, what):
        """Starts on what lies there, and ends it again, in one way or the other."""
        lies = self.files()
        self.daemon.start()
        problem = self.daemon.api.info().problem
        try:
            if problem:
                self.assert_refuses(problem)
            else:
                self.assert_serves()
            self.assert_untouched()
            if sum(self.counts.values()) % 2:
                self.daemon.kill()
            else:
                self.daemon.stop()
            self.assert_untouched()
            if problem:
                assert self.files() == lies, "what was refused was changed"
        except (AssertionError, grpc.RpcError) as e:
            raise AssertionError(f"{what}: {problem or 'no problem'}: {e!r}") from e
        self.counts["refused" if problem else "served"] += 1
        return problem

    def heals(self):
        self.healed = True
        self.saved.restore()
        self.daemon.start()
        self.assert_serves()
        converges(self.daemon, {s.id: {"RUNNING"} for s in self.made})
        self.assert_untouched()
        self.daemon.api.stop("box-0")
        assert names(self.daemon.api)["box-0"] == "STOPPED"


@pytest.fixture
def three(make_daemon, tmp_path):
    if not find_runtime("runsc"):
        pytest.skip("no runsc on this machine: run 'make deps'")
    three = Three(make_daemon(), tmp_path)
    yield three
    if not three.healed:  # a test that failed: so that all can be removed
        if three.daemon.is_running():
            three.daemon.kill()
        three.saved.restore()


def damage_each(three, path, figure, scratch):
    scratch.mkdir()
    for damage, seen in chosen(path, scratch):
        three.saved.restore()
        damage.apply(path)
        problem = three.start_damaged(f"{path.name}: {damage.what}")
        assert problem or not seen, f"{path.name}: {damage.what}: it was not seen"
    counted = ", ".join(f"{n} {how}" for how, n in three.counts.items())
    figure(f"SEED={SEED}, {path.name}: {counted}")
    three.heals()


@pytest.mark.parametrize("file", LAYOUTS)
def test_every_page(three, figure, file, tmp_path):
    path = three.daemon.data / file
    assert path.exists(), "the daemon was killed, and has written"
    damage_each(three, path, figure, tmp_path / "scratch")


def test_every_page_of_a_database_that_was_closed(three, figure, tmp_path):
    """Without a write-ahead log: all of it is in the one file."""
    three.daemon.start()
    three.daemon.stop()
    three.saved = Saved(three.daemon, tmp_path / "closed")
    damage_each(three, three.daemon.data / "sandboxd.db", figure, tmp_path / "scratch")


def test_files_of_yesterday(three):
    path = three.daemon.data / "sandboxd.db"
    yesterday = three.daemon.dir / "yesterday"
    with closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM INTO ?", (str(yesterday),))
    three.saved.restore()
    three.daemon.start()
    three.daemon.api.create(name="since", runtime="runc")
    three.daemon.kill()
    since = Saved(three.daemon, three.daemon.dir / "since")
    path.with_name("sandboxd.db-wal").unlink()
    shutil.move(yesterday, path)
    assert three.start_damaged("of yesterday"), "it lacks a sandbox"
    three.saved = since  # that one lives on too
    three.saved.restore()
    three.daemon.start()
    three.daemon.api.delete("since")
    three.daemon.kill()
    three.saved = Saved(three.daemon, three.daemon.dir / "after")
    three.heals()


def test_whole_file(three):
    path = three.daemon.data / "sandboxd.db"
    for what, data in {"gone": None, "garbage": b"no database at all\n" * 1000,
                       "empty": b""}.items():
        three.saved.restore()
        path.with_name("sandboxd.db-wal").unlink()
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        assert three.start_damaged(what), "it lacks all sandboxes"
    three.heals()


def test_newer_version(three):
    with closing(sqlite3.connect(three.daemon.data / "sandboxd.db")) as db:
        db.execute("PRAGMA user_version = 1000")
    problem = three.start_damaged("newer version")
    assert "newer" in problem and "1000" in problem
    three.heals()


def test_a_problem_is_told_before_anyone_asks(three):
    """In the log, and by the health service's Watch too."""
    path = three.daemon.data / "sandboxd.db"
    path.write_bytes(b"no database at all\n")
    path.with_name("sandboxd.db-wal").unlink()  # most of it could be had from there
    three.daemon.start()
    wait_until(lambda: "database" in three.daemon.log(), "a line of the log")
    watch = three.daemon.api.channel.unary_stream("/grpc.health.v1.Health/Watch")
    assert next(watch(b"", timeout=10)) == b"\x08\x02"  # status: NOT_SERVING
    three.daemon.stop()
    three.heals()
