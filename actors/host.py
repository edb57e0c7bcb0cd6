"""What an actor needs of the house it lives in. The supervisor is one; a test can be another.

Everything here is synchronous: a cell never waits for the house. Time and ids come from here and from nowhere else,
so that a seed decides a whole run of the house.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio

from actors.children import ChildPolicy
from actors.observer import Observer
from protocol.bodies import NewRun
from protocol.decide import Decision, Exit
from protocol.events import Row
from protocol.requests import Request
from protocol.specs import PoolSpec, Spec
from protocol.wire import RunInfo

if TYPE_CHECKING:
    from actors.cell import Cell
    from actors.journaling import Journaling

__all__ = ["EngineEnv", "Host", "Siblings", "Timer"]

EngineEnv = Callable[[Spec, int], Mapping[str, str]]
"""What the programs of an incarnation get in their environment that asked for access to the house (`api`)."""


class Timer(Protocol):
    """A callback at a monotonic time."""

    @property
    def active(self) -> bool:
        """It was neither cancelled nor called yet."""

    def cancel(self) -> None:
        """O(1) and idempotent."""


class Siblings(Protocol):
    """The other engines of an engine's pool, as it may use them. Raises EnginehouseError for what is refused."""

    async def give(self, engine: str, run: NewRun, *, done_for: str, key: str) -> tuple[str, str]:
        """Give a run, once for the key of the run that it is done for, with which it ends: the uid of the engine, and
        the id of the new run.
        """

    async def ended(self, uid: str, run: str) -> RunInfo:
        """The run, once it has ended."""

    def take_back(self, run: str) -> None:
        """Have a run that was given cancelled, as far as it has not ended. Does not wait."""


class Host(Protocol):
    """See the module."""

    name: str
    """Names the house on this machine: the first part of its process trees' markers."""
    gone: bool
    """The house is torn down: what exits now did not crash."""
    threads: bool
    """Whether file work may go to a thread; a virtual clock sees none."""
    observer: Observer
    """Hears of what happens, and is asked for the trace of a run."""
    children: ChildPolicy
    """What the programs of engines are started with."""
    engine_env: EngineEnv | None
    """None: no engine gets access to the house."""
    disk: trio.CapacityLimiter
    """For threads that look at a disk which may be dead."""
    margin_s: float
    """How long past its deadline a disposed engine may take before its task is named as a leak."""

    def check_durable(self) -> None:
        """Raises StoreUnavailable or ShuttingDown when nothing becomes durable any more."""

    def submit(self, cell: Journaling, rows: tuple[Row, ...]) -> None:
        """Journal rows of one synchronous stretch; `cell.committed` is called once they are durable."""

    def publish(self, cell: Journaling, row: Row) -> None:
        """Show a transient row to whoever is watching."""

    def start(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task in the house's nursery, with the context variables of the house."""

    def at(self, when: float, fn: Callable[[], object]) -> Timer:
        """Call `fn` at this monotonic time, from the house's one deadline task."""

    def now(self) -> float:
        """Monotonic seconds."""

    def wall(self) -> float:
        """Seconds since the epoch."""

    def stamp_at(self, wall: float) -> str:
        """A wall time as RFC 3339 with milliseconds."""

    def stamp(self) -> str:
        """Now, as RFC 3339 with milliseconds."""

    def new_id(self, prefix: str) -> str: ...

    def nonce(self) -> str:
        """128 random bits as 32 lower-case hex digits."""

    def rules(self, cell: Cell) -> PoolSpec:
        """What the engine's pool says."""

    def person(self, principal: str) -> str:
        """Who stands behind a principal; itself, when nobody does."""

    def watched(self, request: Request) -> bool:
        """Whether somebody who may decide it is watching, or was a moment ago."""

    def admit(self, cell: Cell) -> bool:
        """Whether the pool has a place for one more actor; when not, the cell is booted once there is."""

    def decide(self, cell: Cell, exit: Exit) -> Decision:
        """Restart or not: the engine's own window, its pool's, and its group's strategy."""

    def changed(self, cell: Cell) -> None:
        """The cell's state changed (a place may be free, an idle clock may start)."""

    def idle_s(self, cell: Cell) -> float | None:
        """After how much idleness the engine goes dormant: its own setting, else its pool's."""

    def siblings(self, cell: Cell) -> Siblings:
        """The other engines of its pool."""

    def late(self, cell: Cell) -> None:
        """An answer came after its asker had gone: counted as a dead letter, never an exception in the actor."""

    @property
    def runs_directory(self) -> Path:
        """Where `<run_id>.out` files live."""

    def folder(self, uid: str) -> Path:
        """Where this engine may keep files of its own; removed some time after it was disposed."""
