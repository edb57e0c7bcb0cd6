"""Whatever an engine class does wrong stays its own: the house lives, its neighbour works, what it had in hand has an
end, and the next house opens with it.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import Context, Engine, RunContext, RunFailed, RunInput
from protocol.commands import Signal
from protocol.errors import EngineDisposed, EnginehouseError
from protocol.requests import Option, OptionKind
from supervisor import EmbeddedHouse
from supervisor.store.memory import Journal
from tests.actors.stage import OpenStage

HALF = "caf\udce9"
"""What Python makes of a file name that is not text in UTF-8 (PEP 383)."""

ENDED = {"completed", "failed", "cancelled", "timed_out"}

Deed = Callable[[Any], Awaitable[Any]]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def raising(error: BaseException) -> Deed:
    async def deed(ctx: Context) -> Any:
        raise error

    return deed


def doing(fn: Callable[[Any], Any]) -> Deed:
    async def deed(ctx: Context) -> Any:
        return fn(ctx)

    return deed


def ahead(fn: Callable[[Any], Any]) -> Deed:
    """While what was said before is not durable yet: it is the house that writes it later."""

    async def deed(ctx: Context) -> Any:
        ctx.update("before", 1)
        fn(ctx)

    return deed


def emitting(data: Any) -> Deed:
    async def deed(ctx: Context) -> Any:
        await ctx.emit("bad.event", data)

    return deed


def asking(**asked: Any) -> Deed:
    async def deed(ctx: Context) -> Any:
        with trio.move_on_after(3):
            await ctx.ask_human(**{"title": "?", **asked})

    return deed


class Own(BaseException):
    pass


class Exiting(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


DEEDS: dict[str, Deed] = {
    "exit": raising(SystemExit(3)),
    "exit in a group": raising(BaseExceptionGroup("two", [SystemExit(3), ValueError("x")])),
    "generator exit": raising(GeneratorExit()),
    "another loop's cancellation": raising(asyncio.CancelledError()),
    "base exception": raising(Own()),
    "stop iteration": raising(StopIteration(1)),
    "text that exits": raising(Exiting()),
    "error with half a character": raising(OSError(f"no file {HALF}")),
    "failure with half a character": raising(RunFailed("failed", f"no file {HALF}")),
    "failure named by half a character": raising(RunFailed(HALF, "x")),
    "failure without words": raising(RunFailed(3, object())),  # type: ignore[arg-type]  # as somebody might
    "failure without json": raising(RunFailed("failed", "x", math.nan)),
    "result with half a character": doing(lambda ctx: HALF),
    "result nan": doing(lambda ctx: math.nan),
    "result huge": doing(lambda ctx: 10**5000),
    "result deep": doing(lambda ctx: nested(250)),
    "slice nan": ahead(lambda ctx: ctx.update("s", math.nan)),
    "slice with half a character": ahead(lambda ctx: ctx.update("s", HALF)),
    "slice huge": ahead(lambda ctx: ctx.update("s", 10**5000)),
    "slice named by half a character": ahead(lambda ctx: ctx.update(HALF, 1)),
    "slice that is as deep as may be": ahead(lambda ctx: ctx.update("s", nested(184))),
    "event that is as deep as may be": emitting({"x": [nested(185), 2**60]}),
    "result that is as deep as may be": doing(lambda ctx: nested(186)),
    "slice just too deep": ahead(lambda ctx: ctx.update("s", nested(187))),
    "result that is too deep with its row": doing(lambda ctx: nested(189)),
    "progress that is too deep with its row": doing(lambda ctx: ctx.progress({"x": nested(189)})),
    "slice deep": ahead(lambda ctx: ctx.update("s", nested(198))),
    "slice deeper": ahead(lambda ctx: ctx.update("s", nested(254))),
    "event deep": emitting({"x": nested(250)}),
    "event deeper": emitting({"x": nested(900)}),
    "progress nan": doing(lambda ctx: ctx.progress({"x": math.nan})),
    "progress with half a character": doing(lambda ctx: ctx.progress({"x": HALF})),
    "delta of no type": doing(lambda ctx: ctx.delta("x", type=HALF)),
    "usage infinite": doing(lambda ctx: ctx.usage(tokens=math.inf)),
    "usage nan": doing(lambda ctx: ctx.usage(tokens=math.nan)),
    "usage huge": doing(lambda ctx: ctx.usage(tokens=10**400)),
    "usage named by half a character": doing(lambda ctx: ctx.usage(**{HALF: 1})),
    "hold with half a character": doing(lambda ctx: ctx.hold("me", HALF)),
    "hold by half a character": doing(lambda ctx: ctx.hold(HALF, "why")),
    "hold by nobody": doing(lambda ctx: ctx.hold(object(), "why")),
    "hold for a number": doing(lambda ctx: ctx.hold("me", 5)),
    "question that is a number": asking(title=5),
    "question without a detail": asking(detail=None),
    "question with half a character": asking(title=HALF),
    "question of an action that is deep": asking(action=nested(250)),
    "question with a schema that is deep": asking(schema={"not": nested(150)}),
    "question with a strange option": asking(options=[Option(id=5, kind=OptionKind.CHOICE, label=None)]),  # type: ignore[arg-type]
    "question until the end of time": asking(deadline_s=1e300),
    "question until never": asking(deadline_s=math.nan),
    "question for some time": asking(deadline_s="5"),
    "question that escalates never": asking(escalate_s=math.nan),
    "question that escalates for ever": asking(escalate_s=[1, math.inf]),
    "question that holds never": asking(valid_s=math.nan),
}


def kind_of(deed: Deed, place: str) -> type[Engine]:
    class Bad(Engine):
        kind = "bad"

        async def on_start(self, ctx: Context) -> None:
            if place == "on_start":
                await deed(ctx)
            elif place == "a task":
                ctx.nursery.start_soon(deed, ctx)

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            return await deed(ctx) if place == "on_run" else None

        async def on_signal(self, ctx: Context, name: str, payload: Any) -> Any:
            return await deed(ctx) if place == "on_signal" else None

        async def on_pause(self, ctx: Context) -> None:
            if place == "on_pause":
                await deed(ctx)

        async def on_stop(self, ctx: Context) -> None:
            if place == "on_stop":
                await deed(ctx)

    return Bad


class Neighbour(Engine):
    kind = "neighbour"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        ctx.usage(tokens=0.5)


async def watch(house: EmbeddedHouse) -> None:
    async with house.events() as stream:
        while True:
            for frame in await stream.receive():
                json.loads(frame.data)


@pytest.mark.parametrize("place", ["on_start", "on_run", "on_signal", "a task", "on_pause", "on_stop"])
@pytest.mark.parametrize("deed", DEEDS)
async def test_what_an_engine_does_wrong_stays_its_own(
    stage: OpenStage, autojump_clock: MockClock, deed: str, place: str
) -> None:
    kind, journal = kind_of(DEEDS[deed], place), Journal()
    async with stage(kind, Neighbour, journal=journal) as on, trio.open_nursery() as watchers:
        watchers.start_soon(watch, on.house)
        on.store.delay_s = 0.5
        await on.spawn(Neighbour, id="n")
        await on.spawn(kind)
        runs = []
        for later_s in (10, 20, 30):
            with suppress(EnginehouseError):
                runs.append(await on.submit(1))
                await on.house.command("e", Signal(name="x"))
            await on.until(later_s)
        with suppress(EnginehouseError):
            await on.pause()
            await on.until(40)
            await on.resume(holder="*")
        await on.until(100)
        assert (await on.run(engine="n")).status == "completed"
        for run in runs if await on.state() != "failed" else ():
            assert await on.status(run) in ENDED
        await on.house.state("e")
        await on.house.requests()
        await on.house.stop("e")
        await on.until(200)
        watchers.cancel_scope.cancel()
    async with stage(kind, Neighbour, journal=journal) as on:
        assert (await on.run(engine="n")).status == "completed"
        await on.house.dispose("e", force=True)
        with pytest.raises(EngineDisposed):
            await on.state()


async def test_an_interrupt_means_the_whole_program(stage: OpenStage, autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with stage(kind := kind_of(raising(KeyboardInterrupt()), "on_run"), check=False) as on:
            await on.spawn(kind)
            await on.submit(1)
            await on.until(10)


async def test_an_exit_is_a_crash_that_says_so(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(kind := kind_of(raising(SystemExit(3)), "on_run")) as on:
        await on.spawn(kind)
        run = await on.run(1)
        assert (run.status, ((await on.house.get("e")).last_exit or {})["error"]) == ("failed", "SystemExit: 3")


async def test_an_error_that_no_row_can_hold_is_shown_as_far_as_it_can(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(kind := kind_of(raising(OSError(HALF)), "on_run")) as on:
        await on.spawn(kind)
        await on.run(1)
        assert ((await on.house.get("e")).last_exit or {})["error"] == "OSError: caf?"


async def test_what_is_sent_is_refused_when_no_dead_letter_could_hold_it(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(kind := kind_of(raising(ValueError("no")), "on_signal")) as on:
        await on.spawn(kind)
        await on.house.command("e", Signal(name="x", payload=nested(187)))
        with suppress(ValueError):
            await on.house.command("e", Signal(name="x", payload=nested(188)))
        await on.until(20)
        assert len((await on.house.dead_letters()).items) == 1
        assert await on.state() == "running"
