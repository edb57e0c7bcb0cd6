from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import Context, Engine, RunContext, RunInput
from actors.speaking import EMIT_BYTES, EMIT_ROWS
from protocol.events import Frame
from tests.actors.stage import OpenStage

Script = Callable[[RunContext, Any], Awaitable[Any]]


def acting(script: Script) -> type[Engine]:
    """A kind whose runs are this script."""

    class Acting(Engine):
        kind = "acting"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            return await script(ctx, run.input)

    return Acting


# -- speaking ---
async def test_what_is_emitted_carries_the_run_and_keeps_its_order(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def say(ctx: RunContext, count: int) -> None:
        for n in range(count):
            if n % 2:
                ctx.emit_nowait("acting.said", {"n": n})
            else:
                await ctx.emit("acting.said", {"n": n})

    kind = acting(say)
    async with stage(kind) as on:
        await on.spawn(kind)
        run = await on.run(300)
        rows = await on.rows("acting.said")
        assert [row["data"]["n"] for row in rows] == list(range(300))
        assert {row["run_id"] for row in rows} == {run.id}


@pytest.mark.parametrize("type", ["run.completed", "engine.paused", "audit.read", "state.patched", "nodot", ""])
async def test_types_of_the_house_and_types_without_a_family_are_refused(
    stage: OpenStage, autojump_clock: MockClock, type: str
) -> None:
    async def say(ctx: RunContext, _: Any) -> str:
        with pytest.raises(ValueError, match="not a type of your own"):
            ctx.emit_nowait(type)
        with pytest.raises(ValueError, match="not a type of your own"):
            await ctx.emit(type)
        return "refused"

    kind = acting(say)
    async with stage(kind) as on:
        await on.spawn(kind)
        assert (await on.run()).result == "refused"


@pytest.mark.parametrize("value", [float("nan"), object(), "\ud800"])
async def test_data_that_is_not_json_is_refused_and_writes_nothing(
    stage: OpenStage, autojump_clock: MockClock, value: object
) -> None:
    async def say(ctx: RunContext, _: Any) -> str:
        with pytest.raises((ValueError, TypeError)):
            await ctx.emit("acting.said", {"x": value})
        return "refused"

    kind = acting(say)
    async with stage(kind) as on:
        await on.spawn(kind)
        assert (await on.run()).result == "refused"
        assert await on.rows("acting") == []


async def test_emit_waits_for_the_disk_only_when_it_is_far_ahead(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def say(ctx: RunContext, _: Any) -> list[float]:
        begun, waited = ctx.time(), []
        for n in range(EMIT_ROWS + 10):
            before = ctx.time()
            await ctx.emit("acting.said")
            if ctx.time() > before:
                waited.append(n + 1)
        return [*waited, ctx.time() - begun]

    kind = acting(say)
    async with stage(kind) as on:
        await on.spawn(kind)
        on.store.delay_s = 1
        run = await on.run()
        assert run.result == [EMIT_ROWS, 1]  # it waited once, for one commit


async def test_emit_waits_when_it_is_many_bytes_ahead(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def say(ctx: RunContext, _: Any) -> list[float]:
        times = []
        for _n in range(3):
            await ctx.emit("acting.said", {"x": "x" * (EMIT_BYTES // 2)})
            times.append(ctx.time())
        return times

    kind = acting(say)
    async with stage(kind) as on:
        await on.spawn(kind)
        on.store.delay_s = 1
        first, second, third = (await on.run()).result
        assert first < second <= third


async def test_emit_nowait_raises_at_twice_the_distance(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def say(ctx: RunContext, _: Any) -> int:
        for n in range(10_000):
            try:
                ctx.emit_nowait("acting.said")
            except trio.WouldBlock:
                return n
        return -1

    kind = acting(say)
    async with stage(kind) as on:
        await on.spawn(kind)
        assert (await on.run()).result == 2 * EMIT_ROWS
        assert len(await on.rows("acting")) == 2 * EMIT_ROWS


async def test_one_engine_that_is_far_ahead_delays_no_other(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def say(ctx: RunContext, count: int) -> float:
        begun = ctx.time()
        for _ in range(count):
            await ctx.emit("acting.said")
        return ctx.time() - begun

    kind = acting(say)
    async with stage(kind) as on:
        await on.spawn(kind)
        await on.spawn(kind, "other")
        on.store.delay_s = 1
        await on.submit(EMIT_ROWS * 4)
        run = await on.submit(10, "other")
        await on.until(20)
        assert (await on.house.run(run)).result == 0


async def test_flush_returns_when_everything_said_is_durable(stage: OpenStage, autojump_clock: MockClock) -> None:
    seen: list[list[str]] = []

    async def say(ctx: RunContext, _: Any) -> None:
        await ctx.emit("acting.said")
        ctx.update("s", 1)
        seen.append(await on.words("acting", "state"))
        await ctx.flush()
        seen.append(await on.words("acting", "state"))

    kind = acting(say)
    async with stage(kind) as on:
        on.store.delay_s = 1
        await on.spawn(kind)
        await on.run()
        assert seen == [[], ["said", "patched"]]


async def test_flush_is_a_pause_point(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def say(ctx: RunContext, _: Any) -> None:
        await trio.sleep(2)
        await ctx.flush()
        await ctx.emit("acting.said")

    kind = acting(say)
    async with stage(kind) as on:
        await on.spawn(kind)
        await on.submit()
        await on.until(1)
        await on.pause()
        await on.until(10)
        assert await on.trace("engine.paused", "acting") == [(2, "paused")]


async def test_progress_is_shown_and_not_kept(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def say(ctx: RunContext, _: Any) -> None:
        ctx.progress({"done": 0.5})

    kind = acting(say)
    async with stage(kind) as on:
        await on.spawn(kind)
        async with on.house.events() as events:
            await on.run()
            frames = await events.receive()
        assert [frame.id for frame in frames if frame.event == "run.progress"] == [None]
        assert "progress" not in await on.words("run")


async def test_deltas_are_shown_without_secrets_and_not_kept(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def say(ctx: RunContext, _: Any) -> None:
        ctx.hide("hunter2hunter2")
        for piece in ("it is hunter2", "hunter2!", " or hunter"):
            ctx.delta(piece, message=1)
        ctx.delta("2hunter2 it is not", message=2)
        ctx.delta("hm", type="thought", message=3)

    kind = acting(say)
    async with stage(kind) as on:
        await on.spawn(kind)
        async with on.house.events() as events:
            await on.run()
            frames: list[Frame] = []
            while not frames or frames[-1].event != "run.completed":
                frames += [frame for frame in await events.receive() if frame.event != "command.completed"]
        deltas = [frame for frame in frames if frame.event == "message.delta"]
        assert [frame.id for frame in deltas] == [None] * len(deltas)
        assert [json.loads(frame.data)["data"] for frame in deltas] == [
            {"message": 1, "type": "text", "text": "it is "},
            {"message": 1, "type": "text", "text": "***!"},
            {"message": 1, "type": "text", "text": " or "},  # what may be a secret is held back
            {"message": 2, "type": "text", "text": "2hunter2 it is not"},
            {"message": 3, "type": "thought", "text": "hm"},
        ]
        assert "delta" not in await on.words("message")


# -- log ---
async def test_log_lines_over_the_budget_are_counted_and_said_once(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def say(ctx: RunContext, _: Any) -> None:
        for n in range(250):
            ctx.log("line", level="debug", n=n)

    kind = acting(say)
    async with stage(kind) as on:
        await on.spawn(kind)
        await on.run()
        await on.until(5)
        lines = await on.data("log.line")
        assert [row["n"] for row in lines] == list(range(200))
        assert lines[0] == {"level": "debug", "text": "line", "n": 0}
        assert await on.data("log.dropped") == [{"count": 50}]
        assert await on.trace("log.dropped") == [(1, "dropped")]


async def test_the_log_budget_is_new_in_each_second(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def say(ctx: RunContext, _: Any) -> None:
        for _n in range(3):
            for _ in range(201):
                ctx.log("line")
            await ctx.sleep(1)

    kind = acting(say)
    async with stage(kind) as on:
        await on.spawn(kind)
        await on.run()
        await on.until(5)
        assert len(await on.rows("log.line")) == 600
        assert await on.data("log.dropped") == [{"count": 1}] * 3


async def test_dropped_lines_are_said_before_paused_and_not_while_it_is(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async def say(ctx: RunContext, _: Any) -> None:
        for _n in range(250):
            ctx.log("line")
        await ctx.sleep(50)

    kind = acting(say)
    async with stage(kind) as on:
        await on.spawn(kind)
        await on.submit()
        await on.until(0.5)
        await on.pause()
        await on.until(5)
        assert await on.words("log.dropped", "engine.paused") == ["dropped", "paused"]


async def test_nothing_is_said_of_dropped_lines_after_dispose(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def say(ctx: RunContext, _: Any) -> None:
        for _n in range(250):
            ctx.log("line")

    kind = acting(say)
    async with stage(kind) as on:
        await on.spawn(kind)
        await on.run()
        await on.house.dispose("e")
        await on.until(5)
        assert (await on.rows())[-1]["type"] == "engine.disposed"


# -- waiting ---
async def test_wait_gives_what_the_other_gave_once_the_engine_is_released(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async def wait(ctx: RunContext, _: Any) -> str:
        async def other() -> str:
            await trio.sleep(5)
            return "got"

        got = await ctx.wait(other)
        await ctx.emit("acting.said")
        return got

    kind = acting(wait)
    async with stage(kind) as on:
        await on.spawn(kind)
        run = await on.submit()
        await on.until(1)
        await on.pause()
        await on.until(10)
        await on.resume()
        await on.until(11)
        assert await on.trace("engine.paused", "acting") == [(1, "paused"), (10, "said")]
        assert (await on.house.run(run)).result == "got"


async def test_an_error_in_what_is_waited_for_also_waits_for_the_release(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async def wait(ctx: RunContext, _: Any) -> str:
        async def other() -> None:
            await trio.sleep(5)
            raise OSError("gone")

        try:
            await ctx.wait(other)
        except OSError as error:
            await ctx.emit("acting.said")
            return str(error)
        return "no error"

    kind = acting(wait)
    async with stage(kind) as on:
        await on.spawn(kind)
        run = await on.submit()
        await on.until(1)
        await on.pause()
        await on.until(10)
        await on.resume()
        await on.until(11)
        assert await on.trace("acting") == [(10, "said")]
        assert (await on.house.run(run)).result == "gone"


async def test_waits_may_be_nested(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def wait(ctx: RunContext, _: Any) -> None:
        async def inner() -> None:
            await ctx.sleep(2)
            await trio.sleep(2)

        await ctx.wait(inner)

    kind = acting(wait)
    async with stage(kind) as on:
        await on.spawn(kind)
        await on.submit()
        await on.until(3)
        await on.pause()
        await on.until(10)
        assert await on.trace("engine.paused") == [(3, "paused")]


async def test_time_and_sleep_agree(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def sleep(ctx: RunContext, seconds: float) -> float:
        begun = ctx.time()
        await ctx.sleep(seconds)
        return ctx.time() - begun

    kind = acting(sleep)
    async with stage(kind) as on:
        await on.spawn(kind)
        for seconds in (0, 0.5, 3):
            assert (await on.run(seconds)).result == seconds


async def test_a_context_says_who_and_which_it_is(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def who(ctx: RunContext, _: Any) -> Any:
        return [ctx.engine_id, dict(ctx.labels), ctx.incarnation, ctx.stopping]

    kind = acting(who)
    async with stage(kind) as on:
        await on.spawn(kind, labels={"team": "a"})
        assert (await on.run()).result == ["e", {"team": "a"}, 1, False]


async def test_stopping_is_seen_by_the_run_in_hand(stage: OpenStage, autojump_clock: MockClock) -> None:
    async def look(ctx: RunContext, _: Any) -> list[bool]:
        await trio.sleep(1)
        before = ctx.stopping
        await trio.sleep(1)
        return [before, ctx.stopping]

    kind = acting(look)
    async with stage(kind) as on:
        await on.spawn(kind)
        run = await on.submit()
        await on.until(1.1)
        await on.house.stop("e")
        await on.until(5)
        assert (await on.house.run(run)).result == [False, True]


# -- tasks ---
async def test_an_idle_engine_is_one_task_and_a_stopped_one_none(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Idle(Engine):
        kind = "idle"

    def tasks() -> int:
        return trio.lowlevel.current_statistics().tasks_living

    async with stage(Idle) as on:
        await on.spawn(Idle, "first")
        before = tasks()
        for n in range(10):
            await on.spawn(Idle, f"e{n}")
        assert tasks() == before + 10
        for n in range(10):
            await on.house.stop(f"e{n}")
        await on.until(1)
        assert tasks() == before


async def test_the_nursery_is_open_from_the_first_callback_on(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Nested(Engine):
        kind = "nested"

        async def on_signal(self, ctx: Context, name: str, payload: Any) -> Any:
            done = trio.Event()
            ctx.nursery.start_soon(lambda: checked(done))
            await done.wait()
            return "done"

    async def checked(done: trio.Event) -> None:
        await trio.lowlevel.checkpoint()
        done.set()

    async with stage(Nested) as on:
        await on.spawn(Nested)
        assert await on.house.ref("e").ask("x") == "done"


async def test_tasks_of_the_author_s_own_end_with_the_incarnation(stage: OpenStage, autojump_clock: MockClock) -> None:
    ended: list[float] = []

    class Reader(Engine):
        kind = "reader"

        async def on_start(self, ctx: Context) -> None:
            async def read() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    ended.append(trio.current_time())

            ctx.nursery.start_soon(read)

    async with stage(Reader) as on:
        await on.spawn(Reader)
        await on.until(5)
        await on.house.restart("e")
        await on.until(9)
        await on.house.dispose("e")
        assert ended == [5, 9]


async def test_the_context_variables_of_who_asks_do_not_live_on_in_an_engine(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    from contextvars import ContextVar

    request: ContextVar[str] = ContextVar("request", default="none")
    seen: list[str] = []

    class Curious(Engine):
        kind = "curious"

        async def on_start(self, ctx: Context) -> None:
            seen.append(request.get())

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            seen.append(request.get())

    async with stage(Curious) as on:
        request.set("somebody's")
        await on.spawn(Curious)
        await on.run()
        await on.house.restart("e")
        await on.until(1)
        assert seen == ["none", "none", "none"]
