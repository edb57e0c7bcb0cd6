from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import Context, Engine, RunContext, RunInput
from protocol.commands import Signal
from protocol.specs import OnStall
from tests.actors.stage import ANN, OpenStage


class Worker(Engine):
    kind = "worker"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        await trio.sleep(run.input or 0)
        return ctx.incarnation


class Heavy(Worker):
    kind = "heavy"

    async def on_stop(self, ctx: Context) -> None:
        await trio.sleep(2)


class Stuck(Engine):
    """Makes progress after `input` seconds on its first attempt, and at once on the others."""

    kind = "stuck"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        if run.attempt == 1:
            await trio.sleep(run.input)
        ctx.progress()
        await trio.sleep(1)


# -- passivation ---
@pytest.mark.parametrize("kind", [Worker, Heavy])
async def test_an_engine_with_nothing_to_do_goes_dormant_and_work_wakes_it(
    stage: OpenStage, autojump_clock: MockClock, kind: type[Engine]
) -> None:
    stopping_s = 2 if kind is Heavy else 0
    async with stage(kind) as on:
        await on.spawn(kind, idle_s=10)
        await on.until(20)
        assert await on.trace("engine.dormant") == [(10 + stopping_s, "dormant")]
        run = await on.run()
        assert (run.result, run.status) == (2, "completed")
        assert (await on.house.get("e")).restarts == 0


async def test_the_idle_clock_begins_anew_after_each_work(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker, idle_s=10)
        await on.until(6)
        await on.submit(5)
        await on.until(14)
        await on.house.command("e", Signal(name="x"), ANN)
        await on.until(50)
        assert await on.trace("engine.dormant") == [(24, "dormant")]


async def test_an_engine_at_work_or_asking_is_not_idle(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Asker(Engine):
        kind = "asker"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            await ctx.ask_human("Well?")

    async with stage(Asker) as on:
        await on.spawn(Asker, idle_s=10)
        await on.submit()
        await on.until(100)
        assert await on.state() == "running"
        await on.reply(answer=1)
        await on.until(111)
        assert await on.trace("engine.dormant") == [(110, "dormant")]


async def test_a_pause_of_a_dormant_engine_queues_its_work_and_a_resume_wakes_it(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker, idle_s=10)
        await on.until(20)
        await on.pause()
        run = await on.submit()
        await on.until(30)
        assert (await on.state(), await on.status(run)) == ("dormant", "queued")
        await on.resume()
        await on.until(31)
        assert await on.status(run) == "completed"


async def test_a_resume_of_a_dormant_engine_without_work_does_not_wake_it(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker, idle_s=10)
        await on.until(20)
        await on.pause()
        await on.resume()
        await on.until(30)
        assert await on.state() == "dormant"


async def test_work_that_comes_while_it_falls_asleep_wakes_it_at_once(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Heavy) as on:
        await on.spawn(Heavy, idle_s=10)
        await on.until(11)
        run = await on.submit()
        on.house.ref("e").tell("x")
        await on.until(20)
        assert (await on.trace("engine"))[3:] == [
            (10, "stopping"),
            (12, "dormant"),
            (12, "starting"),
            (12, "started"),
        ]
        assert await on.status(run) == "completed"
        assert on.house.statistics().mailboxes["e"].handled == 2


async def test_a_start_wakes_a_dormant_engine(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker, idle_s=10)
        await on.until(15)
        await on.house.start("e")
        await on.until(16)
        assert await on.state() == "running"


# -- stalls ---
async def test_a_run_without_progress_is_reported_and_progress_takes_it_back(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Stuck) as on:
        await on.spawn(Stuck, stall_s=10)
        run = await on.submit(25)
        await on.until(20)
        assert (await on.house.get("e")).stalled
        await on.until(50)
        assert await on.trace("engine.stalled") == [(10, "stalled"), (25, "stalled")]
        first, second = await on.data("engine.stalled")
        assert first == {"stalled": True, "for_s": 10.0, "step": "on_run"}
        assert second == {"stalled": False}
        assert await on.status(run) == "completed"


@pytest.mark.parametrize("speak", ["emit", "update", "progress", "pause_point", "output"])
async def test_whatever_the_run_says_is_progress(stage: OpenStage, autojump_clock: MockClock, speak: str) -> None:
    class Speaking(Engine):
        kind = "speaking"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            for n in range(5):
                await trio.sleep(8)
                match speak:
                    case "emit":
                        await ctx.emit("speaking.said")
                    case "update":
                        ctx.update("n", n)
                    case "progress":
                        ctx.progress()
                    case "pause_point":
                        await ctx.pause_point()
                    case "output":
                        await ctx.output("x")

    async with stage(Speaking, check=False) as on:
        await on.spawn(Speaking, stall_s=10)
        await on.submit()
        await on.until(39)
        assert await on.rows("engine.stalled") == []


async def test_a_run_that_waits_for_a_person_does_not_stall(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Asker(Engine):
        kind = "asker"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            await ctx.ask_human("Well?")

    async with stage(Asker) as on:
        await on.spawn(Asker, stall_s=10)
        await on.submit()
        await on.until(1000)
        assert await on.rows("engine.stalled") == []
        await on.reply(answer=1)


async def test_a_stalled_run_is_started_again_where_the_spec_says_interrupt(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Stuck) as on:
        await on.spawn(Stuck, stall_s=10, on_stall=OnStall.INTERRUPT)
        run = await on.submit(100)
        await on.until(50)
        assert await on.trace("run", "engine.stalled") == [
            (0, "queued"),
            (0, "started"),
            (10, "stalled"),
            (10, "interrupted"),
            (10, "stalled"),
            (10, "queued"),
            (10, "started"),
            (11, "completed"),
        ]
        assert (await on.house.run(run)).attempts == 2


async def test_a_run_that_always_stalls_fails_after_max_attempts(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Dead(Engine):
        kind = "dead"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            await trio.sleep_forever()

    async with stage(Dead) as on:
        await on.spawn(Dead, stall_s=10, on_stall=OnStall.INTERRUPT, max_attempts=3)
        run = await on.submit()
        await on.until(100)
        assert await on.trace("run.started", "run.failed") == [
            (0, "started"),
            (10, "started"),
            (20, "started"),
            (30, "failed"),
        ]
        assert (await on.house.run(run)).attempts == 3


async def test_a_stalled_engine_is_restarted_where_the_spec_says_so(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Stuck) as on:
        await on.spawn(Stuck, stall_s=10, on_stall=OnStall.RESTART, on_interrupt="retry")
        run = await on.submit(100)
        await on.until(50)
        assert await on.trace("engine.stalled", "engine.stopping", "engine.starting") == [
            (0, "starting"),
            (10, "stalled"),
            (10, "stopping"),
            (10, "stalled"),
            (10, "starting"),
        ]
        assert await on.status(run) == "completed"
        assert not (await on.house.get("e")).stalled


async def test_no_stall_watch_no_stall(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Stuck) as on:
        await on.spawn(Stuck, stall_s=None)
        await on.submit(10_000)
        await on.until(20_000)
        assert await on.rows("engine.stalled") == []
