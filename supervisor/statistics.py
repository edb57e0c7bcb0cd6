"""What a house counts, as one frozen record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.mailbox import MailboxStatistics
from supervisor.store.contract import StoreStatistics

if TYPE_CHECKING:
    from supervisor.supervisor import Supervisor

__all__ = ["HouseStatistics", "statistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseStatistics:
    """`engines`: by state; `mailboxes`: by engine id; `unbalanced`: engines whose mailbox breaks the conservation law
    (accepted = handled + dead-lettered + withdrawn + queued + in hand), always empty unless the house has a bug.
    """

    engines: dict[str, int]
    mailboxes: dict[str, MailboxStatistics]
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
        unbalanced=tuple(engine for engine, mail in mailboxes.items() if not mail.balanced),
        store=house.store.statistics(),
        readers=house.rings.readers,
        deadlines=len(house.deadlines),
        late_answers=house.late_answers,
        folded=house.folded,
    )
