from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors import Context, Engine, RunContext, RunFailed, RunInput
from protocol.commands import Signal
from protocol.specs import PauseMode
from tests.actors.stage import ANN, BOB, OpenStage


class Steps(Engine):
    """Takes one second of its own for each step, with a pause point between them."""

    kind = "steps"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        for n in range(run.input or 3):
            await ctx.pause_point()
            await trio.sleep(1)  # not on the pausable clock: this is the author's own work
            await ctx.emit("steps.done", {"n": n})


class Sleeper(Engine):
    kind = "sleeper"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        await ctx.sleep(run.input)
        return ctx.time()


class Told(Steps):
    """Says what it was told."""

    kind = "told"
    takes_s = 0.0

    async def on_pause(self, ctx: Context) -> None:
        await trio.sleep(self.takes_s)
        await ctx.emit("told.pause")

    async def on_resume(self, ctx: Context) -> None:
        await trio.sleep(self.takes_s)
        await ctx.emit("told.resume")


class SlowTold(Told):
    kind = "slowtold"
    takes_s = 2.0


async def test_pause_lets_the_running_step_finish(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Steps) as on:
        await on.spawn(Steps)
        await on.submit(3)
        await on.until(0.5)
        await on.pause()
        await on.until(5)
        assert await on.trace("engine.pausing", "engine.paused", "steps") == [
            (0.5, "pausing"),
            (1, "done"),
            (1, "paused"),
        ]


async def test_a_run_continues_in_the_same_coroutine_at_the_same_point(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Steps) as on:
        await on.spawn(Steps)
        run = await on.submit(3)
        await on.until(0.5)
        await on.pause()
        await on.until(100)
        await on.resume()
        await on.until(200)
        assert await on.trace("steps", "engine.resumed") == [
            (1, "done"),
            (100, "resumed"),
            (101, "done"),
            (102, "done"),
        ]
        assert [row["n"] for row in await on.data("steps.done")] == [0, 1, 2]
        assert (await on.house.run(run)).attempts == 1


async def test_pausing_is_acknowledged_at_once(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Steps) as on:
        await on.spawn(Steps)
        await on.submit(1)
        await on.until(0.5)
        await on.pause()
        await on.until(0.5)
        assert (trio.current_time(), await on.state()) == (0.5, "pausing")


async def test_an_idle_engine_is_paused_at_once(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Steps) as on:
        await on.spawn(Steps)
        await on.pause(wait_s=1)
        assert await on.trace("engine.pausing", "engine.paused") == [(0, "pausing"), (0, "paused")]


async def test_a_sleep_has_left_after_a_pause_what_it_had_left_before(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Sleeper) as on:
        await on.spawn(Sleeper)
        run = await on.submit(1)
        await on.until(0.25)
        await on.pause()
        await on.until(100.25)
        await on.resume()
        await on.until(300)
        assert await on.trace("run.completed", "engine.paused") == [(0.25, "paused"), (101, "completed")]
        assert (await on.house.run(run)).result == 1


async def test_a_run_submitted_while_paused_waits(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Steps) as on:
        await on.spawn(Steps)
        await on.pause()
        run = await on.submit(1)
        await on.house.command("e", Signal(name="hello"), ANN)
        await on.until(50)
        assert await on.status(run) == "queued"
        assert (await on.house.get("e")).mailbox.queued == 2
        await on.resume()
        await on.until(60)
        assert await on.status(run) == "completed"


async def test_nothing_is_started_between_paused_and_resumed(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Told) as on:
        await on.spawn(Told)
        await on.submit(2)
        await on.submit(2)
        await on.until(0.5)
        await on.pause()
        await on.until(50)
        await on.house.command("e", Signal(name="hello"), ANN)
        await on.until(100)
        await on.resume()
        await on.until(200)
        words = await on.words()
        quiet = words[words.index("paused") + 1 : words.index("resumed")]
        assert set(quiet) <= {"accepted", "held"}
        assert words.count("done") == 4


# -- holds ---
async def test_the_engine_goes_on_when_the_last_hold_is_lifted(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Sleeper) as on:
        await on.spawn(Sleeper)
        await on.pause(ANN)
        await on.pause(BOB, reason="audit")
        await on.until(1)
        await on.resume(ANN)
        await on.until(2)
        held = await on.house.get("e")
        assert (held.state, [(h.holder, h.by, h.reason) for h in held.holds]) == ("paused", [("bob", "bob", "audit")])
        await on.until(3)
        await on.resume(BOB)
        await on.until(4)
        assert await on.trace("engine.paused", "engine.resumed") == [(0, "paused"), (3, "resumed")]


