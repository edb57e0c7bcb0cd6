"""fold(view, row): the state after a row. Pure but for speed: it changes the view in place and returns it.

One function per family of types, in one table; a type that is not in it changes nothing but the counters. Rows that no
view exists for yet must be `engine.spawned`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from protocol.edge import load
from protocol.events import RUN_ENDS, SETTLING, Row, is_reserved
from protocol.patch import apply
from protocol.requests import RequestState, fold_request
from protocol.runs import fold_run
from protocol.specs import Spec
from protocol.states import Aim, State
from protocol.times import epoch_ms
from protocol.view import Hold, Owed, SliceValue, View, Why

__all__ = ["Fold", "fold", "fold_all"]

Fold = Callable[[View, Row], None]


def fold(view: View | None, row: Row) -> View:
    """The engine after `row`. Raises KeyError for a row of an engine that was never spawned."""
    if row.type == "engine.spawned":
        view = View(spec=load(Spec, row.data["spec"]), created_at=row.time, state_since=row.time)
    if view is None:
        raise KeyError(row.uid)
    step = _FOLDS.get(row.type)
    if step is not None:
        step(view, row)
    # Authors may invent types for ever, so theirs count together.
    counted = row.type if is_reserved(row.type) else f"{row.type.partition('.')[0]}.*"
    view.counts[counted] = view.counts.get(counted, 0) + 1
    view.engine_seq, view.seq, view.last_row_at = row.engine_seq, row.seq, row.time
    return view


def fold_all(rows: Iterable[Row], view: View | None = None) -> View | None:
    """The engine after all of its rows, in order."""
    for row in rows:
        view = fold(view, row)
    return view


def _move(state: State) -> Fold:
    def step(view: View, row: Row) -> None:
        view.state, view.state_since = state, row.time
        if state is not State.STOPPING:
            view.aim = None

    return step


def _starting(view: View, row: Row) -> None:
    _move(State.STARTING)(view, row)
    view.incarnation = row.data["incarnation"]
    view.restarts += row.data["cause"] == "backoff"
    view.stalled = False


def _held(view: View, row: Row) -> None:
    before = set(view.holds)
    view.holds = {h["holder"]: load(Hold, h) for h in row.data["holds"]}
    for holder in view.holds.keys() - before:
        hold = view.holds[holder]
        view.why["pause"] = Why(
            what="pause", at=row.time, by=hold.by, reason=hold.reason or None, command_id=row.command_id
        )


def _stopping(view: View, row: Row) -> None:
    _move(State.STOPPING)(view, row)
    view.aim = Aim[row.data["aim"].upper()]
    what = "restart" if view.aim is Aim.RESTART else "stop"
    view.why[what] = Why(
        what=what, at=row.time, by=row.data["by"], reason=row.data["reason"] or None, command_id=row.command_id
    )


def _exited(state: State) -> Fold:
    move = _move(state)

    def step(view: View, row: Row) -> None:
        move(view, row)
        view.last_exit = row.data.get("exit") or view.last_exit
        if state is State.BACKING_OFF:
            view.why["restart"] = Why(what="restart", at=row.time, reason=row.data["exit"]["error"])

    return step


def _stopped(view: View, row: Row) -> None:
    if view.state is not State.STOPPING and "by" in row.data:  # nothing was up that had to end first
        view.why["stop"] = Why(
            what="stop", at=row.time, by=row.data["by"], reason=row.data["reason"] or None, command_id=row.command_id
        )
    _exited(State.STOPPED)(view, row)


def _disposed(view: View, row: Row) -> None:
    _move(State.DISPOSED)(view, row)
    view.leaks, view.dead_letters = row.data["leaks"], row.data["dead_letters"]
    view.holds, view.slices, view.why = {}, {}, {}  # what is left is kept for long: how it ended, and how many runs
    view.counts = {name: count for name, count in view.counts.items() if name in RUN_ENDS}


def _stalled(view: View, row: Row) -> None:
    view.stalled = row.data["stalled"]


def _accepted(view: View, row: Row) -> None:
    data, run_id = row.data, row.run_id
    view.owed[row.command_id or ""] = Owed(
        id=row.command_id or "", type=data["type"], body=data, principal=row.principal, run_id=run_id,
        time=row.time, seq=row.seq,
    )  # fmt: skip


def _settled(view: View, row: Row) -> None:
    view.owed.pop(row.command_id or "", None)


def _run(view: View, row: Row) -> None:
    run_id = row.run_id or ""
    run = fold_run(view.runs.get(run_id), row)
    if run is None:
        return
    view.runs[run_id] = run
    if row.type == "run.cancelled":
        view.why["cancel"] = Why(
            what="cancel", at=row.time, by=run.cancelled_by, reason=run.reason, command_id=row.data.get("through")
        )
    if row.type in RUN_ENDS:
        del view.runs[run_id]
        view.requests = {i: r for i, r in view.requests.items() if r.run_id != run_id}
        view.stalled = False
        for name, amount in run.usage.items():
            view.usage[name] = view.usage.get(name, 0) + amount
        if run.started_at and row.type == "run.completed":
            took = (epoch_ms(row.time) - epoch_ms(run.started_at)) / 1000
            done = view.counts.get("run.completed", 0)
            view.run_s += (took - view.run_s) / (min(done, 9) + 1)


def _request(view: View, row: Row) -> None:
    request_id = row.data["request_id"]
    request = fold_request(view.requests.get(request_id), row)
    if request is not None:
        view.requests[request_id] = request
        if (
            request.used
            or request.voided is not None
            or request.state in (RequestState.EXPIRED, RequestState.WITHDRAWN)
            or (request.state is RequestState.ANSWERED and request.run_id is None)
        ):
            del view.requests[request_id]
    if row.run_id is not None:
        _run(view, row)


def _patched(view: View, row: Row) -> None:
    data = row.data
    before = view.slices.get(data["slice"])
    patch = data["patch"]
    keyframe = len(patch) == 1 and patch[0]["path"] == ""
    value = patch[0]["value"] if keyframe else apply(before.value if before else None, patch)
    since = 0 if keyframe or before is None else before.since_keyframe_bytes + data["bytes"]
    view.slices[data["slice"]] = SliceValue(version=data["version"], value=value, since_keyframe_bytes=since)


_FOLDS: dict[str, Fold] = {
    "engine.starting": _starting,
    "engine.started": _move(State.RUNNING),
    "engine.held": _held,
    "engine.pausing": _move(State.PAUSING),
    "engine.paused": _move(State.PAUSED),
    "engine.resumed": _move(State.RUNNING),
    "engine.stopping": _stopping,
    "engine.dormant": _move(State.DORMANT),
    "engine.stopped": _stopped,
    "engine.crashed": _exited(State.BACKING_OFF),
    "engine.failed": _exited(State.FAILED),
    "engine.disposed": _disposed,
    "engine.stalled": _stalled,
    "command.accepted": _accepted,
    "state.patched": _patched,
    "run.output_chunk": _run,
    **dict.fromkeys(SETTLING, _settled),
    **dict.fromkeys(("run.queued", "run.started", "run.waiting", "run.interrupted", *RUN_ENDS), _run),
    **dict.fromkeys(
        (
            "request.opened",
            "request.decided",
            "request.expired",
            "request.withdrawn",
            "request.used",
            "request.voided",
            "request.escalated",
        ),
        _request,
    ),
}
