"""Schedules at work: once for each time, whatever the clock, the engine and the house do."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from protocol.authority import Authority, Scope
from protocol.bodies import NewPool
from protocol.commands import Pause, Resume
from protocol.errors import (
    EngineExists,
    InsufficientScope,
    InvalidState,
    NotFound,
    QuotaExceeded,
    Unauthenticated,
    ValidationFailed,
)
from protocol.events import Row
from protocol.specs import Template
from supervisor import Caller, EmbeddedHouse, NewRun
from supervisor.documents import HouseDocuments
from supervisor.schedules import CatchUp, NewSchedule, Overlap, Schedules, open_schedules
from supervisor.store.memory import Journal
from tests.supervisor.houses import ALICE, BOB, EPOCH, KINDS, a_house, journaled, killed, spawn, wall

HOUR = 3600.0
ALL = frozenset({Scope.ADMIN})
OF_A = Authority(scopes=frozenset({Scope.READ, Scope.OPERATE}), pools=frozenset({"a"}))


class Wall:
    """The time of day of a test, which can be set."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return EPOCH + trio.current_time() + self.ahead_s


@asynccontextmanager
async def at_work(journal: Journal | None = None, **options: Any) -> AsyncIterator[tuple[EmbeddedHouse, Schedules]]:
    async with (
        a_house(journal, kinds=KINDS, threads=False, wall=options.get("wall", wall)) as house,
        open_schedules(house, **options) as schedules,
    ):
        yield house, schedules


def hourly(**members: Any) -> NewSchedule:
    """On the hour, a run of five minutes on the engine `e`."""
    given: dict[str, Any] = {"id": "s", "cron": "0 * * * *", "engine": "e", "run": NewRun(input=300)}
    return NewSchedule(**(given | members))


async def runs(house: EmbeddedHouse) -> list[Row]:
    return await journaled(house.supervisor.store, lambda row: row.type == "run.queued")


def stamps(rows: list[Row]) -> list[str]:
    return [row.time[11:19] for row in rows]


