"""The two threads of the store: one commits, the other moves the write-ahead log into the database.

The writer takes whatever has been submitted since its last commit, up to `batch` writes, as one transaction with one
fsync: under load the batches grow and the cost of each write falls. It speaks to the trio thread once per batch.

The checkpointer works beside it, so that no commit waits for it. A log that never comes to rest is never started over
(https://sqlite.org/wal.html, "avoiding excessively large WAL files"), so past `LONG_LOG` the writer does the last bit
itself, between two batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

import apsw
import trio

from protocol.errors import StoreUnavailable
from supervisor.store.ledger import Batch, Entry, Ledger
from supervisor.store.sqlite.tables import Tables

__all__ = ["Checkpointer", "Crew", "Drop", "Writer"]

LOG_PAGES = 1_000
LONG_LOG = 16_000  # 64 MiB of 4 KiB pages


@dataclass(frozen=True, slots=True)
class Drop:
    """Rows to take out of the journal; `done(rows)` is called in the writer's thread when they are gone for good."""

    seqs: Sequence[int]
    done: Callable[[int], None]


class Crew:
    """Threads that end together. All but `start`'s thread itself is for the trio thread.

    `over` is set when one has ended, by an error or not; whoever started them then tells the others to end.
    """

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self.token = token
        self.over = trio.Event()
        self.errors: list[Exception] = []
        self._alive = 0
        self._gone = trio.Event()

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Do `work` in a new thread; a daemon, so that a program that crashes can exit."""

        def body() -> None:
            error: Exception | None = None
            try:
                work()
            except Exception as raised:  # noqa: BLE001 - `errors` are raised by whoever waits for the crew
                error = raised
            with suppress(trio.RunFinishedError):
                self.token.run_sync_soon(self._end, error)

        Thread(target=body, name=name, daemon=True).start()
        self._alive += 1

    def fail(self, error: Exception) -> None:
        self.errors.append(error)
        self.over.set()

    async def gone(self) -> None:
        """Wait until every thread has ended."""
        if self._alive:
            await self._gone.wait()

    def _end(self, error: Exception | None) -> None:
        self._alive -= 1
        if error is not None:
            self.fail(error)
        self.over.set()
        if not self._alive:
            self._gone.set()


def checkpoint(db: apsw.Connection) -> None:
    """Move as much of the log into the database as readers allow. When the other thread is at it, that will do."""
    with suppress(apsw.BusyError):
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


class Checkpointer:
    """Moves the log into the database each time it is asked to."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._asked: SimpleQueue[bool] = SimpleQueue()

    def ask(self) -> None:
        if self._asked.empty():
            self._asked.put(True)

    def stop(self) -> None:
        self._asked.put(False)

    def run(self) -> None:
        while self._asked.get():
            checkpoint(self._db)


class Writer:
    """Commits what is put in its queue, until `stop` or `finish`; `report(batch, commit_s)` hears of each commit."""

    def __init__(self, db: apsw.Connection, ledger: Ledger, fence: int, batch: int, checkpointer: Checkpointer) -> None:
        self.queue: SimpleQueue[Entry | Drop | None] = SimpleQueue()
        self._db = db
        self._tables = Tables(db)
        self._ledger = ledger
        self._fence = fence
        self._batch = batch
        self._checkpointer = checkpointer
        self._log_pages = 0
        self._stopped = False
        db.set_wal_hook(self._measure)

    def finish(self) -> None:
        """Let `run` return when everything that was put before is done."""
        self.queue.put(None)

    def stop(self) -> None:
        """Let `run` return after the batch in hand."""
        self._stopped = True
        self.queue.put(None)

    def run(self, report: Callable[[Batch, float], None]) -> None:
        more = True
        while more and not self._stopped:
            more = self._round(report)
            if self._log_pages >= LONG_LOG:
                checkpoint(self._db)
            elif self._log_pages >= LOG_PAGES:
                self._checkpointer.ask()
            self._log_pages = 0

    def _round(self, report: Callable[[Batch, float], None]) -> bool:
        """Wait, then commit what is there. False when there will be no more."""
        taken = [self.queue.get()]
        while taken[-1] is not None and len(taken) < self._batch and not self.queue.empty():
            taken.append(self.queue.get())
        if self._stopped:
            return False
        entries = [item for item in taken if isinstance(item, Entry)]
        if entries:
            began = time.perf_counter()
            with self._transaction():
                batch = self._ledger.enter(entries)
                self._tables.store(batch)
            report(batch, time.perf_counter() - began)
        for drop in taken:
            if isinstance(drop, Drop):
                with self._transaction():
                    rows, gone = self._tables.drop(drop.seqs)
                    self._ledger.forget(gone)
                drop.done(rows)
        return taken[-1] is not None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Begin, see that the store is still ours, and commit. No way back: who fails here is not asked again."""
        self._db.execute("BEGIN IMMEDIATE")
        if self._tables.fence() != self._fence:
            raise StoreUnavailable("Another process has taken this journal over; nothing more is accepted here.")
        yield
        self._db.execute("COMMIT")

    def _measure(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK
