"""Pools: engines that belong together, and the limits that they share.

A pool decides who may boot (`max_running`), who else restarts when one crashes (its strategy, counted once in its own
window), and who may be given work (draining, quotas). Its spec is a document in the store; its windows are of this life
of the house only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.cell import Cell
from actors.mailbox import Mailbox, MailboxStatistics
from protocol.decide import exceeded
from protocol.errors import Draining, NotFound, QuotaExceeded
from protocol.specs import PoolSpec, Strategy
from protocol.states import State

__all__ = ["DEFAULT", "Pool", "Pools"]

DEFAULT = "default"
MINUTE_S = 60.0


@dataclass(slots=True, eq=False)
class Pool:
    """`pools`: all of the house, of which this is one. `cells`: its engines that are not disposed, by uid, in the order
    of their spawning. `spawning`: how many are on their way; `waiting`: who has been promised the next places; `used`:
    tokens and cost so far; `retired`: what the mailboxes of its disposed engines counted.
    """

    spec: PoolSpec
    pools: Pools
    cells: dict[str, Cell] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    on_their_way: set[str] = field(default_factory=set)
    spawning: int = 0
    waiting: deque[Cell] = field(default_factory=deque)
    restarts: list[float] = field(default_factory=list)
    runs: deque[float] = field(default_factory=deque)
    used: dict[str, float] = field(default_factory=dict)
    retired: MailboxStatistics = field(default_factory=Mailbox(0).statistics)

    @property
    def engines(self) -> int:
        return len(self.cells)

    @property
    def running(self) -> int:
        """Engines that have an actor."""
        return sum(1 for cell in self.cells.values() if cell.actor is not None)

    @property
    def draining(self) -> bool:
        """Whether it takes nothing new: of its own accord, or with the whole house."""
        return self.spec.draining or self.pools.draining

    # -- limits ------------------------------------------------------------------------------------------------------
    def check_spawn(self) -> None:
        if self.draining:
            raise Draining(f"{self._who_drains()} drains and takes nothing new.", retry_after_s=5)
        if self.engines + self.spawning >= self.spec.max_engines:
            raise QuotaExceeded(
                f"Pool {self.spec.id} has its {self.spec.max_engines} engines. Dispose of one, or raise max_engines.",
                retry_after_s=10,
            )

    def check_run(self, now: float) -> None:
        """Raises what keeps a new run out; nothing is counted yet."""
        if self.draining:
            raise Draining(f"{self._who_drains()} drains: what is queued and active finishes.", retry_after_s=5)
        quotas = self.spec.quotas
        while self.runs and self.runs[0] <= now - MINUTE_S:
            self.runs.popleft()
        if quotas.runs_per_minute is not None and len(self.runs) >= quotas.runs_per_minute:
            raise QuotaExceeded(
                f"Pool {self.spec.id} took its {quotas.runs_per_minute} runs of this minute.",
                retry_after_s=max(1, round(self.runs[0] + MINUTE_S - now)),
            )
        for name in ("tokens", "cost_usd"):
            limit = getattr(quotas, name)
            if limit is not None and self.used.get(name, 0) >= limit:
                raise QuotaExceeded(
                    f"Pool {self.spec.id} has used its budget of {limit} {name}. Raise the quota to go on.",
                    retry_after_s=60,
                )

    def _who_drains(self) -> str:
        return "The house" if self.pools.draining else f"Pool {self.spec.id}"

    def count_run(self, now: float) -> float:
        self.runs.append(now)
        return now

    def uncount_run(self, at: float) -> None:
        """It was a repeat of one that was counted before."""
        if at in self.runs:
            self.runs.remove(at)

    def add_usage(self, usage: Mapping[str, float]) -> None:
        for name, amount in usage.items():
            self.used[name] = self.used.get(name, 0) + amount

    def budget(self, now: float) -> dict[str, Any]:
        return {
            "runs_last_minute": sum(1 for at in self.runs if at > now - MINUTE_S),
            "tokens": self.used.get("tokens", 0),
            "cost_usd": self.used.get("cost_usd", 0),
        }

    # -- places ------------------------------------------------------------------------------------------------------
    def admit(self, cell: Cell) -> bool:
        """Whether one more actor has a place; when not, the cell is next in line."""
        limit = self.spec.max_running
        if limit is None or (self.running < limit and (not self.waiting or self.waiting[0] is cell)):
            if self.waiting and self.waiting[0] is cell:
                self.waiting.popleft()
            return True
        if cell not in self.waiting:
            self.waiting.append(cell)
        return False

    def next_in_line(self) -> Cell | None:
        """Who gets the place that is free now."""
        while self.waiting and self.waiting[0].waiting_for_place is None:
            self.waiting.popleft()
        limit = self.spec.max_running
        if self.waiting and (limit is None or self.running < limit):
            return self.waiting[0]
        return None

    # -- restarts ----------------------------------------------------------------------------------------------------
    def exhausted(self, now: float) -> bool:
        """Whether one more restart is too many for the pool's own window."""
        limit = self.spec.max_restarts
        self.restarts = [at for at in self.restarts if at > now - self.spec.window_s]
        return limit is not None and exceeded(self.restarts, now, limit, self.spec.window_s)

    def group(self, cell: Cell) -> list[Cell]:
        """Who else goes down and up with this engine."""
        others = [c for c in self.cells.values() if c is not cell and not _at_rest(c)]
        match self.spec.strategy:
            case Strategy.ONE_FOR_ONE:
                return []
            case Strategy.ONE_FOR_ALL:
                return others
            case Strategy.REST_FOR_ONE:
                order = list(self.cells.values())
                after = order[order.index(cell) + 1 :] if cell in order else []
                return [c for c in others if c in after]


