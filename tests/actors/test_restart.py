from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import CannotStart, Context, Engine, Finished, RunContext, RunInput
from protocol.commands import Signal
from protocol.specs import Backoff, OnInterrupt, Policy, Restart
from tests.actors.stage import ANN, STEADY, OpenStage


class Crasher(Engine):
    """Crashes `input` seconds into every attempt but those beyond the third."""

    kind = "crasher"
    checkpoints = True

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        await trio.sleep(run.input or 1)
        if run.attempt <= 3:
            raise ValueError("no")
        return {"resumed": run.resumed, "attempt": run.attempt}

    async def on_signal(self, ctx: Context, name: str, payload: Any) -> Any:
        raise KeyError(name)


# -- backoff and intensity ---
async def test_a_crash_is_followed_by_a_backoff_and_a_boot(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher)
        await on.submit(5)
        await on.until(20)
        assert await on.trace("engine") == [
            (0, "spawned"),
            (0, "starting"),
            (0, "started"),
            (5, "crashed"),
            (6, "starting"),
            (6, "started"),
        ]
        last = (await on.house.get("e")).last_exit or {}
        assert (last["cause"], last["error"], last["ran_s"]) == ("crashed", "ValueError: no", 5)


async def test_delays_grow_with_each_crash_in_a_row(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher, on_interrupt=OnInterrupt.RETRY, max_attempts=9)
        await on.submit(1)
        await on.until(100)
        assert await on.trace("engine.crashed", "engine.starting", "run.completed") == [
            (0, "starting"),
            (1, "crashed"),
            (2, "starting"),
            (3, "crashed"),
            (5, "starting"),
            (6, "crashed"),
            (10, "starting"),
            (11, "completed"),
        ]


async def test_a_restart_too_many_fails_the_engine_and_keeps_its_queue(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher)
        runs = [await on.submit(1) for _ in range(6)]
        await on.until(100)
        assert await on.trace("engine.crashed", "engine.failed") == [
            (1, "crashed"),
            (3, "crashed"),
            (6, "crashed"),
            (11, "failed"),
        ]
        engine = await on.house.get("e")
        assert (engine.state, engine.restarts, engine.incarnation) == ("failed", 3, 4)
        assert [await on.status(run) for run in runs] == ["failed"] * 4 + ["queued"] * 2
        assert await on.refused(lambda: on.submit(1)) == "invalid-state"


async def test_a_start_clears_the_history_of_a_failed_engine_and_takes_up_its_queue(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher)
        runs = [await on.submit(1) for _ in range(6)]
        await on.until(100)
        await on.house.start("e")
        await on.until(102.5)
        assert [await on.status(run) for run in runs[4:]] == ["failed", "running"]
        assert (await on.trace("engine.crashed"))[-1] == (101, "crashed")


async def test_the_backoff_begins_again_after_a_stable_time(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher, restart=replace(STEADY, max_restarts=9))
        for work_s in (1, 1, 40, 1):
            await on.submit(work_s)
        await on.until(200)
        assert await on.trace("engine.crashed", "engine.starting") == [
            (0, "starting"),
            (1, "crashed"),
            (2, "starting"),
            (3, "crashed"),
            (5, "starting"),
            (45, "crashed"),
            (46, "starting"),
            (47, "crashed"),
            (49, "starting"),
        ]


@pytest.mark.parametrize("verb", ["start", "restart"])
async def test_a_boot_that_somebody_asks_for_cuts_the_backoff_short_and_is_not_counted(
    stage: OpenStage, autojump_clock: MockClock, verb: str
) -> None:
    async with stage(Crasher) as on:
        slow = Restart(max_restarts=1, backoff=Backoff(min_s=20, max_s=20, jitter=0))
        await on.spawn(Crasher, restart=slow)
        await on.submit(1)
        await on.until(5)
        await getattr(on.house, verb)("e")
        await on.until(100)
        assert await on.trace("engine.starting") == [(0, "starting"), (5, "starting")]
        assert (await on.house.get("e")).restarts == 0


async def test_restarts_that_somebody_asks_for_take_no_place_in_the_window(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher, restart=Restart(max_restarts=1, backoff=Backoff(min_s=1, jitter=0)))
        for n in range(5):
            await on.house.restart("e")
            await on.until(n + 1)
        await on.submit(1)
        await on.until(20)
        engine = await on.house.get("e")
        assert (engine.state, engine.incarnation, engine.restarts) == ("running", 7, 1)


async def test_a_stop_in_the_backoff_ends_it(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher)
        await on.submit(1)
        await on.until(1.5)
        await on.house.stop("e")
        await on.until(20)
        assert (await on.words("engine"))[3:] == ["crashed", "stopped"]


# -- policies ---
class Ender(Engine):
    kind = "ender"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        ctx.finish()

    async def on_signal(self, ctx: Context, name: str, payload: Any) -> Any:
        raise Finished


