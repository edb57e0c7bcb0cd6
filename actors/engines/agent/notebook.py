"""The conversation at hand: folded in memory, and on the disk before anything follows from it."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from actors.context import Context
from actors.engines.agent.conversation import Conversation, plain
from actors.engines.agent.record import Record

__all__ = ["Notebook"]


class Notebook:
    """One entry at a time, in the order of its callers: a run and the signals that come meanwhile.

    What is hidden is not written down, so the model does not hear it either. Cancelled while it writes, an entry is
    written all the same.
    """

    def __init__(self, ctx: Context, record: Record, conversation: Conversation) -> None:
        self._ctx, self._record = ctx, record
        self.conversation = conversation
        self._writing = trio.Lock()

    async def note(self, type: str, **members: Any) -> None:
        entry = self._ctx.masked(plain({"type": type, **members}))
        with trio.CancelScope(shield=True):
            async with self._writing:
                self.conversation.take(entry)
                await self._ctx.blocking(partial(self._record.append, self.conversation, entry))

    async def become(self, conversation: Conversation) -> None:
        """From now on this was said."""
        with trio.CancelScope(shield=True):
            async with self._writing:
                self.conversation = conversation
                await self._ctx.blocking(partial(self._record.rebase, conversation))
