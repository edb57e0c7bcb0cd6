"""Refs: the only handle that outsiders hold on an engine of their own process.

`tell` and `ask` are volatile: nothing is journaled, so they are fast, and they are gone with the incarnation. They take
a place in the work lane and are handled by `on_signal`; commands, which are durable, go through the house. A ref stays
valid across restarts, because it finds the engine by its id each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from actors.envelope import Envelope, ReplySlot

if TYPE_CHECKING:
    from actors.cell import Cell

__all__ = ["Ref"]


class Ref:
    """One engine, by its id."""

    __slots__ = ("_find", "engine_id")

    def __init__(self, engine_id: str, find: Callable[[str], Cell]) -> None:
        self.engine_id = engine_id
        self._find = find

    def __repr__(self) -> str:
        return f"Ref({self.engine_id!r})"

    def tell(self, name: str, payload: Any = None) -> None:
        """Send and forget. Raises MailboxFull, NotFound, ShuttingDown, or what refuses a signal in its state."""
        cell = self._find(self.engine_id)
        cell.offer(Envelope(name, payload))

    async def ask(self, name: str, payload: Any = None, *, timeout_s: float = 30.0) -> Any:
        """Send, and wait for what `on_signal` returns.

        Raises what `tell` raises; TimeoutError after `timeout_s`; Undelivered when the engine ended first. Cancelled,
        or too late: the message may still be handled, and its answer is a dead letter.
        """
        cell = self._find(self.engine_id)
        slot = ReplySlot()
        cell.offer(Envelope(name, payload, reply=slot))
        timer = cell.host.at(
            trio.current_time() + timeout_s,
            lambda: slot.fail(TimeoutError(f"{name} to {self.engine_id}: no answer within {timeout_s} s")),
        )
        try:
            return await slot.get()
        finally:
            timer.cancel()
