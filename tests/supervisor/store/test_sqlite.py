"""What only a file can do: belong to one owner, be too new, fill up, break, and be left without a trace."""

import os
import stat
import sys
import threading
from pathlib import Path

import apsw
import pytest
import trio

from protocol.errors import StorageFull, StoreUnavailable
from protocol.writes import Write
from supervisor.store.audit import verify_chain
from supervisor.store.sqlite import SqliteStore
from tests.supervisor.store.disks import Disk, broken, inserted
from tests.supervisor.store.journals import Place, Served, accept, event

OPEN = """
import sys, trio
from protocol.errors import StoreUnavailable
from supervisor.store.sqlite import SqliteStore
try:
    trio.run(SqliteStore(sys.argv[1]).open)
except StoreUnavailable as error:
    print(error.detail)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def files_of(path: Path) -> list[Path]:
    return sorted(path.parent.iterdir())


def sql(path: Path, statement: str) -> object:
    db = apsw.Connection(str(path))
    try:
        return db.execute(statement).get
    finally:
        db.close()


async def test_a_second_process_is_refused_and_told_who_has_it(path: Path, root: Path) -> None:
    async with Place(lambda: SqliteStore(path)).serve():
        said = await trio.run_process([sys.executable, "-c", OPEN, str(path)], cwd=root, capture_stdout=True)
    assert said.stdout.decode() == (f"{path} is in use by process {os.getpid()}; stop it or name another file.\n")


async def test_a_second_store_in_the_same_process_is_refused_until_the_first_closes(path: Path) -> None:
    second = SqliteStore(path)
    async with Place(lambda: SqliteStore(path)).serve():
        with pytest.raises(StoreUnavailable, match=f"in use by process {os.getpid()}"):
            await second.open()
    await second.open()
    await second.close()


async def test_a_stale_owner_cannot_write(path: Path) -> None:
    """Somebody removed the lock file and started another house: the fence still holds."""
    stale = SqliteStore(path)
    await stale.open()
    reported: list[object] = []
    with pytest.RaisesGroup(pytest.RaisesExc(StoreUnavailable, match="taken this journal over")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stale.run, reported.extend)
            path.with_name("journal.db.lock").unlink()
            async with Place(lambda: SqliteStore(path)).serve() as house:
                assert house.store.fence == stale.fence + 1
                await house.durable(Write((event(by="new"),)))
                stale.submit(Write((event(by="stale"),)))
                await trio.sleep_forever()
    await stale.close()
    assert reported == []
    async with Place(lambda: SqliteStore(path)).serve() as house:
        assert [row.data["by"] for row in await house.store.read(after=0)] == ["new"]


async def test_a_newer_schema_is_refused_and_not_changed(path: Path) -> None:
    async with Place(lambda: SqliteStore(path)).serve():
        pass
    sql(path, "PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match=r"newer Enginehouse \(schema 99, known here: 2\)"):
        await SqliteStore(path).open()
    assert sql(path, "PRAGMA user_version") == 99
    assert sql(path, "SELECT value FROM meta WHERE name = 'fence'") == 1


async def test_a_library_that_can_lose_rows_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An apsw that was built on the system's SQLite instead of its own."""
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.40.1")
    with pytest.raises(StoreUnavailable, match=r"SQLite 3\.40\.1"):
        await SqliteStore(path).open()


async def test_files_that_are_not_a_journal_are_refused(path: Path) -> None:
    sql(path, "CREATE TABLE theirs (x)")
    with pytest.raises(StoreUnavailable, match="another program"):
        await SqliteStore(path).open()
    await trio.Path(path).write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await SqliteStore(path).open()
    with pytest.raises(StoreUnavailable):
        await SqliteStore(path / "no" / "such" / "folder").open()


async def test_the_files_are_for_their_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        async with Place(lambda: SqliteStore(path)).serve() as house:
            await house.durable(accept("a"))
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in files_of(path)}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock"), 0o600)


async def test_nothing_is_read_before_open_and_after_close(path: Path) -> None:
    store = SqliteStore(path)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await store.read(after=0)
        await store.open()
        assert await store.read(after=0) == []
        await store.close()
    with pytest.raises(StoreUnavailable):
        await store.bounds()


async def test_a_closed_journal_is_one_file(path: Path) -> None:
    async with Place(lambda: SqliteStore(path)).serve() as house:
        await house.durable(accept("a"))
        assert len(await house.store.read(after=0)) == 1
    assert [file.name for file in files_of(path)] == ["journal.db", "journal.db.lock"]


