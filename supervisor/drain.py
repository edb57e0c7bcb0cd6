"""Draining a pool, or the whole house: what is queued and active finishes, then each engine stops.

New work is refused by the pool itself. A drain is durable: it goes on after a restart, until it is lifted.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from actors.cell import Cell
from protocol.states import Aim, State
from protocol.wire import DrainInfo
from supervisor.pools import Pool

if TYPE_CHECKING:
    from supervisor.supervisor import Supervisor

__all__ = ["HOUSE_DRAINS", "drain", "drain_house", "how_far", "stopped_by_drain"]

HOUSE_DRAINS: Final = "the house drains"
"""Why an engine was stopped, when it was for that: by it are they found who start again."""


def drain(house: Supervisor, pool: Pool) -> None:
    """Begin, or go on after a restart. It ends by itself, also when the pool no longer drains."""
    for cell in list(pool.cells.values()):
        house.start(partial(_drain, house, pool, cell), f"drain {cell.spec.id}")


def drain_house(house: Supervisor) -> None:
    """The same for every pool."""
    house.pools.draining = True
    for pool in house.pools:
        drain(house, pool)


def stopped_by_drain(house: Supervisor) -> Iterator[str]:
    """The ids of engines that a drain of the house has stopped, or is stopping now."""
    for cell in house.cells.values():
        stop = house.views[cell.spec.uid].why.get("stop")
        stops = cell.state is State.STOPPED or cell.aim is Aim.STOPPED
        if stops and stop is not None and stop.reason == HOUSE_DRAINS:
            yield cell.spec.id


def how_far(house: Supervisor) -> DrainInfo:
    """What is left to finish."""
    up = sum(cell.actor is not None for cell in house.cells.values())
    return DrainInfo(draining=house.pools.draining, engines=up, runs=len(house.open_runs))


async def _drain(house: Supervisor, pool: Pool, cell: Cell) -> None:
    while pool.draining and not house.closing and cell.state is not State.DISPOSED:
        at_work = cell.busy or bool(len(cell.mailbox)) or bool(cell.mailbox.hand)
        up = cell.actor is not None or cell.state is State.BACKING_OFF
        if not at_work and up and not cell.ending:
            with cell.turn():
                cell.end(Aim.STOPPED, cell.spec.grace_s, reason="drain" if pool.spec.draining else HOUSE_DRAINS)
        if not at_work and cell.actor is None:
            return
        await cell.lot.park()
