"""Receipts: what a command's sender waits for while the store makes it durable."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from actors.cell import Cell
from protocol.commands import Command
from protocol.errors import EnginehouseError
from protocol.specs import Spec
from protocol.writes import Replay
from supervisor.audit import Trail

__all__ = ["Receipt"]


@dataclass(slots=True, eq=False)
class Receipt:
    """Resolved once, in the commit callback. `cell`: whose mailbox holds a `reserved` place; `spawns`: the engine that
    the command brings to life; `counted`: when it took a place in its pool's quota of runs; `replay`: an earlier
    command under the same key; `trail`: the audit row that went along; `error`: why it was rejected at delivery, or
    what became of the store.
    """

    command: Command | None = None
    cell: Cell | None = None
    reserved: bool = False
    spawns: Spec | None = None
    replay: Replay | None = None
    error: EnginehouseError | None = None
    trail: Trail | None = None
    seq: int = 0
    counted: float | None = None
    done: bool = False
    _lot: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    def resolve(self) -> None:
        if self.reserved and self.cell is not None:
            self.reserved = False
            self.cell.mailbox.release()
        self.done = True
        self._lot.unpark_all()

    async def wait(self) -> None:
        """Until it is durable, replayed or rejected. Cancelled: nothing changes, the store still owns the write."""
        while not self.done:
            await self._lot.park()
        if self.error is not None:
            raise self.error
