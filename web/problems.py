"""Problem details (RFC 9457): the one table from slug to status and title, and the one function that builds an answer.

Nobody else in this package writes an error status. A route raises an error of the house (`protocol/errors.py`, or
`web/refusals.py` for what only HTTP can refuse) and the table decides how it looks. Whatever else is raised is a bug:
it is logged with its traceback, and the caller gets `internal` with an `error_id` that finds the log line, no more.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed

from protocol.errors import EnginehouseError, NotFound
from web.asgi import Scope
from web.refusals import (
    HeadersTooLarge,
    MalformedRequest,
    MethodNotAllowed,
    RequestTimeout,
    TooLarge,
    UnsupportedMediaType,
    UriTooLong,
)

log = structlog.get_logger("enginehouse.web")

SLUG: Final = "enginehouse.slug"  # the key in an ASGI scope under which the slug of a refusal is left for the audit row
REQUEST_ID: Final = "enginehouse.request_id"  # the key in an ASGI scope under which the guard leaves it

PROBLEMS: Final[Mapping[str, tuple[int, str]]] = {
    "malformed-request": (400, "The request is not valid HTTP"),
    "invalid-json": (400, "The body is not valid JSON"),
    "invalid-event-id": (400, "The event id is malformed or lies in the future"),
    "unauthenticated": (401, "Credentials are missing or wrong"),
    "token-expired": (401, "The access token has expired"),
    "insufficient-scope": (403, "The credentials do not allow this"),
    "origin-not-allowed": (403, "This origin may not call"),
    "not-found": (404, "There is no such thing"),
    "unknown-slice": (404, "The engine has no such slice"),
    "method-not-allowed": (405, "The target does not take this method"),
    "request-timeout": (408, "The request came too slowly"),
    "invalid-state": (409, "Not possible in this state"),
    "engine-exists": (409, "An engine with this id exists"),
    "engine-busy": (409, "The engine is busy"),
    "run-conflict": (409, "Another run is active"),
    "already-decided": (409, "The request has been decided"),
    "approval-stale": (409, "What was to be approved has changed"),
    "idempotency-in-flight": (409, "The first request with this key is still in flight"),
    "nothing-pending": (409, "No request is pending"),
    "ambiguous-request": (409, "Several requests are pending"),
    "request-closed": (409, "The request has expired or was withdrawn"),
    "pool-busy": (409, "The pool is not empty"),
    "engine-disposed": (410, "The engine has been disposed of"),
    "event-id-expired": (410, "The position in the stream is gone"),
    "too-large": (413, "The request is too large"),
    "unsupported-media-type": (415, "The body must be plain JSON"),
    "range-not-satisfiable": (416, "The range lies outside"),
    "misdirected-host": (421, "This host is not served here"),
    "validation-failed": (422, "The request does not fit its schema"),
    "idempotency-mismatch": (422, "The key was used with another request"),
    "unsupported-command": (422, "The kind does not know this command"),
    "unknown-kind": (422, "There is no such kind"),
    "mailbox-full": (429, "The mailbox is full"),
    "rate-limited": (429, "Too many requests"),
    "quota-exceeded": (429, "A quota is used up"),
    "internal": (500, "Something is wrong on our side"),
    "upstream-error": (502, "The model's server failed"),
    "draining": (503, "Draining: no new work is taken"),
    "store-unavailable": (503, "The store cannot be written"),
    "shutting-down": (503, "Shutting down"),
    "overloaded": (503, "No capacity for another connection"),
    "storage-full": (507, "The disk is full"),
}

# One slug, several statuses: what was too large is told by the status, so that clients and proxies understand it too.
STATUS_OF: Final[Mapping[type[EnginehouseError], int]] = {UriTooLong: 414, HeadersTooLarge: 431}

_CLOSES: Final = frozenset({"malformed-request", "request-timeout"})
_RESERVED: Final = frozenset({"type", "title", "status", "detail", "instance", "error_id", "allow"})


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP response: lower-case header names, `content-length` included."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def problem(error: BaseException, *, instance: str, request_id: str | None = None) -> Answer:
    """The answer for `error`.

    Args:
        error: an EnginehouseError, a werkzeug HTTPException (Quart's own 404, 405, 413 ...), or a bug.
        instance: the path that was asked for, without query (a query may hold what must not be echoed).
        request_id: named in the log line of a bug.

    """
    error_id = f"err_{secrets.token_hex(8)}"
    known = _known(error)
    if known is None:
        log.error("bug", error_id=error_id, request_id=request_id, instance=instance, exc_info=error)
        known = EnginehouseError("Report this with its error_id; the cause is in the log of the server.")
    status, title = PROBLEMS[known.slug]
    status = STATUS_OF.get(type(known), status)
    members: dict[str, object] = {
        "type": f"/problems/{known.slug}",
        "title": title,
        "status": status,
        "detail": known.detail,
        "instance": instance,
        "error_id": error_id,
    }
    members.update((key, value) for key, value in known.extra.items() if key not in _RESERVED)
    body = json.dumps(members, ensure_ascii=False, default=str).encode("utf-8", "replace")
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    headers += _headers_of(known, status)
    return Answer(status, tuple(headers), body)


def request_id_of(scope: Scope) -> str | None:
    """The id that the guard gave to this request; None outside a guard."""
    return scope.get(REQUEST_ID)


def slug_of(error: BaseException) -> str:
    """The slug of the problem that `error` becomes."""
    known = _known(error)
    return known.slug if known is not None else "internal"


def install(app: QuartTrio) -> None:
    """Have `app` answer every exception, Quart's own included, as a problem."""

    async def answer(error: Exception) -> Response:
        # A Mapping to mypy, but the scope object that the guard wrote to at run time.
        scope: Any = request.scope
        scope[SLUG] = slug_of(error)
        made = problem(error, instance=request.path, request_id=request_id_of(scope))
        response = Response(made.body, made.status)
        response.headers.clear()
        for name, value in made.headers:
            response.headers.add(name.decode("ascii"), value.decode("latin-1"))
        return response

    app.register_error_handler(Exception, answer)


def _known(error: BaseException) -> EnginehouseError | None:
    # A nursery wraps what it lets out, once per level; a group of several is a bug of ours and stays whole.
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, EnginehouseError):
        return error if error.slug in PROBLEMS and error.slug != "internal" else None
    if isinstance(error, HTTPException):
        return _from_werkzeug(error)
    return None


