"""The embedded house as one object: the nouns together, its events, kinds and health."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import trio

from actors.ref import Ref
from protocol.audit import EVERYTHING, AuditFilter, AuditInfo, Outcome
from protocol.authority import Authority, Scope
from protocol.errors import EngineDisposed, NotFound, UnknownKind
from protocol.events import Row
from protocol.ids import event_id
from protocol.states import State
from protocol.wire import DrainInfo, HealthInfo, KindInfo, Page
from protocol.writes import Document
from supervisor.attendance import Attendance
from supervisor.audit import Trail
from supervisor.drain import drain_house, how_far, stopped_by_drain
from supervisor.embedded.base import cursor_of, page_of
from supervisor.embedded.logs import Logs
from supervisor.embedded.people import People
from supervisor.embedded.pools import Pools
from supervisor.embedded.runs import Runs
from supervisor.health import checks, worst
from supervisor.house import NOBODY, Caller, EventPage, Filter, House
from supervisor.standing import authority_of, check_standing
from supervisor.statistics import HouseStatistics, statistics
from supervisor.stream import Stream, position, visible
from supervisor.summary import HouseSummary, summary

__all__ = ["EmbeddedHouse"]

ALL = Filter()
SCAN = 1000


class EmbeddedHouse(Pools, Runs, People, Logs):
    """Everything that `supervisor.house.House` promises, and what only a house of this process can give."""

    def seen_by(self, authority: Authority) -> EmbeddedHouse:
        """The same house with the eyes of somebody: what lies in pools that they do not see is not there."""
        return (
            self if authority.everywhere and authority.has(Scope.ADMIN) else EmbeddedHouse(self.supervisor, authority)
        )

    # -- events ------------------------------------------------------------------------------------------------------
    def events(self, filter: Filter = ALL, *, after: str | None = None, snapshot: bool = False) -> Stream:
        return Stream(self.supervisor, filter, after, snapshot=snapshot, authority=self.authority)

    async def event_page(
        self, filter: Filter = ALL, *, after: str | None = None, limit: int = 100, wait_s: float = 0
    ) -> EventPage:
        house = self.supervisor
        if filter.run is not None:
            await self._run(filter.run)
        seq = await position(house, after)
        uid = self._view(filter.engine).spec.uid if filter.engine is not None else None
        shows = visible(house, filter, uid, self.authority)
        items: list[dict[str, Any]] = []
        ring = house.rings.house
        deadline = trio.current_time() + wait_s
        while True:
            until = house.folded
            while seq < until and len(items) < limit:
                rows = await house.store.read(after=seq, until=until, uid=uid, run_id=filter.run, limit=SCAN)
                for row in rows:
                    if shows(row):
                        items.append(json.loads(row.wire))
                        if len(items) == limit:
                            seq = row.seq
                            break
                else:
                    seq = rows[-1].seq if len(rows) == SCAN else until
            if items or trio.current_time() >= deadline or house.over:
                break
            with trio.move_on_at(deadline):
                while house.folded == until and not house.over:
                    await ring.lot.park()
        era = house.store.era
        return EventPage(items=items, next_after=event_id(era, seq), latest=event_id(era, house.folded))

    # -- kinds -------------------------------------------------------------------------------------------------------
    async def kinds(self) -> list[KindInfo]:
        return [self.supervisor.kinds.info(name) for name in self.supervisor.kinds.names]

    async def kind(self, name: str) -> KindInfo:
        try:
            return self.supervisor.kinds.info(name)
        except UnknownKind as error:
            raise NotFound(error.detail) from None

    # -- the house ---------------------------------------------------------------------------------------------------
    async def health(self) -> HealthInfo:
        house = self.supervisor
        found = await checks(house, self._sees)
        return HealthInfo(
            status=worst(found), uptime_s=round(house.now() - house.started_at, 3), version=_version(), checks=found,
            draining=how_far(house) if house.pools.draining else None,
        )  # fmt: skip

    async def drain(self, caller: Caller = NOBODY, *, cancel: bool = False) -> DrainInfo:
        house = self.supervisor
        check_standing(caller, Scope.ADMIN)
        if cancel:
            house.pools.draining = False
            for cell in house.cells.values():
                cell.lot.unpark_all()  # whoever waits for its last work goes on instead
            await self.put_document("house", "drain", None, caller)
            for engine in list(stopped_by_drain(house)):
                await self._start_again(engine, caller)
        else:
            house.check_open()
            if not house.pools.draining:
                drain_house(house)
                await self.put_document("house", "drain", {"by": caller.principal, "at": house.stamp()}, caller)
        return how_far(house)

    async def _start_again(self, engine: str, caller: Caller) -> None:
        await self.supervisor.watch(self.supervisor.ids[engine], lambda view: view.state is not State.STOPPING)
        with suppress(EngineDisposed):  # somebody was faster
            await self.start(engine, replace(caller, key=None, trail=None))

    def ref(self, engine: str) -> Ref:
        """A volatile handle on an engine: `tell` and `ask`. Raises NotFound, EngineDisposed."""
        return self.supervisor.ref(engine)

    @property
    def attendance(self) -> Attendance:
        """Who is watching: a program with people of its own says here that they look."""
        return self.supervisor.attendance

    def incarnation(self, uid: str) -> int | None:
        """Which incarnation of an engine is up now; None while there is none."""
        cell = self.supervisor.cells.get(uid)
        return cell.incarnation if cell is not None and cell.actor is not None else None

    def identify(self, person: Callable[[str], str]) -> None:
        """Say who stands behind a principal (the user who made a key), so that four eyes are those of two people."""
        self.supervisor.person = person

    def statistics(self) -> HouseStatistics:
        """Counts of this house now, with the conservation law of every mailbox."""
        return statistics(self.supervisor)

    async def summary(self) -> HouseSummary:
        """This house in a few numbers by pool."""
        return await summary(self.supervisor)

    def announce_closing(self) -> None:
        """Refuse new commands and end every stream with `server.closing`; engines go on until the house closes."""
        self.supervisor.announce_closing()

    def leave_within(self, grace_s: float) -> None:
        """How long engines will have to end when the house closes, instead of what it was opened with."""
        self.supervisor.grace_s = grace_s

    def abandon(self) -> None:
        """Cancel whatever still lives, at once; what it was doing is found interrupted by the next house."""
        self.supervisor.abandon()

    # -- audit -------------------------------------------------------------------------------------------------------
    async def audit(self, trail: Trail, outcome: Outcome, **more: Any) -> None:
        """Journal the row of a request of which nothing else was journaled; nothing when something was. Raises
        StoreUnavailable, ShuttingDown.
        """
        await self.supervisor.intake.audit(trail, outcome, **more)

    def audit_nowait(self, trail: Trail, outcome: Outcome, **more: Any) -> None:
        """The same for whoever cannot wait (it is cancelled): journaled if anything still is."""
        self.supervisor.intake.audit_nowait(trail, outcome, **more)

    async def audit_page(
        self, wanted: AuditFilter = EVERYTHING, *, limit: int = 100, cursor: str | None = None
    ) -> Page[AuditInfo]:
        """Audit rows, newest first."""
        found: list[Row] = []
        before = cursor_of(cursor)
        while len(found) <= limit:
            rows = await self.supervisor.store.audit(before=before, limit=SCAN)
            found += [row for row in rows if wanted.shows(row)]
            if len(rows) < SCAN:
                break
            before = rows[-1].seq
        return page_of(found[: limit + 1], limit, AuditInfo.of, lambda row: int(row.seq))

    # -- documents ---------------------------------------------------------------------------------------------------
    async def documents(self, table: str) -> dict[str, Any]:
        """The bodies of a plain table, by id, as JSON values: what a program keeps beside its engines."""
        return {document.id: document.body for document in await self.supervisor.store.documents(table)}

    async def put_document(self, table: str, id: str, body: Any, caller: Caller = NOBODY) -> None:
        """Make one durable, with the caller's audit row; a `body` of None removes it. Raises StoreUnavailable,
        ShuttingDown, Unauthenticated. Cancelled: it may be durable all the same.
        """
        authority_of(caller)
        await self.supervisor.intake.record(Document(table=table, id=id, body=body), trail=caller.trail)

    async def note(self, type: str, data: dict[str, Any]) -> None:
        """Journal a fact of the whole house, of no engine; durable on return. Raises StoreUnavailable, ShuttingDown."""
        await self.supervisor.intake.write_and_wait((Row(type=type, time=self.supervisor.stamp(), data=data),))


def _version() -> str:
    try:
        return version("enginehouse")
    except PackageNotFoundError:  # used from a source tree that was not installed
        return "0"


def _conforms(house: EmbeddedHouse) -> House:
    return house
