"""What the daemon hears of its house: counts, spans, and a log line for what somebody should look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import structlog
from structlog.contextvars import bind_contextvars, reset_contextvars

from protocol.events import RUN_ENDS, Row
from protocol.specs import Spec
from protocol.trace import Trace
from protocol.view import View
from web.metrics import EngineCounts
from web.traces import Traces

__all__ = ["HouseObserver"]

log = structlog.get_logger("enginehouse.engines")

TEXT_CHARS: Final = 1000
_WATCHED: Final = frozenset(
    {
        "run.started",
        "run.waiting",
        "run.interrupted",
        *RUN_ENDS,
        "engine.starting",
        "engine.crashed",
        "engine.failed",
        "engine.stalled",
        "engine.disposed",
        "dead_letter.added",
    }
)


class HouseObserver:
    """An `actors.observer.Observer`. What an engine's own code logs carries its `engine_id`, `pool` and `run_id`."""

    def __init__(self, counts: EngineCounts, traces: Traces) -> None:
        self._counts = counts
        self._traces = traces

    def folded(self, row: Row, view: View) -> None:
        if row.type not in _WATCHED:  # nearly all rows of a busy house
            return
        self._counts.row(row)
        self._traces.row(row, view)
        if row.type in _LINES:
            _say(row)

    def inside(self, spec: Spec, run_id: str | None) -> AbstractContextManager[None]:
        if run_id is None:
            return _bound(engine_id=spec.id, pool=spec.pool)
        return self._inside_run(run_id)

    @contextmanager
    def _inside_run(self, run_id: str) -> Iterator[None]:
        with _bound(run_id=run_id), self._traces.inside(run_id):
            yield

    def trace(self, run_id: str) -> Trace | None:
        return self._traces.of_run(run_id)

    def spawned(self, run_id: str, name: str, pid: int) -> None:
        self._traces.spawned(run_id, name, pid)


@contextmanager
def _bound(**names: str) -> Iterator[None]:
    tokens = bind_contextvars(**names)
    try:
        yield
    finally:
        reset_contextvars(**tokens)


def _crashed(data: dict[str, Any]) -> dict[str, Any]:
    return {"event": "an engine crashed", "error": _text(data["exit"]["error"]), "delay_s": data["delay_s"]}


def _failed(data: dict[str, Any]) -> dict[str, Any]:
    return {"event": "an engine was given up", "error": _text(data["exit"]["error"])}


def _stalled(data: dict[str, Any]) -> dict[str, Any] | None:
    return {"event": "a run makes no progress", **data} if data["stalled"] else None


def _disposed(data: dict[str, Any]) -> dict[str, Any] | None:
    return {"event": "an engine left something behind", "leaks": data["leaks"]} if data["leaks"] else None


_LINES: Final = {
    "engine.crashed": ("warning", _crashed),
    "engine.failed": ("error", _failed),
    "engine.stalled": ("warning", _stalled),
    "engine.disposed": ("error", _disposed),
}


def _say(row: Row) -> None:
    level, about = _LINES[row.type]
    line = about(row.data)
    if line is not None:
        names = {"engine_id": row.engine_id, "pool": row.pool, "incarnation": row.incarnation, "run_id": row.run_id}
        getattr(log, level)(**{name: value for name, value in names.items() if value is not None}, **line)


def _text(text: str | None) -> str | None:
    return text[:TEXT_CHARS] if text else text
