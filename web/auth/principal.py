"""A principal: the one on whose behalf a request is made, and what that one may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from protocol.authority import Authority, Scope
from protocol.errors import Unauthenticated

__all__ = ["Principal", "Scope"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """`name`: as journaled (`key:<id>`, `user:<name>`, `engine:<uid>`, `dev`); `authority`: what it may, as of when the
    credential was looked at; `rate`: requests per 60 s (None: not limited); `streams`: how many at once (None: as many
    as `[limits] streams` grants); `expires_at`: RFC 3339; `check`: raises Unauthenticated or TokenExpired once the
    credential is revoked or has expired, asked again when a command is journaled and while a stream is open.
    """

    name: str
    authority: Authority
    rate: int | None = None
    streams: int | None = None
    expires_at: str | None = None
    check: Callable[[], None] = lambda: None

    @property
    def scopes(self) -> frozenset[Scope]:
        return self.authority.scopes

    def require(self, scope: Scope) -> None:
        """Raises InsufficientScope unless the principal has `scope` (or `admin`)."""
        self.authority.require(scope)

    def stands(self) -> bool:
        """Whether the credential is still good now."""
        try:
            self.check()
        except Unauthenticated:
            return False
        return True

    def standing(self) -> Authority:
        """The authority, if the credential is still good now."""
        self.check()
        return self.authority
