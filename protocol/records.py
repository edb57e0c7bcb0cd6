"""Records: the index of the journal by run, request, command and dead letter.

A store writes them in the same transaction as the rows, for looking up and paging; the runtime never decides from them.
Their content is the fold of their own rows, so `verify` can rebuild and compare. `touched(row)` says which records a
row changes; `fold_record` gives the record after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protocol.edge import load
from protocol.events import SETTLING, Row
from protocol.requests import Request, fold_request
from protocol.runs import Run, fold_run

__all__ = ["CommandRecord", "DeadLetter", "Kind", "Record", "fold_record", "load_record", "status_of", "touched"]

Kind = str
"""`run`, `request`, `command` or `dead_letter`."""


@dataclass(slots=True, kw_only=True)
class CommandRecord:
    """A command and how far it is. `problem`: {slug, detail} of a failed or rejected one; `changed`: False for a
    repeat.
    """

    id: str
    uid: str
    engine_id: str
    pool: str
    type: str
    principal: str | None
    run_id: str | None
    created_at: str
    state: str = "accepted"
    started_at: str | None = None
    finished_at: str | None = None
    changed: bool | None = None
    result: Any = None
    problem: dict[str, Any] | None = None
    seq: int = 0


@dataclass(slots=True, kw_only=True)
class DeadLetter:
    """An envelope nobody will handle. `type`: submit or signal; `body`: the command's."""

    id: str
    uid: str
    engine_id: str
    pool: str
    command_id: str | None
    run_id: str | None
    type: str
    body: dict[str, Any]
    reason: str
    created_at: str
    state: str = "dead"
    redelivered_as: str | None = None
    seq: int = 0


Record = Run | Request | CommandRecord | DeadLetter
_MODELS: dict[Kind, Any] = {"run": Run, "request": Request, "command": CommandRecord, "dead_letter": DeadLetter}


def touched(row: Row) -> list[tuple[Kind, str]]:
    """The records that a row changes, as (kind, id)."""
    family = row.type.partition(".")[0]
    found: list[tuple[Kind, str]] = []
    if family in ("run", "request") and row.run_id is not None:
        found.append(("run", row.run_id))
    if family == "request":
        found.append(("request", row.data["request_id"]))
    if family == "dead_letter":
        found.append(("dead_letter", row.data["id"]))
    if row.command_id is not None and (
        row.type == "command.accepted" or row.type in SETTLING or row.type == "run.started"
    ):
        found.append(("command", row.command_id))
    return found


def fold_record(kind: Kind, record: Any, row: Row) -> Record | None:
    """The record after the row, changed in place; None when its first row is not there (it was compacted away)."""
    if kind == "run":
        return fold_run(record, row)
    if kind == "request":
        return fold_request(record, row)
    if kind == "dead_letter":
        return _fold_dead_letter(record, row)
    return _fold_command(record, row)


def _fold_command(record: CommandRecord | None, row: Row) -> CommandRecord | None:
    if row.type == "command.accepted":
        return CommandRecord(
            id=row.command_id or "", uid=row.uid, engine_id=row.engine_id, pool=row.pool, type=row.data["type"],
            principal=row.principal, run_id=row.run_id, created_at=row.time, seq=row.seq,
        )  # fmt: skip
    if record is None:
        return None
    if row.type == "run.started":
        record.state, record.started_at = "started", record.started_at or row.time
    else:
        record.state, record.finished_at = SETTLING[row.type], row.time
        record.changed, record.result = row.data.get("changed"), row.data.get("result")
        record.problem = row.data.get("problem")
    return record


def _fold_dead_letter(record: DeadLetter | None, row: Row) -> DeadLetter | None:
    data = row.data
    if row.type == "dead_letter.added":
        return DeadLetter(
            id=data["id"], uid=row.uid, engine_id=row.engine_id, pool=row.pool, command_id=row.command_id,
            run_id=row.run_id, type=data["type"], body=data["body"], reason=data["reason"], created_at=row.time,
            seq=row.seq,
        )  # fmt: skip
    if record is not None:
        record.state = row.type.partition(".")[2]
        record.redelivered_as = row.command_id
    return record


def status_of(record: Record) -> str:
    """The value that lists filter by."""
    return str(record.status if isinstance(record, Run) else record.state)


def load_record(kind: Kind, raw: bytes) -> Record:
    """A stored record read back."""
    loaded: Record = load(_MODELS[kind], raw)
    return loaded
