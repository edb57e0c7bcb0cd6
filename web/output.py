"""A run's output on its way to a reader: which bytes (RFC 9110, 14), and sending them in pieces.

The output of a run only grows, so a byte once shown stays at its offset: a reader that was cut off goes on from
there.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from protocol.errors import RangeNotSatisfiable
from supervisor.house import House
from web.asgi import Send
from web.auth import Principal
from web.streams import STANDING_S, Streams

__all__ = ["OutputStream", "Span"]

_RANGE: Final = re.compile(r"bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})")
_PIECE_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `stop` of `size`; `partial`: because a `Range` was asked for."""

    start: int
    stop: int
    size: int
    partial: bool = False

    @classmethod
    def of(cls, size: int, *, after: int | None, range: str | None, conditional: bool = False) -> Span:
        """What is asked for. `after` goes before `range`; a range that is `conditional` (there is no validator to
        compare), of another unit or of several parts is ignored, as RFC 9110 14.2 allows. Raises
        RangeNotSatisfiable.
        """
        if after is not None:
            return cls(_within(after, size), size, size)
        match = None if range is None or conditional else _RANGE.fullmatch(range.strip())
        if match is None or (match[1], match[2]) == ("", ""):
            return cls(0, size, size)
        if match[1] == "":
            length = min(int(match[2]), size)
            return cls(_within(size - length, size - 1), size, size, partial=True)
        start = _within(int(match[1]), size - 1, size)
        stop = min(int(match[2]) + 1, size) if match[2] else size
        if stop <= start:  # last before first: not a range at all
            return cls(0, size, size)
        return cls(start, stop, size, partial=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputStream:
    """`follow`: go on from the span until the run ends."""

    house: House
    run: str
    span: Span
    follow: bool
    streams: Streams
    principal: Principal

    async def __call__(self, send: Send, *, head: bool) -> None:
        """Send it. Before the first byte: RateLimited, ShuttingDown. Cancelled: nothing stays open."""
        span = self.span
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"accept-ranges", b"bytes")]
        live = self.follow and not span.partial
        if span.partial:
            headers.append((b"content-range", b"bytes %d-%d/%d" % (span.start, span.stop - 1, span.size)))
        if not live:
            headers.append((b"content-length", b"%d" % (span.stop - span.start)))
        start = {"type": "http.response.start", "status": 206 if span.partial else 200, "headers": headers}
        if head:
            await send(start)
        elif live:
            with self.streams.admit(self.principal):
                await send(start)
                await self._follow(send)
        else:
            await send(start)
            await self._copy(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _copy(self, send: Send) -> None:
        at = self.span.start
        while at < self.span.stop:
            data, _ = await self.house.output(self.run, after=at, limit=min(_PIECE_BYTES, self.span.stop - at))
            at += len(data)
            await send({"type": "http.response.body", "body": data, "more_body": True})

    async def _follow(self, send: Send) -> None:
        """Until the run ends, the streams close, or the principal's credential is over; that is looked at now and then,
        and the output is followed anew from where it was.
        """
        at = self.span.start
        while self.principal.stands() and not self.streams.closing:
            async with aclosing(self.house.follow(self.run, after=at)) as pieces:
                while (data := await self._next(pieces)) and self.principal.stands():
                    at += len(data)
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            if data is None:
                return

    async def _next(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        """The next piece; None at the end, nothing when the time passed or the streams close."""
        piece: bytes | None = b""
        with self.streams.waiting(STANDING_S):
            piece = await anext(pieces, None)
        return piece  # noqa: RET504 - the wait may end without one


def _within(position: int, last: int, size: int | None = None) -> int:
    if position > last or position < 0:
        size = last if size is None else size
        raise RangeNotSatisfiable(f"Ask for bytes that are there: the output has {size} so far.", size_bytes=size)
    return position
