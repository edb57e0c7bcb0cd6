"""A subscriber: a cursor that reads the ring while it can keep up, and the journal while it cannot.

Backlog, live, slow reader and Last-Event-ID are one loop: `seq` is the last durable row that was shown, and whatever
comes next is found in the ring, or, when it has left the ring, in the journal. So each visible durable event is given
exactly once and in order, whatever the reader's pace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

import trio

from protocol.authority import Authority, Scope
from protocol.edge import as_json
from protocol.errors import EventIdExpired, InvalidEventId, NotFound
from protocol.events import TRANSIENT, Frame, Row, encode
from protocol.ids import event_id, parse_event_id
from protocol.runs import Run
from protocol.states import State
from supervisor.house import Filter
from supervisor.rings import Ring

if TYPE_CHECKING:
    from supervisor.supervisor import Supervisor

__all__ = ["Stream", "position", "visible"]

PAGE = 256


async def position(house: Supervisor, after: str | None) -> int:
    """The `seq` after which to start. None: the present. Raises InvalidEventId, EventIdExpired."""
    if after is None:
        return house.folded
    try:
        era, seq = parse_event_id(after)
    except ValueError:
        raise InvalidEventId(f"{after!r} is no event id. Use one that a stream gave you, or 0.") from None
    bounds = await house.store.bounds()
    here = house.store.era
    known = {"oldest": event_id(here, bounds.oldest), "latest": event_id(here, house.folded)}
    if era is None:
        return bounds.oldest - 1
    if era != here:
        raise EventIdExpired("This id is of another journal. Read the state anew and go on from `latest`.", **known)
    if seq > house.folded:
        raise InvalidEventId(f"{after} has not happened yet; the latest is {known['latest']}.")
    if seq < bounds.oldest - 1:
        raise EventIdExpired(
            "What followed this id was compacted. Read the state anew, or go on from `oldest`.", **known
        )
    return seq


def visible(
    house: Supervisor, filter: Filter, uid: str | None, authority: Authority | None = None
) -> Callable[[Row], bool]:
    """Whether a row passes the filter, and is there for somebody of this authority. What is of no pool is for those who
    are bound to none, audit rows for those alone among them who ask for them by `types` and may everything.
    """
    audit = (authority is None or (authority.everywhere and authority.has(Scope.ADMIN))) and any(
        t.partition(".")[0] == "audit" for t in filter.types
    )

    def shows(row: Row) -> bool:
        if row.type.startswith("audit.") and not audit:
            return False
        if authority is not None and not (authority.sees(row.pool, row.uid) if row.uid else authority.everywhere):
            return False
        if uid is not None and row.uid != uid:
            return False
        if filter.run is not None and row.run_id != filter.run:
            return False
        if filter.types and not any(row.type == t or row.type.startswith(t + ".") for t in filter.types):
            return False
        if filter.pools and row.pool not in filter.pools:
            return False
        if filter.kinds:
            view = house.views.get(row.uid)
            if view is None or view.spec.kind not in filter.kinds:
                return False
        return not (filter.slices and row.type == "state.patched" and row.data["slice"] not in filter.slices)

    return shows


class Stream:
    """One subscription. See `supervisor.house.Subscription`."""

    def __init__(
        self,
        house: Supervisor,
        filter: Filter,
        after: str | None,
        *,
        snapshot: bool,
        authority: Authority | None = None,
    ) -> None:
        self._house, self._filter, self._after, self._snapshot = house, filter, after, snapshot
        self._authority = authority
        self._uid: str | None = None
        self._seq = 0
        self._place = 0
        self._transients = 0  # how many were published before that place
        self._missed = 0
        self._ended = False
        self._ring: Ring | None = None
        self._shows: Callable[[Row], bool] = lambda row: True

    async def __aenter__(self) -> Self:
        house, wanted = self._house, self._filter
        if wanted.engine is not None:
            self._uid = house.view(wanted.engine).spec.uid
            if not self._sees(self._uid):
                raise NotFound(f"There is no engine {wanted.engine!r}.")
        elif wanted.run is not None:
            self._uid = await self._engine_of(wanted.run)
            if not self._sees(self._uid):
                raise NotFound(f"There is no run {wanted.run!r}.")
        self._seq = await position(house, self._after)
        self._shows = visible(house, wanted, self._uid, self._authority)
        self._ring = house.rings.join(self._uid, house.folded)
        self._attach()
        self._missed = 0  # what was before this reader came, nobody owed it
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._ring is not None:
            self._house.rings.leave(self._uid, self._ring)
            self._ring = None

    @property
    def position(self) -> str:
        """The event id that the next frames lie behind; also rows that the filter hides were passed."""
        return self._id(self._seq)

    def _sees(self, uid: str) -> bool:
        """Whether an engine is there for this reader; of one that left the journal nothing is known."""
        view = self._house.views.get(uid)
        return self._authority is None or self._authority.sees(view.spec.pool if view is not None else "", uid)

    async def _engine_of(self, run_id: str) -> str:
        uid = self._house.open_runs.get(run_id)
        if uid is not None:
            return uid
        record = await self._house.store.get("run", run_id)
        if not isinstance(record, Run):
            raise NotFound(f"There is no run {run_id!r}.")
        return record.uid

    async def receive(self) -> list[Frame]:
        """See `Subscription.receive`."""
        if self._ended or self._ring is None:
            raise trio.EndOfChannel
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._snapshot and self._after is None:  # who resumes has the state, and must miss nothing
            self._snapshot = False
            return [self._snapshot_frame()]
        while True:
            ring = self._ring
            if ring.lost > self._seq:
                frames = await self._from_journal()
            else:
                frames = self._from_ring()
            if frames:
                return frames
            if ring.lost > self._seq or self._place < ring.next:
                continue
            if self._finished():
                self._ended = True
                return [Frame(event="end", id=self._id(self._seq), data=encode({"reason": "nothing follows"}))]
            if self._house.over:
                self._ended = True
                return [Frame(event="server.closing", id=None, data=encode({"retry_s": 1}))]
            await ring.lot.park()

    # -- within ------------------------------------------------------------------------------------------------------
    def _from_ring(self) -> list[Frame]:
        ring = self._ring
        assert ring is not None
        if self._place < ring.first:
            self._missed += ring.dropped - self._transients
            self._place, self._transients = ring.first, ring.dropped
        rows = [row for row in ring.since(self._place) if row.seq > self._seq or not row.seq]
        self._place = ring.next
        for row in rows:
            if row.seq:
                self._seq = row.seq
            else:
                self._transients += 1
        return self._missing() + self._frames(rows)

    async def _from_journal(self) -> list[Frame]:
        house, after = self._house, self._seq
        until = house.folded
        rows = await house.store.read(after=after, until=until, uid=self._uid, run_id=self._filter.run, limit=PAGE)
        frames: list[Frame] = []
        oldest = (await house.store.bounds()).oldest
        if oldest > after + 1:
            frames.append(
                Frame(event="gap", id=None, data=encode({"from": after + 1, "to": oldest - 1, "reason": "compacted"}))
            )
        self._seq = rows[-1].seq if len(rows) == PAGE else until
        self._attach()
        return frames + self._missing() + self._frames(rows)

    def _attach(self) -> None:
        """Where in the ring to go on: behind the last durable row that was shown already."""
        ring = self._ring
        assert ring is not None
        self._place = ring.first
        for place, row in enumerate(ring.since(ring.first), start=ring.first):
            if row.seq and row.seq <= self._seq:
                self._place = place + 1
        before = ring.transients_before(self._place)
        self._missed += max(before - self._transients, 0)
        self._transients = before

    def _missing(self) -> list[Frame]:
        """The transient rows that this reader was too slow for, of whichever engine, as a count."""
        missed, self._missed = self._missed, 0
        wanted = self._filter.types
        if not missed or (wanted and not any(t == w or t.startswith(w + ".") for t in TRANSIENT for w in wanted)):
            return []
        return [Frame(event="gap", id=None, data=encode({"from": None, "to": None, "reason": "slow", "count": missed}))]

    def _frames(self, rows: Iterable[Row]) -> list[Frame]:
        shows, era = self._shows, self._house.store.era
        return [row.frame(era) for row in rows if shows(row)]

    def _id(self, seq: int) -> str:
        return event_id(self._house.store.era, seq)

    def _finished(self) -> bool:
        """Whether nothing can follow: the run has ended, the engine is disposed."""
        if self._uid is None:
            return False
        view = self._house.views.get(self._uid)
        if view is None or view.state is State.DISPOSED:
            return True
        return self._filter.run is not None and self._filter.run not in view.runs

    def _snapshot_frame(self) -> Frame:
        house = self._house
        uids = [self._uid] if self._uid is not None else list(house.views)
        wanted, pools, kinds = self._filter.slices, self._filter.pools, self._filter.kinds
        views = [
            view
            for view in (house.views[uid] for uid in uids)
            if view.state is not State.DISPOSED
            and self._sees(view.spec.uid)
            and (not pools or view.spec.pool in pools)
            and (not kinds or view.spec.kind in kinds)
        ]
        data: dict[str, Any] = {
            "slices": {
                view.spec.id: {
                    name: {"version": value.version, "value": value.value}
                    for name, value in view.slices.items()
                    if not wanted or name in wanted
                }
                for view in views
            },
            "engines": [as_json(house.info(view)) for view in views],
        }
        self._seq = house.folded
        return Frame(event="snapshot", id=self._id(self._seq), data=encode(data))
