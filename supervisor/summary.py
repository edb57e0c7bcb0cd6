"""A house in a few numbers by pool, for whoever watches many engines: cheap enough to be asked for again and again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from protocol.requests import RequestState
from supervisor.store.contract import StoreStatistics

if TYPE_CHECKING:
    from actors.cell import Cell
    from protocol.view import View
    from supervisor.supervisor import Supervisor

__all__ = ["HouseSummary", "PoolSummary", "summary"]

AT_ONCE = 500
"""How many engines are looked at before others run: about a millisecond of them."""


@dataclass(slots=True, kw_only=True)
class PoolSummary:
    """The engines of one pool together. `engines`: by (kind, state); `accepted`, `handled`, `dead`, `withdrawn`: of all
    mailboxes since this start of the house, those of disposed engines included, so they never fall; `unbalanced`:
    mailboxes that break the conservation law; `oldest_age_s`: how long the message waits that waits longest; `runs`:
    those that have not ended, by status; `requests`: that wait for a decision; `programs`: started by engines and
    running, without what those started themselves.
    """

    engines: Counter[tuple[str, str]] = field(default_factory=Counter)
    accepted: int = 0
    handled: int = 0
    dead: int = 0
    withdrawn: int = 0
    queued: int = 0
    in_hand: int = 0
    unbalanced: int = 0
    oldest_age_s: float = 0.0
    runs: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    programs: int = 0

    def add(self, cell: Cell, view: View, now: float) -> None:
        """Count one engine in. It is looked at in place: a record of its own for each costs as much as all of this."""
        self.engines[cell.spec.kind, cell.state.value] += 1
        mailbox = cell.mailbox
        ended, queued, in_hand = mailbox.ended, len(mailbox), len(mailbox.hand)
        self.accepted += mailbox.accepted
        self.handled += ended["handled"]
        self.dead += ended["dead"]
        self.withdrawn += ended["withdrawn"]
        self.queued += queued
        self.in_hand += in_hand
        self.unbalanced += mailbox.accepted != sum(ended.values()) + queued + in_hand
        if queued:
            oldest = min((envelope.at for envelope in mailbox if envelope.at is not None), default=now)
            self.oldest_age_s = max(self.oldest_age_s, now - oldest)
        if cell.actor is not None:
            self.programs += cell.actor.programs
        for run in view.runs.values():
            self.runs[run.status.value] += 1
        for request in view.requests.values():
            self.requests += request.state is RequestState.PENDING


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseSummary:
    """`pools`: by id; `readers`: of events; `late_answers`: that came after their asker had gone; `folded`: the `seq`
    of the last row that was shown.
    """

    pools: dict[str, PoolSummary]
    store: StoreStatistics
    readers: int
    late_answers: int
    folded: int


async def summary(house: Supervisor) -> HouseSummary:
    """Each engine as it is when it is looked at; others run in between. One that is disposed meanwhile is counted once
    all the same.
    """
    pools: dict[str, PoolSummary] = {}
    for pool in house.pools:
        gone = pool.retired
        pools[pool.spec.id] = PoolSummary(
            accepted=gone.accepted, handled=gone.handled, dead=gone.dead, withdrawn=gone.withdrawn
        )
    for number, (uid, cell) in enumerate(list(house.cells.items())):
        if number % AT_ONCE == AT_ONCE - 1:
            await trio.lowlevel.checkpoint()
        if cell.spec.pool not in pools:
            pools[cell.spec.pool] = PoolSummary()
        pools[cell.spec.pool].add(cell, house.views[uid], house.now())
    return HouseSummary(
        pools=pools,
        store=house.store.statistics(),
        readers=house.rings.readers,
        late_answers=house.late_answers,
        folded=house.folded,
    )
