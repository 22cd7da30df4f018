"""Output by offset: Attach, several clients, what is kept, what happens when it is too much, and
what children print after the end."""

import time

import grpc
import pytest

from harness import Api, refused, settled, wait_until, within
from pattern import INSIDE, Checked, bring_printer, expected
from received import ERR, OUT, Received

RUNTIMES = pytest.mark.parametrize("runtime", ["runc", "runsc", "runsc-r22"], indirect=True)
RUNC = pytest.mark.parametrize("runtime", ["runc"], indirect=True)  # what the runtime has no part in
Code = grpc.StatusCode
KIB, MIB = 1 << 10, 1 << 20
WAIT, DROP_OLDEST = "OUTPUT_OVERFLOW_WAIT", "OUTPUT_OVERFLOW_DROP_OLDEST"


@pytest.fixture
def printer(daemon, sandbox):
    """The command that prints so many bytes."""
    return bring_printer(daemon, sandbox)


# --- from any point --------------------------------------------------------------------------


@RUNTIMES
def test_connect_from_offsets(api, sandbox):
    """After the end, any number of times; the bytes are those of the first time."""
    got = Received().all(api.stream(sandbox.id, "sh", "-c",
                                    "head -c 300000 /dev/urandom; head -c 70000 /dev/urandom >&2"))
    assert (len(got.stdout), len(got.stderr)) == (300000, 70000)
    for a, b in [(0, 0), (1, 0), (65536, 65537), (299999, 70000), (300000, 12345), (300000, 70000)]:
        again = api.follow(sandbox.id, got.pid, stdout_offset=a, stderr_offset=b)
        assert (again.stdout, again.stderr) == (got.stdout[a:], got.stderr[b:])
        assert (again.pid, again.end) == (got.pid, got.end)
    for a, b in [(300001, 0), (0, 70001), (1 << 63, 0)]:
        with refused(Code.OUT_OF_RANGE):
            api.follow(sandbox.id, got.pid, stdout_offset=a, stderr_offset=b)


def test_connect_while_it_runs(api, sandbox, pool):
    """Several clients at offsets of their own; each gets all from there on."""
    call = api.stream(sandbox.id, "sh", "-c", "seq 1 1000; mkfifo go; cat go; seq 1001 2000")
    text = "".join(f"{i}\n" for i in range(1, 2001)).encode()
    half = text.index(b"1001\n")
    got = Received().until(call, lambda got: got.next[OUT] == half)
    offsets = [0, 1, 17, half - 1, half]
    calls = [api.attach(sandbox.id, got.pid, stdout_offset=n) for n in offsets]
    followers = [Received(stdout_offset=n) for n in offsets]
    for follower, one in zip(followers, calls):
        follower.until(one, lambda f: f.pid and f.next[OUT] == half)
    from_now = api.attach(sandbox.id, got.pid, from_now=True)
    now = Received(None, None).until(from_now, lambda now: now.pid)
    with refused(Code.OUT_OF_RANGE):
        api.follow(sandbox.id, got.pid, stdout_offset=half + 1)

    api.run(sandbox.id, "sh", "-c", "echo -n >go")
    assert got.all(call).stdout == text
    for offset, follower, one in zip(offsets, followers, calls):
        assert follower.all(one).stdout == text[offset:]
        assert follower.end == got.end
    assert now.all(from_now).stdout == text[half:]


