"""Every defect that an explorer has found, as a fact that holds from then on.

First those of the prototype of this design, then those of the house itself, each with the promise that it broke.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import trio
import trio.lowlevel

from actors.engine import Engine, RunInput
from protocol.bodies import NewEngine, NewPool
from protocol.errors import StoreUnavailable
from protocol.fold import fold_all
from protocol.specs import OnInterrupt, Restart
from protocol.writes import Write
from supervisor.embedded import EmbeddedHouse
from supervisor.store.memory import Journal, MemoryStore
from tests.simulation import invariants
from tests.supervisor.houses import (
    KINDS,
    SlowStore,
    a_house,
    journaled,
    killed,
    regardless,
    run_until,
    spawn,
    submit,
    types,
    until,
)


class Steady(Engine):
    """Has callbacks of the pause, so its incarnations open their nursery at once."""

    kind = "steady"
    on_interrupt = OnInterrupt.RETRY

    async def on_pause(self, ctx: Any) -> None: ...

    async def on_resume(self, ctx: Any) -> None: ...

    async def on_run(self, ctx: Any, run: RunInput) -> Any:
        await trio.sleep(0.1)
        await ctx.pause_point()


class Stubborn(Engine):
    """Shields itself for a second whenever it is cancelled, and has something to say afterwards."""

    kind = "stubborn"
    on_interrupt = OnInterrupt.RETRY

    async def on_run(self, ctx: Any, run: RunInput) -> Any:
        try:
            await trio.sleep(60)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
                await ctx.emit("stubborn.late")


class Failing(Engine):
    """Crashes while it is being cancelled."""

    kind = "failing"
    on_interrupt = OnInterrupt.RETRY

    async def on_run(self, ctx: Any, run: RunInput) -> Any:
        try:
            await trio.sleep(60)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            raise ValueError("on purpose")


class OneByOne(MemoryStore):
    """A commit for each write, one in every tick of the loop."""

    def cut(self, queued: int) -> int:
        return 1


class Asserting(Engine):
    """Holds a wrong belief."""

    kind = "asserting"

    async def on_run(self, ctx: Any, run: RunInput) -> Any:
        assert run.input == "right"


ALL = (*KINDS, Steady, Stubborn, Failing, Asserting)


async def in_one_batch(house: EmbeddedHouse, *calls: Callable[[], Awaitable[Any]]) -> None:
    """Send these in this order, all while an earlier commit takes its time."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.supervisor.intake.write_and_wait, ())
        for call in calls:
            await trio.sleep(0.001)
            nursery.start_soon(regardless, call)


async def sound(journal: Journal) -> None:
    """All that the journal alone can show is in order."""
    rows = await journaled(await _opened(journal))
    assert list(invariants.journal(rows, [0, *(row.seq - 1 for row in rows if row.data.get("cause") == "lost")])) == []


async def _opened(journal: Journal) -> MemoryStore:
    store = MemoryStore(journal)
    await store.open()
    return store


# -- of the prototype --------------------------------------------------------------------------------------------------
async def test_a_house_that_is_torn_down_is_no_crash_of_its_engines(autojump_clock: object) -> None:
    journal = Journal()
    with trio.move_on_after(1):
        async with a_house(journal, kinds=ALL, grace_s=0.1) as house:
            await submit(house, await spawn(house, "a"), 60)
            await trio.sleep_forever()
    said = types(await journaled(await _opened(journal)), "engine")
    assert "engine.crashed" not in said
    assert said[-1] == "engine.paused"
    await sound(journal)


async def test_a_stop_between_boot_and_the_first_step_of_the_actor_reaches_its_end(autojump_clock: object) -> None:
    async with a_house(store=SlowStore(), kinds=ALL) as house:
        await spawn(house, "a", start=False)
        await in_one_batch(house, partial(house.start, "a"), partial(house.stop, "a"))
        with trio.fail_after(5):
            await until(house, "a", "stopped")


async def test_a_dispose_between_boot_and_the_first_step_of_the_actor_reaches_its_end(autojump_clock: object) -> None:
    async with a_house(store=SlowStore(), kinds=ALL) as house:
        await spawn(house, "a", start=False)
        await in_one_batch(house, partial(house.start, "a"), partial(house.dispose, "a"))
        with trio.fail_after(5):
            await until(house, "a", "disposed")


