"""What one schedule is about: a seed, a journal that outlives kills, and all that was seen from outside.

Engines, clients and readers belong to one life of the house. Once that life was killed, what its leftovers do and see
while they are torn down counts for nothing: a process that was killed would not have done it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from actors.cell import Cell
from protocol.errors import StoreUnavailable
from protocol.writes import Write
from supervisor.embedded import EmbeddedHouse
from supervisor.store.contract import Committed
from supervisor.store.ledger import Batch, Entry
from supervisor.store.memory import Journal, MemoryStore

__all__ = ["Ack", "Disk", "World"]

EPOCH = 1_767_225_600.0
"""Where wall time begins, in every schedule."""


@dataclass(frozen=True, slots=True)
class Ack:
    """What a client was told: its command is accepted."""

    principal: str
    key: str | None
    command_id: str
    type: str
    seq: int
    replayed: bool


@dataclass(slots=True, eq=False)
class World:
    """`audited`: the requests that were answered while their house lived; `boundaries`: the `seq` at which each life
    began; `effects`: what engines did, for the trace.
    """

    seed: int
    rng: random.Random
    journal: Journal = field(default_factory=Journal)
    life: int = -1
    alive: bool = False
    calm: bool = False
    house: EmbeddedHouse | None = None
    boundaries: list[int] = field(default_factory=list)
    effects: list[tuple[Any, ...]] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)
    attempts: int = 0
    audited: list[str] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    cells: dict[str, Cell] = field(default_factory=dict)

    @classmethod
    def of(cls, seed: int) -> World:
        return cls(seed, random.Random(seed))

    def wall(self) -> float:
        return EPOCH + trio.current_time()

    def begin(self) -> int:
        """A new life of the house."""
        self.life, self.alive, self.house = self.life + 1, True, None
        self.boundaries.append(self.journal.latest)
        return self.life

    def end(self) -> None:
        """Killed, or closed: nobody looks any more."""
        self.alive = False

    def now(self, life: int) -> bool:
        """Whether that life still is."""
        return self.alive and self.life == life

    def must(self, ok: object, what: str) -> None:
        """A check from outside. An `assert` in an engine would be taken for a crash of the engine and restarted."""
        if not ok:
            self.violations.append(f"at {trio.current_time():.4f} in life {self.life}: {what}")


class Disk(MemoryStore):
    """A journal whose commits take seeded time in seeded pieces, and which can be killed or can break.

    `kill_at`, `break_at`: the number of the commit with which it happens. A kill drops what is queued (`torn` False) or
    what was durable before anybody heard of it (`torn` True); a break is a failed fsync, whose house stops by itself.
    """

    def __init__(self, world: World, *, kill_at: int | None, torn: bool, break_at: int | None) -> None:
        super().__init__(world.journal, randbits=world.rng.getrandbits)
        self._world, self._kill_at, self._torn, self._break_at = world, kill_at, torn, break_at
        self._mean_s = world.rng.choice([0.0, 0.001, 0.004])
        self._largest = world.rng.choice([1, 3, 8, 256])
        self._count = 0
        self.broke = False
        self.dead = False
        self.scope = trio.CancelScope()

    def kill(self) -> None:
        """Kill -9: nothing that is not in the journal now ever will be. Cancels `scope`, in which the house lives."""
        self.dead = True
        self._world.end()
        self.scope.cancel()

    def cut(self, queued: int) -> int:
        return 1 + self._world.rng.randrange(min(queued, self._largest))

    def submit(self, write: Write) -> None:
        if not self.dead:
            super().submit(write)

    async def sync(self, batch: Sequence[Write]) -> None:
        self._count += 1
        if self._mean_s:
            await trio.sleep(self._mean_s * 2 * self._world.rng.random())
        else:
            await trio.lowlevel.checkpoint()
        if self._count == self._break_at:
            self.broke = True
            self._world.end()
            raise StoreUnavailable("the disk is gone")
        if self._count == self._kill_at and not self._torn:
            self.kill()
        if self.dead:
            await trio.sleep_forever()

    def commit(self, batch: Sequence[Entry]) -> Batch:
        entered = super().commit(batch)
        if self._count == self._kill_at:
            self.kill()
        return entered

    async def run(self, committed: Committed) -> None:
        await super().run(lambda commits: None if self.dead else committed(commits))
