from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.edge import as_json, dump, load
from protocol.events import RUN_ENDS, SETTLING, Row
from protocol.fold import fold, fold_all
from protocol.patch import step
from protocol.requests import RequestState
from protocol.runs import RunStatus
from protocol.specs import PauseMode, Spec
from protocol.states import EVENT_OF, Aim, State
from protocol.view import Hold, Owed, SliceValue, View, Why

if TYPE_CHECKING:
    from tests.protocol.conftest import Writer

EXIT = {"cause": "crashed", "error": "ValueError: no", "at": 5.0, "ran_s": 1.0, "cleanup_error": None}
HOLD = Hold(holder="ann", mode=PauseMode.SOFT, reason="lunch", by="ann", at="2025-03-01T10:00:00.000Z")
STOPPING = {"aim": "disposed", "by": "ann", "reason": "", "grace_s": 10}
DATA: dict[str, dict[str, Any]] = {
    "engine.starting": {"incarnation": 4, "cause": "start"},
    "engine.stopping": STOPPING,
    "engine.crashed": {"exit": EXIT, "delay_s": 0.2},
    "engine.failed": {"exit": EXIT, "delay_s": 0},
    "engine.stopped": {"by": "ann", "reason": ""},
    "engine.disposed": {"leaks": [], "dead_letters": 0, "by": "ann"},
}
STATES = {
    "engine.starting": State.STARTING,
    "engine.started": State.RUNNING,
    "engine.pausing": State.PAUSING,
    "engine.paused": State.PAUSED,
    "engine.resumed": State.RUNNING,
    "engine.stopping": State.STOPPING,
    "engine.dormant": State.DORMANT,
    "engine.stopped": State.STOPPED,
    "engine.crashed": State.BACKING_OFF,
    "engine.failed": State.FAILED,
    "engine.disposed": State.DISPOSED,
}


@pytest.fixture
def view(row: Writer) -> View:
    return fold(None, row.spawned())


def test_a_spawned_row_is_a_stopped_engine(row: Writer) -> None:
    born = row.spawned()
    view = fold(None, born)
    assert view.spec == load(Spec, born.data["spec"])
    assert (view.state, view.incarnation, view.created_at, view.state_since) == (State.STOPPED, 0, born.time, born.time)


def test_a_row_of_an_engine_that_was_never_spawned_is_an_error(row: Writer) -> None:
    with pytest.raises(KeyError):
        fold(None, row("engine.started"))


def test_every_move_of_an_engine_has_a_state() -> None:
    assert set(STATES) == set(EVENT_OF.values())


@pytest.mark.parametrize("type", STATES)
def test_a_move_sets_the_state_and_since_when(row: Writer, view: View, type: str) -> None:
    moved = row(type, DATA.get(type))
    assert fold(view, moved) is view
    assert (view.state, view.state_since) == (STATES[type], moved.time)


@pytest.mark.parametrize("type", [name for name in STATES if name != "engine.stopping"])
def test_only_a_stopping_engine_has_an_aim(row: Writer, view: View, type: str) -> None:
    fold(view, row("engine.stopping", STOPPING | {"aim": "restart"}))
    assert view.aim is Aim.RESTART
    fold(view, row(type, DATA.get(type)))
    assert view.aim is None


@pytest.mark.parametrize("type", [*STATES, "log.line", "message.added", "plan.updated"])
def test_every_row_counts_and_moves_the_numbers(row: Writer, view: View, type: str) -> None:
    made = row(type, DATA.get(type))
    fold(view, made)
    assert view.counts[type] == 1
    assert (view.seq, view.engine_seq, view.last_row_at) == (made.seq, made.engine_seq, made.time)


def test_types_of_authors_count_together_whatever_they_invent(row: Writer, view: View) -> None:
    for number in range(3):
        fold(view, row(f"mine.thing-{number}", {}))
    assert view.counts["mine.*"] == 3
    assert not any("thing" in name for name in view.counts)


