"""Each sentence of the store's contract, asked of every store there is."""

import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from protocol.errors import StoreUnavailable
from protocol.events import Row
from protocol.records import CommandRecord
from protocol.runs import Run, RunStatus
from protocol.writes import Document, Replay, Snapshot, Write
from supervisor.store.audit import verify_chain, verify_records
from supervisor.store.contract import Bounds, Page
from supervisor.store.memory import Journal, MemoryStore
from supervisor.store.sqlite import SqliteStore
from tests.supervisor.store.journals import (
    AnyStore,
    Place,
    accept,
    begin,
    event,
    finish,
    in_memory,
    in_sqlite,
    submit,
)


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return in_memory() if request.param == "memory" else in_sqlite(tmp_path)


async def everything(store: AnyStore) -> list[Row]:
    return await store.read(after=0, limit=100_000)


async def test_the_order_of_submit_is_the_order_of_the_journal_and_of_the_callback(place: Place) -> None:
    writes = [Write((event(n=n), event(f"u{n % 3}", n=n))) for n in range(300)]
    async with place.serve() as house:
        await house.durable(*writes)
        assert [commit.write for commit in house.commits] == writes
        assert [row.data["n"] for row in await everything(house.store)] == [n for n in range(300) for _ in "ab"]


async def test_a_row_has_its_numbers_when_it_is_durable_and_not_before(place: Place) -> None:
    write = Write((event(), event("u2")))
    async with place.serve() as house:
        house.store.submit(write)
        assert [(row.seq, row.wire) for row in write.rows] == [(0, b""), (0, b"")]
        await house.durable(accept("c"))
        assert [row.wire for row in write.rows] == [row.wire for row in await house.store.read(after=0, until=2)]
        assert write.rows[0].wire.startswith(b'{"seq":1,"engine_seq":1,"id":"%s.1",' % house.store.era.encode())


async def test_numbers_are_dense_for_the_journal_and_for_each_engine_also_over_a_restart(place: Place) -> None:
    for _ in range(2):
        async with place.serve() as house:
            await house.durable(*(Write((event(f"u{n % 3}"),)) for n in range(30)))
    async with place.serve() as house:
        rows = await everything(house.store)
        assert [row.seq for row in rows] == list(range(1, 61))
        for uid in ("u0", "u1", "u2"):
            assert [row.engine_seq for row in rows if row.uid == uid] == list(range(1, 21))


async def test_rows_of_the_house_and_audit_rows_have_no_engine_seq(place: Place) -> None:
    async with place.serve() as house:
        await house.durable(Write((event(), Row("server.started", "t", {}), event("u1", "audit.command"), event())))
        assert [row.engine_seq for row in await everything(house.store)] == [1, 0, 0, 2]


async def test_what_is_read_is_what_was_written(place: Place) -> None:
    row = event(run_id="r", command_id="c", principal="älice", text="a\u2028b\0", number=1.5, nothing=None)
    async with place.serve() as house:
        await house.durable(Write((row,)))
        (read,) = await everything(house.store)
        for member in ("type", "time", "data", "uid", "engine_id", "pool", "incarnation", "run_id", "command_id"):
            assert getattr(read, member) == getattr(row, member)
        assert (read.principal, read.seq, read.engine_seq, read.wire) == ("älice", 1, 1, row.wire)


async def test_a_second_write_under_a_key_is_a_replay_and_stores_nothing(place: Place) -> None:
    async with place.serve() as house:
        first = accept("first", key="k", digest="one")
        await house.durable(Write((event(),)), first)
        second = accept("second", key="k", digest="two")
        second.documents = (Document(table="t", id="i", body=1),)
        (commit,) = await house.durable(second)
        assert commit.replay == Replay(command_id="first", digest="one", seq=2, uid="u1")
        assert second.rows[0].seq == 0
        assert len(await everything(house.store)) == 2
        assert await house.store.documents("t") == []
        assert await house.store.get("command", "second") is None


async def test_a_key_is_taken_within_a_batch_and_over_a_restart(place: Place) -> None:
    async with place.serve() as house:
        commits = await house.durable(accept("a", key="k"), accept("b", key="k"), accept("c", key="l"))
        assert [commit.replay and commit.replay.command_id for commit in commits] == [None, "a", None]
        assert [row.seq for commit in commits for row in commit.write.rows] == [1, 0, 2]
    async with place.serve() as house:
        (commit,) = await house.durable(accept("d", key="k"))
        assert commit.replay is not None
        assert commit.replay.command_id == "a"


