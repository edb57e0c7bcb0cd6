"""Streams: each visible durable event once and in order, whatever the reader's pace and however often it reconnects."""

import json
import random
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors.engine import Engine, RunInput
from protocol.bodies import NewPool
from protocol.errors import EventIdExpired, InvalidEventId, NotFound
from protocol.events import Row
from supervisor import EmbeddedHouse, Filter, Frame, NewEngine, NewRun, Subscription, open_supervisor
from supervisor.rings import ENGINE_ROWS, HOUSE_ROWS
from supervisor.store.memory import Journal
from supervisor.store.sqlite import SqliteStore
from tests.supervisor.houses import ALICE, KINDS, a_house, in_virtual_time, journaled, run_until, spawn, submit, until


class Talker(Engine):
    """Runs say so many durable and transient things."""

    kind = "talker"

    async def on_run(self, ctx: Any, run: RunInput) -> Any:
        durable, transient = run.input
        for n in range(max(durable, transient)):
            if n < transient:
                ctx.progress({"n": n})
            if n < durable:
                await ctx.emit("talker.said", {"n": n})


ALL = (*KINDS, Talker)


async def drain(stream: Subscription) -> list[Frame]:
    """What a stream has for now."""
    frames: list[Frame] = []
    with trio.move_on_after(0.5):
        while True:
            frames += await stream.receive()
    return frames


async def to_end(stream: Subscription) -> list[Frame]:
    frames: list[Frame] = []
    try:
        while True:
            frames += await stream.receive()
    except trio.EndOfChannel:
        return frames


def seqs(frames: list[Frame]) -> list[int]:
    return [int(frame.id.partition(".")[2]) for frame in frames if frame.id and frame.event not in ("end", "snapshot")]


async def visible(house: EmbeddedHouse, after: int = 0, engine: str | None = None) -> list[int]:
    uid = house.supervisor.view(engine).spec.uid if engine else None
    rows = await house.supervisor.store.read(after=after, uid=uid, limit=1_000_000)
    return [row.seq for row in rows if not row.type.startswith("audit.")]


# -- order and completeness --------------------------------------------------------------------------------------------
async def test_a_backlog_and_what_follows_are_one_stream(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "talker")
        await house.submit("a", NewRun(input=[2000, 0]), wait_s=5)
        async with house.events(after="0") as stream:
            frames: list[Frame] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: house.submit("a", NewRun(input=[2000, 0]), wait_s=5))
                frames += await drain(stream)
            frames += await drain(stream)
        assert seqs(frames) == await visible(house)
        rows = await journaled(house.supervisor.store)
        assert [frame.data for frame in frames if frame.id] == [row.wire for row in rows]


async def test_a_stream_without_a_position_begins_at_the_present(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "talker")
        at = house.supervisor.folded
        async with house.events() as stream:
            assert await drain(stream) == []
            await house.submit("a", NewRun(input=[3, 0]), wait_s=5)
            assert seqs(await drain(stream)) == await visible(house, at)


async def test_a_reader_that_fell_off_the_ring_goes_on_in_the_journal(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "talker")
        at = house.supervisor.folded
        async with house.events() as all_, house.events(Filter(engine="a")) as one:
            for _ in range(3):
                await house.submit("a", NewRun(input=[HOUSE_ROWS, 0]), wait_s=5)
            assert seqs(await drain(all_)) == seqs(await drain(one)) == await visible(house, at)
            await house.submit("a", NewRun(input=[5, 0]), wait_s=5)
            assert len(seqs(await drain(one))) == 5 + 5  # and its accepted, queued, started, completed, settled


