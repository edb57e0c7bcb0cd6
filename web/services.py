"""What every route may use, made once when the app is: no globals, so several houses may be served from one
process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from supervisor.house import House
from web.auth import Identity, Keys, Rates
from web.limits import Limits
from web.streams import Streams

__all__ = ["Services"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """`wall`: Unix time in seconds; `heartbeat_s`: silence after which a stream sends a comment; `openapi`: makes the
    document, as bytes; `takes_ticket`: whether a path is that of a stream that takes one; `in_flight`: (principal,
    key) of requests that are no command and are being answered now.
    """

    house: House
    identity: Identity
    limits: Limits
    wall: Callable[[], float]
    heartbeat_s: float
    openapi: Callable[[], bytes]
    takes_ticket: Callable[[str], bool]
    rates: Rates = field(default_factory=Rates)
    streams: Streams = field(default_factory=Streams)
    in_flight: set[tuple[str | None, str]] = field(default_factory=set)

    @property
    def keys(self) -> Keys:
        return self.identity.keys
