"""Output of which every byte tells where it belongs: what `inside print` prints."""

import hashlib
import random
from functools import lru_cache

from harness import BUILD
from received import OUT, Received

MIB = 1 << 20
INSIDE = BUILD / "tests/inside"
BLOCK = random.Random(5).randbytes(MIB)


@lru_cache(maxsize=4)
def numbered(number):
    return number.to_bytes(8, "little") + BLOCK[8:]


def expected(offset, n):
    """The n bytes that are printed there."""
    data = b""
    while n > 0:
        number, at = divmod(offset, MIB)
        part = numbered(number)[at:at + n]
        data = data + part if data else part
        offset, n = offset + len(part), n - len(part)
    return data


def sha256(size):
    """Of the first bytes."""
    digest = hashlib.sha256()
    for offset in range(0, size, MIB):
        digest.update(expected(offset, min(MIB, size - offset)))
    return digest.hexdigest()


def bring_printer(daemon, sandbox):
    """Returns the command that prints so many bytes in the sandbox."""
    block = daemon.dir / "block"
    block.write_bytes(BLOCK)
    daemon.bring(sandbox, INSIDE, block)
    return lambda size: ["/home/sandbox/inside", "print", "/home/sandbox/block", str(size)]


class Checked(Received):
    """Holds stdout against the pattern where it comes by, and keeps none of it."""

    def __init__(self, digest=None, **fields):
        """digest: gets all the bytes."""
        super().__init__(sink=self.check, **fields)
        self.n, self.digest = 0, digest

    def check(self, stream, offset, data):
        assert stream == OUT and data == expected(offset, len(data)), f"other bytes at {offset}"
        self.n += len(data)
        if self.digest:
            self.digest.update(data)

    def lost(self):
        return sum(to - start for _, start, to in self.gaps)
