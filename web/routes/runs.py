"""Runs: work that is put in, looked at, cancelled, taken up again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from protocol.bodies import NewRun
from protocol.errors import (
    Draining,
    EngineDisposed,
    IdempotencyMismatch,
    InvalidState,
    MailboxFull,
    NotFound,
    QuotaExceeded,
    RunConflict,
    UnsupportedCommand,
    ValidationFailed,
)
from protocol.runs import RunStatus
from protocol.specs import STRICT
from protocol.wire import Page, RunInfo
from web.auth import Scope
from web.call import Call
from web.params import Cursor, Flag, Limit
from web.reply import Reply, accepted
from web.route import Section

section = Section("runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedRun(RunInfo):
    """A run, and the stream to attach to."""

    events_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun(RunInfo):
    """A run, and with `events=true` all its durable events."""

    events: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRun:
    """Why, for those who ask later."""

    __pydantic_config__ = STRICT
    reason: Annotated[str, Field(max_length=1000)] = ""


def started(run: RunInfo) -> StartedRun:
    return StartedRun(events_url=f"/api/v1/runs/{run.id}/events", **fields(run))


def fields(run: RunInfo) -> dict[str, Any]:
    return {name: getattr(run, name) for name in RunInfo.__slots__}


def location(run: RunInfo) -> str:
    return f"/api/v1/runs/{run.id}"


@section.post(
    "/engines/{engine}/runs", Scope.OPERATE, NotFound, EngineDisposed, ValidationFailed, UnsupportedCommand,
    IdempotencyMismatch, InvalidState, RunConflict, MailboxFull, QuotaExceeded, Draining, answers=(200, 202),
    raw=True,
)  # fmt: skip
async def submit_run(call: Call, engine: str, body: NewRun) -> Reply[StartedRun]:
    """Submit a run; with `Prefer: wait=N`, wait for its end."""
    wait_s = call.wait_s
    run, command = await call.house.submit(engine, body, call.caller, wait_s=wait_s)
    ended = run.finished_at is not None
    return accepted(started(run), location(run), replayed=command.replayed, reached=ended, wait_s=wait_s)


@section.get("/runs", Scope.READ, NotFound)
async def list_runs(
    call: Call,
    *,
    status: RunStatus | None = None,
    pool: str | None = None,
    engine: str | None = None,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> Page[RunInfo]:
    """Runs across engines, newest first."""
    return await call.house.runs(engine=engine, pool=pool, status=status, limit=limit, cursor=cursor)


@section.get("/engines/{engine}/runs", Scope.READ, NotFound)
async def list_engine_runs(
    call: Call, engine: str, *, status: RunStatus | None = None, limit: Limit = 100, cursor: Cursor | None = None
) -> Page[RunInfo]:
    """Runs of one engine, newest first."""
    return await call.house.runs(engine=engine, status=status, limit=limit, cursor=cursor)


@section.get("/runs/{run}", Scope.READ, NotFound, raw=True)
async def get_run(call: Call, run: str, *, events: Flag = False) -> RunInfo | LoggedRun:
    """One run; with `events=true` its full event log beside it."""
    info = await call.house.run(run)
    return LoggedRun(events=list(await call.house.run_events(run)), **fields(info)) if events else info


@section.post("/runs/{run}/cancel", Scope.OPERATE, NotFound, InvalidState, answers=(202,), urgent=True)
async def cancel_run(call: Call, run: str, body: CancelRun = CancelRun()) -> Reply[RunInfo]:
    """Cancel a run, queued or in hand."""
    info = await call.house.cancel(run, call.caller, reason=body.reason)
    return accepted(info, location(info))


@section.post("/runs/{run}/continue", Scope.OPERATE, NotFound, InvalidState, answers=(202,))
async def continue_run(call: Call, run: str) -> Reply[RunInfo]:
    """Put a run back in hand that waits for nothing any more, or that was interrupted."""
    info = await call.house.resume_run(run, call.caller)
    return accepted(info, location(info))


@section.post("/runs/{run}/retry", Scope.OPERATE, NotFound, InvalidState, EngineDisposed, MailboxFull, answers=(202,))
async def retry_run(call: Call, run: str) -> Reply[StartedRun]:
    """Submit the same input again, as a new run."""
    info, command = await call.house.retry(run, call.caller)
    return accepted(started(info), location(info), replayed=command.replayed)
