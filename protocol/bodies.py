"""The shapes that enter the house, embedded or over HTTP: what its methods take. What leaves is `protocol/wire.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from protocol.commands import Reason
from protocol.runs import OnBusy, Priority
from protocol.specs import (
    STRICT,
    Labels,
    Levels,
    OnInterrupt,
    OnStall,
    Positive,
    Quotas,
    Restart,
    Seconds,
    Strategy,
    Template,
)

__all__ = ["NewEngine", "NewPool", "NewRun", "PatchPool", "PoolAction", "PoolCommand", "ReplyBody"]


class _NotNull:
    """In the annotation of a patch's member: it may be left out (None, in the house), but not be sent as null."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, shown: GetJsonSchemaHandler) -> JsonSchemaValue:
        (schema,) = (part for part in shown(core)["anyOf"] if part != {"type": "null"})
        return dict(schema)


_NOT_NULL = _NotNull()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEngine:
    """`POST /engines`. What is None takes the kind's or the house's default."""

    __pydantic_config__ = STRICT
    kind: Annotated[str, Field(min_length=1, max_length=64)]
    config: dict[str, Any] = field(default_factory=dict)
    id: Annotated[str, Field(max_length=64)] | None = None
    pool: Annotated[str, Field(max_length=64)] = "default"
    labels: Labels = field(default_factory=dict)
    restart: Restart = field(default_factory=Restart)
    mailbox_size: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    idle_s: Positive | None = None
    stall_s: Positive | None = 300.0
    on_stall: OnStall = OnStall.REPORT
    pause_timeout_s: Seconds = 30.0
    grace_s: Seconds = 10.0
    boot_s: Positive = 30.0
    on_interrupt: OnInterrupt | None = None
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 3
    start: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """`POST /engines/{id}/runs`."""

    __pydantic_config__ = STRICT
    input: Any
    priority: Priority = Priority.NORMAL
    timeout_s: Positive | None = None
    queue_ttl_s: Positive | None = None
    on_busy: OnBusy = OnBusy.ENQUEUE
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyBody:
    """`POST /requests/{id}/reply`: an option, an answer, or both."""

    __pydantic_config__ = STRICT
    option: Annotated[str, Field(max_length=128)] | None = None
    answer: Any = None
    comment: Reason | None = None
    digest: Annotated[str, Field(max_length=128)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPool:
    """`POST /pools`."""

    __pydantic_config__ = STRICT
    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    template: Template | None = None
    max_engines: Annotated[int, Field(ge=1, le=10**6)] = 100
    max_running: Annotated[int, Field(ge=1, le=10**6)] | None = None
    idle_s: Positive | None = None
    expire_s: Positive | None = None
    strategy: Strategy = Strategy.ONE_FOR_ONE
    max_restarts: Annotated[int, Field(ge=0)] | None = None
    window_s: Positive = 60.0
    quotas: Quotas = field(default_factory=Quotas)
    four_eyes: bool = False
    require_digest: bool = False
    escalate_after_s: Levels = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchPool:
    """`PATCH /pools/{id}`: only the members that are sent change (so the route parses the members it was given)."""

    __pydantic_config__ = STRICT
    template: Template | None = None
    max_engines: Annotated[Annotated[int, Field(ge=1, le=10**6)] | None, _NOT_NULL] = None
    max_running: Annotated[int, Field(ge=1, le=10**6)] | None = None
    idle_s: Positive | None = None
    expire_s: Positive | None = None
    strategy: Annotated[Strategy | None, _NOT_NULL] = None
    max_restarts: Annotated[int, Field(ge=0)] | None = None
    window_s: Annotated[Positive | None, _NOT_NULL] = None
    quotas: Annotated[Quotas | None, _NOT_NULL] = None
    four_eyes: Annotated[bool | None, _NOT_NULL] = None
    require_digest: Annotated[bool | None, _NOT_NULL] = None
    escalate_after_s: Annotated[Levels | None, _NOT_NULL] = None


PoolAction = Literal["pause", "resume", "stop", "start", "dispose", "drain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCommand:
    """`POST /pools/{id}/commands`."""

    __pydantic_config__ = STRICT
    type: PoolAction
    reason: Reason = ""
    grace_s: Seconds | None = None
    force: bool = False