def test_until_now_and_from_now(api, sandbox):
    call = api.stream(sandbox.id, "sh", "-c", "echo out; echo err >&2; read x", stdin_open=True)
    got = Received().until(call, lambda got: got.stdout and got.stderr)
    with within(20):
        now = api.follow(sandbox.id, got.pid, until_now=True)
        assert (now.pid, now.stdout, now.stderr, now.end) == (got.pid, b"out\n", b"err\n", None)
        now = api.follow(sandbox.id, got.pid, until_now=True, stdout_offset=2)
        assert (now.stdout, now.stderr, now.end) == (b"t\n", b"err\n", None)
        now = api.follow(sandbox.id, got.pid, until_now=True, from_now=True)
        assert (now.pid, now.parts, now.end) == (got.pid, [], None)
    for fields in {"stdout_offset": 1}, {"stderr_offset": 1}:
        with refused(Code.INVALID_ARGUMENT):
            list(api.attach(sandbox.id, got.pid, from_now=True, **fields))
    api.send_input(sandbox.id, got.pid, b"\n")
    got.all(call)
    now = api.follow(sandbox.id, got.pid, until_now=True)
    assert (now.stdout, now.end) == (b"out\n", got.end)
    now = api.follow(sandbox.id, got.pid, from_now=True)
    assert (now.parts, now.end) == ([], got.end)


def test_order_of_arrival(api, sandbox):
    """Between the streams: it is that of the program where there is time, and always the same."""
    slow = Received().all(api.stream(
        sandbox.id, "sh", "-c", "for i in 1 2 3 4 5; do echo o$i; usleep 50000; "
                                "echo e$i >&2; usleep 50000; done"))
    assert slow.order() == [(s, f"{c}{i}\n".encode()) for i in range(1, 6)
                            for s, c in ((OUT, "o"), (ERR, "e"))]
    fast = Received().all(api.stream(
        sandbox.id, "sh", "-c", "for i in 1 2 3; do for j in $(seq 1000); do echo o$i; "
                                "echo e$i >&2; done; usleep 50000; done"))
    assert len(fast.order()) > 2
    for first in slow, fast:
        for _ in range(2):
            assert api.follow(sandbox.id, first.pid).order() == first.order()


@pytest.mark.docker
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_the_daemon_goes(daemon, api, sandbox, printer, how):
    """And its clients come back with what they have."""
    call = api.stream(sandbox.id, "sh", "-c", f"{' '.join(printer(4 * MIB))}; cat; "
                      f"{' '.join(printer(4 * MIB))} >&2; exit 9", stdin_open=True, tag="job")
    got = Checked().until(call, lambda got: got.n > MIB)
    daemon.restart(how)
    api = daemon.api
    rest = Checked(stdout_offset=got.n)
    again = api.attach(sandbox.id, "job", stdout_offset=got.n)
    rest.until(again, lambda rest: rest.next[OUT] == 4 * MIB)
    assert rest.pid == got.pid
    again.cancel()
    api.close_stdin(sandbox.id, "job")
    assert api.wait_process(sandbox.id, "job").exit_code == 9
    whole = api.follow(sandbox.id, "job")
    assert whole.stdout == whole.stderr == expected(0, 4 * MIB)


def test_keepalive(api, sandbox):
    """When nothing else was sent for so long, each client as it asked."""
    call = api.stream(sandbox.id, "sh", "-c", "read x; echo x; exec sleep 1000",
                      keepalive_millis=1000, stdin_open=True)
    first = Received().until(call, lambda got: got.pid)
    began = time.monotonic()
    calls = [api.attach(sandbox.id, first.pid, keepalive_millis=1500),
             api.attach(sandbox.id, first.pid)]
    first.until(call, lambda got: got.keepalives == 2)
    assert 1.5 < time.monotonic() - began < 10
    second = Received().until(calls[0], lambda got: got.keepalives == 2)
    assert 2.9 < time.monotonic() - began < 10
    api.send_input(sandbox.id, first.pid, b"\n")
    third = Received().until(calls[1], lambda got: got.stdout)
    assert third.keepalives == 0
    second.until(calls[0], lambda got: got.stdout)
    first.until(call, lambda got: got.stdout)
    n = first.keepalives
    first.until(call, lambda got: got.keepalives == n + 1)
    with refused(Code.INVALID_ARGUMENT, "keepalive_millis"):
        list(api.attach(sandbox.id, first.pid, keepalive_millis=999))


@RUNTIMES
def test_binary(api, sandbox, daemon):
    """A program's own bytes, NULs and all."""
    daemon.bring(sandbox, INSIDE)
    assert api.run(sandbox.id, "cat", "inside").stdout == INSIDE.read_bytes()


