"""Where commands enter: legality, a reserved place and the store in one synchronous stretch, then a wait.

No await lies between the check and the store, so the order of acceptance is the order of the journal, a reservation
cannot leak, and what the caller may is what the caller may when the command is journaled, whatever was true when the
request came in. A client that goes away while it waits changes nothing: whoever owns the write is the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from actors.cell import Cell
from actors.delivery import check
from actors.runs import queued_data
from protocol.audit import Outcome
from protocol.authority import scope_of_command
from protocol.commands import Command, Signal, Submit
from protocol.edge import as_json
from protocol.errors import (
    AlreadyDecided,
    EngineExists,
    EnginehouseError,
    IdempotencyMismatch,
    Overloaded,
    RequestClosed,
)
from protocol.events import Row
from protocol.specs import Spec
from protocol.states import State
from protocol.writes import Document, Write
from supervisor.audit import Trail
from supervisor.house import Caller
from supervisor.receipts import Receipt
from supervisor.standing import check_holder, check_standing

if TYPE_CHECKING:
    from supervisor.supervisor import Supervisor

__all__ = ["Intake"]

BACKLOG_BYTES = 64 << 20
"""How much may wait for the disk before new work is turned away; control still passes."""


class Intake:
    """The door of one house. `births`: who waits for an engine that is on its way parks here."""

    def __init__(self, house: Supervisor) -> None:
        self._house = house
        self._spawning: set[str] = set()
        self._receipts: set[Receipt] = set()
        self.births = trio.lowlevel.ParkingLot()

    async def accept(
        self,
        cell: Cell,
        body: Any,
        caller: Caller,
        *,
        digest: str = "",
        retry_of: str | None = None,
        asked_by: Sequence[str] = (),
        more: Callable[[Command], tuple[Row, ...]] = lambda command: (),
    ) -> Receipt:
        """Put one command into the journal; returns when it is durable and was delivered.

        Raises what refuses it; with a key, a command that was accepted before under it is a replay instead, whatever
        the state is now. `asked_by`: the principals behind the run that this one repeats. Cancelled: the command may be
        accepted all the same.
        """
        spec = cell.spec
        work = isinstance(body, Submit | Signal)
        check_standing(caller, scope_of_command(body.type), pool=spec.pool, uid=spec.uid)
        check_holder(caller, body)
        try:
            self._house.check_open()
            check(cell, body, caller.principal)
            if work:
                self._check_work(cell, body)
                cell.mailbox.reserve()
        except EnginehouseError as refusal:
            await self._stands(refusal)
            return await self.replay_or(refusal, caller, digest)
        command = Command(
            id=self._house.new_id("cmd"), uid=spec.uid, body=body, principal=caller.principal, key=caller.key,
            digest=digest, run_id=self._house.new_id("run") if isinstance(body, Submit) else None, retry_of=retry_of,
            done_for=caller.done_for, trace=caller.trace, time=self._house.stamp(),
            asked_by=self._house.behind(caller.principal, (*asked_by, *caller.asked_by)),
        )  # fmt: skip
        receipt = Receipt(command, cell, reserved=work, trail=caller.trail)
        rows = (*acceptance(spec, cell.incarnation, command), *more(command), *self._audited(caller, command, spec))
        self._submit(Write(rows, command, tag=receipt), receipt)
        if isinstance(body, Submit):
            receipt.counted = self._house.pools.of(cell).count_run(self._house.now())
        return await self._answer(receipt, digest)

    async def _stands(self, refusal: EnginehouseError) -> None:
        """Who lost is told of a winner that no crash takes back: not before what decided it is durable."""
        if isinstance(refusal, AlreadyDecided | RequestClosed):
            await self._durable(())

    async def spawn(self, spec: Spec, body: Any, caller: Caller, *, digest: str) -> Receipt:
        """Bring an engine to life; its cell exists once that is durable. Raises as `accept`, EngineExists, and what the
        pool says.
        """
        check_standing(caller, scope_of_command(body.type), pool=spec.pool, uid=spec.uid)
        try:
            self._house.check_open()
            known = self._house.ids.get(spec.id)
            if spec.id in self._spawning or (
                known is not None and self._house.views[known].state is not State.DISPOSED
            ):
                raise EngineExists(f"Engine {spec.id} exists. Choose another id, or dispose of it first.")
            pool = self._house.pools.get(spec.pool)
            pool.check_spawn()
        except EnginehouseError as refusal:
            return await self.replay_or(refusal, caller, digest)
        command = Command(
            id=self._house.new_id("cmd"), uid=spec.uid, body=body, principal=caller.principal, key=caller.key,
            digest=digest, trace=caller.trace, time=self._house.stamp(),
        )  # fmt: skip
        self._spawning.add(spec.id)
        pool.spawning += 1
        if spec.key is not None:
            pool.on_their_way.add(spec.key)
        receipt = Receipt(command, spawns=spec, trail=caller.trail)
        born = Row(
            type="engine.spawned", time=command.time, data={"spec": as_json(spec)}, uid=spec.uid, engine_id=spec.id,
            pool=spec.pool, command_id=command.id, principal=caller.principal,
        )  # fmt: skip
        rows = (born, *acceptance(spec, 0, command), *self._audited(caller, command, spec))
        self._submit(Write(rows, command, tag=receipt), receipt)
        return await self._answer(receipt, digest)

    async def _answer(self, receipt: Receipt, digest: str) -> Receipt:
        """Once it is durable, and, of a replay, once its own audit row is."""
        lost: EnginehouseError | None = None
        try:
            await receipt.wait()
        except EnginehouseError as error:
            lost = error
        if lost is not None:
            await self._stands(lost)
            raise lost
        if receipt.replay is not None and receipt.trail is not None:
            self._house.check_durable()
            await self._durable(())
        return self._check_replay(receipt, digest)

    def write(self, rows: tuple[Row, ...]) -> None:
        """Journal rows that belong to no cell any more."""
        self._house.store.submit(Write(rows))

    async def write_and_wait(self, rows: tuple[Row, ...], trail: Trail | None = None) -> None:
        """The same, until they are durable and folded; the trail goes along."""
        self._house.check_open()
        await self._durable((*rows, *self._taken(trail)))

    async def record(self, *documents: Document, trail: Trail | None = None) -> None:
        """Make documents of the plain tables durable, and the trail with them."""
        self._house.check_open()
        await self._durable(self._taken(trail), documents)

    async def audit(self, trail: Trail, outcome: Outcome, **more: Any) -> None:
        """Journal what a request owes when nothing else of it was journaled, also while the house closes. Raises
        StoreUnavailable or ShuttingDown when nothing becomes durable any more. Cancelled: it is journaled all the same.
        """
        rows = trail.take(outcome, time=self._house.stamp(), **more)
        if rows:
            self._house.check_durable()
            await self._durable(rows)

    def audit_nowait(self, trail: Trail, outcome: Outcome, **more: Any) -> None:
        """The same for whoever cannot wait. A house that keeps nothing any more keeps no row."""
        rows = trail.take(outcome, time=self._house.stamp(), **more)
        if rows and self._house.failed is None and not self._house.gone:
            self.write(rows)

    async def _durable(self, rows: tuple[Row, ...], documents: tuple[Document, ...] = ()) -> None:
        receipt = Receipt()
        self._submit(Write(rows, documents=documents, tag=receipt), receipt)
        await receipt.wait()

    def _audited(self, caller: Caller, command: Command, spec: Spec) -> tuple[Row, ...]:
        """The request's row beside the rows of its command."""
        return self._taken(caller.trail, command_id=command.id, type=command.type, engine_id=spec.id, pool=spec.pool)

    def _taken(self, trail: Trail | None, **more: Any) -> tuple[Row, ...]:
        return () if trail is None else trail.take(Outcome.ACCEPTED, time=self._house.stamp(), **more)

    def _submit(self, write: Write, receipt: Receipt) -> None:
        self._house.store.submit(write)
        self._receipts.add(receipt)

    async def replay_or(self, refusal: EnginehouseError, caller: Caller, digest: str) -> Receipt:
        """What was accepted before under this key, also when it is on its way to the disk right now. Raises `refusal`
        when nothing was.
        """
        if caller.key is None or self._house.failed is not None:
            raise refusal
        for receipt in list(self._receipts):
            first = receipt.command
            if first is not None and (first.principal, first.key) == (caller.principal, caller.key):
                with suppress(EnginehouseError):
                    await receipt.wait()
        replay = await self._house.store.key(caller.principal, caller.key)
        if replay is None:
            raise refusal
        receipt = self._check_replay(Receipt(replay=replay, done=True), digest)
        if caller.trail is not None:
            await self.audit(caller.trail, Outcome.REPLAYED, command_id=replay.command_id)
        return receipt

    def _check_work(self, cell: Cell, body: Any) -> None:
        if isinstance(body, Submit):
            self._house.pools.of(cell).check_run(self._house.now())
        if self._house.store.statistics().queued_bytes > BACKLOG_BYTES:
            raise Overloaded("Too much waits for the disk; nothing was accepted. Send it again soon.", retry_after_s=1)

    @staticmethod
    def _check_replay(receipt: Receipt, digest: str) -> Receipt:
        if receipt.replay is not None and receipt.replay.digest != digest:
            raise IdempotencyMismatch("This idempotency key was used for another request. Use a new key.")
        return receipt

    def resolve(self, receipt: Receipt) -> None:
        if receipt.replay is not None and receipt.trail is not None:  # nothing of its write was stored, its row neither
            assert receipt.command is not None
            same = receipt.replay.digest == receipt.command.digest
            receipt.trail.give_back()
            self.audit_nowait(
                receipt.trail, Outcome.REPLAYED if same else Outcome.REFUSED, command_id=receipt.replay.command_id
            )
        if receipt.spawns is not None:
            self._spawning.discard(receipt.spawns.id)
            pool = self._house.pools.get(receipt.spawns.pool)
            pool.spawning -= 1
            pool.on_their_way.discard(receipt.spawns.key or "")
            self.births.unpark_all()
        self._receipts.discard(receipt)
        receipt.resolve()

    async def next_birth(self) -> None:
        """Until the next engine is born, or failed to be."""
        await self.births.park()

    async def born(self, id: str) -> None:
        """Wait while an engine of this id is on its way."""
        while id in self._spawning:
            await self.births.park()

    def end(self, error: Callable[[], EnginehouseError]) -> None:
        """Nothing more becomes durable: whoever waits is told."""
        for receipt in list(self._receipts):
            receipt.error = receipt.error or error()
            self.resolve(receipt)


def acceptance(spec: Spec, incarnation: int, command: Command) -> tuple[Row, ...]:
    """The rows that accept a command: `command.accepted`, and `run.queued` for the run that a submit makes."""
    body = as_json(command.body)
    if command.trace is not None:
        body["trace"] = as_json(command.trace)
    common: dict[str, Any] = {
        "time": command.time, "uid": spec.uid, "engine_id": spec.id, "pool": spec.pool, "incarnation": incarnation,
        "run_id": command.run_id, "command_id": command.id, "principal": command.principal,
    }  # fmt: skip
    accepted = Row(type="command.accepted", data=body, **common)
    if command.run_id is None:
        return (accepted,)
    accepted.data = {**body, "input": None, "retry_of": command.retry_of}
    return accepted, Row(type="run.queued", data=queued_data(command), **common)
