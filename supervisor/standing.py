"""Whether a caller may, now: asked in the synchronous stretch in which a command is journaled.

What was checked when the request came in may be over by then (a key was revoked, a token has expired, an engine's id
went to another pool), so the answer that counts is this one.
"""

from __future__ import annotations

from protocol.authority import Authority, Scope
from protocol.commands import Pause, Resume
from protocol.errors import InsufficientScope, NotFound
from supervisor.house import Caller

__all__ = ["authority_of", "check_holder", "check_standing"]


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


def check_holder(caller: Caller, body: object) -> None:
    """Raises InsufficientScope for an engine's own token that touches a hold of somebody else: what people have paused
    does not go on by its own doing.
    """
    if isinstance(body, Pause | Resume) and body.holder != caller.principal:
        authority = authority_of(caller)
        if authority is not None and authority.engine is not None:
            raise InsufficientScope("An engine's own token sets and lifts its own hold alone.", scope="operate")