# --- too much of it --------------------------------------------------------------------------


def test_drop_oldest(api, sandbox, printer):
    """Gap and data together are everything; what is kept are the last bytes."""
    for size in 256 * KIB, 1 * MIB, 4 * MIB:
        pid = api.spawn(sandbox.id, *printer(16 * MIB + 7), output_size=size,
                        output_overflow=DROP_OLDEST)
        end = api.wait_process(sandbox.id, pid)
        assert (end.exit_code, end.stdout_size) == (0, 16 * MIB + 7)
        got = Checked(gaps=True).all(api.attach(sandbox.id, pid))
        assert len(got.gaps) == 1 and got.gaps[0][:2] == (OUT, 0)
        assert got.lost() + got.n == 16 * MIB + 7
        assert size // 2 <= got.n <= size
        shown = api.process(sandbox.id, pid)
        assert (shown.stdout_kept_from, shown.stdout_size) == (got.lost(), 16 * MIB + 7)
        inside = Checked(stdout_offset=got.lost() + 1).all(  # from there on there is no gap
            api.attach(sandbox.id, pid, stdout_offset=got.lost() + 1))
        assert inside.n == got.n - 1


@RUNC
def test_gaps_of_both_streams(api, sandbox):
    """What is kept of the two together is bounded; each tells its own gap."""
    script = "for i in $(seq 64); do cat b; cat b >&2; done; echo last"
    api.sh(sandbox.id, "head -c 16384 /dev/urandom >b")
    block = api.run(sandbox.id, "cat", "b").stdout
    pid = api.spawn(sandbox.id, "sh", "-c", script, output_size=256 * KIB)
    api.wait_process(sandbox.id, pid)
    got = api.follow(sandbox.id, pid, gaps=True)
    assert sorted(stream for stream, _, _ in got.gaps) == [OUT, ERR]
    kept = {stream: (block * 64 + tail)[to:] for (stream, _, to), tail in
            zip(sorted(got.gaps), (b"last\n", b""))}
    assert {OUT: got.stdout, ERR: got.stderr} == kept
    assert 128 * KIB <= len(got.stdout) + len(got.stderr) <= 256 * KIB


def test_wait_holds_the_program_up(api, sandbox, printer, daemon):
    """While nobody reads; and nothing is lost."""
    pid = api.spawn(sandbox.id, *printer(32 * MIB), output_size=256 * KIB, output_overflow=WAIT)
    wait_until(lambda: api.process(sandbox.id, pid).stdout_size >= 128 * KIB, "some output")
    stands = settled(lambda: api.process(sandbox.id, pid).stdout_size, 1)
    shown = api.process(sandbox.id, pid)
    assert not shown.HasField("end") and shown.stdout_size == stands
    assert shown.stdout_kept_from == 0 and shown.stdout_size <= 512 * KIB
    got = Checked().all(api.attach(sandbox.id, pid))
    assert (got.n, got.end.exit_code) == (32 * MIB, 0)
    assert daemon.memory() < 64 * MIB


def test_wait_for_the_slowest(api, sandbox, printer, pool):
    """Each client gets everything, at the pace of the slowest."""
    call = api.stream(sandbox.id, *printer(64 * MIB), output_overflow=WAIT)
    slow = Checked().until(call, lambda got: got.pid)
    fast = pool.submit(lambda: Checked().all(api.attach(sandbox.id, slow.pid)))
    time.sleep(1)
    assert not fast.done()  # the slow one holds the program up
    slow.all(call)
    assert slow.n == fast.result(60).n == 64 * MIB


def test_a_slow_client_slows_nobody(api, sandbox, printer, daemon):
    """By default the fastest sets the pace; the slow one is told what it has missed."""
    size = 64 * MIB
    call = api.stream(sandbox.id, *printer(size), output_size=8 * MIB)
    slow = Checked(gaps=True).until(call, lambda got: got.pid)
    with within(55):
        fast = Checked().all(api.attach(sandbox.id, slow.pid))
    assert (fast.n, fast.end.exit_code) == (size, 0)
    slow.all(call)
    assert slow.lost() > 0 and slow.n + slow.lost() == size
    assert slow.end == fast.end
    assert daemon.memory() < 64 * MIB


