"""Clients that never rest, while something is done to the daemon."""

import threading

from harness import wait_until


class Callers:
    """Each of these is called again and again, by a thread of its own."""

    def __init__(self, *calls):
        self.over = False
        self.counts = [0] * len(calls)
        self.failures = []
        self.threads = [threading.Thread(target=self.run, args=(i, call))
                        for i, call in enumerate(calls)]

    def run(self, i, call):
        while not self.over:
            try:
                call()
                self.counts[i] += 1
            except Exception as e:  # whatever it is, a client has seen it
                self.failures.append(f"{i}: {e}")

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        for thread in self.threads:
            thread.join(60)

    def get_on(self):
        """Each has made some calls since."""
        before = list(self.counts)
        wait_until(lambda: all(n > b + 2 for n, b in zip(self.counts, before)), "calls", 30)


def checked(result):
    """Of a command that must succeed."""
    assert result.returncode == 0, result
    return result


def cli_callers(ctl):
    """They connect for each call. There is a sandbox "box", and another "other"; few more are made."""
    keys = (f"key-{i // 8 % 8}" for i in range(1 << 30))
    return [lambda: checked(ctl("get", "box")),
            lambda: checked(ctl("stop", "other")),
            lambda: checked(ctl("create", "--request-key", next(keys)))]


N_CLI = 3  # of these; the others come behind them


def stock_callers(apis):
    """They stay connected."""
    return [lambda api=api: api.get("box") for api in apis]


def assert_only_interrupted(failures, crashes, clients):
    """The CLI has seen nothing; of each stock client what was under way at the moment of a crash is
    lost, perhaps again on its new connection. Nobody was refused one."""
    cli = [f for f in failures if int(f.split(":")[0]) < N_CLI]
    stock = [f for f in failures if f not in cli]
    assert "\n".join(cli) == ""
    for failure in stock:
        assert "UNAVAILABLE" in failure and "refused" not in failure, failure
    assert len(stock) <= 2 * crashes * clients
