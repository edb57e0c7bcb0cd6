"""Actors: messages, answers, control, births, deaths and crashes; alone on a bare host, and in a whole house."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Never

import pykka
import trio
import trio.testing

from actors.cell import Cell
from actors.context import Context
from actors.engine import Engine
from bench.bare import AT_ONCE, open_bare
from bench.figures import Figure, Scale, at_least, at_most, figure
from bench.measure import Stopwatch, apart, in_turn, percentile, rate, rss_bytes, under_trio
from bench.store import accept_rate
from protocol.bodies import NewEngine, NewPool
from protocol.errors import MailboxFull
from protocol.states import Aim, State
from supervisor import EmbeddedHouse, MemoryStore, SqliteStore, Store, open_supervisor
from web.daemon import GC_THRESHOLDS

__all__ = ["ROWS", "Counter"]

ROWS = ("tell", "ask", "control", "spawn", "spawn_house", "dispose", "dispose_house", "crash")
POOL = "bench"
AT_A_TIME = 100
"""How many clients of a whole house ask at once."""


class Counter(Engine):
    """Counts, answers, crashes."""

    kind = "counter"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.count = 0

    async def on_signal(self, ctx: Context, name: str, payload: Any) -> Any:
        self.count += 1
        if name == "crash":
            raise RuntimeError("told to crash")
        return payload


class PykkaCounter(pykka.ThreadingActor):
    """The same, as pykka has it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_receive(self, message: Any) -> Any:
        self.count += 1
        return message


async def emptied(cell: Cell) -> None:
    while True:  # an event would be measured too
        if not len(cell.mailbox):
            return
        await trio.lowlevel.checkpoint()


async def until(cell: Cell, reached: Callable[[], bool]) -> None:
    while not reached():
        await cell.lot.park()


# -- messages ----------------------------------------------------------------------------------------------------------
async def _tell(count: int) -> float:
    async with open_bare() as host:
        cell = host.boot(Counter, "counter")
        await until(cell, lambda: cell.state is State.RUNNING)
        ref, watch = host.ref("counter"), Stopwatch()
        for number in range(count):
            try:
                ref.tell("message", number)
            except MailboxFull:
                await emptied(cell)
                ref.tell("message", number)
        await emptied(cell)
        return rate(count, watch())


def _tell_pykka(count: int) -> float:
    ref = PykkaCounter.start()
    try:
        watch = Stopwatch()
        for number in range(count):
            ref.tell(number)
        ref.ask("last")
        return rate(count, watch())
    finally:
        ref.stop()


def tell(scale: Scale) -> list[Figure]:
    """Send and forget, one sender and one actor, until the last was handled."""
    count = scale.of(50_000, 500)
    found = in_turn(scale.rounds, ours=under_trio(_tell, count), pykka=partial(_tell_pykka, count))
    return [figure("tell", "msg/s", found["ours"], "pykka tell", found["pykka"], at_least(2))]


async def _ask(count: int) -> tuple[float, float]:
    async with open_bare() as host:
        cell = host.boot(Counter, "counter")
        await until(cell, lambda: cell.state is State.RUNNING)
        ref = host.ref("counter")
        return await _asked(count, lambda number: ref.ask("echo", number, timeout_s=5))


async def _ask_channel(count: int) -> tuple[float, float]:
    send, receive = trio.open_memory_channel[tuple[int, trio.MemorySendChannel[int]]](1000)

    async def answer() -> None:
        async for number, reply in receive:
            await reply.send(number)

    async def ask_it(number: int) -> None:
        sender, receiver = trio.open_memory_channel[int](1)
        with trio.fail_after(5):
            await send.send((number, sender))
            await receiver.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        found = await _asked(count, ask_it)
        send.close()
    return found


async def _asked(count: int, ask_it: Callable[[int], Awaitable[Any]]) -> tuple[float, float]:
    """Answers per second, and the median seconds of one."""
    took: list[float] = []
    whole = Stopwatch()
    for number in range(count):
        watch = Stopwatch()
        await ask_it(number)
        took.append(watch())
    return rate(count, whole()), median(took)


def _ask_pykka(count: int) -> tuple[float, float]:
    ref = PykkaCounter.start()
    try:
        took: list[float] = []
        whole = Stopwatch()
        for number in range(count):
            watch = Stopwatch()
            ref.ask(number, timeout=5)
            took.append(watch())
        return rate(count, whole()), median(took)
    finally:
        ref.stop()