async def test_a_key_belongs_to_its_principal(place: Place) -> None:
    async with place.serve() as house:
        commits = await house.durable(*(accept(f"c{by}", key="k", by=by) for by in ("alice", "bob", None)))
        assert [commit.replay for commit in commits] == [None, None, None]
        for by in ("alice", "bob", None):
            replay = await house.store.key(by, "k")
            assert replay is not None
            assert replay.command_id == f"c{by}"
        assert await house.store.key("carol", "k") is None
        assert await house.store.key("alice", "other") is None


async def test_commands_without_a_key_are_never_replays(place: Place) -> None:
    async with place.serve() as house:
        commits = await house.durable(accept("a"), accept("b"), accept("c"))
        assert [commit.replay for commit in commits] == [None, None, None]


async def test_reading_by_position_engine_run_and_limit(place: Place) -> None:
    async with place.serve() as house:
        await house.durable(*(Write((event(f"u{n % 2}", run_id=f"r{n % 5}"),)) for n in range(20)))
        read = house.store.read

        async def seqs(**filters: object) -> list[int]:
            return [row.seq for row in await read(**{"after": 0, **filters})]  # type: ignore[arg-type]  # as below

        assert await seqs(after=17) == [18, 19, 20]
        assert await seqs(until=3) == [1, 2, 3]
        assert await seqs(after=2, until=8, uid="u0") == [3, 5, 7]
        assert await seqs(uid="u1", limit=2) == [2, 4]
        assert await seqs(run_id="r0") == [1, 6, 11, 16]
        assert await seqs(run_id="r0", uid="u1") == [6, 16]
        assert await seqs(after=20) == []
        assert await seqs(uid="nobody") == []


async def test_records_follow_their_rows(place: Place) -> None:
    async with place.serve() as house:
        await house.durable(submit("r1"), begin("r1"))
        run, command = await house.store.get("run", "r1"), await house.store.get("command", "cmd-r1")
        assert isinstance(run, Run)
        assert isinstance(command, CommandRecord)
        assert (run.status, run.attempts, run.seq) == (RunStatus.RUNNING, 1, 2)
        assert (command.state, command.seq) == ("started", 1)
        await house.durable(finish("r1"))
    async with place.serve() as house:
        run, command = await house.store.get("run", "r1"), await house.store.get("command", "cmd-r1")
        assert isinstance(run, Run)
        assert isinstance(command, CommandRecord)
        assert (run.status, run.result, run.seq) == (RunStatus.COMPLETED, "r1", 2)
        assert (command.state, command.result) == ("completed", "r1")
        assert await house.store.get("run", "r2") is None
        assert await house.store.get("command", "r1") is None


async def test_a_record_that_was_given_is_the_callers_own(place: Place) -> None:
    async with place.serve() as house:
        await house.durable(submit("r1"))
        run = await house.store.get("run", "r1")
        assert isinstance(run, Run)
        run.status = RunStatus.FAILED
        await house.durable(begin("r1"))
        run = await house.store.get("run", "r1")
        assert isinstance(run, Run)
        assert run.status is RunStatus.RUNNING


async def test_lists_are_filtered_newest_first_and_paged(place: Place) -> None:
    async with place.serve() as house:
        for n in range(6):
            await house.durable(submit(f"r{n}", f"u{n % 2}", pool=f"p{n % 3}"))
        await house.durable(begin("r1", "u1"), begin("r2", "u0"), finish("r2", "u0"))

        async def ids(**page: object) -> list[str]:
            return [record.id for record in await house.store.list("run", Page(**page))]  # type: ignore[arg-type]  # members of Page

        assert await ids() == ["r5", "r4", "r3", "r2", "r1", "r0"]
        assert await ids(uid="u1") == ["r5", "r3", "r1"]
        assert await ids(pools=("p2",)) == ["r5", "r2"]
        assert await ids(pools=("p2", "p0")) == ["r5", "r3", "r2", "r0"]
        assert await ids(pools=()) == []
        assert await ids(pools=("p2",), uid="u0") == ["r2"]
        assert await ids(statuses=("running", "completed")) == ["r2", "r1"]
        assert await ids(statuses=("queued",), uid="u0") == ["r4", "r0"]
        assert await ids(statuses=("queued", "running", "queued"), limit=3) == ["r5", "r4", "r3"]
        assert await ids(statuses=()) == []
        found: list[str] = []
        before = None
        while page := await house.store.list("run", Page(before=before, limit=4)):
            found += [record.id for record in page]
            before = page[-1].seq
        assert found == ["r5", "r4", "r3", "r2", "r1", "r0"]
        assert [r.id for r in await house.store.list("command", Page(limit=1))] == ["cmd-r5"]
        assert await house.store.list("request", Page()) == []


