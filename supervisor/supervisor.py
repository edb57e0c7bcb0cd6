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
from functools import partial
from pathlib import Path
from typing import Any

import trio

from actors.cell import Cell
from actors.delivery import check, deliver
from actors.journaling import Journaling
from actors.kinds import Kinds
from actors.ref import Ref
from actors.runs import queued_data
from protocol.commands import Command, Dispose, Signal, Submit
from protocol.decide import Cause, Decision, Exit, decide
from protocol.edge import as_json, dump
from protocol.errors import (
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
from protocol.fold import epoch_ms, fold
from protocol.ids import Ids
from protocol.specs import Spec, Strategy
from protocol.states import Aim, State, Trigger
from protocol.view import View
from protocol.wire import EngineInfo
from protocol.writes import Commit, Document, Replay, Snapshot, Write
from supervisor.deadlines import Deadline, Deadlines
from supervisor.infos import engine_info
from supervisor.pools import Pool, Pools
from supervisor.receipts import Receipt
from supervisor.rings import Ring
from supervisor.store.contract import Store

__all__ = ["Supervisor"]

HOUSE_RING, ENGINE_RING = 1024, 256
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
        self.ring = Ring(HOUSE_RING)
        self.rings: dict[str, Ring] = {}
        self.folded = 0
        self.late_answers = 0
        self.started_at = 0.0
        self._new_id = ids.new
        self._wall, self._random = wall, random
        self._nursery: trio.Nursery | None = None
        self._context: ContextVars | None = None
        self._spawning: set[str] = set()
        self._receipts: set[Receipt] = set()
        self._expiring: set[str] = set()
        self._since_snapshot: dict[str, int] = {}
        self._watchers: dict[str, trio.lowlevel.ParkingLot] = {}
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
        if self.failed is None:
            self.store.submit(Write(rows, tag=cell))

    def publish(self, cell: Journaling, row: Row) -> None:
        self._show(row)

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
            self._expire_later(cell)

    def give_places(self, pool: Pool) -> None:
        """Boot who was promised a place, in order, as far as there are places."""
        if self.closing or self.gone:
            return
        while (waiting := pool.next_in_line()) is not None:
            with waiting.turn():
                if waiting.boot("place") is None:
                    return

    def drain(self, pool: Pool) -> None:
        """What is queued and active finishes; then each engine stops."""
        for cell in list(pool.cells.values()):
            self.start(partial(self._drain, cell), f"drain {cell.spec.id}")

    async def _drain(self, cell: Cell) -> None:
        pool = self.pools.of(cell)
        while pool.spec.draining and not self.closing and cell.state is not State.DISPOSED:
            if cell.actor is not None and not cell.busy and not len(cell.mailbox) and not cell.ending:
                with cell.turn():
                    cell.end(Aim.STOPPED, cell.spec.grace_s, reason="drain")
            if cell.actor is None and not cell.busy:
                return
            await cell.lot.park()

    def _expire_later(self, cell: Cell) -> None:
        """A pool with `expire_s` disposes of engines that did nothing for so long."""
        expire_s = self.pools.of(cell).spec.expire_s
        if expire_s is None or cell.spec.uid in self._expiring:
            return
        self._expiring.add(cell.spec.uid)
        self.deadlines.at(self.now() + expire_s, lambda: self._expire(cell, expire_s))

    def _expire(self, cell: Cell, expire_s: float) -> None:
        self._expiring.discard(cell.spec.uid)
        view = self.views.get(cell.spec.uid)
        if view is None or self.closing or cell.state is State.DISPOSED:
            return
        still_s = self.wall() - epoch_ms(view.last_row_at) / 1000
        if still_s + 0.001 < expire_s or cell.busy or cell.held:
            self._expiring.add(cell.spec.uid)
            self.deadlines.at(self.now() + max(expire_s - still_s, 1.0), lambda: self._expire(cell, expire_s))
        else:
            self.start(partial(self._dispose_expired, cell), f"expire {cell.spec.id}")

    async def _dispose_expired(self, cell: Cell) -> None:
        try:
            await self.accept(cell, Dispose(reason="expired"), principal="pool")
        except EnginehouseError:
            self._expire_later(cell)  # it was given work in this very moment

    def decide(self, cell: Cell, exit: Exit) -> Decision:
        """The engine's own window, then its pool's; and its group goes down and up with it, counted once."""
        now, pool = self.now(), self.pools.of(cell)
        decision = decide(cell.spec.restart, cell.history, exit, now, self._random())
        if decision.trigger is not Trigger.CRASHED:
            return decision
        group = pool.group(cell)
        if exit.cause is not Cause.FINISHED and pool.exhausted(now):
            for other in group:
                other.end(Aim.STOPPED, other.spec.grace_s, reason=f"restart intensity of pool {pool.spec.id} exceeded")
            return Decision(Trigger.GAVE_UP, history=cell.history)
        pool.restarts.append(now)
        if pool.spec.strategy is not Strategy.ONE_FOR_ONE:
            for other in reversed(group):
                other.end(Aim.RESTART, other.spec.grace_s, reason=f"{cell.spec.id} crashed")
        return decision

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
            raise self.failed
        if self.closing:
            raise ShuttingDown(
                "The house is closing; nothing was accepted. Send it again to the next one.", retry_after_s=5
            )

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
        more: tuple[Row, ...] = (),
    ) -> Receipt:
        """Put one command into the journal; returns when it is durable and was delivered.

        Raises what refuses it; with a key, a command that was accepted before under it is a replay instead, whatever
        the state is now. Cancelled: the command may be accepted all the same.
        """
        work = isinstance(body, Submit | Signal)
        try:
            self.check_open()
            if work:
                self._check_work(cell, body)
            check(cell, body)
            if work:
                cell.mailbox.reserve()
        except EnginehouseError:
            replay = await self._replay(principal, key)
            if replay is None:
                raise
            return self._check_replay(Receipt(replay=replay, done=True), digest)
        time = self.stamp()
        command = Command(
            id=self.new_id("cmd"), uid=cell.spec.uid, body=body, principal=principal, key=key, digest=digest,
            run_id=self.new_id("run") if isinstance(body, Submit) else None, retry_of=retry_of, time=time,
        )  # fmt: skip
        receipt = Receipt(command, cell, reserved=work)
        self._submit(Write((*acceptance(cell.spec, cell.incarnation, command), *more), command, tag=receipt), receipt)
        if isinstance(body, Submit):
            self.pools.of(cell).count_run(self.now())
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
        except EnginehouseError:
            replay = await self._replay(principal, key)
            if replay is None:
                raise
            return self._check_replay(Receipt(replay=replay, done=True), digest)
        command = Command(
            id=self.new_id("cmd"), uid=spec.uid, body=body, principal=principal, key=key, digest=digest,
            time=self.stamp(),
        )  # fmt: skip
        self._spawning.add(spec.id)
        pool.spawning += 1
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

    async def _replay(self, principal: str | None, key: str | None) -> Replay | None:
        """What was accepted under this key, also when it is on its way to the disk right now."""
        if key is None or self.failed is not None:
            return None
        for receipt in list(self._receipts):
            first = receipt.command
            if first is not None and (first.principal, first.key) == (principal, key):
                with suppress(EnginehouseError):
                    await receipt.wait()
        return await self.store.key(principal, key)

    def _check_work(self, cell: Cell, body: Any) -> None:
        if isinstance(body, Submit) and cell.state is not State.DISPOSED:
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
                self._resolve(tag)
                continue
            for row in commit.write.rows:
                self._fold(row)
            if isinstance(tag, Journaling):
                tag.committed(commit.write.rows)
            elif isinstance(tag, Receipt):
                tag.seq = commit.write.rows[0].seq if commit.write.rows else 0
                if tag.command is not None:
                    tag.error = self._deliver(tag)
                self._resolve(tag)

    def _resolve(self, receipt: Receipt) -> None:
        if receipt.spawns is not None:
            self._spawning.discard(receipt.spawns.id)
            if receipt.spawns.pool in self.pools:
                self.pools.get(receipt.spawns.pool).spawning -= 1
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
        kind = self.kinds.get(spec.kind)
        cell = Cell(self, spec, kind, self.kinds.parse_config(spec.kind, spec.config))
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
            elif row.type in RUN_ENDS and row.data.get("usage"):
                self.pools.get(row.pool).add_usage(row.data["usage"])
            self._snapshot(row, view)
            watcher = self._watchers.get(row.uid)
            if watcher is not None:
                watcher.unpark_all()
        self._show(row)

    def _show(self, row: Row) -> None:
        self.ring.publish(row)
        ring = self.rings.get(row.uid)
        if ring is not None:
            ring.publish(row)

    def _snapshot(self, row: Row, view: View) -> None:
        count = self._since_snapshot.get(row.uid, 0) + 1
        rests = row.type in ("engine.stopped", "engine.dormant", "engine.failed", "engine.disposed")
        if count < SNAPSHOT_EVERY and not rests:
            self._since_snapshot[row.uid] = count
            return
        self._since_snapshot[row.uid] = 0
        if row.type == "engine.disposed":
            self._since_snapshot.pop(row.uid)
            view.slices, view.runs, view.requests = {}, {}, {}
            self._forget_soon(row.uid)
        if self.failed is None:
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

    def join(self, uid: str | None) -> Ring:
        """The ring a reader of one engine, or of all, reads; an engine has one while it has readers."""
        if uid is None:
            return self.ring
        ring = self.rings.get(uid)
        if ring is None:
            ring = self.rings[uid] = Ring(ENGINE_RING, lost=self.folded)
        ring.readers += 1
        return ring

    def leave(self, uid: str | None, ring: Ring) -> None:
        if uid is not None:
            ring.readers -= 1
            if not ring.readers and self.rings.get(uid) is ring:
                del self.rings[uid]

    # -- watching ----------------------------------------------------------------------------------------------------
    async def watch(self, uid: str, reached: Callable[[View], bool]) -> View:
        """Wait until the view of an engine, as it is seen, satisfies `reached`."""
        while not reached(self.views[uid]):
            lot = self._watchers.setdefault(uid, trio.lowlevel.ParkingLot())
            try:
                await lot.park()
            finally:
                if not lot and self._watchers.get(uid) is lot:
                    del self._watchers[uid]
            if self.failed is not None:
                raise self.failed
        return self.views[uid]

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
        for receipt in list(self._receipts):
            receipt.error = receipt.error or error
            self._resolve(receipt)
        for lot in self._watchers.values():
            lot.unpark_all()
        self.wake_streams()

    def wake_streams(self) -> None:
        for ring in (self.ring, *self.rings.values()):
            ring.wake()

    async def close(self, grace_s: float) -> None:
        """Park what is up, wait until it is, and until its rows are durable. Bounded by the scope it is called in."""
        self.closing = True
        self.wake_streams()
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
        for cell in self.cells.values():
            if cell.actor is not None:
                cell.actor.scope.cancel()
            if cell.nap is not None:
                cell.nap.cancel()


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
