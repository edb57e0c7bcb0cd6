"""The probe: an engine without any work of its own, that steps, sleeps, asks, fails and crashes as its run tells it.

For demos, benches, conformance tests, and for trying a house out: whatever the runtime promises can be seen with it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import trio
from pydantic import BaseModel, ConfigDict, Field, model_validator

from actors.context import Context, RunContext
from actors.engine import Engine, RunFailed, RunInput
from protocol.edge import load
from protocol.requests import APPROVE, REJECT, Option, RequestKind
from protocol.specs import Levels, OnInterrupt

__all__ = ["Ask", "Probe", "Steps"]

REMEMBERED = 200
"""How many messages the slice `conversation` keeps at most; past it the older half goes."""

Step = Annotated[int, Field(ge=0, le=1_000_000)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class Ask(BaseModel):
    """What to ask a human. `default`: the id of an option, decided when `deadline_s` passes; `valid_s`: how long an
    approval holds; `escalate_s`: after how long each level is told that nobody decided.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    kind: RequestKind = RequestKind.QUESTION
    title: Annotated[str, Field(min_length=1, max_length=1000)] = "Shall the probe go on?"
    options: tuple[Option, ...] = ()
    deadline_s: Annotated[float, Field(gt=0, le=10**9)] | None = None
    default: str | None = None
    action: Any = None
    valid_s: Annotated[float, Field(gt=0, le=10**9)] | None = None
    escalate_s: Levels | None = None

    @model_validator(mode="after")
    def _default_is_an_option(self) -> Self:
        options = self.options or (() if self.kind is RequestKind.QUESTION else (APPROVE, REJECT))
        if self.default is not None and all(option.id != self.default for option in options):
            raise ValueError(f"the default {self.default!r} is none of the options")
        return self


class Steps(BaseModel):
    """A run in steps. `crash_at`, `fail_at` and `ask_at` name the step in which it happens; step 0 is before the first.

    `output_bytes`: how much the whole run writes, spread over its steps; `ignore_cancel_s`: how long it goes on,
    shielded, once it is cancelled.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    steps: Step = 1
    step_s: Seconds = 0
    output_bytes: Annotated[int, Field(ge=0, le=1 << 34)] = 0
    crash_at: Step | None = None
    fail_at: Step | None = None
    ask_at: Step | None = None
    ask: Ask = Ask()
    ignore_cancel_s: Seconds = 0


class ProbeCrashed(Exception):
    """What it was told to do."""


class Probe(Engine):
    """See the module. A string as input is echoed, and kept in the slice `conversation`."""

    kind = "probe"
    description = "Does what its run tells it: steps, sleeps, asks, fails, crashes."
    Input: ClassVar[Any] = str | Steps
    on_interrupt = OnInterrupt.RETRY

    async def on_run(self, ctx: RunContext, run: RunInput) -> dict[str, Any]:
        if isinstance(run.input, str):
            await self._steps(ctx, Steps())
            said = [*(ctx.slice("conversation") or ()), {"role": "user", "content": run.input}]
            ctx.update("conversation", said if len(said) <= REMEMBERED else said[-REMEMBERED // 2 :])
            return {"text": run.input, "steps_done": 1}
        plan = load(Steps, run.input)
        try:
            answers = await self._steps(ctx, plan)
        except trio.Cancelled:
            if plan.ignore_cancel_s:
                with trio.CancelScope(shield=True):
                    await trio.sleep(plan.ignore_cancel_s)
            raise
        return {"steps_done": plan.steps, "answers": answers}

    async def on_signal(self, ctx: Context, name: str, payload: Any) -> Any:
        """`echo` answers its payload, `crash` crashes the actor; others are ignored."""
        if name == "crash":
            raise ProbeCrashed("told to crash by a signal")
        return payload if name == "echo" else None

    async def _steps(self, ctx: RunContext, plan: Steps) -> list[Any]:
        answers: list[Any] = []
        for step in range(plan.steps + 1):
            if step:
                await ctx.pause_point()
                if plan.step_s:
                    await ctx.sleep(plan.step_s)
                await self._write(ctx, plan, step)
            if step == plan.ask_at:
                answers.append(await self._ask(ctx, plan.ask))
            if step == plan.fail_at:
                done = {"steps_done": step, "answers": answers}
                raise RunFailed("probe-failed", f"Told to fail at step {step}.", done)
            if step == plan.crash_at:
                raise ProbeCrashed(f"told to crash at step {step}")
            ctx.update("progress", {"step": step, "steps": plan.steps})
        return answers

    async def _write(self, ctx: RunContext, plan: Steps, step: int) -> None:
        """This step's share; the shares add up to exactly `output_bytes`."""
        left = plan.output_bytes * step // plan.steps - plan.output_bytes * (step - 1) // plan.steps
        while left:
            piece = min(left, 1 << 16)
            await ctx.output(LINE[:piece])
            left -= piece

    async def _ask(self, ctx: RunContext, ask: Ask) -> Any:
        decided = await ctx.ask_human(
            ask.title, kind=ask.kind, options=ask.options, deadline_s=ask.deadline_s, default=ask.default,
            action=ask.action, valid_s=ask.valid_s, escalate_s=ask.escalate_s,
        )  # fmt: skip
        return decided.option if decided.answer is None else decided.answer


LINE = (b"probe " * 10 + b"...\n") * (1 << 10)
