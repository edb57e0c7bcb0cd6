"""Who may decide a request, and what a decision has to say: pure rules, asked when a decision is journaled and again
when it is delivered.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.authority import Authority, Scope, same_person
from protocol.errors import ApprovalStale, InsufficientScope, ValidationFailed
from protocol.requests import Request, RequestKind, approves
from protocol.specs import PoolSpec

__all__ = ["check_digest", "may_decide"]


def may_decide(
    request: Request,
    *,
    principal: str | None,
    authority: Authority | None,
    pool: PoolSpec,
    person: Callable[[str], str],
) -> None:
    """Raises InsufficientScope when `principal` may not decide this request.

    `authority` None: the embedding program, or a command that was checked when it was accepted. An engine's own token
    decides nothing; and where four eyes are asked for, nobody decides an approval or a permission of a run that they
    asked for themselves (`person`: who stands behind a principal), and nobody does without a name.
    """
    if authority is not None:
        authority.require(Scope.APPROVE)
    if principal is not None and principal.startswith("engine:"):
        raise InsufficientScope("An engine decides nothing that engines ask. Leave it to people.", scope="approve")
    if request.kind is RequestKind.QUESTION or not pool.four_eyes:
        return
    if principal is None:
        raise InsufficientScope(f"Pool {pool.id} wants four eyes: say who decides.", scope="approve")
    if any(same_person(principal, asked_by, person) for asked_by in request.asked_by):
        raise InsufficientScope(
            f"Pool {pool.id} wants four eyes: you asked for this run, so somebody else has to decide.", scope="approve"
        )


def check_digest(request: Request, option: str | None, digest: str | None, *, pool: PoolSpec) -> None:
    """Raises ApprovalStale for another digest than the request's; ValidationFailed for none, where the pool wants an
    approval to name it.
    """
    if digest is not None and digest != request.digest:
        raise ApprovalStale(
            "What is asked is not what you saw. Read the request again and decide anew.", digest=request.digest
        )
    if digest is None and pool.require_digest and approves(request, option):
        raise ValidationFailed(
            f"Pool {pool.id} wants an approval to name the `digest` of what it approves.",
            errors=[{"loc": ["digest"], "msg": "the digest of what is approved is needed", "type": "missing"}],
        )
