"""Schedules of a house: kept as documents, owned by one task, due by the wall clock.

    loop: look at the wall -> whoever is due gets a task -> sleep until the next one is due, at most LOOK_S

The wall clock decides and may jump. It is looked at at least every LOOK_S, so a jump forward is noticed and what it
skipped is caught up with as the schedule says. After a jump backward nothing is done again: each time that was dealt
with lies behind `next_at`, which is durable, and a time that was acted for has its command under its own key.

A time that was dealt with is written down after it was acted for. A crash in between repeats the act under the same
key, and so finds it done.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import trio

from protocol.authority import Authority
from protocol.edge import as_json, load, wrong
from protocol.errors import (
    Denied,
    EngineExists,
    EnginehouseError,
    InsufficientScope,
    InvalidState,
    Missing,
    NotFound,
    QuotaExceeded,
    Unavailable,
    ValidationFailed,
)
from protocol.ids import valid_key
from protocol.times import epoch_ms, rfc3339
from supervisor.behalf import EVERYTHING, StandingOf, authority_from, kept_of, narrowed, nothing_known
from supervisor.beside import beside
from supervisor.documents import Documents, HouseDocuments
from supervisor.embedded import EmbeddedHouse
from supervisor.house import NOBODY, Caller
from supervisor.schedules.fire import act, key_of
from supervisor.schedules.plan import Plan, due, jitter_of, plan_of
from supervisor.schedules.values import Firing, NewSchedule, ScheduleInfo, StoredSchedule

__all__ = ["MAX_SCHEDULES", "ScheduleStatistics", "Schedules", "open_schedules"]

MAX_SCHEDULES = 1000
LOOK_S = 60.0
"""How long the wall clock goes unseen at most."""
FAR_MS = 86_400_000
"""A next time further off than this from where the plan has it: the clock was wrong when it was computed."""


@dataclass(frozen=True, slots=True)
class ScheduleStatistics:
    """Counts of those that there are; `fired` to `missed`: times, over their lives."""

    schedules: int
    active: int
    suspended: int
    fired: int
    skipped: int
    refused: int
    missed: int


@dataclass(slots=True, eq=False)
class _Kept:
    """One schedule in memory. `lock`: one firing at a time; `working`: a task deals with what is due; `plan` None: it
    cannot be planned any more, and is suspended.
    """

    info: ScheduleInfo
    authority: Authority
    plan: Plan | None
    lock: trio.Lock = field(default_factory=trio.Lock)
    working: bool = False

    @property
    def next_ms(self) -> int | None:
        return None if self.info.next_at is None else epoch_ms(self.info.next_at)

    def jitter(self, at: int) -> int:
        return jitter_of(self.info.id, at, round(self.info.jitter_s * 1000))


@asynccontextmanager
async def open_schedules(
    house: EmbeddedHouse,
    *,
    max: int = MAX_SCHEDULES,
    standing_of: StandingOf = nothing_known,
    wall: Callable[[], float] | None = None,
    documents: Documents | None = None,
) -> AsyncIterator[Schedules]:
    """The schedules of `house`, at work while the block lasts.

    Args:
        house: open, and open for longer than the block.
        max: how many there may be.
        standing_of: asked before each time whether its creator still stands.
        wall: Unix time in seconds; the house's own when None.
        documents: where they are kept; the house's own store when None.

    Cancelled, or left: a firing in hand ends where it is, and the next house finds out what became of it.
    """
    schedules = Schedules(
        house, documents or HouseDocuments(house, "schedule"), max=max, standing_of=standing_of,
        wall=wall or house.supervisor.wall,
    )  # fmt: skip
    await schedules.load()
    async with beside(schedules.run):
        yield schedules


class Schedules:
    """See the module. `authority`: of whoever asks; None is the embedding program, which may do everything."""

    def __init__(
        self,
        house: EmbeddedHouse,
        documents: Documents,
        *,
        max: int,
        standing_of: StandingOf,
        wall: Callable[[], float],
    ) -> None:
        self._house, self._documents = house, documents
        self._max, self._standing_of, self._wall = max, standing_of, wall
        self._kept: dict[str, _Kept] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._seen_ms = 0

    # -- asked -------------------------------------------------------------------------------------------------------
    def infos(self, authority: Authority | None = None) -> list[ScheduleInfo]:
        """Those that are there for `authority`, oldest first."""
        found = [kept.info for kept in self._kept.values() if _there(kept, authority)]
        return sorted(found, key=lambda info: (info.created_at, info.id))

    def get(self, id: str, authority: Authority | None = None) -> ScheduleInfo:
        """Raises NotFound."""
        return self._find(id, authority).info

    def creator_of(self, id: str) -> str | None:
        """The principal that answers for a schedule; None for one of the program itself, or none at all."""
        kept = self._kept.get(id)
        return None if kept is None else kept.info.created_by

    async def create(
        self, new: NewSchedule, caller: Caller = NOBODY, *, authority: Authority | None = None
    ) -> ScheduleInfo:
        """Raises ValidationFailed, EngineExists (the id is taken), NotFound (engine or pool), QuotaExceeded,
        InsufficientScope (an engine's own token).
        """
        given = authority or EVERYTHING
        if given.engine is not None:
            raise InsufficientScope("An engine's own token makes no schedules.", scope="operate")
        now = self._now_ms()
        _check(new)
        plan = plan_of(cron=new.cron, every_s=new.every_s, timezone=new.timezone, anchor_ms=now)
        pool = await self._pool(new, given)
        name = new.id or f"sch_{secrets.token_hex(6)}"
        if name in self._kept:
            raise EngineExists(f"Schedule {name} exists. Choose another id, or delete it first.")
        if len(self._kept) >= self._max:
            raise QuotaExceeded(f"There are {self._max} schedules already; delete one, or raise schedules.max.")
        info = ScheduleInfo(
            **{field: getattr(new, field) for field in _SHARED}, id=name, pool=pool,
            state="active" if new.enabled else "disabled", reason=None, created_by=caller.principal,
            created_at=rfc3339(now), next_at=rfc3339(plan.after(now)) if new.enabled else None,
        )  # fmt: skip
        self._kept[name] = kept = _Kept(info, given, plan)
        self._changed.unpark_all()
        try:
            await self._documents.put(name, _document(kept), caller)
        except EnginehouseError:  # but not when it is cancelled: then the write is the store's, and will be durable
            del self._kept[name]
            raise
        return info

    async def enable(
        self, id: str, enabled: bool, caller: Caller = NOBODY, *, authority: Authority | None = None
    ) -> ScheduleInfo:
        """Enable (from now on; what passed meanwhile was not missed) or disable. Who enables answers for it: it goes on
        under their name and authority. Raises NotFound.
        """
        kept = self._find(id, authority)
        if enabled:
            given = authority or EVERYTHING
            plan = self._plan(kept.info)
            next_at = rfc3339(plan.after(self._now_ms()))
            kept.plan, kept.authority = plan, given
            kept.info = replace(kept.info, state="active", reason=None, next_at=next_at, created_by=caller.principal)
        else:
            kept.info = replace(kept.info, state="disabled", reason=None, next_at=None)
        await self._save(kept, caller)
        self._changed.unpark_all()
        return kept.info

    async def delete(self, id: str, caller: Caller = NOBODY, *, authority: Authority | None = None) -> None:
        """Raises NotFound. A firing in hand goes on."""
        self._find(id, authority)
        del self._kept[id]
        await self._documents.remove(id, caller)
        self._changed.unpark_all()

    async def run_now(self, id: str, caller: Caller = NOBODY, *, authority: Authority | None = None) -> Firing:
        """Act once, now, whatever the plan and the state say; once for the caller's idempotency key. Raises NotFound,
        InvalidState (its creator does not stand any more), Unavailable.
        """
        kept = self._find(id, authority)
        key = key_of(kept.info, f"by:{caller.principal}:{caller.key or secrets.token_hex(8)}")
        async with kept.lock:
            creators = await self._authority(kept)
            if creators is None:
                raise InvalidState(f"It is suspended: {kept.info.reason}", state="suspended", allowed=["enable"])
            may = narrowed(creators, authority)
            asked_by = () if caller.principal is None else (caller.principal,)
            firing = await act(
                self._house, kept.info, self._standing(kept, may, caller), key=key, due_at=None,
                last_run=kept.info.last_run_id, asked_by=asked_by,
            )  # fmt: skip
            kept.info = _after(kept.info, firing)
            await self._save(kept, caller)
        return firing

    def statistics(self) -> ScheduleStatistics:
        infos = [kept.info for kept in self._kept.values()]
        return ScheduleStatistics(
            schedules=len(infos),
            active=sum(info.state == "active" for info in infos),
            suspended=sum(info.state == "suspended" for info in infos),
            fired=sum(info.fired for info in infos),
            skipped=sum(info.skipped for info in infos),
            refused=sum(info.refused for info in infos),
            missed=sum(info.missed for info in infos),
        )

    # -- at work -----------------------------------------------------------------------------------------------------
    async def load(self) -> None:
        """Read what earlier lives of the house kept; call it once, before `run`."""
        for doc in (await self._documents.load()).values():
            stored = load(StoredSchedule, doc)
            kept = _Kept(stored.info, authority_from(stored.scopes, stored.pools), None)
            self._kept[stored.info.id] = kept
            try:
                kept.plan = self._plan(stored.info)
            except ValidationFailed as error:  # its time zone left the machine
                kept.info = replace(stored.info, state="suspended", reason=error.detail, next_at=None)

    async def run(self) -> None:
        """Act whenever one is due, until cancelled or until the house accepts nothing more."""
        async with trio.open_nursery() as nursery:
            while True:
                now = self._now_ms()
                if now < self._seen_ms - FAR_MS or not self._seen_ms:
                    self._recompute(now)
                self._seen_ms = now
                soonest: int | None = None
                for kept in list(self._kept.values()):
                    at = kept.next_ms
                    if at is None or kept.working:
                        continue
                    at += kept.jitter(at)
                    if at <= now:
                        kept.working = True
                        nursery.start_soon(self._turn, kept, nursery.cancel_scope)
                    else:
                        soonest = at if soonest is None else min(soonest, at)
                wait_s = LOOK_S if soonest is None else min((soonest - now) / 1000, LOOK_S)
                with trio.move_on_after(wait_s if self._kept else float("inf")):
                    await self._changed.park()

    def _recompute(self, now: int) -> None:
        """The clock was far ahead when the next times were computed: bring them back. What was acted for meanwhile has
        its key in the journal and is not done again.
        """
        for kept in self._kept.values():
            if kept.plan is not None and kept.next_ms is not None:
                fresh = kept.plan.after(now)
                if kept.next_ms - fresh > FAR_MS:
                    kept.info = replace(kept.info, next_at=rfc3339(fresh))

    async def _turn(self, kept: _Kept, work: trio.CancelScope) -> None:
        """Deal with what is due of one schedule."""
        try:
            async with kept.lock:
                await self._catch_up(kept)
        except Unavailable:  # the house ends: the next one goes on from what is durable
            work.cancel()
        finally:
            kept.working = False
            self._changed.unpark_all()

    async def _catch_up(self, kept: _Kept) -> None:
        at, plan = kept.next_ms, kept.plan
        if at is None or plan is None:  # it was disabled meanwhile
            return
        found = due(plan, at, self._now_ms(), kept.info.catch_up, kept.jitter)
        if found is None:
            return
        authority = await self._authority(kept)
        if authority is None:
            return
        missed = found.missed
        if at not in found.fire and await self._was_acted_for(kept, at, authority):
            missed -= 1
        if not found.fire:
            if missed:
                stamp = rfc3339(self._now_ms())
                kept.info = replace(
                    kept.info,
                    last=Firing(
                        due_at=rfc3339(found.latest), at=stamp, result="missed", reason="It was noticed too late."
                    ),
                )
            kept.info = replace(kept.info, missed=kept.info.missed + missed)
            await self._dealt_with(kept, plan, found.latest)
        for time in found.fire:
            await self._act(kept, time, authority)
            kept.info, missed = replace(kept.info, missed=kept.info.missed + missed), 0
            await self._dealt_with(kept, plan, time)
            if kept.info.state != "active":
                return

    async def _act(self, kept: _Kept, time: int, authority: Authority) -> None:
        due_at = rfc3339(time)
        firing = await act(
            self._house, kept.info, self._standing(kept, authority), key=key_of(kept.info, due_at), due_at=due_at,
            last_run=kept.info.last_run_id,
        )  # fmt: skip
        kept.info = _after(kept.info, firing)

    async def _was_acted_for(self, kept: _Kept, time: int, authority: Authority) -> bool:
        """Whether the first time that was not dealt with was acted for, just before a crash; then that is kept."""
        key = key_of(kept.info, rfc3339(time))
        if await self._house.supervisor.store.key(f"schedule:{kept.info.id}", key) is None:
            return False
        await self._act(kept, time, authority)  # which finds it done
        return True

    async def _dealt_with(self, kept: _Kept, plan: Plan, time: int) -> None:
        if kept.info.state == "active":
            kept.info = replace(kept.info, next_at=rfc3339(plan.after(time)))
        await self._save(kept, None)

    async def _authority(self, kept: _Kept) -> Authority | None:
        """What the creator may now. None, and the schedule is suspended, when the creator does not stand any more."""
        try:
            return self._stands(kept)
        except (Denied, Missing) as error:
            reason = f"{kept.info.created_by} may not do it any more: {error.detail} Whoever enables it answers for it."
        kept.info = replace(kept.info, state="suspended", reason=reason, next_at=None)
        await self._save(kept, None)
        return None

    # -- within ------------------------------------------------------------------------------------------------------
    def _now_ms(self) -> int:
        return round(self._wall() * 1000)

    def _find(self, id: str, authority: Authority | None) -> _Kept:
        kept = self._kept.get(id)
        if kept is None or not _there(kept, authority):
            raise NotFound(f"There is no schedule {id!r}.")
        return kept

    def _stands(self, kept: _Kept) -> Authority:
        principal = kept.info.created_by
        return kept.authority if principal is None else narrowed(kept.authority, self._standing_of(principal))

    def _standing(self, kept: _Kept, may: Authority, by_hand: Caller = NOBODY) -> Callable[[], Authority]:
        """What may be done at the moment of each command: `may`, as far as its creator (and who runs it) still may."""
        principal = kept.info.created_by

        def standing() -> Authority:
            found = may if principal is None else narrowed(may, self._standing_of(principal))
            return found if by_hand.standing is None else narrowed(found, by_hand.standing())

        return standing

    async def _pool(self, new: NewSchedule, authority: Authority) -> str:
        """The pool of the target, which is there for the creator."""
        seen = self._house.seen_by(authority)
        if new.engine is not None:
            return (await seen.get(new.engine)).pool
        pool = await seen.pool(new.pool or "")
        if pool.template is None:
            raise wrong("pool", f"Pool {new.pool} has no template to spawn from; PATCH one in, or name an engine.")
        return pool.id

    @staticmethod
    def _plan(info: ScheduleInfo) -> Plan:
        return plan_of(
            cron=info.cron, every_s=info.every_s, timezone=info.timezone, anchor_ms=epoch_ms(info.created_at)
        )

    async def _save(self, kept: _Kept, caller: Caller | None) -> None:
        """A schedule that was deleted meanwhile stays deleted."""
        if self._kept.get(kept.info.id) is kept:
            await self._documents.put(kept.info.id, _document(kept), caller)


_SHARED = (
    "description", "cron", "every_s", "timezone", "engine", "key", "run", "command", "overlap", "jitter_s", "catch_up",
)  # fmt: skip
"""What a schedule keeps as it was sent."""


def _there(kept: _Kept, authority: Authority | None) -> bool:
    return authority is None or authority.sees(kept.info.pool)


def _check(new: NewSchedule) -> None:
    """What is wrong only together."""
    if (new.engine is None) == (new.pool is None):
        raise wrong("engine", "Give either engine, or pool and key: where it acts.")
    if (new.pool is None) != (new.key is None):
        raise wrong("key", "Give pool and key together: which engine of the pool it acts on.")
    if new.key is not None and not valid_key(new.key):
        raise wrong("key", "A key is 1 to 128 printable characters without '/'.")
    if (new.run is None) == (new.command is None):
        raise wrong("run", "Give either run or command: what it does.")
    if new.every_s is not None and new.jitter_s > new.every_s:
        raise wrong("jitter_s", "The jitter may not be longer than the interval.")


def _after(info: ScheduleInfo, firing: Firing) -> ScheduleInfo:
    """The schedule after a firing."""
    counted = {firing.result: getattr(info, firing.result) + 1}
    return replace(info, last=firing, last_run_id=firing.run_id or info.last_run_id, **counted)


def _document(kept: _Kept) -> object:
    return as_json(StoredSchedule(info=kept.info, **kept_of(kept.authority)))
