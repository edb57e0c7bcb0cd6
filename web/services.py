"""What every route may use, made once when the app is: no globals, so several houses may be served from one
process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from supervisor.house import House
from web.auth import Failures, Keys, Rates
from web.limits import Limits
from web.streams import Streams

__all__ = ["Services"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """`wall`: Unix time in seconds; `heartbeat_s`: silence after which a stream sends a comment; `openapi`: makes the
    document, as bytes; `in_flight`: (principal, key) of requests that are no command and are being answered now.
    """

    house: House
    keys: Keys
    limits: Limits
    wall: Callable[[], float]
    heartbeat_s: float
    openapi: Callable[[], bytes]
    failures: Failures
    streams: Streams
    rates: Rates = field(default_factory=Rates)
    in_flight: set[tuple[str | None, str]] = field(default_factory=set)
