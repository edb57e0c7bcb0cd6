"""Families: everything that follows from one login, with one life.

A login opens a family; its refresh token is used once and gives the next. Whoever presents one that was used before
has a copy, or had theirs copied, and nobody can tell which: the family is over (RFC 9700 4.14.2).

    ehr_<family>_<root>_<secret>     a refresh token: the root stays, the secret is new each time
    ehs_<family>_<secret>            the session cookie of the family

Only digests are kept. The root tells an old token of ours from an invention, so nobody ends a family by guessing at
its name. A family is durable as a document; a revoked one is a document less. It belongs to a principal under a mark
(see `web/auth/users.py`) and is over when the principal's mark is another.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from protocol.edge import as_json, load
from protocol.errors import EnginehouseError, Unauthenticated
from supervisor.documents import Documents
from supervisor.house import NOBODY, Caller
from web.auth.clock import Forward

__all__ = ["Families", "Family", "Opened"]

log = structlog.get_logger("enginehouse.web")

IDLE_S: Final = 30 * 86_400
LONGEST_S: Final = 90 * 86_400
COOKIE_S: Final = 12 * 3600
MOST: Final = 64
"""Seconds a family lives without a refresh, seconds in all, seconds its cookie is good for after a refresh; and how
many families one principal has before the one that was used least lately ends."""

_SECRET: Final = r"[A-Za-z0-9_-]{43}"  # noqa: S105 - a pattern
_REFRESH: Final = re.compile(rf"ehr_([0-9a-f]{{24}})_({_SECRET})_({_SECRET})")
_COOKIE: Final = re.compile(rf"ehs_([0-9a-f]{{24}})_({_SECRET})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """`subject`: the principal's name; `root`, `current`, `cookie`: digests; times are Unix seconds."""

    id: str
    subject: str
    mark: str
    root: str
    current: str
    cookie: str | None
    opened: float
    refreshed: float

    @property
    def ends(self) -> float:
        return min(self.refreshed + IDLE_S, self.opened + LONGEST_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A family, and what is told of it once. `cookie`: the value of the session cookie, when one was asked for."""

    family: Family
    refresh_token: str
    cookie: str | None = None


class Families:
    """All families. `mark_of(subject)`: the principal's mark now, None when there is no such principal; `wall`: Unix
    time in seconds.
    """

    def __init__(
        self, documents: Documents, mark_of: Callable[[str], str | None], *, wall: Callable[[], float]
    ) -> None:
        self._documents = documents
        self._mark_of = mark_of
        self._now = Forward(wall)
        self._families: dict[str, Family] = {}

    async def load(self) -> float:
        """Read what is stored, once, before the first request; the latest time that is written there."""
        for doc in (await self._documents.load()).values():
            family = load(Family, doc)
            self._families[family.id] = family
        return max((family.refreshed for family in self._families.values()), default=0.0)

    async def open(self, subject: str, mark: str, caller: Caller = NOBODY, *, cookie: bool = False) -> Opened:
        """A new family of this principal, durable on return. `mark`: the one under which it logged in."""
        for oldest in self._of(subject)[: -(MOST - 1)]:
            await self.revoke(oldest.id)
        name, now = secrets.token_hex(12), self._now()
        root, secret = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        session = secrets.token_urlsafe(32) if cookie else None
        family = Family(
            id=name, subject=subject, mark=mark, root=_digest(root), current=_digest(secret),
            cookie=None if session is None else _digest(session), opened=now, refreshed=now,
        )  # fmt: skip
        await self._put(family, caller)
        return Opened(
            family=family,
            refresh_token=f"ehr_{name}_{root}_{secret}",
            cookie=None if session is None else f"ehs_{name}_{session}",
        )

    async def refresh(self, token: str, caller: Caller = NOBODY) -> Opened:
        """The next refresh token, durable on return; of two that present one token at most one gets it.

        Raises:
            Unauthenticated: none of ours, too old, revoked, or used before, and then the family is revoked.

        """
        match = _REFRESH.fullmatch(token)
        family = self._families.get(match[1]) if match else None
        if match is None or family is None or not _same(match[2], family.root) or not self._lives(family):
            raise _over()
        if not _same(match[3], family.current):
            log.warning("a refresh token was used twice: its family is over", subject=family.subject, family=family.id)
            _known(caller, family)
            if caller.trail is not None:
                caller.trail.note(slug="refresh-token-reused")
            await self.revoke(family.id, caller)
            raise _over()
        secret = secrets.token_urlsafe(32)
        renewed = replace(family, current=_digest(secret), refreshed=self._now())
        await self._put(renewed, caller)
        return Opened(family=renewed, refresh_token=f"ehr_{family.id}_{match[2]}_{secret}")

    def get(self, id: str) -> Family:
        """Raises Unauthenticated when it is over."""
        family = self._families.get(id)
        if family is None or not self._lives(family):
            raise _over()
        return family

    def of_cookie(self, value: str) -> Family:
        """The family whose session cookie this is. Raises Unauthenticated."""
        match = _COOKIE.fullmatch(value)
        family = self._families.get(match[1]) if match else None
        if match is None or family is None or family.cookie is None or not _same(match[2], family.cookie):
            raise _over()
        return self.get(family.id)

    def check_cookie(self, family: Family) -> None:
        """Raises Unauthenticated when the family's cookie is too old now, or the family over."""
        if self.get(family.id).refreshed + COOKIE_S <= self._now():
            raise _over()

    async def revoke(self, id: str, caller: Caller = NOBODY) -> None:
        """End a family: at once, and for ever once this returns. Idempotent."""
        if self._families.pop(id, None) is not None:
            await self._documents.remove(id, caller)

    async def sweep(self) -> None:
        """Remove the documents of those that are over."""
        for family in [family for family in self._families.values() if not self._lives(family)]:
            await self.revoke(family.id)

    def _lives(self, family: Family) -> bool:
        return self._now() < family.ends and self._mark_of(family.subject) == family.mark

    def _of(self, subject: str) -> list[Family]:
        """The principal's families, the one that was used least lately first."""
        mine = [family for family in self._families.values() if family.subject == subject]
        return sorted(mine, key=lambda family: family.refreshed)

    async def _put(self, family: Family, caller: Caller) -> None:
        """In memory first: nobody else gets what is being given. The audit row says whose it is."""
        _known(caller, family)
        before = self._families.get(family.id)
        self._families[family.id] = family
        try:
            await self._documents.put(family.id, as_json(family), caller)
        except EnginehouseError:
            if self._families.get(family.id) is family:
                self._families.pop(family.id)
                if before is not None:
                    self._families[family.id] = before
            raise


def _known(caller: Caller, family: Family) -> None:
    if caller.trail is not None and caller.trail.principal is None:
        caller.trail.principal = family.subject


def _same(secret: str, digest: str) -> bool:
    return hmac.compare_digest(_digest(secret), digest)


def _over() -> Unauthenticated:
    return Unauthenticated("Log in again: this login has ended, or is none of this house.")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8")).hexdigest()