async def test_a_hold_belongs_to_whoever_it_names(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Sleeper) as on:
        await on.spawn(Sleeper)
        await on.pause(ANN, holder="budget")
        await on.resume(ANN)
        assert await on.state() == "paused"
        await on.resume(BOB, holder="budget", wait_s=1)
        assert await on.state() == "running"


async def test_a_star_lifts_every_hold(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Sleeper) as on:
        await on.spawn(Sleeper)
        await on.pause(ANN)
        await on.pause(BOB)
        await on.resume(ANN, holder="*", wait_s=1)
        assert await on.state() == "running"


async def test_a_repeated_pause_or_resume_changes_nothing(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Sleeper) as on:
        await on.spawn(Sleeper)
        await on.resume()
        await on.pause()
        await on.until(1)
        await on.pause()
        await on.until(2)
        assert [row["changed"] for row in await on.data("command.completed")][-3:] == [False, True, False]
        assert await on.words("engine") == ["spawned", "starting", "started", "held", "pausing", "paused"]


@pytest.mark.parametrize("flips", [2, 3, 8])
async def test_pause_and_resume_within_one_batch_end_where_the_last_one_says(
    stage: OpenStage, autojump_clock: MockClock, flips: int
) -> None:
    async with stage(Told) as on:
        await on.spawn(Told)
        run = await on.submit(2)
        await on.until(0.5)
        on.store.delay_s = 0.1
        async with trio.open_nursery() as nursery:
            for n in range(flips):
                nursery.start_soon(on.pause if n % 2 == 0 else on.resume)
                await trio.testing.wait_all_tasks_blocked()
        await on.until(20)
        ends_held = flips % 2 == 1
        assert await on.state() == ("paused" if ends_held else "running")
        assert await on.status(run) == ("running" if ends_held else "completed")
        told = await on.words("told")
        assert told == [("pause", "resume")[n % 2] for n in range(len(told))]
        assert len(told) % 2 == ends_held


