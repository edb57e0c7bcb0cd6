"""A kind that asks two things at once, which none of the built-in ones does."""

from __future__ import annotations

import trio

from actors.context import RunContext
from actors.engine import Engine, RunInput
from protocol.requests import APPROVE, REJECT, RequestKind


class Twice(Engine):
    kind = "twice"
    description = "Asks for two approvals at once."

    async def on_run(self, ctx: RunContext, run: RunInput) -> None:
        async def ask(title: str) -> None:
            await ctx.ask_human(title, kind=RequestKind.APPROVAL, options=[APPROVE, REJECT])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "the one")
            nursery.start_soon(ask, "the other")
