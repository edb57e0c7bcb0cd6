"""One HTTP/1.1 connection of the endpoint, on any stream of trio's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
import trio

__all__ = ["Line", "Request"]

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """`path` without its query; names of headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Line:
    """Requests in, answers out, one after the other."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)

    async def request(self) -> Request | None:
        """The next one, whole; None when there is none any more."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        begun, body = None, bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                self._http.receive_data(bytes(await self._stream.receive_some()))
            elif isinstance(event, h11.Request):
                begun = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and begun is not None:
                headers = {name.decode(): value.decode() for name, value in begun.headers}
                return Request(begun.method.decode(), begun.target.decode().partition("?")[0], headers, bytes(body))
            else:
                return None

    async def gone(self) -> None:
        """Wait until the client is."""
        try:
            while data := await self._stream.receive_some():
                self._http.receive_data(bytes(data))  # the beginning of its next request
        except trio.BrokenResourceError:
            return

    async def answer(self, request: Request, status: int, value: Any, headers: Headers | None = None) -> None:
        """A whole answer: bytes as they are, anything else as JSON."""
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        await self.begin(status, [("content-length", str(len(data))), *(headers or [])], "application/json")
        if request.method != "HEAD":
            await self.data(data)
        await self.end()

    async def begin(self, status: int, headers: Headers, content_type: str) -> None:
        await self._send(h11.Response(status_code=status, headers=[("content-type", content_type), *headers]))

    async def data(self, data: bytes, torn: int | None = None) -> None:
        """`torn`: so many bytes in each write."""
        size = torn or max(len(data), 1)
        for at in range(0, len(data), size):
            await self._send(h11.Data(data=data[at : at + size]))

    async def end(self) -> None:
        await self._send(h11.EndOfMessage())

    async def serve(self, one: Callable[[Line, Request], Any]) -> None:
        """Give each request to `one` until there are no more, or one gives False."""
        try:
            async with self._stream:
                while (request := await self.request()) is not None:
                    if not await one(self, request):
                        await trio.aclose_forcefully(self._stream)
                        return
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            return

    async def _send(self, event: Any) -> None:
        if data := self._http.send(event):
            await self._stream.send_all(data)
