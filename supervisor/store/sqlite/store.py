"""The trio side of the store: takes writes, hands them to the writer's thread, and tells what became of them.

What both sides touch is one queue in and `TrioToken.run_sync_soon` out; everything else belongs to one of them. `run`
owns the threads and outlives them, so nothing is reported after it has returned.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import apsw
import trio

from protocol.errors import StoreUnavailable
from protocol.events import Row
from protocol.records import Kind, Record
from protocol.writes import Document, Replay, Snapshot, Write
from supervisor.store.contract import Bounds, Committed, Page, StoreStatistics
from supervisor.store.ledger import Batch, Ledger, Link, enter
from supervisor.store.sqlite import queries
from supervisor.store.sqlite.lock import acquire
from supervisor.store.sqlite.readers import Readers
from supervisor.store.sqlite.schema import Synchronous, connect, failure, migrate
from supervisor.store.sqlite.tables import Tables
from supervisor.store.sqlite.threads import Checkpointer, Crew, Drop, Writer

__all__ = ["SqliteStore"]

_TRIM_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class _Held:
    """What `open` takes and `close` gives back."""

    lock: int
    connections: tuple[apsw.Connection, ...]
    writer: Writer
    checkpointer: Checkpointer
    era: str
    fence: int

    def release(self, *, failed: bool) -> None:
        """The last to be closed moves the log into the database; after a failure nothing is written any more."""
        try:
            for db in reversed(self.connections):
                if failed:
                    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                db.close()
        finally:
            os.close(self.lock)


class SqliteStore:
    """A `Store` in the file `path`, with its log and its lock beside it, all made for their owner alone (0600).

    `synchronous` "NORMAL" is for measuring only. `batch`: writes in one transaction at most.
    """

    def __init__(self, path: str | os.PathLike[str], *, synchronous: Synchronous = "FULL", batch: int = 256) -> None:
        self._path = Path(path)
        self._synchronous = synchronous
        self._batch = batch
        self._held: _Held | None = None
        self._readers = Readers(self._path)
        self._shut = "is not open"
        self._failed = False
        self._queued_writes = self._queued_bytes = self._commits = self._rows = 0
        self._last_commit_s = 0.0
        self._running = False
        self._ended = trio.Event()
        self._dropping: set[trio.Event] = set()

    @property
    def era(self) -> str:
        return self._open.era

    @property
    def fence(self) -> int:
        return self._open.fence

    async def open(self) -> None:
        try:
            self._held = await trio.to_thread.run_sync(self._take)
        except (apsw.Error, OSError) as error:
            raise failure(error) from error
        self._readers.open()
        self._ended = trio.Event()
        self._failed = False
        self._queued_writes = self._queued_bytes = self._commits = self._rows = 0
        self._shut = ""

    async def run(self, committed: Committed) -> None:
        held, crew = self._held, Crew(trio.lowlevel.current_trio_token())
        if held is None:
            return

        def report(batch: Batch, commit_s: float) -> None:
            if crew.errors:
                return
            try:
                self._report(committed, batch, commit_s)
            except Exception as error:  # noqa: BLE001 - `run` raises it; from here it would take down the host's trio.run
                crew.fail(error)

        self._running = True
        try:
            crew.start("journal writer", lambda: held.writer.run(lambda *told: crew.token.run_sync_soon(report, *told)))
            crew.start("journal checkpointer", held.checkpointer.run)
            await crew.over.wait()
        finally:
            self._shut = self._shut or "has stopped"
            held.writer.stop()
            held.checkpointer.stop()
            with trio.CancelScope(shield=True):
                await crew.gone()
            self._failed = bool(crew.errors)
            self._running = False
            self._ended.set()
            for done in self._dropping:
                done.set()
        for error in crew.errors:
            raise failure(error) if isinstance(error, apsw.Error | OSError) else error

    def submit(self, write: Write) -> None:
        if self._shut:
            raise StoreUnavailable(f"The journal {self._shut}; nothing more is accepted.")
        entry = enter(write)
        self._queued_writes += 1
        self._queued_bytes += entry.size_bytes
        self._open.writer.queue.put(entry)

    async def close(self) -> None:
        """See the contract. Cancelled: nothing more is accepted, but the file is kept until `close` is called again."""
        self._shut = self._shut or "is closed"
        held = self._held
        if held is None:
            return
        if self._running or self._queued_writes:
            held.writer.finish()
            await self._ended.wait()
        if self._held is not held:
            return
        self._held = None
        with trio.CancelScope(shield=True):
            await self._readers.close()
            await trio.to_thread.run_sync(partial(held.release, failed=self._failed))

    async def key(self, principal: str | None, key: str) -> Replay | None:
        return await self._readers.call(lambda db: queries.key(db, principal or "", key))

    async def bounds(self) -> Bounds:
        return await self._readers.call(queries.bounds)

    async def read(
        self,
        *,
        after: int,
        until: int | None = None,
        uid: str | None = None,
        run_id: str | None = None,
        limit: int = 1000,
    ) -> list[Row]:
        return await self._readers.call(lambda db: queries.rows(db, after, until, uid, run_id, limit))

    async def audit(self, *, before: int | None = None, limit: int = 1000) -> list[Row]:
        return await self._readers.call(lambda db: queries.audit(db, before, limit))

    async def get(self, kind: Kind, id: str) -> Record | None:
        return await self._readers.call(lambda db: queries.record(db, kind, id))

    async def documents(self, table: str) -> list[Document]:
        return await self._readers.call(lambda db: queries.documents(db, table))

    async def snapshots(self) -> list[Snapshot]:
        return await self._readers.call(queries.snapshots)

    async def tail(self) -> list[Row]:
        return await self._readers.call(queries.tail)

    async def links(self, *, after: int, limit: int = 1000) -> list[Link]:
        return await self._readers.call(lambda db: queries.links(db, after, limit))

    async def trim(self, before: int) -> int:
        """See the contract. Goes in steps, so that writes get their turn; cancelled, it has done some of them."""
        after = dropped = 0
        while seqs := await self._readers.call(partial(_spent, after, before)):
            dropped += await self._drop(seqs)
            after = seqs[-1]
        return dropped

    def statistics(self) -> StoreStatistics:
        return StoreStatistics(
            queued_writes=self._queued_writes, queued_bytes=self._queued_bytes, commits=self._commits, rows=self._rows,
            last_commit_s=self._last_commit_s,
        )  # fmt: skip

    # Last of the public ones: after it, `list` in an annotation would mean this method.
    async def list(self, kind: Kind, page: Page) -> list[Record]:
        return await self._readers.call(lambda db: queries.records(db, kind, page))

    @property
    def _open(self) -> _Held:
        if self._held is None:
            raise StoreUnavailable(f"The journal {self._shut}.")
        return self._held

    def _take(self) -> _Held:
        lock = acquire(self._path)
        connections: tuple[apsw.Connection, ...] = ()
        try:
            db = connect(self._path, self._synchronous)
            connections = (db,)
            migrate(db, self._path)
            connections = (db, connect(self._path, self._synchronous))
            tables = Tables(db)
            with db:
                fence = tables.take_fence()
            checkpointer = Checkpointer(connections[1])
            ledger = Ledger(tables, tables.era(), tables.head())
            writer = Writer(db, ledger, fence, self._batch, checkpointer)
            return _Held(lock, connections, writer, checkpointer, tables.era(), fence)
        except BaseException:
            for db in connections:
                db.close()
            os.close(lock)
            raise

    def _report(self, committed: Committed, batch: Batch, commit_s: float) -> None:
        self._queued_writes -= len(batch.commits)
        self._queued_bytes -= batch.size_bytes
        self._commits += 1
        self._rows += len(batch.rows)
        self._last_commit_s = commit_s
        batch.number()
        committed(batch.commits)

    async def _drop(self, seqs: Sequence[int]) -> int:
        if self._shut:
            raise StoreUnavailable(f"The journal {self._shut}.")
        token, over = trio.lowlevel.current_trio_token(), trio.Event()
        dropped: list[int] = []

        def done(rows: int) -> None:
            dropped.append(rows)
            token.run_sync_soon(over.set)

        self._dropping.add(over)
        try:
            self._open.writer.queue.put(Drop(seqs, done))
            await over.wait()
        finally:
            self._dropping.discard(over)
        if not dropped:
            raise StoreUnavailable(f"The journal {self._shut}; some of it was not trimmed.")
        return dropped[0]


def _spent(after: int, before: int, db: apsw.Connection) -> list[int]:
    return queries.spent(db, after, before, _TRIM_ROWS)
