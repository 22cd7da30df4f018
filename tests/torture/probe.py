"""How long other clients wait while something is stuck: List, and a command in a sandbox that has
nothing to do with it; beside the same of a daemon without trouble, asked in turn, so that what else
the machine does strikes both."""

import threading
import time
from contextlib import contextmanager
from statistics import median

import grpc

from harness import Api, Daemon

WINDOW = 100  # samples; of each window the p99 is its slowest but one
WINDOWS = 3   # at least
# What is faster than this is not told apart from the noise of a machine with two processors, on
# which runtimes are being started: seconds.
FLOOR = {"list": 0.003, "exec": 0.010}
# No single call takes so long, whatever the windows say: what is stuck is so for 2 s at least, and
# one step that blocks would show here.
SLOWEST = 1.9


class Probe(threading.Thread):
    """Asks on and on, the one daemon and the other. Calls that fail count as answers only where
    exec_may_fail."""

    def __init__(self, asked, exec_may_fail=False):
        super().__init__(name="probe", daemon=True)
        self.asked = [(Api(daemon.socket), ref) for daemon, ref in asked]
        self.exec_may_fail, self.errors, self.ending = exec_may_fail, [], False
        self.samples = [{"list": [], "exec": []} for _ in asked]

    def run(self):
        turn = list(zip(self.asked, self.samples))
        while not self.ending:
            for (api, ref), samples in turn:
                self.sample(samples["list"], api.list)
                self.sample(samples["exec"], lambda: self.execute(api, ref), self.exec_may_fail)
                time.sleep(0.002)
            turn.reverse()

    def execute(self, api, ref):
        assert api.run(ref, "true", timeout=20).code == 0

    def sample(self, samples, call, may_fail=False):
        began = time.monotonic()
        try:
            call()
        except (grpc.RpcError, AssertionError) as e:
            if not may_fail:
                self.errors.append(str(e))
        samples.append(time.monotonic() - began)

    def finish(self):
        """For each daemon {what: (p99 of a window: the median, and the worst; slowest)}."""
        while len(self.samples[-1]["exec"]) < WINDOW * WINDOWS:
            assert self.is_alive() and len(self.errors) < 100, self.errors[:3]
            time.sleep(0.01)
        self.ending = True
        self.join(60)
        return [{what: (median(p99s(times)), max(p99s(times)), max(times))
                 for what, times in samples.items()} for samples in self.samples]


def p99s(times):
    return [sorted(times[i:i + WINDOW])[-2] for i in range(0, len(times) - WINDOW + 1, WINDOW)]


@contextmanager
def probing(daemon, ref, figure, **options):
    """Around the trouble: others wait no longer than twice what they wait for the daemon beside; on a
    busy machine, where that is now more and now less, in its worst window."""
    calm = Daemon()
    calm.start()
    probe = Probe([(daemon, ref), (calm, calm.api.create().id)], **options)
    try:
        for api, ref in probe.asked:
            probe.execute(api, ref)  # connected, and warm
        probe.start()
        yield probe
        stuck, undisturbed = probe.finish()
    finally:
        probe.ending = True
        probe.join(60)
        for api, _ in probe.asked:
            api.close()
        left = calm.finish()
        calm.destroy()
    assert probe.errors == [] and left == []
    text = "; ".join(f"{what} p99 {stuck[what][0] * 1000:.1f} ms beside "
                     f"{undisturbed[what][0] * 1000:.1f} undisturbed (slowest "
                     f"{stuck[what][2] * 1000:.0f})" for what in stuck)
    figure(text)
    for what, (p99, _, slowest) in stuck.items():
        allowed = 2 * max(undisturbed[what][1], FLOOR[what])
        assert p99 <= allowed and slowest <= max(SLOWEST, 2 * undisturbed[what][2]), (what, text)
