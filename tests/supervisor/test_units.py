"""The small parts: the heap of deadlines, rings, receipts, watchers, what is shown of a run."""

import random

import pytest
import trio
from trio.testing import MockClock

from protocol.errors import MailboxFull, ShuttingDown
from protocol.events import Row
from protocol.runs import Run, RunStatus
from protocol.specs import Spec
from protocol.states import State
from protocol.view import View
from supervisor.deadlines import SWEEP_FROM, Deadlines
from supervisor.infos import run_info
from supervisor.receipts import Receipt
from supervisor.rings import ENGINE_ROWS, Ring, Rings
from supervisor.watchers import Watchers


# -- deadlines ---------------------------------------------------------------------------------------------------------
async def test_deadlines_are_called_at_their_time_in_order(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    deadlines, called = Deadlines(), list[tuple[str, float]]()
    nursery.start_soon(deadlines.run)
    for name, at in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("b2", 2.0), ("past", -5.0)):
        deadlines.at(at, lambda name=name: called.append((name, trio.current_time())))  # type: ignore[misc]  # a default
    await trio.sleep(1.5)
    deadlines.at(1.7, lambda: called.append(("sooner", trio.current_time())))
    await trio.sleep(5)
    assert called == [("past", 0), ("a", 1), ("sooner", 1.7), ("b", 2), ("b2", 2), ("c", 3)]
    assert len(deadlines) == 0


async def test_a_cancelled_deadline_is_never_called_and_holds_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    deadlines, called = Deadlines(), list[float]()
    nursery.start_soon(deadlines.run)
    first = deadlines.at(1, lambda: called.append(1))
    deadlines.at(2, lambda: called.append(2))
    assert first.active
    first.cancel()
    first.cancel()
    assert (first.active, len(deadlines)) == (False, 1)
    await trio.sleep(3)
    assert called == [2]
    assert len(deadlines) == 0


