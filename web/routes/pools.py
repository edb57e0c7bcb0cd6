"""Pools: engines that belong together."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.bodies import NewPool, PatchPool, PoolCommand
from protocol.errors import (
    EngineExists,
    IdempotencyInFlight,
    NotFound,
    PoolBusy,
    QuotaExceeded,
    UnknownKind,
    ValidationFailed,
)
from protocol.wire import EngineInfo, Page, PoolInfo, PoolResult
from web.auth import Scope
from web.auth.rates import URGENT_COMMANDS
from web.call import Call
from web.params import Flag
from web.reply import Reply, created, nothing
from web.route import Section
from web.routes import engines

section = Section("pools")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolResults:
    """What a pool command did to each engine."""

    results: list[PoolResult]


@section.get("/pools", Scope.READ)
async def list_pools(call: Call) -> Page[PoolInfo]:
    """All pools."""
    return Page(items=list(await call.house.pools()))


@section.post(
    "/pools", Scope.OPERATE, EngineExists, UnknownKind, ValidationFailed, IdempotencyInFlight, answers=(201,), once=True
)
async def create_pool(call: Call, body: NewPool) -> Reply[PoolInfo]:
    """Create a pool."""
    pool = await call.house.create_pool(body, call.caller)
    return created(pool, f"/api/v1/pools/{pool.id}")


@section.get("/pools/{pool}", Scope.READ, NotFound)
async def get_pool(call: Call, pool: str) -> PoolInfo:
    """One pool, and what of its quotas is used."""
    return await call.house.pool(pool)


@section.patch("/pools/{pool}", Scope.OPERATE, NotFound, UnknownKind, ValidationFailed)
async def patch_pool(call: Call, pool: str, body: PatchPool) -> PoolInfo:
    """Change the members that are sent; a new template touches new engines only."""
    return await call.house.patch_pool(pool, body, frozenset(call.json), call.caller)


@section.delete("/pools/{pool}", Scope.OPERATE, NotFound, PoolBusy, answers=(204,))
async def delete_pool(call: Call, pool: str, *, force: Flag = False) -> Reply[None]:
    """Delete a pool; with `force` its engines are disposed of first."""
    await call.house.delete_pool(pool, call.caller, force=force)
    return nothing()


@section.put(
    "/pools/{pool}/engines/{key}", Scope.OPERATE, NotFound, ValidationFailed, QuotaExceeded, answers=(200, 201)
)
async def get_or_spawn(call: Call, pool: str, key: str) -> Reply[EngineInfo]:
    """Get the engine of this key, or spawn it from the pool's template."""
    engine, new = await call.house.get_or_spawn(pool, key, call.caller)
    return created(engine, engines.location(engine.id), new=new)


@section.post("/pools/{pool}/commands", Scope.OPERATE, NotFound, IdempotencyInFlight, urgent=URGENT_COMMANDS, once=True)
async def command_pool(call: Call, pool: str, body: PoolCommand) -> PoolResults:
    """Send a command to every engine of the pool; one failure spares nobody."""
    return PoolResults(results=list(await call.house.pool_command(pool, body, call.caller)))
