"""Requests: questions that engines put to people. Durable, and each ends exactly once.

    pending -> answered | expired | withdrawn

A request's identity is its run and its `action_digest`: a run that is retried finds its pending question again, or its
answer when that was not used yet. What is decided is its `digest`, in which a nonce of its own makes it unlike every
other, so that an old approval says nothing about a new question with the same text. The first durable decision wins.

An answer is good for one use, before it expires. One that was not used and never will be is voided: the state stays
`answered`, for it was, and `voided` says why it counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from protocol.edge import as_json
from protocol.errors import AlreadyDecided, RequestClosed
from protocol.events import Row

__all__ = [
    "APPROVE",
    "REJECT",
    "Decided",
    "Option",
    "OptionKind",
    "Request",
    "RequestKind",
    "RequestState",
    "approves",
    "closed",
    "fold_request",
    "is_refusal",
]


class RequestKind(StrEnum):
    APPROVAL = "approval"
    PERMISSION = "permission"
    QUESTION = "question"


class RequestState(StrEnum):
    PENDING = "pending"
    ANSWERED = "answered"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class OptionKind(StrEnum):
    """What choosing an option means; programs choose by kind, never by position."""

    ALLOW_ONCE = "allow_once"
    ALLOW_ALWAYS = "allow_always"
    REJECT_ONCE = "reject_once"
    REJECT_ALWAYS = "reject_always"
    SKIP = "skip"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    id: str
    kind: OptionKind
    label: str


APPROVE = Option(id="approve", kind=OptionKind.ALLOW_ONCE, label="Approve")
REJECT = Option(id="reject", kind=OptionKind.REJECT_ONCE, label="Reject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The decision that won. `by`: a principal, or `deadline`; `at`: RFC 3339; `expires_at`: from then on it is not an
    approval any more (None: it approves nothing, or holds until it is used).
    """

    option: str | None = None
    answer: Any = None
    comment: str | None = None
    by: str = ""
    at: str = ""
    expires_at: str | None = None


@dataclass(slots=True, kw_only=True)
class Request:
    """One request's record. `action`: what exactly is asked for; `default`: the option id that the deadline decides;
    `asked_by`: the principals behind the run; `valid_s`: how long an approval holds; `escalate_s`: how long after its
    opening each level is told that nobody decided, `level`: how many were; `used`: the answer was acted upon; `voided`:
    why it never will be (`changed`, `expired`).
    """

    id: str
    uid: str
    engine_id: str
    pool: str
    run_id: str | None
    kind: RequestKind
    title: str
    detail: str
    digest: str
    created_at: str
    options: list[Option] = field(default_factory=list)
    schema: dict[str, Any] | None = None
    deadline: str | None = None
    default: str | None = None
    state: RequestState = RequestState.PENDING
    decision: Decided | None = None
    reason: str | None = None
    used: bool = False
    action: Any = None
    action_digest: str = ""
    nonce: str = ""
    asked_by: list[str] = field(default_factory=list)
    valid_s: float | None = None
    escalate_s: list[float] = field(default_factory=list)
    level: int = 0
    escalated_at: str | None = None
    voided: str | None = None
    seq: int = 0


def closed(request: Request) -> AlreadyDecided | RequestClosed:
    """Why a request that is not pending takes no decision."""
    if request.decision is not None:
        what = request.decision.option or "an answer"
        return AlreadyDecided(
            f"Request {request.id} was decided by {request.decision.by}: {what}; the first decision stands.",
            decision=as_json(request.decision),
        )
    return RequestClosed(f"Request {request.id} is {request.state}; nobody waits for a decision any more.")


def is_refusal(options: list[Option], option_id: str | None) -> bool:
    """Whether an option says no."""
    return any(o.id == option_id and o.kind in (OptionKind.REJECT_ONCE, OptionKind.REJECT_ALWAYS) for o in options)


def approves(request: Request, option_id: str | None) -> bool:
    """Whether choosing this option lets happen what the request is about."""
    return request.kind is not RequestKind.QUESTION and any(
        o.id == option_id and o.kind in (OptionKind.ALLOW_ONCE, OptionKind.ALLOW_ALWAYS, OptionKind.CHOICE)
        for o in request.options
    )


def fold_request(request: Request | None, row: Row) -> Request | None:
    """The request's record after one of its rows, changed in place; a new one for `request.opened`."""
    data = row.data
    if row.type == "request.opened":
        return Request(
            id=data["request_id"], uid=row.uid, engine_id=row.engine_id, pool=row.pool, run_id=row.run_id,
            kind=RequestKind(data["kind"]), title=data["title"], detail=data["detail"], digest=data["digest"],
            created_at=row.time, options=[Option(id=o["id"], kind=OptionKind(o["kind"]), label=o["label"])
                                          for o in data["options"]],
            schema=data["schema"], deadline=data["deadline"], default=data["default"], action=data.get("action"),
            action_digest=data.get("action_digest", ""), nonce=data.get("nonce", ""),
            asked_by=data.get("asked_by", []), valid_s=data.get("valid_s"), escalate_s=data.get("escalate_s", []),
            seq=row.seq,
        )  # fmt: skip
    if request is None:
        return None
    match row.type:
        case "request.decided":
            request.state, request.decision = RequestState.ANSWERED, Decided(**data["decision"])
        case "request.expired":
            request.state = RequestState.EXPIRED
        case "request.withdrawn":
            request.state, request.reason = RequestState.WITHDRAWN, data["reason"]
        case "request.used":
            request.used = True
        case "request.voided":
            request.voided = data["reason"]
        case "request.escalated":
            request.level, request.escalated_at = data["level"], row.time
    return request
