"""Commands: what is asked of one engine. One discriminator, `type`; the union is for the edge only.

Each class is the body of one type. Inside, a body travels in a `Command`, which adds who asks, under which idempotency
key, and the digest of what was asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field

from protocol.plan import REPLIES, Verb
from protocol.runs import OnBusy, Priority
from protocol.specs import STRICT, Labels, PauseMode, Positive, Seconds
from protocol.trace import Trace

__all__ = [
    "Answer", "Approve", "Body", "Cancel", "Command", "Dispose", "Pause", "Redelivered", "Reject", "Reply", "Restart",
    "Resume", "Signal", "Skip", "Spawn", "Start", "Stop", "Submit", "WireBody", "verb_of",
]  # fmt: skip

Reason = Annotated[str, Field(max_length=1000)]
Holder = Annotated[str, Field(min_length=1, max_length=128)]
RequestId = Annotated[str, Field(min_length=1, max_length=128)]
Digest = Annotated[str, Field(max_length=128)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Bring the engine up. Repeating it is safe."""

    __pydantic_config__ = STRICT
    type: Literal["start"] = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End the actor, keep the engine and its queue. `grace_s` None: the engine's own."""

    __pydantic_config__ = STRICT
    type: Literal["stop"] = "stop"
    grace_s: Seconds | None = None
    reason: Reason = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """End the actor and begin a new incarnation; not counted in the restart intensity."""

    __pydantic_config__ = STRICT
    type: Literal["restart"] = "restart"
    grace_s: Seconds | None = None
    reason: Reason = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Place a hold. `holder` None: the caller; `mode` None: the kind's default."""

    __pydantic_config__ = STRICT
    type: Literal["pause"] = "pause"
    mode: PauseMode | None = None
    reason: Reason = ""
    holder: Holder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Lift a hold. `holder` None: the caller's own; `"*"`: all."""

    __pydantic_config__ = STRICT
    type: Literal["resume"] = "resume"
    holder: Holder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Withdraw a queued run, or cancel the run in hand. `run_id` None: the active one."""

    __pydantic_config__ = STRICT
    type: Literal["cancel"] = "cancel"
    run_id: RequestId | None = None
    reason: Reason = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Queue a run. `queue_ttl_s`: how long it may wait for its first start; `timeout_s`: how long it may work (both
    None: for ever).
    """

    __pydantic_config__ = STRICT
    input: Any
    type: Literal["submit"] = "submit"
    priority: Priority = Priority.NORMAL
    timeout_s: Positive | None = None
    queue_ttl_s: Positive | None = None
    on_busy: OnBusy = OnBusy.ENQUEUE
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A message for `on_signal`, handled also while a run is in hand."""

    __pydantic_config__ = STRICT
    name: Annotated[str, Field(min_length=1, max_length=128)]
    payload: Any = None
    type: Literal["signal"] = "signal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispose:
    """End everything that the engine is. Without `force`, an engine with work refuses."""

    __pydantic_config__ = STRICT
    type: Literal["dispose"] = "dispose"
    force: bool = False
    grace_s: Seconds | None = None
    reason: Reason = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve:
    """`digest`: of what was seen; the request has to have it."""

    __pydantic_config__ = STRICT
    type: Literal["approve"] = "approve"
    request_id: RequestId | None = None
    comment: Reason | None = None
    digest: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    __pydantic_config__ = STRICT
    type: Literal["reject"] = "reject"
    request_id: RequestId | None = None
    feedback: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    __pydantic_config__ = STRICT
    type: Literal["skip"] = "skip"
    request_id: RequestId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    __pydantic_config__ = STRICT
    request_id: RequestId
    answer: Any
    type: Literal["answer"] = "answer"


WireBody = Annotated[
    Start | Stop | Restart | Pause | Resume | Cancel | Submit | Signal | Dispose | Approve | Reject | Skip | Answer,
    Discriminator("type"),
]
"""What `POST /engines/{id}/commands` accepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The decision of one request, as `POST /requests/{id}/reply` gives it and the four short forms become."""

    __pydantic_config__ = STRICT
    request_id: RequestId
    type: Literal["reply"] = "reply"
    option: Annotated[str, Field(max_length=128)] | None = None
    answer: Any = None
    comment: Reason | None = None
    digest: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """The birth of an engine; its spec is in the `engine.spawned` row of the same write."""

    __pydantic_config__ = STRICT
    type: Literal["spawn"] = "spawn"
    start: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivered:
    """A dead letter's envelope, put back into the mailbox as a new command."""

    __pydantic_config__ = STRICT
    dead_letter: str
    type: Literal["redeliver"] = "redeliver"


Body = Annotated[
    Start | Stop | Restart | Pause | Resume | Cancel | Submit | Signal | Dispose | Approve | Reject | Skip | Answer
    | Reply | Spawn | Redelivered,
    Discriminator("type"),
]  # fmt: skip
"""Every body that a `command.accepted` row may hold."""

_VERBS = {**dict.fromkeys(REPLIES, Verb.REPLY), "spawn": Verb.START}


def verb_of(body: Any) -> Verb:
    """The row of the plan table that decides a body."""
    return _VERBS.get(body.type) or Verb(body.type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A body on its way. `key`: the caller's idempotency key; `digest`: fingerprint of what was asked under it;
    `run_id`: the run that a submit makes; `done_for`: the run that delegates it; `asked_by`: the principals behind it;
    `trace`: what it belongs to, journaled beside the body; `seq`: its place in the journal once it was accepted.
    """

    id: str
    uid: str
    body: Any
    principal: str | None = None
    key: str | None = None
    digest: str = ""
    run_id: str | None = None
    retry_of: str | None = None
    done_for: str | None = None
    asked_by: tuple[str, ...] = ()
    trace: Trace | None = None
    time: str = ""
    seq: int = 0

    @property
    def type(self) -> str:
        return str(self.body.type)