def test_a_type_that_the_fold_does_not_know_changes_only_counters(row: Writer, view: View) -> None:
    before = as_json(view)
    made = row("mine.thing", {"state": "stopped"})
    after = as_json(fold(view, made))
    numbers = {"counts", "seq", "engine_seq", "last_row_at"}
    assert {name for name in after if after[name] != before[name]} == numbers


def test_only_a_boot_after_a_backoff_counts_as_a_restart(row: Writer, view: View) -> None:
    for incarnation, cause in enumerate(["start", "backoff", "restart", "wake", "backoff", "recovery"], start=1):
        fold(view, row("engine.starting", {"incarnation": incarnation, "cause": cause}))
    assert (view.restarts, view.incarnation) == (2, 6)


def test_a_boot_ends_a_stall(row: Writer, view: View) -> None:
    fold(view, row("engine.stalled", {"stalled": True}))
    fold(view, row("engine.starting", {"incarnation": 2, "cause": "backoff"}))
    assert not view.stalled


def test_a_stall_is_shown(row: Writer, view: View) -> None:
    fold(view, row("engine.stalled", {"stalled": True}))
    assert view.stalled


def test_progress_ends_a_stall(row: Writer, view: View) -> None:
    fold(view, row("engine.stalled", {"stalled": True}))
    fold(view, row("engine.stalled", {"stalled": False}))
    assert not view.stalled


def test_holds_are_what_the_last_row_says(row: Writer, view: View) -> None:
    fold(view, row("engine.held", {"holds": as_json([HOLD, replace(HOLD, holder="bob")])}, command_id="cmd_1"))
    assert view.holds == {"ann": HOLD, "bob": replace(HOLD, holder="bob")}
    fold(view, row("engine.held", {"holds": as_json([HOLD])}))
    assert view.holds == {"ann": HOLD}
    fold(view, row("engine.held", {"holds": []}))
    assert view.holds == {}


def test_a_new_hold_says_why_the_engine_is_paused(row: Writer, view: View) -> None:
    held = row("engine.held", {"holds": as_json([HOLD])}, command_id="cmd_1")
    fold(view, held)
    assert view.why["pause"] == Why(what="pause", at=held.time, by="ann", reason="lunch", command_id="cmd_1")


def test_lifting_one_hold_of_two_leaves_the_reason_of_the_last_pause(row: Writer, view: View) -> None:
    fold(view, row("engine.held", {"holds": as_json([HOLD])}))
    bob = replace(HOLD, holder="bob", by="bob", reason="audit")
    fold(view, row("engine.held", {"holds": as_json([HOLD, bob])}))
    fold(view, row("engine.held", {"holds": as_json([HOLD])}))
    assert view.why["pause"].by == "bob"


@pytest.mark.parametrize("aim,what", [("stopped", "stop"), ("disposed", "stop"), ("restart", "restart")])
def test_an_ending_says_who_asked_for_it(row: Writer, view: View, aim: str, what: str) -> None:
    ending = row("engine.stopping", {**STOPPING, "aim": aim, "reason": "new version"}, command_id="cmd_1")
    fold(view, ending)
    assert view.why[what] == Why(what=what, at=ending.time, by="ann", reason="new version", command_id="cmd_1")


@pytest.mark.parametrize("type", ["engine.crashed", "engine.failed", "engine.stopped"])
def test_the_last_exit_is_kept(row: Writer, view: View, type: str) -> None:
    fold(view, row(type, {"exit": EXIT, "delay_s": 0}))
    assert view.last_exit == EXIT
    fold(view, row("engine.stopped", {"by": "ann", "reason": ""}))
    assert view.last_exit == EXIT


def test_a_crash_says_why_the_engine_restarted(row: Writer, view: View) -> None:
    crashed = row("engine.crashed", {"exit": EXIT, "delay_s": 0.2})
    fold(view, crashed)
    assert view.why["restart"] == Why(what="restart", at=crashed.time, reason="ValueError: no")