async def test_documents_are_replaced_and_deleted(place: Place) -> None:
    def put(name: str, body: object, table: str = "pool") -> Write:
        return Write(documents=(Document(table=table, id=name, body=body),))

    async with place.serve() as house:
        await house.durable(put("b", [1, None]), put("a", {"x": 1}), put("b", 2), put("c", 3), put("c", None))
        await house.durable(put("a", "other", table="key"), put("d", None))
        expected = [Document(table="pool", id="a", body={"x": 1}), Document(table="pool", id="b", body=2)]
        assert await house.store.documents("pool") == expected
        await house.durable(put("a", None))
    async with place.serve() as house:
        assert await house.store.documents("pool") == expected[1:]
        assert await house.store.documents("key") == [Document(table="key", id="a", body="other")]


async def test_the_tail_is_what_no_snapshot_covers(place: Place) -> None:
    async with place.serve() as house:
        await house.durable(Write((event(), event("u2"), event("u3"), event(), event("u2"))))
        assert [row.seq for row in await house.store.tail()] == [1, 2, 3, 4, 5]
        old, new = (Snapshot(uid="u1", seq=n, engine_seq=n, body=b"%d" % n) for n in (1, 4))
        await house.durable(Write(snapshots=(old,)))
        assert [row.seq for row in await house.store.tail()] == [2, 3, 4, 5]
        other = Snapshot(uid="u2", seq=2, engine_seq=1, body=b"other")
        await house.durable(Write((event("u1"),), snapshots=(new, other)))
        await house.durable(Write((Row("server.started", "t", {}), event("u1", "audit.command"))))
    async with place.serve() as house:
        assert await house.store.snapshots() == [new, other]
        assert [(row.seq, row.uid) for row in await house.store.tail()] == [(3, "u3"), (5, "u2"), (6, "u1")]


async def test_the_bounds_of_a_journal(place: Place) -> None:
    async with place.serve() as house:
        assert await house.store.bounds() == Bounds(1, 0)
        await house.durable(Write((event(), event())))
        assert await house.store.bounds() == Bounds(1, 2)


async def test_trimming_takes_only_what_a_snapshot_covers_and_what_has_ended(place: Place) -> None:
    async with place.serve() as house:
        await house.durable(submit("r1"), submit("r2"), begin("r1"), finish("r1"), Write((event(), event("u2"))))
        assert await house.store.trim(100) == 0
        await house.durable(Write(snapshots=(Snapshot(uid="u1", seq=8, engine_seq=8, body=b"{}"),)))
        assert await house.store.trim(8) == 5
        assert [row.seq for row in await everything(house.store)] == [3, 4, 8, 9]
        assert await house.store.bounds() == Bounds(8, 9)
        assert await house.store.trim(9) == 1
        assert await house.store.get("run", "r1") is not None
        assert await verify_chain(house.store) is None
        assert await verify_records(house.store) == []
        await house.durable(finish("r2"))
        assert await verify_chain(house.store) is None


async def test_numbers_go_on_after_everything_was_trimmed(place: Place) -> None:
    async with place.serve() as house:
        await house.durable(Write((event(), event(), Row("server.started", "t", {}))))
        await house.durable(Write(snapshots=(Snapshot(uid="u1", seq=2, engine_seq=2, body=b"{}"),)))
        assert await house.store.trim(100) == 3
        assert await house.store.bounds() == Bounds(4, 3)
    async with place.serve() as house:
        assert await house.store.bounds() == Bounds(4, 3)
        await house.durable(Write((event(),)))
        (row,) = await everything(house.store)
        assert (row.seq, row.engine_seq) == (4, 3)
        assert await verify_chain(house.store) is None


