"""Engines that do everything an author may do, at random, and look about them while they do it.

Every check is made at the moment of the effect and reported to the world, never raised.
"""

from __future__ import annotations

from typing import Any, ClassVar

import trio

from actors.context import Context, RunContext
from actors.engine import CannotStart, Engine, RequestExpired, RunFailed, RunInput
from protocol.requests import APPROVE, REJECT, Option, OptionKind, RequestKind
from protocol.specs import OnInterrupt
from protocol.states import State
from tests.simulation.world import World

__all__ = ["Boom", "Plain", "Probing", "kinds"]

SKIP = Option(id="skip", kind=OptionKind.SKIP, label="Skip")


class Boom(Exception):
    """A crash on purpose."""


class Plain(Engine):
    """Runs and signals only, so its incarnations open their nursery late."""

    kind = "plain"
    on_interrupt = OnInterrupt.RETRY
    world: ClassVar[World]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.rng = self.world.rng
        self.life = self.world.life
        self.told = False
        self.raw = 0

    # -- looking -----------------------------------------------------------------------------------------------------
    def look(self, ctx: Context, what: str, *states: State, run: str | None = None) -> None:
        """An effect: legal in these states only."""
        house = self.world.house
        if not self.world.now(self.life) or house is None:
            return
        self.world.effects.append((self.life, ctx.engine_id, ctx.incarnation, what, run))
        cell = house.supervisor.cells.get(house.supervisor.ids[ctx.engine_id])
        if cell is None or cell.incarnation != ctx.incarnation or (cell.actor is None and cell.leaks):
            return
        where = f"{ctx.engine_id}#{ctx.incarnation} {what} while {cell.state}"
        self.world.must(cell.state in states, f"I11 {where}")
        if State.RUNNING in states and State.PAUSING not in states and cell.state is State.RUNNING:
            self.world.must(not cell.holds, f"I11 {where} and held")
            self.world.must(not self.told or what == "on_resume", f"{where} between on_pause and on_resume")

    def after_wait(self, ctx: Context, what: str, run: str | None = None) -> None:
        """The runtime gave control back: only through an open gate. A run goes nowhere in an engine that is ending."""
        ending = () if run else (State.STOPPING,)
        self.look(ctx, what, State.RUNNING, *ending, run=run)

    def started(self, ctx: Context, run: RunInput) -> None:
        house = self.world.house
        if self.world.now(self.life) and house is not None:
            view = house.supervisor.views[house.supervisor.ids[ctx.engine_id]]
            known = view.runs.get(run.id)
            seen = known is not None and known.status == "running" and known.attempts == run.attempt
            self.world.must(seen, f"I3 {run.id} began attempt {run.attempt} before that was durable")

    # -- doing -------------------------------------------------------------------------------------------------------
    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        self.after_wait(ctx, "take", run.id)
        self.started(ctx, run)
        incarnation = ctx.incarnation
        try:
            for number in range(self.rng.randrange(1, 5)):
                await self.step(ctx, run, number)
                self.world.must(ctx.incarnation == incarnation, f"{run.id} went on in another incarnation")
        finally:
            if self.rng.random() < 0.2:
                ctx.emit_nowait("probing.cleanup", {"run": run.id})
        return {"key": run.input}

    async def step(self, ctx: RunContext, run: RunInput, number: int) -> None:
        p = 0.9 if self.world.calm else self.rng.random()
        await ctx.emit("probing.step", {"number": number})
        if self.world.calm:
            ctx.log("calm")
        if p < 0.035:
            await self.raw_sleep(ctx, self.rng.choice([0, 0.05]))
            raise Boom("in a run")
        if p < 0.05:
            raise RunFailed("probing", "as it was told")
        if p < 0.07:
            await self.raw_sleep(ctx, self.rng.random() * 0.06)
            ctx.finish()
        if p < 0.25:
            await self.wait(ctx, run, number)
            self.after_wait(ctx, "step", run.id)
        elif p < 0.5:
            await self.speak(ctx, run, number)
        else:
            await ctx.pause_point()
            self.after_wait(ctx, "step", run.id)

    async def wait(self, ctx: RunContext, run: RunInput, number: int) -> None:
        """In the runtime, which gives control back through its gate."""
        if self.rng.random() < 0.5:
            await self.ask(ctx, run, number)
        else:
            await ctx.sleep(self.rng.random() * 0.06)

    async def speak(self, ctx: RunContext, run: RunInput, number: int) -> None:
        """And wait for nothing, or where the runtime cannot see it."""
        match self.rng.randrange(6):
            case 0:
                with trio.CancelScope(shield=self.rng.random() < 0.4):
                    await self.raw_sleep(ctx, self.rng.random())
            case 1:
                await self.raw_sleep(ctx, self.rng.random() * 0.06)
            case 2:
                await ctx.flush()
            case 3 if self.rng.random() < 0.5:
                for line in range(220):
                    ctx.log(f"line {line}")
                ctx.progress({"number": number})
            case _:
                ctx.update("work", {"run": run.id, "step": number, "noise": self.rng.random()})
                ctx.update("work", {"run": run.id, "step": number + 1})
                ctx.usage(tokens=1)

    async def raw_sleep(self, ctx: Context, seconds: float) -> None:
        """A wait that the runtime knows nothing of: code at work, for all that it can tell."""
        self.raw += 1
        try:
            await trio.sleep(seconds)
            self.look(ctx, "raw", State.RUNNING, State.PAUSING, State.STOPPING)
        finally:
            self.raw -= 1

    async def ask(self, ctx: RunContext, run: RunInput, number: int) -> None:
        title = f"{run.id} asks {number % 2}"
        kind = self.rng.choice(list(RequestKind))
        deadline_s = self.rng.choice([None, 0.05, 0.3])
        default = self.rng.choice([None, "reject", "approve"])
        try:
            decided = await ctx.ask_human(
                title, kind=kind, options=(APPROVE, REJECT, SKIP), deadline_s=deadline_s, default=default
            )
        except RequestExpired:
            self.after_wait(ctx, "expired", run.id)
            if self.rng.random() < 0.5:
                raise
            return
        house = self.world.house
        if self.world.now(self.life) and house is not None:
            view = house.supervisor.views[house.supervisor.ids[ctx.engine_id]]
            waiting = [r for r in view.requests.values() if (r.title, r.kind, r.run_id) == (title, kind, run.id)]
            self.world.must(not waiting, f"I17 {title!r} was acted upon before its decision was durable")
        await ctx.emit("probing.answered", {"title": title, "option": decided.option, "by": decided.by})

    async def on_signal(self, ctx: Context, name: str, payload: Any) -> Any:
        self.look(ctx, "take signal", State.RUNNING)
        await ctx.emit("probing.signalled", {"key": payload})
        p = 0.9 if self.world.calm else self.rng.random()
        if p < 0.04:
            raise Boom("in a signal")
        if p < 0.2:
            await ctx.sleep(self.rng.random() * 0.03)
            self.after_wait(ctx, "signal")
        elif p < 0.3:
            await self.raw_sleep(ctx, self.rng.random() * 0.03)
        return payload


