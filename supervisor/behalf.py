"""What somebody sets up and acts later, on its own: schedules and webhooks. It never may what its creator may not.

The authority of the creator is kept beside it, and whether the creator still stands is asked each time before it acts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from protocol.authority import Authority, Scope

__all__ = ["EVERYTHING", "StandingOf", "authority_from", "covers", "kept_of", "narrowed", "nothing_known"]

EVERYTHING: Final = Authority(scopes=frozenset({Scope.ADMIN}))
"""What the embedding program may, which asks without an authority."""

StandingOf = Callable[[str], Authority | None]
"""What the principal of this name may now; None when nothing is known of it. Raises Denied (or Missing) once its
credentials were revoked, disabled or have expired.
"""


def nothing_known(principal: str) -> None:
    """The standing of everybody where nobody keeps principals."""


def kept_of(authority: Authority) -> dict[str, Any]:
    """The members of a document that keep what the creator may: `scopes` and `pools`."""
    pools = authority.pools
    return {"scopes": sorted(authority.scopes), "pools": None if pools is None else sorted(pools)}


def authority_from(scopes: Iterable[Scope], pools: Iterable[str] | None) -> Authority:
    """What `kept_of` kept."""
    return Authority(scopes=frozenset(scopes), pools=None if pools is None else frozenset(pools))


def narrowed(kept: Authority, now: Authority | None) -> Authority:
    """What was allowed then and is allowed now."""
    if now is None:
        return kept
    pools = kept.pools if now.pools is None else now.pools if kept.pools is None else kept.pools & now.pools
    scopes = frozenset(scope for scope in Scope if kept.has(scope) and now.has(scope))
    return Authority(scopes=scopes, pools=pools, engine=now.engine or kept.engine)


def covers(authority: Authority, kept: Authority) -> bool:
    """Whether what acts under `kept` is there for somebody with `authority`: it reaches no pool that is not."""
    if authority.engine is not None:
        return False
    return authority.pools is None or (kept.pools is not None and kept.pools <= authority.pools)
