"""A principal: the one on whose behalf a request is made, and what that one may do.

Scopes are few and flat: `admin` includes the others, none of the others includes another. Which route needs which
is written at the route; nothing here knows routes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from protocol.errors import InsufficientScope

__all__ = ["Principal", "Scope"]


class Scope(StrEnum):
    """What a key allows."""

    READ = "read"
    OPERATE = "operate"
    APPROVE = "approve"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """`name`: as journaled (`key:<id>`, `dev`); `rate`: requests per 60 s (None: not limited); `streams`: how many
    at once; `expires_at`: RFC 3339.
    """

    name: str
    scopes: frozenset[Scope]
    rate: int | None = None
    streams: int = 16
    expires_at: str | None = None

    def require(self, scope: Scope) -> None:
        """Raises InsufficientScope unless the principal has `scope` (or `admin`)."""
        if scope not in self.scopes and Scope.ADMIN not in self.scopes:
            raise InsufficientScope(f"Use a key with the scope {scope}.", scope=scope.value)
