"""What an agent shows of itself: slices and events, in the shape of every kind that converses (`conversing.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.context import Context
from actors.engines import conversing
from actors.engines.agent.conversation import Conversation
from actors.engines.agent.turns import Text, Thought, ToolCall, Turn

__all__ = ["GO_BACK", "Showing"]

GO_BACK = ("conversation", "tools", "plan")
"""The slices that a checkpoint takes along."""


class Showing:
    """`ctx`: the incarnation's; what belongs to a run is said with the run's."""

    def __init__(self, ctx: Context, *, context_size: int) -> None:
        self._context_size = context_size
        self._conversation = conversing.Conversation(ctx.slice("conversation"))
        self._tools = conversing.Tools(ctx.slice("tools"))

    def knows(self, run_id: str) -> bool:
        """Whether anything of this run is shown."""
        return any(turn["run_id"] == run_id for turn in self._conversation.value)

    async def user(self, ctx: Context, run_id: str, text: str) -> None:
        """People have said something."""
        self._conversation.say("user", run_id, text)
        ctx.update("conversation", self._conversation.value)
        await ctx.emit("agent.message", {"role": "user", "text": conversing.shortened(text, conversing.TEXT_BYTES)})

    async def reply(self, ctx: Context, run_id: str, turn: Turn) -> None:
        """The model has answered."""
        for part in turn.parts:
            match part:
                case Text():
                    self._conversation.say("agent", run_id, part.text)
                    text = conversing.shortened(part.text, conversing.TEXT_BYTES)
                    await ctx.emit("agent.message", {"role": "agent", "text": text})
                case Thought() if part.text:
                    self._conversation.say("agent", run_id, part.text, thought=True)
                    text = conversing.shortened(part.text, conversing.TEXT_BYTES)
                    await ctx.emit("agent.thought", {"text": text})
                case ToolCall():
                    self._conversation.use(run_id, part.id)
        ctx.update("conversation", self._conversation.value)

    async def tool(self, ctx: Context, run_id: str, id: str, **members: Any) -> None:
        """A call has changed: what of `conversing.Tool` is new."""
        tool = self._tools.change(run_id, id, members)
        ctx.update("tools", self._tools.value)
        await ctx.emit("agent.tool", {"tool": tool})

    async def ended(self, ctx: Context, run_id: str) -> None:
        """Whatever had no end in this run has none."""
        for tool in self._tools.end(run_id):
            await ctx.emit("agent.tool", {"tool": tool})
        ctx.update("tools", self._tools.value)

    async def plan(self, ctx: Context, steps: Sequence[Mapping[str, Any]], *, approved: bool) -> None:
        ctx.update("plan", list(steps))
        await ctx.emit("agent.plan", {"steps": list(steps), "approved": approved})

    async def usage(self, ctx: Context, said: Conversation) -> None:
        """`turns`: how many calls of the model are in what was shown before."""
        total = said.total
        usage = {
            "input_tokens": total.input_tokens, "output_tokens": total.output_tokens, "total_tokens": total.tokens,
            "cached_tokens": total.cached_tokens, "cost_usd": total.cost_usd, "turns": total.turns,
            "context_used": said.context, "context_size": self._context_size,
        }  # fmt: skip
        ctx.update("usage", usage)
        await ctx.emit("agent.usage", usage)

    async def caught_up(self, ctx: Context, said: Conversation) -> None:
        """Show what was written down and not shown any more when the last incarnation ended."""
        shown = ctx.slice("usage") or {}
        if said.total.turns > shown.get("turns", 0) and said.turns:
            last = next((turn for turn in reversed(said.turns) if turn.role == "agent"), None)
            if last is not None:
                await self.reply(ctx, said.run_id, last)
        if said.total.turns != shown.get("turns", 0):
            await self.usage(ctx, said)

    def back(self, ctx: Context, slices: Mapping[str, Any]) -> None:
        """Show what was shown at a checkpoint."""
        for name in GO_BACK:
            ctx.update(name, slices.get(name) or [])
        self._conversation = conversing.Conversation(slices.get("conversation"))
        self._tools = conversing.Tools(slices.get("tools"))
