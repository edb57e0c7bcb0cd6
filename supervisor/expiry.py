"""Expiry: engines of a pool with `expire_s` that did nothing for so long are disposed of.

Doing something is a row, by the monotonic clock: a wall clock that is set forward must not dispose of anybody. To have
work, or to be held, is to do something. One timer for each such engine, which looks when it is due and sleeps for the
rest; a row costs one look-up.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from actors.cell import Cell
from protocol.commands import Dispose
from protocol.errors import EnginehouseError
from protocol.states import State
from supervisor.house import Caller

if TYPE_CHECKING:
    from supervisor.supervisor import Supervisor

__all__ = ["Expiry"]


class Expiry:
    """See the module."""

    def __init__(self, house: Supervisor) -> None:
        self._house = house
        self._moved_at: dict[str, float] = {}

    def moved(self, uid: str) -> None:
        """A row of this engine was folded."""
        if uid in self._moved_at:
            self._moved_at[uid] = self._house.now()

    def watch(self, cell: Cell) -> None:
        """Begin to count, if the engine's pool wants it and nobody counts yet."""
        expire_s = self._house.pools.of(cell).spec.expire_s
        if expire_s is not None and cell.spec.uid not in self._moved_at:
            self._moved_at[cell.spec.uid] = now = self._house.now()
            self._house.at(now + expire_s, partial(self._due, cell))

    def _due(self, cell: Cell) -> None:
        house, expire_s = self._house, self._house.pools.of(cell).spec.expire_s
        moved_at = self._moved_at.pop(cell.spec.uid)
        if expire_s is None or house.closing or cell.state not in (State.RUNNING, State.DORMANT, State.PAUSED):
            return
        if cell.busy or cell.held or cell.rows_ahead:
            moved_at = house.now()
        if moved_at + expire_s > house.now():
            self._moved_at[cell.spec.uid] = moved_at
            house.at(moved_at + expire_s, partial(self._due, cell))
        else:
            house.start(partial(self._dispose, cell), f"expire {cell.spec.id}")

    async def _dispose(self, cell: Cell) -> None:
        try:
            await self._house.intake.accept(cell, Dispose(reason="expired"), Caller(principal="pool"))
        except EnginehouseError:
            self.watch(cell)  # it was given work in this very moment
