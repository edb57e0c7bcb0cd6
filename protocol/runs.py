"""Runs: one unit of work that an engine does; its states are a table and its record is the fold of its own rows.

    queued -> running <-> waiting -> completed | failed | cancelled | timed_out
    running | waiting -> interrupted -> queued (retry, resume) | failed

`interrupted` is left before new work is taken, so no run stays there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from protocol.events import RUN_ENDS, Row

__all__ = ["RUN_MOVES", "OnBusy", "Priority", "Run", "RunStatus", "fold_run"]


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"

    @property
    def ended(self) -> bool:
        return not RUN_MOVES[self]


class Priority(StrEnum):
    NORMAL = "normal"
    HIGH = "high"


class OnBusy(StrEnum):
    """What a new run does when the engine already has one in hand or queued."""

    ENQUEUE = "enqueue"
    REJECT = "reject"
    INTERRUPT = "interrupt"
    REPLACE = "replace"


_R = RunStatus
_ENDS = frozenset({_R.COMPLETED, _R.FAILED, _R.CANCELLED, _R.TIMED_OUT})
RUN_MOVES: dict[RunStatus, frozenset[RunStatus]] = {
    _R.QUEUED: frozenset({_R.RUNNING, _R.CANCELLED, _R.TIMED_OUT, _R.FAILED}),
    _R.RUNNING: frozenset({_R.WAITING, _R.INTERRUPTED}) | _ENDS,
    _R.WAITING: frozenset({_R.RUNNING, _R.INTERRUPTED}) | _ENDS,
    _R.INTERRUPTED: frozenset({_R.QUEUED, _R.FAILED, _R.CANCELLED}),
    _R.COMPLETED: frozenset(),
    _R.FAILED: frozenset(),
    _R.CANCELLED: frozenset(),
    _R.TIMED_OUT: frozenset(),
}
"""Where a run may go from each status; ends go nowhere. An `interrupt` pause is running -> interrupted -> queued."""


@dataclass(slots=True, kw_only=True)
class Run:
    """One run's record. `asked_by`: the principals behind it, also of the run that it repeats; `done_for`: the run that
    delegated it; `error`: {slug, detail};
    `attempts` counts starts; `lost` those that a crash took; `front`: it goes before what is queued; `resumed`: its
    next start goes on from a checkpoint.
    """

    id: str
    uid: str
    engine_id: str
    pool: str
    command_id: str | None
    principal: str | None
    input: Any
    created_at: str
    status: RunStatus = RunStatus.QUEUED
    priority: Priority = Priority.NORMAL
    labels: dict[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    queue_ttl_s: float | None = None
    retry_of: str | None = None
    asked_by: list[str] = field(default_factory=list)
    done_for: str | None = None
    result: Any = None
    error: dict[str, Any] | None = None
    started_at: str | None = None
    finished_at: str | None = None
    attempts: int = 0
    lost: int = 0
    usage: dict[str, Any] = field(default_factory=dict)
    digest: str | None = None
    cancelled_by: str | None = None
    reason: str | None = None
    front: bool = False
    resumed: bool = False
    output_bytes: int = 0
    seq: int = 0


def fold_run(run: Run | None, row: Row) -> Run | None:
    """The run's record after one of its rows, changed in place; a new one for its first `run.queued`.

    `run.queued` {input, priority, labels, timeout_s, queue_ttl_s, retry_of, asked_by, done_for} opens it; with `again`
    it goes back in the queue (in front), `resumed` when it goes on from a checkpoint. `request.*` rows
    carry `open`, the number of the run's requests that still wait.
    """
    data = row.data
    if row.type == "run.queued" and run is None:
        return Run(
            id=row.run_id or "", uid=row.uid, engine_id=row.engine_id, pool=row.pool, command_id=row.command_id,
            principal=row.principal, input=data["input"], created_at=row.time, priority=Priority(data["priority"]),
            labels=data["labels"], timeout_s=data["timeout_s"], queue_ttl_s=data["queue_ttl_s"],
            retry_of=data["retry_of"], asked_by=data.get("asked_by", []), done_for=data.get("done_for"), seq=row.seq,
        )  # fmt: skip
    if run is None:
        return None
    match row.type:
        case "run.queued":
            run.status, run.front, run.resumed = RunStatus.QUEUED, True, data.get("resumed", False)
        case "run.started":
            run.status, run.front, run.attempts = RunStatus.RUNNING, False, data["attempt"]
            run.started_at = run.started_at or row.time
        case "run.waiting":
            run.status = RunStatus.WAITING
        case "request.decided" | "request.expired" | "request.withdrawn":
            if run.status is RunStatus.WAITING and not data["open"]:
                run.status = RunStatus.RUNNING
        case "run.interrupted":
            run.status = RunStatus.INTERRUPTED
            run.lost += bool(data["lost"])
        case "run.output_chunk":
            run.output_bytes = data["offset"] + data["length"]
        case "run.completed" | "run.failed" | "run.cancelled" | "run.timed_out":
            run.status, run.finished_at, run.front = RunStatus(RUN_ENDS[row.type]), row.time, False
            run.result, run.error = data.get("result"), data.get("error")
            run.usage, run.digest = data.get("usage") or {}, data.get("digest")
            run.cancelled_by, run.reason = data.get("by"), data.get("reason")
    return run
