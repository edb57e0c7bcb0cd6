"""Draining a pool: what is queued and active finishes, then each engine stops.

New work is refused by the pool itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from actors.cell import Cell
from protocol.states import Aim, State
from supervisor.pools import Pool

if TYPE_CHECKING:
    from supervisor.supervisor import Supervisor

__all__ = ["drain"]


def drain(house: Supervisor, pool: Pool) -> None:
    """Begin, or go on after a restart. It ends by itself, also when the pool no longer drains."""
    for cell in list(pool.cells.values()):
        house.start(partial(_drain, house, pool, cell), f"drain {cell.spec.id}")


async def _drain(house: Supervisor, pool: Pool, cell: Cell) -> None:
    while pool.spec.draining and not house.closing and cell.state is not State.DISPOSED:
        at_work = cell.busy or bool(len(cell.mailbox)) or bool(cell.mailbox.hand)
        up = cell.actor is not None or cell.state is State.BACKING_OFF
        if not at_work and up and not cell.ending:
            with cell.turn():
                cell.end(Aim.STOPPED, cell.spec.grace_s, reason="drain")
        if not at_work and cell.actor is None:
            return
        await cell.lot.park()
