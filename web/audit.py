"""What every request leaves behind: the outermost app sees to it that each one that would change something gets its one
audit row, whatever became of it.

    accepted     the house journals the row with what the request caused (`supervisor/intake.py`)
    refused      the row is journaled here, before the answer is sent
    abandoned    the client went away before anything was decided
    by strangers refusals before anybody is known are counted: one row for each address, status and minute

Rows for strangers are counted because everybody can cause them: a journal that a stranger can fill is no protection.
A principal who is over its rate is counted in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Protocol

import trio

from protocol.audit import AuditFilter, AuditInfo, Outcome
from protocol.errors import Unavailable
from protocol.wire import Page
from supervisor.audit import Trail
from web.asgi import App, Message, Receive, Scope, Send
from web.peer import address_of
from web.problems import SLUG

__all__ = [
    "BODY_BYTES",
    "TRAIL",
    "AuditJournal",
    "Audited",
    "Strangers",
    "masked_body",
    "trail_of",
]

TRAIL: Final = "enginehouse.trail"  # the key in an ASGI scope under which the request's trail is
MINUTE_S: Final = 60
ADDRESSES: Final = 1_000
BODY_BYTES: Final = 16 * 1024
OTHERS: Final = "others"

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OF_SAFE: Final = frozenset({401, 403, 421})  # what a refused reader may be up to
_SECRET: Final = ("pass", "secret", "token", "key", "credential", "authorization")
_MASK: Final = "**********"


class AuditJournal(Protocol):
    """Where rows go: the embedded house."""

    async def audit(self, trail: Trail, outcome: Outcome, **more: Any) -> None: ...
    def audit_nowait(self, trail: Trail, outcome: Outcome, **more: Any) -> None: ...
    async def audit_page(
        self, wanted: AuditFilter = ..., *, limit: int = 100, cursor: str | None = None
    ) -> Page[AuditInfo]: ...


class Audited:
    """An ASGI app; put it around the guard. `strangers` counts, for a task of the server to flush."""

    def __init__(self, app: App, journal: AuditJournal, strangers: Strangers) -> None:
        self._app = app
        self._journal = journal
        self._strangers = strangers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trail = scope[TRAIL] = Trail()
        answered = False

        async def audited_send(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                await self._settle(scope, trail, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, audited_send)
        finally:
            if not answered and trail.principal is not None and scope["method"] not in _SAFE:
                self._journal.audit_nowait(trail, Outcome.ABANDONED)

    async def _settle(self, scope: Scope, trail: Trail, status: int) -> None:
        if trail.taken:
            return
        slug = scope.get(SLUG)
        if (trail.principal is None and status >= 400) or slug == "rate-limited":
            if scope["method"] not in _SAFE or status in _OF_SAFE:
                self._strangers.count(address_of(scope), trail.principal, status)
            return
        if scope["method"] in _SAFE:
            return
        refused = {"status": status, "slug": slug} if status >= 400 else {}
        try:
            await self._journal.audit(trail, Outcome.REFUSED if refused else Outcome.ACCEPTED, **refused)
        except Unavailable:
            return  # the house can keep nothing any more, and its answer says so


class Strangers:
    """Refusals of those who are not known, counted by address, principal (of one who is over its rate), status and
    minute. Beyond `ADDRESSES` in one minute they are counted together. `wall`: Unix time in seconds.
    """

    def __init__(self, journal: AuditJournal, *, wall: Callable[[], float]) -> None:
        self._journal = journal
        self._wall = wall
        self._counts: dict[tuple[str, str | None, int], int] = {}
        self._some = trio.Event()

    def count(self, address: str, principal: str | None, status: int) -> None:
        at = (address, principal, status)
        if at not in self._counts and len(self._counts) >= ADDRESSES:
            at = (OTHERS, None, status)
        self._counts[at] = self._counts.get(at, 0) + 1
        self._some.set()

    async def run(self) -> None:
        """Journal what was counted when its minute is over; when cancelled, what is left at once."""
        try:
            while True:
                await self._some.wait()
                now = self._wall()
                await trio.sleep((math.floor(now / MINUTE_S) + 1) * MINUTE_S - now)
                self.flush()
        finally:
            self.flush()

    def flush(self) -> None:
        counts, self._counts, self._some = self._counts, {}, trio.Event()
        for (address, principal, status), count in counts.items():
            trail = Trail(principal, address=address, status=status, count=count)
            self._journal.audit_nowait(trail, Outcome.REFUSED)


def trail_of(scope: Scope) -> Trail | None:
    """The trail of a request that would change something."""
    return None if scope["method"] in _SAFE else scope.get(TRAIL)


def masked_body(value: Any, name: str = "") -> Any:
    """A body as an audit row may hold it: without the values of members that are secrets by name, and of any `env`."""
    if any(word in name.lower() for word in _SECRET):
        return _MASK
    if isinstance(value, dict):
        if name == "env":
            return dict.fromkeys(value, _MASK)
        return {key: masked_body(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked_body(inner, name) for inner in value]
    return value