async def test_a_hold_that_comes_during_a_barrier_keeps_the_run_from_beginning(autojump_clock: object) -> None:
    began: list[float] = []

    class Noting(Engine):
        kind = "noting"

        async def on_run(self, ctx: Any, run: RunInput) -> Any:
            began.append(trio.current_time())

    async with a_house(store=SlowStore(delay_s=0.1), kinds=[Noting]) as house:
        await spawn(house, "a", "noting")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit, house, "a", None)
            await trio.sleep(0.05)  # durable behind the submit and before `run.started`
            nursery.start_soon(house.pause, "a")
        await until(house, "a", "paused")
        await trio.sleep(1)
        assert not began
        await house.resume("a")
        await trio.sleep(1)
        assert len(began) == 1


async def test_an_assert_in_an_engine_is_a_crash_that_the_explorer_reports(autojump_clock: object) -> None:
    journal = Journal()
    async with a_house(journal, kinds=ALL) as house:
        await submit(house, await spawn(house, "a", "asserting"), "wrong")
        await trio.sleep(0.1)
    assert any("AssertionError" in found for found in invariants.exits(await journaled(await _opened(journal))))


async def test_what_a_disposed_engine_still_owes_at_a_kill_is_settled_by_recovery(autojump_clock: object) -> None:
    class Cut(SlowStore):
        """One write at a time; dies before the first end of a command that came too late."""

        def cut(self, queued: int) -> int:
            return 1

        async def sync(self, batch: Sequence[Write]) -> None:
            await super().sync(batch)
            if any(row.type == "command.rejected" for write in batch for row in write.rows):
                raise StoreUnavailable("killed")

    journal = Journal()
    async with killed(journal, store=Cut(journal), kinds=ALL) as house:
        await spawn(house, "a")
        await in_one_batch(
            house, partial(house.dispose, "a", force=True), partial(submit, house, "a", 1), partial(house.pause, "a")
        )
        await trio.sleep(1)
    assert {row.type for row in await journaled(await _opened(journal))} >= {"engine.disposed", "run.queued"}
    async with a_house(journal, kinds=ALL):
        await trio.sleep(1)
    await sound(journal)


# -- of the house ------------------------------------------------------------------------------------------------------
async def test_a_held_engine_that_waits_for_a_place_parks_and_lets_the_next_have_it(autojump_clock: object) -> None:
    async with a_house(kinds=ALL) as house:
        await house.create_pool(NewPool(id="small", max_running=1))
        await spawn(house, "first", pool="small")
        await house.spawn(NewEngine(kind="sleeper", id="second", pool="small"))
        await house.spawn(NewEngine(kind="sleeper", id="third", pool="small"))
        await house.pause("second")
        await house.stop("first")
        with trio.fail_after(5):
            await until(house, "third", "running")
        assert (await house.get("second")).state == "paused"


async def test_a_run_that_was_taken_when_a_hold_came_is_not_started_after_paused(autojump_clock: object) -> None:
    journal = Journal()
    async with a_house(store=OneByOne(journal), kinds=ALL) as house:
        await spawn(house, "a", "steady")
        for number in range(30):  # trio runs the tasks of a tick in any order
            async with trio.open_nursery() as nursery:
                nursery.start_soon(submit, house, "a", number)
                await trio.lowlevel.checkpoint()
                nursery.start_soon(house.pause, "a")
            await until(house, "a", "paused")
            await house.resume("a")
            await trio.sleep(1)
    await sound(journal)


async def test_a_cancel_that_was_accepted_survives_a_kill_before_the_run_has_ended(autojump_clock: object) -> None:
    journal = Journal()
    async with killed(journal, kinds=ALL) as house:
        run = await submit(house, await spawn(house, "a", "stubborn"), None)
        await run_until(house, run, "running")
        await house.cancel(run)
        await trio.sleep(0.5)  # it shields itself for a second
    async with a_house(journal, kinds=ALL) as house:
        await trio.sleep(1)
        assert (await house.run(run)).status == "cancelled"
    await sound(journal)


async def test_a_cancel_holds_when_the_actor_crashes_before_the_run_has_ended(autojump_clock: object) -> None:
    async with a_house(kinds=ALL) as house:
        run = await submit(house, await spawn(house, "a", "failing"), None)
        await run_until(house, run, "running")
        await house.cancel(run)
        await trio.sleep(30)
        assert (await house.run(run)).status == "cancelled"


