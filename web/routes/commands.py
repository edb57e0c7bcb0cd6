"""Commands: one route for everything that is asked of an engine, told apart by `type`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from protocol.commands import WireBody
from protocol.errors import (
    AlreadyDecided,
    AmbiguousRequest,
    Draining,
    EngineBusy,
    EngineDisposed,
    IdempotencyMismatch,
    InvalidState,
    MailboxFull,
    NotFound,
    NothingPending,
    QuotaExceeded,
    RequestClosed,
    RunConflict,
    UnsupportedCommand,
    ValidationFailed,
)
from protocol.wire import Accepted, CommandInfo, RunInfo
from web.auth import Scope
from web.auth.rates import URGENT_COMMANDS
from web.call import Call
from web.reply import Reply, accepted
from web.route import Section

section = Section("commands")

DECISIONS: Final = dict.fromkeys(("approve", "reject", "skip", "answer"), Scope.APPROVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAccepted:
    """What a command gets at once; `run_id` when it makes a run."""

    command_id: str
    engine_id: str
    type: str
    state: str
    seq: int
    run_id: str | None = None


def acceptance(command: Accepted) -> CommandAccepted:
    return CommandAccepted(**{name: getattr(command, name) for name in CommandAccepted.__slots__})


@section.post(
    "/engines/{engine}/commands", Scope.OPERATE, NotFound, EngineDisposed, UnsupportedCommand, ValidationFailed,
    IdempotencyMismatch, InvalidState, EngineBusy, RunConflict, NothingPending, AmbiguousRequest, RequestClosed,
    AlreadyDecided, MailboxFull, QuotaExceeded, Draining, answers=(200, 202), scopes=DECISIONS, raw=True,
    urgent=URGENT_COMMANDS,
)  # fmt: skip
async def send_command(call: Call, engine: str, body: WireBody) -> Reply[CommandAccepted | CommandInfo | RunInfo]:
    """Send a command; with `Prefer: wait=N`, wait for its effect."""
    wait_s = call.wait_s
    command, reached = await call.house.command(engine, body, call.caller, wait_s=wait_s)
    shown: Any = acceptance(command)
    if wait_s is not None:
        shown = await _outcome(call, command) if reached else await call.house.get_command(command.command_id)
    at = f"/api/v1/engines/{engine}/commands/{command.command_id}"
    return accepted(shown, at, replayed=command.replayed, reached=reached is not None, wait_s=wait_s)


async def _outcome(call: Call, command: Accepted) -> CommandInfo | RunInfo:
    """What to show of an effect that was reached: the run of a submit, else the command's record."""
    if command.type == "submit" and command.run_id is not None:
        return await call.house.run(command.run_id)
    return await call.house.get_command(command.command_id)


@section.get("/engines/{engine}/commands/{command}", Scope.READ, NotFound)
async def get_engine_command(call: Call, engine: str, command: str) -> CommandInfo:
    """The record of a command that this engine was sent."""
    return await call.house.get_command(command, engine=engine)


@section.get("/commands/{command}", Scope.READ, NotFound)
async def get_command(call: Call, command: str) -> CommandInfo:
    """The record of a command."""
    return await call.house.get_command(command)
