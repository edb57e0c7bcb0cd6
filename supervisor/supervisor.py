"""The supervisor: many engines, one store, one nursery; where commands enter and where commits come out.

A command enters in one synchronous stretch (`supervisor.intake`): legality, a reserved place, the store. It comes out
in `committed`, the one callback that folds and publishes each row and then delivers the command, in the order of the
journal. Nothing else changes what is seen, and nobody waits for an engine here. `supervisor.embedded` is the public
face of this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context as ContextVars
from pathlib import Path
from typing import TypeVar

import trio

from actors.cell import Cell
from actors.children import ChildPolicy
from actors.delivery import deliver
from actors.engine import Config
from actors.host import EngineEnv, Siblings
from actors.journaling import Journaling
from actors.kinds import Kinds
from actors.observer import Observer, Unobserved
from actors.ref import Ref
from protocol.decide import Decision, Exit
from protocol.deciding import may_decide
from protocol.edge import dump
from protocol.errors import (
    BadInput,
    EngineDisposed,
    EnginehouseError,
    NotFound,
    ShuttingDown,
    StoreUnavailable,
)
from protocol.events import RUN_ENDS, Row
from protocol.fold import fold
from protocol.ids import Ids
from protocol.requests import Request
from protocol.specs import PoolSpec, Spec
from protocol.states import State
from protocol.times import rfc3339
from protocol.view import View
from protocol.wire import EngineInfo
from protocol.writes import Commit, Snapshot, Write
from supervisor.absent import absent
from supervisor.attendance import Attendance
from supervisor.deadlines import Deadline, Deadlines
from supervisor.delegated import Delegated
from supervisor.expiry import Expiry
from supervisor.folders import Folders
from supervisor.groups import Groups
from supervisor.infos import engine_info
from supervisor.intake import Intake
from supervisor.pools import Pool, Pools
from supervisor.receipts import Receipt
from supervisor.rings import Rings
from supervisor.store.contract import Store
from supervisor.watchers import Watchers

__all__ = ["Supervisor"]

T = TypeVar("T")
SNAPSHOT_EVERY = 256
DISK_THREADS = 8
"""How many looks at the disk of others (directories, secrets) may be under way: a dead one holds up no other thread."""


class Supervisor:
    """One house. It is the `Host` of its cells."""

    def __init__(
        self,
        store: Store,
        kinds: Kinds,
        directory: Path,
        *,
        name: str,
        ids: Ids,
        wall: Callable[[], float],
        random: Callable[[], float],
        randbits: Callable[[int], int],
        margin_s: float,
        threads: bool = True,
        observer: Observer | None = None,
        grace_s: float = 10.0,
        children: ChildPolicy,
        engine_env: EngineEnv | None = None,
    ) -> None:
        self.store, self.kinds, self.directory, self.name = store, kinds, directory, name
        self.margin_s, self.threads, self.grace_s = margin_s, threads, grace_s
        self.observer: Observer = observer or Unobserved()
        self.children, self.engine_env = children, engine_env
        self.disk = trio.CapacityLimiter(DISK_THREADS)
        self.gone = False
        self.closing = False
        self.failed: StoreUnavailable | None = None
        self.ids: dict[str, str] = {}
        self.cells: dict[str, Cell] = {}
        self.views: dict[str, View] = {}
        self.pools = Pools()
        self.deadlines = Deadlines()
        self.rings = Rings()
        self.groups = Groups(self)
        self.expiry = Expiry(self)
        self.delegated = Delegated(self)
        self.folders = Folders(self)
        self.waits: list[tuple[str, str]] = []  # which engine waits for which one, by uid
        self.watchers = Watchers()
        self.attendance = Attendance(self.now)
        self.person: Callable[[str], str] = _itself
        self.intake = Intake(self)
        self.open_runs: dict[str, str] = {}
        self.letters = trio.Lock()  # a dead letter is sent once, whoever asks at the same time
        self.folded = 0
        self.late_answers = 0
        self.started_at = 0.0
        self._new_id = ids.new
        self._wall, self._random, self._randbits = wall, random, randbits
        self._nursery: trio.Nursery | None = None
        self._context: ContextVars | None = None
        self._since_snapshot: dict[str, int] = {}
        self.written = trio.Event()
        self.looking = trio.Lock()  # at what the last house left: one at a time

    # -- Host: what cells need ---------------------------------------------------------------------------------------
    @property
    def runs_directory(self) -> Path:
        return self.directory / "runs"

    def folder(self, uid: str) -> Path:
        return self.folders.of(uid)

    def now(self) -> float:
        return trio.current_time()

    def wall(self) -> float:
        return self._wall()

    def stamp(self) -> str:
        return self.stamp_at(self._wall())

    def stamp_at(self, wall: float) -> str:
        return rfc3339(round(wall * 1000))

    def new_id(self, prefix: str) -> str:
        return self._new_id(prefix)

    def nonce(self) -> str:
        return f"{self._randbits(128):032x}"

    def rules(self, cell: Cell) -> PoolSpec:
        return self.pools.of(cell).spec

    def behind(self, principal: str | None, others: Sequence[str]) -> tuple[str, ...]:
        """The principals behind a run: who asks for it, who stands behind them, and who asked for it before. Behind an
        engine's own token stands whoever asked for what that engine has in hand.
        """
        kind, _, name = (principal or "").partition(":")
        cell = self.cells.get(name) if kind == "engine" else None
        if cell is not None:
            others = (*others, *cell.asked_by)
        own = () if principal is None else (principal, *map(self.person, (principal, *others)))
        return tuple(dict.fromkeys((*others, *own)))

    def watched(self, request: Request) -> bool:
        view = self.views.get(request.uid)
        return view is not None and self.attendance.watches(
            request, kind=view.spec.kind, pool=self._rules_of(request), person=self.person
        )

    def may_decide(self, request: Request, principal: str | None) -> None:
        """Raises InsufficientScope when `principal` may not decide a request, also one that has ended."""
        may_decide(request, principal=principal, authority=None, pool=self._rules_of(request), person=self.person)

    def _rules_of(self, request: Request) -> PoolSpec:
        return self.pools.get(request.pool).spec if request.pool in self.pools else PoolSpec(id=request.pool)

    def random(self) -> float:
        return self._random()

    def at(self, when: float, fn: Callable[[], object]) -> Deadline:
        return self.deadlines.at(when, fn)

    def start(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        assert self._nursery is not None
        assert self._context is not None
        self._context.copy().run(lambda: self._nursery.start_soon(task, name=name))  # type: ignore[union-attr]  # set

    def check_durable(self) -> None:
        """Raises StoreUnavailable or ShuttingDown when nothing becomes durable any more."""
        if self.failed is not None:
            raise self.failure()
        if self.gone:
            raise self._gone()

    def submit(self, cell: Journaling, rows: tuple[Row, ...]) -> None:
        """Once the house has failed or is gone, what its cells still say is not journaled: nobody was told of it."""
        if self.failed is None and not self.gone:
            write = self.groups.write(cell, rows)
            if write is not None:
                self.store.submit(write)

    def publish(self, cell: Journaling, row: Row) -> None:
        self.rings.publish(row)

    def admit(self, cell: Cell) -> bool:
        return not self.closing and self.pools.of(cell).admit(cell)

    def idle_s(self, cell: Cell) -> float | None:
        return cell.spec.idle_s if cell.spec.idle_s is not None else self.pools.of(cell).spec.idle_s

    def siblings(self, cell: Cell) -> Siblings:
        from supervisor.delegation import Delegation  # it uses the house as its callers do, so it comes after it

        return Delegation(self, cell)

    def late(self, cell: Cell) -> None:
        self.late_answers += 1

    def changed(self, cell: Cell) -> None:
        """A cell moved: when its actor is gone, its place in the pool may go to another."""
        if cell.state is State.DISPOSED:
            self.pools.left(cell)
        if cell.waiting_for_place is not None and cell.state in (State.STOPPED, State.FAILED, State.DISPOSED):
            cell.waiting_for_place = None
        if self.pools.of(cell).waiting:
            self.deadlines.at(self.now(), lambda: self.give_places(self.pools.of(cell)))
        if cell.state in (State.RUNNING, State.DORMANT):
            self.expiry.watch(cell)

    def give_places(self, pool: Pool) -> None:
        """Boot who was promised a place, in order, as far as there are places."""
        if self.closing or self.gone:
            return
        while (waiting := pool.next_in_line()) is not None:
            with waiting.turn():
                if waiting.boot("place") is None:
                    return

    def decide(self, cell: Cell, exit: Exit) -> Decision:
        return self.groups.decide(cell, exit)

    # -- finding -----------------------------------------------------------------------------------------------------
    def view(self, engine: str) -> View:
        """The view of an engine, disposed or not. Raises NotFound."""
        uid = self.ids.get(engine)
        if uid is None:
            raise NotFound(f"There is no engine {engine!r}.")
        return self.views[uid]

    def cell(self, engine: str) -> Cell:
        """The cell of an engine. Raises NotFound, EngineDisposed."""
        uid = self.ids.get(engine)
        cell = self.cells.get(uid) if uid is not None else None
        if cell is None:
            self.view(engine)
            raise EngineDisposed(f"Engine {engine} is disposed. Spawn it anew if you need it.")
        return cell

    def ref(self, engine: str) -> Ref:
        """A volatile handle for programs in this process."""
        self.cell(engine)
        return Ref(engine, self.cell)

    def check_open(self) -> None:
        if self.failed is not None:
            raise self.failure()
        if self.closing:
            raise ShuttingDown(
                "The house is closing; nothing was accepted. Send it again to the next one.", retry_after_s=5
            )

    @property
    def over(self) -> bool:
        """The house closes or has failed: streams end."""
        return self.closing or self.failed is not None

    # -- out ---------------------------------------------------------------------------------------------------------
    def committed(self, commits: Sequence[Commit]) -> None:
        """The one place where what is durable becomes visible and takes effect, in the order of the journal."""
        for commit in commits:
            tag = commit.write.tag
            if commit.replay is not None:
                tag.replay = commit.replay
                if tag.counted is not None:
                    self.pools.of(tag.cell).uncount_run(tag.counted)
                self.intake.resolve(tag)
                continue
            for row in commit.write.rows:
                self._fold(row)
            if isinstance(tag, Journaling):
                tag.committed(commit.write.rows)
            elif isinstance(tag, list):
                for cell, rows in tag:
                    cell.committed(rows)
            elif isinstance(tag, Receipt):
                tag.seq = commit.write.rows[0].seq if commit.write.rows else 0
                if tag.command is not None:
                    tag.error = self._deliver(tag)
                self.intake.resolve(tag)

    def _deliver(self, receipt: Receipt) -> EnginehouseError | None:
        command = receipt.command
        assert command is not None
        if receipt.spawns is not None:
            cell = self.make_cell(receipt.spawns)
        else:
            assert receipt.cell is not None
            cell = receipt.cell
        return deliver(cell, command)

    def make_cell(self, spec: Spec) -> Cell:
        """The cell of an engine that was just spawned or recovered."""
        try:
            kind, config = self.kinds.get(spec.kind), self.kinds.parse_config(spec.kind, spec.config)
        except BadInput as error:
            kind, config = absent(error.detail), Config()
        cell = Cell(self, spec, kind, config)
        self.cells[spec.uid] = cell
        self.pools.joined(cell)
        return cell

    def _fold(self, row: Row) -> None:
        self.folded = row.seq
        if row.uid:
            view = fold(self.views.get(row.uid), row)
            if row.type == "engine.spawned":
                self.views[row.uid] = view
                self.ids[row.engine_id] = row.uid
            elif row.type in RUN_ENDS:
                self.pools.count_usage(row.pool, row.data.get("usage") or {})
            self._snapshot(row, view)
            self.expiry.moved(row.uid)
            if row.type == "run.queued":
                self.open_runs[row.run_id or ""] = row.uid
                self.delegated.queued(view.runs[row.run_id or ""])
            elif row.type in RUN_ENDS:
                self.open_runs.pop(row.run_id or "", None)
                self.delegated.ended(row.run_id or "")
            self.watchers.folded(view)
            self.observer.folded(row, view)
        self.rings.publish(row)

    def _snapshot(self, row: Row, view: View) -> None:
        count = self._since_snapshot.get(row.uid, 0) + 1
        rests = row.type in ("engine.stopped", "engine.dormant", "engine.failed") or view.state is State.DISPOSED
        if count < SNAPSHOT_EVERY and not rests:
            self._since_snapshot[row.uid] = count
            return
        self._since_snapshot.pop(row.uid, None)
        if row.type == "engine.disposed":
            self._forget(row.uid)
        if self.failed is None and not self.gone:
            self.store.submit(
                Write(snapshots=(Snapshot(uid=row.uid, seq=row.seq, engine_seq=row.engine_seq, body=dump(view)),))
            )

    def _forget(self, uid: str) -> None:
        """A disposed engine needs no cell; what is still on its way to it is refused without one."""
        cell = self.cells.pop(uid, None)
        if cell is not None:
            self.pools.left(cell)
            self.pools.of(cell).retired += cell.mailbox.statistics()
        self.folders.forget(uid)

    # -- showing -----------------------------------------------------------------------------------------------------
    def info(self, view: View) -> EngineInfo:
        """An engine as it is seen."""
        spec = view.spec
        return engine_info(
            view,
            self.cells.get(spec.uid),
            config=self.kinds.masked(spec.kind, spec.config),
            draining=spec.pool in self.pools and self.pools.get(spec.pool).draining,
            now=self.now(),
            wall=self.wall(),
        )

    # -- watching ----------------------------------------------------------------------------------------------------
    async def watch(self, uid: str, look: Callable[[View], T | None]) -> T:
        """The first true thing that `look` sees in an engine's view: now, or after a row of it was folded.

        Raises StoreUnavailable or ShuttingDown when nothing will be folded any more.
        """
        return await self.watchers.watch(self.views[uid], look)

    # -- life --------------------------------------------------------------------------------------------------------
    def begin(self, nursery: trio.Nursery, context: ContextVars) -> None:
        self._nursery, self._context = nursery, context
        self.started_at = self.now()

    def fail(self, error: StoreUnavailable) -> None:
        """Fail-stop: nobody is acknowledged any more, everybody who waits is told."""
        self.failed = error
        self.deadlines.stop()
        self._tell(self.failure)
        self.rings.wake()
        for cell in self.cells.values():
            cell.lot.unpark_all()

    def failure(self) -> StoreUnavailable:
        """The failure of the store, anew for each who is told, since a raised exception belongs to its raiser."""
        assert self.failed is not None
        error = type(self.failed)(self.failed.detail, **self.failed.extra)
        error.__cause__ = self.failed
        return error

    @staticmethod
    def _gone() -> ShuttingDown:
        return ShuttingDown("The house is closed. Send it again to the next one.", retry_after_s=5)

    def _tell(self, error: Callable[[], EnginehouseError]) -> None:
        """Whoever waits for a row that will not come."""
        self.intake.end(error)
        self.watchers.end(error)

    def announce_closing(self) -> None:
        """New commands are refused and every stream ends; engines go on until `close`. Idempotent."""
        self.closing = True
        self.rings.wake()

    async def close(self, grace_s: float) -> None:
        """Park what is up, wait until it is, and until its rows are durable. Bounded by the scope it is called in."""
        self.announce_closing()
        cells = list(self.cells.values())
        for cell in cells:
            cell.shut_down(grace_s)
        for cell in cells:
            while cell.living:
                await cell.lot.park()
        for cell in cells:
            if self.failed is None:
                await cell.barrier()

    def abandon(self) -> None:
        """The house is torn down: whatever still lives is cancelled, and its exit decides nothing."""
        self.gone = True
        self.deadlines.stop()
        for cell in self.cells.values():
            if cell.actor is not None:
                cell.actor.scope.cancel()
            if cell.nap is not None:
                cell.nap.cancel()
            cell.forsake("the house closed")
            cell.lot.unpark_all()

    def ended(self) -> None:
        """The writer has ended: who still waits is told."""
        if self.failed is None:
            self._tell(self._gone)


def _itself(principal: str) -> str:
    return principal
