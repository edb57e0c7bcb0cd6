"""What every route may use, made once when the app is: no globals, so several houses may be served from one
process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from supervisor.house import SharedHouse
from web.audit import AuditJournal
from web.auth import Failures, Keys, Rates
from web.limits import Limits
from web.streams import Streams

__all__ = ["Services"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """`audit`: where audit rows are read (None: there are none); `audit_level`: `metadata`, or `request` with bodies;
    `wall`: Unix time in seconds; `heartbeat_s`: silence after which a stream sends a comment; `openapi`: gives the
    document, as bytes; `in_flight`: (principal, key) of requests that are no command and are being answered now.
    """

    house: SharedHouse
    keys: Keys
    limits: Limits
    wall: Callable[[], float]
    heartbeat_s: float
    openapi: Callable[[], Awaitable[bytes]]
    failures: Failures
    streams: Streams
    audit: AuditJournal | None = None
    audit_level: Literal["metadata", "request"] = "metadata"
    rates: Rates = field(default_factory=Rates)
    in_flight: set[tuple[str | None, str]] = field(default_factory=set)
