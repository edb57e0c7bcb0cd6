"""The store: durable accepts, against what the disk can do and against SQLite used as well as one thread can."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count as counter
from pathlib import Path

import apsw
import trio

from bench.figures import Figure, Scale, at_least, figure
from bench.measure import Stopwatch, in_turn, rate
from protocol.commands import Command, Signal
from protocol.edge import as_json, dump
from protocol.events import Row
from protocol.records import fold_record, status_of
from protocol.writes import Commit, Write
from supervisor import SqliteStore
from supervisor.chain import GENESIS, link
from supervisor.store.ledger import chained
from supervisor.store.sqlite.schema import connect, migrate

__all__ = ["ROWS", "accept_rate"]

ROWS = ("accept_one", "accept_many")
UID = "eng_0199c0de00000000000000000000"
TIME = "2026-01-01T12:00:00.000Z"
PAGE = bytes(4096)
BATCH = 100


def acceptance(number: int) -> Write:
    """One command with a key, accepted: a row, a record, a key, the counters of its engine."""
    body = Signal(name="note", payload={"number": number})
    command = Command(
        id=f"cmd_{number:026d}", uid=UID, body=body, principal="key:bench", key=f"key-{number}", digest="0" * 64,
        time=TIME,
    )  # fmt: skip
    row = Row(
        type="command.accepted", time=TIME, data=as_json(body), uid=UID, engine_id="bench", pool="default",
        incarnation=1, command_id=command.id, principal=command.principal,
    )  # fmt: skip
    return Write((row,), command)


async def _accept(writers: int, count: int, path: Path) -> float:
    """Accepts per second, each writer waiting for its own before the next."""
    store = SqliteStore(path / "journal.db")
    await store.open()
    numbers = counter()

    def committed(commits: Sequence[Commit]) -> None:
        for commit in commits:
            commit.write.tag.set()

    async def writer() -> None:
        while (number := next(numbers)) < count:
            write = acceptance(number)
            write.tag = trio.Event()
            store.submit(write)
            await write.tag.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run, committed)
        watch = Stopwatch()
        async with trio.open_nursery() as writing:
            for _ in range(writers):
                writing.start_soon(writer)
        took = watch()
        await store.close()
    return rate(count, took)


def accept_rate(writers: int, count: int) -> float:
    """Durable accepts per second of the store alone."""
    return _in_directory(lambda path: trio.run(_accept, writers, count, path))()


def _floor(count: int, path: Path) -> float:
    """Synced appends of a page per second: what the disk itself can promise."""
    file = os.open(path / "floor", os.O_CREAT | os.O_WRONLY)
    try:
        os.pwrite(file, PAGE * count, 0)  # so that a sync finds data to write and no size to change, as in a log
        os.fsync(file)
        watch = Stopwatch()
        for number in range(count):
            os.pwrite(file, PAGE, number * len(PAGE))
            os.fdatasync(file)
        return rate(count, watch())
    finally:
        os.close(file)


def _batches(count: int, path: Path) -> float:
    """The same rows and indexes in one thread, a hundred in a transaction, encoded and chained within the time."""
    db = connect(path / "plain.db", "FULL")
    migrate(db, path / "plain.db")
    watch, head = Stopwatch(), GENESIS
    for start in range(0, count, BATCH):
        with db:
            head = _insert(db, range(start, start + BATCH), head)
    took = watch()
    db.close()
    return rate(count, took)


def _insert(db: apsw.Connection, numbers: range, head: bytes) -> bytes:
    journal, records, keys = [], [], []
    for number in numbers:
        write, seq = acceptance(number), number + 1
        (row,), command = write.rows, write.command
        assert command is not None
        wire = row.numbered("00000000", seq, seq)
        head = link(head, seq, chained(UID, wire))
        record = fold_record("command", None, row)
        assert record is not None
        journal.append((seq, UID, row.engine_id, seq, row.type, row.command_id, None, row.time, wire, head))
        records.append(("command", command.id, UID, row.pool, status_of(record), seq, dump(record)))
        keys.append((command.principal, command.key, command.digest, command.id, UID, seq))
    db.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", journal)
    db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", records)
    db.executemany("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)", keys)
    last = numbers[-1] + 1
    db.execute(
        "INSERT INTO engines VALUES (?, 'bench', ?, ?, 0, 0)"
        " ON CONFLICT DO UPDATE SET engine_seq = excluded.engine_seq, seq = excluded.seq",
        (UID, last, last),
    )
    return head


def _in_directory(side: Callable[[Path], float]) -> Callable[[], float]:
    def call() -> float:
        with tempfile.TemporaryDirectory() as directory:
            return side(Path(directory))

    return call


def accept_one(scale: Scale) -> list[Figure]:
    """One writer, who waits for the disk each time."""
    count = scale.of(1000, 20)
    found = in_turn(scale.rounds, ours=partial(accept_rate, 1, count), floor=_in_directory(partial(_floor, count)))
    return [figure("durable accepts, 1 writer", "1/s", found["ours"], "fdatasync", found["floor"], at_least(0.3))]


def accept_many(scale: Scale) -> list[Figure]:
    """A hundred writers, who share their waits."""
    count = scale.of(20_000, 200)
    found = in_turn(scale.rounds, ours=partial(accept_rate, 100, count), plain=_in_directory(partial(_batches, count)))
    return [
        figure(
            "durable accepts, 100 writers", "1/s", found["ours"], "batches of 100 in one thread", found["plain"],
            at_least(0.25),
        )
    ]  # fmt: skip
