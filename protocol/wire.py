"""The shapes that leave the house, embedded or over HTTP: what its methods give. What enters is `protocol/bodies.py`.

One definition serves three readers: the embedding program (as frozen dataclasses), the HTTP API (as JSON) and OpenAPI
(as JSON Schema). Times are RFC 3339 UTC with milliseconds; durations are seconds with suffix `_s`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from protocol.runs import Priority
from protocol.specs import (
    OnInterrupt,
    OnStall,
    PoolSpec,
    Quotas,
    Restart,
    Strategy,
    Template,
)
from protocol.view import Hold

__all__ = [
    "Accepted", "CommandInfo", "Confinement", "DeadLetterInfo", "Disposed", "DrainInfo", "EngineInfo", "HealthInfo",
    "KindInfo", "LogPage", "MailboxInfo", "Page", "PoolInfo", "PoolResult", "ProcessRow", "ProcessTotal", "ProcessTree",
    "RequestInfo", "RunInfo", "SliceInfo", "SpawnedEngine", "StateInfo",
]  # fmt: skip

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxInfo:
    size: int
    queued: int
    in_flight: int
    oldest_age_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """`GET /engines/{id}`. `busy`, `stalled`, `pause_slow` (the step that keeps a pause from being reached), `draining`
    and `waiting_for` are derived, not states.
    """

    id: str
    uid: str
    pool: str
    kind: str
    key: str | None
    config: dict[str, Any]
    labels: dict[str, str]
    restart: Restart
    mailbox_size: int
    idle_s: float | None
    stall_s: float | None
    on_stall: OnStall
    pause_timeout_s: float
    grace_s: float
    boot_s: float
    on_interrupt: OnInterrupt
    max_attempts: int
    state: str
    aim: str | None
    busy: bool
    stalled: bool
    pause_slow: str | None
    draining: bool
    waiting_for: str | None
    incarnation: int
    holds: list[Hold]
    mailbox: MailboxInfo
    active_run: str | None
    restarts: int
    last_exit: dict[str, Any] | None
    created_at: str
    state_since: str
    engine_seq: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnedEngine(EngineInfo):
    """The 201 of `POST /engines`: the engine, and the command that brought it to life."""

    command_id: str

    @staticmethod
    def of(engine: EngineInfo, command_id: str) -> SpawnedEngine:
        members = {name: getattr(engine, name) for name in EngineInfo.__dataclass_fields__}
        return SpawnedEngine(**members, command_id=command_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """`GET /runs/{id}`."""

    id: str
    engine_id: str
    pool: str
    status: str
    priority: Priority
    input: Any
    result: Any
    error: dict[str, Any] | None
    labels: dict[str, str]
    created_at: str
    started_at: str | None
    finished_at: str | None
    elapsed_s: float | None
    queue_position: int | None
    estimated_completion_at: str | None
    attempts: int
    usage: dict[str, Any]
    digest: str | None
    retry_of: str | None
    cancelled_by: str | None
    reason: str | None
    command_id: str | None
    output_bytes: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The 202 of a command. `replayed`: the same command was accepted before under this key."""

    command_id: str
    engine_id: str
    type: str
    state: str
    seq: int
    run_id: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandInfo:
    """`GET /commands/{id}`. `changed`: False when it was already so; True for a signal, which is never a repeat:
    `result`, the engine's answer, says what came of it.
    """

    id: str
    engine_id: str
    type: str
    state: str
    principal: str | None
    run_id: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    changed: bool | None
    result: Any
    problem: dict[str, Any] | None
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInfo:
    """`GET /requests/{id}`. `digest`: SHA-256 of what is decided, over `nonce` and all that is asked; `asked_by`: the
    principals behind the run; `watched`: whether somebody who may decide it has looked within the last minute (None: it
    is not pending); `voided`: why an answer counts for nothing.
    """

    id: str
    uid: str
    engine_id: str
    pool: str
    run_id: str | None
    kind: str
    title: str
    detail: str
    options: list[dict[str, Any]]
    schema: dict[str, Any] | None
    action: Any
    action_digest: str
    nonce: str
    digest: str
    asked_by: list[str]
    state: str
    created_at: str
    deadline: str | None
    default: str | None
    valid_s: float | None
    escalate_s: list[float]
    level: int
    escalated_at: str | None
    watched: bool | None
    decision: dict[str, Any] | None
    reason: str | None
    used: bool
    voided: str | None
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterInfo:
    id: str
    engine_id: str
    pool: str
    command_id: str | None
    run_id: str | None
    type: str
    body: dict[str, Any]
    reason: str
    created_at: str
    state: str
    redelivered_as: str | None
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disposed:
    """`DELETE /engines/{id}`: it is proven gone, but for what `leaks` names."""

    id: str
    uid: str
    state: str
    leaks: list[dict[str, Any]]
    dead_letters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceInfo:
    slice: str
    version: int
    seq: int
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StateInfo:
    """`slices`: {name: {version, value}}, as of `seq`."""

    seq: int
    slices: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class KindInfo:
    """`GET /kinds/{kind}`: JSON Schemas of config and run input, what it takes and emits."""

    kind: str
    description: str
    config_schema: dict[str, Any]
    input_schema: dict[str, Any] | None
    commands: list[str]
    emits: list[str]
    pause_modes: list[str]
    default_pause_mode: str
    on_interrupt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolInfo:
    """`GET /pools/{id}`. `budget`: what of each quota is used; `engines`, `running`: how many it has now."""

    id: str
    template: Template | None
    max_engines: int
    max_running: int | None
    idle_s: float | None
    expire_s: float | None
    strategy: Strategy
    max_restarts: int | None
    window_s: float
    quotas: Quotas
    four_eyes: bool
    require_digest: bool
    escalate_after_s: tuple[float, ...]
    draining: bool
    engines: int
    running: int
    budget: dict[str, Any]

    @staticmethod
    def of(spec: PoolSpec, *, engines: int, running: int, budget: dict[str, Any]) -> PoolInfo:
        return PoolInfo(
            id=spec.id, template=spec.template, max_engines=spec.max_engines, max_running=spec.max_running,
            idle_s=spec.idle_s, expire_s=spec.expire_s, strategy=spec.strategy, max_restarts=spec.max_restarts,
            window_s=spec.window_s, quotas=spec.quotas, four_eyes=spec.four_eyes, require_digest=spec.require_digest,
            escalate_after_s=spec.escalate_after_s, draining=spec.draining, engines=engines, running=running,
            budget=budget,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolResult:
    """What a pool command did to one engine. `problem`: {slug, detail} when `ok` is False."""

    id: str
    ok: bool
    state: str
    problem: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """One live process. `name` and `command` are its own words, without the engine's secrets; `state`: running,
    sleeping, blocked, stopped, traced, ended; `cpu_s`: user and system time; `cpu_percent`: of one processor, since the
    last look at the tree, or since its start.
    """

    pid: int
    ppid: int
    name: str
    command: list[str]
    state: str
    threads: int
    cpu_s: float
    cpu_percent: float
    rss_bytes: int
    started_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """A piece of what a program wrote. `next_after`: the place behind it; `missed`: the place that was asked for is
    not there any more, and this begins with the oldest that is kept.
    """

    stream: str
    text: str
    next_after: str
    missed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTotal:
    """What the processes of an engine use together. `cpu_s` counts those too that have ended."""

    processes: int = 0
    threads: int = 0
    cpu_s: float = 0.0
    cpu_percent: float = 0.0
    rss_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What holds the processes of an engine. `limits`: those that are set, by name; the ones of a whole tree are set in
    `control_group`, the others on each process. `frozen_by`, `killed_by`: control-group, or signals. `walled`: whether
    they can signal nothing but each other.
    """

    limits: dict[str, int | float]
    control_group: str | None
    controllers: list[str]
    frozen_by: str
    killed_by: str
    walled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTree:
    """The live processes of an engine, parents before children. `confinement` None: it has started none."""

    items: list[ProcessRow]
    total: ProcessTotal
    confinement: Confinement | None = None

    def __iter__(self) -> Iterator[ProcessRow]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthInfo:
    """`checks`: name -> {status, ...what was measured}; `draining`: how far, while the house takes no new work."""

    status: str
    uptime_s: float
    version: str
    checks: dict[str, dict[str, Any]]
    draining: DrainInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainInfo:
    """How far a drain of the house is: engines that are still up, runs that have not ended."""

    draining: bool
    engines: int
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """One page of a list; `next_cursor` None: there is no more."""

    items: list[T]
    next_cursor: str | None = None
