"""The journal in one SQLite file, written by one thread.

`schema` says what the file looks like and opens connections to it; `lock` keeps other processes out; `tables` is the
home that the ledger's batches go to, `queries` are what is asked of them; `threads` are the writer and the WAL
checkpointer; `readers` answer reads on connections of their own; `store` is the trio side that holds them together.

apsw and not the standard library's sqlite3, because it brings its own SQLite: a Python built on a library before 3.51.3
can lose committed rows when two connections of one file write and checkpoint (https://sqlite.org/wal.html#walresetbug).
"""

from supervisor.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
