"""What the tests of the supervisor stand on: a house in virtual time, stores that are slow or break, small engines."""

import random
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
import trio.testing

from actors.engine import Engine, RunInput
from protocol.errors import EnginehouseError, StoreUnavailable
from protocol.events import Row
from protocol.writes import Write
from supervisor import Caller, EmbeddedHouse, NewEngine, NewRun, open_supervisor
from supervisor.store.contract import Store
from supervisor.store.memory import Journal, MemoryStore

EPOCH = 1_767_225_600.0
PATIENCE_S = 5000.0
"""In virtual time this is nothing; what takes longer never comes."""
ALICE, BOB = Caller(principal="user:alice"), Caller(principal="user:bob")


def wall() -> float:
    """The time of day of a test: the clock of trio, from 2026 on."""
    return EPOCH + trio.current_time()


class SlowStore(MemoryStore):
    """Each commit takes `delay_s`: what is submitted meanwhile is one batch."""

    def __init__(self, journal: Journal | None = None, *, delay_s: float = 0.01) -> None:
        super().__init__(journal)
        self.delay_s = delay_s

    async def sync(self, batch: Sequence[Write]) -> None:
        await trio.sleep(self.delay_s)


class BreakingStore(MemoryStore):
    """Its disk fails from `broken` on."""

    broken = False

    async def sync(self, batch: Sequence[Write]) -> None:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise StoreUnavailable("The disk failed.") from OSError(5, "Input/output error")


@asynccontextmanager
async def a_house(journal: Journal | None = None, **options: Any) -> AsyncIterator[EmbeddedHouse]:
    """A house on a journal that outlives it, with a seeded randomness and the test's time of day."""
    options.setdefault("store", MemoryStore(journal))
    options.setdefault("wall", wall)
    async with open_supervisor(random=random.Random(1), **options) as house:
        yield house


async def kill(house: EmbeddedHouse) -> None:
    """What a kill -9 leaves: another store takes the journal, and the house cannot write any more."""
    journal = house.supervisor.store.journal  # type: ignore[attr-defined]  # these tests use stores in memory
    await MemoryStore(journal).open()


@asynccontextmanager
async def killed(journal: Journal, **options: Any) -> AsyncIterator[EmbeddedHouse]:
    """A house that is killed when the block is left: nothing of its end reaches the journal."""
    try:
        async with a_house(journal, **options) as house:
            yield house
            await kill(house)
            await provoke(house)
    except StoreUnavailable:
        pass


async def provoke(house: EmbeddedHouse) -> None:
    """Make the house write, so that it notices that its store was taken."""
    with trio.CancelScope():
        await house.supervisor.intake.write_and_wait((Row("audit.test", house.supervisor.stamp(), {}),))


class Sleeper(Engine):
    """Runs sleep for as many seconds as their input says, and give back what they slept."""

    kind = "sleeper"

    async def on_run(self, ctx: Any, run: RunInput) -> Any:
        await ctx.sleep(float(run.input))
        return run.input


class Shielding(Engine):
    """Its runs sleep, shielded from every cancellation."""

    kind = "shielding"

    async def on_run(self, ctx: Any, run: RunInput) -> Any:
        with trio.CancelScope(shield=True):
            await trio.sleep(float(run.input))


KINDS = (Sleeper, Shielding)


async def spawn(house: EmbeddedHouse, id: str, kind: str = "sleeper", **members: Any) -> str:
    """An engine that is up."""
    await house.spawn(NewEngine(kind=kind, id=id, **members))
    if members.get("start", True):
        await until(house, id, "running")
    await house.supervisor.intake.write_and_wait(())  # behind all that its birth has written
    return id


async def until(house: EmbeddedHouse, engine: str, *states: str) -> None:
    """Wait until the engine is seen in one of these states."""
    view = house.supervisor.view(engine)
    with trio.fail_after(PATIENCE_S):
        await house.supervisor.watch(view.spec.uid, lambda view: view.state.value in states)


async def run_until(house: EmbeddedHouse, run: str, *statuses: str) -> None:
    """Wait until the run is seen in one of these statuses."""
    found = await house.supervisor.store.get("run", run)
    assert found is not None
    seen: list[str] = []

    def look(view: Any) -> bool:
        live = view.runs.get(run)
        seen.append(live.status.value if live else "ended")
        return seen[-1] in statuses

    with trio.fail_after(PATIENCE_S):
        await house.supervisor.watch(found.uid, look)


async def submit(house: EmbeddedHouse, engine: str, input: Any, **members: Any) -> str:
    """A run that was accepted: its id."""
    run, _ = await house.submit(engine, NewRun(input=input, **members))
    return run.id


async def regardless(fn: Callable[..., Awaitable[object]], *args: Any) -> None:
    """Await it, whatever the house answers."""
    with suppress(EnginehouseError):
        await fn(*args)


async def journaled(store: Store, select: Callable[[Row], bool] = lambda row: True) -> list[Row]:
    """The rows of the journal, in order."""
    return [row for row in await store.read(after=0, limit=1_000_000) if select(row)]


def types(rows: Sequence[Row], *families: str) -> list[str]:
    """The types of rows, of these families alone when any is named."""
    return [row.type for row in rows if not families or row.type.partition(".")[0] in families]


def in_virtual_time(main: Callable[..., Awaitable[Any]], *args: Any, strict: bool = True) -> Any:
    """Run a program of its own, under either setting of trio for exception groups."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", trio.TrioDeprecationWarning)  # loose groups are deprecated, and still there
        clock = trio.testing.MockClock(autojump_threshold=0)
        return trio.run(main, *args, clock=clock, strict_exception_groups=strict)
