"""Replies: what a route gives back, and the few forms it may have. No route names a status; these functions do.

a plain value          200, the value as JSON
created(value, at)     201 with Location
accepted(value, ...)   202; 200 once the effect that the client waits for is there
nothing()              204
a `Stream`             an answer that goes on; the route never runs it, the app does
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from protocol.edge import dump
from web.asgi import Send
from web.problems import Answer

__all__ = ["Reply", "Stream", "accepted", "answer_of", "created", "nothing", "plain"]

T = TypeVar("T")
_JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """`value`: what is shown as JSON; bytes are shown as they are (`headers` then name their type)."""

    value: T
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Stream(Protocol):
    """An answer that is sent in pieces. Cancelled when the client hangs up; it leaves nothing open then."""

    async def __call__(self, send: Send, *, head: bool) -> None:
        """Send all of it; with `head` the header section alone. What is raised before the first `send` becomes a
        problem.
        """


def created(value: T, location: str, *, replayed: bool = False, new: bool = True) -> Reply[T]:
    """201, or 200 when it was there already (`new` False)."""
    return Reply(value, 201 if new else 200, _headers(location, replayed))


def accepted(
    value: T,
    location: str | None = None,
    *,
    replayed: bool = False,
    reached: bool = False,
    wait_s: int | None = None,
) -> Reply[T]:
    """202, or 200 when the client waited (`wait_s` not None) and the effect was `reached`."""
    headers = _headers(location, replayed)
    if wait_s is None:
        return Reply(value, 202, headers)
    return Reply(value, 200 if reached else 202, (*headers, (b"preference-applied", b"wait=%d" % wait_s)))


def nothing() -> Reply[None]:
    """204."""
    return Reply(None, 204)


def plain(content: bytes, content_type: str, *headers: tuple[bytes, bytes]) -> Reply[bytes]:
    """200 with other bytes than JSON."""
    return Reply(content, 200, ((b"content-type", content_type.encode("ascii")), *headers))


def answer_of(result: Any) -> Answer:
    """What a route returned, as bytes."""
    reply: Reply[Any] = result if isinstance(result, Reply) else Reply(result)
    if reply.status == 204:
        return Answer(204, reply.headers, b"")
    if isinstance(reply.value, bytes):
        body, headers = reply.value, reply.headers
    else:
        body, headers = dump(reply.value), (_JSON, *reply.headers)
    return Answer(reply.status, (*headers, (b"content-length", b"%d" % len(body))), body)


def _headers(location: str | None, replayed: bool) -> tuple[tuple[bytes, bytes], ...]:
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if location is not None:
        headers += ((b"location", location.encode("ascii")),)
    if replayed:
        headers += ((b"idempotent-replayed", b"true"),)
    return headers
