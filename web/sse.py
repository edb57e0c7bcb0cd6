"""Server-sent events (WHATWG HTML, 9.2): frames of the house, written as they are.

A stream is one coroutine in one scope: subscribe, send, leave. What goes wrong before the first byte (an unknown
engine, a position that is gone) is still an ordinary problem. The bytes of a frame are the bytes of the journal;
whatever is pending is written in one piece, since the cost is in the writes. A reader gets a first frame at once and
then at most one piece in `_PACE_S`: at 100 readers that made 82,000 deliveries a second of 24,000, on two shared cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.house import Frame, Subscription
from web.asgi import Send
from web.auth import Principal
from web.guard import respond
from web.problems import Answer
from web.streams import STANDING_S, Streams

__all__ = ["RETRY_MS", "EventStream", "encode"]

RETRY_MS: Final = 1000

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would hold frames back until its buffer is full
]
_HELLO: Final = b": enginehouse\nretry: %d\n\n" % RETRY_MS
_HEARTBEAT: Final = b": heartbeat\n\n"
_CLOSING: Final = Frame(event="server.closing", id=None, data=b'{"retry_s":%d}' % (RETRY_MS // 1000))
_LAST: Final = frozenset({"end", "server.closing"})
_PACE_S: Final = 0.01
_SETTLED_S: Final = 0.05
_GONE: Final = Answer(204, (), b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStream:
    """The frames of `subscription`, until an `end` or until the streams close. `attending`: told while it is read.

    `resumed`: the client comes back with a position. When nothing but the `end` follows it there, the answer is
    204, which is how an EventSource is told to stop. It ends, without a word, once the principal's credential is
    revoked or has expired.
    """

    subscription: Subscription
    streams: Streams
    principal: Principal
    heartbeat_s: float
    resumed: bool
    attending: Callable[[], AbstractContextManager[None]] = nullcontext

    async def __call__(self, send: Send, *, head: bool) -> None:
        """Send all of it. Before the first byte: InvalidEventId, EventIdExpired, NotFound, RateLimited,
        ShuttingDown. Cancelled: the subscription and the place among the streams are given back.
        """
        with self.streams.admit(self.principal):
            async with self.subscription:
                first = await self._next(_SETTLED_S) if self.resumed else []
                if [frame.event for frame in first] == ["end"]:
                    await respond(send, _GONE)
                    return
                await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
                if not head:
                    with self.attending():
                        await _write(send, _HELLO + encode(first))
                        await self._follow(send, first)
        await _write(send, b"", more=False)

    async def _follow(self, send: Send, frames: list[Frame]) -> None:
        due = trio.current_time() + self.heartbeat_s
        while not (frames and frames[-1].event in _LAST):
            if frames:
                with self.streams.waiting(_PACE_S):
                    await trio.sleep_forever()
            frames = await self._next(min(due - trio.current_time(), STANDING_S))
            if not self.principal.stands():
                return  # the client comes back, and its 401 says why
            if not frames and self.streams.closing:
                frames = [_CLOSING]
            if frames or trio.current_time() >= due:
                await _write(send, encode(frames) or _HEARTBEAT)
                due = trio.current_time() + self.heartbeat_s

    async def _next(self, timeout_s: float) -> list[Frame]:
        """What is pending; nothing when the time passed or the streams close."""
        with self.streams.waiting(timeout_s) as wait:
            frames = await self.subscription.receive()
        return [] if wait.cancelled_caught else frames


def encode(frames: Iterable[Frame]) -> bytes:
    """Frames as they are on the wire. Their data is JSON in one line, so no line of it needs splitting."""
    return b"".join(
        (b"id: %b\nevent: %b\ndata: %b\n\n" % (frame.id.encode(), frame.event.encode(), frame.data))
        if frame.id is not None
        else (b"event: %b\ndata: %b\n\n" % (frame.event.encode(), frame.data))
        for frame in frames
    )


async def _write(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
