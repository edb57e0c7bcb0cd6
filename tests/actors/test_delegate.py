"""One engine has another do a run: once, in the right name, and not for longer than it wants it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import Engine, RunContext, RunInput
from protocol.bodies import NewPool
from protocol.commands import Cancel, Restart
from protocol.errors import EnginehouseError
from protocol.requests import RequestKind
from protocol.specs import OnInterrupt
from supervisor.store.memory import Journal
from tests.actors.stage import ANN, BOB, OpenStage


class Worker(Engine):
    """Works for `input` seconds; asks a person for the input "ask"."""

    kind = "worker"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        if run.input == "ask":
            return (await ctx.ask_human("May I?", kind=RequestKind.APPROVAL)).by
        await ctx.sleep(run.input)
        return {"worked": run.input}


class Boss(Engine):
    """Lets `w` do what its input says, and tells how that ended; for at most `patience_s`."""

    kind = "boss"
    on_interrupt = OnInterrupt.RETRY

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        who, what, patience_s = run.input
        try:
            with trio.move_on_after(patience_s):
                done = await ctx.delegate(who, what, key="work", labels={"for": "boss"})
                return [done.status, done.result, done.labels]
        except EnginehouseError as error:
            return error.slug
        await ctx.sleep(5)
        return "impatient"


def wants(who: str = "w", what: Any = 10, patience_s: float = 1000) -> list[Any]:
    return [who, what, patience_s]


async def test_it_is_done_and_its_result_comes_back(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker, Boss) as on:
        await on.spawn(Worker, "w")
        await on.spawn(Boss)
        run = await on.run(wants())
        assert run.result == ["completed", {"worked": 10}, {"for": "boss"}]
        (accepted,) = [row for row in await on.rows("command.accepted", engine="w") if row["data"]["type"] == "submit"]
        boss = on.house.supervisor.view("e").spec
        assert accepted["principal"] == f"engine:{boss.uid}"


@pytest.mark.parametrize("who, slug", [("nobody", "not-found"), ("far", "not-found"), ("e", "invalid-state")])
async def test_only_others_of_its_own_pool_are_there(
    who: str, slug: str, stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker, Boss) as on:
        await on.house.create_pool(NewPool(id="elsewhere"))
        await on.spawn(Worker, "far", pool="elsewhere")
        await on.spawn(Boss)
        assert (await on.run(wants(who))).result == slug
        assert on.house.supervisor.view("far").runs == {}


@pytest.mark.parametrize("around", [1, 2])
async def test_engines_that_would_wait_for_each_other_are_refused(
    around: int, stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker, Boss) as on:
        await on.spawn(Boss)
        await on.spawn(Boss, "b")
        await on.spawn(Boss, "c")
        back = wants("b", wants("e")) if around == 1 else wants("b", wants("c", wants("e")))
        result = (await on.run(back)).result
        for _ in range(around):
            assert result[0] == "completed"
            result = result[1]
        assert result == "invalid-state"
        assert (await on.run(wants("b", wants("c", ["nobody", 1, 1])))).status == "completed"


@pytest.mark.parametrize("death", ["restart", "interrupt"])
async def test_the_next_attempt_finds_the_same_run(death: str, stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker, Boss) as on:
        await on.spawn(Worker, "w", on_interrupt="retry")
        await on.spawn(Boss)
        run = await on.submit(wants(what=20))
        await on.until(5)
        if death == "restart":
            await on.house.command("e", Restart(), ANN, wait_s=30)
        else:
            await on.interrupt()
            await on.until(6)
            await on.resume()
        await on.until(60)
        ended = await on.house.run(run)
        assert (ended.status, ended.attempts) == ("completed", 2)
        assert ended.result == ["completed", {"worked": 20}, {"for": "boss"}]
        assert len(await on.rows("run.completed", engine="w")) == 1
        assert len([row for row in await on.rows("run.queued", engine="w") if "again" not in row["data"]]) == 1


async def test_the_next_house_finds_the_same_run(stage: OpenStage, autojump_clock: MockClock) -> None:
    journal = Journal()
    async with stage(Worker, Boss, journal=journal) as on:
        await on.spawn(Worker, "w", on_interrupt="retry")
        await on.spawn(Boss)
        run = await on.submit(wants(what=20))
        await on.until(5)
    async with stage(Worker, Boss, journal=journal) as on:
        await on.until(60)
        ended = await on.house.run(run)
        assert (ended.status, ended.attempts) == ("completed", 2)
        assert len(await on.rows("run.completed", engine="w")) == 1


@pytest.mark.parametrize("why", ["cancel", "stop", "dispose", "timeout", "impatient"])
async def test_what_nobody_waits_for_any_more_is_cancelled(
    why: str, stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker, Boss) as on:
        await on.spawn(Worker, "w")
        await on.spawn(Boss)
        run = await on.submit(
            wants(what=100, patience_s=3 if why == "impatient" else 1000), timeout_s=3 if why == "timeout" else None
        )
        await on.until(2)
        (given,) = on.house.supervisor.view("w").runs
        if why == "cancel":
            await on.house.command("e", Cancel(run_id=run), ANN, wait_s=30)
        elif why == "stop":
            await on.house.stop("e", ANN)
        elif why == "dispose":
            await on.house.dispose("e", ANN, force=True)
        await on.until(7)
        told = await on.house.run(given)
        assert told.status == "cancelled"
        assert told.reason == "the run that it was done for is over"
        assert str(told.cancelled_by).startswith("engine:")


async def test_what_a_run_that_waits_again_gave_is_cancelled_with_it(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    """Nobody is in its callback then, who could take it back."""
    async with stage(Worker, Boss) as on:
        await on.spawn(Worker, "w")
        await on.spawn(Boss)
        run = await on.submit(wants(what=100))
        await on.until(2)
        (given,) = on.house.supervisor.view("w").runs
        await on.interrupt()
        await on.until(3)
        assert (await on.status(run), await on.status(given)) == ("queued", "running")
        await on.house.command("e", Cancel(run_id=run), ANN, wait_s=30)
        await on.until(4)
        told = await on.house.run(given)
        assert (told.status, told.reason) == ("cancelled", "the run that it was done for is over")
        accepted = await on.data("command.accepted", engine="w")
        assert [data["type"] for data in accepted].count("cancel") == 1


@pytest.mark.parametrize("death", ["killed", "killed between the two"])
async def test_what_a_run_gave_that_its_house_took_with_it_is_cancelled_by_the_next(
    death: str, stage: OpenStage, autojump_clock: MockClock
) -> None:
    journal = Journal()
    async with stage(Worker, Boss, journal=journal) as on:
        await on.spawn(Worker, "w", on_interrupt="retry")
        await on.spawn(Boss, on_interrupt="retry" if "between" in death else "fail")
        run = await on.submit(wants(what=100))
        await on.until(5)
        (given,) = on.house.supervisor.view("w").runs
        if "between" in death:
            on.store.delay_s = 1
            await on.house.command("e", Cancel(run_id=run), ANN, wait_s=30)
            assert (await on.status(run), await on.status(given)) == ("cancelled", "running")
        journal = deepcopy(journal)
    async with stage(Worker, Boss, journal=journal) as on:
        await on.until(20)
        assert await on.status(run) == ("cancelled" if "between" in death else "failed")
        told = await on.house.run(given)
        assert (told.status, told.reason) == ("cancelled", "the run that it was done for is over")


async def test_while_it_is_paused_the_other_goes_on(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker, Boss) as on:
        await on.spawn(Worker, "w")
        await on.spawn(Boss)
        run = await on.submit(wants())
        await on.until(2)
        await on.pause()
        await on.until(30)
        assert await on.state() == "paused"
        assert len(await on.rows("run.completed", engine="w")) == 1
        assert await on.status(run) == "running"
        await on.resume()
        await on.until(31)
        assert await on.status(run) == "completed"


async def test_who_asked_for_it_stands_behind_it(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker, Boss) as on:
        await on.spawn(Worker, "w")
        await on.spawn(Boss)
        run = await on.submit(wants(what="ask"), caller=ANN)
        await on.until(2)
        request = await on.pending()
        assert "ann" in request.asked_by
        await on.reply("approve", caller=BOB)
        await on.until(4)
        assert (await on.house.run(run)).result == ["completed", "bob", {"for": "boss"}]
