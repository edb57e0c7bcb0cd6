"""Stream tickets: what an EventSource sends in its URL, which is all that it can send.

A URL ends up in logs, so a ticket opens little and once: one stream, for whoever asked for it, within 30 s. When that
stream is cut, the same ticket opens it again within 5 min, for somebody who knows an event id that was sent on it.
While it is in use it is in no table, so it cannot be used twice.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import trio

from protocol.errors import Unauthenticated
from supervisor.house import Frame, Subscription
from web.auth.principal import Principal

__all__ = ["FRESH_S", "Ticket", "Tickets"]

FRESH_S: Final = 30.0
RESUME_S: Final = 300.0
MOST: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """`path`: the one it is for; `until`: of the monotonic clock; `sent`: the first and the last event id that were
    sent under it (None: it was not used yet).
    """

    digest: str
    path: str
    principal: Principal
    until: float
    sent: tuple[str, str] | None = None

    def admits(self, path: str, last_event_id: str | None) -> bool:
        if path != self.path or trio.current_time() > self.until:
            return False
        if self.sent is None:
            return True
        first, last = map(_position, self.sent)
        here = _position(last_event_id or "")
        return here is not None and first is not None and last is not None and first <= here <= last


class Tickets:
    """Those that can be used now; the oldest goes when there are 4,096."""

    def __init__(self) -> None:
        self._tickets: dict[str, Ticket] = {}

    def issue(self, principal: Principal, path: str) -> str:
        """A ticket for `path`."""
        text = f"eht_{secrets.token_urlsafe(32)}"
        until = trio.current_time() + FRESH_S
        self._keep(Ticket(digest=_digest(text), path=path, principal=principal, until=until))
        return text

    def take(self, text: str, path: str, last_event_id: str | None) -> Ticket:
        """The ticket, which nobody else can take from now on. Raises Unauthenticated."""
        ticket = self._tickets.get(_digest(text))
        if ticket is None or not ticket.admits(path, last_event_id):
            raise Unauthenticated("Get another ticket: this one is unknown, used, too old, or for another stream.")
        ticket.principal.check()
        del self._tickets[ticket.digest]
        return ticket

    def used(self, ticket: Ticket, subscription: Subscription) -> Subscription:
        """`subscription`, opened with `ticket`: when it is left, the ticket can be presented again."""
        return _Used(subscription, ticket, self._keep)

    def _keep(self, ticket: Ticket) -> None:
        now = trio.current_time()
        self._tickets = {digest: kept for digest, kept in self._tickets.items() if kept.until >= now}
        if len(self._tickets) >= MOST:
            del self._tickets[min(self._tickets.values(), key=lambda kept: kept.until).digest]
        self._tickets[ticket.digest] = ticket


@dataclass(slots=True)
class _Used:
    """Notes which ids were sent."""

    subscription: Subscription
    ticket: Ticket
    keep: Callable[[Ticket], None]
    sent: tuple[str, str] | None = field(init=False)

    def __post_init__(self) -> None:
        self.sent = self.ticket.sent

    async def __aenter__(self) -> Self:
        await self.subscription.__aenter__()
        return self

    def __aexit__(self, *exc: object) -> Coroutine[Any, Any, None]:
        if self.sent is not None:
            self.keep(replace(self.ticket, sent=self.sent, until=trio.current_time() + RESUME_S))
        return self.subscription.__aexit__(*exc)

    async def receive(self) -> list[Frame]:
        frames = await self.subscription.receive()
        ids = [frame.id for frame in frames if frame.id is not None]
        if ids:
            self.sent = (self.sent[0] if self.sent else ids[0], ids[-1])
        return frames


def _position(id: str) -> tuple[str, int] | None:
    """(era, seq) of an event id; None for what is none."""
    era, _, seq = id.partition(".")
    return (era, int(seq)) if seq.isascii() and seq.isdigit() and len(seq) <= 18 else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
