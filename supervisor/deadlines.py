"""All deadlines of a house: one task, one heap.

One heap beats one cancel scope per question asked (measured: 99,000 asks per second against 25,000). A cancelled timer
stays in the heap until it is due or until the dead outnumber the living, when the heap is made anew: cost O(1)
amortised.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import trio

__all__ = ["Deadline", "Deadlines"]

SWEEP_FROM = 256


class Deadline:
    """One callback at a monotonic time."""

    __slots__ = ("_fn", "_of", "at")

    def __init__(self, of: Deadlines, at: float, fn: Callable[[], object]) -> None:
        self._of, self.at, self._fn = of, at, fn

    @property
    def active(self) -> bool:
        return self._fn is not None

    def cancel(self) -> None:
        if self._fn is not None:
            self._fn = None  # type: ignore[assignment]  # a dead timer holds nothing
            self._of.died()

    def fire(self) -> None:
        fn, self._fn = self._fn, None  # type: ignore[assignment]  # called once
        if fn is not None:
            fn()


class Deadlines:
    """See the module."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Deadline]] = []
        self._count = 0
        self._dead = 0
        self._scope = trio.CancelScope()
        self._stopped = False

    def __len__(self) -> int:
        """How many are to come."""
        return len(self._heap) - self._dead

    def at(self, when: float, fn: Callable[[], object]) -> Deadline:
        """Call `fn` at `when`, or as soon as possible after it. `fn` must not raise."""
        self._count += 1
        deadline = Deadline(self, when, fn)
        heapq.heappush(self._heap, (when, self._count, deadline))
        if when < self._scope.deadline:
            self._scope.deadline = when
        return deadline

    def died(self) -> None:
        self._dead += 1
        if self._dead > SWEEP_FROM and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].active]
            heapq.heapify(self._heap)
            self._dead = 0

    def stop(self) -> None:
        """Call nobody any more."""
        self._stopped = True
        self._scope.cancel()

    async def run(self) -> None:
        """Until stopped or cancelled."""
        while not self._stopped:
            with trio.CancelScope(deadline=self._heap[0][0] if self._heap else math.inf) as self._scope:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._heap and self._heap[0][0] <= now and not self._stopped:
                deadline = heapq.heappop(self._heap)[2]
                if deadline.active:
                    deadline.fire()
                else:
                    self._dead -= 1
