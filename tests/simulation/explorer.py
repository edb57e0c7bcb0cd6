"""One schedule: three lives of a house on one journal, two of which end in a kill or a broken disk, the last one well.

    python -m tests.simulation.explorer 0 200      explores seeds; prints the trace of each, and what it violates

The real house is explored: cells, mailboxes, rings, recovery, the memory store. Only time, randomness and the disk are
ours (`schedule`, `world.Disk`), so the same seed is the same schedule, to the byte.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass

import trio

from protocol.commands import Pause, Resume
from protocol.errors import EnginehouseError, StoreUnavailable
from protocol.events import Row
from protocol.states import State, Trigger
from supervisor import open_supervisor
from supervisor.embedded import EmbeddedHouse
from supervisor.house import Caller, Filter
from supervisor.store.memory import MemoryStore
from tests.simulation import invariants, schedule
from tests.simulation.clients import Client, janitor, prepare
from tests.simulation.engines import kinds
from tests.simulation.readers import Reader
from tests.simulation.world import Disk, World

__all__ = ["Report", "explore"]

LIVES, CLIENTS, REQUESTS = 3, 3, 26
SETTLED = (State.PAUSED, State.STOPPED, State.FAILED, State.DISPOSED, State.DORMANT)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a seed. `trace`: the hash of its journal, its effects and its answers; `cells`: (state, trigger)."""

    seed: int
    violations: tuple[str, ...]
    trace: str
    types: frozenset[str]
    cells: frozenset[tuple[State, Trigger]]

    def __str__(self) -> str:
        listed = "\n  ".join(self.violations[:12])
        return f"seed {self.seed} violates:\n  {listed}\nagain: python -m tests.simulation.explorer {self.seed}\n"


def explore(seed: int) -> Report:
    """Run one schedule and check everything that is promised. Never raises for a violation: it is in the report."""
    world = World.of(seed)
    try:
        with tempfile.TemporaryDirectory(prefix="simulation-") as directory:
            schedule.run(lambda: _schedule(world, directory), seed)
    except (Exception, schedule.Stuck) as error:  # noqa: BLE001 - whatever a house raises here is what the report is for
        world.violations.append(f"the house raised {_flat(error)}")
    rows = [Row.from_wire(kept.wire, kept.uid) for kept in world.journal.rows]
    found = [*world.violations, *invariants.journal(rows, world.boundaries)]
    cells = frozenset(
        (state, trigger)
        for own in invariants.by_engine(rows).values()
        for _, state, trigger, _ in invariants.moves(own, world.boundaries)
    )
    trace = hashlib.sha256(repr((world.effects, world.acks, sorted(world.refusals.items()))).encode())
    for row in rows:
        trace.update(row.wire)
    return Report(seed, tuple(found), trace.hexdigest(), frozenset(row.type for row in rows), cells)


async def _schedule(world: World, directory: str) -> None:
    readers = [
        Reader("everything", Filter()),
        Reader("runs", Filter(types=("run", "request"))),
        Reader("of a", Filter(engine="a")),
        Reader("team", Filter(pools=("team",))),
    ]
    with trio.CancelScope() as scope:
        scope.deadline = trio.current_time() + 600
        for life in range(LIVES):
            await _life(world, readers, directory, last=life == LIVES - 1)
    world.must(not scope.cancelled_caught, "600 s have passed and the schedule is not over")
    await _closed(world, readers)


async def _life(world: World, readers: list[Reader], directory: str, *, last: bool) -> None:
    rng, life = world.rng, world.begin()
    breaks = not last and rng.random() < 0.15
    at = rng.randrange(1, 120) if not last else None
    disk = Disk(world, kill_at=None if breaks else at, torn=rng.random() < 0.5, break_at=at if breaks else None)
    try:
        with disk.scope:
            async with open_supervisor(
                store=disk, kinds=kinds(world), directory=directory, name="sim", grace_s=0.5, margin_s=0.1,
                wall=world.wall, random=rng,
            ) as house:  # fmt: skip
                world.house = house
                await _lived(world, house, disk, readers, last=last)
                if last:
                    await _settle(world, house, readers)
    except StoreUnavailable:
        world.must(disk.broke, f"life {life} ended with StoreUnavailable and its disk is well")


async def _lived(world: World, house: EmbeddedHouse, disk: Disk, readers: list[Reader], *, last: bool) -> None:
    """Clients, readers and a watch, until the clients are done or the house is killed."""
    async with trio.open_nursery() as nursery:

        async def busy() -> None:
            with suppress(StoreUnavailable):
                await prepare(world, house)
            async with trio.open_nursery() as clients:
                for number in range(CLIENTS):
                    clients.start_soon(Client(world, house, f"client{number}").run, REQUESTS)
            nursery.cancel_scope.cancel()

        nursery.start_soon(busy)
        nursery.start_soon(_watch, world, house)
        for reader in readers:
            nursery.start_soon(reader.run, world, house)
    if world.alive:
        await _compare(world, house)
    if not last:
        disk.kill()


