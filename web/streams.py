"""The streams that are open now: how many each principal may have, and one way to end them all.

A shutdown would otherwise wait its whole grace for readers who never leave. So every wait of a stream happens
inside `waiting()`, which `close` interrupts; the stream then says goodbye itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio
from prometheus_client.core import GaugeMetricFamily, Metric

from protocol.authority import Authority
from protocol.errors import RateLimited, ShuttingDown
from web.auth.principal import Principal

__all__ = ["STANDING_S", "Streams", "StreamsStatistics"]

STANDING_S: Final = 15.0  # how long a silent stream may outlive the credential that it was opened with


@dataclass(frozen=True, slots=True)
class StreamsStatistics:
    """`open`: streams by principal."""

    open: dict[str, int]
    closing: bool


class Streams:
    """See the module. `per_principal`: how many each may have that brings no number of its own, changed at will;
    `closing`: no more streams; those that are open end.
    """

    def __init__(self, per_principal: int) -> None:
        self.per_principal = per_principal
        self._open: Counter[str] = Counter()
        self._waiting: set[trio.CancelScope] = set()
        self._nobody = trio.Event()
        self.closing = False

    @contextmanager
    def admit(self, principal: Principal) -> Iterator[None]:
        """A place among the open streams. Raises ShuttingDown, or RateLimited when the principal has all it may
        have.
        """
        if self.closing:
            raise ShuttingDown("Connect again when the house is back.", retry_after_s=1)
        most = self.per_principal if principal.streams is None else principal.streams
        if self._open[principal.name] >= most:
            raise RateLimited(f"Close a stream first: {most} are open.", retry_after_s=1)
        self._open[principal.name] += 1
        try:
            yield
        finally:
            self._open[principal.name] -= 1
            self._open += Counter()  # drops what is zero
            if not self._open:
                self._nobody.set()

    @contextmanager
    def waiting(self, timeout_s: float) -> Iterator[trio.CancelScope]:
        """A wait that ends after `timeout_s` or when the streams close; never keep it open across a `yield`."""
        with trio.CancelScope(deadline=trio.current_time() + timeout_s) as scope:
            if self.closing:
                scope.cancel()
            self._waiting.add(scope)
            try:
                yield scope
            finally:
                self._waiting.discard(scope)

    async def close(self) -> None:
        """End them all, and return when they have ended. Cancelled: they are told, but may not have ended.
        Idempotent.
        """
        self.closing = True
        self._nobody = trio.Event()
        for scope in tuple(self._waiting):
            scope.cancel()
        if self._open:
            await self._nobody.wait()

    async def collect(self, authority: Authority) -> AsyncIterator[Metric]:
        """A source of metrics: how many are open, for who sees the whole house."""
        if authority.everywhere:
            yield GaugeMetricFamily("enginehouse_streams_open", "Streams that are open.", self._open.total())

    def statistics(self) -> StreamsStatistics:
        return StreamsStatistics(dict(self._open), self.closing)
