"""Health: little for everybody, all that was measured for who may read. (`/health/live` is the guard's.)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from protocol.errors import Draining, StoreUnavailable
from protocol.states import LIVE
from protocol.times import rfc3339
from protocol.wire import HealthInfo
from web.auth import Scope
from web.call import Call
from web.route import Section

section = Section("health", base="")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicHealth:
    """What a stranger may know. `active_sessions`: engines that are up."""

    status: str
    uptime_seconds: float
    active_sessions: int
    timestamp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    status: Literal["ready"] = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    status: Literal["live"] = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class FullHealth(HealthInfo):
    """Every check, and whether keys are asked for at all."""

    auth: Literal["on", "off"]


@section.get("/health", None)
async def get_health(call: Call) -> PublicHealth:
    """Whether the house is well."""
    health = await call.house.health()
    return PublicHealth(
        status=health.status,
        uptime_seconds=health.uptime_s,
        active_sessions=sum(health.checks.get("engines", {}).get(state, 0) for state in LIVE),
        timestamp=rfc3339(round(call.services.wall() * 1000)),
    )


@section.get("/health/live", None)
async def get_live(call: Call) -> Live:
    """Whether the process answers. The guard answers this before anything else is asked."""
    return Live()


@section.get("/health/ready", None, Draining, StoreUnavailable)
async def get_ready(call: Call) -> Ready:
    """Whether work can be sent here now."""
    health = await call.house.health()
    if health.draining:
        raise Draining("Send new work elsewhere: this house finishes what it has, and takes nothing new.")
    if health.status == "unhealthy":
        sick = sorted(name for name, check in health.checks.items() if check.get("status") == "unhealthy")
        raise StoreUnavailable(f"Wait until it is healthy again: {', '.join(sick) or 'the house'}.", checks=sick)
    return Ready()


@section.get("/api/v1/health", Scope.READ, free=True)
async def get_full_health(call: Call) -> FullHealth:
    """Every check with what was measured."""
    health = await call.house.health()
    return FullHealth(
        auth="on" if call.services.keys.enable_auth else "off",
        **{name: getattr(health, name) for name in HealthInfo.__slots__},
    )
