"""The ledger's home in SQLite: batches become statements, look-ups become queries. Used by the writer's thread alone.

Rows go in many to a statement: every step of a statement gives up and takes back the interpreter's lock, and one step
for 64 rows costs half of what 64 steps do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache

import apsw

from protocol.events import encode
from protocol.records import Kind, Record, load_record
from protocol.writes import Replay
from supervisor.chain import GENESIS
from supervisor.store.ledger import Batch, Engine, Head, Key

__all__ = ["Tables"]

_CHUNKS = (64, 8, 1)

_FORGET = tuple(
    f"DELETE FROM {table} WHERE uid IN (SELECT value FROM json_each(?))"  # noqa: S608 - the names are these four
    for table in ("engines", "snapshots", "records", "keys")
)

_ENGINE_SEQS = "engine_id = excluded.engine_id, engine_seq = excluded.engine_seq, seq = excluded.seq"
_UPSERT = {
    "engines": f"ON CONFLICT DO UPDATE SET {_ENGINE_SEQS}, snapshot_seq = excluded.snapshot_seq, "
    "disposed = excluded.disposed",
    "records": "ON CONFLICT DO UPDATE SET status = excluded.status, body = excluded.body",
    "snapshots": "ON CONFLICT DO UPDATE SET seq = excluded.seq, engine_seq = excluded.engine_seq, body = excluded.body",
    "documents": "ON CONFLICT DO UPDATE SET body = excluded.body",
}


class Tables:
    """A `Home` on a connection. To be used by one thread, in a transaction."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def head(self) -> Head:
        """The end of the journal, also when all of it was trimmed."""
        found = self._db.execute(
            "SELECT seq, hash FROM (SELECT seq, hash FROM (SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1)"
            " UNION ALL SELECT seq, hash FROM (SELECT seq, hash FROM anchors ORDER BY seq DESC LIMIT 1))"
            " ORDER BY seq DESC LIMIT 1"
        ).get
        return Head(*found) if found else Head(0, GENESIS)

    def fence(self) -> int:
        return int(self._db.execute("SELECT value FROM meta WHERE name = 'fence'").get)

    def take_fence(self) -> int:
        """The next ownership number; whoever held the one before may not write any more."""
        return int(self._db.execute("UPDATE meta SET value = value + 1 WHERE name = 'fence' RETURNING value").get)

    def era(self) -> str:
        return str(self._db.execute("SELECT value FROM meta WHERE name = 'era'").get)

    def keys(self, wanted: Collection[Key]) -> Mapping[Key, Replay]:
        found = self._db.execute(
            "SELECT k.principal, k.key, k.command_id, k.digest, k.seq, k.uid"
            " FROM json_each(?) AS w CROSS JOIN keys AS k ON k.principal = w.value ->> 0 AND k.key = w.value ->> 1",
            (encode(list(wanted)).decode(),),
        )
        return {(principal, key): Replay(*replay) for principal, key, *replay in found}

    def engine(self, uid: str) -> Engine | None:
        for engine_id, engine_seq, seq, snapshot_seq, disposed in self._db.execute(
            "SELECT engine_id, engine_seq, seq, snapshot_seq, disposed FROM engines WHERE uid = ?", (uid,)
        ):
            return Engine(uid, engine_id, engine_seq, seq, snapshot_seq, bool(disposed))
        return None

    def record(self, kind: Kind, id: str) -> Record | None:
        body = self._db.execute("SELECT body FROM records WHERE kind = ? AND id = ?", (kind, id)).get
        return None if body is None else load_record(kind, body)

    def store(self, batch: Batch) -> None:
        """All of a batch."""
        self._insert(
            "journal",
            [
                (seq, row.uid, row.engine_id, engine_seq, row.type, row.command_id, row.run_id, row.time, wire, digest)
                for row, seq, engine_seq, wire, digest in batch.rows
            ],
        )
        self._insert("engines", [(e.uid, e.engine_id, e.engine_seq, e.seq, e.snapshot_seq, int(e.disposed))
                                 for e in batch.engines.values()])  # fmt: skip
        self._insert("records", [(*at, *indexed) for at, indexed in batch.records.items()])
        self._insert("keys", [(*key, r.digest, r.command_id, r.uid, r.seq) for key, r in batch.keys.items()])
        self._insert("snapshots", [(s.uid, s.seq, s.engine_seq, s.body) for s in batch.snapshots.values()])
        self._insert("documents", [(*name, body) for name, body in batch.documents.items() if body is not None])
        for name, body in batch.documents.items():
            if body is None:
                self._db.execute("DELETE FROM documents WHERE name = ? AND id = ?", name)

    def drop(self, seqs: Sequence[int]) -> tuple[int, list[str]]:
        """Take rows out of the journal: how many there were, and the engines that are forgotten with them."""
        db, latest, listed = self._db, self.head().seq, encode(seqs).decode()
        uids = [
            uid
            for (uid,) in db.execute(
                "SELECT DISTINCT uid FROM journal WHERE seq IN (SELECT value FROM json_each(?))", (listed,)
            )
        ]
        db.execute(
            "INSERT OR IGNORE INTO anchors SELECT seq, hash FROM journal WHERE seq IN (SELECT value FROM json_each(?))",
            (listed,),
        )
        db.execute("DELETE FROM journal WHERE seq IN (SELECT value FROM json_each(?))", (listed,))
        dropped = db.changes()
        db.execute(
            "DELETE FROM anchors WHERE seq <> ? AND NOT EXISTS (SELECT 1 FROM journal WHERE seq = anchors.seq + 1)",
            (latest,),
        )
        db.execute("UPDATE meta SET value = max(value, ?) WHERE name = 'oldest'", (seqs[-1] + 1,))
        gone = [
            uid
            for (uid,) in db.execute(
                "SELECT uid FROM engines WHERE disposed AND uid IN (SELECT value FROM json_each(?))"
                " AND NOT EXISTS (SELECT 1 FROM journal WHERE uid = engines.uid)",
                (encode(uids).decode(),),
            )
        ]
        for statement in _FORGET:
            db.execute(statement, (encode(gone).decode(),))
        return dropped, gone

    def _insert(self, table: str, rows: list[tuple[apsw.SQLiteValue, ...]]) -> None:
        for chunk in _chunks(rows):
            self._db.execute(_statement(table, len(chunk[0]), len(chunk)), [value for row in chunk for value in row])


def _chunks(rows: list[tuple[apsw.SQLiteValue, ...]]) -> Iterator[list[tuple[apsw.SQLiteValue, ...]]]:
    """In few sizes, so that few statements have to be kept ready."""
    start = 0
    for size in _CHUNKS:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


@cache
def _statement(table: str, columns: int, rows: int) -> str:
    places = "(" + ",".join("?" * columns) + ")"
    values = ",".join([places] * rows)
    return f"INSERT INTO {table} VALUES {values} {_UPSERT.get(table, '')}"  # noqa: S608 - the names are those above
