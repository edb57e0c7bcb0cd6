"""What the tests of the store say to it: a few kinds of writes, and a store that is served for a block's length."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from protocol.commands import Command, Signal, Submit
from protocol.events import Row
from protocol.writes import Commit, Write
from supervisor.store.memory import Journal, MemoryStore
from supervisor.store.sqlite import SqliteStore

AnyStore = MemoryStore | SqliteStore

TIME = "2026-01-01T00:00:00.000Z"


def event(uid: str = "u1", type: str = "demo.thing", /, *, pool: str = "pool", **members: object) -> Row:
    """A row of an engine; members that a row has go to it, the others are its data."""
    own = {name: members.pop(name) for name in ("run_id", "command_id", "principal") if name in members}
    return Row(type, TIME, dict(members), uid=uid, engine_id=f"engine-{uid}", pool=pool, **own)  # type: ignore[arg-type]  # names and types are those of Row


def accept(name: str, uid: str = "u1", *, key: str | None = None, digest: str = "d", by: str | None = "alice") -> Write:
    """A command that makes no run, as it is accepted."""
    command = Command(id=name, uid=uid, body=Signal(name="go"), principal=by, key=key, digest=digest)
    return Write((event(uid, "command.accepted", command_id=name, principal=by, type="signal"),), command)


def submit(run: str, uid: str = "u1", *, pool: str = "pool", key: str | None = None) -> Write:
    """A submit as it is accepted: its command is `cmd-<run>`."""
    name = f"cmd-{run}"
    command = Command(id=name, uid=uid, body=Submit(input=run), principal="alice", key=key, digest="d", run_id=run)
    return Write(
        (
            event(uid, "command.accepted", pool=pool, command_id=name, run_id=run, principal="alice", type="submit"),
            event(
                uid, "run.queued", pool=pool, command_id=name, run_id=run, principal="alice", input=run,
                priority="normal", labels={}, timeout_s=None, queue_ttl_s=None, retry_of=None,
            ),
        ),
        command,
    )  # fmt: skip


def begin(run: str, uid: str = "u1") -> Write:
    return Write((event(uid, "run.started", run_id=run, command_id=f"cmd-{run}", attempt=1),))


def finish(run: str, uid: str = "u1") -> Write:
    """The end of a run and of its command, in one write."""
    name = f"cmd-{run}"
    return Write(
        (
            event(uid, "run.completed", run_id=run, command_id=name, result=run, usage={}, digest="0"),
            event(uid, "command.completed", run_id=run, command_id=name, result=run),
        )
    )


class Place:
    """Where a journal lies: each store made here opens the same one. `serve` opens, runs and closes it."""

    def __init__(self, make: Callable[[], AnyStore]) -> None:
        self.make = make

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Served"]:
        store = self.make()
        await store.open()
        async with trio.open_nursery() as nursery:
            served = Served(store)
            nursery.start_soon(store.run, served.committed)
            try:
                yield served
            finally:
                with trio.CancelScope(shield=True):
                    await store.close()


class Served:
    """A running store and every commit that it reported."""

    def __init__(self, store: AnyStore) -> None:
        self.store = store
        self.commits: list[Commit] = []
        self._lot = trio.lowlevel.ParkingLot()

    def committed(self, commits: object) -> None:
        assert isinstance(commits, list)
        self.commits += commits
        self._lot.unpark_all()

    async def durable(self, *writes: Write) -> list[Commit]:
        """Submit writes in one stretch and wait for their commits."""
        for write in writes:
            self.store.submit(write)
        while not {id(write) for write in writes} <= {id(commit.write) for commit in self.commits}:
            await self._lot.park()
        return [commit for write in writes for commit in self.commits if commit.write is write]


def in_memory() -> Place:
    journal = Journal()
    return Place(lambda: MemoryStore(journal))


def in_sqlite(folder: Path) -> Place:
    return Place(lambda: SqliteStore(folder / "journal.db"))
