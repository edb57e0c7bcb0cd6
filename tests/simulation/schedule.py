"""Trio, made a function of a seed: virtual time, and the order in which tasks run drawn from a generator of ours.

The one place that touches trio's private names (those that trio itself sets when it runs under hypothesis). They are
pinned by a test of this folder, which says what changed when a new trio changes them. Threads, real input and output,
`hash` of strings and unseeded randomness are not covered by a seed: whoever is simulated gets all of those from outside.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
import trio.testing
from trio._core import _run as scheduler  # the only way to the order of tasks

__all__ = ["LIVELOCK", "Livelock", "pinned", "run"]

T = TypeVar("T")
LIVELOCK = 300_000
"""Steps of tasks after which a schedule is given up: somebody wakes up for ever without ever waiting."""


class Livelock(Exception):
    """Virtual time stands still because some task never waits."""


class _Steps(trio.abc.Instrument):
    def __init__(self, scope: trio.CancelScope) -> None:
        self.count, self._scope = 0, scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1
        if self.count == LIVELOCK:
            self._scope.cancel()


def pinned() -> list[str]:
    """What this module needs of trio and does not find: one sentence each."""
    wrong = []
    if not isinstance(getattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", None), bool):
        wrong.append("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING is no bool any more")
    if not isinstance(getattr(scheduler, "_r", None), random.Random):
        wrong.append("trio._core._run._r is no random.Random any more")
    return wrong


def run(main: Callable[[], Awaitable[T]], seed: int) -> T:
    """`trio.run(main)` on a clock that jumps, in the order of tasks that belongs to `seed`.

    Raises Livelock, and what `main` raises.
    """
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()  # noqa: SLF001 - pinned by a test
    switch: Any = scheduler  # it is Final for everybody but hypothesis and us
    switch._ALLOW_DETERMINISTIC_SCHEDULING = True  # noqa: SLF001 - pinned by a test
    switch._r.seed(seed)  # noqa: SLF001 - pinned by a test

    async def bounded() -> T:
        with trio.CancelScope() as scope:
            steps = _Steps(scope)
            trio.lowlevel.add_instrument(steps)
            return await main()
        raise Livelock(f"{LIVELOCK} steps and no end, at {trio.current_time():.3f} s")

    try:
        return trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        switch._ALLOW_DETERMINISTIC_SCHEDULING = before[0]  # noqa: SLF001 - pinned by a test
        switch._r.setstate(before[1])  # noqa: SLF001 - pinned by a test
