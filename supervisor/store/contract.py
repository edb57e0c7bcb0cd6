"""The store: where the journal lives. One small protocol, met by every file beside this one.

The house owns a store from `open` to `close`: it starts `run` in its nursery, submits writes synchronously (so the
order of `submit` is the order of the journal), and hears of each write once, in that order, through the `committed`
callback, which runs in the trio thread after the write is durable. Nothing above may assume that it is alone on the
store, that ids come from one counter in memory, or that `seq` is dense across engines; SQL, files and servers do not
leak out.

Repeating a write whose outcome is unknown is safe when its command has a key: the second is a replay of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from protocol.events import Row
from protocol.records import Kind, Record
from protocol.writes import Commit, Document, Replay, Snapshot, Write

__all__ = ["Bounds", "Committed", "Page", "Store", "StoreStatistics"]

Committed = Callable[[Sequence[Commit]], None]
"""Called once per batch, in journal order; must not raise, await or block."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The oldest and latest `seq` in the journal; (1, 0) when it is empty, (n + 1, n) when all was trimmed."""

    oldest: int
    latest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A filter for records, newest first. `before`: only records whose `seq` is smaller (the cursor); None fields match
    all.
    """

    uid: str | None = None
    pools: tuple[str, ...] | None = None
    statuses: tuple[str, ...] | None = None
    before: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """`queued_writes`, `queued_bytes`: submitted and not durable yet; `commits`, `rows`: since `open`."""

    queued_writes: int
    queued_bytes: int
    commits: int
    rows: int
    last_commit_s: float


class Store(Protocol):
    """See the module. Every async method may be cancelled: a read then has no effect."""

    @property
    def era(self) -> str:
        """8 hex characters that name this store; a restored or replaced store has another. Known after `open`."""

    @property
    def fence(self) -> int:
        """The rising ownership number that `open` took."""

    async def open(self) -> None:
        """Take the store: lock, migrate, take the next fence. Raises StoreUnavailable when somebody else holds it."""

    async def run(self, committed: Committed) -> None:
        """The writer. Returns after `close` when everything submitted is durable and was reported.

        A write that cannot be made durable is fatal: it raises StoreUnavailable (StorageFull when the disk is full),
        and nothing that was not reported may be believed. Cancelled: stops between two batches; what was not reported
        may or may not be durable.
        """

    def submit(self, write: Write) -> None:
        """Take a place in the journal. Never blocks. Raises StoreUnavailable after a failure or after `close`."""

    async def close(self) -> None:
        """Let `run` finish what was submitted, then release the store. Idempotent."""

    async def key(self, principal: str | None, key: str) -> Replay | None:
        """The command first accepted under this key, if it is kept."""

    async def bounds(self) -> Bounds: ...

    async def read(
        self,
        *,
        after: int,
        until: int | None = None,
        uid: str | None = None,
        run_id: str | None = None,
        limit: int = 1000,
    ) -> Sequence[Row]:
        """At most `limit` rows with `after` < seq <= `until`, in order, of the journal, of one engine or of one run."""

    async def audit(self, *, before: int | None = None, limit: int = 1000) -> Sequence[Row]:
        """At most `limit` audit rows with seq < `before`, newest first. Costs in proportion to them alone."""

    async def get(self, kind: Kind, id: str) -> Record | None: ...

    async def list(self, kind: Kind, page: Page) -> Sequence[Record]: ...

    async def documents(self, table: str) -> Sequence[Document]: ...

    async def snapshots(self) -> Sequence[Snapshot]:
        """The latest snapshot of every engine that has one."""

    async def tail(self) -> Sequence[Row]:
        """Every row that its engine's snapshot does not cover yet, in journal order: what recovery has to fold. Costs
        in proportion to those rows and to the number of engines, not to history.
        """

    async def trim(self, before: int) -> int:
        """Drop rows with seq < `before` that a snapshot covers and whose run and command have ended; the number
        dropped. Disposed engines whose last row goes are forgotten, with their records.
        """

    def statistics(self) -> StoreStatistics: ...
