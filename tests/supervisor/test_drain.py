"""The house drains: nothing new, everything in hand to its end, and a way back."""

import pytest
from trio.testing import MockClock

from protocol.authority import Authority, Scope
from protocol.errors import Draining, InsufficientScope
from supervisor import Caller, NewEngine, NewPool
from supervisor.store.memory import Journal
from tests.supervisor.houses import ALICE, BOB, a_house, spawn, submit, until


async def test_a_draining_house_takes_nothing_new_and_finishes_what_there_is(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await spawn(house, "busy", "probe")
        await spawn(house, "idle", "probe")
        runs = [await submit(house, "busy", {"step_s": 5}) for _ in range(2)]
        begun = await house.drain(ALICE)
        assert (begun.draining, begun.runs) == (True, 2)
        for refused in (submit(house, "busy", {}), house.spawn(NewEngine(kind="probe"))):
            with pytest.raises(Draining, match="The house drains"):
                await refused
        assert (await house.get("busy")).draining
        assert (await house.health()).draining is not None
        await until(house, "idle", "stopped")
        await until(house, "busy", "stopped")
        assert [(await house.run(run)).status for run in runs] == ["completed", "completed"]
        over = await house.drain(ALICE)
        assert (over.draining, over.engines, over.runs) == (True, 0, 0)
        assert (await house.why("idle"))["stop"].reason == "the house drains"


async def test_a_pool_that_is_made_meanwhile_drains_too(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await house.drain(ALICE)
        await house.create_pool(NewPool(id="late"))
        with pytest.raises(Draining):
            await house.spawn(NewEngine(kind="probe", pool="late"))


async def test_lifting_it_starts_again_what_it_stopped_and_nothing_else(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        for name in ("up", "busy", "down"):
            await spawn(house, name, "probe")
        await house.stop("down", BOB, reason="for the night")
        await until(house, "down", "stopped")
        await submit(house, "busy", {"step_s": 5})
        await house.drain(ALICE)
        await until(house, "up", "stopped")
        lifted = await house.drain(ALICE, cancel=True)
        assert not lifted.draining
        await until(house, "up", "running")
        assert (await house.get("busy")).incarnation == 1, "what was still at work went on"
        assert (await house.get("down")).state == "stopped"
        await submit(house, "up", {})


async def test_an_engine_that_waits_to_come_back_is_stopped_and_starts_again(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await spawn(house, "a", "probe")
        await submit(house, "a", {"crash_at": 1})
        await until(house, "a", "backing_off")
        await house.drain(ALICE)
        await until(house, "a", "stopped")
        assert (await house.why("a"))["stop"].reason == "the house drains"
        await house.drain(ALICE, cancel=True)
        await until(house, "a", "running")


async def test_a_drain_lasts_over_a_restart_until_it_is_lifted(autojump_clock: MockClock) -> None:
    journal = Journal()
    async with a_house(journal) as house:
        await spawn(house, "a", "probe")
        await house.drain(ALICE)
        await until(house, "a", "stopped")
    async with a_house(journal) as house:
        assert (await house.health()).draining
        with pytest.raises(Draining):
            await house.spawn(NewEngine(kind="probe"))
        await house.drain(ALICE, cancel=True)
        await until(house, "a", "running")
    async with a_house(journal) as house:
        assert (await house.health()).draining is None
        await submit(house, "a", {})


@pytest.mark.parametrize(
    "authority",
    [
        Authority(scopes=frozenset({Scope.OPERATE, Scope.APPROVE})),
        Authority(scopes=frozenset({Scope.ADMIN}), pools=frozenset({"default"})),
    ],
)
async def test_only_an_admin_of_the_whole_house_drains_it(autojump_clock: MockClock, authority: Authority) -> None:
    async with a_house() as house:
        caller = Caller(principal="key:x", standing=lambda: authority)
        for cancel in (False, True):
            with pytest.raises(InsufficientScope):
                await house.drain(caller, cancel=cancel)
        assert (await house.health()).draining is None
