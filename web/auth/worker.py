"""A thread for what would hold up the house: hashing a password, writing a file. Few at once, and few that wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import trio

from protocol.errors import Overloaded

__all__ = ["Worker"]

T = TypeVar("T")
_WAITING: Final = 32


class Worker:
    """`threads` False: in the calling task, as a virtual clock needs it."""

    def __init__(self, at_once: int, *, threads: bool = True) -> None:
        self._limiter = trio.CapacityLimiter(at_once)
        self._threads = threads

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`. Raises Overloaded when 32 wait. Cancelled: once it has begun it is waited for."""
        if not self._threads:
            await trio.lowlevel.checkpoint()
            return work()
        if self._limiter.statistics().tasks_waiting >= _WAITING:
            raise Overloaded("Too many are logging in right now; try again soon.", retry_after_s=1)
        return await trio.to_thread.run_sync(work, limiter=self._limiter)