class Pools:
    """All pools of a house, by id. `draining`: none of them takes anything new."""

    def __init__(self, specs: Iterable[PoolSpec] = ()) -> None:
        self.draining = False
        self._pools = {spec.id: Pool(spec, self) for spec in specs}
        if DEFAULT not in self._pools:
            self._pools[DEFAULT] = Pool(PoolSpec(id=DEFAULT, max_engines=100_000), self)

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._pools.values())

    def __contains__(self, id: str) -> bool:
        return id in self._pools

    def get(self, id: str) -> Pool:
        found = self._pools.get(id)
        if found is None:
            raise NotFound(f"There is no pool {id!r}.")
        return found

    def of(self, cell: Cell) -> Pool:
        """The pool of an engine; one that was deleted above it is made again, empty of rules."""
        found = self._pools.get(cell.spec.pool)
        if found is None:
            found = self._pools[cell.spec.pool] = Pool(PoolSpec(id=cell.spec.pool), self)
        return found

    def put(self, spec: PoolSpec) -> Pool:
        found = self._pools.get(spec.id)
        if found is None:
            found = self._pools[spec.id] = Pool(spec, self)
        else:
            found.spec = spec
        return found

    def remove(self, id: str) -> None:
        self._pools.pop(id, None)

    def count_usage(self, id: str, usage: Mapping[str, float]) -> None:
        """What runs have used goes to their pool's budget, if the pool is still there."""
        if id in self._pools:
            self._pools[id].add_usage(usage)

    def joined(self, cell: Cell) -> None:
        pool = self.of(cell)
        pool.cells[cell.spec.uid] = cell
        if cell.spec.key is not None:
            pool.keys[cell.spec.key] = cell.spec.id

    def left(self, cell: Cell) -> None:
        """It is disposed."""
        pool = self.of(cell)
        pool.cells.pop(cell.spec.uid, None)
        if cell.spec.key is not None and pool.keys.get(cell.spec.key) == cell.spec.id:
            del pool.keys[cell.spec.key]
        if cell in pool.waiting:
            pool.waiting.remove(cell)


def _at_rest(cell: Cell) -> bool:
    """Nothing of it is up, and nothing comes up by itself."""
    return cell.actor is None and cell.state is not State.BACKING_OFF
