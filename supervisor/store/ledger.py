"""The ledger: what a batch of writes adds to the journal. Numbers, hashes, keys and records; no I/O.

Every home of the journal enters its batches here, between the begin and the commit of its transaction, and stores
what comes back. So the rules (dense numbers, one effect per key, the hash chain, records that are the fold of their
rows) are written once, and a home is only a place.

A ledger runs ahead of its home by the batch that is being committed. When that commit fails the ledger is thrown away
with its store; it is never asked to go back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

from protocol.edge import dump
from protocol.events import Row
from protocol.records import Kind, Record, fold_record, status_of, touched
from protocol.writes import Commit, Replay, Snapshot, Write
from supervisor.chain import link

__all__ = [
    "KINDS",
    "OPEN",
    "Batch",
    "Engine",
    "Entry",
    "Head",
    "Home",
    "Indexed",
    "Key",
    "Ledger",
    "Link",
    "Numbered",
    "chained",
    "enter",
]

Key = tuple[str, str]
"""Principal ("" for none) and idempotency key."""

Link = tuple[int, bytes | None, bytes]
"""`seq`, the bytes that were hashed (None when the row was trimmed), and the hash."""

At = tuple[Kind, str]
"""Kind and id of a record."""

KINDS: tuple[Kind, ...] = ("run", "request", "command", "dead_letter")

OPEN = frozenset({"queued", "running", "waiting", "interrupted", "pending", "accepted", "started"})
"""The statuses of a record that will change again. The others are kept by the home alone, not by the ledger."""

_FAMILIES = frozenset(KINDS)  # first words of the types that `touched` knows; the many other rows need not ask it

_OPENING = frozenset({"command.accepted", "run.queued", "request.opened", "dead_letter.added"})


class Head(NamedTuple):
    """The end of the journal: the next row has `seq` + 1 and follows `hash`."""

    seq: int
    hash: bytes


@dataclass(slots=True)
class Engine:
    """The counters of one engine. `seq`: of its last numbered row; `snapshot_seq`: how far its snapshot covers it."""

    uid: str
    engine_id: str = ""
    engine_seq: int = 0
    seq: int = 0
    snapshot_seq: int = 0
    disposed: bool = False


class Entry(NamedTuple):
    """A write on its way in, encoded, so that nothing in it can fail later. `size_bytes` counts all that is encoded."""

    write: Write
    key: Key | None
    documents: tuple[tuple[str, str, bytes | None], ...]
    size_bytes: int


class Indexed(NamedTuple):
    """A record as it is stored: what lists filter by, and its bytes."""

    uid: str
    pool: str
    status: str
    seq: int
    body: bytes


class Numbered(NamedTuple):
    """A row and what it becomes when the batch is durable."""

    row: Row
    seq: int
    engine_seq: int
    wire: bytes
    hash: bytes


@dataclass(slots=True)
class Batch:
    """What to store, in one transaction; `commits` are the answers, in the order of the writes."""

    commits: list[Commit] = field(default_factory=list)
    rows: list[Numbered] = field(default_factory=list)
    keys: dict[Key, Replay] = field(default_factory=dict)
    records: dict[At, Indexed] = field(default_factory=dict)
    documents: dict[tuple[str, str], bytes | None] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    engines: dict[str, Engine] = field(default_factory=dict)
    size_bytes: int = 0

    def number(self) -> None:
        """The batch is durable: give each row its numbers. In the trio thread, before anybody hears of it."""
        for row, seq, engine_seq, wire, _ in self.rows:
            row.commit(seq, engine_seq, wire)


class Home(Protocol):
    """What the ledger looks up in the place that keeps the journal; the answers are the ledger's to change."""

    def keys(self, wanted: Collection[Key]) -> Mapping[Key, Replay]: ...

    def engine(self, uid: str) -> Engine | None: ...

    def record(self, kind: Kind, id: str) -> Record | None: ...


def enter(write: Write) -> Entry:
    """Encode all of a write. Raises ValueError or TypeError for values that are not JSON, and for transient rows."""
    size = 0
    for row in write.rows:
        if row.transient:
            raise ValueError(f"{row.type} is transient and has no place in the journal")
        size += len(row.tail())
    documents = tuple((d.table, d.id, None if d.body is None else dump(d.body)) for d in write.documents)
    for _, _, body in documents:
        size += len(body or b"")
    for snapshot in write.snapshots:
        size += len(snapshot.body)
    command = write.command
    key = None if command is None or command.key is None else (command.principal or "", command.key)
    return Entry(write, key, documents, size)