ENDS = {Policy.PERMANENT: "running", Policy.TRANSIENT: "stopped", Policy.TEMPORARY: "stopped"}
CRASHES = {Policy.PERMANENT: "running", Policy.TRANSIENT: "running", Policy.TEMPORARY: "failed"}


@pytest.mark.parametrize("policy", Policy)
async def test_an_engine_that_finishes_is_restarted_by_a_permanent_policy_alone(
    stage: OpenStage, autojump_clock: MockClock, policy: Policy
) -> None:
    async with stage(Ender) as on:
        await on.spawn(Ender, restart=Restart(policy=policy))
        await on.house.command("e", Signal(name="x"), ANN)
        await on.until(20)
        assert await on.state() == ENDS[policy]
        assert ((await on.house.get("e")).last_exit or {})["cause"] == "finished"


@pytest.mark.parametrize("policy", Policy)
async def test_an_engine_that_crashes_is_restarted_by_all_policies_but_temporary(
    stage: OpenStage, autojump_clock: MockClock, policy: Policy
) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher, restart=Restart(policy=policy))
        await on.submit(1)
        await on.until(20)
        assert await on.state() == CRASHES[policy]


@pytest.mark.parametrize("policy", Policy)
async def test_an_engine_may_finish_while_it_boots(stage: OpenStage, autojump_clock: MockClock, policy: Policy) -> None:
    class Done(Engine):
        kind = "done"

        async def on_start(self, ctx: Context) -> None:
            if ctx.incarnation == 1:
                ctx.finish()

    async with stage(Done) as on:
        await on.spawn(Done, restart=Restart(policy=policy))
        await on.until(20)
        assert await on.state() == ENDS[policy]


