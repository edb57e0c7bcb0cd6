"""The life of an engine: ten states, twelve triggers, one table.

Triggers are facts, not commands: what a command leads to is decided in `plan`. The table is the only place where a move
is legal or not; everything else looks up, assigns or raises. Some moves depend on whether the engine has an actor
(`paused` means that nothing runs, and that can be so with a quiesced actor or without one):

    ANY        legal with and without an actor
    ACTOR      legal only with an actor
    NO_ACTOR   legal only without one

`docs/lifecycle.md` prints the same table and a test compares the two.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

__all__ = [
    "ACTOR",
    "ANY",
    "EVENT_OF",
    "LIVE",
    "NO_ACTOR",
    "TABLE",
    "Aim",
    "IllegalMove",
    "State",
    "Trigger",
    "next_state",
]


class State(StrEnum):
    """Where an engine is."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    BACKING_OFF = "backing_off"
    DORMANT = "dormant"
    STOPPING = "stopping"
    FAILED = "failed"
    DISPOSED = "disposed"


class Trigger(StrEnum):
    """What happened to it."""

    BOOT = "boot"  # an incarnation begins
    READY = "ready"  # on_start returned
    HOLD = "hold"  # the first hold was placed
    QUIET = "quiet"  # nothing in hand and on_pause returned
    RELEASE = "release"  # the last hold was lifted
    PARK = "park"  # would run, but is held, or was shut down or lost
    STOP = "stop"  # ending begins
    SLEPT = "slept"  # ended with aim dormant
    ENDED = "ended"  # ended with aim stopped, or by itself
    DISPOSED = "disposed"  # ended with aim disposed
    CRASHED = "crashed"  # an exit that is restarted
    GAVE_UP = "gave_up"  # an exit that is not


class Aim(IntEnum):
    """Where a stopping engine goes. An aim only rises."""

    DORMANT = 1
    RESTART = 2
    PARKED = 3
    STOPPED = 4
    DISPOSED = 5


ANY, ACTOR, NO_ACTOR = "any", "actor", "no actor"

_S, _T = State, Trigger
LIVE = frozenset({_S.STARTING, _S.RUNNING, _S.PAUSING, _S.STOPPING})
"""States that always have (or are about to have) an actor; `paused` may have one."""

TABLE: dict[State, dict[Trigger, tuple[State, str]]] = {
    _S.STOPPED: {
        _T.BOOT: (_S.STARTING, ANY),
        _T.PARK: (_S.PAUSED, ANY),
        _T.DISPOSED: (_S.DISPOSED, ANY),
    },
    _S.STARTING: {
        _T.READY: (_S.RUNNING, ANY),
        _T.PARK: (_S.PAUSED, NO_ACTOR),
        _T.STOP: (_S.STOPPING, ANY),
        _T.ENDED: (_S.STOPPED, ANY),
        _T.CRASHED: (_S.BACKING_OFF, ANY),
        _T.GAVE_UP: (_S.FAILED, ANY),
    },
    _S.RUNNING: {
        _T.HOLD: (_S.PAUSING, ANY),
        _T.PARK: (_S.PAUSED, NO_ACTOR),
        _T.STOP: (_S.STOPPING, ANY),
        _T.ENDED: (_S.STOPPED, ANY),
        _T.CRASHED: (_S.BACKING_OFF, ANY),
        _T.GAVE_UP: (_S.FAILED, ANY),
    },
    _S.PAUSING: {
        _T.QUIET: (_S.PAUSED, ANY),
        _T.RELEASE: (_S.RUNNING, ANY),
        _T.PARK: (_S.PAUSED, NO_ACTOR),
        _T.STOP: (_S.STOPPING, ANY),
        _T.ENDED: (_S.STOPPED, ANY),
        _T.CRASHED: (_S.BACKING_OFF, ANY),
        _T.GAVE_UP: (_S.FAILED, ANY),
    },
    _S.PAUSED: {
        _T.BOOT: (_S.STARTING, NO_ACTOR),
        _T.RELEASE: (_S.RUNNING, ACTOR),
        _T.STOP: (_S.STOPPING, ACTOR),
        _T.ENDED: (_S.STOPPED, ANY),
        _T.DISPOSED: (_S.DISPOSED, NO_ACTOR),
        _T.CRASHED: (_S.BACKING_OFF, ACTOR),
        _T.GAVE_UP: (_S.FAILED, ACTOR),
    },
    _S.BACKING_OFF: {
        _T.BOOT: (_S.STARTING, ANY),
        _T.PARK: (_S.PAUSED, ANY),
        _T.ENDED: (_S.STOPPED, ANY),
        _T.DISPOSED: (_S.DISPOSED, ANY),
    },
    _S.DORMANT: {
        _T.BOOT: (_S.STARTING, ANY),
        _T.PARK: (_S.PAUSED, ANY),
        _T.ENDED: (_S.STOPPED, ANY),
        _T.DISPOSED: (_S.DISPOSED, ANY),
    },
    _S.STOPPING: {
        _T.BOOT: (_S.STARTING, ANY),
        _T.PARK: (_S.PAUSED, ANY),
        _T.SLEPT: (_S.DORMANT, ANY),
        _T.ENDED: (_S.STOPPED, ANY),
        _T.DISPOSED: (_S.DISPOSED, ANY),
    },
    _S.FAILED: {
        _T.BOOT: (_S.STARTING, ANY),
        _T.PARK: (_S.PAUSED, ANY),
        _T.STOP: (_S.STOPPING, ACTOR),
        _T.ENDED: (_S.STOPPED, ANY),
        _T.DISPOSED: (_S.DISPOSED, ANY),
    },
    _S.DISPOSED: {},
}


class IllegalMove(Exception):
    """A bug in the house: a trigger fired where the table has no cell. Nothing was changed."""


def next_state(state: State, trigger: Trigger, *, actor: bool) -> State:
    """The state after `trigger`, for an engine with or without an actor. Raises IllegalMove for an empty cell."""
    cell = TABLE[state].get(trigger)
    if cell is None or (cell[1] == ACTOR and not actor) or (cell[1] == NO_ACTOR and actor):
        raise IllegalMove(f"{trigger} is not legal in {state} {'with' if actor else 'without'} an actor")
    return cell[0]


EVENT_OF: dict[Trigger, str] = {
    Trigger.BOOT: "engine.starting",
    Trigger.READY: "engine.started",
    Trigger.HOLD: "engine.pausing",
    Trigger.QUIET: "engine.paused",
    Trigger.RELEASE: "engine.resumed",
    Trigger.PARK: "engine.paused",
    Trigger.STOP: "engine.stopping",
    Trigger.SLEPT: "engine.dormant",
    Trigger.ENDED: "engine.stopped",
    Trigger.DISPOSED: "engine.disposed",
    Trigger.CRASHED: "engine.crashed",
    Trigger.GAVE_UP: "engine.failed",
}
"""The one row that each move writes."""
