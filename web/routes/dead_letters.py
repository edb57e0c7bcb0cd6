"""Dead letters: what was accepted and nobody will handle; kept, and redeliverable."""

from __future__ import annotations

from protocol.errors import EngineDisposed, InvalidState, MailboxFull, NotFound
from protocol.wire import DeadLetterInfo, Page
from web.auth import Scope
from web.call import Call
from web.params import Cursor, Limit
from web.reply import Reply, accepted, nothing
from web.route import Section
from web.routes.commands import CommandAccepted, acceptance

section = Section("dead letters")


@section.get("/dead-letters", Scope.READ, NotFound)
async def list_dead_letters(
    call: Call,
    *,
    engine: str | None = None,
    pool: str | None = None,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> Page[DeadLetterInfo]:
    """Dead letters, newest first."""
    return await call.house.dead_letters(engine=engine, pool=pool, limit=limit, cursor=cursor)


@section.post(
    "/dead-letters/{letter}/redeliver",
    Scope.OPERATE,
    NotFound,
    EngineDisposed,
    InvalidState,
    MailboxFull,
    answers=(202,),
)
async def redeliver(call: Call, letter: str) -> Reply[CommandAccepted]:
    """Send a dead letter again, as a new command."""
    command = await call.house.redeliver(letter, call.caller)
    return accepted(acceptance(command), f"/api/v1/commands/{command.command_id}", replayed=command.replayed)


@section.delete("/dead-letters/{letter}", Scope.OPERATE, NotFound, answers=(204,))
async def discard(call: Call, letter: str) -> Reply[None]:
    """Forget a dead letter."""
    await call.house.discard(letter, call.caller)
    return nothing()
