from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from protocol.events import RUN_ENDS
from protocol.runs import RUN_MOVES, Priority, RunStatus, fold_run

if TYPE_CHECKING:
    from tests.protocol.conftest import Writer

R = RunStatus
ENDS = {R.COMPLETED, R.FAILED, R.CANCELLED, R.TIMED_OUT}
TO: dict[RunStatus, tuple[str, dict[str, Any]]] = {
    R.QUEUED: ("run.queued", {"again": True, "attempt": 2}),
    R.RUNNING: ("run.started", {"attempt": 1}),
    R.WAITING: ("run.waiting", {"request_id": "req_1"}),
    R.INTERRUPTED: ("run.interrupted", {"attempt": 1, "lost": True, "cause": "crashed"}),
    **{RunStatus(status): (name, {}) for name, status in RUN_ENDS.items()},
}
"""The row that brings a run into each status."""


def reachable(start: RunStatus) -> set[RunStatus]:
    found, new = {start}, {start}
    while new:
        new = {to for status in new for to in RUN_MOVES[status]} - found
        found |= new
    return found


def test_every_status_is_in_the_table_and_reached_from_queued() -> None:
    assert list(RUN_MOVES) == list(RunStatus)
    assert reachable(R.QUEUED) == set(RunStatus)


@pytest.mark.parametrize("status", RunStatus)
def test_every_run_can_end(status: RunStatus) -> None:
    assert reachable(status) & ENDS


@pytest.mark.parametrize("status", RunStatus)
def test_a_run_has_ended_exactly_in_the_statuses_that_lead_nowhere(status: RunStatus) -> None:
    assert status.ended == (status in ENDS) == (not RUN_MOVES[status])


def test_no_run_rests_interrupted() -> None:
    assert RUN_MOVES[R.INTERRUPTED] == {R.QUEUED, R.FAILED, R.CANCELLED}


@pytest.mark.parametrize("start,to", [(a, b) for a, b in product(RunStatus, RunStatus) if b in RUN_MOVES[a]])
def test_the_fold_follows_every_move_of_the_table(row: Writer, start: RunStatus, to: RunStatus) -> None:
    run = fold_run(None, row.queued())
    assert run is not None
    run.status = start
    name, data = TO[to]
    if (start, to) == (R.WAITING, R.RUNNING):  # a run goes on because its last request was decided
        name, data = "request.decided", {"request_id": "req_1", "decision": {}, "open": 0}
    assert fold_run(run, row(name, data, run_id="run_1")) is run
    assert run.status is to


def test_the_first_queued_row_opens_the_record(row: Writer) -> None:
    data: dict[str, Any] = {"priority": "high", "labels": {"a": "b"}, "timeout_s": 5.0, "retry_of": "run_0"}
    run = fold_run(None, row.queued(**data))
    assert run is not None
    assert (run.id, run.engine_id, run.command_id, run.principal) == ("run_1", "walker", "cmd_1", "ann")
    assert (run.status, run.priority, run.timeout_s, run.retry_of) == (R.QUEUED, Priority.HIGH, 5.0, "run_0")
    assert (run.input, run.labels, run.attempts, run.seq) == ({"n": 1}, {"a": "b"}, 0, 1)


@pytest.mark.parametrize("type", ["run.started", "run.completed", "request.decided"])
def test_a_row_of_a_run_that_is_not_known_makes_none(row: Writer, type: str) -> None:
    assert fold_run(None, row(type, {"attempt": 1, "open": 0}, run_id="run_1")) is None


def test_a_run_goes_on_only_when_its_last_request_is_decided(row: Writer) -> None:
    run = fold_run(None, row.queued())
    assert run is not None
    fold_run(run, row("run.started", {"attempt": 1}))
    fold_run(run, row("run.waiting", {}))
    ends = [row("request.decided", {"open": 1, "decision": {}}), row("request.withdrawn", {"open": 0})]
    assert [(fold_run(run, end) or run).status for end in ends] == [R.WAITING, R.RUNNING]


def test_only_lost_attempts_are_counted_as_lost(row: Writer) -> None:
    run = fold_run(None, row.queued())
    for attempt, lost in [(1, True), (2, False), (3, True)]:
        fold_run(run, row("run.started", {"attempt": attempt}))
        fold_run(run, row("run.interrupted", {"lost": lost}))
        fold_run(run, row("run.queued", {"again": True}))
    assert run is not None
    assert (run.attempts, run.lost, run.front) == (3, 2, True)


def test_the_first_start_is_when_a_run_started(row: Writer) -> None:
    run = fold_run(None, row.queued())
    first = row("run.started", {"attempt": 1})
    fold_run(run, first)
    fold_run(run, row("run.started", {"attempt": 2}))
    assert run is not None
    assert run.started_at == first.time


@pytest.mark.parametrize("type", RUN_ENDS)
def test_an_end_keeps_what_it_carries(row: Writer, type: str) -> None:
    run = fold_run(None, row.queued())
    data = {"result": [1], "error": {"slug": "x", "detail": "y"}, "usage": {"tokens": 3}, "digest": "d", "by": "ann"}
    end = row(type, data | {"reason": "why"})
    fold_run(run, end)
    assert run is not None
    assert run.status == RUN_ENDS[type]
    assert (run.result, run.error, run.usage, run.digest) == ([1], data["error"], {"tokens": 3}, "d")
    assert (run.cancelled_by, run.reason, run.finished_at, run.front) == ("ann", "why", end.time, False)


def test_chunks_say_how_long_the_output_is(row: Writer) -> None:
    run = fold_run(None, row.queued())
    fold_run(run, row("run.output_chunk", {"offset": 0, "length": 10}))
    fold_run(run, row("run.output_chunk", {"offset": 10, "length": 5}))
    assert run is not None
    assert run.output_bytes == 15
