"""One turn: a prompt, what the agent says and asks until it answers, and how the two are brought to an end early.

One task follows what the agent says, in order; each request of the agent has one of its own (`serving.py`). A soft
pause is complete when all of them rest: the follower does while the agent waits for an answer of ours, and after the
end of a tool call; the others rest where they wait for people, and where they would act or answer. Then the runtime
stops the agent's processes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio

from actors.context import RunContext
from actors.engines.acp.client import Client
from actors.engines.acp.connection import Connection, Heard
from actors.engines.acp.rpc import Answer, Request
from actors.engines.acp.serving import Serving, answer_cancelled
from actors.engines.acp.story import Story

__all__ = ["Turn"]

AHEAD = 16
"""How much of what the agent says may wait for the follower; then the agent is not read any further."""


class Turn:
    """See the module. `hear` hands over what the agent says.

    Args:
        taken: Shows what an update or a notification of the agent says.
    """

    def __init__(
        self,
        ctx: RunContext,
        connection: Connection,
        client: Client,
        *,
        session_id: str | None,
        taken: Callable[[RunContext, Heard], Awaitable[None]],
    ) -> None:
        self._ctx, self._connection, self._taken = ctx, connection, taken
        self._told, self._said = trio.open_memory_channel[Heard | None](AHEAD)
        self._serving = Serving(ctx, connection, client, changed=self._look_again)
        self._number, self._session_id, self._stopped = -1, session_id, False
        self.over = trio.Event()
        """The agent has answered the prompt, or was never asked."""
        self.over.set()

    async def hear(self, item: Heard) -> bool:
        """False: the turn listens no more."""
        if isinstance(item, Answer):
            if item.id != self._number:
                return True
            self.over.set()
        try:
            await self._told.send(item)
        except trio.BrokenResourceError:
            return False
        return True

    async def take(self, prompt: list[dict[str, Any]]) -> Answer:
        """Prompt the agent, and follow it to its answer. Raises what an update may raise (RunFailed).

        Cancelled, or left with an error: the agent goes on until `cancel`.
        """
        ended: list[Answer] = []
        self._number = self._connection.prompt({"sessionId": self._session_id, "prompt": prompt})
        self.over = trio.Event()
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            nursery.start_soon(self._follow, nursery, ended)
        return ended[0]

    def stop(self) -> None:
        """Ask the agent to end the turn, once."""
        if not self._stopped and not self.over.is_set():
            self._connection.tell("session/cancel", {"sessionId": self._session_id})
            self._stopped = True

    async def cancel(self, within_s: float) -> bool:
        """Have the agent end the turn; whatever it still asks is answered as cancelled. False: it did not in time."""
        self.stop()
        with trio.move_on_after(within_s):
            while not self.over.is_set():
                await self._take_cancelled(await self._said.receive())
        return self.over.is_set()

    async def close(self) -> None:
        """Show what was said until now, and listen no more."""
        with suppress(trio.WouldBlock):
            while True:
                await self._take_cancelled(self._said.receive_nowait())
        self._said.close()

    async def _take_cancelled(self, item: Heard | None) -> None:
        """The agent may say more about a turn that is over; for what it asks it is too late."""
        if isinstance(item, Request):
            answer_cancelled(self._connection, item)
        elif item is not None and not isinstance(item, Answer):
            await self._taken(self._ctx, item)

    def drop(self, request_id: object) -> bool:
        """The agent does not want the answer any more. False: the request is none of this turn's."""
        return self._serving.drop(request_id)

    # -- within ------------------------------------------------------------------------------------------------------
    async def _follow(self, nursery: trio.Nursery, ended: list[Answer]) -> None:
        while True:
            item = await self._next()
            match item:
                case None:
                    continue
                case Answer():
                    ended.append(item)
                    nursery.cancel_scope.cancel()
                    return
                case Request():
                    self._serving.begin(nursery, item)
                case _:
                    await self._taken(self._ctx, item)
                    if Story.ends_a_step(item.params.get("update")):
                        await self._ctx.pause_point()

    async def _next(self) -> Heard | None:
        if self._serving.waited_for:
            return await self._ctx.wait(self._said.receive)
        async with self._ctx.process_wait():
            return await self._said.receive()

    def _look_again(self) -> None:
        """Whether the follower is at rest may be otherwise now."""
        with suppress(trio.WouldBlock, trio.BrokenResourceError):
            self._told.send_nowait(None)