def chained(uid: str, wire: bytes) -> bytes:
    """The bytes of a row that its hash is taken of."""
    return uid.encode() + b"\n" + wire


class Ledger:
    """One per owner of a store. Remembers the counters of engines and the open records, at most `memory` of each."""

    def __init__(self, home: Home, era: str, head: Head, *, memory: int = 20_000) -> None:
        self.head = head
        self._home = home
        self._era = era
        self._memory = memory
        self._engines: dict[str, Engine] = {}
        self._records: dict[At, Record] = {}

    def enter(self, entries: Sequence[Entry]) -> Batch:
        """The next batch of the journal. A write whose key is taken, also within the batch, adds only its answer."""
        batch = Batch()
        wanted = {key: None for entry in entries if (key := entry.key) is not None}
        taken = dict(self._home.keys(wanted)) if wanted else {}
        changed: dict[At, Record] = {}
        for write, key, documents, size in entries:
            batch.size_bytes += size
            if key is not None and key in taken:
                batch.commits.append(Commit(write, taken[key]))
                continue
            if key is not None:
                batch.keys[key] = taken[key] = self._replay(write)
            for row in write.rows:
                self._number(row, batch, changed)
            for table, name, body in documents:
                batch.documents[table, name] = body
            for snapshot in write.snapshots:
                batch.snapshots[snapshot.uid] = snapshot
                self._engine(snapshot.uid, batch).snapshot_seq = snapshot.seq
            batch.commits.append(Commit(write))
        self._index(changed, batch)
        return batch

    def forget(self, uids: Collection[str]) -> None:
        """These engines left the journal."""
        for uid in uids:
            self._engines.pop(uid, None)
        self._records = {at: record for at, record in self._records.items() if record.uid not in uids}

    def _number(self, row: Row, batch: Batch, changed: dict[At, Record]) -> None:
        uid, kind = row.uid, row.type
        family = kind.partition(".")[0]
        seq, engine_seq = self.head.seq + 1, 0
        if uid and family != "audit":
            engine = self._engine(uid, batch)
            engine_seq = engine.engine_seq = engine.engine_seq + 1
            engine.seq, engine.engine_id = seq, row.engine_id
            if kind == "engine.disposed":
                engine.disposed = True
        wire = row.numbered(self._era, seq, engine_seq)
        digest = link(self.head.hash, seq, chained(uid, wire))
        self.head = Head(seq, digest)
        batch.rows.append(Numbered(row, seq, engine_seq, wire, digest))
        if family in _FAMILIES:
            for at in touched(row):
                self._fold(at, row, seq, changed)

    def _engine(self, uid: str, batch: Batch) -> Engine:
        engine = self._engines.get(uid)
        if engine is None:
            engine = self._engines[uid] = self._home.engine(uid) or Engine(uid)
        batch.engines[uid] = engine
        return engine

    def _fold(self, at: At, row: Row, seq: int, changed: dict[At, Record]) -> None:
        before = self._records.get(at)
        # The first row of a record finds none; asking the home would cost a look-up for each command that is accepted.
        if before is None and (row.type not in _OPENING or row.data.get("again")):
            before = self._home.record(*at)
        record = fold_record(at[0], before, row)
        if record is not None:
            record.seq = record.seq or seq
            self._records[at] = changed[at] = record

    def _index(self, changed: dict[At, Record], batch: Batch) -> None:
        """Encode what changed; from here on remember only what is open, and of that the youngest."""
        for at, record in changed.items():
            status = status_of(record)
            batch.records[at] = Indexed(record.uid, record.pool, status, record.seq, dump(record))
            if status not in OPEN:
                del self._records[at]
        _shrink(self._engines, self._memory)
        _shrink(self._records, self._memory)

    def _replay(self, write: Write) -> Replay:
        """What a repeat will be told: the command, and the `seq` that its `command.accepted` row is about to get."""
        command, seq = write.command, self.head.seq + 1
        assert command is not None
        for row in write.rows:
            if row.type == "command.accepted":
                break
            seq += 1
        return Replay(command_id=command.id, digest=command.digest, seq=seq, uid=command.uid)


def _shrink(cache: dict[Any, Any], size: int) -> None:
    """Drop the eldest. The batch that brought them over the limit stores them before anybody looks them up again."""
    for name in list(islice(cache, max(0, len(cache) - size))):
        del cache[name]
