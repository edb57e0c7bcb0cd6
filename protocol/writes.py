"""Writes: what the house asks a store to make durable in one piece, and what comes back.

A `Write` is all or nothing. It carries the rows of one synchronous stretch, the command whose acceptance it is (so that
the idempotency key is checked inside the transaction), documents of the plain tables, and snapshots. A `Commit` is its
answer: durable, or a replay of an earlier command under the same key, in which case nothing of the write was stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protocol.commands import Command
from protocol.events import Row

__all__ = ["Commit", "Document", "Replay", "Snapshot", "Write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One row of a plain table (`pool`, `api_key`, ...). `body` None deletes it."""

    table: str
    id: str
    body: Any | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An engine's view (as `protocol.edge.dump` bytes) as of `seq` and `engine_seq`; replaces the one before."""

    uid: str
    seq: int
    engine_seq: int
    body: bytes


@dataclass(slots=True, eq=False)
class Write:
    """`tag` belongs to whoever submits it and comes back untouched in the commit."""

    rows: tuple[Row, ...] = ()
    command: Command | None = None
    documents: tuple[Document, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    tag: Any = None


@dataclass(frozen=True, slots=True)
class Replay:
    """The first command under a key. `digest`: what was asked then; another one now is a mismatch."""

    command_id: str
    digest: str
    seq: int
    uid: str


@dataclass(frozen=True, slots=True, eq=False)
class Commit:
    write: Write
    replay: Replay | None = None
