"""Reading an HTTP answer of httpx2 piece by piece, also when it is left in the middle."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import httpx2
import trio

__all__ = ["reading"]

CLOSE_S: Final = 5.0


@asynccontextmanager
async def reading(response: httpx2.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """The body as it comes. Left in the middle, by an error or a cancellation too, it is ended, which takes at most
    `CLOSE_S`; its connection is closed with the response.
    """
    chunks = response.aiter_raw()
    try:
        yield chunks
    finally:
        with trio.move_on_after(CLOSE_S, shield=True):
            await _end(chunks)


async def _end(chunks: AsyncIterator[bytes]) -> None:
    """End an iteration that may stand in the middle (httpx2 2.16).

    It is a chain of generators, and closing the outermost leaves the others to the garbage collector, which complains.
    A read that is cancelled ends them all; what was in the buffers comes first.
    """
    left: bytes | None = b""
    with suppress(httpx2.StreamError, httpx2.TransportError), trio.CancelScope() as scope:
        scope.cancel()
        while left is not None:
            left = await anext(chunks, None)
