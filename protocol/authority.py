"""What somebody may do: scopes, times the pools they may do it in.

Scopes are few and flat: `admin` includes the others, none of the others includes another. Pools are the tenants of a
house: what lies in a pool that somebody does not see is, for them, not there. A program that embeds a house has no
authority object (None) and may do everything; everybody who comes over HTTP has one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from protocol.errors import InsufficientScope
from protocol.plan import REPLIES

__all__ = ["Authority", "Scope", "same_person", "scope_of_command"]


class Scope(StrEnum):
    """One kind of thing that may be done."""

    READ = "read"
    OPERATE = "operate"
    APPROVE = "approve"
    ADMIN = "admin"


def scope_of_command(type: str) -> Scope:
    """What a command of this type needs: whoever decides what an engine asked must be able to approve."""
    return Scope.APPROVE if type in (*REPLIES, "reply") else Scope.OPERATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """`pools`: None means all; `engine`: the uid of the one engine that its own token speaks for (None: a person or a
    program). An engine's own token sees and operates that engine alone and never decides, whatever its scopes say.
    """

    scopes: frozenset[Scope]
    pools: frozenset[str] | None = None
    engine: str | None = None

    def has(self, scope: Scope) -> bool:
        if self.engine is not None and scope in (Scope.APPROVE, Scope.ADMIN):
            return False
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def sees(self, pool: str, uid: str | None = None) -> bool:
        """Whether something of this pool (and of the engine `uid`, where it belongs to one) is there for them."""
        if self.engine is not None:
            return uid == self.engine
        return self.pools is None or pool in self.pools

    @property
    def everywhere(self) -> bool:
        """Whether it is bound to no pool and to no engine."""
        return self.pools is None and self.engine is None

    def require(self, scope: Scope) -> None:
        """Raises InsufficientScope without `scope`."""
        if not self.has(scope):
            raise InsufficientScope(f"Use credentials with the scope {scope}.", scope=scope.value)

    def require_everywhere(self) -> None:
        """Raises InsufficientScope for what concerns the whole house and not one pool."""
        if not self.everywhere:
            raise InsufficientScope("Use credentials that are not bound to pools or to an engine.", scope="all pools")


def same_person(a: str | None, b: str | None, person: Callable[[str], str]) -> bool:
    """Whether two principals are one person. `person`: who stands behind a principal (the user who made a key); a
    principal that nobody stands behind is its own. Whoever has no name may be anybody.
    """
    return a is None or b is None or person(a) == person(b)
