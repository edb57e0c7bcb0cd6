"""Groups: when an engine crashes, who else of its pool goes down and up with it.

The crash and what it does to the others is one transaction: the rows of all of them are one write, and it is counted
once, in the window of the engine and in that of its pool (OTP's `supervisor`: restart strategies, maximum restart
intensity).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from actors.cell import Cell
from actors.journaling import Journaling
from protocol.decide import Decision, Exit, decide
from protocol.events import Row
from protocol.specs import Strategy
from protocol.states import Aim, State, Trigger
from protocol.writes import Write

if TYPE_CHECKING:
    from supervisor.supervisor import Supervisor

__all__ = ["Groups", "Part"]

Part = tuple[Journaling, tuple[Row, ...]]
"""A cell and its rows in a write of several."""


class Groups:
    """See the module."""

    def __init__(self, house: Supervisor) -> None:
        self._house = house
        self._gathering: list[Part] | None = None
        self._with: dict[Journaling, list[Part]] = {}

    def decide(self, cell: Cell, exit: Exit) -> Decision:
        """The engine's own window, then its pool's; then its group."""
        now, pool = self._house.now(), self._house.pools.of(cell)
        decision = decide(cell.spec.restart, cell.history, exit, now, self._house.random())
        if decision.trigger is not Trigger.CRASHED:
            return decision
        group = pool.group(cell)
        if pool.exhausted(now):
            with self._together(cell):
                for other in reversed(group):
                    other.end(
                        Aim.STOPPED, other.spec.grace_s, reason=f"restart intensity of pool {pool.spec.id} exceeded"
                    )
            return Decision(Trigger.GAVE_UP, history=cell.history)
        pool.restarts.append(now)
        if pool.spec.strategy is not Strategy.ONE_FOR_ONE:
            with self._together(cell):
                for other in reversed(group):
                    if other.actor is not None and other.state is not State.STOPPING:
                        other.end(Aim.RESTART, other.spec.grace_s, reason=f"{cell.spec.id} crashed")
        return decision

    def write(self, cell: Journaling, rows: tuple[Row, ...]) -> Write | None:
        """The write for these rows, with those of the cell's group; None while the group's own are gathered."""
        if self._gathering is not None:
            self._gathering.append((cell, rows))
            return None
        others = self._with.pop(cell, None) if self._with else None
        if others is None:
            return Write(rows, tag=cell)
        parts = [(cell, rows), *others]
        return Write(tuple(row for _, part in parts for row in part), tag=parts)

    @contextmanager
    def _together(self, cell: Cell) -> Iterator[None]:
        """What is written within is part of the write in which the cell's present turn ends."""
        self._gathering = []
        try:
            yield
        finally:
            if self._gathering:
                self._with[cell] = self._gathering
            self._gathering = None
