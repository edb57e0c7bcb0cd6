"""A house inside somebody else's program: what the host sees of it, and what it leaves behind."""

import contextvars
import logging
import os
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
import trio.testing

from actors import Engine, RunContext, RunInput
from protocol.errors import ShuttingDown, StoreUnavailable
from supervisor import NewEngine, NewRun, open_supervisor
from supervisor.open import LAST_WORDS_S
from supervisor.store.memory import Journal, MemoryStore
from supervisor.store.sqlite import SqliteStore
from tests.supervisor.houses import (
    KINDS,
    BreakingStore,
    SlowStore,
    a_house,
    in_virtual_time,
    journaled,
    run_until,
    spawn,
    submit,
    types,
    until,
)

both = pytest.mark.parametrize("strict", [True, False], ids=["strict", "loose"])


@both
@pytest.mark.parametrize("error", [KeyError("mine"), trio.TooSlowError(), ExceptionGroup("mine", [OSError("a")])])
def test_the_host_gets_its_own_error_bare_and_unchanged(strict: bool, error: Exception) -> None:
    async def main() -> None:
        async with a_house(kinds=KINDS) as house:
            await submit(house, await spawn(house, "a"), 60)
            raise error

    with pytest.raises(type(error)) as caught:
        in_virtual_time(main, strict=strict)
    assert caught.value is error
    assert caught.value.__cause__ is None


@both
def test_a_host_deadline_parks_engines_and_leaves_within_the_grace(strict: bool) -> None:
    journal = Journal()
    seen: list[str] = []

    async def main() -> None:
        with trio.move_on_after(2) as scope:
            async with a_house(journal, kinds=KINDS, grace_s=0.5) as house:
                await submit(house, await spawn(house, "a"), 60)
                await spawn(house, "b")
                try:
                    await trio.sleep_forever()
                finally:
                    seen.append("body's finally ran")
        assert scope.cancelled_caught
        assert trio.current_time() <= 2 + 0.5 + 0.1
        store = MemoryStore(journal)
        await store.open()
        rows = await journaled(store)
        for engine in ("a", "b"):
            assert types([r for r in rows if r.engine_id == engine], "engine")[-2:] == [
                "engine.stopping",
                "engine.paused",
            ]
        assert rows[-1].data == {"cause": "shutdown"}

    in_virtual_time(main, strict=strict)
    assert seen == ["body's finally ran"]


@both
def test_a_crash_beside_the_house_gives_the_host_exactly_its_own_error(strict: bool) -> None:
    journal = Journal()
    mine = OSError("sibling")

    async def main() -> None:
        async def bad() -> None:
            await trio.sleep(1)
            raise mine

        async with trio.open_nursery() as nursery:
            nursery.start_soon(bad)
            async with a_house(journal, kinds=KINDS, grace_s=0.5) as house:
                await submit(house, await spawn(house, "a"), 60)
                await trio.sleep_forever()

    alone: tuple[BaseException, ...] = ()
    try:
        in_virtual_time(main, strict=strict)
    except* OSError as caught:  # bare, or in the group of the host's own nursery
        alone = caught.exceptions
    assert alone == (mine,)
    assert b'"cause":"shutdown"' in journal.rows[-1].wire


@both
def test_a_failing_store_gives_one_bare_error_with_its_cause(strict: bool) -> None:
    store = BreakingStore()

    async def main() -> None:
        async with a_house(store=store, kinds=KINDS) as house:
            await spawn(house, "a")
            store.broken = True
            with trio.CancelScope(shield=True):
                await house.submit("a", NewRun(input=1))

    with pytest.raises(StoreUnavailable) as caught:
        in_virtual_time(main, strict=strict)
    chain: list[BaseException] = [caught.value]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    assert isinstance(chain[-1], OSError)


@both
def test_a_failing_store_cancels_a_block_that_waits_for_nothing(strict: bool) -> None:
    store = BreakingStore()

    async def main() -> None:
        async with a_house(store=store, kinds=KINDS) as house:
            await spawn(house, "a")
            run = await submit(house, "a", 60)
            await run_until(house, run, "running")
            store.broken = True
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(house.stop, "a")
                await trio.sleep_forever()

    with pytest.raises(StoreUnavailable):
        in_virtual_time(main, strict=strict)


