"""What programs wrote, as it is kept in files."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from protocol.errors import EngineDisposed, NotFound, ValidationFailed
from protocol.wire import LogPage
from web.auth import Scope
from web.call import Call
from web.route import Section

section = Section("engines")

Place = Annotated[str, Field(max_length=64, description="`next_after` of the page before; 0: all that is kept.")]
Bytes = Annotated[int, Field(ge=1, le=1 << 20, strict=True, description="How many bytes at most.")]
Wait = Annotated[float, Field(ge=0, le=60, strict=True, description="How long to wait when there is nothing new.")]


@section.get("/engines/{engine}/logs/{stream}", Scope.READ, NotFound, EngineDisposed, ValidationFailed, raw=True)
async def get_log(
    call: Call,
    engine: str,
    stream: str,
    *,
    after: Place | None = None,
    limit: Bytes = 1 << 16,
    wait_s: Wait = 0.0,
) -> LogPage:
    """What an engine's program wrote to `stdout` or `stderr`: the last of it, or what follows a place."""
    with call.services.streams.waiting(wait_s + 1) as wait:
        page = await call.house.log(engine, stream, after=after, limit=limit, wait_s=wait_s)
    assert call.principal is not None
    call.principal.check()  # it may be over since
    return await call.house.log(engine, stream, after=after, limit=limit) if wait.cancelled_caught else page
