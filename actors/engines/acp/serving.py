"""The agent's requests that have no answer yet: a task each, so that a question to people holds up nothing else.

A task passes a pause point before it does what was asked and before it answers, so that a held engine does nothing for
the agent. Whatever becomes of it, the agent has an answer, else its turn would stand still.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from actors.context import Context
from actors.engines.acp.client import LONG, Client, cancelled
from actors.engines.acp.connection import Connection
from actors.engines.acp.rpc import Refused, Request

__all__ = ["Serving", "answer_cancelled"]


@dataclass(eq=False, slots=True)
class Served:
    """`ours`: the agent waits for us; not while a command runs whose end it wants to know."""

    request: Request
    ours: bool
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Serving:
    """See the module.

    Args:
        ctx: On whose behalf.
        changed: Called when the agent may wait for us no more, or begins to.
    """

    def __init__(
        self, ctx: Context, connection: Connection, client: Client, *, changed: Callable[[], None] | None = None
    ) -> None:
        self._ctx, self._connection, self._client, self._changed = ctx, connection, client, changed
        self._open: list[Served] = []

    @property
    def waited_for(self) -> bool:
        """Whether the agent waits for an answer that nothing but we hold back."""
        return any(served.ours for served in self._open)

    def begin(self, nursery: trio.Nursery, request: Request) -> None:
        served = Served(request, ours=request.method != LONG)
        self._open.append(served)
        nursery.start_soon(self._serve, served)

    def drop(self, request_id: object) -> bool:
        """The agent does not want the answer any more. False: there is no such request here."""
        found = [served for served in self._open if served.request.id == request_id]
        for served in found:
            served.scope.cancel()
        return bool(found)

    async def _serve(self, served: Served) -> None:
        request = served.request
        try:
            with served.scope:
                if served.ours:
                    await self._ctx.pause_point()
                result = await self._client.serve(self._ctx, request)
                served.ours = True
                self._say_changed()
                await self._ctx.pause_point()
                self._connection.answer(request, result)
        except Refused as refused:
            self._connection.refuse(request, refused)
        finally:
            self._open.remove(served)
            answer_cancelled(self._connection, request)  # nothing, when it has an answer
            self._say_changed()
        if served.scope.cancelled_caught:
            self._ctx.drop_questions()

    def _say_changed(self) -> None:
        if self._changed is not None:
            self._changed()


def answer_cancelled(connection: Connection, request: Request) -> None:
    """What an agent hears whose request came to nothing."""
    try:
        connection.answer(request, cancelled(request))
    except Refused as refused:
        connection.refuse(request, refused)