@settings(max_examples=25)
@given(st.integers(0, 2**32))
def test_joined_connections_give_each_event_once_and_in_order(seed: int) -> None:
    async def main() -> None:
        rng = random.Random(seed)
        journal = Journal()
        async with a_house(journal, kinds=ALL) as house:
            for name in ("a", "b"):
                await spawn(house, name, "talker")
            engine = rng.choice([None, "a"])
            chosen = Filter(engine=engine)
            got: list[int] = []
            done = trio.Event()

            async def read() -> None:
                last = "0"
                while True:
                    async with house.events(chosen, after=last) as stream:
                        for _ in range(rng.randrange(1, 8)):
                            with trio.move_on_after(rng.random() * 0.3) as scope:
                                for frame in await stream.receive():
                                    if frame.id:
                                        got.append(int(frame.id.partition(".")[2]))
                                        last = frame.id
                            if scope.cancelled_caught and done.is_set():
                                return
                            if rng.random() < 0.3:
                                await trio.sleep(rng.random())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                for _ in range(rng.randrange(2, 8)):
                    said = [rng.choice([1, 10, ENGINE_ROWS, 1500]), rng.choice([0, 3, 400])]
                    await house.submit(rng.choice("ab"), NewRun(input=said), wait_s=rng.choice([None, 1.0]))
                    await trio.sleep(rng.random() * 0.2)
                await trio.sleep(3)
                done.set()
            assert got == await visible(house, 0, engine)

    in_virtual_time(main)


async def test_on_sqlite_a_slow_reader_misses_nothing(tmp_path: Any) -> None:
    async with open_supervisor(store=SqliteStore(tmp_path / "journal.db"), kinds=ALL, grace_s=1) as house:
        await house.spawn(NewEngine(kind="talker", id="a"))
        async with house.events(after="0") as stream:
            for _ in range(2):
                await house.submit("a", NewRun(input=[HOUSE_ROWS, 0]), wait_s=20)
            latest, got = house.supervisor.folded, list[int]()
            while not got or got[-1] < latest:
                got += seqs(await stream.receive())
            assert got == list(range(1, latest + 1))


async def test_a_cancelled_receive_loses_nothing(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "talker")
        await house.submit("a", NewRun(input=[1500, 0]), wait_s=5)
        async with house.events(after="0") as stream:
            frames: list[Frame] = []
            for _ in range(100):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    frames += await stream.receive()
                with trio.move_on_after(0.01):
                    frames += await stream.receive()
            assert seqs(frames) == await visible(house)


async def test_a_stream_goes_on_over_a_restart(autojump_clock: MockClock) -> None:
    journal = Journal()
    async with a_house(journal, kinds=ALL) as house:
        await spawn(house, "a", "talker")
        async with house.events(after="0") as stream:
            before = await drain(stream)
    async with a_house(journal, kinds=ALL) as house, house.events(after=before[-1].id) as stream:
        await house.submit("a", NewRun(input=[1, 0]), wait_s=5)
        after = await drain(stream)
        assert seqs(before) + seqs(after) == await visible(house)


# -- positions ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("after", ["x", "-1", "1", "00000000.", "0.1", "deadbeef.01", "deadbeef.1 "])
async def test_a_malformed_position_is_refused(autojump_clock: MockClock, after: str) -> None:
    async with a_house() as house:
        with pytest.raises(InvalidEventId):
            async with house.events(after=after):
                pass
        with pytest.raises(InvalidEventId):
            await house.event_page(after=after)


async def test_future_foreign_and_trimmed_positions(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "talker")
        await house.submit("a", NewRun(input=[20, 0]), wait_s=5)
        await house.stop("a")
        await until(house, "a", "stopped")
        store = house.supervisor.store
        latest = house.supervisor.folded
        with pytest.raises(InvalidEventId, match="not happened"):
            async with house.events(after=f"{store.era}.{latest + 1}"):
                pass
        with pytest.raises(EventIdExpired):
            async with house.events(after=f"{'0' * 8}.1"):
                pass
        await house.supervisor.intake.write_and_wait(())
        async with house.events(after=f"{store.era}.3") as slow:
            await store.trim(latest - 3)
            with pytest.raises(EventIdExpired) as expired:
                async with house.events(after=f"{store.era}.3"):
                    pass
            oldest = (await store.bounds()).oldest
            assert expired.value.extra == {"oldest": f"{store.era}.{oldest}", "latest": f"{store.era}.{latest}"}
            async with house.events(after="0") as stream:
                assert seqs(await drain(stream))[0] == oldest
            del slow
        with pytest.raises(NotFound):
            async with house.events(Filter(engine="nobody")):
                pass
        with pytest.raises(NotFound):
            async with house.events(Filter(run="run_none")):
                pass