async def _watch(world: World, house: EmbeddedHouse) -> None:
    while True:
        for uid, cell in house.supervisor.cells.items():
            world.cells[uid] = cell
            for violation in invariants.bounded(cell):
                world.must(False, violation)
        await trio.sleep(0.02)


async def _compare(world: World, house: EmbeddedHouse) -> None:
    """What is shown now is what the journal says now (nothing is awaited in between)."""
    folded = house.supervisor.folded
    rows = [Row.from_wire(kept.wire, kept.uid) for kept in world.journal.rows if kept.seq <= folded]
    for violation in invariants.views(house.supervisor.views, rows):
        world.must(False, violation)


async def _settle(world: World, house: EmbeddedHouse, readers: list[Reader]) -> None:
    """Liveness: a pause is reached, and what is let go comes to its end."""
    world.calm = True
    supervisor = house.supervisor
    caller = Caller(principal="settler")

    async def everyone(body: Pause | Resume) -> None:
        for uid, cell in list(supervisor.cells.items()):
            world.cells[uid] = cell
            try:
                await house.command(cell.spec.id, body, caller)
            except EnginehouseError:
                continue

    async with trio.open_nursery() as nursery:
        nursery.start_soon(janitor, world, house)
        await everyone(Pause(holder="end"))
        await trio.sleep(4)
        for cell in supervisor.cells.values():
            reached = cell.state in SETTLED or cell.waiting_for_place is not None
            world.must(reached or not cell.held, f"I11 {cell!r} was held 4 s ago and is {cell.state}")
        await _compare(world, house)
        await everyone(Resume(holder="*"))
        await trio.sleep(20)
        for cell in supervisor.cells.values():
            idle = cell.state is not State.RUNNING or not (cell.mailbox.hand or len(cell.mailbox))
            world.must(idle, f"{cell!r} was let go 20 s ago and still has {cell.mailbox.statistics()}")
            resting = cell.state in (State.RUNNING, *SETTLED) or cell.waiting_for_place is not None
            world.must(resting, f"{cell!r} was let go 20 s ago and is {cell.state}")
        await _compare(world, house)
        nursery.cancel_scope.cancel()
    await trio.sleep(1)
    for reader in readers:
        await reader.run(world, house, patient=True)
        rows = [Row.from_wire(kept.wire, kept.uid) for kept in world.journal.rows]
        for violation in invariants.read(reader, world, rows):
            world.must(False, violation)


async def _closed(world: World, readers: list[Reader]) -> None:
    """The house was closed well: everything is at rest, and the journal is what it was said to be."""
    world.alive = True  # what follows is seen, whatever the last life was
    house = world.house
    assert house is not None
    rows = [Row.from_wire(kept.wire, kept.uid) for kept in world.journal.rows]
    supervisor = house.supervisor
    for cell in world.cells.values():
        view = supervisor.views.get(cell.spec.uid)
        if view is not None and supervisor.cells.get(cell.spec.uid) is cell:
            for violation in invariants.at_rest(cell, view):
                world.must(False, violation)
        elif cell.state is State.DISPOSED and (cell.living or cell.actor is not None or cell.mailbox.hand):
            world.must(bool(cell.leaks), f"I13 {cell!r} is disposed and has something left")
    seen = (
        *invariants.views(supervisor.views, rows),
        *invariants.told(world, rows),
        *invariants.written_down(world, rows),
    )
    for violation in seen:
        world.must(False, violation)
    store = MemoryStore(world.journal)
    await store.open()
    for violation in await invariants.audit(store):
        world.must(False, violation)
    world.end()


def _flat(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_flat(inner) for inner in error.exceptions)
    frame = error.__traceback__
    where = ""
    while frame is not None:
        where = f"{frame.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.tb_lineno}"
        frame = frame.tb_next
    return f"{type(error).__name__}: {error} ({where})"


def main(first: int, beyond: int) -> int:
    """Explore a range of seeds, and tell; the number of those that violate something."""
    bad = 0
    for seed in range(first, beyond):
        report = explore(seed)
        bad += bool(report.violations)
        sys.stdout.write(f"{seed} {report.trace}\n{report if report.violations else ''}")
    sys.stdout.write(f"{beyond - first} seeds, {bad} with violations\n")
    return bad


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    sys.exit(bool(main(numbers[0], numbers[1] if len(numbers) > 1 else numbers[0] + 1)))