def test_a_disposed_engine_keeps_its_leaks_and_no_holds(row: Writer, view: View) -> None:
    fold(view, row("engine.held", {"holds": as_json([HOLD])}))
    fold(view, row("engine.disposed", {"leaks": [{"what": "task"}], "dead_letters": 2, "by": None}))
    assert (view.leaks, view.dead_letters, view.holds) == ([{"what": "task"}], 2, {})


@pytest.mark.parametrize("type", SETTLING)
def test_an_accepted_command_is_owed_until_its_one_end(row: Writer, view: View, type: str) -> None:
    accepted = row("command.accepted", {"type": "stop", "reason": "r"}, command_id="cmd_1", principal="ann")
    fold(view, accepted)
    assert view.owed["cmd_1"] == Owed(
        id="cmd_1", type="stop", body={"type": "stop", "reason": "r"}, principal="ann", run_id=None,
        time=accepted.time, seq=accepted.seq,
    )  # fmt: skip
    fold(view, row(type, {"changed": True}, command_id="cmd_1"))
    assert view.owed == {}


@pytest.mark.parametrize("type", RUN_ENDS)
def test_a_run_is_open_until_its_one_end(row: Writer, view: View, type: str) -> None:
    fold(view, row.queued())
    assert view.runs["run_1"].status is RunStatus.QUEUED
    fold(view, row("run.started", {"attempt": 1}, run_id="run_1"))
    assert view.active_run is view.runs["run_1"]
    fold(view, row(type, {}, run_id="run_1"))
    assert not view.runs


def test_a_waiting_run_is_active_and_an_interrupted_one_is_not(row: Writer, view: View) -> None:
    rows = [row.queued(), row("run.started", {"attempt": 1}, run_id="run_1"), row("run.waiting", {}, run_id="run_1")]
    assert [fold(view, made).active_run is not None for made in rows] == [False, True, True]
    fold(view, row("run.interrupted", {"attempt": 1, "lost": True, "cause": "c"}, run_id="run_1"))
    assert view.active_run is None


def test_usage_adds_up_over_runs(row: Writer, view: View) -> None:
    for n in (1, 2):
        fold(view, row.queued(f"run_{n}"))
        fold(view, row("run.completed", {"usage": {"tokens": n * 10, "cost_usd": 0.5}}, run_id=f"run_{n}"))
    assert view.usage == {"tokens": 30, "cost_usd": 1.0}


def test_run_s_is_the_mean_of_what_completed_runs_took(row: Writer, view: View) -> None:
    for n, rows_between in enumerate([1, 3]):  # the test's clock ticks a second for each row
        fold_all([row.queued(f"run_{n}"), row("run.started", {"attempt": 1}, run_id=f"run_{n}")], view)
        fold_all([row("mine.step") for _ in range(rows_between)], view)
        fold(view, row("run.completed", {}, run_id=f"run_{n}"))
    assert view.run_s == (2 + 4) / 2


def test_a_cancelled_run_says_who_and_why(row: Writer, view: View) -> None:
    fold(view, row.queued())
    cancelled = row("run.cancelled", {"by": "ann", "reason": "wrong one", "through": "cmd_9"}, run_id="run_1")
    fold(view, cancelled)
    assert view.why["cancel"] == Why(what="cancel", at=cancelled.time, by="ann", reason="wrong one", command_id="cmd_9")


def test_chunks_are_counted_in_the_open_run(row: Writer, view: View) -> None:
    fold(view, row.queued())
    fold(view, row("run.output_chunk", {"offset": 0, "length": 7, "sha256": "x"}, run_id="run_1"))
    assert view.runs["run_1"].output_bytes == 7


def waiting(row: Writer, view: View) -> None:
    fold_all([row.queued(), row("run.started", {"attempt": 1}, run_id="run_1"), row.opened()], view)
    fold(view, row("run.waiting", {"request_id": "req_1"}, run_id="run_1"))


