"""What is read from the file. One function per question, each of one statement, so each answer is of one moment."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import apsw

from protocol.edge import load
from protocol.events import Row, encode
from protocol.records import Kind, Record, load_record
from protocol.writes import Document, Replay, Snapshot
from supervisor.store.contract import Bounds, Page
from supervisor.store.ledger import OPEN, Link, chained

__all__ = ["audit", "bounds", "documents", "key", "links", "record", "records", "rows", "snapshots", "spent", "tail"]

_ROWS = "SELECT body, uid FROM journal WHERE {where} ORDER BY seq LIMIT ?"
_WALK = "SELECT * FROM (SELECT seq, body FROM records WHERE {where} ORDER BY seq DESC LIMIT ?)"
_MERGE = "SELECT body FROM ({walks}) ORDER BY seq DESC LIMIT ?"

# In the words of the partial index's own condition: only so does SQLite use it.
_AUDIT = (
    "SELECT body, uid FROM journal WHERE type >= 'audit.' AND type < 'audit/' AND seq < ? ORDER BY seq DESC LIMIT ?"
)
_FAR = 2**63 - 1
_OPEN = encode(sorted(OPEN)).decode()


def key(db: apsw.Connection, principal: str, name: str) -> Replay | None:
    for found in db.execute(
        "SELECT command_id, digest, seq, uid FROM keys WHERE principal = ? AND key = ?", (principal, name)
    ):
        return Replay(*found)
    return None


def bounds(db: apsw.Connection) -> Bounds:
    oldest, *latest = db.execute(
        "SELECT (SELECT value FROM meta WHERE name = 'oldest'), (SELECT max(seq) FROM journal), "
        "(SELECT max(seq) FROM anchors)"
    ).get
    return Bounds(oldest, max(seq or 0 for seq in latest))


def rows(
    db: apsw.Connection, after: int, until: int | None, uid: str | None, run_id: str | None, limit: int
) -> list[Row]:
    where, values = _where({"seq > ?": after, "seq <= ?": until, "uid = ?": uid, "run_id = ?": run_id})
    text = _ROWS.format(where=where)
    return [Row.from_wire(body, of) for body, of in db.execute(text, (*values, limit))]


def audit(db: apsw.Connection, before: int | None, limit: int) -> list[Row]:
    values = (_FAR if before is None else before, limit)
    return [Row.from_wire(body, of) for body, of in db.execute(_AUDIT, values)]


def record(db: apsw.Connection, kind: Kind, name: str) -> Record | None:
    body = db.execute("SELECT body FROM records WHERE kind = ? AND id = ?", (kind, name)).get
    return None if body is None else load_record(kind, body)


def records(db: apsw.Connection, kind: Kind, page: Page) -> list[Record]:
    """Each pool and status is walked on its own, newest first, and the walks are merged, so history does not count.

    For one engine its own records are walked: the plus signs keep SQLite from the indexes of all engines' (its query
    planner's documentation, "disqualifying WHERE clause terms").
    """
    of_pool, of_status = ("pool = ?", "status = ?") if page.uid is None else ("+pool = ?", "+status = ?")
    statuses: Iterable[str | None] = (None,) if page.statuses is None else dict.fromkeys(page.statuses)
    pools: Iterable[str | None] = (None,) if page.pools is None else dict.fromkeys(page.pools)
    walks: list[str] = []
    bound: list[Any] = []
    for pool, status in product(pools, statuses):
        where, values = _where(
            {"kind = ?": kind, "uid = ?": page.uid, of_pool: pool, of_status: status, "seq < ?": page.before}
        )
        walks.append(_WALK.format(where=where))
        bound += (*values, page.limit)
    if not walks:
        return []
    text = _MERGE.format(walks=" UNION ALL ".join(walks))
    return [load_record(kind, body) for (body,) in db.execute(text, (*bound, page.limit))]


def _where(conditions: dict[str, Any]) -> tuple[str, list[Any]]:
    """The conditions that have a value, and their values."""
    given = {text: value for text, value in conditions.items() if value is not None}
    return " AND ".join(given), list(given.values())


def snapshots(db: apsw.Connection) -> list[Snapshot]:
    return [
        Snapshot(uid=uid, seq=seq, engine_seq=engine_seq, body=body)
        for uid, seq, engine_seq, body in db.execute("SELECT uid, seq, engine_seq, body FROM snapshots ORDER BY uid")
    ]


def documents(db: apsw.Connection, table: str) -> list[Document]:
    return [
        Document(table=table, id=name, body=load(object, body))
        for name, body in db.execute("SELECT id, body FROM documents WHERE name = ? ORDER BY id", (table,))
    ]


def tail(db: apsw.Connection) -> list[Row]:
    """Engines first, then the few rows of each that its snapshot is behind: CROSS JOIN keeps SQLite to that order."""
    return [
        Row.from_wire(body, uid)
        for body, uid in db.execute(
            "SELECT j.body, j.uid FROM engines AS e CROSS JOIN journal AS j ON j.uid = e.uid AND j.seq > e.snapshot_seq"
            " WHERE e.seq > e.snapshot_seq AND j.engine_seq ORDER BY j.seq"
        )
    ]


def links(db: apsw.Connection, after: int, limit: int) -> list[Link]:
    return [
        (seq, None if body is None else chained(uid, body), digest)
        for seq, uid, body, digest in db.execute(
            "SELECT * FROM (SELECT seq, uid, body, hash FROM journal WHERE seq > ? ORDER BY seq LIMIT ?)"
            " UNION ALL SELECT * FROM (SELECT seq, NULL, NULL, hash FROM anchors WHERE seq > ? ORDER BY seq LIMIT ?)"
            " ORDER BY 1 LIMIT ?",
            (after, limit, after, limit, limit),
        )
    ]


def spent(db: apsw.Connection, after: int, before: int, limit: int) -> list[int]:
    """Rows that may be trimmed: their engine's snapshot covers them and their run and command have ended."""
    return [
        seq
        for (seq,) in db.execute(
            "SELECT seq FROM journal AS j WHERE seq > ? AND seq < ?"
            " AND (engine_seq = 0 OR seq <= (SELECT snapshot_seq FROM engines WHERE uid = j.uid))"
            " AND NOT EXISTS (SELECT 1 FROM records WHERE kind = 'run' AND id = j.run_id"
            " AND status IN (SELECT value FROM json_each(?)))"
            " AND NOT EXISTS (SELECT 1 FROM records WHERE kind = 'command' AND id = j.command_id"
            " AND status IN (SELECT value FROM json_each(?)))"
            " ORDER BY seq LIMIT ?",
            (after, before, _OPEN, _OPEN, limit),
        )
    ]
