"""Pools: create, change, fill by key, and command as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import trio

from actors.cell import Cell
from protocol.authority import Scope
from protocol.bodies import NewEngine, NewPool, PatchPool, PoolCommand
from protocol.commands import Pause, Resume, Start, Stop
from protocol.edge import as_json
from protocol.errors import EngineExists, EnginehouseError, PoolBusy, ValidationFailed
from protocol.ids import valid_key
from protocol.specs import PoolSpec, Template
from protocol.states import Aim, State
from protocol.wire import EngineInfo, PoolInfo, PoolResult
from protocol.writes import Document
from supervisor.drain import drain
from supervisor.embedded.engines import Engines
from supervisor.house import NOBODY, Caller
from supervisor.pools import DEFAULT, Pool
from supervisor.standing import check_standing

__all__ = ["Pools"]

GUARDED = ("four_eyes", "require_digest", "escalate_after_s")
"""Who approvals are to protect against may not change the rules of approvals."""
NOT_NULL = ("max_engines", "strategy", "window_s", "quotas", *GUARDED)


class Pools(Engines):
    """The part of `House` that is about pools."""

    def _info(self, pool: Pool) -> PoolInfo:
        spec, template = pool.spec, pool.spec.template
        if template is not None:
            config = self.supervisor.kinds.masked(template.kind, template.config)
            spec = replace(spec, template=replace(template, config=config))
        return PoolInfo.of(spec, engines=pool.engines, running=pool.running, budget=pool.budget(self.supervisor.now()))

    async def pools(self) -> Sequence[PoolInfo]:
        return [self._info(pool) for pool in self.supervisor.pools if self._sees(pool.spec.id)]

    async def pool(self, id: str) -> PoolInfo:
        return self._info(self._pool(id))

    async def create_pool(self, new: NewPool, caller: Caller = NOBODY) -> PoolInfo:
        await self._allow_template(new.template)
        check_standing(caller, Scope.OPERATE)
        if new.id in self.supervisor.pools:
            raise EngineExists(f"Pool {new.id} exists. Choose another id, or change it with PATCH.")
        fields = {name: getattr(new, name) for name in NewPool.__dataclass_fields__}
        return await self._keep(PoolSpec(**fields), caller)

    async def _allow_template(self, template: Template | None) -> None:
        """Before anything is looked at that another request may change meanwhile."""
        if template is not None:
            await self._allow(template.kind, template.config)

    async def _keep(self, spec: PoolSpec, caller: Caller) -> PoolInfo:
        if spec.template is not None:
            self.supervisor.kinds.parse_config(spec.template.kind, spec.template.config)
        pool = self.supervisor.pools.put(spec)
        document = Document(table="pool", id=spec.id, body=as_json(spec))
        await self.supervisor.intake.record(document, trail=caller.trail)
        self.supervisor.give_places(pool)
        for cell in pool.cells.values():
            self.supervisor.expiry.watch(cell)
            cell.lot.unpark_all()  # who is idle looks at its idle_s again
        return self._info(pool)

    async def patch_pool(self, id: str, patch: PatchPool, members: frozenset[str], caller: Caller = NOBODY) -> PoolInfo:
        if "template" in members:
            await self._allow_template(patch.template)
        pool = self._pool(id)
        check_standing(caller, Scope.OPERATE)
        changes = {name: getattr(patch, name) for name in members}
        if caller.standing is not None and members.intersection(GUARDED):
            caller.standing().require(Scope.ADMIN)
        for name in NOT_NULL:
            if name in changes and changes[name] is None:
                raise ValidationFailed(
                    f"{name} cannot be null.", errors=[{"loc": [name], "msg": "cannot be null", "type": "null"}]
                )
        return await self._keep(replace(pool.spec, **changes), caller)

    async def delete_pool(self, id: str, caller: Caller = NOBODY, *, force: bool = False) -> None:
        pool = self._pool(id)
        guarded = any(getattr(pool.spec, name) for name in GUARDED)
        check_standing(caller, Scope.ADMIN if guarded else Scope.OPERATE)
        if id == DEFAULT:
            raise PoolBusy("The default pool stays.")
        if pool.engines or pool.spawning:
            if not force or pool.spawning:
                raise PoolBusy(f"Pool {id} has {pool.engines} engines. Dispose of them, or delete with force.")
            engines = [cell.spec.id for cell in pool.cells.values()]
            results = await self.dispose_many(engines, caller, force=True)
            failed = [result.id for result in results if not result.ok]
            if failed or pool.engines:
                raise PoolBusy(f"Pool {id} could not be emptied: {', '.join(failed) or 'engines were added'}.")
        self.supervisor.pools.remove(id)
        await self.supervisor.intake.record(Document(table="pool", id=id, body=None), trail=caller.trail)

    async def get_or_spawn(self, pool: str, key: str, caller: Caller = NOBODY) -> tuple[EngineInfo, bool]:
        house = self.supervisor
        found = self._pool(pool)
        if not valid_key(key):
            raise ValidationFailed(
                "A key is 1 to 128 printable characters without '/'.",
                errors=[{"loc": ["key"], "msg": "not a valid key", "type": "key"}],
            )
        allowed = None
        while True:
            known = found.keys.get(key)
            if known is not None:
                if house.cell(known).aim is Aim.DISPOSED:
                    await house.watch(house.ids[known], lambda view: view.state is State.DISPOSED)
                    continue
                info = house.info(self._view(known))
                if info.state in (State.STOPPED, State.FAILED):
                    await self.start(known, replace(caller, key=None))
                    await self._seen_up(info.uid)
                    info = house.info(house.view(known))
                return info, False
            if key in found.on_their_way:
                await house.intake.next_birth()
                house.check_open()
                continue
            template = found.spec.template
            if template is None:
                raise ValidationFailed(
                    f"Pool {pool} has no template. PATCH one in, or spawn an engine in it.",
                    errors=[{"loc": ["pool"], "msg": "no template", "type": "template"}],
                )
            if allowed is not template:  # what it was when it became the template may have changed, on the disk too
                await self._allow_template(template)
                allowed = template
                continue
            new = NewEngine(kind=template.kind, config=template.config, labels=template.labels, pool=pool)
            info, accepted = await self._spawn(self._spec(new, key=key), new, caller)
            return info, not accepted.replayed

    # -- as one ------------------------------------------------------------------------------------------------------
    async def pool_command(self, id: str, command: PoolCommand, caller: Caller = NOBODY) -> Sequence[PoolResult]:
        """Commands every engine, in parallel; one failure spares nobody."""
        pool = self._pool(id)
        check_standing(caller, Scope.OPERATE, pool=id)
        caller = await self._for_many(caller)
        cells = list(pool.cells.values())
        if command.type == "dispose":
            engines = [cell.spec.id for cell in cells]
            return await self.dispose_many(engines, caller, force=command.force, grace_s=command.grace_s)
        if command.type == "drain":
            await self._keep(replace(pool.spec, draining=True), caller)
            drain(self.supervisor, pool)
            return [PoolResult(id=cell.spec.id, ok=True, state=cell.state.value) for cell in cells]
        if command.type in ("start", "resume") and pool.spec.draining:
            await self._keep(replace(pool.spec, draining=False), caller)
        results: dict[str, PoolResult] = {}

        async def one(cell: Cell) -> None:
            try:
                await self.command(cell.spec.id, self._body(command), caller)
                results[cell.spec.uid] = PoolResult(id=cell.spec.id, ok=True, state=cell.state.value)
            except EnginehouseError as error:
                results[cell.spec.uid] = PoolResult(
                    id=cell.spec.id, ok=False, state=cell.state.value, problem=error.problem
                )

        async with trio.open_nursery() as nursery:
            for cell in cells:
                nursery.start_soon(one, cell)
        return [results[cell.spec.uid] for cell in cells]

    @staticmethod
    def _body(command: PoolCommand) -> Any:
        match command.type:
            case "pause":
                return Pause(holder="pool", reason=command.reason)
            case "resume":
                return Resume(holder="pool")
            case "start":
                return Start()
            case "stop":
                return Stop(grace_s=command.grace_s, reason=command.reason)
            case "dispose" | "drain":
                raise AssertionError(command.type)  # no command of one engine does what these do
