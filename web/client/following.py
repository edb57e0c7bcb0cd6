"""The output of a run, followed across connections: bytes only grow, so the offset is all that must be remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Self

import httpx2
import trio

from protocol.errors import Busy, EnginehouseError, Unavailable
from protocol.wire import RunInfo
from web.client.connection import Connection, path, read

__all__ = ["Following"]


class Following:
    """An iterator of bytes from offset `after` on, until the run has ended and all was given. Use it in `aclosing`.

    A connection or a house that goes away is looked for during `give_up_s`; then its error is raised. Cancelled: the
    next step goes on where this one was.
    """

    def __init__(self, connection: Connection, run: str, *, after: int, give_up_s: float) -> None:
        self._connection = connection
        self._run = run
        self._after = after
        self._give_up_s = give_up_s
        self._stack = AsyncExitStack()
        self._chunks: AsyncIterator[bytes] | None = None
        self._failures = 0
        self._alone_since: float | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                chunk = await self._next()
                if chunk:
                    self._failures, self._alone_since = 0, None
                    self._after += len(chunk)
                    return chunk
                if await self._over():
                    raise StopAsyncIteration
            except (httpx2.TransportError, Unavailable, Busy) as error:
                problem = self._connection.unreachable(error) if isinstance(error, httpx2.TransportError) else error
                await self._again(problem)

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        self._chunks = None
        await self._stack.aclose()

    async def _next(self) -> bytes:
        """What comes next; nothing when the answer has ended."""
        # Taken away for as long as it is read: an iteration that was cancelled or has failed is over.
        chunks, self._chunks = self._chunks, None
        if chunks is None:
            await self.aclose()
            query = [("after", self._after), ("follow", True)]
            stream = self._connection.stream(
                path("runs", self._run, "output"), query=query, headers={"accept": "text/plain"}, read_s=None
            )
            chunks = (await self._stack.enter_async_context(stream))[1]
        chunk = await anext(chunks, b"")
        if chunk:
            self._chunks = chunks
        return chunk

    async def _over(self) -> bool:
        """An answer also ends when the house closes; only the run itself can say that nothing follows."""
        run = read(RunInfo, (await self._connection.call("GET", path("runs", self._run))).json)
        if run.finished_at is not None and self._after >= run.output_bytes:
            return True
        await self._wait(0.0)
        return False

    async def _again(self, problem: EnginehouseError) -> None:
        await self.aclose()
        now = trio.current_time()
        self._alone_since = now if self._alone_since is None else self._alone_since
        if now - self._alone_since >= self._give_up_s or self._connection.retry.attempts == 1:
            raise problem
        asked = problem.extra.get("retry_after_s")
        await self._wait(float(asked) if isinstance(asked, int | float) else 0.0)

    async def _wait(self, least_s: float) -> None:
        self._failures += 1
        await trio.sleep(self._connection.retry.delay_s(self._failures, least_s))