def decided(row: Writer, run_id: str | None = "run_1") -> Row:
    decision = {"option": "yes", "answer": None, "comment": None, "by": "ann", "at": "2025-03-01T10:00:00.000Z"}
    return row("request.decided", {"request_id": "req_1", "open": 0, "decision": decision}, run_id=run_id)


def test_a_decision_stays_until_it_is_used_and_lets_the_run_go_on(row: Writer, view: View) -> None:
    waiting(row, view)
    fold(view, decided(row))
    assert view.requests["req_1"].state is RequestState.ANSWERED
    assert view.runs["run_1"].status is RunStatus.RUNNING
    fold(view, row("request.used", {"request_id": "req_1"}, run_id="run_1"))
    assert view.requests == {}


@pytest.mark.parametrize("type", ["request.expired", "request.withdrawn"])
def test_a_request_that_nobody_decided_is_gone(row: Writer, view: View, type: str) -> None:
    waiting(row, view)
    fold(view, row(type, {"request_id": "req_1", "open": 0, "reason": "stopped"}, run_id="run_1"))
    assert view.requests == {}
    assert view.runs["run_1"].status is RunStatus.RUNNING


def test_a_decision_outside_a_run_is_not_kept(row: Writer, view: View) -> None:
    fold(view, row.opened(run_id=None))
    assert set(view.requests) == {"req_1"}
    fold(view, decided(row, None))
    assert view.requests == {}


def test_the_end_of_a_run_takes_its_requests_and_no_others(row: Writer, view: View) -> None:
    waiting(row, view)
    fold(view, decided(row))
    fold(view, row.opened("req_2", None))
    fold(view, row("run.failed", {}, run_id="run_1"))
    assert set(view.requests) == {"req_2"}


def test_a_slice_is_the_sum_of_its_patches(row: Writer, view: View) -> None:
    for n, patch in enumerate(
        [
            [{"op": "replace", "path": "", "value": {"done": [], "n": 0}}],
            [{"op": "add", "path": "/done/0", "value": "a"}],
            [{"op": "replace", "path": "/n", "value": 1}],
        ],
        start=1,
    ):
        fold(view, row("state.patched", {"slice": "plan", "version": n, "patch": patch, "bytes": 10}))
    assert view.slices == {"plan": SliceValue(version=3, value={"done": ["a"], "n": 1}, since_keyframe_bytes=20)}


def test_a_keyframe_begins_the_count_of_bytes_anew(row: Writer, view: View) -> None:
    frames = [[{"op": "replace", "path": "", "value": n}] for n in range(2)]
    for n, patch in enumerate(frames, start=1):
        fold(view, row("state.patched", {"slice": "n", "version": n, "patch": patch, "bytes": 10}))
    assert view.slices["n"].since_keyframe_bytes == 0


def test_a_slice_can_hold_null(row: Writer, view: View) -> None:
    patch = [{"op": "replace", "path": "", "value": None}]
    fold(view, row("state.patched", {"slice": "n", "version": 1, "patch": patch, "bytes": 5}))
    assert view.slices["n"].value is None


