"""Showing what an agent said: the values of `story.py`, by way of a context."""

from __future__ import annotations

from collections.abc import Sequence

from actors.context import Context, RunContext
from actors.engines.acp.story import Delta, Event, Output, Said, Slice

__all__ = ["tell"]


async def tell(ctx: Context, said: Sequence[Said]) -> None:
    """In order. Outside of a run nothing is output."""
    for one in said:
        match one:
            case Delta():
                ctx.delta(one.text, type="thought" if one.thought else "text", message=one.message)
            case Output():
                if isinstance(ctx, RunContext):
                    await ctx.output(one.text)
            case Event():
                await ctx.emit(f"acp.{one.name}", one.data)
            case Slice():
                ctx.update(one.name, one.value)
