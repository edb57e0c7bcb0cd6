"""What an agent works with from boot to exit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from actors.context import Context
from actors.engines.agent.checkpoints import Checkpoint, Checkpoints, Why
from actors.engines.agent.config import AgentConfig
from actors.engines.agent.console import AgentConsole
from actors.engines.agent.conversation import Conversation
from actors.engines.agent.files import Files, Refused
from actors.engines.agent.model import Model
from actors.engines.agent.notebook import Notebook
from actors.engines.agent.showing import GO_BACK, Showing
from actors.engines.agent.snapshot import TooLarge
from actors.engines.permitting import Permissions

__all__ = ["Desk", "NoCheckpoint"]


class NoCheckpoint(Exception):
    """The sentence says why there is none."""


@dataclass(slots=True)
class Desk:
    """`saved_for`: the run before which a checkpoint was made last, in this incarnation. `messages`: how many the model
    has begun in it.
    """

    config: AgentConfig
    model: Model
    notebook: Notebook
    showing: Showing
    files: Files
    console: AgentConsole
    permissions: Permissions
    checkpoints: Checkpoints | None
    saved_for: str = ""
    messages: int = 0

    @property
    def said(self) -> Conversation:
        return self.notebook.conversation

    async def save(self, ctx: Context, why: Why, *, keep: str = "") -> Checkpoint:
        """Make a checkpoint. Raises NoCheckpoint."""
        if self.checkpoints is None:
            raise NoCheckpoint("This engine makes no checkpoints: its config has `checkpoints: null`.")
        slices = {name: ctx.slice(name) for name in GO_BACK}
        make = partial(
            self.checkpoints.make, why, at=ctx.stamp(), conversation=self.said.dump(), slices=slices, keep=keep
        )
        try:
            made = await ctx.blocking(make)
        except (TooLarge, Refused, OSError) as error:
            raise NoCheckpoint(
                f"No checkpoint of {self.files.root} can be made: {error}. Leave out what is large with "
                "`checkpoints.exclude`, or have none with `checkpoints: null`."
            ) from error
        await self.show_checkpoints(ctx)
        await ctx.emit("agent.checkpoint", {"checkpoint": asdict(made)})
        return made

    async def show_checkpoints(self, ctx: Context) -> None:
        if self.checkpoints is not None:
            ctx.update("checkpoints", [asdict(one) for one in await ctx.blocking(self.checkpoints.all)])

    async def back(self, ctx: Context, id: str) -> dict[str, Any]:
        """Make workspace, conversation and slices what they were at a checkpoint; what there was is one too, so that
        this can be undone. Raises NoCheckpoint, or OSError when the disk fails.
        """
        assert self.checkpoints is not None
        known = [one.id for one in await ctx.blocking(self.checkpoints.all)]
        if id not in known:
            raise NoCheckpoint(f"There is no checkpoint {id!r}; there are: {', '.join(known) or 'none'}.")
        undo = await self.save(ctx, "before going back", keep=id)
        self.console.close()
        earlier, slices, changed = await ctx.blocking(partial(self.checkpoints.back, id))
        await self.notebook.become(self.said.back_at(earlier))
        self.showing.back(ctx, slices)
        self.saved_for = ""
        told = {"checkpoint": id, "changed": changed, "undo": undo.id}
        await ctx.emit("agent.rolled_back", told)
        return told