async def test_closing_leaves_no_thread_and_no_descriptor(path: Path) -> None:
    def held() -> tuple[set[str], list[str]]:
        files = {fd.resolve() for fd in Path("/proc/self/fd").iterdir()}
        threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("journal")]
        return {file.name for file in files if file.parent == path.parent}, threads

    async with Place(lambda: SqliteStore(path)).serve() as house:
        await house.durable(*(Write((event(text="x" * 1000),)) for _ in range(3000)))
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(house.store.tail)
            for _ in range(50):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        files, threads = held()
        assert files
        assert sorted(threads) == ["journal checkpointer", "journal writer"]
    assert held() == (set(), [])


async def test_a_cancelled_read_ends_at_once_and_harms_no_other(path: Path) -> None:
    async with Place(lambda: SqliteStore(path)).serve() as house:
        await house.durable(*(Write((event(n=n),)) for n in range(2000)))
        for tries in range(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(house.store.tail)
                for _ in range(tries):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert len(await house.store.read(after=0, limit=5)) == 5


@pytest.mark.parametrize(
    "code,operation,error,said",
    [
        (apsw.SQLITE_FULL, "write", StorageFull, "disk of the journal is full"),
        (apsw.SQLITE_IOERR_FSYNC, "sync", StoreUnavailable, "I/O error"),
        (apsw.SQLITE_IOERR_WRITE, "write", StoreUnavailable, "I/O error"),
    ],
    ids=["full", "fsync", "write"],
)
@pytest.mark.parametrize("after", [3, 20, 61])
async def test_a_disk_that_breaks_stops_the_store_and_takes_nothing_back(
    path: Path, code: int, operation: str, error: type[StoreUnavailable], said: str, after: int
) -> None:
    """Once only: the disk works again at once, and must not be asked (a second fsync would lie about the first)."""
    seen, later = 0, list[str]()

    def before(what: str, file: str) -> None:
        nonlocal seen
        if seen == after:
            later.append(f"{what} {file}")
        else:
            seen += what == operation and file.endswith("-wal")
            if seen == after:
                raise broken(code)

    store = SqliteStore(path)
    served = Served(store)
    with inserted(Disk()) as disk:
        await store.open()
        disk.before = before
        with pytest.RaisesGroup(pytest.RaisesExc(error, match=said)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.run, served.committed)
                while True:
                    await served.durable(Write((event(text="x" * 3000),)))
        with pytest.raises(StoreUnavailable):
            store.submit(accept("late"))
        await store.close()
        assert later == []
    acknowledged = [commit.write.rows[0].seq for commit in served.commits]
    async with Place(lambda: SqliteStore(path)).serve() as house:
        rows = await house.store.read(after=0, limit=100_000)
        assert [row.seq for row in rows][: len(acknowledged)] == acknowledged
        assert len(acknowledged) <= len(rows) <= len(acknowledged) + 1
        assert await verify_chain(house.store) is None


def damage(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + bytes(len(whole) - 8192))


async def test_an_open_that_failed_can_be_tried_again(path: Path) -> None:
    def before(what: str, file: str) -> None:
        raise broken(apsw.SQLITE_IOERR_WRITE)

    store = SqliteStore(path)
    with inserted(Disk(before)), pytest.raises(StoreUnavailable, match="I/O error"):
        await store.open()
    await store.open()
    await store.close()


async def test_a_damaged_file_is_a_store_that_cannot_be_used(path: Path) -> None:
    async with Place(lambda: SqliteStore(path)).serve() as house:
        await house.durable(*(Write((event(text="x" * 3000),)) for _ in range(100)))
    damage(path)
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailable):
        await store.open()
        await store.read(after=0)
    await store.close()


async def test_changed_and_missing_rows_are_found(path: Path) -> None:
    async with Place(lambda: SqliteStore(path)).serve() as house:
        await house.durable(*(accept(f"c{n}") for n in range(10)))
    sql(path, "UPDATE journal SET body = CAST(replace(body, 'signal', 'sublet') AS BLOB) WHERE seq = 4")
    async with Place(lambda: SqliteStore(path)).serve() as house:
        found = await verify_chain(house.store)
        assert found is not None
        assert (found.seq, found.why) == (4, "altered")
    sql(path, "DELETE FROM journal WHERE seq = 3")
    async with Place(lambda: SqliteStore(path)).serve() as house:
        found = await verify_chain(house.store)
        assert found is not None
        assert (found.seq, found.why) == (3, "gap")