class Probing(Plain):
    """All callbacks, and tasks of its own."""

    kind = "probing"

    async def on_start(self, ctx: Context) -> None:
        self.look(ctx, "on_start", State.STARTING)
        p = 0.9 if self.world.calm else self.rng.random()
        if p < 0.03:
            raise Boom("at boot")
        if p < 0.04:
            raise CannotStart("as it was told")
        if p < 0.05:
            ctx.finish()
        if p < 0.06:
            await trio.sleep(3)
        elif p < 0.4:
            await trio.sleep(self.rng.random() * 0.04)
        if self.rng.random() < 0.4 and not self.world.calm:
            ctx.nursery.start_soon(self.beat, ctx)

    async def beat(self, ctx: Context) -> None:
        """A task of its own, which passes the gate like all the others but is nothing that a pause waits for."""
        for number in range(8):
            await ctx.sleep(0.05 + self.rng.random() * 0.1)
            self.look(ctx, "beat", State.STARTING, State.RUNNING, State.STOPPING)
            ctx.update("beats", number)
            if self.rng.random() < 0.25 and not self.world.calm:
                await trio.sleep(self.rng.random() * 0.3)
                raise Boom("in a task of its own")

    async def on_pause(self, ctx: Context) -> None:
        self.look(ctx, "on_pause", State.PAUSING)
        self.world.must(not self.told, f"{ctx.engine_id} was told of a pause twice")
        self.world.must(not self.raw, f"{ctx.engine_id} on_pause while its code is at work")
        self.told = True
        if self.rng.random() < 0.5:
            await trio.sleep(self.rng.random() * 0.02)
        if self.rng.random() < 0.03 and not self.world.calm:
            raise Boom("in on_pause")
        if self.rng.random() < 0.03 and not self.world.calm:
            ctx.finish()

    async def on_resume(self, ctx: Context) -> None:
        self.look(ctx, "on_resume", State.RUNNING)
        self.world.must(self.told, f"{ctx.engine_id} was resumed and never paused")
        if self.rng.random() < 0.3:
            await trio.sleep(self.rng.random() * 0.02)
        self.told = False

    async def on_stop(self, ctx: Context) -> None:
        self.look(ctx, "on_stop", State.STOPPING)
        if self.rng.random() < 0.3:
            await trio.sleep(self.rng.random() * 0.1)
        if self.rng.random() < 0.05:
            raise Boom("in on_stop")
        await ctx.emit("probing.stopped")


def kinds(world: World) -> list[type[Engine]]:
    """The two kinds, of one world."""
    return [type(kind.__name__, (kind,), {"world": world}) for kind in (Plain, Probing)]
