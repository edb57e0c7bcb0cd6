from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from protocol.edge import as_json, dump
from protocol.events import RUN_ENDS, SETTLING
from protocol.records import (
    CommandRecord,
    DeadLetter,
    Kind,
    Record,
    fold_record,
    load_record,
    status_of,
    touched,
)
from protocol.requests import Request
from protocol.runs import Run

if TYPE_CHECKING:
    from tests.protocol.conftest import Writer

LETTER: dict[str, Any] = {
    "id": "dl_1",
    "type": "signal",
    "body": {"type": "signal", "name": "n", "payload": None},
    "reason": "disposed",
}
DECISION = {"option": "yes", "answer": None, "comment": None, "by": "ann", "at": "2025-03-01T10:00:00.000Z"}


def folded(kind: Kind, *rows: Any) -> Any:
    record: Record | None = None
    for row in rows:
        record = fold_record(kind, record, row)
    return record


TOUCHED: list[tuple[str, dict[str, Any], str | None, str | None, list[tuple[str, str]]]] = [
    ("command.accepted", {}, None, "cmd_1", [("command", "cmd_1")]),
    ("command.accepted", {}, "run_1", "cmd_1", [("command", "cmd_1")]),
    ("command.completed", {}, None, "cmd_1", [("command", "cmd_1")]),
    ("run.queued", {}, "run_1", "cmd_1", [("run", "run_1")]),
    ("run.started", {}, "run_1", "cmd_1", [("run", "run_1"), ("command", "cmd_1")]),
    ("run.completed", {}, "run_1", None, [("run", "run_1")]),
    ("request.opened", {"request_id": "req_1"}, "run_1", None, [("run", "run_1"), ("request", "req_1")]),
    ("request.opened", {"request_id": "req_1"}, None, None, [("request", "req_1")]),
    ("dead_letter.added", LETTER, "run_1", "cmd_1", [("dead_letter", "dl_1")]),
    ("dead_letter.redelivered", {"id": "dl_1"}, None, "cmd_2", [("dead_letter", "dl_1")]),
    ("engine.paused", {}, None, "cmd_1", []),
    ("state.patched", {}, "run_1", None, []),
    ("mine.thing", {}, "run_1", None, []),
]


@pytest.mark.parametrize("type,data,run_id,command_id,wanted", TOUCHED, ids=lambda value: str(value)[:24])
def test_a_row_touches_the_records_it_changes(
    row: Writer, type: str, data: dict[str, Any], run_id: str | None, command_id: str | None, wanted: list[Any]
) -> None:
    assert touched(row(type, data, run_id=run_id, command_id=command_id)) == wanted


def test_an_accepted_row_is_the_command_s_record(row: Writer) -> None:
    accepted = row("command.accepted", {"type": "stop"}, command_id="cmd_1", principal="ann")
    record = folded("command", accepted)
    assert (record.id, record.type, record.principal, record.state) == ("cmd_1", "stop", "ann", "accepted")
    assert (record.created_at, record.changed, record.seq) == (accepted.time, None, 1)


@pytest.mark.parametrize("type", SETTLING)
def test_each_settling_ends_a_command_in_its_state(row: Writer, type: str) -> None:
    accepted = row("command.accepted", {"type": "stop"}, command_id="cmd_1")
    end = row(type, {"changed": False, "result": [1], "problem": {"slug": "x", "detail": "y"}}, command_id="cmd_1")
    record = folded("command", accepted, end)
    assert (record.state, record.finished_at) == (SETTLING[type], end.time)
    assert (record.changed, record.result, record.problem) == (False, [1], {"slug": "x", "detail": "y"})


def test_a_command_starts_with_the_first_start_of_its_run(row: Writer) -> None:
    accepted = row("command.accepted", {"type": "submit"}, command_id="cmd_1", run_id="run_1")
    first, second = (row("run.started", {"attempt": n}, run_id="run_1", command_id="cmd_1") for n in (1, 2))
    record = folded("command", accepted, first, second)
    assert (record.state, record.started_at) == ("started", first.time)


def test_a_command_that_was_compacted_away_stays_away(row: Writer) -> None:
    assert folded("command", row("command.completed", {}, command_id="cmd_1")) is None
    assert folded("dead_letter", row("dead_letter.discarded", {"id": "dl_1"})) is None


@pytest.mark.parametrize("what,command_id", [("redelivered", "cmd_2"), ("discarded", None)])
def test_a_dead_letter_knows_what_became_of_it(row: Writer, what: str, command_id: str | None) -> None:
    added = row("dead_letter.added", LETTER, command_id="cmd_1", run_id="run_1")
    letter = folded("dead_letter", added)
    assert (letter.state, letter.reason, letter.command_id) == ("dead", "disposed", "cmd_1")
    letter = folded("dead_letter", added, row(f"dead_letter.{what}", {"id": "dl_1"}, command_id=command_id))
    assert (letter.state, letter.redelivered_as) == (what, command_id)


def records(row: Writer) -> list[tuple[Kind, Any]]:
    queued, opened = row.queued(), row.opened(schema={"type": "string"})
    decided = row("request.decided", {"request_id": "req_1", "open": 0, "decision": DECISION}, run_id="run_1")
    return [
        ("run", folded("run", queued, row("run.started", {"attempt": 1}), row("run.completed", {"result": {"a": 1}}))),
        ("request", folded("request", opened, decided)),
        ("command", folded("command", row("command.accepted", {"type": "stop"}, command_id="cmd_1"))),
        ("dead_letter", folded("dead_letter", row("dead_letter.added", LETTER, command_id="cmd_1"))),
    ]


def test_a_record_reads_back_as_it_was_stored(row: Writer) -> None:
    for kind, record in records(row):
        assert load_record(kind, dump(record)) == record
        assert type(load_record(kind, dump(record))) is type(record)


def test_lists_filter_by_the_status_of_a_run_and_the_state_of_the_rest(row: Writer) -> None:
    assert [status_of(record) for _, record in records(row)] == ["completed", "answered", "accepted", "dead"]


def test_a_record_shown_as_json_has_every_member(row: Writer) -> None:
    models: dict[str, Any] = {"run": Run, "request": Request, "command": CommandRecord, "dead_letter": DeadLetter}
    for kind, record in records(row):
        assert set(as_json(record)) == set(models[kind].__dataclass_fields__)


@pytest.mark.parametrize("type", RUN_ENDS)
def test_the_record_of_a_run_is_the_fold_of_its_rows(row: Writer, type: str) -> None:
    run = folded("run", row.queued(), row("run.started", {"attempt": 1}), row(type, {}))
    assert status_of(run) == RUN_ENDS[type]
