"""Envelopes: a message with its routing data; and the one-shot slot for its answer.

An envelope whose `command` is set is durable: it was journaled before it got here, and its end will be. One without is
a volatile `tell` or `ask` between actors of one process. A late answer is nobody's error: the slot refuses it and says
so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import trio

from protocol.commands import Command

__all__ = ["Envelope", "ReplySlot", "Undelivered"]


class Undelivered(Exception):
    """A volatile message that nobody will handle: its engine, or the house, ended first. It may or may not have had an
    effect; asking again is up to the asker.
    """


class ReplySlot:
    """A one-shot answer: set once, read once."""

    __slots__ = ("_done", "_task", "_value")

    def __init__(self) -> None:
        self._done = False
        self._value: Any = None
        self._task: trio.lowlevel.Task | None = None

    @property
    def done(self) -> bool:
        return self._done

    def set(self, value: Any) -> bool:
        """Answer. False when there already was an answer, or nobody waits any more; then nothing changes."""
        if self._done:
            return False
        self._done, self._value = True, value
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None
        return True

    def fail(self, error: Exception) -> bool:
        """Answer with an error, which `get` raises."""
        return self.set(_Failure(error))

    async def get(self) -> Any:
        """Wait for the answer. Cancelled: the slot is closed, so a late answer is refused."""
        if not self._done:
            self._task = trio.lowlevel.current_task()

            def abort(_: Any) -> trio.lowlevel.Abort:
                self._task, self._done = None, True
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        else:
            await trio.lowlevel.checkpoint()
        if isinstance(self._value, _Failure):
            raise self._value.error
        return self._value


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception


@dataclass(slots=True, eq=False)
class Envelope:
    """`name` and `payload` of a signal, or a run (`run_id` set). `attempt`: which start of the run comes next; `lost`:
    how many starts a crash took; `at`: when it came, on the house's clock (None: volatile, nobody asks).
    """

    name: str
    payload: Any = None
    command: Command | None = None
    reply: ReplySlot | None = None
    at: float | None = None
    run_id: str | None = None
    high: bool = False
    attempt: int = 1
    lost: int = 0
    resumed: bool = False
    timeout_s: float | None = None
    labels: Mapping[str, str] | None = None

    @property
    def is_run(self) -> bool:
        return self.run_id is not None
