"""A stream of events that survives its connections.

One reader task per subscription holds the connection, reconnects with the last event id (so each durable event arrives
once, in order, however often the connection or the house goes away) and leaves frames in a bounded buffer; `receive`
only takes from that buffer. So a cancelled `receive` costs nothing, and a slow caller is a full buffer, an unread
socket and, in the end, a house that skips this reader's transient events: never memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Self

import httpx2
import trio

from protocol.errors import Busy, EnginehouseError, Unavailable
from protocol.sse import SseParser
from supervisor.house import Frame
from web.client.connection import Connection, Retry

__all__ = ["RemoteSubscription"]

BUFFER_BYTES: Final = 1 << 20  # what may wait for `receive`, plus one event
CLOSE_S: Final = 5.0  # for a connection to be closed


class RemoteSubscription:
    """See `supervisor.house.Subscription`; made by `RemoteHouse.events`.

    Unlike the embedded one it goes on after a `server.closing` frame, with the house that comes back.

    Args:
        connection: where to ask.
        nursery: where the reader lives; the subscription outlives neither.
        where: the path of the stream.
        query: its filters.
        after: the event id to start after.
        snapshot: ask for a `snapshot` frame first.
        retry: delays between reconnections. The server's `retry:` raises the first.
        give_up_s: how long nobody may answer before `receive` raises Unreachable.
        silence_s: how long a connection may bring nothing, not even a heartbeat.

    """

    def __init__(
        self,
        connection: Connection,
        nursery: trio.Nursery,
        where: str,
        query: Sequence[tuple[str, object]],
        *,
        after: str | None,
        snapshot: bool,
        retry: Retry,
        give_up_s: float,
        silence_s: float,
    ) -> None:
        self._connection = connection
        self._nursery = nursery
        self._where = where
        self._query = query
        self._position = after
        self._snapshot = snapshot
        self._retry = retry
        self._give_up_s = give_up_s
        self._silence_s = silence_s
        self._frames: deque[Frame] = deque()
        self._buffered_bytes = 0
        self._scope = trio.CancelScope()
        self._opened = trio.Event()  # the house has granted the stream, or there will be none
        self._news = trio.Event()
        self._room = trio.Event()
        self._gone = trio.Event()
        self._over = False
        self._failure: EnginehouseError | None = None
        self._failures = 0
        self._alone_since = 0.0

    async def __aenter__(self) -> Self:
        if self._position is None and not self._snapshot:
            # Fix where "the present" is: otherwise a connection lost before its first event would lose what follows it.
            page = await self._connection.call("GET", self._where, query=[("limit", 1)])
            self._position = page.json["latest"]
        self._alone_since = trio.current_time()
        self._nursery.start_soon(self._run)
        try:
            await self._opened.wait()
        except BaseException:
            self._scope.cancel()
            raise
        if self._failure is not None and not self._frames:
            raise self._failure
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._scope.cancel()
        with trio.move_on_after(CLOSE_S, shield=True):
            await self._gone.wait()

    async def receive(self) -> list[Frame]:
        """See `Subscription.receive`.

        Raises:
            EventIdExpired: the house has forgotten this place in the meantime.
            Unreachable: it went away and did not come back.

        """
        await trio.lowlevel.checkpoint()
        while not self._frames:
            if self._failure is not None:
                raise self._failure
            if self._over:
                raise trio.EndOfChannel
            await self._news.wait()
        frames = list(self._frames)
        self._frames.clear()
        self._buffered_bytes = 0
        self._room.set()
        if not self._over:
            self._news = trio.Event()
        return frames

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._read()
        except EnginehouseError as error:
            self._failure = error
        finally:
            self._over = True
            self._opened.set()
            self._news.set()
            self._gone.set()

    async def _read(self) -> None:
        """Connection after connection, until the stream has ended."""
        least_s = 0.0
        while True:
            parser = SseParser()
            wait_s = 0.0
            try:
                if await self._one(parser):
                    return
            except httpx2.TransportError as error:
                self._check_patience(self._connection.unreachable(error))
            except (Unavailable, Busy) as error:
                self._check_patience(error)
                asked = error.extra.get("retry_after_s")
                wait_s = float(asked) if isinstance(asked, int | float) else 0.0
            if parser.retry_ms is not None:
                least_s = parser.retry_ms / 1000
            self._failures += 1
            await trio.sleep(self._retry.delay_s(self._failures, max(least_s, wait_s)))

    def _check_patience(self, error: EnginehouseError) -> None:
        # Before the stream was ever granted, the caller still waits to hear whether it will be.
        patience_s = self._give_up_s if self._opened.is_set() else min(self._give_up_s, self._retry.max_s)
        refused = isinstance(error, Busy) and not self._opened.is_set()
        if refused or self._retry.attempts == 1 or trio.current_time() - self._alone_since >= patience_s:
            raise error

    async def _one(self, parser: SseParser) -> bool:
        """One connection to its end; True when that is the end of the stream."""
        headers = {"accept": "text/event-stream"}
        if self._position is not None:
            headers["last-event-id"] = self._position
        query = [*self._query, ("snapshot", True)] if self._snapshot else self._query
        async with self._connection.stream(self._where, query=query, headers=headers, read_s=self._silence_s) as (
            status,
            chunks,
        ):
            if status == 204:
                return True
            self._opened.set()
            async for chunk in chunks:
                self._failures, self._alone_since = 0, trio.current_time()
                for event in parser.feed(chunk):
                    await self._offer(Frame(event=event.event, id=event.id, data=event.data))
                    if event.event == "end":
                        return True
                self._position = parser.last_id or self._position
        return False

    async def _offer(self, frame: Frame) -> None:
        if frame.event == "snapshot":
            self._snapshot = False
        elif frame.id is not None and frame.id == self._position and frame.event != "end":
            return
        while self._buffered_bytes >= BUFFER_BYTES:
            self._room = trio.Event()
            await self._room.wait()
        self._position = frame.id or self._position
        self._frames.append(frame)
        self._buffered_bytes += len(frame.data)
        self._news.set()
