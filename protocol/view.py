"""What the journal says of one engine: the fold of its rows, and nothing else.

Views are what `GET`, lists, streams and `?at=` read; the runtime decides from the cell and never from here (at rest the
two are equal, and a test says so). A view holds what is open; ended runs and requests are in the store's records.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from protocol.requests import Request
from protocol.runs import Run
from protocol.specs import PauseMode, Spec
from protocol.states import Aim, State

__all__ = ["Hold", "Owed", "SliceValue", "View", "Why"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A named reason to be paused. `by`: the principal who placed it; `at`: RFC 3339."""

    holder: str
    mode: PauseMode
    reason: str = ""
    by: str | None = None
    at: str = ""


@dataclass(slots=True, kw_only=True)
class SliceValue:
    """A slice's value; `since_keyframe_bytes`: patch bytes since the last whole replace."""

    version: int
    value: Any
    since_keyframe_bytes: int = 0


@dataclass(slots=True, kw_only=True)
class Owed:
    """An accepted command that has not had its end yet."""

    id: str
    type: str
    body: dict[str, Any]
    principal: str | None
    run_id: str | None
    time: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The last stop, pause, restart or cancel: what, who, why and through which command."""

    what: str
    at: str
    by: str | None = None
    reason: str | None = None
    command_id: str | None = None


@dataclass(slots=True, kw_only=True)
class View:
    """One engine. `requests` holds the pending ones and the answers not used yet; `counts`, `usage`: totals since
    spawn; `run_s`: how long a run takes, lately.
    """

    spec: Spec
    state: State = State.STOPPED
    aim: Aim | None = None
    holds: dict[str, Hold] = field(default_factory=dict)
    incarnation: int = 0
    stalled: bool = False
    runs: dict[str, Run] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    owed: dict[str, Owed] = field(default_factory=dict)
    slices: dict[str, SliceValue] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    usage: dict[str, float] = field(default_factory=dict)
    run_s: float = 0.0
    restarts: int = 0
    last_exit: dict[str, Any] | None = None
    leaks: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: int = 0
    why: dict[str, Why] = field(default_factory=dict)
    created_at: str = ""
    state_since: str = ""
    last_row_at: str = ""
    engine_seq: int = 0
    seq: int = 0

    @property
    def active_run(self) -> Run | None:
        """The run in hand."""
        return next((r for r in self.runs.values() if r.status in ("running", "waiting")), None)
