"""Requests: what engines ask people, and the one answer each of them gets."""

from __future__ import annotations

from typing import Literal

from protocol.bodies import ReplyBody
from protocol.errors import AlreadyDecided, ApprovalStale, NotFound, RequestClosed, ValidationFailed
from protocol.wire import Page, RequestInfo
from supervisor.house import Filter
from web.auth import Scope
from web.call import Call
from web.params import Cursor, Limit
from web.route import Section

section = Section("requests")

Shown = Literal["pending", "decided"]
Asked = Literal["approval", "permission", "question"]


@section.get("/requests", Scope.READ)
async def list_requests(
    call: Call,
    *,
    state: Shown = "pending",
    kind: Asked | None = None,
    pool: str | None = None,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> Page[RequestInfo]:
    """Requests across engines: the pending ones, or with `state=decided` the history of decisions."""
    found = await call.house.requests(state=state, kind=kind, pool=pool, limit=limit, cursor=cursor)
    if state == "pending":
        call.services.attendance.look(call.watcher(Filter(pools=(pool,) if pool else ()), kind=kind))
    return found


@section.get("/engines/{engine}/requests", Scope.READ, NotFound)
async def list_engine_requests(
    call: Call,
    engine: str,
    *,
    state: Shown | None = None,
    kind: Asked | None = None,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> Page[RequestInfo]:
    """Requests of one engine, whatever their state."""
    found = await call.house.requests(engine=engine, state=state, kind=kind, limit=limit, cursor=cursor)
    if state != "decided":
        call.services.attendance.look(call.watcher(Filter(engine=engine), kind=kind))
    return found


@section.get("/requests/{request}", Scope.READ, NotFound)
async def get_request(call: Call, request: str) -> RequestInfo:
    """One request, and its decision when it has one."""
    return await call.house.request(request)


@section.post(
    "/requests/{request}/reply", Scope.APPROVE, NotFound, ValidationFailed, AlreadyDecided, ApprovalStale,
    RequestClosed, urgent=True,
)  # fmt: skip
async def reply_request(call: Call, request: str, body: ReplyBody) -> RequestInfo:
    """Decide a request; answers once the decision is durable."""
    return await call.house.reply(request, body, call.caller)
