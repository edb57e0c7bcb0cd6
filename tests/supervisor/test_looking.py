"""What a house shows of its engines and runs: lists, pages, history, why, stats, estimates."""

import pytest
import trio
from trio.testing import MockClock

from protocol.bodies import NewPool
from protocol.errors import InvalidState, NotFound, RangeNotSatisfiable, UnknownSlice, ValidationFailed
from supervisor import Caller, NewRun
from supervisor.store.memory import Journal
from tests.supervisor.houses import ALICE, BOB, KINDS, a_house, run_until, spawn, submit, until


async def test_engines_are_listed_by_filters_and_pages(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await house.create_pool(NewPool(id="p"))
        for n in range(7):
            kind, pool = ("probe", "p") if n % 2 else ("sleeper", "default")
            await spawn(house, f"e{n}", kind, pool=pool, labels={"n": str(n % 3)}, start=n < 5)
        await house.dispose(await spawn(house, "gone", "probe"))

        async def ids(**chosen: object) -> list[str]:
            return [i.id for i in (await house.list(**chosen)).items]  # type: ignore[arg-type]  # as the test names them

        assert await ids() == [f"e{n}" for n in range(7)]
        assert await ids(pool="p") == await ids(kind="probe") == ["e1", "e3", "e5"]
        assert await ids(state="stopped") == ["e5", "e6"]
        assert await ids(labels={"n": "0"}) == ["e0", "e3", "e6"]
        paged: list[str] = []
        cursor = None
        while True:
            page = await house.list(limit=3, cursor=cursor)
            paged += [i.id for i in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert paged == await ids()


async def test_runs_are_listed_by_filters_and_pages(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await spawn(house, "a", "probe")
        await spawn(house, "b", "probe")
        done = [(await house.submit(e, NewRun(input={}), wait_s=5))[0].id for e in ("a", "b", "a")]
        failed = (await house.submit("a", NewRun(input={"fail_at": 0}), wait_s=5))[0].id
        active = await submit(house, "b", {"step_s": 60})
        queued = await submit(house, "b", {})
        await run_until(house, active, "running")

        async def ids(**chosen: object) -> list[str]:
            return [r.id for r in (await house.runs(**chosen)).items]  # type: ignore[arg-type]  # as the test names them

        assert await ids() == [*done, failed, active, queued][::-1]
        assert await ids(engine="a") == [done[0], done[2], failed][::-1]
        assert await ids(status="completed") == done[::-1]
        assert await ids(status="running") == [active]
        assert await ids(status="queued", pool="default") == [queued]
        assert await ids(status="queued", pool="other") == []
        first = await house.runs(limit=4)
        second = await house.runs(limit=4, cursor=first.next_cursor)
        assert [r.id for r in (*first.items, *second.items)] == await ids()
        assert second.next_cursor is None
        with pytest.raises(NotFound):
            await house.runs(engine="nobody")
        with pytest.raises(NotFound):
            await house.run("run_none")


async def test_the_history_of_an_engine_is_paged_newest_first(autojump_clock: MockClock) -> None:
    journal = Journal()
    async with a_house(journal) as house:
        await spawn(house, "a", "probe")
        runs = [(await house.submit("a", NewRun(input={}), wait_s=5))[0].id for _ in range(7)]
        runs.append((await house.submit("a", NewRun(input={"fail_at": 0}), wait_s=5))[0].id)
        await submit(house, "a", {"step_s": 60})
    async with a_house(journal) as house:
        pages = [await house.history("a", page=n, page_size=3) for n in (1, 2, 3, 4)]
        assert [total for _, total in pages] == [8] * 4
        assert [[run.id for run in items] for items, _ in pages] == [
            runs[:-4:-1], runs[-4:-7:-1], runs[-7::-1][:2], [],
        ]  # fmt: skip
        await house.dispose("a", force=True)
        assert (await house.history("a"))[1] == 9


async def test_why_tells_who_and_through_what(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await spawn(house, "a", "probe")
        assert await house.why("a") == {}
        paused = await house.pause("a", ALICE, reason="lunch", wait_s=5)
        await house.resume("a", ALICE)
        run = await submit(house, "a", {"step_s": 60})
        await run_until(house, run, "running")
        await house.cancel(run, BOB, reason="enough")
        await run_until(house, run, "ended")
        stopped = await house.stop("a", ALICE, reason="night")
        await until(house, "a", "stopped")
        why = await house.why("a")
        assert {name: (w.by, w.reason) for name, w in why.items()} == {
            "pause": ("user:alice", "lunch"), "cancel": ("user:bob", "enough"), "stop": ("user:alice", "night"),
        }  # fmt: skip
        assert why["pause"].command_id == paused.command_id
        assert why["stop"].command_id == stopped.command_id
        await house.start("a")
        await until(house, "a", "running")
        await submit(house, "a", {"crash_at": 0})
        await until(house, "a", "backing_off")
        assert "ProbeCrashed" in ((await house.why("a"))["restart"].reason or "")


async def test_stats_add_up(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await spawn(house, "a", "probe")
        for seconds in (1, 3):
            await house.submit("a", NewRun(input={"step_s": seconds}), wait_s=10)
        await house.pause("a", ALICE, wait_s=5)
        await submit(house, "a", {})
        stats = await house.stats("a")
        assert stats["counts"]["run.completed"] == 2
        assert stats["mean_run_s"] == pytest.approx(2)
        assert stats["mailbox"] == {
            "accepted": 3, "handled": 2, "dead_lettered": 0, "withdrawn": 0, "queued": 1, "in_hand": 0,
            "balanced": True,
        }  # fmt: skip


async def test_a_queued_run_knows_its_place_and_when_it_will_be_done(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await spawn(house, "a", "probe")
        await house.submit("a", NewRun(input={"step_s": 10}), wait_s=20)
        active = await submit(house, "a", {"step_s": 10})
        await run_until(house, active, "running")
        queued = [await submit(house, "a", {"step_s": 10}) for _ in range(2)]
        infos = [await house.run(run) for run in (active, *queued)]
        assert [info.queue_position for info in infos] == [None, 0, 1]
        assert [(i.estimated_completion_at or "")[17:] for i in infos] == ["20.000Z", "30.000Z", "40.000Z"]
        await trio.sleep(4)
        assert (await house.run(active)).elapsed_s == 4


async def test_slices_now_and_then(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await spawn(house, "a", "probe")
        before = house.supervisor.folded
        await house.submit("a", NewRun(input={"steps": 3}), wait_s=5)
        assert (await house.slice("a", "progress")).value == {"step": 3, "steps": 3}
        with pytest.raises(UnknownSlice):
            await house.slice("a", "plan")
        with pytest.raises(UnknownSlice):
            await house.slice("a", "progress", at=before)
        with pytest.raises(ValidationFailed):
            await house.state("a", at=house.supervisor.folded + 1)
        with pytest.raises(NotFound):
            await house.state("a", at=0)


async def test_an_ended_run_is_retried_and_cancelled_truthfully(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await spawn(house, "a", "probe")
        failed, _ = await house.submit("a", NewRun(input={"fail_at": 0}, labels={"x": "y"}), wait_s=5)
        again, _ = await house.retry(failed.id, ALICE)
        assert (again.retry_of, again.input, again.labels) == (failed.id, {"fail_at": 0}, {"x": "y"})
        await run_until(house, again.id, "ended")
        with pytest.raises(InvalidState):
            await house.cancel(failed.id, ALICE)
        active = await submit(house, "a", {"step_s": 60})
        with pytest.raises(InvalidState):
            await house.retry(active, ALICE)
        await run_until(house, active, "running")
        await house.cancel(active, ALICE, reason="enough")
        await run_until(house, active, "ended")
        repeat = await house.cancel(active, BOB)
        assert (repeat.status, repeat.cancelled_by, repeat.reason) == ("cancelled", "user:alice", "enough")


async def test_a_repeated_cancel_gets_the_first_answer(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        run = await submit(house, await spawn(house, "a", "shielding"), 5)
        await run_until(house, run, "running")
        caller = Caller(principal="user:alice", key="k")
        await house.cancel(run, caller)
        await run_until(house, run, "ended")
        assert (await house.run(run)).status == "completed"  # it shielded itself, and came to its end
        assert (await house.cancel(run, caller)).status == "completed"
        with pytest.raises(InvalidState):
            await house.cancel(run, BOB)


async def test_continuing_a_run(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await spawn(house, "a", "probe")
        run = await submit(house, "a", {"ask_at": 0})
        await run_until(house, run, "waiting")
        with pytest.raises(InvalidState) as waits:
            await house.resume_run(run)
        assert waits.value.extra["allowed"] == ["reply", "cancel"]
        await house.cancel(run)
        await run_until(house, run, "ended")
        with pytest.raises(InvalidState):
            await house.resume_run(run)
        queued = await submit(house, "a", {"step_s": 60})
        await run_until(house, queued, "running")
        assert (await house.resume_run(queued)).status == "running"
        later = await submit(house, "a", {})
        with pytest.raises(InvalidState):
            await house.resume_run(later)


async def test_output_by_ranges_and_live() -> None:
    async with a_house(grace_s=1) as house:
        await spawn(house, "a", "probe")
        run, _ = await house.submit("a", NewRun(input={"steps": 3, "output_bytes": 200_000}), wait_s=20)
        data, size = await house.output(run.id, limit=1 << 20)
        assert (len(data), size, run.output_bytes) == (200_000, 200_000, 200_000)
        tail, _ = await house.output(run.id, after=199_990)
        assert tail == data[-10:]
        with pytest.raises(RangeNotSatisfiable):
            await house.output(run.id, after=200_001)
        assert b"".join([piece async for piece in house.follow(run.id, after=5)]) == data[5:]
        assert [e["type"] for e in await house.run_events(run.id)][:3] == [
            "command.accepted", "run.queued", "run.started",
        ]  # fmt: skip


async def test_kinds_and_health(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        assert {"probe", "sleeper", "shielding"} <= {kind.kind for kind in await house.kinds()}
        with pytest.raises(NotFound):
            await house.kind("nothing")
        await spawn(house, "a", "probe", max_attempts=1)
        assert (await house.health()).status == "healthy"
