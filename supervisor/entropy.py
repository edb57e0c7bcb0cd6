"""The house's randomness: the operating system's, asked for a page at a time.

One `getrandom` call per id costs more than the rest of making the id.
"""

from __future__ import annotations

import os
import random

__all__ = ["Entropy"]

PAGE_BYTES = 4096


class Entropy(random.Random):
    """`random.SystemRandom` with a buffer. Every bit is given out once, also after a fork."""

    def __init__(self) -> None:
        self._page, self._used, self._pid = b"", 0, 0
        super().__init__()

    def seed(self, *args: object, **kwargs: object) -> None:
        """There is nothing to seed."""

    def random(self) -> float:
        return self.getrandbits(53) / (1 << 53)

    def getrandbits(self, k: int, /) -> int:
        size = (k + 7) // 8
        if self._used + size > len(self._page) or self._pid != os.getpid():
            self._page, self._used, self._pid = os.urandom(max(PAGE_BYTES, size)), 0, os.getpid()
        taken = self._page[self._used : self._used + size]
        self._used += size
        return int.from_bytes(taken, "big") >> (size * 8 - k)
