"""Whether a caller may, now: asked in the synchronous stretch in which a command is journaled.

What was checked when the request came in may be over by then (a key was revoked, a token has expired, an engine's id
went to another pool), so the answer that counts is this one.
"""

from __future__ import annotations

from protocol.authority import Authority, Scope
from protocol.errors import NotFound
from supervisor.house import Caller

__all__ = ["authority_of", "check_standing"]


def authority_of(caller: Caller) -> Authority | None:
    """What the caller may now; None: everything. Raises Unauthenticated once the caller's credential is over."""
    return None if caller.standing is None else caller.standing()


def check_standing(caller: Caller, scope: Scope, *, pool: str | None = None, uid: str | None = None) -> None:
    """Raises InsufficientScope without `scope`, NotFound for what lies in a pool (or is an engine) that the caller does
    not see. `pool` None: something of the whole house, for those alone who are bound to no pool.
    """
    authority = authority_of(caller)
    if authority is None:
        return
    authority.require(scope)
    if pool is None:
        authority.require_everywhere()
    elif not authority.sees(pool, uid):
        raise NotFound(f"There is no pool {pool!r}." if uid is None else "There is no such engine.")
