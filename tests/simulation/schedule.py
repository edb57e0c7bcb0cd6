"""Trio, made a function of a seed: virtual time, and the order in which tasks run drawn from a generator of ours.

The one place that touches trio's private names (those that trio itself sets when it runs under hypothesis). They are
pinned by a test of this folder, which says what changed when a new trio changes them. Threads, real input and output,
`hash` of strings and unseeded randomness are not covered by a seed: whoever is simulated gets all that from outside.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
import trio.testing
from trio._core import _run as scheduler  # the only way to the order of tasks

__all__ = ["CPU_S", "Stuck", "pinned", "run", "scheduler"]

T = TypeVar("T")
CPU_S = 10.0
"""How much work a schedule may be (a usual one is 0.2 s) before it is taken to be stuck."""


class Stuck(BaseException):
    """Somebody goes on for ever without virtual time passing, or sleeps for ever where no cancellation comes.

    Not an Exception: it is raised from a signal handler, wherever that is, and nothing on the way out may keep it.
    """


def pinned() -> list[str]:
    """What this module needs of trio and does not find: one sentence each."""
    wrong = []
    if not isinstance(getattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", None), bool):
        wrong.append("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING is no bool any more")
    if not isinstance(getattr(scheduler, "_r", None), random.Random):
        wrong.append("trio._core._run._r is no random.Random any more")
    return wrong


def run(main: Callable[[], Awaitable[T]], seed: int) -> T:
    """`trio.run(main)` on a clock that jumps, in the order of tasks that belongs to `seed`; in the main thread.

    Raises Stuck (bare, in a group, or as the cause of trio's TrioInternalError), and what `main` raises.
    """
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()  # noqa: SLF001 - pinned by a test
    switch: Any = scheduler  # it is Final for everybody but hypothesis and us
    switch._ALLOW_DETERMINISTIC_SCHEDULING = True  # noqa: SLF001 - pinned by a test
    switch._r.seed(seed)  # noqa: SLF001 - pinned by a test

    def stuck(*_: object) -> None:
        raise Stuck(f"{CPU_S} s of work and no end")

    handler = signal.signal(signal.SIGVTALRM, stuck)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
    try:
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)
        switch._ALLOW_DETERMINISTIC_SCHEDULING = before[0]  # noqa: SLF001 - pinned by a test
        switch._r.setstate(before[1])  # noqa: SLF001 - pinned by a test
