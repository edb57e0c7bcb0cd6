"""Events: of the house, of an engine, of a run; as a stream, or as pages of the journal."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from protocol.errors import EventIdExpired, InvalidEventId, NotFound, RateLimited
from supervisor.house import EventPage, Filter
from web.auth import Scope, ticket_in
from web.call import Call
from web.params import Flag, Limit
from web.route import Section
from web.sse import EventStream

section = Section("events")

After = Annotated[str, Field(max_length=64, description="An event id; `0` is the oldest row kept.")]
Wait = Annotated[float, Field(ge=0, le=60, strict=True, description="How long a page waits for its first item.")]
Ticket = Annotated[str, Field(max_length=64, description="In the place of a key: of `POST /auth/ticket`.")]
Names = tuple[Annotated[str, Field(min_length=1, max_length=128)], ...]
ERRORS = (NotFound, InvalidEventId, EventIdExpired, RateLimited)


@section.get("/events", Scope.READ, *ERRORS, answers=(200, 204), raw=True, text="text/event-stream")
async def stream_events(
    call: Call,
    *,
    types: Names = (),
    pool: Names = (),
    kind: Names = (),
    slices: Names = (),
    after: After | None = None,
    snapshot: Flag = False,
    limit: Limit = 100,
    wait_s: Wait = 0.0,
    ticket: Ticket | None = None,
) -> EventStream | EventPage:
    """Events of the whole house."""
    shown = Filter(types=types, pools=pool, kinds=kind, slices=slices)
    return await _show(call, shown, after, snapshot=snapshot, limit=limit, wait_s=wait_s)


@section.get("/engines/{engine}/events", Scope.READ, *ERRORS, answers=(200, 204), raw=True, text="text/event-stream")
async def stream_engine_events(
    call: Call,
    engine: str,
    *,
    types: Names = (),
    slices: Names = (),
    after: After | None = None,
    snapshot: Flag = False,
    limit: Limit = 100,
    wait_s: Wait = 0.0,
    ticket: Ticket | None = None,
) -> EventStream | EventPage:
    """Events of one engine."""
    shown = Filter(engine=engine, types=types, slices=slices)
    return await _show(call, shown, after, snapshot=snapshot, limit=limit, wait_s=wait_s)


@section.get("/runs/{run}/events", Scope.READ, *ERRORS, answers=(200, 204), raw=True, text="text/event-stream")
async def stream_run_events(
    call: Call,
    run: str,
    *,
    types: Names = (),
    slices: Names = (),
    after: After | None = None,
    snapshot: Flag = False,
    limit: Limit = 100,
    wait_s: Wait = 0.0,
    ticket: Ticket | None = None,
) -> EventStream | EventPage:
    """Events of one run."""
    shown = Filter(run=run, types=types, slices=slices)
    return await _show(call, shown, after, snapshot=snapshot, limit=limit, wait_s=wait_s)


async def _show(
    call: Call, filter: Filter, after: str | None, *, snapshot: bool, limit: int, wait_s: float
) -> EventStream | EventPage:
    last = call.header(b"last-event-id")
    position = last or after  # an EventSource sends an empty header when it has seen no id
    if _wants_page(call):
        return await _page(call, filter, position, limit, wait_s)
    assert call.principal is not None
    subscription = call.house.events(filter, after=position, snapshot=snapshot)
    if ticket := ticket_in(call.scope):
        subscription = call.services.identity.tickets.used(ticket, subscription)
    return EventStream(
        subscription=subscription,
        streams=call.services.streams,
        principal=call.principal,
        heartbeat_s=call.services.heartbeat_s,
        resumed=bool(last),
        attending=partial(call.services.attendance.stream, call.watcher(filter)),
    )


async def _page(call: Call, filter: Filter, after: str | None, limit: int, wait_s: float) -> EventPage:
    """A shutdown ends the wait, not the answer."""
    with call.services.streams.waiting(wait_s + 1) as wait:
        page = await call.house.event_page(filter, after=after, limit=limit, wait_s=wait_s)
    assert call.principal is not None
    call.principal.check()  # it may be over since
    call.services.attendance.look(call.watcher(filter))
    return await call.house.event_page(filter, after=after, limit=limit) if wait.cancelled_caught else page


def _wants_page(call: Call) -> bool:
    accept = parse_accept_header(call.header(b"accept"), MIMEAccept)
    return accept.best_match(["text/event-stream", "application/json"]) == "application/json"
