"""Reads, on connections of their own in threads, so that neither the event loop nor the writer waits for one.

A read that is cancelled is interrupted, and its thread closes the connection: another read could have got it by the
time that the interrupt arrives.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw
import trio

from protocol.errors import StoreUnavailable
from supervisor.store.sqlite.schema import failure, read_only

__all__ = ["Readers"]

T = TypeVar("T")

READERS = 4


class Readers:
    """At most `READERS` reads at a time; more wait their turn."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._limiter = trio.CapacityLimiter(READERS)
        self._idle: list[apsw.Connection] = []
        self._opened = False

    def open(self) -> None:
        self._opened = True

    async def call(self, query: Callable[[apsw.Connection], T]) -> T:
        """The query's answer, of one state of the journal if it is one statement. Raises StoreUnavailable."""
        lease = _Lease(self)
        try:
            return await trio.to_thread.run_sync(lease.run, query, abandon_on_cancel=True, limiter=self._limiter)
        except trio.Cancelled:
            lease.abandon()
            raise
        except (apsw.Error, OSError) as error:
            raise failure(error) from error

    async def close(self) -> None:
        """Wait for the threads of all reads, cancelled ones too, and close their connections. Not to be cancelled."""
        self._opened = False
        for place in range(READERS):
            # A token comes back when its thread has ended, not when the read was cancelled.
            await self._limiter.acquire_on_behalf_of(place)
        for place in range(READERS):
            self._limiter.release_on_behalf_of(place)
        while self._idle:
            self._idle.pop().close()

    def take(self) -> apsw.Connection:
        if not self._opened:
            raise StoreUnavailable("The journal is not open.")
        try:
            return self._idle.pop()
        except IndexError:
            return read_only(self._path)

    def give_back(self, db: apsw.Connection) -> None:
        self._idle.append(db)


class _Lease:
    """One read's hold on a connection; the lock orders its end and its being abandoned."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._lock = threading.Lock()
        self._abandoned = False
        self._db: apsw.Connection | None = None

    def run(self, query: Callable[[apsw.Connection], T]) -> T:
        db = self._readers.take()
        with self._lock:
            self._db = db
            abandoned = self._abandoned
        try:
            if abandoned:
                raise apsw.InterruptError
            return query(db)
        finally:
            with self._lock:
                self._db = None
                abandoned = self._abandoned
            if abandoned:
                db.close()
            else:
                self._readers.give_back(db)

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            if self._db is not None:
                self._db.interrupt()
