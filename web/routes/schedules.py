"""Schedules: what is to happen at which times."""

from __future__ import annotations

from protocol.authority import Authority
from protocol.errors import (
    EngineDisposed,
    EngineExists,
    IdempotencyInFlight,
    InvalidState,
    NotFound,
    QuotaExceeded,
    ShuttingDown,
    ValidationFailed,
)
from protocol.wire import Page
from supervisor.schedules import Firing, NewSchedule, PatchSchedule, ScheduleInfo, Schedules
from web.auth import Scope
from web.call import Call
from web.paging import page_of
from web.params import Cursor, Limit
from web.reply import Reply, created, nothing
from web.route import Section

section = Section("schedules")


def _asked(call: Call) -> tuple[Schedules, Authority]:
    """The schedules of this house, and who asks. Raises NotFound where none are kept."""
    if call.services.schedules is None:
        raise NotFound("This house keeps no schedules.")
    assert call.principal is not None
    return call.services.schedules, call.principal.authority


@section.get("/schedules", Scope.READ, NotFound)
async def list_schedules(call: Call, *, limit: Limit = 100, cursor: Cursor | None = None) -> Page[ScheduleInfo]:
    """Schedules of the pools that are seen, oldest first."""
    schedules, authority = _asked(call)
    found = schedules.infos(authority)
    return page_of(found, lambda info: f"{info.created_at} {info.id}", limit=limit, cursor=cursor)


@section.post(
    "/schedules",
    Scope.OPERATE,
    NotFound,
    EngineDisposed,
    EngineExists,
    ValidationFailed,
    QuotaExceeded,
    IdempotencyInFlight,
    answers=(201,),
    once=True,
)
async def create_schedule(call: Call, body: NewSchedule) -> Reply[ScheduleInfo]:
    """Create a schedule. It acts under the authority of whoever creates it, for as long as their credentials stand."""
    schedules, authority = _asked(call)
    made = await schedules.create(body, call.caller, authority=authority)
    return created(made, f"/api/v1/schedules/{made.id}")


@section.get("/schedules/{schedule}", Scope.READ, NotFound)
async def get_schedule(call: Call, schedule: str) -> ScheduleInfo:
    """One schedule, its last time and its next."""
    schedules, authority = _asked(call)
    return schedules.get(schedule, authority)


@section.patch("/schedules/{schedule}", Scope.OPERATE, NotFound, ValidationFailed)
async def patch_schedule(call: Call, schedule: str, body: PatchSchedule) -> ScheduleInfo:
    """Enable or disable a schedule. Whoever enables it answers for it from then on."""
    schedules, authority = _asked(call)
    return await schedules.enable(schedule, body.enabled, call.caller, authority=authority)


@section.delete("/schedules/{schedule}", Scope.OPERATE, NotFound, answers=(204,))
async def delete_schedule(call: Call, schedule: str) -> Reply[None]:
    """Delete a schedule; what it has started goes on."""
    schedules, authority = _asked(call)
    await schedules.delete(schedule, call.caller, authority=authority)
    return nothing()


@section.post("/schedules/{schedule}/run", Scope.OPERATE, NotFound, InvalidState, ShuttingDown)
async def run_schedule(call: Call, schedule: str) -> Firing:
    """Act now, once for each Idempotency-Key; its times stay as they are. `result` says what came of it."""
    schedules, authority = _asked(call)
    return await schedules.run_now(schedule, call.caller, authority=authority)
