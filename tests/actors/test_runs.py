from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import Engine, RunContext, RunFailed, RunInput
from protocol.commands import Cancel, Signal
from protocol.errors import MailboxFull
from protocol.runs import OnBusy, Priority
from tests.actors.stage import ANN, BOB, OpenStage


class Worker(Engine):
    """Works for `input` seconds, on trio's own clock."""

    kind = "worker"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        await trio.sleep(run.input or 1)
        return {"worked": run.input}

    async def on_signal(self, ctx: Any, name: str, payload: Any) -> Any:
        return payload


class Tidy(Engine):
    """Needs two seconds to put things away once it is cancelled."""

    kind = "tidy"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)


# -- one after the other ---
async def test_runs_are_done_one_at_a_time_in_the_order_of_their_acceptance(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        runs = [await on.submit(2) for _ in range(3)]
        await on.until(20)
        assert await on.trace("run.started", "run.completed") == [
            (0, "started"),
            (2, "completed"),
            (2, "started"),
            (4, "completed"),
            (4, "started"),
            (6, "completed"),
        ]
        assert [row["run_id"] for row in await on.rows("run.started")] == runs


async def test_high_goes_before_normal_but_one_normal_goes_after_eight_high(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.pause()
        normal = [await on.submit(1) for _ in range(2)]
        high = [await on.submit(1, priority=Priority.HIGH) for _ in range(10)]
        await on.resume()
        await on.until(50)
        order = [row["run_id"] for row in await on.rows("run.started")]
        assert order == [*high[:8], normal[0], *high[8:], normal[1]]


async def test_a_signal_is_handled_while_a_run_is_in_hand(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.submit(10)
        await on.until(1)
        accepted, done = await on.house.command("e", Signal(name="hi", payload=[1]), ANN, wait_s=1)
        assert done is not None
        assert (done.state, done.result, done.id) == ("completed", [1], accepted.command_id)
        assert await on.words("run") == ["queued", "started"]


async def test_a_run_has_one_started_row_before_its_code_and_one_end(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    seen: list[list[str]] = []

    class Looking(Engine):
        kind = "looking"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            seen.append(await on.words("run"))

    async with stage(Looking) as on:
        on.store.delay_s = 0.5
        await on.spawn(Looking)
        await on.run()
        await on.until(20)
        assert seen == [["queued", "started"]]
        assert await on.words("run") == ["queued", "started", "completed"]


async def test_a_result_is_kept_with_its_run_and_settles_its_command(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        run = await on.run(3)
        assert (run.status, run.result, run.elapsed_s, run.attempts) == ("completed", {"worked": 3}, 3, 1)
        assert (await on.house.get_command(run.command_id or "")).state == "completed"


async def test_a_run_that_says_it_failed_leaves_the_actor_well(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Failing(Engine):
        kind = "failing"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            raise RunFailed("no-luck", "It did not work.", {"tried": 3})

    async with stage(Failing) as on:
        await on.spawn(Failing)
        run = await on.run()
        assert (run.status, run.result) == ("failed", {"tried": 3})
        assert run.error == {"slug": "no-luck", "detail": "It did not work."}
        command = await on.house.get_command(run.command_id or "")
        assert (command.state, command.problem) == ("failed", run.error)
        assert await on.words("engine") == ["spawned", "starting", "started"]


async def test_a_failure_in_a_nursery_of_the_run_is_a_failure_of_the_run(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    class Failing(Engine):
        kind = "failing"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            async def fail() -> None:
                raise RunFailed("no-luck", "It did not work.")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                await trio.sleep_forever()

    async with stage(Failing) as on:
        await on.spawn(Failing)
        assert (await on.run()).error == {"slug": "no-luck", "detail": "It did not work."}
        assert (await on.house.get("e")).incarnation == 1


async def test_a_result_that_is_too_large_fails_the_run(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Large(Engine):
        kind = "large"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            return "x" * run.input

    async with stage(Large) as on:
        await on.spawn(Large)
        limit = 1 << 20
        assert (await on.run(limit - 2)).status == "completed"
        run = await on.run(limit - 1)
        assert run.error == {
            "slug": "result-too-large",
            "detail": f"The result has {limit + 1} bytes; the limit is {limit}.",
        }


async def test_of_a_failure_no_more_is_kept_than_of_a_result(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Loud(Engine):
        kind = "loud"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            raise RunFailed("loud", "x" * run.input, result="y" * run.input)

    async with stage(Loud) as on:
        await on.spawn(Loud)
        small = await on.run(10)
        assert (small.error, small.result) == ({"slug": "loud", "detail": "x" * 10}, "y" * 10)
        large = await on.run(1 << 20)
        assert large.result is None
        assert large.error is not None
        assert large.error["detail"] == "x" * (1 << 14) + " The result has 1048578 bytes; the limit is 1048576."


async def test_usage_adds_up_over_the_run(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Using(Engine):
        kind = "using"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            ctx.usage(tokens=3, cost_usd=0.5)
            ctx.usage(tokens=4)

    async with stage(Using) as on:
        await on.spawn(Using)
        assert (await on.run()).usage == {"tokens": 7, "cost_usd": 0.5}


# -- full ---
async def test_a_full_mailbox_refuses_work_and_takes_control(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker, mailbox_size=2)
        await on.pause()
        runs = [await on.submit(1) for _ in range(2)]
        with pytest.raises(MailboxFull):
            await on.submit(1)
        assert await on.refused(lambda: on.house.command("e", Signal(name="x"), ANN)) == "mailbox-full"
        assert len(await on.rows("command.accepted")) == 4
        await on.house.cancel(runs[0])
        await on.submit(1)
        await on.resume()
        await on.until(10)


async def test_a_place_is_taken_from_acceptance_until_the_envelope_is_taken(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker, mailbox_size=1)
        await on.submit(5)
        await on.until(1)
        await on.submit(5)
        assert await on.refused(lambda: on.submit(5)) == "mailbox-full"
        await on.until(6)
        await on.submit(5)


# -- cancel ---
async def test_a_queued_run_is_withdrawn(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.submit(5)
        queued = await on.submit(5)
        await on.until(1)
        await on.house.cancel(queued, BOB, reason="not needed")
        await on.until(2)
        run = await on.house.run(queued)
        assert (run.status, run.cancelled_by, run.reason, run.attempts) == ("cancelled", "bob", "not needed", 0)
        assert (await on.house.get_command(run.command_id or "")).state == "cancelled"
        assert (await on.house.why("e"))["cancel"].by == "bob"


async def test_a_run_in_hand_is_cancelled_by_its_scope_and_says_by_whom(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        run = await on.submit(50)
        await on.until(1)
        await on.house.cancel(run, BOB, reason="enough")
        await on.until(2)
        found = await on.house.run(run)
        assert (found.status, found.cancelled_by, found.reason, found.elapsed_s) == ("cancelled", "bob", "enough", 1)
        assert await on.words("engine") == ["spawned", "starting", "started"]


async def test_a_cancel_without_a_name_means_the_run_in_hand(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        first, second = await on.submit(50), await on.submit(50)
        await on.until(1)
        await on.house.command("e", Cancel(), ANN)
        await on.until(2)
        assert [await on.status(run) for run in (first, second)] == ["cancelled", "running"]


async def test_a_run_that_was_just_taken_is_cancelled_before_its_code(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    worked: list[Any] = []

    class Noting(Engine):
        kind = "noting"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            worked.append(run.id)

    async with stage(Noting) as on:
        await on.spawn(Noting)
        await on.pause()
        run = await on.submit()
        on.store.delay_s = 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(on.resume)  # durable at 1: the run is taken, and its start is written
            await on.until(0.5)
            nursery.start_soon(on.house.cancel, run)  # durable at 2, before that start
        await on.until(10)
        assert (await on.status(run), worked) == ("cancelled", [])
        assert await on.words("run") == ["queued", "started", "cancelled"]


async def test_a_paused_run_is_cancelled_at_once_and_the_engine_stays_paused(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    class Sleeper(Engine):
        kind = "sleeper"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            await ctx.sleep(50)

    async with stage(Sleeper) as on:
        await on.spawn(Sleeper)
        run = await on.submit()
        await on.until(1)
        await on.pause()
        await on.until(2)
        await on.house.cancel(run)
        await on.until(3)
        assert await on.trace("run.cancelled") == [(2, "cancelled")]
        assert await on.state() == "paused"
        assert await on.words("engine.paused") == ["paused"]


async def test_a_cancel_is_a_repeat_when_it_was_cancelled_and_refused_when_it_ended_otherwise(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        done = await on.submit(1)
        gone = await on.submit(1)
        await on.house.cancel(gone)
        await on.until(5)
        _, repeat = await on.house.command("e", Cancel(run_id=gone), ANN, wait_s=1)
        assert repeat is not None
        assert repeat.changed is False
        assert await on.refused(lambda: on.house.command("e", Cancel(run_id=done), ANN)) == "invalid-state"
        assert await on.refused(lambda: on.house.command("e", Cancel(run_id="run_x"), ANN)) == "not-found"
        assert await on.refused(lambda: on.house.command("e", Cancel(), ANN)) == "invalid-state"


async def test_the_run_after_a_cancelled_one_waits_for_its_cleanup(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Tidy) as on:
        await on.spawn(Tidy)
        first, second = await on.submit(), await on.submit()
        await on.until(1)
        await on.house.cancel(first)
        await on.until(5)
        assert await on.trace("run.cancelled", "run.started") == [(0, "started"), (3, "cancelled"), (3, "started")]
        assert await on.status(second) == "running"


async def test_a_cancelled_run_whose_cleanup_raises_is_cancelled_and_not_started_again(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    class Clumsy(Engine):
        kind = "clumsy"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("while cleaning up")

    async with stage(Clumsy) as on:
        await on.spawn(Clumsy, on_interrupt="retry")
        run = await on.submit()
        await on.until(1)
        await on.house.cancel(run, BOB)
        await on.until(20)
        found = await on.house.run(run)
        assert (found.status, found.cancelled_by, found.attempts) == ("cancelled", "bob", 1)
        assert await on.words("engine.crashed") == ["crashed"]


# -- timeouts ---
async def test_a_run_that_works_for_too_long_times_out(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        run = await on.submit(50, timeout_s=5)
        await on.until(20)
        found = await on.house.run(run)
        assert await on.trace("run.timed_out") == [(5, "timed_out")]
        assert found.error == {"slug": "timeout", "detail": "It worked for longer than its timeout of 5 s."}
        assert (await on.house.get_command(found.command_id or "")).state == "failed"
        assert (await on.house.get("e")).incarnation == 1


async def test_the_timeout_of_a_run_does_not_count_its_time_in_the_queue(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.submit(10)
        run = await on.submit(4, timeout_s=5)
        await on.until(20)
        assert await on.status(run) == "completed"


async def test_a_run_that_waits_for_longer_than_its_ttl_times_out_in_the_queue(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.submit(10)
        run = await on.submit(1, queue_ttl_s=5)
        await on.until(20)
        found = await on.house.run(run)
        assert await on.trace("run.timed_out") == [(5, "timed_out")]
        assert found.error is not None
        assert (found.error["slug"], found.attempts) == ("queue-ttl", 0)
        assert (await on.house.get_command(found.command_id or "")).state == "expired"


async def test_a_run_that_was_taken_in_time_is_done(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.submit(4)
        run = await on.submit(10, queue_ttl_s=5)
        await on.until(20)
        assert await on.status(run) == "completed"


async def test_the_ttl_of_a_run_goes_on_while_paused(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        await on.pause()
        await on.submit(1, queue_ttl_s=5)
        await on.until(20)
        assert await on.trace("run.timed_out") == [(5, "timed_out")]


async def test_a_run_that_was_started_in_time_goes_back_into_the_queue_without_a_ttl(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    class Sleeper(Engine):
        kind = "sleeper"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            await ctx.sleep(10)

    async with stage(Sleeper) as on:
        await on.spawn(Sleeper)
        run = await on.submit(queue_ttl_s=5)
        await on.until(3)
        await on.interrupt()
        await on.until(7)
        await on.resume()
        await on.until(40)
        assert await on.status(run) == "completed"


# -- busy ---
async def test_a_busy_engine_rejects_and_names_the_run_in_hand(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        first = await on.submit(10)
        await on.until(1)
        with pytest.raises(Exception, match=first) as refused:
            await on.submit(1, on_busy=OnBusy.REJECT)
        assert refused.value.extra["active_run"] == first  # type: ignore[attr-defined]  # an EnginehouseError
        await on.until(11)
        await on.submit(1, on_busy=OnBusy.REJECT)


async def test_an_interrupting_run_cancels_the_one_in_hand_and_goes_before_the_queue(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Tidy, Worker) as on:
        await on.spawn(Worker)
        first, queued = await on.submit(10), await on.submit(2)
        await on.until(1)
        urgent = await on.submit(1, on_busy=OnBusy.INTERRUPT, caller=BOB)
        await on.until(20)
        assert [await on.status(run) for run in (first, urgent, queued)] == ["cancelled", "completed", "completed"]
        assert [row["run_id"] for row in await on.rows("run.started")] == [first, urgent, queued]
        cancelled = await on.house.run(first)
        assert (cancelled.cancelled_by, cancelled.reason) == ("bob", "superseded")


async def test_a_replacing_run_cancels_the_one_in_hand_and_the_whole_queue(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        runs = [await on.submit(10) for _ in range(3)]
        await on.until(1)
        last = await on.submit(1, on_busy=OnBusy.REPLACE)
        await on.until(20)
        assert [await on.status(run) for run in (*runs, last)] == ["cancelled"] * 3 + ["completed"]


async def test_on_busy_is_nothing_special_when_the_engine_is_free(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Worker) as on:
        await on.spawn(Worker)
        for on_busy in OnBusy:
            assert (await on.run(1, on_busy=on_busy)).status == "completed"


async def test_an_interrupting_run_waits_while_paused(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Tidy) as on:
        await on.spawn(Tidy)
        first = await on.submit()
        await on.until(1)
        await on.interrupt()
        await on.until(5)
        second = await on.submit(on_busy=OnBusy.INTERRUPT)
        await on.until(10)
        assert [await on.status(run) for run in (first, second)] == ["queued", "queued"]
        await on.resume()
        await on.until(11)
        assert [await on.status(run) for run in (first, second)] == ["queued", "running"]
