"""A host without a house: cells that run as they do, and rows that are as good as durable when they are written.

What is measured on it is the price of an actor alone; `supervisor` and the store are measured whole.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from actors.cell import Cell
from actors.children import ChildPolicy
from actors.engine import Config, Engine
from actors.host import EngineEnv, Siblings
from actors.journaling import Journaling
from actors.observer import Observer, Unobserved
from actors.ref import Ref
from protocol.decide import Decision, Exit, decide
from protocol.errors import NotFound
from protocol.events import Row
from protocol.ids import Ids
from protocol.requests import Request
from protocol.specs import Backoff, PoolSpec, Restart, Spec
from supervisor.deadlines import Deadline, Deadlines

__all__ = ["AT_ONCE", "Bare", "open_bare"]

NOON = "2026-01-01T12:00:00.000Z"

AT_ONCE = Restart(max_restarts=10**6, backoff=Backoff(min_s=0, max_s=0, jitter=0))
"""Restart always, without a delay."""


class Bare:
    """`actors.host.Host`, as small as it can be."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.name = "bare"
        self.gone = False
        self.threads = True
        self.margin_s = 2.0
        self.observer: Observer = Unobserved()
        self.children = ChildPolicy()
        self.engine_env: EngineEnv | None = None
        self.disk = trio.CapacityLimiter(1)
        self.cells: dict[str, Cell] = {}
        self.deadlines = Deadlines()
        self._nursery = nursery
        self._random = random.Random(0)
        self.new_id = Ids(lambda: round(time.time() * 1000), self._random.getrandbits).new

    def boot(self, kind: type[Engine], id: str, *, mailbox_size: int = 1000) -> Cell:
        """An engine that is starting."""
        spec = Spec(id=id, uid=id, pool="default", kind=kind.kind, mailbox_size=mailbox_size, restart=AT_ONCE)
        cell = self.cells[id] = Cell(self, spec, kind, Config())
        cell.boot("spawn")
        return cell

    def ref(self, id: str) -> Ref:
        return Ref(id, self.cells.__getitem__)

    def submit(self, cell: Journaling, rows: tuple[Row, ...]) -> None:
        cell.committed(rows)

    def check_durable(self) -> None:
        pass

    def publish(self, cell: Journaling, row: Row) -> None:
        pass

    def start(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        self._nursery.start_soon(task, name=name)

    def at(self, when: float, fn: Callable[[], object]) -> Deadline:
        return self.deadlines.at(when, fn)

    def now(self) -> float:
        return trio.current_time()

    def wall(self) -> float:
        return time.time()

    def stamp_at(self, wall: float) -> str:
        return NOON

    def stamp(self) -> str:
        return NOON

    def random(self) -> float:
        return self._random.random()

    def nonce(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def rules(self, cell: Cell) -> PoolSpec:
        return PoolSpec(id="default")

    def person(self, principal: str) -> str:
        return principal

    def watched(self, request: Request) -> bool:
        return True

    def admit(self, cell: Cell) -> bool:
        return True

    def decide(self, cell: Cell, exit: Exit) -> Decision:
        return decide(cell.spec.restart, cell.history, exit, self.now(), self.random())

    def changed(self, cell: Cell) -> None:
        pass

    def idle_s(self, cell: Cell) -> float | None:
        return None

    def siblings(self, cell: Cell) -> Siblings:
        raise NotFound("A bare host has no pools.")

    def late(self, cell: Cell) -> None:
        pass

    @property
    def runs_directory(self) -> Path:
        return Path("nowhere")

    def folder(self, uid: str) -> Path:
        return Path("nowhere", uid)


@asynccontextmanager
async def open_bare() -> AsyncIterator[Bare]:
    """A bare host and its nursery; whatever still lives is cancelled at the end."""
    async with trio.open_nursery() as nursery:
        host = Bare(nursery)
        nursery.start_soon(host.deadlines.run)
        try:
            yield host
        finally:  # an actor is shielded, so a body that raises must end it too
            host.gone = True
            for cell in host.cells.values():
                if cell.actor is not None:
                    cell.actor.scope.cancel()
            nursery.cancel_scope.cancel()