async def test_a_disposed_engine_is_forgotten_with_its_last_row(place: Place) -> None:
    async with place.serve() as house:
        await house.durable(submit("r1", key="k"), begin("r1"), finish("r1"), submit("r9", "u9"))
        gone = event("u1", "engine.disposed", leaks=[], dead_letters=0)
        await house.durable(Write((gone,)))
        await house.durable(Write(snapshots=(Snapshot(uid="u1", seq=gone.seq, engine_seq=6, body=b"{}"),)))
        assert await house.store.trim(gone.seq) == 5
        assert await house.store.get("run", "r1") is not None
        assert await house.store.trim(gone.seq + 1) == 1
        assert await house.store.get("run", "r1") is None
        assert await house.store.get("command", "cmd-r1") is None
        assert await house.store.key("alice", "k") is None
        assert await house.store.snapshots() == []
        assert await house.store.get("run", "r9") is not None
        assert await verify_records(house.store) == []


async def test_closing_makes_everything_durable_that_was_submitted(place: Place) -> None:
    async with place.serve() as house:
        for n in range(700):
            house.store.submit(Write((event(n=n),)))
    assert len(house.commits) == 700
    assert house.commits[-1].write.rows[0].seq == 700
    async with place.serve() as house:
        assert len(await everything(house.store)) == 700


async def test_nothing_is_taken_before_open_and_after_close(place: Place) -> None:
    store = place.make()
    with pytest.raises(StoreUnavailable):
        store.submit(accept("a"))
    await store.close()
    async with place.serve() as house:
        await house.durable(accept("b"))
    with pytest.raises(StoreUnavailable):
        house.store.submit(accept("c"))
    await house.store.close()


async def test_a_store_may_be_opened_again_after_it_was_closed(place: Place) -> None:
    store = place.make()
    for n in range(3):
        await store.open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.run, lambda commits: None)
            store.submit(accept(f"c{n}"))
            assert (await store.bounds()).latest in (n, n + 1)
            await store.close()


async def test_what_was_lost_with_a_cancelled_run_does_not_come_back(place: Place) -> None:
    store = place.make()
    await store.open()
    store.submit(accept("lost"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.run(lambda commits: None)
    await store.close()
    await store.open()
    latest = (await store.bounds()).latest
    assert store.statistics().queued_writes == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run, lambda commits: None)
        write = accept("next")
        store.submit(write)
        await store.close()
    assert write.rows[0].seq == latest + 1


async def test_closing_twice_at_once_is_closing_once(place: Place) -> None:
    async with place.serve() as house:
        house.store.submit(accept("a"))
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(house.store.close)
    assert len(house.commits) == 1


async def test_a_write_that_is_not_json_is_refused_and_nothing_else(place: Place) -> None:
    async with place.serve() as house:
        for wrong in (event(x=math.nan), event(x="\ud800"), event(x=object()), event("u1", "run.progress")):
            with pytest.raises((ValueError, TypeError)):
                house.store.submit(Write((event(), wrong)))
        await house.durable(Write((event(),)))
        assert len(await everything(house.store)) == 1
        assert house.store.statistics().queued_writes == 0


async def test_an_error_in_the_callback_ends_run_with_it(place: Place) -> None:
    store = place.make()
    await store.open()

    def wrong(commits: object) -> None:
        raise LookupError("the callback's own")

    with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="the callback's own")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.run, wrong)
            store.submit(accept("a"))
    with pytest.raises(StoreUnavailable):
        store.submit(accept("b"))
    await store.close()
    async with place.serve() as house:
        assert len(await everything(house.store)) == 1