async def test_what_was_trimmed_beneath_a_reader_is_told(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "talker")
        at = house.supervisor.folded
        async with house.events() as stream:
            await house.submit("a", NewRun(input=[HOUSE_ROWS + 500, 0]), wait_s=5)
            await house.stop("a")
            await until(house, "a", "stopped")
            await house.supervisor.intake.write_and_wait(())
            await house.supervisor.store.trim(house.supervisor.folded - 10)
            oldest = (await house.supervisor.store.bounds()).oldest
            gap, *frames = await drain(stream)
            assert (gap.event, gap.id) == ("gap", None)
            assert json.loads(gap.data) == {"from": at + 1, "to": oldest - 1, "reason": "compacted"}
            assert seqs(frames) == await visible(house)


# -- filters -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "chosen, shows",
    [
        (Filter(types=("run",)), lambda e: e["type"].startswith("run.")),
        (Filter(types=("run.completed", "command")), lambda e: e["type"].startswith(("run.completed", "command."))),
        (Filter(types=("run.com",)), lambda e: False),
        (Filter(pools=("p",)), lambda e: e["pool"] == "p"),
        (Filter(kinds=("talker",)), lambda e: e["engine_id"] == "b"),
        (Filter(engine="a"), lambda e: e["engine_id"] == "a"),
        (Filter(slices=("progress",)), lambda e: True),
        (Filter(slices=("plan",), types=("state",)), lambda e: False),
    ],
)
async def test_filters(autojump_clock: MockClock, chosen: Filter, shows: Any) -> None:
    async with a_house(kinds=ALL) as house:
        await house.create_pool(NewPool(id="p"))
        await spawn(house, "a", "probe", pool="p")
        await spawn(house, "b", "talker")
        await house.submit("a", NewRun(input={"steps": 2}), wait_s=5)
        await house.submit("b", NewRun(input=[2, 2]), wait_s=5)
        wanted = [e for e in (await house.event_page(after="0", limit=1000)).items if shows(e)]
        async with house.events(chosen, after="0") as stream:
            assert [json.loads(f.data) for f in await drain(stream) if f.id] == wanted
        page = await house.event_page(chosen, after="0", limit=1000)
        assert page.items == wanted
        assert page.next_after == page.latest


