"""A receiver of webhooks on loopback: a real HTTP server that keeps what it took and refuses what it is told to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h11
import trio


@dataclass
class Received:
    """`took`: (headers, body) of what was answered with 200, in order; `asked`: how many requests came."""

    port: int = 0
    asked: int = 0
    took: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    status: Callable[[int], int] = lambda asked: 200
    news: trio.Event = field(default_factory=trio.Event)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.took]

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.events]

    async def until(self, enough: Callable[[], bool], seconds: float = 60) -> None:
        with trio.fail_after(seconds):
            while not enough():
                self.news = trio.Event()
                await self.news.wait()

    async def serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        headers: Mapping[str, str] = {}
        body = b""
        try:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some())
                elif isinstance(event, h11.Request):
                    headers = {name.decode(): value.decode() for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    return
            self.asked += 1
            status = self.status(self.asked)
            if status == 200:
                self.took.append((headers, body))
            self.news.set()
            answer = h11.Response(status_code=status, headers=[("content-length", "0"), ("connection", "close")])
            await stream.send_all((connection.send(answer) or b"") + (connection.send(h11.EndOfMessage()) or b""))
        except (trio.BrokenResourceError, h11.RemoteProtocolError):  # it was killed in the middle
            pass
        finally:
            with trio.move_on_after(1, shield=True):
                await stream.aclose()


@asynccontextmanager
async def receiving() -> AsyncIterator[Received]:
    received = Received()
    async with trio.open_nursery() as nursery:
        serving = partial(trio.serve_tcp, received.serve, 0, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(serving)
        received.port = listeners[0].socket.getsockname()[1]
        yield received
        nursery.cancel_scope.cancel()