async def test_an_engine_may_finish_while_it_is_paused(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Reader(Engine):
        kind = "reader"

        async def on_start(self, ctx: Context) -> None:
            async def read() -> None:
                await trio.sleep(5)
                ctx.finish()

            ctx.nursery.start_soon(read)

    async with stage(Reader) as on:
        await on.spawn(Reader, restart=Restart(policy=Policy.TRANSIENT))
        await on.until(1)
        await on.pause()
        await on.until(20)
        assert (await on.trace("engine"))[-2:] == [(1, "paused"), (5, "stopped")]


# -- boot ---
async def test_a_boot_that_no_retry_can_mend_fails_at_once(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Missing(Engine):
        kind = "missing"

        async def on_start(self, ctx: Context) -> None:
            raise CannotStart("There is no program 'nosuch'.")

    async with stage(Missing) as on:
        await on.spawn(Missing)
        await on.until(20)
        assert await on.words("engine") == ["spawned", "starting", "failed"]
        assert ((await on.house.get("e")).last_exit or {})["error"] == "There is no program 'nosuch'."


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    "error, said",
    [
        (RuntimeError("x" * 100_000), f"RuntimeError: {'x' * 16384}"),
        (CannotStart("x" * 100_000), "x" * 16384),
        (Unspeakable(), "Unspeakable: its text could not be had (ValueError)"),
    ],
    ids=["long", "long and unmendable", "unspeakable"],
)
async def test_what_an_exception_says_has_a_bound(
    stage: OpenStage, autojump_clock: MockClock, error: Exception, said: str
) -> None:
    class Wordy(Engine):
        kind = "wordy"

        async def on_start(self, ctx: Context) -> None:
            raise error

    async with stage(Wordy) as on:
        await on.spawn(Wordy, restart=Restart(policy=Policy.TEMPORARY))
        await on.until(20)
        assert ((await on.house.get("e")).last_exit or {})["error"] == said


async def test_a_boot_that_takes_too_long_is_a_crash(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Slow(Engine):
        kind = "slow"

        async def on_start(self, ctx: Context) -> None:
            await trio.sleep(50 if ctx.incarnation == 1 else 5)

    async with stage(Slow) as on:
        await on.spawn(Slow, boot_s=10)
        await on.until(50)
        assert await on.trace("engine.crashed", "engine.started") == [(10, "crashed"), (16, "started")]
        assert ((await on.house.get("e")).last_exit or {})[
            "error"
        ] == "TimeoutError: on_start did not return within 10 s"


async def test_a_boot_that_raises_is_tried_again(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Flaky(Engine):
        kind = "flaky"

        async def on_start(self, ctx: Context) -> None:
            if ctx.incarnation < 3:
                raise OSError("not yet")

    async with stage(Flaky) as on:
        await on.spawn(Flaky)
        await on.until(50)
        assert await on.trace("engine.crashed", "engine.started") == [(0, "crashed"), (1, "crashed"), (3, "started")]


async def test_a_constructor_that_raises_is_a_crash_like_any_other(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Broken(Engine):
        kind = "broken"

        def __init__(self, config: Any) -> None:
            raise RuntimeError("no")

    async with stage(Broken) as on:
        await on.spawn(Broken)
        await on.until(50)
        assert await on.words("engine.crashed", "engine.failed") == ["crashed"] * 3 + ["failed"]


async def test_a_crash_of_a_task_of_the_author_s_own_is_a_crash_of_the_actor(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    class Background(Engine):
        kind = "background"

        async def on_start(self, ctx: Context) -> None:
            async def fall() -> None:
                await trio.sleep(3)
                raise ValueError("fell")

            if ctx.incarnation == 1:
                ctx.nursery.start_soon(fall)

    async with stage(Background) as on:
        await on.spawn(Background)
        await on.until(20)
        assert await on.trace("engine.crashed", "engine.starting") == [(0, "starting"), (3, "crashed"), (4, "starting")]


async def test_a_crash_of_one_engine_changes_no_other(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher)
        await on.spawn(Crasher, "other")
        await on.submit(1)
        await on.until(0.5)
        before = (await on.house.get("other")).engine_seq
        await on.until(20)
        other = await on.house.get("other")
        assert (other.state, other.engine_seq) == ("running", before)


ANEW = "A retry gives the same input anew, and may repeat what was done."


# -- what was in hand ---
async def test_fail_ends_the_run_that_was_in_hand(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher, on_interrupt=OnInterrupt.FAIL)
        run = await on.submit(1)
        await on.until(20)
        assert await on.words("run") == ["queued", "started", "interrupted", "failed"]
        assert (await on.house.run(run)).error == {
            "slug": "interrupted",
            "detail": f"It was interrupted: ValueError: no. {ANEW}",
        }


async def test_retry_starts_the_same_run_again_before_the_queue(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher, on_interrupt=OnInterrupt.RETRY, max_attempts=9)
        first, second = await on.submit(1), await on.submit(1)
        await on.until(12)
        assert [row["run_id"] for row in await on.rows("run.started")] == [first] * 4 + [second]
        run = await on.house.run(first)
        assert (run.status, run.attempts, run.result) == ("completed", 4, {"resumed": False, "attempt": 4})


async def test_a_run_is_tried_no_more_often_than_max_attempts(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher, on_interrupt=OnInterrupt.RETRY, max_attempts=2)
        run = await on.submit(1)
        await on.until(20)
        found = await on.house.run(run)
        assert (found.status, found.attempts) == ("failed", 2)
        detail = (found.error or {})["detail"]
        assert detail == f"It was interrupted on each of 2 attempts: ValueError: no. {ANEW}"


async def test_resume_tells_the_run_that_it_goes_on(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher, on_interrupt=OnInterrupt.RESUME, max_attempts=9)
        run = await on.submit(1)
        await on.until(20)
        assert (await on.house.run(run)).result == {"resumed": True, "attempt": 4}


async def test_a_resumed_run_goes_on_also_when_the_house_died_before_its_next_start(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Crasher, check=False) as on:
        await on.spawn(Crasher, on_interrupt=OnInterrupt.RESUME, max_attempts=9)
        run = await on.submit(1)
        await on.until(6.5)  # the third attempt was lost; it backs off
        journal = on.store.journal
    async with stage(Crasher, journal=journal) as on:
        await on.until(10)
        assert (await on.house.run(run)).result == {"resumed": True, "attempt": 4}


async def test_a_restart_that_somebody_asks_for_takes_no_attempt(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Long(Engine):
        kind = "long"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            await ctx.sleep(5)

    async with stage(Long) as on:
        await on.spawn(Long, on_interrupt=OnInterrupt.RETRY, max_attempts=1)
        run = await on.submit()
        for n in range(1, 4):
            await on.until(n)
            await on.house.restart("e")
        await on.until(20)
        found = await on.house.run(run)
        assert (found.status, found.attempts) == ("completed", 4)


async def test_a_signal_in_hand_becomes_a_dead_letter(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher)
        accepted, _ = await on.house.command("e", Signal(name="boom", payload=1), ANN)
        await on.until(20)
        (letter,) = (await on.house.dead_letters()).items
        assert (letter.command_id, letter.type, letter.reason) == (accepted.command_id, "signal", "KeyError: 'boom'")
        assert letter.body == {"type": "signal", "name": "boom", "payload": 1}
        assert (await on.house.get_command(accepted.command_id)).state == "dead_lettered"


async def test_queued_work_survives_the_crash(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher)
        await on.submit(1)
        second = await on.submit(1)
        await on.until(1.5)
        assert (await on.house.get("e")).mailbox.queued == 1
        await on.until(2.5)
        assert await on.status(second) == "running"


async def test_the_exit_is_the_first_error_of_a_group(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Group(Engine):
        kind = "group"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            raise ExceptionGroup("both", [ExceptionGroup("inner", [ValueError("first")]), KeyError("second")])

    async with stage(Group) as on:
        await on.spawn(Group, restart=STEADY)
        await on.submit()
        await on.until(0.5)
        assert ((await on.house.get("e")).last_exit or {})["error"] == "ValueError: first"
