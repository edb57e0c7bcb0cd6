"""I1 with the power cut: what was acknowledged is in the journal even if every byte that was not synced is lost."""

import random
from pathlib import Path

import pytest
import trio

from protocol.writes import Write
from supervisor.store.audit import verify_chain, verify_records
from supervisor.store.sqlite import SqliteStore, threads
from supervisor.store.sqlite.schema import Synchronous
from tests.supervisor.store.disks import Disk, inserted
from tests.supervisor.store.journals import Place, begin, event, finish, submit

CUTS_PER_LIFE = 5


async def live(seed: int, folder: Path, synchronous: Synchronous) -> list[tuple[Path, int]]:
    """A busy life of a store, with power cuts: the folder of each, and how many rows were acknowledged by then."""
    chance, acknowledged, cuts = random.Random(seed), 0, list[tuple[Path, int]]()

    def before(operation: str, path: str) -> None:
        if len(cuts) < CUTS_PER_LIFE and acknowledged and chance.random() < 0.06:
            cuts.append((folder / f"cut-{seed}-{len(cuts)}", acknowledged))
            disk.cut(chance, cuts[-1][0])

    with inserted(Disk(before)) as disk:
        place = Place(lambda: SqliteStore(folder / "journal.db", synchronous=synchronous, batch=6))
        async with place.serve() as house:
            for n in range(40):
                run = f"r{n}"
                burst = [submit(run), begin(run), *(Write((event(text="x" * 1500, n=n),)) for _ in "abcd"), finish(run)]
                for commit in await house.durable(*burst[: 1 + chance.randrange(len(burst))]):
                    acknowledged = max(acknowledged, commit.write.rows[-1].seq)
    return cuts


async def lost(cut: Path, acknowledged: int) -> int:
    """How many acknowledged rows are not in what the power left; whatever is there must be whole."""
    async with Place(lambda: SqliteStore(cut / "journal.db")).serve() as house:
        rows = await house.store.read(after=0, limit=10_000)
        assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
        assert [row.engine_seq for row in rows] == [row.seq for row in rows]
        assert await verify_chain(house.store) is None
        assert await verify_records(house.store) == []
        await house.durable(Write((event(),)))
    return max(0, acknowledged - len(rows))


def shorten_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """WAL checkpoints and restarts of the log happen all the time, so cuts fall among them."""
    monkeypatch.setattr(threads, "LOG_PAGES", 10)
    monkeypatch.setattr(threads, "LONG_LOG", 40)


async def lose(
    tmp_path: Path, synchronous: Synchronous, monkeypatch: pytest.MonkeyPatch, *, lives: int = 10
) -> list[int]:
    """Half of the lives without a WAL checkpoint, which would make also NORMAL safe now and then, half with many."""
    losses = []
    for seed in range(lives):
        if seed == lives // 2:
            shorten_log(monkeypatch)
        folder = tmp_path / str(seed)
        folder.mkdir()
        for cut, acknowledged in await live(seed, folder, synchronous):
            losses.append(await lost(cut, acknowledged))
            print(cut.name, acknowledged, losses[-1])  # noqa: T201 - the seed of a failure
    return losses


@pytest.mark.parametrize("lives", [10, pytest.param(4000, marks=pytest.mark.torture)])  # about five cuts each
async def test_a_power_cut_loses_nothing_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lives: int
) -> None:
    losses = await lose(tmp_path, "FULL", monkeypatch, lives=lives)
    assert len(losses) >= 4.5 * lives
    assert not any(losses)


async def test_the_same_cuts_lose_acknowledged_rows_without_a_sync_per_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = await lose(tmp_path, "NORMAL", monkeypatch)
    assert sum(loss > 0 for loss in losses) > 5


async def test_the_log_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it never comes to rest, so that no checkpoint beside the writer ever catches up with it."""
    shorten_log(monkeypatch)
    place = Place(lambda: SqliteStore(tmp_path / "journal.db", batch=1))
    with inserted(Disk()):  # whose syncs cost nothing
        async with place.serve() as house:
            await house.durable(*(Write((event(text="x" * 1500),)) for _ in range(1500)))
            pages = (await trio.Path(tmp_path / "journal.db-wal").stat()).st_size // 4096
    assert pages < 1000, "all of it would be more than 2,000"