async def test_a_cancel_wins_over_an_interrupt_pause_that_was_before_it(autojump_clock: object) -> None:
    async with a_house(kinds=ALL) as house:
        run = await submit(house, await spawn(house, "a", "stubborn"), None)
        await run_until(house, run, "running")
        await house.restart("a")
        await house.cancel(run)
        await trio.sleep(30)
        assert (await house.run(run)).status == "cancelled"


async def test_a_leak_that_was_disposed_of_writes_nothing_more(autojump_clock: object) -> None:
    journal = Journal()
    async with a_house(journal, kinds=ALL, margin_s=0.1) as house:
        run = await submit(house, await spawn(house, "a", "stubborn"), None)
        await run_until(house, run, "running")
        gone = await house.dispose("a", force=True, grace_s=0)
        assert gone.leaks
        await trio.sleep(5)
    rows = await journaled(await _opened(journal))
    assert types(rows)[-1] == "engine.disposed"
    await sound(journal)


async def test_the_stall_watch_comes_to_an_end_where_clock_times_round(autojump_clock: object) -> None:
    async with a_house(kinds=ALL) as house:
        await spawn(house, "a", stall_s=0.2)
        for at in (16.1, 33.3, 101.7):  # (t + 0.2) - t is less than 0.2 at some of them
            await trio.sleep_until(at)
            await submit(house, "a", 1)
            await trio.sleep(0.5)
            assert (await house.get("a")).stalled
            await trio.sleep(1)


async def test_what_is_shown_of_an_engine_disposed_with_a_run_on_its_way_is_the_fold(autojump_clock: object) -> None:
    journal = Journal()
    async with a_house(store=SlowStore(journal), kinds=ALL) as house:
        await spawn(house, "a")
        await in_one_batch(house, partial(house.dispose, "a", force=True), partial(submit, house, "a", 1))
        await trio.sleep(1)
        rows = await journaled(house.supervisor.store, lambda row: bool(row.uid))
        scratch, shown = fold_all(rows), house.supervisor.views[rows[0].uid]
        assert scratch is not None
        assert (scratch.why, scratch.runs, scratch.owed) == (shown.why, shown.runs, shown.owed)
        assert not shown.runs
    await sound(journal)


async def test_a_pause_that_comes_while_a_crashed_nursery_ends_is_kept_for_the_next_boot(
    autojump_clock: object,
) -> None:
    class Timed(MemoryStore):
        """Commits at a given time, and so many ticks of the loop after it."""

        at, ticks = 0.0, 0

        async def sync(self, batch: Sequence[Write]) -> None:
            await trio.sleep_until(self.at)
            for _ in range(self.ticks):
                await trio.lowlevel.checkpoint()

    class Crashing(Steady):
        kind = "crashing"

        async def on_run(self, ctx: Any, run: RunInput) -> Any:
            await trio.sleep_until(run.input)
            raise ValueError("on purpose")

    store = Timed()
    async with a_house(store=store, kinds=[Crashing]) as house:
        await spawn(house, "a", "crashing", restart=Restart(max_restarts=100))
        for ticks in (*range(6), *range(6)):
            store.ticks, crash_at = 0, trio.current_time() + 1
            await run_until(house, await submit(house, "a", crash_at), "running")
            store.at, store.ticks = crash_at, ticks
            await house.pause("a")
            await until(house, "a", "paused")
            await house.resume("a")
            await until(house, "a", "running")


async def test_a_reader_that_resumes_after_a_restart_gets_what_it_missed(autojump_clock: object) -> None:
    journal = Journal()
    async with killed(journal, kinds=ALL) as house:
        await spawn(house, "a")
    async with a_house(journal, kinds=ALL) as house, house.events(after="0") as stream:
        first = (await stream.receive())[0]
    assert first.event == "engine.spawned"


async def test_a_redelivery_can_be_given_up_while_the_disk_hangs(autojump_clock: object) -> None:
    class Hanging(MemoryStore):
        hangs = False

        async def sync(self, batch: Sequence[Write]) -> None:
            if self.hangs:
                await trio.sleep_forever()
            await super().sync(batch)

    store = Hanging()
    async with a_house(store=store, kinds=ALL) as house:
        await spawn(house, "a")
        await house.pause("a")
        await submit(house, "a", 1)
        await house.dispose("a", force=True)
        await spawn(house, "a")
        letter = (await house.dead_letters()).items[0]
        store.hangs = True
        with trio.fail_after(2), trio.move_on_after(1):
            await house.redeliver(letter.id)
