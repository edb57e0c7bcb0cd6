"""Spawning, get-or-create, disposing; and ids that are used again."""

import sys
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.bodies import NewPool
from protocol.commands import Spawn
from protocol.edge import dump
from protocol.errors import (
    EngineBusy,
    EngineDisposed,
    EngineExists,
    NotFound,
    QuotaExceeded,
    UnknownKind,
    ValidationFailed,
)
from protocol.specs import OnInterrupt, Spec, Template
from supervisor import Caller, EmbeddedHouse, NewEngine, NewRun
from supervisor.store.memory import Journal
from tests.supervisor.houses import ALICE, KINDS, SlowStore, a_house, run_until, spawn, submit, until

PROBE = Template(kind="probe")


async def both(fn: Any, times: int = 2) -> list[Any]:
    """The answers, or errors, of calls at the same time."""
    answers: list[Any] = []

    async def one() -> None:
        try:
            answers.append(await fn())
        except (EngineExists, QuotaExceeded) as error:
            answers.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(times):
            nursery.start_soon(one)
    return answers


async def test_of_two_spawns_of_one_id_one_wins(autojump_clock: MockClock) -> None:
    async with a_house(store=SlowStore(), kinds=KINDS) as house:
        answers = await both(lambda: house.spawn(NewEngine(kind="probe", id="a")), 5)
        assert sum(isinstance(answer, EngineExists) for answer in answers) == 4
        assert [info.id for info in (await house.list()).items] == ["a"]


async def test_of_two_puts_of_one_id_one_creates(autojump_clock: MockClock) -> None:
    async with a_house(store=SlowStore(), kinds=KINDS) as house:
        answers = await both(lambda: house.put("a", NewEngine(kind="probe")), 5)
        assert sorted(created for _, created in answers) == [False] * 4 + [True]
        assert len({info.uid for info, _ in answers}) == 1
        with pytest.raises(EngineExists):
            await house.put("a", NewEngine(kind="probe", mailbox_size=5))


async def test_a_put_compares_configs_as_their_kind_understands_them(autojump_clock: MockClock) -> None:
    """An engine that an older version journaled has no members that are new since, and is the same all the same."""
    old = {"cwd": "/tmp", "fail_on_exit": True}
    spec = Spec(id="a", uid="eng_old", pool="default", kind="shell", config=old)
    wanted = NewEngine(kind="shell", config={"cwd": "/tmp"})
    async with a_house(threads=False) as house:
        await house.supervisor.intake.spawn(spec, Spawn(start=False), ALICE, digest="")
        assert (await house.get("a")).config == old
        found, created = await house.put("a", wanted)
        assert (found.uid, created) == ("eng_old", False)
        for other in ({"cwd": "/usr"}, {"cwd": "/tmp", "fail_on_exit": False}, {"cwd": "/tmp", "api": True}):
            with pytest.raises(EngineExists):
                await house.put("a", replace(wanted, config=other))


async def test_of_two_callers_for_one_key_one_spawns(autojump_clock: MockClock) -> None:
    async with a_house(store=SlowStore(), kinds=KINDS) as house:
        await house.create_pool(NewPool(id="p", template=PROBE))
        answers = await both(lambda: house.get_or_spawn("p", "a key"), 5)
        assert sorted(created for _, created in answers) == [False] * 4 + [True]
        assert len({info.uid for info, _ in answers}) == 1
        assert (await house.pool("p")).engines == 1
        assert answers[0][0].key == "a key"


async def test_a_caller_who_vanished_did_not_free_the_key(autojump_clock: MockClock) -> None:
    async with a_house(store=SlowStore(delay_s=1), kinds=KINDS) as house:
        await house.create_pool(NewPool(id="p", template=PROBE))
        with trio.move_on_after(0.1):
            await house.get_or_spawn("p", "k")
        info, created = await house.get_or_spawn("p", "k")
        assert not created
        assert (await house.pool("p")).engines == 1
        assert info.state in ("stopped", "starting", "running")