async def test_a_deadline_may_set_and_cancel_others(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    deadlines, called = Deadlines(), list[tuple[str, float]]()
    nursery.start_soon(deadlines.run)
    other = deadlines.at(2, lambda: called.append(("cancelled", 0)))

    def fire() -> None:
        called.append(("first", trio.current_time()))
        other.cancel()
        deadlines.at(1.0, lambda: called.append(("at once", trio.current_time())))
        deadlines.at(5.0, lambda: called.append(("later", trio.current_time())))

    deadlines.at(1.0, fire)
    await trio.sleep(10)
    assert called == [("first", 1), ("at once", 1), ("later", 5)]


async def test_many_cancelled_deadlines_are_swept(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    deadlines, rng, called = Deadlines(), random.Random(1), list[int]()
    nursery.start_soon(deadlines.run)
    made = [deadlines.at(rng.uniform(1, 9), lambda n=n: called.append(n)) for n in range(10 * SWEEP_FROM)]  # type: ignore[misc]  # a default
    kept = set(rng.sample(range(len(made)), 100))
    for n, deadline in enumerate(made):
        if n not in kept:
            deadline.cancel()
    assert len(deadlines) == 100
    await trio.sleep(10)
    assert set(called) == kept


async def test_stopped_deadlines_call_nobody(autojump_clock: MockClock) -> None:
    deadlines, called = Deadlines(), list[int]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.run)
        deadlines.at(1, lambda: called.append(1))
        deadlines.at(1, deadlines.stop)
        deadlines.at(1, lambda: called.append(2))
        deadlines.at(2, lambda: called.append(3))
    assert called == [1]
    assert trio.current_time() == 1


# -- rings -------------------------------------------------------------------------------------------------------------
def row(seq: int) -> Row:
    return Row("demo.thing" if seq else "run.progress", "", {}, uid="u1", seq=seq)


def test_a_ring_keeps_the_last_rows_and_says_what_it_lost() -> None:
    ring = Ring(4)
    for seq in (1, 0, 2, 3):
        ring.publish(row(seq))
    assert [r.seq for r in ring.since(ring.first)] == [1, 0, 2, 3]
    assert (ring.first, ring.next, ring.lost, ring.dropped) == (0, 4, 0, 0)
    assert [ring.transients_before(place) for place in range(5)] == [0, 0, 1, 1, 1]
    for seq in (4, 0, 0):
        ring.publish(row(seq))
    assert [r.seq for r in ring.since(ring.first)] == [3, 4, 0, 0]
    assert (ring.first, ring.next, ring.lost, ring.dropped) == (3, 7, 2, 1)
    assert [ring.transients_before(place) for place in range(3, 8)] == [1, 1, 1, 2, 3]
    assert list(ring.since(ring.next)) == []


def test_an_engine_has_a_ring_while_it_has_readers() -> None:
    rings = Rings()
    first = rings.join("u1", 7)
    assert first is rings.join("u1", 9)
    assert (first.size, first.lost, rings.readers) == (ENGINE_ROWS, 7, 2)
    assert rings.join(None, 9) is rings.house
    rings.publish(row(10))
    assert (first.next, rings.house.next) == (1, 1)
    rings.leave("u1", first)
    assert rings.join("u1", 10) is first
    rings.leave("u1", first)
    rings.leave("u1", first)
    rings.publish(row(11))
    assert first.next == 1
    assert rings.join("u1", 11) is not first
    assert rings.readers == 2


# -- receipts ----------------------------------------------------------------------------------------------------------
async def test_a_receipt_is_waited_for_by_many_and_raises_for_each(autojump_clock: MockClock) -> None:
    receipt, told = Receipt(error=MailboxFull("full")), list[str]()

    async def wait() -> None:
        try:
            await receipt.wait()
        except MailboxFull as error:
            told.append(error.detail)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.sleep(1)
        assert told == []
        receipt.resolve()
    assert told == ["full", "full"]
    with pytest.raises(MailboxFull):
        await receipt.wait()


# -- watchers ----------------------------------------------------------------------------------------------------------
def a_view() -> View:
    return View(spec=Spec(id="a", uid="u1", pool="default", kind="probe"))


async def test_a_watcher_sees_what_the_next_row_undoes(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    watchers, view, seen = Watchers(), a_view(), list[str]()

    async def watch() -> None:
        seen.append(await watchers.watch(view, lambda view: view.state if view.state is State.PAUSED else None))

    nursery.start_soon(watch)
    await trio.sleep(1)
    for state in (State.PAUSING, State.PAUSED, State.RUNNING):  # three rows of one batch
        view.state = state
        watchers.folded(view)
    await trio.sleep(1)
    assert seen == ["paused"]


async def test_watchers_are_told_of_the_end_now_and_later(autojump_clock: MockClock) -> None:
    watchers, view = Watchers(), a_view()

    async def watch() -> None:
        with pytest.raises(ShuttingDown):
            await watchers.watch(view, lambda view: None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await trio.sleep(1)
        watchers.end(lambda: ShuttingDown("closed"))
    await watch()
    assert await watchers.watch(view, lambda view: "is so already") == "is so already"


# -- infos -------------------------------------------------------------------------------------------------------------
def test_elapsed_and_estimate_of_a_run() -> None:
    run = Run(
        id="run_1", uid="u1", engine_id="a", pool="p", command_id=None, principal=None, input=None,
        created_at="2026-01-01T00:00:00.000Z",
    )  # fmt: skip
    fresh = run_info(run, cell=None, mean_s=0, wall=1_767_225_610.0)
    assert (fresh.elapsed_s, fresh.estimated_completion_at, fresh.queue_position) == (None, None, None)
    run.status, run.started_at = RunStatus.RUNNING, "2026-01-01T00:00:05.000Z"
    active = run_info(run, cell=None, mean_s=20, wall=1_767_225_610.0)
    assert (active.elapsed_s, active.estimated_completion_at) == (5, "2026-01-01T00:00:25.000Z")
    run.status, run.finished_at = RunStatus.COMPLETED, "2026-01-01T00:00:12.500Z"
    done = run_info(run, cell=None, mean_s=20, wall=1_767_225_700.0)
    assert (done.elapsed_s, done.estimated_completion_at) == (7.5, None)