async def test_a_run_is_submitted_at_each_time_by_the_schedule(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        await spawn(house, "e")
        made = await schedules.create(hourly(), ALICE)
        assert (made.next_at, made.created_by, made.pool) == ("2026-01-01T01:00:00.000Z", "user:alice", "default")
        await trio.sleep(3 * HOUR + 1)
        found = await runs(house)
        assert stamps(found) == ["01:00:00", "02:00:00", "03:00:00"]
        assert {row.principal for row in found} == {"schedule:s"}
        shown = schedules.get("s")
        assert (shown.fired, shown.next_at, shown.last_run_id) == (3, "2026-01-01T04:00:00.000Z", found[-1].run_id)
        assert shown.last is not None
        assert (shown.last.result, shown.last.due_at) == ("fired", "2026-01-01T03:00:00.000Z")


async def test_an_interval_keeps_its_beat_from_its_creation(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        await spawn(house, "e")
        await trio.sleep(7)
        await schedules.create(hourly(cron=None, every_s=90.0, run=NewRun(input=0)))
        await trio.sleep(271)
        assert stamps(await runs(house)) == ["00:01:37", "00:03:07", "00:04:37"]


async def test_a_command_is_sent_as_it_is(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly(id="night", cron="0 1 * * *", run=None, command=Pause(reason="night")))
        await schedules.create(
            hourly(id="day", cron="0 2 * * *", run=None, command=Resume(holder="schedule:night"))
        )  # fmt: skip
        await trio.sleep(HOUR + 60)
        engine = await house.get("e")
        assert (engine.state, [hold.holder for hold in engine.holds]) == ("paused", ["schedule:night"])
        await trio.sleep(HOUR)
        assert (await house.get("e")).state == "running"


async def test_an_engine_of_a_pool_is_spawned_when_it_is_not_there(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        await house.create_pool(NewPool(id="p", template=Template(kind="sleeper")))
        await schedules.create(hourly(engine=None, pool="p", key="nightly"))
        await trio.sleep(2 * HOUR + 1)
        (engine,) = (await house.list(pool="p")).items
        assert engine.key == "nightly"
        assert [row.engine_id for row in await runs(house)] == [engine.id] * 2


@pytest.mark.parametrize(
    "overlap, statuses, skipped",
    [
        (Overlap.SKIP, ["completed", "completed"], 2),
        (Overlap.ENQUEUE, ["completed", "completed", "completed", "queued"], 0),
        (Overlap.CANCEL, ["cancelled", "cancelled", "cancelled", "running"], 0),
    ],
)
async def test_a_run_that_outlives_its_hour_is_handled_as_the_policy_says(
    overlap: Overlap, statuses: list[str], skipped: int, autojump_clock: Any
) -> None:
    async with at_work() as (house, schedules):
        await spawn(house, "e", stall_s=None)
        await schedules.create(hourly(run=NewRun(input=1.25 * HOUR if skipped else 1.01 * HOUR), overlap=overlap))
        await trio.sleep(4.5 * HOUR)
        found = reversed((await house.runs(engine="e")).items)
        wanted = statuses if overlap is not Overlap.ENQUEUE else ["completed", "completed", "completed", "running"]
        assert [run.status for run in found] == wanted
        assert schedules.get("s").skipped == skipped


async def test_a_refusal_is_told_and_the_next_time_is_another_try(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly())
        await house.stop("e")
        await trio.sleep(HOUR + 1)
        shown = schedules.get("s")
        assert shown.last is not None
        assert (shown.refused, shown.last.result, (shown.last.reason or "").partition(":")[0]) == (
            1, "refused", "invalid-state",
        )  # fmt: skip
        await house.start("e")
        await trio.sleep(HOUR)
        assert schedules.get("s").fired == 1


async def test_jitter_delays_within_its_bound_and_keeps_the_time_that_was_due(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly(jitter_s=600.0))
        await trio.sleep(24 * HOUR - 1)
        late = [int(row.time[14:16]) * 60 + int(row.time[17:19]) for row in await runs(house)]
        assert len(late) == 23
        assert len(set(late)) > 10
        assert all(seconds <= 600 for seconds in late)
        shown = schedules.get("s").last
        assert shown is not None
        assert shown.due_at == "2026-01-01T23:00:00.000Z"


# -- the clock ---------------------------------------------------------------------------------------------------------
async def test_a_clock_that_is_set_back_runs_nothing_twice(autojump_clock: Any) -> None:
    clock = Wall()
    async with at_work(wall=clock) as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly())
        await trio.sleep(2 * HOUR + 60)
        assert len(await runs(house)) == 2
        clock.ahead_s = -1.5 * HOUR
        await trio.sleep(1.5 * HOUR)
        assert len(await runs(house)) == 2
        await trio.sleep(HOUR)
        assert len(await runs(house)) == 3


async def test_a_clock_that_jumps_ahead_is_noticed_within_a_minute_and_caught_up_with(autojump_clock: Any) -> None:
    clock = Wall()
    async with at_work(wall=clock) as (house, schedules):
        await spawn(house, "e")
        for policy in CatchUp:
            await schedules.create(
                hourly(id=policy.value, catch_up=policy, overlap=Overlap.ENQUEUE, run=NewRun(input=0))
            )  # fmt: skip
        await trio.sleep(600)
        clock.ahead_s = 5 * HOUR
        await trio.sleep(61)
        counted = {info.id: (info.fired, info.missed) for info in schedules.infos()}
        assert counted == {"none": (0, 5), "one": (1, 4), "all": (5, 0)}
        assert {info.next_at for info in schedules.infos()} == {"2026-01-01T06:00:00.000Z"}


async def test_a_clock_that_was_years_ahead_stops_nothing_for_years_and_repeats_nothing(autojump_clock: Any) -> None:
    clock = Wall()
    async with at_work(wall=clock) as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly())
        await trio.sleep(HOUR + 1)
        clock.ahead_s = 10 * 365 * 24 * HOUR
        await trio.sleep(61)
        assert (schedules.get("s").next_at or "").startswith("2035")
        before = len(await runs(house))
        clock.ahead_s = -HOUR  # and an hour of it once more
        await trio.sleep(2 * HOUR)
        assert len(await runs(house)) == before + 1
        assert (schedules.get("s").next_at or "").startswith("2026")


async def test_nobody_looks_at_the_clock_more_often_than_once_a_minute(autojump_clock: Any) -> None:
    looks = 0

    def counting() -> float:
        nonlocal looks
        looks += 1
        return wall()

    async with a_house(kinds=KINDS, threads=False) as house, open_schedules(house, wall=counting) as schedules:
        await spawn(house, "e")
        await schedules.create(hourly(cron="0 0 1 1 *"))
        looks = 0
        await trio.sleep(10 * HOUR)
        assert 0 < looks <= 601


# -- the house ends ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("policy, fired, missed", [(CatchUp.NONE, 1, 3), (CatchUp.ONE, 2, 2), (CatchUp.ALL, 4, 0)])
async def test_what_was_missed_while_the_house_was_down_follows_the_policy(
    policy: CatchUp, fired: int, missed: int, autojump_clock: Any
) -> None:
    journal = Journal()
    async with at_work(journal) as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly(catch_up=policy, overlap=Overlap.ENQUEUE, run=NewRun(input=0)))
        await trio.sleep(HOUR + 1)
    await trio.sleep(3 * HOUR + 600)
    async with at_work(journal) as (house, schedules):
        await trio.sleep(1)
        shown = schedules.get("s")
        assert (shown.fired, shown.missed, shown.next_at) == (fired, missed, "2026-01-01T05:00:00.000Z")
        assert len(await runs(house)) == fired


