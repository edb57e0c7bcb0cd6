"""How the house is: every check is made when it is asked for, none is assumed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from actors.cell import Cell
from protocol.requests import RequestState
from protocol.states import State
from protocol.times import epoch_ms
from supervisor.attendance import LOOK_S

if TYPE_CHECKING:
    from supervisor.supervisor import Supervisor

__all__ = ["checks", "worst"]

Check = dict[str, Any]

READ_S = 2.0
"""How long the store may take to answer before it counts as gone."""
LAG_S = 0.5
LOW_BYTES, FULL_BYTES = 1 << 30, 64 << 20
"""Free space below which the disk is degraded, and unhealthy."""
ORDER = ("unhealthy", "degraded", "healthy")


def worst(found: dict[str, Check]) -> str:
    """The status of the whole: that of its worst check."""
    return next(status for status in ORDER if any(check["status"] == status for check in found.values()))


async def checks(house: Supervisor, sees: Callable[[str, str], bool]) -> dict[str, Check]:
    """Each check by name: {status, ...what was measured}. `sees`: whether the engine of a pool and uid is counted."""
    return {
        "store": await _store(house),
        "disk": await _disk(house),
        "event_loop": await _event_loop(),
        "engines": _engines(cell for cell in house.cells.values() if sees(cell.spec.pool, cell.spec.uid)),
        "requests": _requests(house, sees),
    }


async def _store(house: Supervisor) -> Check:
    """One read, timed."""
    before = time.perf_counter()
    with trio.move_on_after(READ_S) as limit:
        if house.failed is None:
            await house.store.bounds()
    counts = house.store.statistics()
    return {
        "status": "unhealthy" if house.failed is not None or limit.cancelled_caught else "healthy",
        "read_s": round(time.perf_counter() - before, 6),
        "queued_writes": counts.queued_writes,
        "queued_bytes": counts.queued_bytes,
        "last_commit_s": round(counts.last_commit_s, 6),
    }


async def _disk(house: Supervisor) -> Check:
    look = partial(shutil.disk_usage, house.directory)
    free = (await trio.to_thread.run_sync(look, limiter=house.disk) if house.threads else look()).free
    status = "unhealthy" if free < FULL_BYTES else "degraded" if free < LOW_BYTES else "healthy"
    return {"status": status, "free_bytes": free}


async def _event_loop() -> Check:
    """One turn of the loop, timed."""
    before = time.perf_counter()
    await trio.lowlevel.checkpoint()
    lag_s = time.perf_counter() - before
    return {"status": "degraded" if lag_s > LAG_S else "healthy", "lag_s": round(lag_s, 6)}


def _engines(cells: Iterable[Cell]) -> Check:
    """How many are in each state; one that failed wants a look."""
    states: dict[str, int] = {}
    for cell in cells:
        states[cell.state.value] = states.get(cell.state.value, 0) + 1
    return {"status": "degraded" if states.get(State.FAILED.value) else "healthy", **states}


def _requests(house: Supervisor, sees: Callable[[str, str], bool]) -> Check:
    """How many wait for people, and how many of them for nobody: pending for a while, with no one there who may decide
    them.
    """
    pending = [
        r
        for view in house.views.values()
        if sees(view.spec.pool, view.spec.uid)
        for r in view.requests.values()
        if r.state is RequestState.PENDING
    ]
    since = house.wall() - LOOK_S
    unwatched = [r for r in pending if epoch_ms(r.created_at) / 1000 <= since and not house.watched(r)]
    return {
        "status": "degraded" if unwatched else "healthy",
        "pending": len(pending),
        "requests_unwatched": len(unwatched),
    }
