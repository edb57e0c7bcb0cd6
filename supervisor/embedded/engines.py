"""Engines: spawn, look, command, dispose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from actors.cell import Cell
from actors.processes import Tree
from protocol.audit import Outcome
from protocol.bodies import NewEngine, NewRun
from protocol.commands import (
    Answer,
    Approve,
    Cancel,
    Dispose,
    Pause,
    Reject,
    Restart,
    Resume,
    Skip,
    Spawn,
    Start,
    Stop,
    Submit,
)
from protocol.errors import (
    EngineDisposed,
    EngineExists,
    EnginehouseError,
    NotFound,
    UnknownKind,
    UnknownSlice,
    UnsupportedCommand,
    ValidationFailed,
)
from protocol.fold import fold_all
from protocol.ids import valid_engine_id
from protocol.records import CommandRecord
from protocol.specs import OnInterrupt, PauseMode, Spec
from protocol.states import Aim, State
from protocol.view import SliceValue, View, Why
from protocol.wire import (
    Accepted,
    CommandInfo,
    Disposed,
    EngineInfo,
    Page,
    PoolResult,
    ProcessTotal,
    ProcessTree,
    RunInfo,
    SliceInfo,
    StateInfo,
)
from supervisor.embedded.base import Base, cursor_of, fingerprint, page_of
from supervisor.house import NOBODY, Caller
from supervisor.infos import command_info, disposed, process_tree

__all__ = ["Engines"]

PAGE = 1000


class Engines(Base):
    """The part of `House` that is about one engine."""

    # -- birth -------------------------------------------------------------------------------------------------------
    def _spec(self, new: NewEngine, *, key: str | None = None) -> Spec:
        """The spec of a new engine. Raises what is wrong with it."""
        house = self.supervisor
        if new.id is not None and not valid_engine_id(new.id):
            raise ValidationFailed(
                f"{new.id!r} cannot be an engine id: use a-z, 0-9, '.', '_' and '-', up to 64, no reserved prefix.",
                errors=[{"loc": ["id"], "msg": "not a valid engine id", "type": "engine_id"}],
            )
        kind = house.kinds.get(new.kind)
        config = house.kinds.parse_config(new.kind, new.config)
        self._pool(new.pool)
        on_interrupt = new.on_interrupt or kind.on_interrupt
        if on_interrupt is OnInterrupt.RESUME and not kind.resumes(config):
            raise ValidationFailed(
                f"The kind {new.kind} has no checkpoints to resume from with this config; use fail or retry.",
                errors=[{"loc": ["on_interrupt"], "msg": "there are no checkpoints", "type": "on_interrupt"}],
            )
        uid = house.new_id("eng")
        return Spec(
            id=new.id or uid, uid=uid, pool=new.pool, kind=new.kind, key=key,
            config=config.model_dump(mode="json"), labels=new.labels, restart=new.restart,
            mailbox_size=new.mailbox_size, idle_s=new.idle_s, stall_s=new.stall_s, on_stall=new.on_stall,
            pause_timeout_s=new.pause_timeout_s, grace_s=new.grace_s, boot_s=new.boot_s, on_interrupt=on_interrupt,
            max_attempts=new.max_attempts,
        )  # fmt: skip

    async def _allow(self, kind: str, config: Mapping[str, Any]) -> None:
        """Raises ValidationFailed for programs that this house does not allow."""
        house = self.supervisor
        engine = house.kinds.get(kind)
        if not engine.refuses:
            return
        check = partial(engine.refuse, house.kinds.parse_config(kind, config), house.children)
        if house.threads:
            await trio.to_thread.run_sync(check, limiter=house.disk, abandon_on_cancel=True)
        else:
            check()

    async def spawn(self, new: NewEngine, caller: Caller = NOBODY) -> tuple[EngineInfo, Accepted]:
        spec = self._spec(new)
        await self._allow(spec.kind, spec.config)
        return await self._spawn(spec, new, caller)

    async def _spawn(self, spec: Spec, new: NewEngine, caller: Caller) -> tuple[EngineInfo, Accepted]:
        receipt = await self.supervisor.intake.spawn(
            spec, Spawn(start=new.start), caller, digest=fingerprint(caller, new, spec.key)
        )
        accepted = await self._accepted(receipt)
        uid = receipt.replay.uid if receipt.replay is not None else spec.uid
        await self._seen_up(uid)
        return self._engine(uid), accepted

    async def _seen_up(self, uid: str) -> None:
        """An engine that boots is shown as that, which is so once it is durable."""
        cell = self.supervisor.cells.get(uid)
        if cell is not None and cell.actor is not None:
            await self.supervisor.watch(uid, lambda view: view.state not in (State.STOPPED, State.FAILED))

    async def put(self, id: str, new: NewEngine, caller: Caller = NOBODY) -> tuple[EngineInfo, bool]:
        wanted = self._spec(replace(new, id=id))
        await self._allow(wanted.kind, wanted.config)
        while True:
            try:
                view = self.supervisor.view(id)
            except NotFound:
                view = None
            if view is not None and view.state is not State.DISPOSED:
                if not self._sees(view.spec.pool, view.spec.uid):
                    raise EngineExists(f"The id {id} is taken. Choose another id.")
                cell = self.supervisor.cells.get(view.spec.uid)
                if cell is not None and cell.aim is Aim.DISPOSED:  # it is going; whoever gets it now would lose it
                    await self.supervisor.watch(view.spec.uid, lambda view: view.state is State.DISPOSED)
                    continue
                if self._compared(view.spec) != self._compared(wanted):
                    raise EngineExists(f"Engine {id} exists with another spec. Choose another id, or dispose of it.")
                return self._engine(view.spec.uid), False
            try:
                info, _ = await self._spawn(wanted, new, caller)
                return info, True
            except EngineExists:
                await self.supervisor.intake.born(id)

    def _compared(self, spec: Spec) -> Spec:
        """A spec as its kind understands it now: what an older version journaled has no members that are new since. A
        config that the kind does not take any more is nobody else's.
        """
        with suppress(UnknownKind, ValidationFailed):
            config = self.supervisor.kinds.parse_config(spec.kind, spec.config)
            return replace(spec, uid="", config=config.model_dump(mode="json"))
        return replace(spec, uid="")

    # -- looking -----------------------------------------------------------------------------------------------------
    async def get(self, engine: str) -> EngineInfo:
        return self.supervisor.info(self._live(engine))

    async def list(
        self, *, pool: str | None = None, kind: str | None = None, state: str | None = None,
        labels: Mapping[str, str] | None = None, limit: int = 100, cursor: str | None = None,
    ) -> Page[EngineInfo]:  # fmt: skip
        before = cursor_of(cursor)
        wanted = labels or {}
        found = []
        for number, uid in enumerate(self.supervisor.views, start=1):
            view = self.supervisor.views[uid]
            if view.state is State.DISPOSED or (before is not None and number <= before):
                continue
            if not self._sees(view.spec.pool, uid):
                continue
            if (
                pool in (None, view.spec.pool)
                and kind in (None, view.spec.kind)
                and state in (None, view.state)
                and wanted.items() <= view.spec.labels.items()
            ):
                found.append((number, view))
                if len(found) > limit:
                    break
        return page_of(found, limit, lambda item: self.supervisor.info(item[1]), lambda item: int(item[0]))

    async def state(self, engine: str, *, at: int | None = None) -> StateInfo:
        view = await self._at(engine, at)
        return StateInfo(
            seq=view.seq if at is None else at,
            slices={name: {"version": v.version, "value": v.value} for name, v in view.slices.items()},
        )

    async def slice(self, engine: str, name: str, *, at: int | None = None) -> SliceInfo:
        view = await self._at(engine, at)
        value: SliceValue | None = view.slices.get(name)
        if value is None:
            raise UnknownSlice(f"Engine {engine} has no slice {name!r}.")
        return SliceInfo(slice=name, version=value.version, seq=view.seq if at is None else at, value=value.value)

    async def _at(self, engine: str, at: int | None) -> View:
        """The view now, or as it was when the journal ended at `at`."""
        view = self._live(engine)
        if at is None:
            return view
        if at > self.supervisor.folded or at < 0:
            raise ValidationFailed(
                f"The journal ends at {self.supervisor.folded}.",
                errors=[{"loc": ["at"], "msg": "not in the journal yet", "type": "at"}],
            )
        past: View | None = None
        after = 0
        while rows := await self.supervisor.store.read(after=after, until=at, uid=view.spec.uid, limit=PAGE):
            past = fold_all(rows, past)
            after = rows[-1].seq
        if past is None:
            raise NotFound(f"Engine {engine} did not exist at {at}.")
        return past

    async def stats(self, engine: str) -> dict[str, Any]:
        view = self._live(engine)
        mail = self._cell(engine).mailbox.statistics()
        return {
            "counts": dict(view.counts),
            "usage": dict(view.usage),
            "mean_run_s": round(view.run_s, 3),
            "restarts": view.restarts,
            "incarnation": view.incarnation,
            "mailbox": {
                "accepted": mail.accepted, "handled": mail.handled, "dead_lettered": mail.dead,
                "withdrawn": mail.withdrawn, "queued": mail.queued, "in_hand": mail.in_hand, "balanced": mail.balanced,
            },
        }  # fmt: skip

    async def processes(self, engine: str) -> ProcessTree:
        cell = self._cell(engine)
        actor = cell.actor
        if actor is not None:
            return await self._looked(actor.tree if actor.has_processes else None, cell)
        async with self.supervisor.looking:
            tree = await cell.left_tree()
        return await self._looked(tree, cell)

    async def _looked(self, tree: Tree | None, cell: Cell) -> ProcessTree:
        if tree is None:
            return ProcessTree(items=[], total=ProcessTotal())
        house, look = self.supervisor, partial(process_tree, tree, cell.secrets)
        # The kernel lets a look at a process wait for that process.
        return await trio.to_thread.run_sync(look, limiter=house.disk) if house.threads else look()

    async def why(self, engine: str) -> dict[str, Why]:
        return dict(self._live(engine).why)

    async def get_command(self, id: str, *, engine: str | None = None) -> CommandInfo:
        record = await self._record("command", id, "command")
        assert isinstance(record, CommandRecord)
        if engine is not None and record.engine_id != engine:
            raise NotFound(f"Engine {engine} has no command {id!r}.")
        return command_info(record)

    # -- commanding --------------------------------------------------------------------------------------------------
    async def submit(
        self, engine: str, run: NewRun, caller: Caller = NOBODY, *, wait_s: float | None = None
    ) -> tuple[RunInfo, Accepted]:
        body = Submit(
            input=run.input, priority=run.priority, timeout_s=run.timeout_s, queue_ttl_s=run.queue_ttl_s,
            on_busy=run.on_busy, labels=run.labels,
        )  # fmt: skip
        accepted, _ = await self.command(engine, body, caller, wait_s=wait_s)
        assert accepted.run_id is not None
        return self._run_info(await self._run(accepted.run_id)), accepted

    async def command(
        self, engine: str, body: Any, caller: Caller = NOBODY, *, wait_s: float | None = None
    ) -> tuple[Accepted, CommandInfo | None]:
        house = self.supervisor
        view = self._view(engine)
        cell = house.cells.get(view.spec.uid)
        digest = fingerprint(caller, engine, body)
        await self._check_request(view, body)
        if cell is None:
            gone = EngineDisposed(f"Engine {engine} is disposed. Spawn it anew if you need it.")
            receipt = await house.intake.replay_or(gone, caller, digest)
        else:
            receipt = await house.intake.accept(cell, self._meant(cell, body, caller), caller, digest=digest)
        accepted = await self._accepted(receipt)
        uid = receipt.replay.uid if receipt.replay is not None else view.spec.uid
        done = await self._within(wait_s, lambda: self._effect(uid, accepted))
        return accepted, done

    async def _check_request(self, view: View, body: Any) -> None:
        """A request that a decision names must be one of this engine's. Raises NotFound."""
        named = body.request_id if isinstance(body, Approve | Reject | Skip | Answer) else None
        if named is not None and named not in view.requests:
            record = await self._record("request", named, "request")
            if record.uid != view.spec.uid:
                raise NotFound(f"Engine {view.spec.id} has no request {named!r}.")

    def _meant(self, cell: Cell, body: Any, caller: Caller) -> Any:
        """The body with what the caller left open; raises what its kind cannot do."""
        if isinstance(body, Submit):
            if not cell.kind.accepts_runs(cell.config):
                raise UnsupportedCommand(f"Engine {cell.spec.id} of kind {cell.spec.kind} takes no runs.")
            self.supervisor.kinds.parse_input(cell.spec.kind, body.input)
        elif isinstance(body, Pause):
            mode = body.mode or cell.kind.pause_mode
            possible = cell.kind.modes(cell.config)
            if mode not in possible:
                modes = ", ".join(possible)
                raise ValidationFailed(
                    f"This {cell.spec.kind} cannot pause by {mode}; choose one of: {modes}.",
                    errors=[{"loc": ["mode"], "msg": f"one of {modes}", "type": "mode"}],
                )
            return replace(body, mode=mode, holder=body.holder or caller.principal or "nobody")
        elif isinstance(body, Resume):
            return replace(body, holder=body.holder or caller.principal or "nobody")
        elif isinstance(body, Cancel) and body.run_id is None:  # what is active now, not when this is delivered
            return replace(body, run_id=cell.runs.active_id)
        return body

    async def start(self, engine: str, caller: Caller = NOBODY) -> Accepted:
        return (await self.command(engine, Start(), caller))[0]

    async def stop(
        self, engine: str, caller: Caller = NOBODY, *, grace_s: float | None = None, reason: str = ""
    ) -> Accepted:
        return (await self.command(engine, Stop(grace_s=grace_s, reason=reason), caller))[0]

    async def restart(self, engine: str, caller: Caller = NOBODY, *, reason: str = "") -> Accepted:
        return (await self.command(engine, Restart(reason=reason), caller))[0]

    async def pause(
        self, engine: str, caller: Caller = NOBODY, *, mode: PauseMode | None = None, reason: str = "",
        holder: str | None = None, wait_s: float | None = None,
    ) -> Accepted:  # fmt: skip
        body = Pause(mode=mode, reason=reason, holder=holder)
        return (await self.command(engine, body, caller, wait_s=wait_s))[0]

    async def resume(
        self, engine: str, caller: Caller = NOBODY, *, holder: str | None = None, wait_s: float | None = None
    ) -> Accepted:
        return (await self.command(engine, Resume(holder=holder), caller, wait_s=wait_s))[0]

    async def _for_many(self, caller: Caller) -> Caller:
        """The same caller for the many commands that one request becomes: its audit row stands before them, and its key
        is no command's.
        """
        if caller.trail is not None:
            await self.supervisor.intake.audit(caller.trail, Outcome.ACCEPTED)
        return replace(caller, key=None, trail=None)

    # -- death -------------------------------------------------------------------------------------------------------
    async def dispose(
        self, engine: str, caller: Caller = NOBODY, *, force: bool = False, grace_s: float | None = None
    ) -> Disposed:
        house = self.supervisor
        view = self._view(engine)
        uid = view.spec.uid
        cell = house.cells.get(uid)
        if view.state is not State.DISPOSED and cell is not None and cell.state is not State.DISPOSED:
            body = Dispose(force=force, grace_s=grace_s)
            await house.intake.accept(cell, body, caller, digest=fingerprint(caller, engine, body))
        return await house.watch(uid, lambda view: disposed(view) if view.state is State.DISPOSED else None)

    async def dispose_many(
        self, engines: Sequence[str], caller: Caller = NOBODY, *, force: bool = False, grace_s: float | None = None
    ) -> Sequence[PoolResult]:
        results: dict[str, PoolResult] = {}
        caller = await self._for_many(caller)

        async def one(engine: str) -> None:
            try:
                gone = await self.dispose(engine, caller, force=force, grace_s=grace_s)
                results[engine] = PoolResult(id=engine, ok=True, state=gone.state)
            except EnginehouseError as error:
                state = self._view(engine).state.value if engine in self.supervisor.ids else "unknown"
                results[engine] = PoolResult(id=engine, ok=False, state=state, problem=error.problem)

        async with trio.open_nursery() as nursery:
            for engine in engines:
                nursery.start_soon(one, engine)
        return [results[engine] for engine in engines]
