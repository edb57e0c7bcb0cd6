"""The daemon itself: read its settings again, take no more work, end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import structlog
from pydantic import Field

from protocol.errors import IdempotencyInFlight, NotFound, ShuttingDown, ValidationFailed
from protocol.specs import STRICT
from protocol.wire import DrainInfo
from supervisor.standing import check_standing
from web.auth import Scope
from web.call import Call
from web.places import Problem
from web.reload import Reloaded
from web.reply import Reply, accepted
from web.route import Section
from web.services import Daemon

log = structlog.get_logger("enginehouse.daemon")
section = Section("admin")

_FOLDERS = re.compile(r"(?<![\w/])/(?:[^\s/:;,']+/)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """`POST /admin/drain`. `cancel`: lift it."""

    __pydantic_config__ = STRICT
    cancel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """`POST /admin/shutdown`. `grace_s`: instead of `server.grace_s`, for this once."""

    __pydantic_config__ = STRICT
    grace_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """The grace that everything in hand has now."""

    grace_s: float


@section.post("/admin/reload", Scope.ADMIN, NotFound, ValidationFailed, IdempotencyInFlight, urgent=True, once=True)
async def reload(call: Call) -> Reloaded:
    """Read the settings again, and take what can change while the daemon runs; a wrong one changes nothing."""
    daemon = _daemon(call)
    try:
        return await daemon.reload()
    except Problem as problem:
        log.warning("not reloaded", why=str(problem))
        sentence = _FOLDERS.sub("", str(problem))  # where things lie on this machine is for its log alone
        fault = {"loc": ["settings"], "msg": sentence, "type": "settings"}
        raise ValidationFailed(f"Nothing was changed. {sentence}", errors=[fault]) from None


@section.post("/admin/drain", Scope.ADMIN, ShuttingDown, IdempotencyInFlight, urgent=True, once=True)
async def drain(call: Call, body: Drain = Drain()) -> DrainInfo:
    """Take no new work, finish what there is, stop every engine; or lift that. Repeated: how far it is."""
    return await call.house.drain(call.caller, cancel=body.cancel)


@section.post("/admin/shutdown", Scope.ADMIN, NotFound, IdempotencyInFlight, answers=(202,), urgent=True, once=True)
async def shut_down(call: Call, body: Shutdown = Shutdown()) -> Reply[Stopping]:
    """End in order, as after SIGTERM: streams say goodbye, engines have their grace."""
    daemon = _daemon(call)
    return accepted(Stopping(grace_s=daemon.shut_down(f"{call.caller.principal} over HTTP", body.grace_s)))


def _daemon(call: Call) -> Daemon:
    """Raises InsufficientScope for a tenant, who does not steer the house."""
    check_standing(call.caller, Scope.ADMIN)
    if call.services.daemon is None:
        raise NotFound("This house is served by another program than our daemon; ask that one.")
    return call.services.daemon
