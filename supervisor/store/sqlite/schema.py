"""What the file looks like, how it grows, and how a connection to it is opened.

The journal is the truth; `records`, `keys` and `engines` are its indexes, written in the same transactions. `anchors`
holds the hash of a trimmed row where the row after it is kept, or is still to come: the chain is checked around gaps.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import apsw

from protocol.errors import StorageFull, StoreUnavailable

__all__ = ["Synchronous", "connect", "failure", "migrate", "read_only"]

Synchronous = Literal["FULL", "NORMAL"]
"""FULL: a commit is on the disk when it returns. NORMAL: it may be lost with the power, so only for measuring."""

APPLICATION_ID = 0x656E6768  # "engh": tells our file from any other SQLite database

OLDEST_SQLITE = (3, 51, 3)  # before it, our two connections may meet https://sqlite.org/wal.html#walresetbug

BUSY_MS = 5000  # for an administrator's sqlite3 shell; the lock keeps every other writer out

MIGRATIONS = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('era', lower(hex(randomblob(4)))), ('fence', 0), ('oldest', 1);
    CREATE TABLE journal (
        seq INTEGER PRIMARY KEY, uid TEXT NOT NULL, engine_id TEXT NOT NULL, engine_seq INTEGER NOT NULL,
        type TEXT NOT NULL, command_id TEXT, run_id TEXT, time TEXT NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL
    ) STRICT;
    CREATE INDEX journal_uid ON journal (uid);
    CREATE INDEX journal_run ON journal (run_id) WHERE run_id IS NOT NULL;
    CREATE TABLE anchors (seq INTEGER PRIMARY KEY, hash BLOB NOT NULL) STRICT;
    CREATE TABLE engines (
        uid TEXT PRIMARY KEY, engine_id TEXT NOT NULL, engine_seq INTEGER NOT NULL, seq INTEGER NOT NULL,
        snapshot_seq INTEGER NOT NULL, disposed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE snapshots (
        uid TEXT PRIMARY KEY, seq INTEGER NOT NULL, engine_seq INTEGER NOT NULL, body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE keys (
        principal TEXT NOT NULL, key TEXT NOT NULL, digest TEXT NOT NULL, command_id TEXT NOT NULL, uid TEXT NOT NULL,
        seq INTEGER NOT NULL, PRIMARY KEY (principal, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keys_uid ON keys (uid);
    CREATE TABLE records (
        kind TEXT NOT NULL, id TEXT NOT NULL, uid TEXT NOT NULL, pool TEXT NOT NULL, status TEXT NOT NULL,
        seq INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, id)
    ) STRICT;
    CREATE INDEX records_seq ON records (kind, seq);
    CREATE INDEX records_uid ON records (uid, kind, seq);
    CREATE INDEX records_pool ON records (pool, kind, seq);
    CREATE INDEX records_pool_status ON records (pool, kind, status, seq);
    CREATE INDEX records_status ON records (kind, status, seq);
    CREATE TABLE documents (
        name TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (name, id)
    ) STRICT;
    """,
    "CREATE INDEX journal_audit ON journal (seq) WHERE type >= 'audit.' AND type < 'audit/';",
)
"""Each brings the file from the version that is its index to the next, and is never edited; `user_version` counts."""


def connect(path: Path, synchronous: Synchronous) -> apsw.Connection:
    """A connection that writes, in a file that is made for its owner alone; WAL checkpoints are left to the caller.

    Raises StoreUnavailable when the file cannot promise what the store promises, apsw.Error and OSError for the rest.
    """
    version = apsw.sqlite_lib_version()
    if tuple(int(part) for part in version.split(".")) < OLDEST_SQLITE:
        raise StoreUnavailable(
            f"SQLite {version} can lose committed rows; install an apsw that brings 3.51.3 or later."
        )
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)  # else the name of the new file may be lost with the power
        finally:
            os.close(directory)
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        db.set_busy_timeout(BUSY_MS)
        mode = db.pragma("journal_mode", "WAL")
        if mode != "wal":
            raise StoreUnavailable(f"{path} cannot have a write-ahead log (journal mode {mode}); use a local disk.")
        db.pragma("synchronous", synchronous)
        db.wal_autocheckpoint(0)
    except BaseException:
        db.close()
        raise
    return db


def read_only(path: Path) -> apsw.Connection:
    """A connection that only reads, and so never sees what is not committed."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    db.set_busy_timeout(BUSY_MS)
    return db


def migrate(db: apsw.Connection, path: Path) -> None:
    """Bring the file to this version, in one transaction. Raises StoreUnavailable for one that is not ours."""
    with db:
        version, application = db.pragma("user_version"), db.pragma("application_id")
        if application not in (APPLICATION_ID, 0) or (application == 0 and db.pragma("schema_version")):
            raise StoreUnavailable(f"{path} is a database of another program; name another file.")
        if version > len(MIGRATIONS):
            raise StoreUnavailable(
                f"{path} was written by a newer Enginehouse (schema {version}, known here: {len(MIGRATIONS)}); upgrade."
            )
        for script in MIGRATIONS[version:]:
            db.execute(script)
        db.pragma("application_id", APPLICATION_ID)
        db.pragma("user_version", len(MIGRATIONS))


def failure(error: Exception) -> StoreUnavailable:
    """What the house is told of an error of SQLite or of the file system; `error` becomes its cause."""
    if isinstance(error, StoreUnavailable):
        return error
    if isinstance(error, apsw.FullError):
        told: StoreUnavailable = StorageFull("The disk of the journal is full; free some space, then start again.")
    else:
        what = str(error) or type(error).__name__
        told = StoreUnavailable(f"The journal failed ({what}); nothing more is accepted until it is opened again.")
    told.__cause__ = error
    return told
