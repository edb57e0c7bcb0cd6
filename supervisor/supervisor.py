"""The supervisor: many engines, one store, one nursery; where commands enter and where commits come out.

A command enters in one synchronous stretch (`submit`): legality, a reserved place, the store. It comes out in
`_committed`, the one callback that folds and publishes each row and then delivers the command, in the order of the
journal. Nothing else changes what is seen, and nobody waits for an engine here. `supervisor.embedded` is the public
face of this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context as ContextVars
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import trio

from actors.cell import Cell
from actors.delivery import check, deliver
from actors.engine import Config
from actors.journaling import Journaling
from actors.kinds import Kinds
from actors.ref import Ref
from actors.runs import queued_data
from protocol.commands import Command, Signal, Submit
from protocol.decide import Decision, Exit
from protocol.edge import as_json, dump
from protocol.errors import (
    BadInput,
    EngineDisposed,
    EngineExists,
    EnginehouseError,
    IdempotencyMismatch,
    NotFound,
    Overloaded,
    ShuttingDown,
    StoreUnavailable,
)
from protocol.events import RUN_ENDS, Row
from protocol.fold import fold
from protocol.ids import Ids
from protocol.specs import Spec
from protocol.states import State
from protocol.view import View
from protocol.wire import EngineInfo
from protocol.writes import Commit, Document, Snapshot, Write
from supervisor.absent import absent
from supervisor.deadlines import Deadline, Deadlines
from supervisor.expiry import Expiry
from supervisor.groups import Groups
from supervisor.infos import engine_info
from supervisor.pools import Pool, Pools
from supervisor.receipts import Receipt
from supervisor.rings import Rings
from supervisor.store.contract import Store
from supervisor.watchers import Watchers

__all__ = ["Supervisor"]

T = TypeVar("T")
SNAPSHOT_EVERY = 256
BACKLOG_BYTES = 64 << 20
"""How much may wait for the disk before new work is turned away; control still passes."""


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
        margin_s: float,
    ) -> None:
        self.store, self.kinds, self.directory, self.name = store, kinds, directory, name
        self.margin_s = margin_s
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
        self.watchers = Watchers()
        self.folded = 0
        self.late_answers = 0
        self.started_at = 0.0
        self._new_id = ids.new
        self._wall, self._random = wall, random
        self._nursery: trio.Nursery | None = None
        self._context: ContextVars | None = None
        self._spawning: set[str] = set()
        self._receipts: set[Receipt] = set()
        self._since_snapshot: dict[str, int] = {}
        self.births = trio.lowlevel.ParkingLot()
        self.written = trio.Event()
        self._second = (-1, "")

    # -- Host: what cells need ---------------------------------------------------------------------------------------
    @property
    def runs_directory(self) -> Path:
        return self.directory / "runs"

    def now(self) -> float:
        return trio.current_time()

    def wall(self) -> float:
        return self._wall()

    def stamp(self) -> str:
        return self.stamp_at(self._wall())

    def stamp_at(self, wall: float) -> str:
        ms = round(wall * 1000)
        second = ms // 1000
        if second != self._second[0]:
            self._second = (second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S"))
        return f"{self._second[1]}.{ms % 1000:03d}Z"

    def new_id(self, prefix: str) -> str:
        return self._new_id(prefix)

    def random(self) -> float:
        return self._random()

    def at(self, when: float, fn: Callable[[], object]) -> Deadline:
        return self.deadlines.at(when, fn)

    def start(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        assert self._nursery is not None
        assert self._context is not None
        self._context.copy().run(lambda: self._nursery.start_soon(task, name=name))  # type: ignore[union-attr]  # set

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

    # -- in ----------------------------------------------------------------------------------------------------------
    async def accept(
        self,
        cell: Cell,
        body: Any,
        *,
        principal: str | None,
        key: str | None = None,
        digest: str = "",
        retry_of: str | None = None,
        more: Callable[[Command], tuple[Row, ...]] = lambda command: (),
    ) -> Receipt:
        """Put one command into the journal; returns when it is durable and was delivered.

        Raises what refuses it; with a key, a command that was accepted before under it is a replay instead, whatever
        the state is now. Cancelled: the command may be accepted all the same.
        """
        work = isinstance(body, Submit | Signal)
        try:
            self.check_open()
            check(cell, body)
            if work:
                self._check_work(cell, body)
                cell.mailbox.reserve()
        except EnginehouseError as refusal:
            return await self.replay_or(refusal, principal, key, digest)
        time = self.stamp()
        command = Command(
            id=self.new_id("cmd"), uid=cell.spec.uid, body=body, principal=principal, key=key, digest=digest,
            run_id=self.new_id("run") if isinstance(body, Submit) else None, retry_of=retry_of, time=time,
        )  # fmt: skip
        receipt = Receipt(command, cell, reserved=work)
        self._submit(
            Write((*acceptance(cell.spec, cell.incarnation, command), *more(command)), command, tag=receipt), receipt
        )
        if isinstance(body, Submit):
            receipt.counted = self.pools.of(cell).count_run(self.now())
        await receipt.wait()
        return self._check_replay(receipt, digest)

    async def spawn(self, spec: Spec, body: Any, *, principal: str | None, key: str | None, digest: str) -> Receipt:
        """Bring an engine to life; its cell exists once that is durable. Raises as `accept`, EngineExists, and what the
        pool says.
        """
        try:
            self.check_open()
            known = self.ids.get(spec.id)
            if spec.id in self._spawning or (known is not None and self.views[known].state is not State.DISPOSED):
                raise EngineExists(f"Engine {spec.id} exists. Choose another id, or dispose of it first.")
            pool = self.pools.get(spec.pool)
            pool.check_spawn()
        except EnginehouseError as refusal:
            return await self.replay_or(refusal, principal, key, digest)
        command = Command(
            id=self.new_id("cmd"), uid=spec.uid, body=body, principal=principal, key=key, digest=digest,
            time=self.stamp(),
        )  # fmt: skip
        self._spawning.add(spec.id)
        pool.spawning += 1
        if spec.key is not None:
            pool.on_their_way.add(spec.key)
        receipt = Receipt(command, spawns=spec)
        born = Row(
            type="engine.spawned", time=command.time, data={"spec": as_json(spec)}, uid=spec.uid, engine_id=spec.id,
            pool=spec.pool, command_id=command.id, principal=principal,
        )  # fmt: skip
        self._submit(Write((born, *acceptance(spec, 0, command)), command, tag=receipt), receipt)
        await receipt.wait()
        return self._check_replay(receipt, digest)

    def write(self, rows: tuple[Row, ...]) -> None:
        """Journal rows that belong to no cell any more."""
        self.store.submit(Write(rows))

    async def write_and_wait(self, rows: tuple[Row, ...]) -> None:
        """The same, until they are durable and folded."""
        self.check_open()
        receipt = Receipt()
        self._submit(Write(rows, tag=receipt), receipt)
        await receipt.wait()

    async def record(self, *documents: Document) -> None:
        """Make documents of the plain tables durable."""
        self.check_open()
        receipt = Receipt()
        self._submit(Write(documents=documents, tag=receipt), receipt)
        await receipt.wait()

    def _submit(self, write: Write, receipt: Receipt) -> None:
        self.store.submit(write)
        self._receipts.add(receipt)

    async def replay_or(
        self, refusal: EnginehouseError, principal: str | None, key: str | None, digest: str
    ) -> Receipt:
        """What was accepted before under this key, also when it is on its way to the disk right now. Raises `refusal`
        when nothing was.
        """
        if key is None or self.failed is not None:
            raise refusal
        for receipt in list(self._receipts):
            first = receipt.command
            if first is not None and (first.principal, first.key) == (principal, key):
                with suppress(EnginehouseError):
                    await receipt.wait()
        replay = await self.store.key(principal, key)
        if replay is None:
            raise refusal
        return self._check_replay(Receipt(replay=replay, done=True), digest)

    def _check_work(self, cell: Cell, body: Any) -> None:
        if isinstance(body, Submit):
            self.pools.of(cell).check_run(self.now())
        if self.store.statistics().queued_bytes > BACKLOG_BYTES:
            raise Overloaded("Too much waits for the disk; nothing was accepted. Send it again soon.", retry_after_s=1)

    @staticmethod
    def _check_replay(receipt: Receipt, digest: str) -> Receipt:
        if receipt.replay is not None and receipt.replay.digest != digest:
            raise IdempotencyMismatch("This idempotency key was used for another request. Use a new key.")
        return receipt

    # -- out ---------------------------------------------------------------------------------------------------------
    def committed(self, commits: Sequence[Commit]) -> None:
        """The one place where what is durable becomes visible and takes effect, in the order of the journal."""
        for commit in commits:
            tag = commit.write.tag
            if commit.replay is not None:
                tag.replay = commit.replay
                if tag.counted is not None:
                    self.pools.of(tag.cell).uncount_run(tag.counted)
                self._resolve(tag)
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
                self._resolve(tag)

    def _resolve(self, receipt: Receipt) -> None:
        if receipt.spawns is not None:
            self._spawning.discard(receipt.spawns.id)
            pool = self.pools.get(receipt.spawns.pool)
            pool.spawning -= 1
            pool.on_their_way.discard(receipt.spawns.key or "")
            self.births.unpark_all()
        self._receipts.discard(receipt)
        receipt.resolve()

    def _deliver(self, receipt: Receipt) -> EnginehouseError | None:
        command = receipt.command
        assert command is not None
        if receipt.spawns is not None:
            cell = self.make_cell(receipt.spawns)
            if not command.body.start:
                cell.complete(command, True)
                return None
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
            elif row.type in RUN_ENDS and row.data.get("usage") and row.pool in self.pools:
                self.pools.get(row.pool).add_usage(row.data["usage"])
            self._snapshot(row, view)
            self.expiry.moved(row.uid)
            self.watchers.folded(view)
        self.rings.publish(row)

    def _snapshot(self, row: Row, view: View) -> None:
        count = self._since_snapshot.get(row.uid, 0) + 1
        rests = row.type in ("engine.stopped", "engine.dormant", "engine.failed", "engine.disposed")
        if count < SNAPSHOT_EVERY and not rests:
            self._since_snapshot[row.uid] = count
            return
        self._since_snapshot[row.uid] = 0
        if row.type == "engine.disposed":
            self._since_snapshot.pop(row.uid)
            self._forget_soon(row.uid)
        if self.failed is None and not self.gone:
            self.store.submit(
                Write(snapshots=(Snapshot(uid=row.uid, seq=row.seq, engine_seq=row.engine_seq, body=dump(view)),))
            )

    def _forget_soon(self, uid: str) -> None:
        """A disposed engine needs no cell; what is still on its way to it is refused without one."""
        cell = self.cells.pop(uid, None)
        if cell is not None:
            self.pools.left(cell)

    # -- showing -----------------------------------------------------------------------------------------------------
    def info(self, view: View) -> EngineInfo:
        """An engine as it is seen."""
        spec = view.spec
        return engine_info(
            view,
            self.cells.get(spec.uid),
            config=self.kinds.masked(spec.kind, spec.config),
            draining=spec.pool in self.pools and self.pools.get(spec.pool).spec.draining,
            now=self.now(),
            wall=self.wall(),
        )

    def pools_used(self, view: View) -> None:
        """Count what an engine's runs have used towards its pool's budget (at recovery)."""
        if view.usage and view.spec.pool in self.pools:
            self.pools.get(view.spec.pool).add_usage(view.usage)

    # -- watching ----------------------------------------------------------------------------------------------------
    async def watch(self, uid: str, look: Callable[[View], T | None]) -> T:
        """The first true thing that `look` sees in an engine's view: now, or after a row of it was folded.

        Raises StoreUnavailable or ShuttingDown when nothing will be folded any more.
        """
        return await self.watchers.watch(self.views[uid], look)

    async def next_birth(self) -> None:
        """Until the next engine is born, or failed to be."""
        await self.births.park()

    async def born(self, id: str) -> None:
        """Wait while an engine of this id is on its way."""
        while id in self._spawning:
            await self.births.park()

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
        for receipt in list(self._receipts):
            receipt.error = receipt.error or error()
            self._resolve(receipt)
        self.watchers.end(error)

    async def close(self, grace_s: float) -> None:
        """Park what is up, wait until it is, and until its rows are durable. Bounded by the scope it is called in."""
        self.closing = True
        self.rings.wake()
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

    def ended(self) -> None:
        """The writer has ended: who still waits is told."""
        if self.failed is None:
            self._tell(self._gone)


def acceptance(spec: Spec, incarnation: int, command: Command) -> tuple[Row, ...]:
    """The rows that accept a command: `command.accepted`, and `run.queued` for the run that a submit makes."""
    body = as_json(command.body)
    common: dict[str, Any] = {
        "time": command.time, "uid": spec.uid, "engine_id": spec.id, "pool": spec.pool, "incarnation": incarnation,
        "run_id": command.run_id, "command_id": command.id, "principal": command.principal,
    }  # fmt: skip
    accepted = Row(type="command.accepted", data=body, **common)
    if command.run_id is None:
        return (accepted,)
    accepted.data = {**body, "input": None, "retry_of": command.retry_of}
    return accepted, Row(type="run.queued", data=queued_data(command.body, command.retry_of), **common)
