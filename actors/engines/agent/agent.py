"""The agent: an engine around a model. A run is a prompt; what was said stays for the next one.

AgentConfig (config.py)         what it is given
work (work.py)                  one run: ask the model, carry out what it calls for, tell it
answer (calls.py)               one call of a tool, allowed or not; the tools themselves are in tools/
Conversation (conversation.py)  what was said, as a fold of what is written down (record.py) before it is acted upon
Checkpoints (checkpoints.py)    what there was, to go back to
Showing (showing.py)            what people see of it
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, ClassVar

import trio
from pydantic import Field

from actors.children import ChildPolicy, Outside
from actors.context import Context, RunContext
from actors.engine import CannotStart, Engine, RunFailed, RunInput
from actors.engines.agent.checkpoints import Checkpoints
from actors.engines.agent.config import DEFAULT_RULES, AgentConfig, Block
from actors.engines.agent.console import AgentConsole
from actors.engines.agent.desk import Desk, NoCheckpoint
from actors.engines.agent.files import Files, Refused
from actors.engines.agent.model import Model
from actors.engines.agent.notebook import Notebook
from actors.engines.agent.record import Damaged, Record
from actors.engines.agent.showing import Showing
from actors.engines.agent.work import compact, work
from actors.engines.permitting import Permissions
from actors.engines.programs import Text, refuse
from protocol.errors import ValidationFailed
from protocol.specs import OnInterrupt, PauseMode

__all__ = ["Agent"]

STEER_CHARS, STEERS = 1 << 17, 64
"""How long a text may be that steers, and how many may wait for the model."""
CLOSE_S = 1.0


class Agent(Engine):
    """See the module."""

    kind = "agent"
    description = "A model with tools in a workspace: it reads, writes, runs commands and asks, as people allow."
    Config = AgentConfig
    Input: ClassVar[Any] = Text | Annotated[list[Block], Field(min_length=1, max_length=1000)]
    emits = (
        "agent.message", "agent.thought", "agent.tool", "agent.plan", "agent.usage", "agent.budget", "agent.compacted",
        "agent.cleared", "agent.checkpoint", "agent.rolled_back",
    )  # fmt: skip
    pause_modes = (PauseMode.SOFT, PauseMode.INTERRUPT, PauseMode.FREEZE)
    on_interrupt = OnInterrupt.RESUME
    checkpoints = True
    refuses = True
    config: AgentConfig
    desk: Desk

    def __init__(self, config: AgentConfig) -> None:
        super().__init__(config)
        self._run: trio.CancelScope | None = None

    @classmethod
    def refuse(cls, config: AgentConfig, children: ChildPolicy) -> None:
        refuse(config, children)
        if config.model.key is not None:
            try:
                children.secrets.check(config.model.key)
            except ValueError as error:
                fault = {"loc": ["config", "model", "key"], "msg": str(error), "type": "not_allowed_here"}
                raise ValidationFailed(f"config.model.key: {error}.", errors=[fault]) from None

    async def on_start(self, ctx: Context) -> None:
        """CannotStart: the directory or the key cannot be had, or what was written down is damaged."""
        config, folder = self.config, await ctx.folder()
        files = await self._files(ctx)
        record = Record(folder / "conversation.jsonl")
        try:
            said = await ctx.blocking(record.open)
        except Damaged as error:
            raise CannotStart(f"The conversation cannot be read: {error}.") from error
        key = None if config.model.key is None else await ctx.secret(config.model.key)
        shown = (ctx.slice("usage") or {}).get("turns", 0)
        if shown > said.total.turns:
            ctx.log(
                f"The journal knows of {shown} answers of the model, and {folder} of {said.total.turns}: the rest was "
                "lost with the files of this engine. It goes on from there.",
                level="warning",
            )
        showing = Showing(ctx, context_size=config.context_tokens)
        self.desk = Desk(
            config=config,
            model=Model(config.model, key),
            notebook=Notebook(ctx, record, said),
            showing=showing,
            files=files,
            console=AgentConsole(ctx, config, config.shell),
            permissions=Permissions(ctx, (*DEFAULT_RULES, *config.permissions), root=files.root),
            checkpoints=None if config.checkpoints is None else Checkpoints(folder, files, config.checkpoints),
        )
        ctx.nursery.start_soon(_close_with, self.desk.model)
        await showing.caught_up(ctx, said)
        await self.desk.show_checkpoints(ctx)

    async def on_run(self, ctx: RunContext, run: RunInput) -> dict[str, Any]:
        """RunFailed: `budget-exceeded`, `checkpoint-failed`, `compaction-failed`, what a model says (`faults.py`)."""
        text = run.input if isinstance(run.input, str) else "\n\n".join(block["text"] for block in run.input)
        try:
            with trio.CancelScope() as self._run:
                return await work(self.desk, ctx, run, text)
        finally:
            self._run = None
        await ctx.pause_point()  # cut by `on_stop`: in a stopping engine this ends the run as what it is
        raise RunFailed("interrupted", "The engine was asked to end.")

    async def on_signal(self, ctx: Context, name: str, payload: Any) -> Any:
        """`{done, ...}`; what is not done says why in `detail`."""
        match name:
            case "steer":
                return await self._steer(payload)
            case "compact":
                return await self._compact(ctx)
            case "clear" | "checkpoint" | "rollback" if self._run is not None:
                return _no(f"A run is in hand; {name} is possible between runs.")
            case "clear":
                await self.desk.notebook.become(self.desk.said.cleared())
                await ctx.emit("agent.cleared", {})
                self.desk.showing.back(ctx, {})
                return {"done": True}
            case "forget":
                try:
                    return {"done": True, "forgotten": self.desk.permissions.forget(payload)}
                except ValueError as error:
                    return _no(str(error))
            case "checkpoint":
                return await self._checkpoint(ctx)
            case "rollback":
                return await self._rollback(ctx, payload)
        return _no(f"There is no signal {name!r}; there are steer, compact, forget, clear, checkpoint and rollback.")

    async def on_pause(self, ctx: Context) -> None:
        self.desk.console.held()

    async def on_resume(self, ctx: Context) -> None:
        self.desk.console.released()

    async def on_stop(self, ctx: Context) -> None:
        """What is in hand ends at once: a run that is not cancelled with its engine goes on from here later."""
        self.desk.console.close()
        if self._run is not None:
            self._run.cancel()

    async def _files(self, ctx: Context) -> Files:
        config, policy = self.config, ctx.children
        try:
            place = policy.place(config.cwd) if config.workspace is None else policy.workspace(config.workspace)
            files = Files(place, policy)
            await ctx.blocking(files.check)
        except (Outside, Refused, OSError) as error:
            raise CannotStart(f"The directory cannot be used: {error}") from error
        return files

    async def _steer(self, payload: Any) -> dict[str, Any]:
        if not isinstance(payload, str) or not payload.strip() or len(payload) > STEER_CHARS:
            return _no(f"The payload of steer is a text of up to {STEER_CHARS} characters.")
        if len(self.desk.said.steers) >= STEERS:
            return _no(f"{STEERS} texts wait for the model already.")
        await self.desk.notebook.note("steer", text=payload)
        return {"done": True, "heard": "at the next step" if self._run is not None else "with the next run"}

    async def _compact(self, ctx: Context) -> dict[str, Any]:
        if self._run is not None:
            await self.desk.notebook.note("want")
            return {"done": False, "detail": "It is done at the next step."}
        if not self.desk.said.turns:
            return _no("Nothing was said yet.")
        try:
            await compact(self.desk, ctx)
        except RunFailed as error:
            return _no(error.detail)
        return {"done": True}

    async def _checkpoint(self, ctx: Context) -> dict[str, Any]:
        try:
            return {"done": True, "checkpoint": asdict(await self.desk.save(ctx, "asked for"))}
        except NoCheckpoint as error:
            return _no(str(error))

    async def _rollback(self, ctx: Context, payload: Any) -> dict[str, Any]:
        """`payload`: the id of a checkpoint, or null for the last one."""
        desk = self.desk
        if desk.checkpoints is None:
            return _no("This engine makes no checkpoints: its config has `checkpoints: null`.")
        if payload is None:
            known = await ctx.blocking(partial(desk.checkpoints.all))
            payload = known[-1].id if known else ""
        try:
            return {"done": True, **await desk.back(ctx, str(payload))}
        except (NoCheckpoint, OSError) as error:
            return _no(str(error))


async def _close_with(model: Model) -> None:
    """Its connections end with the incarnation, however that ends."""
    try:
        await trio.sleep_forever()
    finally:
        with trio.move_on_after(CLOSE_S, shield=True):
            await model.aclose()


def _no(detail: str) -> dict[str, Any]:
    return {"done": False, "detail": detail}
