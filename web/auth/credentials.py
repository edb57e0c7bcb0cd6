"""Where a request may carry credentials, and who may have put them there.

Authorization: Bearer, X-API-Key     said by whoever made the request: an access token, an API key, an engine's token
?ticket=                             the one credential in a URL, and only where a stream is opened
the session cookie                   sent along by a browser whatever page asks, so it is believed least: for reading,
                                     from this server's own pages, and only when nothing was said
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from protocol.errors import Unauthenticated
from web.asgi import Headers, Scope

__all__ = ["cleared_cookie", "cookie_of", "presented_key", "set_cookie", "ticket_of"]

_NAME: Final = "enginehouse_session"
_OWN: Final = frozenset({b"same-origin", b"none"})


def presented_key(headers: Headers) -> str | None:
    """What stands in `Authorization: Bearer` (RFC 6750 2.1) or `X-API-Key`; None when there is neither.

    Raises:
        Unauthenticated: another scheme, something empty, or two different ones.

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


def ticket_of(scope: Scope) -> str | None:
    """The `ticket` of the query string. Raises Unauthenticated when there are several."""
    query: bytes = scope["query_string"]
    if b"ticket" not in query:
        return None
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        return None  # refused as a query, where the route is known
    tickets = [text for name, text in pairs if name == "ticket"]
    if len(tickets) > 1:
        raise Unauthenticated("Send one ticket.")
    return tickets[0] if tickets else None


def cookie_of(scope: Scope) -> str | None:
    """The session cookie of a request that reads and comes from this server's own pages; None otherwise."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    values = [value for name, value in headers if name == b"cookie"]
    if not values or scope["method"] not in {"GET", "HEAD"} or not _same_origin(scope):
        return None
    name = _name(scope)
    found = {part.partition("=")[2].strip() for part in _pairs(values) if part.partition("=")[0].strip() == name}
    return found.pop() if len(found) == 1 else None


def set_cookie(scope: Scope, value: str, max_age_s: int) -> tuple[bytes, bytes]:
    """The header that has a browser keep it: not for scripts or other sites, and under TLS for this host alone."""
    secure = "; Secure" if scope["scheme"] == "https" else ""
    text = f"{_name(scope)}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}"
    return (b"set-cookie", text.encode("ascii"))


def cleared_cookie(scope: Scope) -> tuple[bytes, bytes]:
    """The header that has a browser forget it."""
    return set_cookie(scope, "", 0)


def _name(scope: Scope) -> str:
    return f"__Host-{_NAME}" if scope["scheme"] == "https" else _NAME


def _pairs(values: list[bytes]) -> list[str]:
    return [part for value in values for part in value.decode("latin-1").split(";")]


def _same_origin(scope: Scope) -> bool:
    """Also for an origin that the guard lets through because it is configured: it has keys, and not our cookie."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    host = b"".join(value for name, value in headers if name == b"host")
    own = scope["scheme"].encode("ascii") + b"://" + host
    origins = {value for name, value in headers if name == b"origin"}
    sites = {value for name, value in headers if name == b"sec-fetch-site"}
    return origins <= {own} and sites <= _OWN