class Forgetful:
    """Documents whose writes of a firing are lost: the house is killed between the act and its record."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.load, self.remove = inner.load, inner.remove

    async def put(self, id: str, doc: Any, caller: Any = None) -> None:
        if doc["info"]["last"] is None:
            await self._inner.put(id, doc, caller)


@pytest.mark.parametrize("policy", CatchUp)
async def test_a_time_that_was_acted_for_before_a_crash_is_neither_repeated_nor_missed(
    policy: CatchUp, autojump_clock: Any
) -> None:
    journal = Journal()
    async with (
        killed(journal, kinds=KINDS, threads=False) as house,
        open_schedules(house, documents=Forgetful(HouseDocuments(house, "schedule"))) as schedules,
    ):
        await spawn(house, "e")
        await schedules.create(hourly(catch_up=policy))
        await trio.sleep(HOUR + 1)
        assert len(await runs(house)) == 1
    await trio.sleep(600)
    async with at_work(journal) as (house, schedules):
        await trio.sleep(1)
        (first,) = await runs(house)
        shown = schedules.get("s")
        assert (shown.fired, shown.missed, shown.last_run_id) == (1, 0, first.run_id)


@pytest.mark.parametrize("policy, fired, missed", [(CatchUp.NONE, 1, 3), (CatchUp.ONE, 2, 2), (CatchUp.ALL, 4, 0)])
async def test_what_was_done_before_a_crash_is_told_from_what_was_missed_after_it(
    policy: CatchUp, fired: int, missed: int, autojump_clock: Any
) -> None:
    journal = Journal()
    async with (
        killed(journal, kinds=KINDS, threads=False) as house,
        open_schedules(house, documents=Forgetful(HouseDocuments(house, "schedule"))) as schedules,
    ):
        await spawn(house, "e")
        await schedules.create(hourly(catch_up=policy, overlap=Overlap.ENQUEUE, run=NewRun(input=0)))
        await trio.sleep(HOUR + 1)
    await trio.sleep(3 * HOUR + 600)
    async with at_work(journal) as (house, schedules):
        await trio.sleep(1)
        shown = schedules.get("s")
        assert (shown.fired, shown.missed, len(await runs(house))) == (fired, missed, fired)


async def test_leaving_the_block_ends_the_task_and_the_house_goes_on(autojump_clock: Any) -> None:
    async with a_house(kinds=KINDS, threads=False) as house:
        async with open_schedules(house) as schedules:
            await spawn(house, "e")
            await schedules.create(hourly())
        await trio.sleep(2 * HOUR)
        assert await runs(house) == []


async def test_an_error_of_the_block_is_let_out_bare(autojump_clock: Any) -> None:
    with pytest.raises(KeyError):
        async with a_house(threads=False) as house, open_schedules(house):
            raise KeyError


async def test_a_house_that_closes_ends_the_schedules_without_a_word(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly())
        house.announce_closing()
        await trio.sleep(2 * HOUR)
        shown = schedules.get("s")
        assert (shown.fired, shown.refused, shown.next_at) == (0, 0, "2026-01-01T01:00:00.000Z")


# -- who may -----------------------------------------------------------------------------------------------------------
async def test_a_schedule_of_another_tenant_is_not_there(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        for pool in "ab":
            await house.create_pool(NewPool(id=pool))
            await spawn(house, f"in-{pool}", pool=pool)
        with pytest.raises(NotFound):
            await schedules.create(hourly(engine="in-b"), authority=OF_A)
        with pytest.raises(NotFound):
            await schedules.create(hourly(engine=None, pool="b", key="k"), authority=OF_A)
        await schedules.create(hourly(id="of-a", engine="in-a"), ALICE, authority=OF_A)
        await schedules.create(hourly(id="of-b", engine="in-b"), BOB)
        assert [info.id for info in schedules.infos(OF_A)] == ["of-a"]
        asked: list[Callable[[], Any]] = [
            lambda: schedules.enable("of-b", False, authority=OF_A),
            lambda: schedules.delete("of-b", authority=OF_A),
            lambda: schedules.run_now("of-b", authority=OF_A),
        ]
        for ask in asked:
            with pytest.raises(NotFound):
                await ask()
        with pytest.raises(NotFound):
            schedules.get("of-b", OF_A)


async def test_an_engine_that_moved_out_of_the_creators_pools_is_not_reached(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        for pool in "ab":
            await house.create_pool(NewPool(id=pool))
        await spawn(house, "e", pool="a")
        await schedules.create(hourly(), ALICE, authority=OF_A)
        await house.dispose("e")
        await spawn(house, "e", pool="b")
        await trio.sleep(HOUR + 1)
        assert await runs(house) == []
        assert schedules.get("s").refused == 1


async def test_who_runs_it_by_hand_reaches_no_further_than_themselves(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        for pool in "ab":
            await house.create_pool(NewPool(id=pool))
        await spawn(house, "e", pool="a")
        await schedules.create(hourly(), ALICE)
        await house.dispose("e")
        await spawn(house, "e", pool="b")
        assert (await schedules.run_now("s", BOB, authority=OF_A)).result == "refused"
        assert (await schedules.run_now("s", ALICE)).result == "fired"


async def test_who_runs_it_by_hand_has_asked_for_the_run_too(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly(), ALICE)
        house.identify(lambda principal: "user:alice" if principal == "schedule:s" else principal)
        await schedules.run_now("s", BOB)
        (row,) = await runs(house)
        assert set(row.data["asked_by"]) == {"schedule:s", "user:alice", "user:bob"}


async def test_a_creator_who_is_revoked_just_before_the_command_is_journaled_does_nothing(autojump_clock: Any) -> None:
    asked: list[str] = []

    def standing(principal: str) -> Authority | None:
        asked.append(principal)
        if len(asked) > 2:  # it stood when it was due, and when the engine was looked for
            raise Unauthenticated("It was revoked.")
        return None

    async with at_work(standing_of=standing) as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly(), ALICE)
        assert (await schedules.run_now("s", BOB)).result == "refused"
        assert await runs(house) == []


async def test_a_revoked_creator_suspends_the_schedule_until_somebody_else_answers_for_it(autojump_clock: Any) -> None:
    revoked: set[str] = set()

    def standing(principal: str) -> Authority | None:
        if principal in revoked:
            raise Unauthenticated("It was revoked.")
        return None

    journal = Journal()
    async with at_work(journal, standing_of=standing) as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly(), ALICE)
        revoked.add("user:alice")
        await trio.sleep(HOUR + 1)
        shown = schedules.get("s")
        assert (shown.state, shown.next_at, shown.fired) == ("suspended", None, 0)
        assert "user:alice" in (shown.reason or "")
        with pytest.raises(InvalidState):
            await schedules.run_now("s", BOB)
    async with at_work(journal, standing_of=standing) as (house, schedules):
        await trio.sleep(HOUR)
        assert await runs(house) == []
        await schedules.enable("s", True, BOB)
        await trio.sleep(HOUR)
        assert (schedules.get("s").fired, schedules.get("s").created_by) == (1, "user:bob")


async def test_a_creator_who_may_less_than_then_does_less(autojump_clock: Any) -> None:
    now = Authority(scopes=frozenset({Scope.READ}))
    async with at_work(standing_of=lambda principal: now) as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly(), ALICE)
        await trio.sleep(HOUR + 1)
        assert await runs(house) == []
        last = schedules.get("s").last
        assert last is not None
        assert (last.reason or "").startswith("insufficient-scope")


async def test_an_engines_own_token_makes_no_schedules(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        await spawn(house, "e")
        own = Authority(scopes=ALL, engine=(await house.get("e")).uid)
        with pytest.raises(InsufficientScope):
            await schedules.create(hourly(), authority=own)
        await schedules.create(hourly())
        assert schedules.infos(own) == []


# -- asked -------------------------------------------------------------------------------------------------------------
async def test_disabled_it_rests_and_enabled_it_begins_anew(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly(enabled=False))
        await trio.sleep(2 * HOUR + 1)
        assert (schedules.get("s").next_at, await runs(house)) == (None, [])
        shown = await schedules.enable("s", True)
        assert (shown.state, shown.next_at, shown.missed) == ("active", "2026-01-01T03:00:00.000Z", 0)
        await trio.sleep(HOUR)
        assert (await schedules.enable("s", False)).state == "disabled"
        await trio.sleep(2 * HOUR)
        assert len(await runs(house)) == 1


async def test_deleted_it_is_gone_for_good(autojump_clock: Any) -> None:
    journal = Journal()
    async with at_work(journal) as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly())
        await schedules.delete("s")
        with pytest.raises(NotFound):
            schedules.get("s")
        await trio.sleep(2 * HOUR)
        assert await runs(house) == []
    async with at_work(journal) as (_, schedules):
        assert schedules.infos() == []


async def test_run_now_acts_once_for_each_key(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly(enabled=False))
        first = await schedules.run_now("s", Caller(principal="user:alice", key="k"))
        await trio.sleep(1)
        again = await schedules.run_now("s", Caller(principal="user:alice", key="k"))  # though it goes on
        await trio.sleep(300)
        other = await schedules.run_now("s", Caller(principal="user:bob", key="k"))
        assert (first.result, first.due_at, first.run_id) == ("fired", None, again.run_id)
        assert other.run_id != first.run_id
        assert len(await runs(house)) == 2
        assert schedules.get("s").next_at is None


async def test_statistics_count_what_is_there(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        await spawn(house, "e", stall_s=None)
        await schedules.create(hourly(run=NewRun(input=1.5 * HOUR)))
        await schedules.create(hourly(id="off", enabled=False))
        await trio.sleep(3.1 * HOUR)
        counted = schedules.statistics()
        assert (counted.schedules, counted.active, counted.suspended) == (2, 1, 0)
        assert (counted.fired, counted.skipped, counted.refused, counted.missed) == (2, 1, 0, 0)


async def test_there_are_only_so_many(autojump_clock: Any) -> None:
    async with at_work(max=2) as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly(id="one"))
        await schedules.create(hourly(id="two"))
        with pytest.raises(QuotaExceeded):
            await schedules.create(hourly(id="three"))
        await schedules.delete("one")
        await schedules.create(hourly(id="three"))


async def test_an_id_is_taken_once_and_made_when_none_is_given(autojump_clock: Any) -> None:
    async with at_work() as (house, schedules):
        await spawn(house, "e")
        await schedules.create(hourly())
        with pytest.raises(EngineExists):
            await schedules.create(hourly())
        assert (await schedules.create(hourly(id=None))).id.startswith("sch_")


@pytest.mark.parametrize(
    "wrong, field",
    [
        ({"engine": None}, "engine"),
        ({"pool": "default"}, "engine"),
        ({"engine": None, "pool": "default"}, "key"),
        ({"engine": None, "pool": "default", "key": "a/b"}, "key"),
        ({"engine": None, "pool": "default", "key": "k"}, "pool"),
        ({"run": None}, "run"),
        ({"command": Pause()}, "run"),
        ({"cron": None, "every_s": 5.0, "jitter_s": 6.0}, "jitter_s"),
        ({"cron": "never"}, "cron"),
        ({"timezone": "nowhere"}, "timezone"),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_its_field(
    wrong: dict[str, Any], field: str, autojump_clock: Any
) -> None:
    async with at_work() as (house, schedules):
        await spawn(house, "e")
        with pytest.raises(ValidationFailed) as caught:
            await schedules.create(hourly(**wrong))
        assert caught.value.extra["errors"][0]["loc"] == ["body", field]  # type: ignore[index]
        assert schedules.infos() == []


async def test_an_engine_or_a_pool_that_is_not_there_is_told(autojump_clock: Any) -> None:
    async with at_work() as (_, schedules):
        with pytest.raises(NotFound):
            await schedules.create(hourly())
        with pytest.raises(NotFound):
            await schedules.create(hourly(engine=None, pool="p", key="k"))