def ask(scale: Scale) -> list[Figure]:
    """Question and answer with a deadline, one after the other."""
    count = scale.of(5_000, 50)
    found = in_turn(
        scale.rounds,
        ours=under_trio(_ask, count),
        channel=under_trio(_ask_channel, count),
        pykka=partial(_ask_pykka, count),
    )
    p50 = {name: [one[1] * 1e6 for one in side] for name, side in found.items()}
    rates = {name: [one[0] for one in side] for name, side in found.items()}
    return [
        figure("ask with a deadline, p50", "us", p50["ours"], "channel, reply channel", p50["channel"], at_most(0.7)),
        figure("ask with a deadline", "asks/s", rates["ours"], "pykka ask", rates["pykka"], at_least(1)),
    ]


# -- control -----------------------------------------------------------------------------------------------------------
async def _control(samples: int, queued: int) -> list[float]:
    """Milliseconds from the pause that is asked to the pause that is in effect, behind a queue that is being worked."""
    took: list[float] = []
    async with open_house(MemoryStore()) as house:
        await house.spawn(NewEngine(kind=Counter.kind, id="counter", pool=POOL, mailbox_size=queued))
        cell, ref = house.supervisor.cell("counter"), house.supervisor.ref("counter")
        await until(cell, lambda: cell.state is State.RUNNING)
        for _ in range(samples):
            while len(cell.mailbox) < queued:
                ref.tell("message")
            await trio.lowlevel.checkpoint()
            watch = Stopwatch()
            await house.pause("counter")
            took.append(watch() * 1000)
            await house.resume("counter")
    return took


async def _control_fifo(samples: int, queued: int) -> list[float]:
    """The same when control waits its turn."""
    took: list[float] = []
    engine = Counter(None)
    send, receive = trio.open_memory_channel[trio.Event | None](queued + 1)

    async def serve() -> None:
        async for message in receive:
            await engine.on_signal(None, "message", message)  # type: ignore[arg-type]  # it does not look at it
            if message is not None:
                message.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        for _ in range(samples):
            for _ in range(queued):
                send.send_nowait(None)
            watch, paused = Stopwatch(), trio.Event()
            send.send_nowait(paused)
            await paused.wait()
            took.append(watch() * 1000)
        send.close()
    return took