VALUES = st.recursive(
    st.integers(0, 3) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@given(st.lists(VALUES, min_size=1, max_size=8))
def test_patches_folded_give_the_value_that_was_set(writer: Callable[[], Writer], values: list[Any]) -> None:
    row = writer()
    view = fold(None, row.spawned())
    for value in values:
        before = view.slices.get("s")
        patch, keyframe = step(before.value if before else None, value, before.since_keyframe_bytes if before else None)
        if patch:
            version = before.version + 1 if before else 1
            fold(view, row("state.patched", {"slice": "s", "version": version, "patch": patch, "bytes": 9}))
            assert keyframe == (view.slices["s"].since_keyframe_bytes == 0)
        assert view.slices["s"].value == value


STORY = st.lists(
    st.sampled_from(
        [
            *STATES, "engine.held", "engine.stalled", "command.accepted", *SETTLING, "run.queued", "run.started",
            "run.waiting", "run.interrupted", *RUN_ENDS, "run.output_chunk", "request.opened", "request.decided",
            "request.expired", "request.withdrawn", "request.used", "request.voided", "request.escalated",
            "state.patched", "mine.thing",
        ]
    ),
    max_size=40,
)  # fmt: skip


def tell(row: Writer, type: str, n: int) -> Row:
    """Some row of a type; runs, requests and commands have few ids, so that rows meet."""
    run_id, request_id, command_id = f"run_{n % 2}", f"req_{n % 3}", f"cmd_{n % 4}"
    if type == "run.queued":
        return row.queued(run_id, command_id, **({"again": True} if n % 5 == 0 else {}))
    if type == "request.opened":
        return row.opened(request_id, run_id if n % 3 else None, schema={"n": n} if n % 2 else None)
    data: dict[str, Any] = {
        "attempt": n, "level": n, "lost": bool(n % 2), "cause": "backoff", "incarnation": n, "open": n % 2,
        "reason": "r", "request_id": request_id, "offset": n, "length": n, "holds": as_json([HOLD] if n % 2 else []),
        "stalled": bool(n % 2), "usage": {"tokens": n, "cost_usd": n / 7}, "type": "signal", "name": "x",
        "result": [n, None], "slice": f"s{n % 2}", "version": n, "bytes": n, "exit": EXIT, "leaks": [{"pid": n}],
        "patch": [{"op": "replace", "path": "", "value": {"n": [n]}}], "dead_letters": n, "by": "ann",
        "aim": [a.name.lower() for a in Aim][n % 5],
        "decision": {"option": "yes", "answer": {"n": n}, "comment": None, "by": "ann", "at": "t"},
    }  # fmt: skip
    return row(type, data, run_id=run_id, command_id=command_id, principal="ann" if n % 2 else None)


@given(STORY)
def test_a_snapshot_reads_back_as_the_view_whatever_was_folded(writer: Callable[[], Writer], story: list[str]) -> None:
    row = writer()
    view = fold(None, row.spawned())
    for n, name in enumerate(story):
        fold(view, tell(row, name, n))
    assert load(View, dump(view)) == view


@given(STORY, st.integers(0, 40))
def test_a_snapshot_and_what_follows_is_the_whole_fold(
    writer: Callable[[], Writer], story: list[str], cut: int
) -> None:
    row = writer()
    rows = [row.spawned(), *(tell(row, name, n) for n, name in enumerate(story))]
    whole = fold_all(rows)
    half = fold_all(Row.from_wire(made.wire, made.uid) for made in rows[: cut + 1])
    assert half is not None
    assert fold_all(rows[cut + 1 :], load(View, dump(half))) == whole


def test_every_field_of_a_view_survives_a_snapshot(row: Writer, view: View) -> None:
    waiting(row, view)
    fold(view, row("engine.held", {"holds": as_json([HOLD])}))
    fold(view, row("engine.stopping", STOPPING))
    fold(view, row("command.accepted", {"type": "submit", "input": None}, command_id="cmd_1", run_id="run_1"))
    patch = [{"op": "replace", "path": "", "value": 1.0}]
    fold(view, row("state.patched", {"slice": "s", "version": 1, "patch": patch, "bytes": 9}))
    view.usage, view.run_s, view.restarts, view.last_exit = {"tokens": 3, "cost_usd": 0.1}, 1.5, 2, EXIT
    view.leaks, view.dead_letters, view.stalled, view.incarnation = [{"pid": 1}], 3, True, 7
    loaded = load(View, dump(view))
    for name in View.__dataclass_fields__:
        value = getattr(view, name)
        assert value, f"{name} should be something else than its default here"
        assert getattr(loaded, name) == value
        assert type(getattr(loaded, name)) is type(value)
