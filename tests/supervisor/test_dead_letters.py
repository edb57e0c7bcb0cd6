"""Dead letters: what nobody will handle is listed with its reason, sent again, or thrown away."""

import pytest
import trio
from trio.testing import MockClock

from protocol.commands import Signal
from protocol.errors import EngineDisposed, InvalidState, NotFound
from protocol.runs import Priority
from supervisor import Caller, EmbeddedHouse, NewRun
from supervisor.store.memory import Journal
from tests.supervisor.houses import ALICE, KINDS, SlowStore, a_house, journaled, run_until, spawn, submit, until


async def a_dead_run(house: EmbeddedHouse, engine: str = "a", **members: object) -> str:
    """A run that was queued when its engine was disposed; its engine is back."""
    await house.pause(await spawn(house, engine, "probe"), ALICE, wait_s=5)
    run = await submit(house, engine, {"steps": 2}, **members)
    await house.dispose(engine, ALICE, force=True)
    return run


async def test_a_queued_run_of_a_disposed_engine_is_a_dead_letter(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        run = await a_dead_run(house)
        found = await house.run(run)
        assert (found.status, found.reason, found.cancelled_by) == ("cancelled", "disposed", "user:alice")
        assert (await house.get_command(found.command_id or "")).state == "dead_lettered"
        (letter,) = (await house.dead_letters()).items
        assert (letter.type, letter.run_id, letter.reason, letter.state) == ("submit", run, "disposed", "dead")
        with pytest.raises(EngineDisposed):
            await house.redeliver(letter.id)


async def test_redelivery_makes_a_new_run_once(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        run = await a_dead_run(house, priority=Priority.HIGH, labels={"a": "b"})
        await spawn(house, "a", "probe")
        (letter,) = (await house.dead_letters()).items
        caller = Caller(principal="user:bob", key="k")
        accepted = await house.redeliver(letter.id, caller)
        await run_until(house, accepted.run_id or "", "ended")
        again = await house.run(accepted.run_id or "")
        assert (again.status, again.retry_of, again.priority, again.labels) == ("completed", run, "high", {"a": "b"})
        assert again.input == {"steps": 2}
        assert (await house.dead_letters()).items == []
        (row,) = await journaled(house.supervisor.store, lambda row: row.type == "dead_letter.redelivered")
        assert row.data["command_id"] == accepted.command_id
        with pytest.raises(InvalidState):
            await house.redeliver(letter.id, ALICE)
        assert (await house.redeliver(letter.id, caller)).run_id == accepted.run_id
        assert len((await house.runs(engine="a")).items) == 1


async def test_of_two_redeliveries_at_once_one_is_made(autojump_clock: MockClock) -> None:
    async with a_house(store=SlowStore()) as house:
        await a_dead_run(house)
        await spawn(house, "a", "probe")
        (letter,) = (await house.dead_letters()).items
        outcomes: list[object] = []

        async def redeliver() -> None:
            try:
                outcomes.append(await house.redeliver(letter.id, ALICE))
            except InvalidState as error:
                outcomes.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(redeliver)
        assert sum(isinstance(o, InvalidState) for o in outcomes) == 2
        assert len((await house.runs(engine="a")).items) == 1


async def test_a_discarded_letter_is_gone(autojump_clock: MockClock) -> None:
    journal = Journal()
    async with a_house(journal) as house:
        await a_dead_run(house)
        (letter,) = (await house.dead_letters()).items
        await house.discard(letter.id, ALICE)
        assert (await house.dead_letters()).items == []
        with pytest.raises(NotFound):
            await house.discard(letter.id, ALICE)
        with pytest.raises(NotFound):
            await house.redeliver(letter.id, ALICE)
    async with a_house(journal) as house:
        assert (await house.dead_letters()).items == []


async def test_a_signal_in_hand_at_a_crash_is_a_dead_letter(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await spawn(house, "a", "probe")
        accepted, _ = await house.command("a", Signal(name="crash", payload={"why": "test"}), ALICE)
        await until(house, "a", "backing_off")
        (letter,) = (await house.dead_letters(engine="a")).items
        assert (letter.type, letter.run_id, letter.command_id) == ("signal", None, accepted.command_id)
        assert letter.body["payload"] == {"why": "test"}
        assert "ProbeCrashed" in letter.reason
        assert (await house.get_command(accepted.command_id)).state == "dead_lettered"
        assert house.statistics().unbalanced == ()


async def test_lists_are_paged_newest_first(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await house.pause(await spawn(house, "a", "probe"), ALICE, wait_s=5)
        runs = [await submit(house, "a", {}) for _ in range(5)]
        await house.dispose("a", force=True)
        seen: list[str | None] = []
        cursor = None
        while True:
            page = await house.dead_letters(limit=2, cursor=cursor, pool="default")
            seen += [letter.run_id for letter in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == runs[::-1]
        assert (await house.dead_letters(pool="other")).items == []


async def test_what_was_cancelled_or_handled_is_no_dead_letter(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await house.submit(await spawn(house, "a", "probe"), NewRun(input={}), wait_s=5)
        run = await submit(house, "a", {"step_s": 60})
        await run_until(house, run, "running")
        await house.dispose("a", force=True)
        assert (await house.dead_letters()).items == []
        assert (await house.run(run)).status == "cancelled"