def _from_werkzeug(error: HTTPException) -> EnginehouseError | None:
    if isinstance(error, WerkzeugMethodNotAllowed):
        allow = sorted(error.valid_methods or ())
        return MethodNotAllowed(f"Use one of {', '.join(allow)} here.", allow=allow)
    match error.code:
        case 400:
            return MalformedRequest("Correct the request: a part of it cannot be read.")
        case 404 | 308:  # 308: werkzeug would redirect to the address with or without its last slash
            return NotFound("Check the address: nothing is served there.")
        case 408:
            return RequestTimeout("Send the body faster.")
        case 413:
            return TooLarge("Send a smaller body.")
        case 415:
            return UnsupportedMediaType("Send the body as application/json.")
    return None


def _headers_of(error: EnginehouseError, status: int) -> Iterable[tuple[bytes, bytes]]:
    if status == 401:
        challenge = b'Bearer realm="enginehouse"'
        if error.slug == "token-expired":
            challenge += b', error="invalid_token", error_description="The access token expired"'  # RFC 6750 3.1
        yield b"www-authenticate", challenge
    allow = error.extra.get("allow")
    if status == 405 and isinstance(allow, list | tuple):
        yield b"allow", ", ".join(map(str, allow)).encode("ascii")
    retry_after_s = error.extra.get("retry_after_s", 1 if status in {429, 503} else None)
    if isinstance(retry_after_s, int | float):
        yield b"retry-after", b"%d" % max(1, math.ceil(retry_after_s))
    if error.slug in _CLOSES:
        yield b"connection", b"close"