async def test_a_block_whose_store_failed_may_pass_it_on_and_is_cancelled_then(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = BreakingStore()
    told_at = -1.0
    with pytest.raises(StoreUnavailable):
        async with a_house(store=store, kinds=KINDS) as house:
            await spawn(house, "a")
            store.broken = True
            with pytest.raises(StoreUnavailable):
                await house.stop("a")
            await trio.sleep(LAST_WORDS_S / 2)
            told_at = trio.current_time()
            await trio.sleep_forever()
    assert told_at > 0
    assert trio.current_time() == pytest.approx(told_at + LAST_WORDS_S / 2)


@both
def test_a_failing_store_does_not_hide_the_hosts_own_error(strict: bool) -> None:
    store = BreakingStore()
    mine = ValueError("mine")

    async def main() -> None:
        async with a_house(store=store, kinds=KINDS) as house:
            await spawn(house, "a")
            store.broken = True
            try:
                await house.stop("a")
            except StoreUnavailable:
                raise mine from None

    with pytest.raises(ValueError, match="mine"):
        in_virtual_time(main, strict=strict)


async def test_a_store_that_fails_while_the_house_closes_ends_the_closing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = BreakingStore()
    with pytest.raises(StoreUnavailable):
        async with a_house(store=store, kinds=KINDS, grace_s=10) as house:
            await spawn(house, "a")
            store.broken = True
    assert trio.current_time() < 1


async def test_a_failing_store_tells_everybody_who_waits(autojump_clock: trio.testing.MockClock) -> None:
    store = BreakingStore()
    told: list[str] = []

    async def waits(name: str, fn: Any) -> None:
        try:
            await fn()
        except StoreUnavailable as error:
            told.append(name if error.__cause__ is not None else f"{name}, but not why")

    async def watches(house: Any) -> None:
        async with house.events() as stream:
            while True:
                for frame in await stream.receive():
                    if frame.event == "server.closing":
                        told.append("stream")
                        return

    async def follows(house: Any, run: str) -> None:
        async for _ in house.follow(run):
            pass
        told.append("output")

    async with trio.open_nursery() as nursery:
        with pytest.raises(StoreUnavailable):
            async with a_house(store=store, kinds=KINDS) as house:
                await spawn(house, "a")
                run = await submit(house, "a", 60)
                await run_until(house, run, "running")
                await submit(house, "a", 60)
                nursery.start_soon(waits, "effect", lambda: house.pause("a", wait_s=50, holder="x"))
                nursery.start_soon(waits, "run", lambda: house.submit("a", NewRun(input=1), wait_s=50))
                nursery.start_soon(lambda: watches(house))
                nursery.start_soon(lambda: follows(house, run))
                await trio.sleep(0.1)
                await house.resume("a", holder="x")
                nursery.start_soon(waits, "effect", lambda: house.submit("a", NewRun(input=1), wait_s=50))
                await trio.sleep(0.1)
                store.broken = True
                nursery.start_soon(waits, "command", lambda: house.stop("a"))
                nursery.start_soon(waits, "dispose", lambda: house.dispose("a", force=True))
                nursery.start_soon(waits, "spawn", lambda: house.spawn(NewEngine(kind="probe")))
                await trio.sleep_forever()
        assert trio.current_time() < 5
    assert set(told) == {"run", "stream", "output", "effect", "command", "dispose", "spawn"}


async def test_whoever_waits_beside_the_block_is_told_that_the_house_closed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    told: list[str] = []

    async def waits(house: Any) -> None:
        with pytest.raises(ShuttingDown):
            await house.submit("a", NewRun(input={"step_s": 60}), wait_s=50)
        told.append("run")
        with pytest.raises(ShuttingDown):
            await house.start("a")

    async with trio.open_nursery() as nursery, a_house(kinds=KINDS) as house:
        await spawn(house, "a", "probe")
        nursery.start_soon(lambda: waits(house))
        await trio.sleep(1)
    assert told == ["run"]
    assert trio.current_time() < 5


async def test_several_houses_live_in_one_process(autojump_clock: trio.testing.MockClock) -> None:
    async with a_house(kinds=KINDS) as one, a_house(kinds=KINDS) as two:
        await spawn(one, "a")
        await spawn(two, "a")
        await one.pause("a", wait_s=1)
        assert (await one.get("a")).state == "paused"
        assert (await two.get("a")).state == "running"
        assert one.supervisor.store.era != two.supervisor.store.era


async def test_a_house_touches_no_thread_no_logging_and_no_environment(
    autojump_clock: trio.testing.MockClock,
) -> None:
    root = logging.getLogger()
    before = (threading.enumerate(), list(root.handlers), root.level, dict(os.environ))
    async with a_house(kinds=KINDS) as house:
        run = await submit(house, await spawn(house, "a"), 1)
        await run_until(house, run, "ended")
        assert (threading.enumerate(), list(root.handlers), root.level, dict(os.environ)) == before
    assert (threading.enumerate(), list(root.handlers), root.level, dict(os.environ)) == before


async def test_engines_run_with_the_context_in_which_the_house_was_opened(
    autojump_clock: trio.testing.MockClock,
) -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

    class Asked(Engine):
        kind = "asked"

        async def on_run(self, ctx: Any, run: RunInput) -> Any:
            return who.get()

    who.set("host")
    async with a_house(kinds=[Asked]) as house:
        who.set("request")
        run, _ = await house.submit(await spawn(house, "a", "asked"), NewRun(input=None), wait_s=5)
        assert run.result == "host"


async def test_the_temporary_directory_is_gone_afterwards(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(KeyError):
        async with a_house() as house:
            directory = house.supervisor.directory
            assert (directory / "runs").is_dir()
            raise KeyError
    assert not directory.exists()


async def test_a_directory_of_the_hosts_stays(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    async with a_house(directory=tmp_path / "here"):
        pass
    assert (tmp_path / "here" / "runs").is_dir()


async def test_leaving_takes_no_longer_than_the_grace_and_what_an_engine_shields(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_house(kinds=KINDS, grace_s=0.5) as house:
        run = await submit(house, await spawn(house, "a", "shielding"), 7)
        await run_until(house, run, "running")
        await submit(house, await spawn(house, "b"), 60)
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(7, abs=0.2)


async def test_an_idle_house_leaves_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with a_house(kinds=KINDS, grace_s=10) as house:
        for n in range(5):
            await spawn(house, f"e{n}")
        began = trio.current_time()
    assert trio.current_time() == began


async def test_a_store_that_cannot_be_opened_is_one_bare_error(autojump_clock: trio.testing.MockClock) -> None:
    class Closed(MemoryStore):
        async def open(self) -> None:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailable("Another process holds the journal.")

    with pytest.raises(StoreUnavailable, match="Another process"):
        async with a_house(store=Closed()):
            pytest.fail("it was opened")


async def test_a_house_cancelled_while_it_writes_keeps_whole_rows(autojump_clock: trio.testing.MockClock) -> None:
    journal = Journal()
    with trio.move_on_after(0.055):
        async with a_house(store=SlowStore(journal, delay_s=0.03), kinds=KINDS) as house:
            await spawn(house, "a")
            await trio.sleep_forever()
    store = MemoryStore(journal)
    await store.open()
    rows = await journaled(store)
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1].type in ("engine.paused", "command.accepted")
    async with a_house(journal, kinds=KINDS) as again:
        await until(again, "a", "running")


async def test_a_house_on_sqlite_parks_and_comes_back(tmp_path: Path) -> None:
    async with open_supervisor(store=SqliteStore(tmp_path / "journal.db"), kinds=KINDS, grace_s=1) as house:
        await house.spawn(NewEngine(kind="sleeper", id="a"))
        run, _ = await house.submit("a", NewRun(input=0.01), wait_s=10)
        assert run.status == "completed"
    async with open_supervisor(store=SqliteStore(tmp_path / "journal.db"), kinds=KINDS, grace_s=1) as house:
        assert (await house.run(run.id)).status == "completed"
        await until(house, "a", "running")
        assert (await house.get("a")).incarnation == 2


class Speaker(Engine):
    """Shields itself and goes on speaking after the disk is gone; keeps what it was told."""

    kind = "speaker"
    told: ClassVar[list[str]] = []

    async def on_run(self, ctx: RunContext, run: RunInput) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
            try:
                await ctx.emit("speaker.word")
            except StoreUnavailable as error:
                self.told.append(error.slug)


async def test_an_engine_that_speaks_after_the_disk_is_gone_is_told(autojump_clock: trio.testing.MockClock) -> None:
    Speaker.told.clear()
    store = BreakingStore()
    with pytest.raises(StoreUnavailable):
        async with a_house(store=store, kinds=[*KINDS, Speaker]) as house:
            await spawn(house, "s", "speaker")
            await house.submit("s", NewRun(input=None))
            await trio.sleep(0.5)  # in the middle of its run
            store.broken = True
            await house.pause("s")
    assert Speaker.told == ["store-unavailable"]


async def test_a_bug_of_the_house_ends_it_and_does_not_hang(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(row: object) -> None:
        raise ZeroDivisionError

    bugs: tuple[BaseException, ...] = ()
    with trio.fail_after(100):
        try:
            async with a_house(kinds=KINDS) as house:
                await spawn(house, "a")
                monkeypatch.setattr(house.supervisor.rings, "publish", bug)
                await spawn(house, "b")
        except* ZeroDivisionError as caught:
            bugs = caught.exceptions
        except* StoreUnavailable:  # what closing it in order came to
            pass
    assert bugs


async def test_a_store_that_cannot_be_closed_ends_the_house_all_the_same(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Stuck(MemoryStore):
        async def close(self) -> None:
            await super().close()
            raise ZeroDivisionError

    caught = False
    with trio.fail_after(100):
        try:
            async with a_house(store=Stuck(Journal()), kinds=KINDS) as house:
                await spawn(house, "a")
        except* ZeroDivisionError:
            caught = True
    assert caught
