"""Is a store what it claims to be? Read back through its public face and compared with what the journal says.

The journal is the truth: each row's hash follows from the row before it, and every record is the fold of its own rows.
Neither function changes anything, and both may run while the store is written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from protocol.edge import as_json
from protocol.records import Kind, Record, fold_record, touched
from supervisor.chain import GENESIS, Break, Fault, link
from supervisor.store.contract import Page, Store
from supervisor.store.ledger import KINDS, Link

__all__ = ["Chained", "verify_chain", "verify_records"]

_STEP = 1_000


class Chained(Protocol):
    """A store whose chain can be read: both that are here."""

    async def links(self, *, after: int, limit: int = 1000) -> list[Link]:
        """At most `limit` links with seq > `after`, in order; of trimmed rows only those that a kept row follows."""


async def verify_chain(store: Chained) -> Break | None:
    """The first row whose hash does not follow from the row before it, or that is missing but was not trimmed."""
    seq, previous = 0, GENESIS
    while links := await store.links(after=seq, limit=_STEP):
        for at, row, digest in links:
            if row is not None:
                if at != seq + 1:
                    return Break(seq + 1, Fault.GAP)
                if link(previous, at, row) != digest:
                    return Break(at, Fault.ALTERED)
            seq, previous = at, digest
    return None


async def verify_records(store: Store) -> list[str]:
    """One sentence for each record that is not the fold of its rows; those that begin in trimmed history are passed by.

    Holds every record in memory, so it is for tests and for audits offline, not for a serving house.
    """
    bounds = await store.bounds()
    folded: dict[tuple[Kind, str], Record] = {}
    seq = 0
    while rows := await store.read(after=seq, until=bounds.latest, limit=_STEP):
        for row in rows:
            for at in touched(row):
                record = fold_record(at[0], folded.get(at), row)
                if record is not None:
                    folded[at] = record
        seq = rows[-1].seq
    faults = []
    async for at, stored in _records(store):
        rebuilt = folded.pop(at, None)
        if rebuilt is None and stored.seq >= bounds.oldest:
            faults.append(f"{at[0]} {at[1]} is in the index and not in the journal")
        elif rebuilt is not None and as_json(rebuilt) != as_json(stored):
            faults.append(f"{at[0]} {at[1]} is not what its rows say")
    faults += [f"{kind} {name} is in the journal and not in the index" for kind, name in folded]
    return faults


async def _records(store: Store) -> AsyncIterator[tuple[tuple[Kind, str], Record]]:
    for kind in KINDS:
        before: int | None = None
        while page := await store.list(kind, Page(before=before, limit=_STEP)):
            for record in page:
                yield (kind, record.id), record
            before = page[-1].seq
