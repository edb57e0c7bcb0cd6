"""How a daemon is told: by signals, and over HTTP.

SIGTERM and SIGINT end it, the first in order, a second one at once; SIGHUP has it read its settings again.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog
import trio

from supervisor import EmbeddedHouse
from web.notify import Notify
from web.places import DaemonFile

__all__ = ["Stop"]

log = structlog.get_logger("enginehouse.daemon")

LATE_S: Final = 1.5  # what may be left of an end after its grace


class Stop:
    """The first call asks, the second insists. `grace_s`: for everything in hand, when it is asked; `fast`: everything
    below it ends at once; `hangup`: what SIGHUP does, once there is something to do.
    """

    def __init__(self, state: Path, grace_s: float, notify: Notify) -> None:
        self._state = state
        self._notify = notify
        self.grace_s = grace_s
        self.asked = trio.Event()
        self.fast = trio.CancelScope()
        self.house: EmbeddedHouse | None = None
        self.hangup: Callable[[], Awaitable[None]] | None = None
        self._insisted = trio.Event()

    async def listen(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        """Never ends. What SIGHUP starts runs in `nursery`, so that no signal waits for it."""
        async for number in signals:
            name = signal.Signals(number).name
            if number == signal.SIGHUP:
                if self.hangup is not None:
                    nursery.start_soon(self.hangup)
            elif not self.asked.is_set() and self.house is not None:
                self.ask(name)
            else:
                log.warning("stopping at once", signal=name)
                self._ask()
                self._insisted.set()
                if self.house is not None:
                    self.house.abandon()
                self.fast.cancel()

    def ask(self, who: str, grace_s: float | None = None) -> float:
        """End in order; the grace that everything has, in seconds. A repeat changes nothing."""
        if not self.asked.is_set():
            if grace_s is not None:
                self.grace_s = grace_s
            log.info("stopping", who=who, grace_s=self.grace_s)
            self._ask()
        return self.grace_s

    def _ask(self) -> None:
        self._notify.say("STOPPING=1")
        self.asked.set()

    async def see_to_it(self) -> None:
        """An engine that shields itself from cancellation cannot keep the process: by then the journal is closed."""
        await self.asked.wait()
        with trio.move_on_after(self.grace_s + LATE_S):
            await self._insisted.wait()
            await trio.sleep(LATE_S)
        log.error("leaving by force: something does not end")
        DaemonFile.remove(self._state)
        sys.stdout.flush()
        os._exit(os.EX_OK)
