"""CORS (Fetch standard, 3.2) for origins that are configured, each exactly; nobody else gets any of these headers.

There is no mode with credentials: a page of another origin sends a key that somebody gave it, never a cookie of ours.
The answer to a preflight is the same for every path and method, so it tells nothing about routes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from web.asgi import Headers, Scope

__all__ = ["ORIGIN", "granted", "is_origin", "is_preflight", "preflight_headers"]

ORIGIN: Final = "enginehouse.origin"  # the key in an ASGI scope under which the guard leaves a listed origin

_METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_SENT: Final = (
    b"Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Prefer, Range, traceparent, tracestate, "
    b"X-API-Key, X-Request-Id"
)
_SHOWN: Final = (
    b"Allow, Content-Range, Idempotent-Replayed, Location, Preference-Applied, RateLimit, RateLimit-Policy, "
    b"Retry-After, WWW-Authenticate, X-Request-Id"
)
_MAX_AGE_S: Final = b"600"

_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?)://(?:\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_IMPLIED: Final = {"http": "80", "https": "443"}


def is_origin(text: str) -> bool:
    """Whether a browser could send it (RFC 6454 6.2): `scheme://host` or `scheme://host:port`, in lower case, without
    the port that the scheme implies, without a path, and no pattern.
    """
    match = _ORIGIN.fullmatch(text)
    return match is not None and match["port"] != _IMPLIED[match["scheme"]] and int(match["port"] or 0) <= 0xFFFF


def is_preflight(scope: Scope) -> bool:
    """Whether a browser asks for a page of a listed origin what that page may do."""
    return (
        scope["method"] == "OPTIONS"
        and ORIGIN in scope
        and any(name == b"access-control-request-method" for name, _ in scope["headers"])
    )


def preflight_headers() -> Headers:
    """Of the answer to a preflight, beside those that every answer to a listed origin has."""
    return (
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", _SENT),
        (b"access-control-max-age", _MAX_AGE_S),
    )


def granted(scope: Scope, origins: Collection[str]) -> Iterator[tuple[bytes, bytes]]:
    """What an answer says to the page that asked; nothing when no origin is configured."""
    if not origins:
        return
    yield b"vary", b"Origin"  # also without one: a cache must not give that answer to the page
    if ORIGIN in scope:
        yield b"access-control-allow-origin", scope[ORIGIN]
        yield b"access-control-expose-headers", _SHOWN
