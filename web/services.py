"""What every route may use, made once when the app is: no globals, so several houses may be served from one
process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import trio

from supervisor.attendance import Attendance
from supervisor.house import SharedHouse
from supervisor.schedules import Schedules
from web.audit import AuditJournal
from web.auth import Failures, Identity, Keys, Rates
from web.limits import Limits
from web.metrics import Metrics
from web.reload import Reloaded
from web.streams import Streams
from web.webhooks import Webhooks

__all__ = ["Daemon", "Services"]


class Daemon(Protocol):
    """What a daemon can do beside serving its house."""

    async def reload(self) -> Reloaded:
        """Read the settings again. Raises Problem; then nothing has changed."""

    def shut_down(self, who: str, grace_s: float | None = None) -> float:
        """End in order, as after SIGTERM; the grace that it has, in seconds. A repeat changes nothing."""


@dataclass(slots=True, kw_only=True)
class Services:
    """`audit`: where audit rows are read (None: there are none); `audit_level`: `metadata`, or `request` with bodies;
    `wall`: Unix time in seconds; `heartbeat_s`: silence after which a stream sends a comment; `openapi`: gives the
    document, as bytes; `takes_ticket`: whether a path is that of a stream that takes one; `attendance`: where it is
    said who watches; `in_flight`: (principal, key) of requests that are no command and are being answered now;
    `schedules`, `webhooks`: None where the house keeps none; `daemon`: what runs this app, when a daemon does. A reload
    changes `limits`, `heartbeat_s` and `audit_level`.
    """

    house: SharedHouse
    identity: Identity
    limits: Limits
    wall: Callable[[], float]
    heartbeat_s: float
    openapi: Callable[[], Awaitable[bytes]]
    takes_ticket: Callable[[str], bool]
    failures: Failures
    streams: Streams
    audit: AuditJournal | None = None
    audit_level: Literal["metadata", "request"] = "metadata"
    rates: Rates = field(default_factory=Rates)
    attendance: Attendance = field(default_factory=lambda: Attendance(trio.current_time))
    metrics: Metrics = field(default_factory=Metrics)
    daemon: Daemon | None = None
    schedules: Schedules | None = None
    webhooks: Webhooks | None = None
    in_flight: set[tuple[str | None, str]] = field(default_factory=set)

    @property
    def keys(self) -> Keys:
        return self.identity.keys
