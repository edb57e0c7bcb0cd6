"""Engines: their life as resources, and what each of them shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from protocol.bodies import NewEngine
from protocol.errors import (
    EngineBusy,
    EngineDisposed,
    EngineExists,
    NotFound,
    QuotaExceeded,
    UnknownKind,
    UnknownSlice,
    ValidationFailed,
)
from protocol.states import State
from protocol.view import Why
from protocol.wire import Disposed, EngineInfo, Page, ProcessTree, RunInfo, SliceInfo, SpawnedEngine, StateInfo
from web.auth import Scope
from web.call import Call
from web.params import Cursor, Flag, Limit, Seq
from web.reply import Reply, created
from web.route import Section

section = Section("engines")

PageSize = Annotated[int, Field(ge=1, le=1000, strict=True)]
PageNumber = Annotated[int, Field(ge=1, le=10**9, strict=True)]
Grace = Annotated[float, Field(ge=0, le=10**9, strict=True, description="Seconds; the engine's own when absent.")]
Label = Annotated[str, Field(pattern=r"^[^:]{1,64}:[\s\S]{0,256}$", description="`name:value`; may be repeated.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Ended runs, newest first: page `page` of `page_size`, out of `total`."""

    items: list[RunInfo]
    total: int
    page: int
    page_size: int
    next_cursor: None = None


def location(engine: str) -> str:
    return f"/api/v1/engines/{engine}"


SPAWN_ERRORS = (EngineExists, UnknownKind, ValidationFailed, QuotaExceeded, NotFound)


@section.post("/engines", Scope.OPERATE, *SPAWN_ERRORS, answers=(201,))
async def spawn_engine(call: Call, body: NewEngine) -> Reply[SpawnedEngine]:
    """Spawn an engine."""
    engine, accepted = await call.house.spawn(body, call.caller)
    return created(SpawnedEngine.of(engine, accepted.command_id), location(engine.id), replayed=accepted.replayed)


@section.get("/engines", Scope.READ)
async def list_engines(
    call: Call,
    *,
    pool: str | None = None,
    kind: str | None = None,
    state: State | None = None,
    label: list[Label] | None = None,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> Page[EngineInfo]:
    """Engines, in the order of their spawning."""
    labels = dict(text.split(":", 1) for text in label or ())
    return await call.house.list(pool=pool, kind=kind, state=state, labels=labels, limit=limit, cursor=cursor)


@section.get("/engines/{engine}", Scope.READ, NotFound, EngineDisposed, raw=True)
async def get_engine(call: Call, engine: str) -> EngineInfo:
    """One engine as it is now."""
    return await call.house.get(engine)


@section.put("/engines/{engine}", Scope.OPERATE, *SPAWN_ERRORS, answers=(200, 201))
async def put_engine(call: Call, engine: str, body: NewEngine) -> Reply[EngineInfo]:
    """Get an engine, or create it under this id."""
    info, new = await call.house.put(engine, body, call.caller)
    return created(info, location(info.id), new=new)


@section.delete("/engines/{engine}", Scope.OPERATE, NotFound, EngineBusy, urgent=True)
async def dispose_engine(call: Call, engine: str, *, force: Flag = False, grace_s: Grace | None = None) -> Disposed:
    """Dispose of an engine; answers when it is proven gone."""
    return await call.house.dispose(engine, call.caller, force=force, grace_s=grace_s)


@section.get("/engines/{engine}/state", Scope.READ, NotFound, EngineDisposed)
async def get_state(call: Call, engine: str, *, at: Seq | None = None) -> StateInfo:
    """All slices, now or as they were at a seq."""
    return await call.house.state(engine, at=at)


@section.get("/engines/{engine}/state/{slice}", Scope.READ, NotFound, UnknownSlice, EngineDisposed)
async def get_slice(call: Call, engine: str, slice: str, *, at: Seq | None = None) -> SliceInfo:
    """One slice, now or as it was at a seq."""
    return await call.house.slice(engine, slice, at=at)


@section.get("/engines/{engine}/plan", Scope.READ, NotFound, EngineDisposed)
async def get_plan(call: Call, engine: str) -> Any:
    """The value of slice `plan`, or null."""
    state = await call.house.state(engine)
    return state.slices.get("plan", {}).get("value")


@section.get("/engines/{engine}/stats", Scope.READ, NotFound, EngineDisposed)
async def get_stats(call: Call, engine: str) -> dict[str, Any]:
    """Counters, timings, tokens, cost."""
    return await call.house.stats(engine)


@section.get("/engines/{engine}/history", Scope.READ, NotFound, EngineDisposed)
async def get_history(call: Call, engine: str, *, page: PageNumber = 1, page_size: PageSize = 50) -> History:
    """Ended runs, newest first."""
    items, total = await call.house.history(engine, page=page, page_size=page_size)
    return History(items=list(items), total=total, page=page, page_size=page_size)


@section.get("/engines/{engine}/processes", Scope.READ, NotFound, EngineDisposed)
async def list_processes(call: Call, engine: str) -> ProcessTree:
    """The live process tree with what it uses, in all and of each process, and what holds it."""
    return await call.house.processes(engine)


@section.get("/engines/{engine}/why", Scope.READ, NotFound, EngineDisposed)
async def get_why(call: Call, engine: str) -> dict[str, Why]:
    """The last stop, pause, restart and cancel: who, why, through what."""
    return await call.house.why(engine)