async def test_a_cancelled_run_stops_between_batches_and_leaves_a_prefix(place: Place) -> None:
    store = place.make()
    await store.open()
    reported: list[object] = []
    some = trio.Event()

    def committed(commits: Sequence[object]) -> None:
        reported.extend(commits)
        some.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run, committed)
        for n in range(2000):
            store.submit(Write((event(n=n), event(n=n))))
        await some.wait()
        nursery.cancel_scope.cancel()
    with pytest.raises(StoreUnavailable):
        store.submit(accept("late"))
    await store.close()
    async with place.serve() as house:
        rows = await everything(house.store)
        assert [row.data["n"] for row in rows] == [n for n in range(len(rows) // 2) for _ in "ab"]
        assert len(reported) * 2 <= len(rows) < 4000


async def test_the_era_stays_and_the_fence_rises(place: Place) -> None:
    seen = []
    for _ in range(3):
        async with place.serve() as house:
            seen.append((house.store.era, house.store.fence))
    eras, fences = zip(*seen, strict=True)
    assert len(set(eras)) == 1
    assert len(bytes.fromhex(eras[0])) == 4
    assert sorted(set(fences)) == list(fences)


async def test_statistics_count_what_is_not_durable_yet(place: Place) -> None:
    async with place.serve() as house:
        house.store.submit(accept("a"))
        house.store.submit(accept("b"))
        waiting = house.store.statistics()
        assert (waiting.queued_writes, waiting.commits, waiting.rows) == (2, 0, 0)
        assert waiting.queued_bytes > 200
        await house.durable(Write((event(), event())))
        done = house.store.statistics()
        assert (done.queued_writes, done.queued_bytes, done.rows) == (0, 0, 4)
        assert 1 <= done.commits <= 3
        assert done.last_commit_s >= 0


async def test_every_row_is_linked_to_the_one_before(place: Place) -> None:
    async with place.serve() as house:
        await house.durable(*(Write((event(f"u{n}"),)) for n in range(10)))
        assert await verify_chain(house.store) is None


@pytest.mark.parametrize("seed", range(5))
async def test_memory_and_sqlite_keep_the_same_journal(seed: int, tmp_path: Path) -> None:
    """One seeded life, told to both, with restarts and trims: rows, records, snapshots, bounds and tails are equal."""
    path = tmp_path / "journal.db"
    first = SqliteStore(path)
    await first.open()
    journal = Journal(era=first.era)
    await first.close()
    places = (Place(lambda: MemoryStore(journal)), Place(lambda: SqliteStore(path, batch=7)))
    runs = itertools.count()
    states: dict[str, tuple[str, str]] = {}
    chance = random.Random(seed)
    for _ in range(4):
        async with places[0].serve() as memory, places[1].serve() as sqlite:
            for _ in range(12):
                plans = [_step(chance, runs, states) for _ in range(chance.randrange(1, 9))]
                snapshot = chance.random() < 0.3
                for house in (memory, sqlite):
                    await house.durable(*(make() for make in plans))
                    if snapshot:
                        latest = (await house.store.bounds()).latest
                        await house.durable(
                            Write(
                                snapshots=tuple(Snapshot(uid=f"u{n}", seq=latest, engine_seq=0, body=b"") for n in "01")
                            )
                        )
                if chance.random() < 0.2:
                    before = chance.randrange((await memory.store.bounds()).latest + 2)
                    assert await memory.store.trim(before) == await sqlite.store.trim(before)
            seen = []
            for store in (memory.store, sqlite.store):
                assert await verify_chain(store) is None
                assert await verify_records(store) == []
                seen.append(
                    (
                        [(row.uid, row.wire) for row in await everything(store)],
                        [await store.list(kind, Page(limit=1000)) for kind in ("run", "command")],
                        [row.seq for row in await store.tail()],
                        await store.snapshots(),
                        await store.bounds(),
                        await store.links(after=0, limit=10_000),
                    )
                )
            assert seen[0] == seen[1]


def _step(chance: random.Random, runs: "itertools.count[int]", states: dict[str, tuple[str, str]]):  # type: ignore[no-untyped-def]  # a closure
    """The next write of a life, as a function: rows belong to one store each."""
    alive = [run for run, (state, _) in states.items() if state != "done"]
    if alive and chance.random() < 0.6:
        run = chance.choice(alive)
        state, uid = states[run]
        if state == "queued":
            states[run] = ("running", uid)
            return lambda: begin(run, uid)
        states[run] = ("done", uid)
        return lambda: finish(run, uid)
    uid, key = f"u{chance.randrange(3)}", f"k{chance.randrange(40)}"
    if chance.random() < 0.5:
        return lambda: accept(f"c-{key}", uid, key=key)
    run = f"r{next(runs)}"
    states[run] = ("queued", uid)
    return lambda: submit(run, uid)
