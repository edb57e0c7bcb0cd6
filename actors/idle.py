"""Passivation: an engine with nothing to do goes dormant after a while, if that is wanted.

The while is counted on the incarnation's own clock. So whoever had a minute left when it was paused has a minute left
when it goes on, and a timer is only armed while nobody holds the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.host import Timer
from protocol.states import Aim, State

if TYPE_CHECKING:
    from actors.cell import Cell

__all__ = ["Idle"]


class Idle:
    """How long one engine has had nothing to do."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._since: float | None = None
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Nothing to do: count from now, or go on counting."""
        cell, idle_s = self._cell, self._cell.host.idle_s(self._cell)
        if idle_s is None or self._timer is not None or cell.held or cell.actor is None:
            return
        now = cell.actor.clock.time()
        if self._since is None:
            self._since = now
        self._timer = cell.host.at(cell.host.now() + max(self._since + idle_s - now, 0), self._due)

    def suspend(self) -> None:
        """Held: nothing falls due, and what was counted is kept."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """There is something to do, or nobody left to do it."""
        self._since = None
        if self._timer is not None:
            self.suspend()

    def _due(self) -> None:
        self._since = self._timer = None
        cell = self._cell
        at_work = cell.actor is None or cell.actor.working or cell.busy or len(cell.mailbox)
        if cell.state is State.RUNNING and not at_work:
            with cell.turn():
                cell.end(Aim.DORMANT, cell.spec.grace_s, reason="idle")