async def test_a_key_gives_its_engine_until_that_is_disposed(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await house.create_pool(NewPool(id="p", template=PROBE))
        first, _ = await house.get_or_spawn("p", "k")
        await house.stop(first.id)
        await until(house, first.id, "stopped")
        again, created = await house.get_or_spawn("p", "k")
        assert (again.uid, created) == (first.uid, False)
        await until(house, first.id, "running")
        other, created = await house.get_or_spawn("p", "other")
        assert created
        assert other.uid != first.uid
        await house.dispose(first.id)
        second, created = await house.get_or_spawn("p", "k")
        assert created
        assert second.uid != first.uid


async def test_a_key_whose_engine_is_going_gets_a_new_one(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await house.create_pool(NewPool(id="p", template=Template(kind="shielding")))
        first, _ = await house.get_or_spawn("p", "k")
        run = await submit(house, first.id, 5)
        await run_until(house, run, "running")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: house.dispose(first.id, force=True))
            await trio.sleep(1)
            second, created = await house.get_or_spawn("p", "k")
            assert created
            assert second.uid != first.uid


async def test_a_put_on_an_engine_that_is_going_makes_a_new_one(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        run = await submit(house, await spawn(house, "a", "shielding"), 5)
        await run_until(house, run, "running")
        uid = (await house.get("a")).uid
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: house.dispose("a", force=True))
            await trio.sleep(1)
            info, created = await house.put("a", NewEngine(kind="shielding"))
            assert created
            assert info.uid != uid


async def test_a_disposed_id_is_used_again_by_a_new_engine(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await spawn(house, "a", "probe")
        await house.submit("a", NewRun(input="x"), wait_s=5)
        first = await house.get("a")
        gone = await house.dispose("a")
        assert (gone.uid, gone.state, gone.leaks, gone.dead_letters) == (first.uid, "disposed", [], 0)
        with pytest.raises(EngineDisposed):
            await house.get("a")
        with pytest.raises(EngineDisposed):
            await house.submit("a", NewRun(input="x"))
        info, _accepted = await house.spawn(NewEngine(kind="probe", id="a"))
        assert info.uid != first.uid
        assert info.incarnation == 1
        page = await house.event_page(after="0", limit=1000)
        (_, born) = [e for e in page.items if e["type"] == "engine.spawned"]
        assert born["engine_seq"] == 1
        assert (await house.state("a")).slices == {}
        assert (await house.runs(engine="a")).items == []
        assert len((await house.runs()).items) == 1


async def test_disposing_again_gives_the_recorded_outcome(autojump_clock: MockClock) -> None:
    journal = Journal()
    async with a_house(journal, kinds=KINDS) as house:
        await house.pause(await spawn(house, "a", "probe"), ALICE, wait_s=5)
        await submit(house, "a", {})
        await submit(house, "a", {})
        with pytest.raises(EngineBusy):
            await house.dispose("a")
        first = await house.dispose("a", force=True)
        assert first.dead_letters == 2
        assert await house.dispose("a") == first
    async with a_house(journal, kinds=KINDS) as house:
        assert await house.dispose("a") == first
    with pytest.raises(NotFound):
        async with a_house() as other:
            await other.dispose("a")


async def test_disposing_many_runs_in_parallel_and_spares_nobody(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        for n in range(3):
            run = await submit(house, await spawn(house, f"e{n}", "shielding"), 5)
            await run_until(house, run, "running")
        await spawn(house, "idle", "probe")
        began = trio.current_time()
        results = await house.dispose_many(["e0", "nobody", "e1", "idle", "e2"], force=True)
        assert [(r.id, r.ok, r.state) for r in results] == [
            ("e0", True, "disposed"), ("nobody", False, "unknown"), ("e1", True, "disposed"),
            ("idle", True, "disposed"), ("e2", True, "disposed"),
        ]  # fmt: skip
        assert (results[1].problem or {})["slug"] == "not-found"
        assert trio.current_time() - began < 6
        await spawn(house, "busy", "probe")
        await submit(house, "busy", {"step_s": 60})
        await spawn(house, "free", "probe")
        busy, free = await house.dispose_many(["busy", "free"])
        assert (busy.ok, (busy.problem or {})["slug"], free.ok) == (False, "engine-busy", True)


async def test_max_engines_counts_those_on_their_way(autojump_clock: MockClock) -> None:
    async with a_house(store=SlowStore(), kinds=KINDS) as house:
        await house.create_pool(NewPool(id="p", max_engines=2))
        answers = await both(lambda: house.spawn(NewEngine(kind="probe", pool="p")), 4)
        assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 2
        (first, *_) = (await house.list(pool="p")).items
        await house.dispose(first.id)
        await house.spawn(NewEngine(kind="probe", pool="p"))


@pytest.mark.parametrize(
    "new, error",
    [
        (NewEngine(kind="nothing"), UnknownKind),
        (NewEngine(kind="probe", pool="nowhere"), NotFound),
        (NewEngine(kind="probe", config={"a": 1}), ValidationFailed),
        (NewEngine(kind="probe", id="eng_mine"), ValidationFailed),
        (NewEngine(kind="probe", id="Not an id"), ValidationFailed),
        (NewEngine(kind="probe", on_interrupt=OnInterrupt.RESUME), ValidationFailed),
    ],
)
async def test_what_cannot_be_spawned_is_refused_without_a_row(
    autojump_clock: MockClock, new: NewEngine, error: type[Exception]
) -> None:
    async with a_house(kinds=KINDS) as house:
        with pytest.raises(error):
            await house.spawn(new, Caller(principal="user:alice", key="k"))
        assert house.supervisor.folded == 0


@pytest.mark.parametrize("key", ["", "a/b", "x" * 129, "a\nb"])
async def test_a_key_is_checked(autojump_clock: MockClock, key: str) -> None:
    async with a_house(kinds=KINDS) as house:
        await house.create_pool(NewPool(id="p", template=PROBE))
        with pytest.raises(ValidationFailed):
            await house.get_or_spawn("p", key)
    async with a_house(kinds=KINDS) as house:
        with pytest.raises(ValidationFailed, match="no template"):
            await house.get_or_spawn("default", "k")
        with pytest.raises(NotFound):
            await house.get_or_spawn("nowhere", "k")


async def test_a_spawn_with_a_key_is_repeated_safely(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        caller = Caller(principal="user:alice", key="k")
        first, _ = await house.spawn(NewEngine(kind="probe"), caller)
        again, accepted = await house.spawn(NewEngine(kind="probe"), caller)
        assert (again.uid, accepted.replayed) == (first.uid, True)
        await house.dispose(first.id)
        gone, accepted = await house.spawn(NewEngine(kind="probe"), caller)
        assert (gone.uid, gone.state, accepted.replayed) == (first.uid, "disposed", True)


async def test_a_disposed_engine_leaves_little_behind(autojump_clock: MockClock) -> None:
    async def churn(house: EmbeddedHouse, times: int) -> None:
        for _ in range(times):
            info, _ = await house.spawn(NewEngine(kind="probe", labels={"a": "b" * 200}))
            await house.submit(info.id, NewRun(input="x" * 1000), wait_s=5)
            await house.dispose(info.id)

    async with a_house(kinds=KINDS) as house:
        await churn(house, 30)
        await trio.sleep(100)  # past every deadline
        inner = house.supervisor
        assert len(inner.cells) == 0
        assert len(inner.deadlines) == 0
        assert inner.pools.get("default").engines == 0
        assert all(not pool.keys for pool in inner.pools)
        for view in inner.views.values():
            assert len(dump(view)) < 1500
            assert sum(map(sys.getsizeof, (view.slices, view.runs, view.requests, view.counts, view.why))) < 800
