from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import Context, Engine, RunContext, RunInput
from protocol.commands import Dispose, Signal, Stop
from protocol.errors import EngineDisposed
from protocol.specs import OnInterrupt
from tests.actors.stage import ANN, BOB, OpenStage


class Worker(Engine):
    """Works for `input` seconds without ever looking up."""

    kind = "worker"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        await trio.sleep(run.input or 1)
        return "done"


class Stubborn(Engine):
    """Shields itself for `input` seconds once it is cancelled."""

    kind = "stubborn"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(run.input)
                ctx.update("late", run.input)
                ctx.emit_nowait("stubborn.late")


class Stepper(Engine):
    kind = "stepper"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        for _ in range(run.input):
            await ctx.pause_point()
            await trio.sleep(1)
            await ctx.emit("stepper.step")


class Stopped(Engine):
    """Takes `seconds` to stop, `boot` to start."""

    kind = "stopped"

    async def on_stop(self, ctx: Context) -> None:
        await trio.sleep(3)
        await ctx.emit("stopped.stop")


# -- stop ---
async def test_an_idle_engine_stops_at_once(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.house.stop("e", BOB, reason="night")
        await on.until(1)
        assert await on.trace("engine.stopping", "engine.stopped") == [(0, "stopping"), (0, "stopped")]
        why = (await on.house.why("e"))["stop"]
        assert (why.by, why.reason) == ("bob", "night")


async def test_a_run_may_come_to_its_end_within_the_grace(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        run = await on.submit(5)
        await on.until(1)
        await on.house.stop("e", grace_s=10)
        await on.until(50)
        assert await on.trace("run.completed", "engine.stopped") == [(5, "completed"), (5, "stopped")]
        assert await on.status(run) == "completed"


async def test_a_run_is_cancelled_when_the_grace_has_passed_and_says_by_whom(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        run = await on.submit(50)
        await on.until(1)
        await on.house.stop("e", BOB, grace_s=10, reason="night")
        await on.until(50)
        assert await on.trace("run.cancelled", "engine.stopped") == [(11, "cancelled"), (11, "stopped")]
        found = await on.house.run(run)
        assert (found.cancelled_by, found.reason) == ("bob", "night")


async def test_a_run_is_cut_at_its_next_pause_point(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Stepper) as on:
        await on.spawn(Stepper)
        await on.submit(9)
        await on.until(1.5)
        await on.house.stop("e", grace_s=10)
        await on.until(50)
        assert await on.trace("stepper", "run.cancelled", "engine.stopped") == [
            (1, "step"),
            (2, "step"),
            (2, "cancelled"),
            (2, "stopped"),
        ]


async def test_a_paused_run_is_cut_at_once(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Stepper) as on:
        await on.spawn(Stepper)
        await on.submit(9)
        await on.until(0.5)
        await on.pause()
        await on.until(5)
        await on.house.stop("e", grace_s=10)
        await on.until(50)
        assert await on.trace("run.cancelled", "engine.stopped") == [(5, "cancelled"), (5, "stopped")]


async def test_on_stop_has_the_grace(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Stopped) as on:
        await on.spawn(Stopped)
        await on.house.stop("e", grace_s=10)
        await on.until(50)
        assert await on.trace("stopped", "engine.stopped") == [(3, "stop"), (3, "stopped")]


async def test_on_stop_is_cancelled_when_the_grace_has_passed(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Stopped) as on:
        await on.spawn(Stopped)
        await on.house.stop("e", grace_s=2)
        await on.until(50)
        assert await on.trace("stopped", "engine.stopped") == [(2, "stopped")]


async def test_on_stop_runs_while_the_run_in_hand_goes_on(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Asking(Engine):
        kind = "asking"

        def __init__(self, config: Any) -> None:
            self.enough = trio.Event()

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            await self.enough.wait()
            return "wound up"

        async def on_stop(self, ctx: Context) -> None:
            self.enough.set()

    async with stage(Asking) as on:
        await on.spawn(Asking)
        run = await on.submit()
        await on.until(1)
        await on.house.stop("e", grace_s=10)
        await on.until(50)
        assert (await on.house.run(run)).result == "wound up"
        assert await on.trace("engine.stopped") == [(1, "stopped")]


async def test_an_error_while_stopping_is_no_crash(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Bad(Engine):
        kind = "bad"

        async def on_stop(self, ctx: Context) -> None:
            raise ValueError("no")

    async with stage(Bad) as on:
        await on.spawn(Bad)
        await on.house.stop("e")
        await on.until(50)
        assert (await on.words("engine"))[3:] == ["stopping", "stopped"]


async def test_a_boot_is_stopped_at_once(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Booting(Engine):
        kind = "booting"

        async def on_start(self, ctx: Context) -> None:
            await trio.sleep(20)

    async with stage(Booting) as on:
        await on.spawn(Booting)
        await on.until(1)
        await on.house.stop("e", grace_s=10)
        await on.until(50)
        assert await on.trace("engine.starting", "engine.stopped") == [(0, "starting"), (1, "stopped")]


async def test_a_stop_between_the_boot_and_its_first_step_is_not_lost(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker, start=False)
        on.store.delay_s = 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(on.house.start, "e")
            await on.until(0)
            nursery.start_soon(on.house.stop, "e")
        await on.until(20)
        assert await on.state() == "stopped"


async def test_a_stop_keeps_the_queue_and_a_start_takes_it_up(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        first, second = await on.submit(5), await on.submit(1)
        await on.until(1)
        await on.house.stop("e", grace_s=0)
        await on.until(2)
        assert [await on.status(run) for run in (first, second)] == ["cancelled", "queued"]
        assert await on.refused(lambda: on.submit(1)) == "invalid-state"
        await on.house.start("e")
        await on.until(9)
        assert await on.status(second) == "completed"


async def test_a_stop_of_a_stopped_engine_is_a_repeat(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker, start=False)
        _, done = await on.house.command("e", Stop(), ANN, wait_s=1)
        assert done is not None
        assert done.changed is False
        assert await on.words("engine") == ["spawned"]


# -- the budget ---
async def test_a_dispose_shortens_the_grace_of_a_stop(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.submit(500)
        await on.until(1)
        await on.house.stop("e", grace_s=60)
        await on.until(2)
        await on.house.dispose("e", force=True, grace_s=0.5)
        assert await on.trace("engine.stopping", "engine.disposed") == [
            (1, "stopping"),
            (2, "stopping"),
            (2.5, "disposed"),
        ]
        assert [row["aim"] for row in await on.data("engine.stopping")] == ["stopped", "disposed"]


async def test_a_budget_never_grows(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.submit(500)
        await on.until(1)
        await on.house.stop("e", grace_s=2)
        await on.until(2)
        await on.house.dispose("e", force=True, grace_s=60)
        assert await on.trace("engine.disposed") == [(3, "disposed")]


async def test_a_second_stop_may_only_shorten_the_first(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.submit(500)
        await on.until(1)
        await on.house.stop("e", grace_s=60)
        await on.until(2)
        await on.house.stop("e", grace_s=1)
        await on.until(50)
        assert await on.trace("engine.stopped") == [(3, "stopped")]


async def test_an_aim_never_falls(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.submit(500)
        await on.until(1)
        await on.house.stop("e", grace_s=5)
        await on.until(2)
        assert await on.refused(lambda: on.house.restart("e")) == "invalid-state"
        assert await on.refused(lambda: on.house.start("e")) == "invalid-state"
        assert await on.refused(lambda: on.submit(1)) == "invalid-state"
        await on.until(50)
        assert await on.state() == "stopped"


# -- dispose ---
@pytest.mark.parametrize("then", ["running", "paused", "stopped", "dormant", "failed", "backing_off", "starting"])
async def test_every_state_can_be_disposed_and_the_last_row_says_so(
    stage: OpenStage, autojump_clock: MockClock, then: str
) -> None:
    class Whatever(Engine):
        kind = "any"

        async def on_start(self, ctx: Context) -> None:
            if then in ("failed", "backing_off"):
                raise ValueError("no")
            if then == "starting":
                await trio.sleep(50)

    async with stage(Whatever) as on:
        await on.spawn(Whatever, start=then != "stopped", idle_s=1 if then == "dormant" else None, boot_s=100)
        if then == "paused":
            await on.pause()
        await on.until(40 if then == "failed" else 1.5 if then == "dormant" else 0.5)
        assert await on.state() == then
        gone = await on.house.dispose("e")
        assert (gone.state, gone.leaks) == ("disposed", [])
        assert (await on.rows())[-1]["type"] == "engine.disposed"


async def test_an_engine_with_work_is_disposed_only_by_force(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.submit(5)
        assert await on.refused(lambda: on.house.dispose("e")) == "engine-busy"
        assert await on.state() == "running"
        await on.house.dispose("e", force=True, grace_s=0)


async def test_dispose_cancels_queued_runs_and_makes_dead_letters_of_them(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.submit(50)
        queued = await on.submit(1)
        await on.until(1)
        gone = await on.house.dispose("e", BOB, force=True, grace_s=1)
        assert gone.dead_letters == 1
        run = await on.house.run(queued)
        assert (run.status, run.reason, run.cancelled_by) == ("cancelled", "disposed", "bob")
        assert (await on.house.get_command(run.command_id or "")).state == "dead_lettered"
        (letter,) = (await on.house.dead_letters()).items
        assert (letter.type, letter.reason, letter.run_id) == ("submit", "disposed", queued)


async def test_a_disposed_engine_refuses_commands_and_repeats_its_outcome(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        first = await on.house.dispose("e")
        assert await on.house.dispose("e") == first
        assert await on.refused(lambda: on.submit(1)) == "engine-disposed"
        with pytest.raises(EngineDisposed):
            await on.house.command("e", Dispose(), ANN)
        with pytest.raises(EngineDisposed):
            await on.house.get("e")


async def test_a_disposed_id_can_be_spawned_anew(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        uid = (await on.house.get("e")).uid
        await on.house.dispose("e")
        await on.spawn(Worker)
        again = await on.house.get("e")
        assert again.uid != uid
        assert again.incarnation == 1
        assert [row["engine_seq"] for row in await on.rows("engine.spawned")] == [1]


async def test_disposing_many_takes_as_long_as_the_slowest(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        for n in range(5):
            await on.spawn(Worker, f"e{n}")
            await on.submit(100, f"e{n}")
        await on.until(1)
        results = await on.house.dispose_many([f"e{n}" for n in range(5)], force=True, grace_s=3)
        assert [(found.ok, found.state) for found in results] == [(True, "disposed")] * 5
        assert trio.current_time() == 4


async def test_one_engine_that_cannot_be_disposed_spares_no_other(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        for n in range(3):
            await on.spawn(Worker, f"e{n}")
        await on.submit(100, "e1")
        await on.until(1)
        results = await on.house.dispose_many(["e0", "e1", "nobody", "e2"])
        assert [(found.id, found.state) for found in results] == [
            ("e0", "disposed"),
            ("e1", "running"),
            ("nobody", "unknown"),
            ("e2", "disposed"),
        ]
        assert [(found.problem or {}).get("slug") for found in results] == [None, "engine-busy", "not-found", None]


# -- leaks ---
async def test_an_engine_that_shields_itself_is_named_at_deadline_and_margin(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Stubborn, margin_s=2) as on:
        await on.spawn(Stubborn)
        await on.submit(20)
        await on.until(1)
        gone = await on.house.dispose("e", force=True, grace_s=0.5)
        assert (trio.current_time(), gone.state) == (3.5, "disposed")
        (leak,) = gone.leaks
        assert leak["what"] == "task"
        assert "shielded" in leak["why"]
        await on.until(50)


async def test_a_leaked_task_says_nothing_more_when_it_ends_at_last(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Stubborn) as on:
        await on.spawn(Stubborn)
        run = await on.submit(20)
        await on.until(1)
        await on.house.dispose("e", force=True, grace_s=1)
        before = await on.rows()
        await on.until(50)
        assert await on.rows() == before
        assert before[-1]["type"] == "engine.disposed"
        assert await on.status(run) == "cancelled"


async def test_an_engine_that_shields_itself_delays_no_other(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Stubborn, Worker) as on:
        await on.spawn(Stubborn)
        await on.spawn(Worker, "other")
        await on.submit(20)
        await on.submit(5, "other")
        await on.until(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: on.house.dispose("e", force=True, grace_s=1))
            await on.until(2)
            await on.house.dispose("other", force=True, grace_s=1)
            assert trio.current_time() == 3


async def test_a_task_that_ends_within_the_margin_is_no_leak(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Stubborn, margin_s=2) as on:
        await on.spawn(Stubborn)
        await on.submit(1.5)
        await on.until(1)
        gone = await on.house.dispose("e", force=True, grace_s=0)
        assert (trio.current_time(), gone.leaks) == (2.5, [])


async def test_an_id_whose_task_leaked_can_be_spawned_anew_and_is_left_alone(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Stubborn) as on:
        await on.spawn(Stubborn)
        await on.submit(20)
        await on.until(1)
        await on.house.dispose("e", force=True, grace_s=0)
        await on.spawn(Stubborn)
        await on.until(50)
        assert await on.words() == ["spawned", "accepted", "starting", "completed", "started"]


# -- restart ---
async def test_a_restart_is_a_new_incarnation_and_keeps_the_queue(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker, on_interrupt=OnInterrupt.RETRY)
        first, second = await on.submit(5), await on.submit(1)
        await on.until(1)
        await on.house.restart("e", BOB, reason="new version")
        await on.until(50)
        assert await on.trace("engine.stopping", "engine.starting", "run.started") == [
            (0, "starting"),
            (0, "started"),
            (1, "stopping"),
            (5, "starting"),
            (5, "started"),
        ]
        assert [await on.status(run) for run in (first, second)] == ["completed", "completed"]
        assert (await on.house.why("e"))["restart"].by == "bob"


async def test_a_run_that_outlives_the_grace_of_a_restart_is_interrupted(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker, on_interrupt=OnInterrupt.RETRY, grace_s=2)
        run = await on.submit(5)
        await on.until(1)
        await on.house.restart("e")
        await on.until(50)
        assert await on.trace("run") == [
            (0, "queued"),
            (0, "started"),
            (3, "interrupted"),
            (3, "queued"),
            (3, "started"),
            (8, "completed"),
        ]
        assert (await on.house.run(run)).attempts == 2


async def test_a_stop_overtakes_a_restart(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.submit(5)
        await on.until(1)
        await on.house.restart("e")
        await on.until(2)
        await on.house.stop("e")
        await on.until(50)
        assert await on.words("engine.stopping", "engine.stopped", "engine.starting") == [
            "starting",
            "stopping",
            "stopping",
            "stopped",
        ]


async def test_work_is_taken_while_restarting_and_done_afterwards(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.submit(5)
        await on.until(1)
        await on.house.restart("e")
        run = await on.submit(1)
        await on.house.command("e", Signal(name="x"), ANN)
        await on.until(50)
        assert await on.trace("run.completed") == [(5, "completed"), (6, "completed")]
        assert await on.status(run) == "completed"


# -- the house closes ---
async def test_closing_the_house_parks_what_is_up_and_the_next_house_boots_it(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.spawn(Worker, "off", start=False)
        await on.until(1)
        journal = on.store.journal
    async with stage(Worker, journal=journal) as on:
        await on.until(2)
        assert await on.words("engine") == [
            "spawned",
            "starting",
            "started",
            "stopping",
            "paused",
            "starting",
            "started",
        ]
        assert (await on.house.get("e")).restarts == 0
        assert await on.state("off") == "stopped"


async def test_closing_gives_a_run_the_grace_of_the_house(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker, grace_s=5) as on:
        await on.spawn(Worker, on_interrupt=OnInterrupt.RETRY)
        await on.submit(3)
        long = await on.submit(30)
        await on.until(1)
        journal = on.store.journal
    assert trio.current_time() == 3
    async with stage(Worker, journal=journal) as on:
        await on.until(50)
        assert await on.trace("run.completed") == [(3, "completed"), (33, "completed")]
        assert await on.status(long) == "completed"
