"""What happened within the last minute, by key: a window that slides, not one that resets, so that no burst fits around
its edge.

It remembers the times of what was added and nothing else, so its memory is bounded by the rate at which its owner adds;
a key without any is forgotten. Times are the monotonic clock's.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

import trio

__all__ = ["WINDOW_S", "Windows"]

WINDOW_S: Final = 60.0

K = TypeVar("K", bound=Hashable)


class Windows(Generic[K]):
    """`most`: how many keys are told apart (None: all)."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._times: OrderedDict[K, deque[float]] = OrderedDict()  # the one that was added to last is last

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._times)

    def count(self, key: K) -> int:
        """How many there are now. What is too old is forgotten."""
        old = trio.current_time() - WINDOW_S
        self._forget(old)
        times = self._times.get(key)
        if times is None:
            return 0
        while times and times[0] <= old:
            times.popleft()
        return len(times)

    def add(self, key: K, at: float) -> None:
        """One more, at this time: now. The key that was silent longest gives way when there are too many."""
        self._times.setdefault(key, deque()).append(at)
        self._times.move_to_end(key)
        if self._most is not None and len(self._times) > self._most:
            self._times.popitem(last=False)

    def take_back(self, key: K, at: float) -> None:
        """What was added at this time did not happen."""
        times = self._times.get(key)
        if times is not None and at in times:
            times.remove(at)
            if not times:
                del self._times[key]

    def wait_s(self, key: K, limit: int) -> int:
        """Whole seconds until there are fewer than `limit`; 0 when there are now."""
        if self.count(key) < limit:
            return 0
        return max(1, math.ceil(self._times[key][-limit] + WINDOW_S - trio.current_time()))

    def drop(self, key: K) -> None:
        self._times.pop(key, None)

    def _forget(self, old: float) -> None:
        while self._times:
            key, times = next(iter(self._times.items()))
            if times and times[-1] > old:
                return
            del self._times[key]
