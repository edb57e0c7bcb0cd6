"""Runs that were delegated do not outlive the run that they are done for, whoever ended that, and however.

What is looked at is the journal: each run that ends (in its callback, or while it waited to be tried again), and after
a restart every open run whose own is open no more.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from protocol.commands import Cancel
from protocol.errors import EnginehouseError
from protocol.runs import Run
from supervisor.house import Caller

if TYPE_CHECKING:
    from supervisor.supervisor import Supervisor

__all__ = ["Delegated"]

REASON: Final = "the run that it was done for is over"


class Delegated:
    """Those of one house that nobody took back yet, by the run that they are done for."""

    def __init__(self, house: Supervisor) -> None:
        self._house = house
        self._given: defaultdict[str, set[str]] = defaultdict(set)

    def restore(self) -> None:
        """Once every engine is there."""
        for run_id, uid in list(self._house.open_runs.items()):
            self.queued(self._house.views[uid].runs[run_id])

    def queued(self, run: Run) -> None:
        """A run is in the queue, for the first time or again."""
        if run.done_for is not None:
            self._given[run.done_for].add(run.id)
            if run.done_for not in self._house.open_runs:
                self.ended(run.done_for)

    def ended(self, run_id: str) -> None:
        """Take back what was given for this run."""
        for given in self._given.pop(run_id, ()):
            self._start(given)

    def take_back(self, run_id: str) -> None:
        """Have a run that was given cancelled, once, as far as it has not ended. Does not wait."""
        for given in self._given.values():
            if run_id in given:
                given.remove(run_id)
                self._start(run_id)
                break

    def _start(self, run_id: str) -> None:
        self._house.start(partial(self._cancel, run_id), f"take back {run_id}")

    async def _cancel(self, run_id: str) -> None:
        house = self._house
        cell = house.cells.get(house.open_runs.get(run_id, ""))
        if cell is not None:
            run = house.views[cell.spec.uid].runs[run_id]
            with suppress(EnginehouseError):  # it ends by itself; or the house does, and the next one looks again
                await house.intake.accept(cell, Cancel(run_id=run_id, reason=REASON), Caller(principal=run.principal))