@pytest.mark.parametrize("overflow", ["OUTPUT_OVERFLOW_UNSPECIFIED", WAIT])
def test_a_client_that_comes_back(daemon, sandbox, printer, overflow):
    """The program waits for it: nothing is lost of what was under way. That is as much as this client's
    library takes before it does, by default more and more: on a busy machine more than is kept here."""
    size = 64 * MIB
    api = Api(daemon.socket, **{"http2.bdp_probe": 0})
    daemon.apis.append(api)
    call = api.stream(sandbox.id, *printer(size), output_size=8 * MIB, output_overflow=overflow)
    got = Checked().until(call, lambda got: got.n > 0)
    pid, n = got.pid, got.n
    for _ in range(5):
        call.cancel()
        time.sleep(0.2)
        call = api.attach(sandbox.id, pid, stdout_offset=n)
        n += Checked(stdout_offset=n).until(call, lambda got: got.n > 0).n
    call.cancel()
    rest = Checked(stdout_offset=n).all(api.attach(sandbox.id, pid, stdout_offset=n))
    assert (n + rest.n, rest.end.exit_code) == (size, 0)


# --- children --------------------------------------------------------------------------------


@RUNTIMES
def test_children_print_after_the_end(api, sandbox):
    """What they print is told until they are quiet, or have closed their output."""
    script = "(for i in 1 2 3 4 5; do usleep 50000; echo $i; done) & echo leader"
    for _ in range(10):
        got = Received().all(api.stream(sandbox.id, "sh", "-c", script))
        assert b"leader\n1\n2\n3\n4\n5\n".startswith(got.stdout) and got.end.exit_code == 0
        if not got.end.output_open:  # the machine has not made them pause for 200 ms
            break
    assert got.stdout.endswith(b"5\n") and not got.end.output_open


def test_a_child_holds_the_output_open(api, sandbox):
    """`end` says so. What comes later is thrown away, and harms nobody."""
    got = Received().all(api.stream(
        sandbox.id, "sh", "-c", "(sleep 5; echo late; echo late >&2; echo alive >file) &"
                                "echo leader"))
    assert got.stdout == b"leader\n" and got.end.output_open
    wait_until(lambda: api.run(sandbox.id, "cat", "file").stdout == b"alive\n", "the child at work", 20)
    again = api.follow(sandbox.id, got.pid)
    assert (again.stdout, again.stderr, again.end) == (b"leader\n", b"", got.end)


def test_a_child_that_never_stops_printing(api, sandbox):
    """does not hold the end up for more than a second."""
    with within(15):
        got = Received().all(api.stream(
            sandbox.id, "sh", "-c", "while :; do echo x; usleep 20000; done & exit 4"))
    assert got.end.exit_code == 4 and got.end.output_open
    assert 5 < len(got.stdout) == got.end.stdout_size
    assert api.follow(sandbox.id, got.pid).stdout == got.stdout


def test_a_program_that_closes_its_output(api, sandbox):
    """goes on, and its end is told when it comes."""
    began = time.monotonic()
    got = Received().all(api.stream(sandbox.id, "sh", "-c",
                                    "echo out; exec >&- 2>&-; sleep 1; exit 3"))
    assert time.monotonic() - began >= 1
    assert (got.stdout, got.end.exit_code, got.end.output_open) == (b"out\n", 3, False)


@RUNC
def test_many_small_writes(api, sandbox):
    """Each in a packet of its own for all we know; together they are what was printed."""
    got = api.run(sandbox.id, "sh", "-c", "for i in $(seq 20000); do echo $i; done")
    assert got.stdout == "".join(f"{i}\n" for i in range(1, 20001)).encode()
