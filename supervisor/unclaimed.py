"""Process trees that outlived the last house and that no engine of this one will take over.

An engine claims its tree when it was up, or parked, at the end of the last house: then it boots again, now or when it
is released. So does one that cannot start, for its tree may be what it could not get at (`CannotAdopt`). Of what was
stopped, disposed of, about to restart or crashed too often nothing goes on, nor of what this journal does not know.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from actors.processes import Home, Tree, homes
from protocol.decide import Cause
from protocol.states import Aim, State
from protocol.view import View

if TYPE_CHECKING:
    from supervisor.supervisor import Supervisor

__all__ = ["end_unclaimed"]

CLAIMING = (State.STARTING, State.RUNNING, State.PAUSING, State.PAUSED)
TERM_S = 0.5


async def end_unclaimed(house: Supervisor, views: Iterable[View]) -> None:
    """Before any engine boots. What cannot be ended stays where it is, and the next house tries again."""
    if house.children.lasting is None:
        return
    folder = Path(house.children.lasting)
    claimed = {Home.of(folder, view.spec.uid, lasts=True) for view in views if _claims(view)}
    async with trio.open_nursery() as nursery:
        for home in homes(folder):
            if home not in claimed:
                nursery.start_soon(Tree(home.marker(house.name), house.children, home).end, TERM_S)


def _claims(view: View) -> bool:
    if view.state is State.FAILED:
        return view.last_exit is not None and view.last_exit["cause"] == Cause.UNMENDABLE
    return view.state in CLAIMING or (view.state is State.STOPPING and view.aim is Aim.PARKED)
