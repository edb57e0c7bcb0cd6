"""Notices a blocked event loop from outside of it, and says where it is blocked.

A task beats; a thread looks whether it still does. When the beat is late, the thread logs the stack of the thread that
should be running the loop: the one line of code that a person needs to see.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable

import structlog
import trio

__all__ = ["watch_loop"]

log = structlog.get_logger("enginehouse.loop")


async def watch_loop(limit_s: float = 1.0, *, late: Callable[[float], None] = lambda late_s: None) -> None:
    """Report every block of this loop that is longer than `limit_s`, once while it lasts and once when it is over.

    `late` is called four times in each `limit_s` with how many seconds after its time this task ran.
    """
    watch = _Watch(limit_s)
    threading.Thread(target=watch.look, name="loop watch", daemon=True).start()
    try:
        while True:
            watch.beat()
            due = trio.current_time() + limit_s / 4
            await trio.sleep_until(due)
            late(trio.current_time() - due)
    finally:
        watch.stop.set()


class _Watch:
    def __init__(self, limit_s: float) -> None:
        self.stop = threading.Event()
        self._limit_s = limit_s
        self._thread = threading.get_ident()
        self._last = time.monotonic()
        self._reported = False

    def beat(self) -> None:
        now = time.monotonic()
        if self._reported:
            self._reported = False
            log.warning("the event loop goes on", blocked_s=round(now - self._last, 3))
        self._last = now

    def look(self) -> None:
        while not self.stop.wait(self._limit_s / 4):
            late_s = time.monotonic() - self._last
            if late_s > self._limit_s and not self._reported:
                frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - the documented way to another thread's stack
                stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
                self._reported = True
                log.error("the event loop is blocked", blocked_s=round(late_s, 3), stack=stack)
