"""What a simulation needs of the store in memory: virtual delays, faults and kills at chosen moments, no chance."""

import random
from collections.abc import Sequence

import pytest
import trio
import trio.testing

from protocol.errors import StorageFull, StoreUnavailable
from protocol.writes import Write
from supervisor.store.audit import verify_chain
from supervisor.store.ledger import Batch, Entry
from supervisor.store.memory import Journal, MemoryStore
from tests.supervisor.store.journals import Place, Served, accept, event


class Slow(MemoryStore):
    """Each commit takes three writes at most and two seconds."""

    def cut(self, queued: int) -> int:
        return min(queued, 3)

    async def sync(self, batch: Sequence[Write]) -> None:
        await trio.sleep(2)


async def test_sync_is_the_time_that_a_commit_takes(autojump_clock: trio.testing.MockClock) -> None:
    async with Place(Slow).serve() as house:
        began = trio.current_time()
        await house.durable(*(Write((event(),)) for _ in range(7)))
        assert trio.current_time() - began == 6
        assert house.store.statistics().last_commit_s == 2
        assert house.store.statistics().commits == 3


async def test_a_kill_before_the_commit_leaves_nothing_of_the_batch(autojump_clock: trio.testing.MockClock) -> None:
    journal = Journal()
    store = Slow(journal)
    await store.open()
    served = Served(store)
    with trio.move_on_after(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.run, served.committed)
            for n in range(5):
                store.submit(accept(f"c{n}", key=f"k{n}"))
    assert [commit.write.rows[0].seq for commit in served.commits] == [1, 2, 3]
    async with Place(lambda: MemoryStore(journal)).serve() as house:
        assert [row.seq for row in await house.store.read(after=0)] == [1, 2, 3]
        (commit,) = await house.durable(accept("again", key="k4"))
        assert (commit.replay, commit.write.rows[0].seq) == (None, 4)
        assert await verify_chain(house.store) is None


async def test_a_kill_after_the_commit_leaves_a_durable_batch_that_nobody_heard_of() -> None:
    class Killed(MemoryStore):
        def commit(self, batch: Sequence[Entry]) -> Batch:
            super().commit(batch)
            raise KeyboardInterrupt

    journal = Journal()
    store = Killed(journal)
    await store.open()
    served = Served(store)
    store.submit(accept("first", key="k"))
    with pytest.raises(KeyboardInterrupt):
        await store.run(served.committed)
    assert served.commits == []
    async with Place(lambda: MemoryStore(journal)).serve() as house:
        (commit,) = await house.durable(accept("second", key="k"))
        assert commit.replay is not None
        assert commit.replay.command_id == "first"


async def test_a_fault_in_sync_ends_run_and_the_store() -> None:
    class Full(MemoryStore):
        async def sync(self, batch: Sequence[Write]) -> None:
            await super().sync(batch)
            raise StorageFull("no room")

    store = Full()
    await store.open()
    served = Served(store)
    store.submit(accept("a"))
    with pytest.raises(StorageFull):
        await store.run(served.committed)
    with pytest.raises(StoreUnavailable):
        store.submit(accept("b"))
    await store.close()
    assert served.commits == []
    assert store.journal.rows == []


async def test_a_second_store_on_a_journal_fences_the_first() -> None:
    journal = Journal()
    stale = MemoryStore(journal)
    await stale.open()
    async with Place(lambda: MemoryStore(journal)).serve() as house:
        assert house.store.fence == stale.fence + 1
        stale.submit(accept("a"))
        with pytest.raises(StoreUnavailable, match="taken this journal over"):
            await stale.run(lambda commits: None)
        await house.durable(accept("b"))
    assert [kept.command_id for kept in journal.rows] == ["b"]


async def test_the_same_seed_makes_the_same_journal() -> None:
    journals = []
    for _ in range(2):
        journal = Journal()
        async with Place(lambda: MemoryStore(journal, randbits=random.Random(7).getrandbits)).serve() as house:  # noqa: B023 - used within the turn
            await house.durable(*(accept(f"c{n}", f"u{n % 3}", key=f"k{n % 4}") for n in range(10)))
        journals.append((journal.era, journal.rows))
    assert journals[0] == journals[1]