async def test_events_of_a_run_that_is_not_there_are_refused(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        for wanted in (Filter(run="run_nope"), Filter(engine="nope")):
            with pytest.raises(NotFound):
                async with house.events(wanted):
                    pass
            with pytest.raises(NotFound):
                await house.event_page(wanted, after="0")


async def test_audit_rows_stay_out(autojump_clock: MockClock) -> None:
    async with a_house() as house, house.events() as stream:
        await house.supervisor.intake.write_and_wait((Row("audit.test", house.supervisor.stamp(), {}),))
        assert await drain(stream) == []
        assert (await house.event_page(after="0")).items == []


# -- transient rows ----------------------------------------------------------------------------------------------------
async def test_transient_rows_have_no_id_and_come_between(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "talker")
        async with house.events(Filter(types=("run.progress", "talker"))) as stream:
            await house.submit("a", NewRun(input=[3, 3]), wait_s=5)
            frames = await drain(stream)
        assert sorted(f.event for f in frames) == ["run.progress"] * 3 + ["talker.said"] * 3
        for frame in frames:
            assert (frame.id is None) == (frame.event == "run.progress")
            assert ("seq" in json.loads(frame.data)) == (frame.id is not None)


async def test_a_reader_too_slow_for_transient_rows_is_told_how_many(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "talker")
        async with house.events(Filter(engine="a")) as stream, house.events(Filter(engine="a", types=("run",))) as runs:
            await house.submit("a", NewRun(input=[0, 1000]), wait_s=5)
            frames = await drain(stream)
            missed = sum(json.loads(f.data)["count"] for f in frames if f.event == "gap")
            assert missed + sum(f.event == "run.progress" for f in frames) == 1000
            assert missed >= 1000 - ENGINE_ROWS
            await house.submit("a", NewRun(input=[0, 10]), wait_s=5)
            assert [f.event for f in await drain(stream)].count("run.progress") == 10
            del runs


async def test_who_wants_no_transient_rows_is_not_told_of_any(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "talker")
        async with house.events(Filter(engine="a", types=("command",))) as stream:
            await house.submit("a", NewRun(input=[0, 1000]), wait_s=5)
            assert [f.event for f in await drain(stream)] == ["command.accepted", "command.completed"]


# -- snapshots ---------------------------------------------------------------------------------------------------------
async def test_a_snapshot_is_the_state_at_its_id(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "probe")
        run = await submit(house, "a", {"steps": 5, "step_s": 1})
        await trio.sleep(2.5)
        async with house.events(Filter(engine="a"), snapshot=True) as stream:
            await trio.sleep(1)  # rows that came after entering are in the snapshot, and not shown again
            snapshot, *frames = await drain(stream)
            assert snapshot.event == "snapshot"
            at = int((snapshot.id or "").partition(".")[2])
            data = json.loads(snapshot.data)
            past = await house.slice("a", "progress", at=at)
            assert data["slices"]["a"]["progress"] == {"version": past.version, "value": past.value}
            assert [e["id"] for e in data["engines"]] == ["a"]
            await run_until(house, run, "ended")
            frames += await drain(stream)
            assert seqs(frames) == await visible(house, at, "a")


async def test_a_snapshot_keeps_to_the_filter(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await house.create_pool(NewPool(id="p"))
        await spawn(house, "a", "probe", pool="p")
        await spawn(house, "b", "probe")
        await spawn(house, "c", "talker")
        await house.dispose(await spawn(house, "gone", "probe"))
        for name in ("a", "b"):
            await house.submit(name, NewRun(input="hello"), wait_s=5)

        async def shown(chosen: Filter) -> tuple[list[str], dict[str, list[str]]]:
            async with house.events(chosen, snapshot=True) as stream:
                data = json.loads((await stream.receive())[0].data)
            return [e["id"] for e in data["engines"]], {e: sorted(s) for e, s in data["slices"].items()}

        both = ["conversation", "progress"]
        assert await shown(Filter()) == (["a", "b", "c"], {"a": both, "b": both, "c": []})
        assert await shown(Filter(pools=("p",))) == (["a"], {"a": both})
        assert await shown(Filter(kinds=("talker",))) == (["c"], {"c": []})
        assert await shown(Filter(engine="b", slices=("progress",))) == (["b"], {"b": ["progress"]})


async def test_who_resumes_gets_no_snapshot_and_misses_nothing(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "probe")
        await house.submit("a", NewRun(input="hello"), wait_s=5)
        async with house.events(after=f"{house.supervisor.store.era}.3", snapshot=True) as stream:
            assert seqs(await drain(stream)) == await visible(house, 3)


# -- ends --------------------------------------------------------------------------------------------------------------
async def test_the_stream_of_a_run_ends_with_it(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "probe")
        run = await submit(house, "a", {"steps": 2, "step_s": 1})
        other = await submit(house, "a", {"steps": 1})
        async with house.events(Filter(run=run), after="0") as stream:
            frames = await to_end(stream)
        assert {json.loads(f.data)["run_id"] for f in frames[:-1] if f.id} == {run}
        assert [f.event for f in frames[-2:]] == ["run.completed", "end"]
        assert int((frames[-1].id or "").partition(".")[2]) >= seqs(frames)[-1]
        async with house.events(Filter(run=run), after=frames[-1].id) as stream:
            assert [f.event for f in await to_end(stream)] == ["end"]
        await run_until(house, other, "ended")


async def test_the_stream_of_an_engine_ends_when_it_is_disposed(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "probe")
        async with house.events(Filter(engine="a")) as stream:
            await house.dispose("a")
            frames = await to_end(stream)
        assert [f.event for f in frames[-3:]] == ["engine.disposed", "command.completed", "end"] or [
            f.event for f in frames[-2:]
        ] == ["engine.disposed", "end"]
        with pytest.raises(trio.EndOfChannel):
            await stream.receive()
        await spawn(house, "a", "probe")
        async with house.events(Filter(engine="a"), after="0") as stream:
            assert json.loads((await drain(stream))[0].data)["type"] == "engine.spawned"


async def test_a_closing_house_says_so_after_what_it_had_to_say(autojump_clock: MockClock) -> None:
    frames: list[Frame] = []

    async def read(house: EmbeddedHouse, started: trio.Event) -> None:
        async with house.events(after="0") as stream:
            started.set()
            frames.extend(await to_end(stream))

    async with trio.open_nursery() as nursery, a_house(kinds=ALL) as house:
        await spawn(house, "a", "probe")
        started = trio.Event()
        nursery.start_soon(lambda: read(house, started))
        await started.wait()
        await trio.sleep(1)
        shown = await visible(house)
    assert seqs(frames)[: len(shown)] == shown
    assert (frames[-1].event, frames[-1].id) == ("server.closing", None)


# -- cost --------------------------------------------------------------------------------------------------------------
async def test_readers_own_no_buffer_and_leave_nothing_behind(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "talker")
        rings = house.supervisor.rings
        async with trio.open_nursery() as nursery:

            async def idle(chosen: Filter) -> None:
                async with house.events(chosen) as stream:
                    await stream.receive()
                    await trio.sleep_forever()

            for n in range(200):
                nursery.start_soon(idle, Filter(engine="a") if n % 2 else Filter())
            await trio.sleep(1)
            assert house.statistics().readers == 200
            await house.submit("a", NewRun(input=[3000, 0]), wait_s=5)
            assert len(list(rings.house.since(rings.house.first))) == HOUSE_ROWS
            nursery.cancel_scope.cancel()
        assert house.statistics().readers == 0


# -- pages -------------------------------------------------------------------------------------------------------------
async def test_pages_of_the_journal_join(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "talker")
        await house.submit("a", NewRun(input=[1200, 0]), wait_s=5)
        for chosen in (Filter(), Filter(types=("talker",)), Filter(engine="a")):
            got: list[int] = []
            after = "0"
            while True:
                page = await house.event_page(chosen, after=after, limit=100)
                got += [e["seq"] for e in page.items]
                after = page.next_after
                if not page.items:
                    break
            whole = await house.event_page(chosen, after="0", limit=10_000)
            assert got == [e["seq"] for e in whole.items]
            assert after == whole.latest


async def test_a_page_waits_for_what_it_wants(autojump_clock: MockClock) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", "talker")
        began = trio.current_time()
        page = await house.event_page(Filter(types=("talker",)), wait_s=20)
        assert (page.items, trio.current_time() - began) == ([], 20)
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                page = await house.event_page(Filter(types=("talker",)), wait_s=20)
                assert [e["data"] for e in page.items] == [{"n": 0}]
                assert trio.current_time() - began == 25

            nursery.start_soon(wait)
            await trio.sleep(2)
            await house.pause("a", ALICE)  # wakes it, and is not what it wants
            await house.resume("a", ALICE)
            await trio.sleep(3)
            await house.submit("a", NewRun(input=[1, 0]))
