"""The journal in memory: a store without files or threads, as exact as the others.

What is kept is a `Journal`, plain data that outlives the store. Opening a second store on it is what a restart does
after a kill: the first one is fenced, and what it had not committed is gone. `sync` stands where a disk would be waited
for, so that a test can put a delay or a fault there, and `cut` says how many writes share one commit; nothing else here
waits, and with a seeded `randbits` everything is deterministic.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

import trio

from protocol.edge import load
from protocol.errors import StoreUnavailable
from protocol.events import Row
from protocol.records import Kind, Record, load_record
from protocol.writes import Document, Replay, Snapshot, Write
from supervisor.chain import GENESIS
from supervisor.store.contract import Bounds, Committed, Page, StoreStatistics
from supervisor.store.ledger import OPEN, Batch, Engine, Entry, Head, Indexed, Key, Ledger, Link, chained, enter

__all__ = ["Journal", "Kept", "MemoryStore"]


class Kept(NamedTuple):
    """One row of the journal as it is kept; `wire` is what `Row.from_wire` reads."""

    seq: int
    uid: str
    engine_seq: int
    run_id: str | None
    command_id: str | None
    wire: bytes
    hash: bytes


@dataclass(slots=True)
class Journal:
    """Everything that survives a kill. `oldest`: every row from here on is in `rows`; `latest`: of all rows ever."""

    era: str = ""
    fence: int = 0
    oldest: int = 1
    latest: int = 0
    hash: bytes = GENESIS
    rows: list[Kept] = field(default_factory=list)
    anchors: dict[int, bytes] = field(default_factory=dict)
    engines: dict[str, Engine] = field(default_factory=dict)
    commands: dict[Key, Replay] = field(default_factory=dict)
    records: dict[tuple[Kind, str], Indexed] = field(default_factory=dict)
    documents: dict[tuple[str, str], bytes] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)

    def keys(self, wanted: Collection[Key]) -> Mapping[Key, Replay]:
        return {key: self.commands[key] for key in wanted if key in self.commands}

    def engine(self, uid: str) -> Engine | None:
        engine = self.engines.get(uid)
        return None if engine is None else replace(engine)

    def record(self, kind: Kind, id: str) -> Record | None:
        indexed = self.records.get((kind, id))
        return None if indexed is None else load_record(kind, indexed.body)

    def store(self, batch: Batch, head: Head) -> None:
        """All of a batch; nothing here can fail."""
        for row, seq, engine_seq, wire, digest in batch.rows:
            self.rows.append(Kept(seq, row.uid, engine_seq, row.run_id, row.command_id, wire, digest))
        self.latest, self.hash = head
        self.commands |= batch.keys
        self.engines |= {uid: replace(engine) for uid, engine in batch.engines.items()}
        self.snapshots |= batch.snapshots
        self.records |= batch.records
        for name, body in batch.documents.items():
            if body is None:
                self.documents.pop(name, None)
            else:
                self.documents[name] = body

    def after(self, seq: int) -> Iterator[Kept]:
        start = bisect_left(self.rows, seq + 1, key=lambda kept: kept.seq)
        return (self.rows[i] for i in range(start, len(self.rows)))

    def trim(self, before: int) -> tuple[int, list[str]]:
        """How many rows went, and the engines that went with them."""
        gone = [kept for kept in self.rows if kept.seq < before and self._spent(kept)]
        if not gone:
            return 0, []
        dropped = {kept.seq: kept.hash for kept in gone}
        self.rows = [kept for kept in self.rows if kept.seq not in dropped]
        self.oldest = max(self.oldest, gone[-1].seq + 1)
        here = {kept.seq for kept in self.rows} | {self.latest + 1}
        self.anchors = {seq: digest for seq, digest in (self.anchors | dropped).items() if seq + 1 in here}
        return len(gone), self._forget({kept.uid for kept in gone})

    def _spent(self, kept: Kept) -> bool:
        covered = not kept.engine_seq or kept.seq <= self.engines[kept.uid].snapshot_seq
        return covered and not any(
            (indexed := self.records.get((kind, name or ""))) is not None and indexed.status in OPEN
            for kind, name in (("run", kept.run_id), ("command", kept.command_id))
        )

    def _forget(self, uids: set[str]) -> list[str]:
        here = {kept.uid for kept in self.rows}
        gone = [uid for uid in sorted(uids - here) if uid in self.engines and self.engines[uid].disposed]
        for uid in gone:
            del self.engines[uid]
            self.snapshots.pop(uid, None)
        self.records = {at: indexed for at, indexed in self.records.items() if indexed.uid not in gone}
        self.commands = {key: replay for key, replay in self.commands.items() if replay.uid not in gone}
        return gone


class MemoryStore:
    """A `Store` on a `Journal`. `randbits(n)` draws the era of a new journal; `journal` is public, to open it again."""

    def __init__(self, journal: Journal | None = None, *, randbits: Callable[[int], int] = secrets.randbits) -> None:
        self.journal = Journal() if journal is None else journal
        self._randbits = randbits
        self._fence = 0
        self._queue: deque[Entry] = deque()
        self._queued_bytes = self._queued = 0
        self._commits = self._rows = 0
        self._last_commit_s = 0.0
        self._wake = trio.lowlevel.ParkingLot()
        self._running = False
        self._ended = trio.Event()
        self._shut = "is not open"

    @property
    def era(self) -> str:
        return self.journal.era

    @property
    def fence(self) -> int:
        return self._fence

    async def open(self) -> None:
        await trio.lowlevel.checkpoint()
        journal = self.journal
        journal.era = journal.era or f"{self._randbits(32):08x}"
        journal.fence += 1
        self._fence = journal.fence
        self._ended = trio.Event()
        self._queue.clear()
        self._queued = self._queued_bytes = self._commits = self._rows = 0
        self._ledger = Ledger(journal, journal.era, Head(journal.latest, journal.hash))
        self._shut = ""

    def cut(self, queued: int) -> int:
        """How many of the queued writes (at least 1) the next commit takes."""
        return min(queued, 256)

    async def sync(self, batch: Sequence[Write]) -> None:
        """Wait until the batch is safe. What this raises ends `run`, and the batch is as if it had never been."""
        await trio.lowlevel.checkpoint()

    def commit(self, batch: Sequence[Entry]) -> Batch:
        """Make a batch part of the journal, whole. Raises StoreUnavailable when another store took the journal over."""
        if self.journal.fence != self._fence:
            raise StoreUnavailable("Another store has taken this journal over; nothing more is accepted here.")
        entered = self._ledger.enter(batch)
        self.journal.store(entered, self._ledger.head)
        return entered

    async def run(self, committed: Committed) -> None:
        self._running = True
        try:
            while self._queue or not self._shut:
                if not self._queue:
                    await self._wake.park()
                    continue
                taken = [self._queue.popleft() for _ in range(self.cut(len(self._queue)))]
                began = trio.current_time()
                await self.sync([entry.write for entry in taken])
                batch = self.commit(taken)
                self._last_commit_s = trio.current_time() - began
                self._commits += 1
                self._rows += len(batch.rows)
                self._queued -= len(taken)
                self._queued_bytes -= batch.size_bytes
                batch.number()
                committed(batch.commits)
        finally:
            self._shut = self._shut or "has stopped"
            self._running = False
            self._ended.set()

    def submit(self, write: Write) -> None:
        self._check()
        entry = enter(write)
        self._queue.append(entry)
        self._queued += 1
        self._queued_bytes += entry.size_bytes
        self._wake.unpark_all()

    async def close(self) -> None:
        self._shut = self._shut or "is closed"
        self._wake.unpark_all()
        if self._running or self._queued:
            await self._ended.wait()
        await trio.lowlevel.checkpoint()

    async def key(self, principal: str | None, key: str) -> Replay | None:
        return (await self._read()).commands.get((principal or "", key))

    async def bounds(self) -> Bounds:
        journal = await self._read()
        return Bounds(journal.oldest, journal.latest)

    async def read(
        self,
        *,
        after: int,
        until: int | None = None,
        uid: str | None = None,
        run_id: str | None = None,
        limit: int = 1000,
    ) -> list[Row]:
        found: list[Row] = []
        for kept in (await self._read()).after(after):
            if len(found) >= limit or (until is not None and kept.seq > until):
                break
            if uid in (None, kept.uid) and run_id in (None, kept.run_id):
                found.append(Row.from_wire(kept.wire, kept.uid))
        return found

    async def audit(self, *, before: int | None = None, limit: int = 1000) -> list[Row]:
        rows = (Row.from_wire(kept.wire, kept.uid) for kept in reversed((await self._read()).rows))
        of_audit = (row for row in rows if row.type.startswith("audit.") and (before is None or row.seq < before))
        return list(islice(of_audit, limit))

    async def get(self, kind: Kind, id: str) -> Record | None:
        return (await self._read()).record(kind, id)

    async def documents(self, table: str) -> list[Document]:
        documents = (await self._read()).documents
        return [
            Document(table=table, id=name, body=load(object, body))
            for (of, name), body in sorted(documents.items())
            if of == table
        ]

    async def snapshots(self) -> list[Snapshot]:
        return [snapshot for _, snapshot in sorted((await self._read()).snapshots.items())]

    async def tail(self) -> list[Row]:
        journal = await self._read()
        behind = {uid: e.snapshot_seq for uid, e in journal.engines.items() if e.seq > e.snapshot_seq}
        return [
            Row.from_wire(kept.wire, kept.uid)
            for kept in journal.after(min(behind.values(), default=journal.latest))
            if kept.engine_seq and kept.seq > behind.get(kept.uid, kept.seq)
        ]

    async def links(self, *, after: int, limit: int = 1000) -> list[Link]:
        journal = await self._read()
        links = [(k.seq, chained(k.uid, k.wire), k.hash) for k in journal.after(after)]
        anchors = [(seq, None, digest) for seq, digest in journal.anchors.items() if seq > after]
        return sorted([*links, *anchors])[:limit]

    async def trim(self, before: int) -> int:
        journal = await self._read()
        dropped, gone = journal.trim(before)
        self._ledger.forget(gone)
        return dropped

    def statistics(self) -> StoreStatistics:
        return StoreStatistics(
            queued_writes=self._queued, queued_bytes=self._queued_bytes, commits=self._commits, rows=self._rows,
            last_commit_s=self._last_commit_s,
        )  # fmt: skip

    async def _read(self) -> Journal:
        await trio.lowlevel.checkpoint()
        return self.journal

    def _check(self) -> None:
        if self._shut:
            raise StoreUnavailable(f"The journal {self._shut}; nothing more is accepted here.")

    # Last in the class: after it, `list` in an annotation would mean this method.
    async def list(self, kind: Kind, page: Page) -> list[Record]:
        found = [
            indexed
            for (of, _), indexed in (await self._read()).records.items()
            if of == kind
            and page.uid in (None, indexed.uid)
            and (page.pools is None or indexed.pool in page.pools)
            and (page.statuses is None or indexed.status in page.statuses)
            and (page.before is None or indexed.seq < page.before)
        ]
        found.sort(key=lambda indexed: -indexed.seq)
        return [load_record(kind, indexed.body) for indexed in found[: page.limit]]
