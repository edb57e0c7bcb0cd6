"""The pausable clock: every timer of an incarnation is a cancel scope whose deadline moves to infinity while paused.

So a sleep, a run's timeout or a stall watch that had three seconds left when the engine was paused has three seconds
left when it is resumed, and nothing has to be cancelled or restarted in between.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import trio

__all__ = ["PausableClock"]


class PausableClock:
    """Seconds of one incarnation that were not paused."""

    def __init__(self) -> None:
        self._left: dict[trio.CancelScope, float] = {}
        self._paused_at: float | None = None
        self._lost_s = 0.0

    @property
    def paused(self) -> bool:
        return self._paused_at is not None

    def time(self) -> float:
        """Monotonic seconds, without the time spent paused."""
        now = trio.current_time() if self._paused_at is None else self._paused_at
        return now - self._lost_s

    @contextmanager
    def scope(self, seconds: float) -> Iterator[trio.CancelScope]:
        """A cancel scope that ends after `seconds` of unpaused time."""
        with trio.CancelScope() as scope:
            self._left[scope] = seconds
            if self._paused_at is None:
                scope.deadline = trio.current_time() + seconds
            try:
                yield scope
            finally:
                del self._left[scope]

    def pause(self) -> None:
        """Stop every timer. Idempotent."""
        if self._paused_at is not None:
            return
        self._paused_at = now = trio.current_time()
        for scope in self._left:
            self._left[scope] = max(scope.deadline - now, 0)
            scope.deadline = math.inf

    def resume(self) -> None:
        """Let every timer go on with what it had left. Idempotent."""
        if self._paused_at is None:
            return
        now = trio.current_time()
        self._lost_s += now - self._paused_at
        self._paused_at = None
        for scope, left in self._left.items():
            scope.deadline = now + left
