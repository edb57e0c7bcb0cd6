"""The connection to the agent: lines out, lines in, and tasks that wait for answers.

What the agent says is handed over in the order in which it says it, a prompt's answer among its updates; only answers
that a task waits for go straight to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from actors.engines.acp.rpc import Answer, Notification, Peer, Refused, Request, Stray

__all__ = ["Connection", "Heard"]

Heard = Request | Notification | Answer


class Connection:
    """See the module.

    Args:
        say: Sends a line. Raises when the agent reads nothing.
        heard: Takes what the agent says, but for answers to `ask`.
        shown: Makes a line fit to be shown in a sentence.
    """

    def __init__(
        self,
        *,
        say: Callable[[bytes], None],
        heard: Callable[[Heard], Awaitable[None]],
        shown: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self._say, self._heard, self._shown = say, heard, shown
        self._peer = Peer()
        self._waiting: dict[int, tuple[trio.Event, list[Answer]]] = {}

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a request. Raises Refused. Cancelled: the agent is told that nobody waits any more."""
        number, line = self._peer.request(method, params)
        came: tuple[trio.Event, list[Answer]] = (trio.Event(), [])
        self._waiting[number] = came
        try:
            self._say(line)
            await came[0].wait()
        except trio.Cancelled:
            self.tell("$/cancel_request", {"requestId": number})
            raise
        finally:
            del self._waiting[number]
            self._peer.forget(number)
        [answer] = came[1]
        if answer.refused is not None:
            raise answer.refused
        return answer.result

    def prompt(self, params: dict[str, Any]) -> int:
        """Send a prompt; the answer with this id is heard."""
        number, line = self._peer.request("session/prompt", params)
        self._say(line)
        return number

    def tell(self, method: str, params: dict[str, Any]) -> None:
        self._say(self._peer.notify(method, params))

    def answer(self, request: Request, result: Any) -> None:
        """Answer a request of the agent's; one that was answered before stays so."""
        self._send(self._peer.answer(request, result))

    def refuse(self, request: Request, refused: Refused) -> None:
        self._send(self._peer.refuse(request, refused))

    async def hear(self, line: bytes) -> None:
        """A line of the agent. Raises Broken."""
        message, reply = self._peer.receive(line, shown=self._shown)
        self._send(reply)
        if isinstance(message, Answer) and message.id in self._waiting:
            event, came = self._waiting[message.id]
            came.append(message)
            event.set()
        elif not isinstance(message, Stray):
            await self._heard(message)

    def _send(self, line: bytes | None) -> None:
        if line is not None:
            self._say(line)
