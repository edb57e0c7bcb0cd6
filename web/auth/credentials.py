"""Where a request may carry its key: one of two headers, and never the URL, which ends up in logs and histories."""

from __future__ import annotations

from protocol.errors import Unauthenticated
from web.asgi import Headers

__all__ = ["presented_key"]


def presented_key(headers: Headers) -> str | None:
    """The key in `Authorization: Bearer` (RFC 6750 2.1) or `X-API-Key`; None when there is neither.

    Raises:
        Unauthenticated: another scheme, something empty, or two different keys.

    """
    found: set[bytes] = set()
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.strip().partition(b" ")
            found.add(token.strip() if scheme.lower() == b"bearer" else b"")
        elif name == b"x-api-key":
            found.add(value.strip())
    if not found:
        return None
    if len(found) > 1 or b"" in found:
        raise Unauthenticated("Send one key, as `Authorization: Bearer <key>` or as `X-API-Key: <key>`.")
    return found.pop().decode("latin-1")