async def test_a_hold_while_starting_lets_the_boot_end_and_no_work_begin(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    class Booting(Sleeper):
        kind = "booting"

        async def on_start(self, ctx: Context) -> None:
            await ctx.sleep(5)

    async with stage(Booting) as on:
        await on.spawn(Booting)
        await on.submit(1)
        await on.until(1)
        await on.pause()
        await on.until(50)
        engine = await on.trace("engine.starting", "engine.started", "engine.pausing", "engine.paused", "run.started")
        assert engine == [(0, "starting"), (5, "started"), (5, "pausing"), (5, "paused")]


async def test_a_stopped_engine_that_is_held_parks_when_it_is_started(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Told) as on:
        await on.spawn(Told, start=False)
        await on.pause()
        await on.house.start("e")
        await on.until(1)
        assert await on.words("engine") == ["spawned", "held", "paused"]
        await on.resume()
        await on.until(2)
        assert (await on.words("engine"))[3:] == ["held", "starting", "started"]
        assert await on.words("told") == []


async def test_a_pause_survives_a_crash_and_the_backoff_after_it(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Crasher(Engine):
        kind = "crasher"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            await trio.sleep(5)
            raise ValueError("no")

    async with stage(Crasher) as on:
        await on.spawn(Crasher)
        await on.submit()
        await on.until(1)
        await on.pause()
        await on.until(50)
        assert await on.trace("engine.pausing", "engine.crashed", "engine.paused") == [
            (1, "pausing"),
            (5, "crashed"),
            (6, "paused"),
        ]
        await on.resume()
        await on.until(51)
        assert (await on.trace("engine.starting", "engine.started"))[2:] == [(50, "starting"), (50, "started")]


async def test_a_pause_survives_a_restart(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Sleeper) as on:
        await on.spawn(Sleeper)
        await on.pause()
        await on.until(1)
        await on.house.restart("e")
        await on.until(2)
        assert (await on.words("engine"))[5:] == ["paused", "stopping", "paused"]
        await on.resume(wait_s=1)
        assert (await on.house.get("e")).incarnation == 2


async def test_a_pause_and_its_holds_survive_the_house(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Sleeper) as on:
        await on.spawn(Sleeper)
        run = await on.submit(5)
        await on.until(1)
        await on.pause(reason="lunch")
        await on.until(2)
        journal = on.store.journal
    async with stage(Sleeper, journal=journal) as on:
        await on.until(10)
        engine = await on.house.get("e")
        assert (engine.state, engine.incarnation, [h.reason for h in engine.holds]) == ("paused", 1, ["lunch"])
        assert await on.status(run) == "failed"
        await on.resume(wait_s=1)
        assert await on.state() == "running"


# -- on_pause and on_resume ---
async def test_an_engine_is_told_of_pause_before_paused_and_of_resume_before_work(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(SlowTold) as on:
        await on.spawn(SlowTold)
        await on.submit(1)
        await on.until(0.5)
        await on.pause()
        run = await on.submit(1)
        await on.until(10)
        await on.resume()
        await on.until(20)
        assert await on.trace("engine.pausing", "engine.paused", "engine.resumed", "told", "steps") == [
            (0.5, "pausing"),
            (1, "done"),
            (3, "pause"),
            (3, "paused"),
            (10, "resumed"),
            (12, "resume"),
            (13, "done"),
        ]
        assert await on.status(run) == "completed"


async def test_a_release_while_on_pause_runs_is_followed_by_on_resume_and_never_by_paused(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(SlowTold) as on:
        await on.spawn(SlowTold)
        await on.pause()
        await on.until(1)
        await on.resume()
        run = await on.submit(1)
        await on.until(30)
        assert await on.trace("engine.pausing", "engine.paused", "engine.resumed", "told", "run.started") == [
            (0, "pausing"),
            (1, "resumed"),
            (2, "pause"),
            (4, "resume"),
            (4, "started"),
        ]
        assert await on.status(run) == "completed"


async def test_a_hold_while_on_resume_runs_is_followed_by_on_pause(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(SlowTold) as on:
        await on.spawn(SlowTold)
        await on.pause()
        await on.until(5)
        await on.resume()
        await on.until(6)
        await on.pause()
        await on.until(20)
        assert await on.trace("told", "engine.paused") == [
            (2, "pause"),
            (2, "paused"),
            (7, "resume"),
            (9, "pause"),
            (9, "paused"),
        ]


async def test_a_release_and_a_hold_while_on_pause_runs_need_no_on_resume(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(SlowTold) as on:
        await on.spawn(SlowTold)
        await on.pause()
        await on.until(0.5)
        await on.resume()
        await on.until(1)
        await on.pause()
        await on.until(20)
        assert await on.trace("told", "engine.paused") == [(2, "pause"), (2, "paused")]


async def test_an_error_in_on_pause_is_a_crash_and_the_hold_stays(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Bad(Sleeper):
        kind = "bad"

        async def on_pause(self, ctx: Context) -> None:
            raise ValueError("no")

    async with stage(Bad) as on:
        await on.spawn(Bad)
        await on.pause()
        await on.until(10)
        assert await on.trace("engine.pausing", "engine.crashed", "engine.paused") == [
            (0, "pausing"),
            (0, "crashed"),
            (1, "paused"),
        ]


async def test_callbacks_never_overlap_when_a_stop_comes_while_on_resume_runs(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    running: list[str] = []

    class Serial(SlowTold):
        kind = "serial"

        async def on_resume(self, ctx: Context) -> None:
            running.append("resume begins")
            await trio.sleep(2)
            running.append("resume ends")

        async def on_stop(self, ctx: Context) -> None:
            running.append("stop")

    async with stage(Serial) as on:
        await on.spawn(Serial)
        await on.pause()
        await on.until(5)
        await on.resume()
        await on.until(6)
        await on.house.stop("e", grace_s=10)
        await on.until(30)
        assert running == ["resume begins", "resume ends", "stop"]
        assert await on.trace("engine.stopped") == [(7, "stopped")]


# -- what is in hand ---
async def test_a_signal_in_hand_is_finished_before_paused(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Slow(Engine):
        kind = "slow"

        async def on_signal(self, ctx: Context, name: str, payload: Any) -> Any:
            await trio.sleep(3)

    async with stage(Slow) as on:
        await on.spawn(Slow)
        await on.house.command("e", Signal(name="a"), ANN)
        await on.until(1)
        await on.pause()
        await on.until(10)
        assert await on.trace("engine.paused") == [(3, "paused")]


async def test_a_signal_that_sleeps_is_paused_in_its_sleep(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Slow(Engine):
        kind = "slow"

        async def on_signal(self, ctx: Context, name: str, payload: Any) -> Any:
            await ctx.sleep(3)

    async with stage(Slow) as on:
        await on.spawn(Slow)
        await on.house.command("e", Signal(name="a"), ANN)
        await on.until(1)
        await on.pause()
        await on.until(101)
        await on.resume()
        await on.until(200)
        assert await on.trace("engine.paused") == [(1, "paused")]
        assert (await on.trace("command.completed"))[-1] == (103, "completed")


async def test_a_run_that_waits_for_its_own_children_is_paused_once_they_all_wait(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    class Family(Engine):
        kind = "family"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            async def child(first_s: float) -> None:
                await trio.sleep(first_s)
                await ctx.pause_point()
                await ctx.emit("family.child")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, 1)
                nursery.start_soon(child, 2)
            await ctx.emit("family.parent")

    async with stage(Family) as on:
        await on.spawn(Family)
        await on.submit()
        await on.until(0.5)
        await on.pause()
        await on.until(10)
        await on.resume()
        await on.until(20)
        assert await on.trace("engine.paused", "family") == [
            (2, "paused"),
            (10, "child"),
            (10, "child"),
            (10, "parent"),
        ]


async def test_a_task_of_the_author_s_own_waits_at_the_gate_and_goes_on_after_it(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    class Ticker(Engine):
        kind = "ticker"

        async def on_start(self, ctx: Context) -> None:
            async def tick() -> None:
                while True:
                    await ctx.sleep(1)
                    await ctx.emit("ticker.tick")

            ctx.nursery.start_soon(tick)

    async with stage(Ticker) as on:
        await on.spawn(Ticker)
        await on.until(1.5)
        await on.pause()
        await on.until(100)
        await on.resume()
        await on.until(101)
        assert await on.trace("ticker", "engine.paused") == [(1, "tick"), (1.5, "paused"), (100.5, "tick")]


async def test_a_deadline_of_the_author_s_own_does_not_open_the_gate(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    class Hasty(Engine):
        kind = "hasty"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            with trio.move_on_after(5):  # on trio's clock, which does not stand still
                await ctx.sleep(60)
            await ctx.emit("hasty.gave_up")

    async with stage(Hasty) as on:
        await on.spawn(Hasty)
        await on.submit()
        await on.until(1)
        await on.pause()
        await on.until(100)
        await on.resume()
        await on.until(200)
        assert await on.trace("engine.paused", "engine.resumed", "hasty") == [
            (1, "paused"),
            (100, "resumed"),
            (100, "gave_up"),
        ]


@pytest.mark.parametrize("end", ["crash", "cancel", "stop", "dispose", "close"])
async def test_whoever_is_held_back_past_a_deadline_still_ends_when_the_engine_does(
    stage: OpenStage, autojump_clock: MockClock, end: str
) -> None:
    class Hasty(Engine):
        kind = "hasty"

        async def on_start(self, ctx: Context) -> None:
            async def fall() -> None:
                await trio.sleep(20)
                raise ValueError("fell")

            if end == "crash" and ctx.incarnation == 1:
                ctx.nursery.start_soon(fall)

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            with trio.move_on_after(5):
                await ctx.sleep(60)
            await ctx.emit("hasty.gave_up")

    async with stage(Hasty) as on:
        await on.spawn(Hasty)
        run = await on.submit()
        await on.until(1)
        await on.pause()
        await on.until(20)
        match end:
            case "cancel":
                await on.house.cancel(run)
            case "stop":
                await on.house.stop("e")
            case "dispose":
                await on.house.dispose("e", force=True)
        await on.until(25)
        assert await on.rows("hasty") == []
        if end != "close":
            assert (await on.trace("run"))[-1][0] == 20
    assert trio.current_time() == 25


async def test_a_run_can_end_while_its_engine_is_pausing(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Steps) as on:
        await on.spawn(Steps)
        run = await on.submit(1)
        await on.until(0.5)
        await on.pause()
        await on.until(10)
        assert await on.trace("run.completed", "engine.paused") == [(1, "completed"), (1, "paused")]
        assert await on.status(run) == "completed"


async def test_a_pause_that_is_not_reached_in_time_names_the_step(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Deep(Engine):
        kind = "deep"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            await trio.sleep(100)

    async with stage(Deep) as on:
        await on.spawn(Deep, pause_timeout_s=30)
        await on.submit()
        await on.until(1)
        await on.pause()
        await on.until(31)
        assert (await on.house.get("e")).pause_slow is None
        await on.until(31.1)
        slow = await on.house.get("e")
        assert (slow.state, slow.pause_slow) == ("pausing", "on_run")
        await on.until(101)
        assert (await on.house.get("e")).pause_slow is None


async def test_a_pause_timeout_of_nothing_waits_for_ever(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Steps) as on:
        await on.spawn(Steps, pause_timeout_s=0)
        await on.submit(1)
        await on.pause()
        await on.until(0.9)
        assert (await on.house.get("e")).pause_slow is None


# -- mode interrupt ---
async def test_an_interrupt_cancels_the_step_and_puts_the_run_back_in_front(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Steps) as on:
        await on.spawn(Steps)
        first = await on.submit(2)
        second = await on.submit(1)
        await on.until(1.5)
        await on.interrupt()
        await on.until(10)
        assert await on.trace("engine.pausing", "engine.paused", "run.interrupted") == [
            (1.5, "pausing"),
            (1.5, "interrupted"),
            (1.5, "paused"),
        ]
        assert await on.status(first) == "queued"
        await on.resume()
        await on.until(20)
        assert [row["run_id"] for row in await on.rows("run.started")] == [first, first, second]
        assert [row["attempt"] for row in await on.data("run.started")] == [1, 2, 1]
        assert (await on.house.run(first)).status == "completed"


async def test_an_interrupt_does_not_count_as_a_lost_attempt(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Steps) as on:
        await on.spawn(Steps, max_attempts=1)
        run = await on.submit(1)
        for at in (0.5, 10.5, 20.5):
            await on.until(at)
            await on.interrupt()
            await on.until(at + 9.5)
            await on.resume()
        await on.until(50)
        assert (await on.house.run(run)).attempts == 4
        assert await on.status(run) == "completed"


async def test_a_soft_hold_that_becomes_an_interrupt_cancels_the_step(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Steps) as on:
        await on.spawn(Steps)
        await on.submit(1)
        await on.until(0.1)
        await on.pause()
        await on.until(0.2)
        await on.interrupt()
        await on.until(10)
        assert await on.trace("engine.pausing", "engine.paused") == [(0.1, "pausing"), (0.2, "paused")]


async def test_a_cancel_after_an_interrupt_wins_over_it(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Tidy(Engine):
        kind = "tidy"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(2)

    async with stage(Tidy) as on:
        await on.spawn(Tidy)
        run = await on.submit()
        await on.until(1)
        await on.interrupt()
        await on.until(2)
        await on.house.cancel(run, BOB, reason="enough")
        await on.until(10)
        found = await on.house.run(run)
        assert (found.status, found.cancelled_by, found.reason) == ("cancelled", "bob", "enough")


async def test_a_mode_that_the_kind_cannot_do_is_refused(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Steps) as on:
        await on.spawn(Steps)
        assert await on.refused(lambda: on.pause(mode=PauseMode.FREEZE)) == "validation-failed"
        assert await on.words("engine") == ["spawned", "starting", "started"]


# -- what stands still ---
async def test_the_timeout_of_a_run_stands_still_while_paused(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Sleeper) as on:
        await on.spawn(Sleeper)
        run = await on.submit(1000, timeout_s=10)
        await on.until(4)
        await on.pause()
        await on.until(104)
        await on.resume()
        await on.until(200)
        assert await on.trace("run.timed_out") == [(110, "timed_out")]
        assert await on.status(run) == "timed_out"


async def test_the_stall_watch_stands_still_while_paused(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Sleeper) as on:
        await on.spawn(Sleeper, stall_s=10)
        await on.submit(1000)
        await on.until(4)
        await on.pause()
        await on.until(104)
        await on.resume()
        await on.until(200)
        assert await on.trace("engine.stalled") == [(110, "stalled")]


@pytest.mark.parametrize("kind", [Sleeper, Told])
async def test_the_idle_clock_stands_still_while_paused(
    stage: OpenStage, autojump_clock: MockClock, kind: type[Engine]
) -> None:
    async with stage(kind) as on:
        await on.spawn(kind, idle_s=10)
        await on.until(4)
        await on.pause()
        await on.until(104)
        assert await on.state() == "paused"
        await on.resume()
        await on.until(200)
        assert await on.trace("engine.stopping", "engine.dormant") == [(110, "stopping"), (110, "dormant")]


async def test_the_backoff_goes_on_while_held(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Crasher(Engine):
        kind = "crasher"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            raise ValueError("no")

    async with stage(Crasher) as on:
        await on.spawn(Crasher)
        await on.submit()
        await on.until(0.1)
        assert await on.state() == "backing_off"
        await on.pause()
        await on.until(0.5)
        await on.resume()
        await on.until(10)
        assert await on.trace("engine.crashed", "engine.paused", "engine.starting") == [
            (0, "starting"),
            (0, "crashed"),
            (1, "starting"),
        ]


async def test_a_run_that_fails_while_pausing_has_failed(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Failing(Engine):
        kind = "failing"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            await trio.sleep(2)
            raise RunFailed("nope", "no")

    async with stage(Failing) as on:
        await on.spawn(Failing)
        await on.submit()
        await on.until(1)
        await on.pause()
        await on.until(5)
        assert await on.trace("run.failed", "engine.paused") == [(2, "failed"), (2, "paused")]
