"""What a house counts, as one frozen record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from actors.mailbox import MailboxStatistics
from protocol.requests import RequestState
from supervisor.store.contract import StoreStatistics

if TYPE_CHECKING:
    from supervisor.supervisor import Supervisor

__all__ = ["HouseStatistics", "PoolStatistics", "statistics"]


@dataclass(slots=True, kw_only=True)
class PoolStatistics:
    """The engines of one pool together. `engines`: by (kind, state); `accepted`, `handled`, `dead`, `withdrawn`: of all
    mailboxes since this start of the house, those of disposed engines included, so they never fall; `oldest_age_s`: how
    long the message waits that waits longest; `runs`: those that have not ended, by status; `requests`: that wait for a
    decision; `programs`: started by engines and running, without what those started themselves.
    """

    engines: dict[tuple[str, str], int] = field(default_factory=dict)
    accepted: int = 0
    handled: int = 0
    dead: int = 0
    withdrawn: int = 0
    queued: int = 0
    in_hand: int = 0
    unbalanced: int = 0
    oldest_age_s: float = 0.0
    runs: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    programs: int = 0

    def add(self, mail: MailboxStatistics) -> None:
        """Count one mailbox in."""
        self.accepted += mail.accepted
        self.handled += mail.handled
        self.dead += mail.dead
        self.withdrawn += mail.withdrawn
        self.queued += mail.queued
        self.in_hand += mail.in_hand
        self.unbalanced += not mail.balanced


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseStatistics:
    """`engines`: by state; `mailboxes`: by engine id; `pools`: by id; `unbalanced`: engines whose mailbox breaks the
    conservation law (accepted = handled + dead-lettered + withdrawn + queued + in hand), always empty unless the house
    has a bug.
    """

    engines: dict[str, int]
    mailboxes: dict[str, MailboxStatistics]
    pools: dict[str, PoolStatistics]
    unbalanced: tuple[str, ...]
    store: StoreStatistics
    readers: int
    deadlines: int
    late_answers: int
    folded: int


def statistics(house: Supervisor) -> HouseStatistics:
    engines: dict[str, int] = {}
    for cell in house.cells.values():
        engines[cell.state.value] = engines.get(cell.state.value, 0) + 1
    mailboxes = {cell.spec.id: cell.mailbox.statistics() for cell in house.cells.values()}
    return HouseStatistics(
        engines=engines,
        mailboxes=mailboxes,
        pools=_pools(house, mailboxes),
        unbalanced=tuple(engine for engine, mail in mailboxes.items() if not mail.balanced),
        store=house.store.statistics(),
        readers=house.rings.readers,
        deadlines=len(house.deadlines),
        late_answers=house.late_answers,
        folded=house.folded,
    )


def _pools(house: Supervisor, mailboxes: dict[str, MailboxStatistics]) -> dict[str, PoolStatistics]:
    found = {pool.spec.id: PoolStatistics() for pool in house.pools}
    for pool in house.pools:
        found[pool.spec.id].add(pool.retired)
    now = house.now()
    for cell in house.cells.values():
        one = found.setdefault(cell.spec.pool, PoolStatistics())
        what = (cell.spec.kind, cell.state.value)
        one.engines[what] = one.engines.get(what, 0) + 1
        mail = mailboxes[cell.spec.id]
        one.add(mail)
        if mail.oldest_at is not None:
            one.oldest_age_s = max(one.oldest_age_s, now - mail.oldest_at)
        one.programs += cell.actor.programs if cell.actor is not None else 0
        view = house.views[cell.spec.uid]
        for run in view.runs.values():
            one.runs[run.status.value] = one.runs.get(run.status.value, 0) + 1
        one.requests += sum(request.state is RequestState.PENDING for request in view.requests.values())
    return found