def control(scale: Scale) -> list[Figure]:
    """Pause, behind a full queue."""
    samples, queued = scale.of(40, 3), scale.of(10_000, 200)
    found = in_turn(
        scale.rounds,
        ours=under_trio(_control, samples, queued),
        fifo=under_trio(_control_fifo, max(samples // 10, 1), queued),
    )
    ours, fifo = ([percentile(side, 0.99) for side in found["ours"]], [percentile(side, 0.5) for side in found["fifo"]])
    return [
        figure(f"pause behind {queued} queued, p99", "ms", ours, budget=at_most(2)),
        figure(f"pause behind {queued} queued, p99", "ms", ours, "p50 in one FIFO", fifo),
    ]


# -- births ------------------------------------------------------------------------------------------------------------
async def _spawn(count: int) -> tuple[float, float]:
    """Seconds until all are ready, and bytes for each."""
    async with open_bare() as host:
        before, watch = rss_bytes(), Stopwatch()
        for number in range(count):
            host.boot(Counter, f"e{number}")
        await trio.testing.wait_all_tasks_blocked()
        took = watch()
        assert all(cell.state is State.RUNNING for cell in host.cells.values())
        return took, (rss_bytes() - before) / count


async def _spawn_raw(count: int) -> tuple[float, float]:
    """A task and a channel each."""

    async def serve(receive: trio.MemoryReceiveChannel[int]) -> None:
        async for _ in receive:
            pass

    async with trio.open_nursery() as nursery:
        before, watch = rss_bytes(), Stopwatch()
        channels = [trio.open_memory_channel[int](1000) for _ in range(count)]
        for _, receive in channels:
            nursery.start_soon(serve, receive)
        await trio.testing.wait_all_tasks_blocked()
        took = watch()
        memory = (rss_bytes() - before) / count
        nursery.cancel_scope.cancel()
    return took, memory


def _collect_as_the_daemon() -> None:
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def spawned(count: int) -> tuple[float, float]:
    _collect_as_the_daemon()
    return trio.run(_spawn, count)


def spawned_raw(count: int) -> tuple[float, float]:
    _collect_as_the_daemon()
    return trio.run(_spawn_raw, count)


def spawn(scale: Scale) -> list[Figure]:
    """Idle engines without a house, in an interpreter of their own, collected as the daemon is; so is the reference."""
    count = scale.of(10_000, 100)
    found = in_turn(scale.rounds, ours=apart(spawned, count), raw=apart(spawned_raw, count))
    took = {name: [one[0] * 1000 for one in side] for name, side in found.items()}
    memory = {name: [one[1] / 1000 for one in side] for name, side in found.items()}
    return [
        figure(f"{count} actors to ready", "ms", took["ours"], "raw task and channel", took["raw"], at_most(1.5)),
        figure("memory of an idle actor", "kB", memory["ours"], budget=at_most(16)),
        figure("memory of an idle actor", "kB", memory["ours"], "raw task and channel", memory["raw"]),
    ]


def open_house(store: Store) -> Any:
    return _Opened(store)


class _Opened:
    """A house with room for all, in `async with`."""

    def __init__(self, store: Store) -> None:
        self._opening = open_supervisor(store=store, kinds=[Counter])

    async def __aenter__(self) -> EmbeddedHouse:
        house = await self._opening.__aenter__()
        await house.create_pool(NewPool(id=POOL, max_engines=10**6))
        return house

    async def __aexit__(self, *exc: object) -> bool | None:
        return await self._opening.__aexit__(*exc)  # type: ignore[arg-type]  # noqa: ASYNC102 - as they came


async def at_a_time(clients: int, count: int, fn: Callable[[int], Awaitable[Any]]) -> None:
    """Call `fn` with 0 to `count`, from so many tasks at once."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await fn(number)

    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(client)


async def _spawn_house(count: int, directory: str) -> tuple[float, float]:
    """Engines per second, until all are ready, spawned by many clients of a whole house on SQLite; bytes each."""
    async with open_house(SqliteStore(Path(directory) / "journal.db")) as house:
        before, watch = rss_bytes(), Stopwatch()

        async def one(number: int) -> None:
            await house.spawn(NewEngine(kind=Counter.kind, id=f"e{number}", pool=POOL))

        await at_a_time(AT_A_TIME, count, one)
        for number in range(count):
            await house.supervisor.watch(house.supervisor.ids[f"e{number}"], lambda view: view.state is State.RUNNING)
        return rate(count, watch()), (rss_bytes() - before) / count


def spawned_in_house(count: int) -> tuple[float, float]:
    _collect_as_the_daemon()
    with tempfile.TemporaryDirectory() as directory:
        return trio.run(_spawn_house, count, directory)


def spawn_house(scale: Scale) -> list[Figure]:
    """Idle engines in a whole house on SQLite, against what its store alone accepts."""
    count, writes = scale.of(10_000, 50), scale.of(10_000, 100)
    found = in_turn(
        scale.rounds,
        ours=apart(spawned_in_house, count),
        store=lambda: (accept_rate(AT_A_TIME, writes), 0.0),
    )
    ours = [one[0] for one in found["ours"]]
    return [
        figure(
            f"{count} engines to ready, whole house", "1/s", ours, "durable accepts, 100 writers",
            [one[0] for one in found["store"]], at_least(0.25),
        ),
        figure("memory of an idle engine, whole house", "kB", [one[1] / 1000 for one in found["ours"]]),
    ]  # fmt: skip


# -- deaths ------------------------------------------------------------------------------------------------------------
async def _dispose(count: int) -> float:
    async with open_bare() as host:
        cells = [host.boot(Counter, f"e{number}") for number in range(count)]
        await trio.testing.wait_all_tasks_blocked()
        watch = Stopwatch()
        for cell in cells:
            with cell.turn():
                cell.end(Aim.DISPOSED, 1.0)
        await trio.testing.wait_all_tasks_blocked()
        took = watch()
        assert all(cell.state is State.DISPOSED for cell in cells)
        return took * 1000


async def _dispose_raw(count: int) -> float:
    async def serve(scope: trio.CancelScope, receive: trio.MemoryReceiveChannel[int]) -> None:
        with scope:
            async for _ in receive:
                pass

    async with trio.open_nursery() as nursery:
        scopes = [trio.CancelScope() for _ in range(count)]
        channels = [trio.open_memory_channel[int](1000) for _ in range(count)]
        for scope, (_, receive) in zip(scopes, channels, strict=True):
            nursery.start_soon(serve, scope, receive)
        await trio.testing.wait_all_tasks_blocked()
        watch = Stopwatch()
        for scope in scopes:
            scope.cancel()
    return watch() * 1000


def dispose(scale: Scale) -> list[Figure]:
    """Idle actors, all at once."""
    count = scale.of(1000, 50)
    found = in_turn(scale.rounds, ours=under_trio(_dispose, count), raw=under_trio(_dispose_raw, count))
    return [figure(f"dispose {count} actors", "ms", found["ours"], "raw cancel", found["raw"], at_most(3))]


async def _dispose_house(count: int) -> float:
    with tempfile.TemporaryDirectory() as directory:
        async with open_house(SqliteStore(Path(directory) / "journal.db")) as house:
            ids = [f"e{number}" for number in range(count)]
            await at_a_time(AT_A_TIME, count, lambda n: house.spawn(NewEngine(kind=Counter.kind, id=ids[n], pool=POOL)))
            watch = Stopwatch()
            gone = await house.dispose_many(ids)
            assert all(one.ok for one in gone)
            return watch() * 1000


def dispose_house(scale: Scale) -> list[Figure]:
    """Idle engines of a whole house on SQLite; there is no process to look for, so none is."""
    count = scale.of(1000, 20)
    found = in_turn(scale.rounds, ours=under_trio(_dispose_house, count))
    return [figure(f"dispose {count} engines, whole house", "ms", found["ours"])]


# -- crashes -----------------------------------------------------------------------------------------------------------
async def _crash(samples: int) -> list[float]:
    """Milliseconds from the crash to the next incarnation that is ready, one after the other."""
    took: list[float] = []
    async with open_house(MemoryStore()) as house:
        await house.spawn(NewEngine(kind=Counter.kind, id="counter", pool=POOL, restart=AT_ONCE))
        cell, ref = house.supervisor.cell("counter"), house.supervisor.ref("counter")
        for incarnation in range(1, samples + 1):
            await until(cell, lambda: cell.state is State.RUNNING)
            await trio.testing.wait_all_tasks_blocked()
            watch = Stopwatch()
            ref.tell("crash")
            await until(cell, lambda: cell.incarnation > incarnation and cell.state is State.RUNNING)  # noqa: B023 - called within the loop's turn
            took.append(watch() * 1000)
    return took


async def _crash_raw(samples: int) -> list[float]:
    """A loop that restarts a task that raises."""
    took: list[float] = []

    async def engine(told: trio.Event, ready: trio.Event) -> Never:
        ready.set()
        await told.wait()
        raise RuntimeError("told to crash")

    async def keep(events: list[tuple[trio.Event, trio.Event]]) -> None:
        for told, ready in events:
            try:
                async with trio.open_nursery(strict_exception_groups=True) as nursery:  # noqa: ASYNC112 - the price
                    nursery.start_soon(engine, told, ready)
            except* RuntimeError:
                pass

    events = [(trio.Event(), trio.Event()) for _ in range(samples + 1)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, events)
        for (told, ready), (_, again) in pairwise(events):
            await ready.wait()
            watch = Stopwatch()
            told.set()
            await again.wait()
            took.append(watch() * 1000)
        events[-1][0].set()
    return took


def crash(scale: Scale) -> list[Figure]:
    """From a crash to the next incarnation, without a backoff."""
    samples = scale.of(200, 5)
    found = in_turn(scale.rounds, ours=under_trio(_crash, samples), raw=under_trio(_crash_raw, samples))
    p99 = [percentile(side, 0.99) for side in found["ours"]]
    p50 = {name: [median(side) for side in sides] for name, sides in found.items()}
    return [
        figure("crash to running again, p99", "ms", p99, budget=at_most(2)),
        figure("crash to running again, p50", "ms", p50["ours"], "raw trio", p50["raw"]),
    ]
