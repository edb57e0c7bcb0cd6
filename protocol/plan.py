"""What a command does to an engine: one table, one pure function.

Legality is decided twice with this function: when a command is submitted (a refusal costs nothing) and when it is
delivered (an earlier row of the same batch may have moved the engine). A cell of the table is a `Step`, which the
engine's cell carries out; a `REPEAT` is recorded and changes nothing, a `REFUSED` is answered with the state and the
verbs that are allowed there. `docs/lifecycle.md` prints the table and a test compares the two.
"""

# ruff: noqa: E501 - the table of commands reads as a table
from __future__ import annotations

from enum import StrEnum

from protocol.states import Aim, State

__all__ = ["AIMS", "COLUMNS", "PLANS", "REPLIES", "Column", "Step", "Verb", "allowed", "column", "plan"]


class Verb(StrEnum):
    """What can be asked of an engine; the wire's `approve`, `reject`, `skip` and `answer` are all `REPLY`."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    RESTART = "restart"
    DISPOSE = "dispose"
    SUBMIT = "submit"
    SIGNAL = "signal"
    CANCEL = "cancel"
    REPLY = "reply"


class Step(StrEnum):
    """What the cell does."""

    REPEAT = "repeat"  # already so: recorded, nothing changes
    REFUSED = "refused"
    NOTED = "noted"  # only the set of holds changes
    BOOT = "boot"  # held: park
    BOOT_FRESH = "boot, history cleared"  # held: park
    WAKE = "boot only if work waits"
    HOLD = "hold"
    RELEASE = "release"
    STOP = "stop"
    STOP_NOW = "stop, grace 0"
    RAISE = "aim rises"  # or stays, and only the budget shrinks
    ENDED = "ended"
    DISPOSED = "disposed"
    QUEUE = "queue"
    QUEUE_WAKE = "queue, boot unless held"
    CANCEL = "cancel"
    REPLY = "reply"


class Column(StrEnum):
    """A state, with `paused` split by whether there is an actor, and `stopping` by its aim."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED_ACTOR = "paused, actor"
    PAUSED_NONE = "paused, none"
    BACKING_OFF = "backing_off"
    DORMANT = "dormant"
    STOPPING = "stopping"
    FAILED = "failed"
    DISPOSED = "disposed"


COLUMNS = tuple(Column)
REPLIES = ("approve", "reject", "skip", "answer")
"""The command types that are all `Verb.REPLY`."""
AIMS = {Verb.STOP: Aim.STOPPED, Verb.RESTART: Aim.RESTART, Verb.DISPOSE: Aim.DISPOSED}
"""Where the verbs that end an actor aim."""


def _row(*cells: Step) -> dict[Column, Step]:
    return dict(zip(COLUMNS, (*cells, Step.REFUSED), strict=True))  # a disposed engine refuses everything


_ = Step
# fmt: off
PLANS: dict[Verb, dict[Column, Step]] = {
    #                  stopped     starting    running     pausing     paused+actor paused     backing_off dormant     stopping    failed
    Verb.START:   _row(_.BOOT,     _.REPEAT,   _.REPEAT,   _.REPEAT,   _.REPEAT,   _.REPEAT,   _.BOOT,     _.BOOT,     _.REFUSED,  _.BOOT_FRESH),
    Verb.PAUSE:   _row(_.NOTED,    _.NOTED,    _.HOLD,     _.NOTED,    _.NOTED,    _.NOTED,    _.NOTED,    _.NOTED,    _.NOTED,    _.NOTED),
    Verb.RESUME:  _row(_.NOTED,    _.NOTED,    _.REPEAT,   _.RELEASE,  _.RELEASE,  _.BOOT,     _.NOTED,    _.WAKE,     _.NOTED,    _.NOTED),
    Verb.STOP:    _row(_.REPEAT,   _.STOP_NOW, _.STOP,     _.STOP_NOW, _.STOP_NOW, _.ENDED,    _.ENDED,    _.ENDED,    _.RAISE,    _.ENDED),
    Verb.RESTART: _row(_.BOOT,     _.REPEAT,   _.STOP,     _.STOP_NOW, _.STOP_NOW, _.REPEAT,   _.BOOT,     _.BOOT,     _.RAISE,    _.BOOT),
    Verb.DISPOSE: _row(_.DISPOSED, _.STOP_NOW, _.STOP,     _.STOP_NOW, _.STOP_NOW, _.DISPOSED, _.DISPOSED, _.DISPOSED, _.RAISE,    _.DISPOSED),
    Verb.SUBMIT:  _row(_.REFUSED,  _.QUEUE,    _.QUEUE,    _.QUEUE,    _.QUEUE,    _.QUEUE,    _.QUEUE,    _.QUEUE_WAKE, _.QUEUE,  _.REFUSED),
    Verb.SIGNAL:  _row(_.REFUSED,  _.QUEUE,    _.QUEUE,    _.QUEUE,    _.QUEUE,    _.QUEUE,    _.QUEUE,    _.QUEUE_WAKE, _.QUEUE,  _.REFUSED),
    Verb.CANCEL:  _row(*[_.CANCEL] * 10),
    Verb.REPLY:   _row(*[_.REPLY] * 10),
}
# fmt: on


def column(state: State, *, actor: bool) -> Column:
    """The column of the table for an engine's state."""
    if state is State.PAUSED:
        return Column.PAUSED_ACTOR if actor else Column.PAUSED_NONE
    return Column(state.value)


def plan(verb: Verb, state: State, *, actor: bool, aim: Aim | None = None, held: bool = False) -> Step:
    """What `verb` does now.

    `held`: whether the engine is held; for `resume`, whether it would still be held once this hold is lifted (then the
    set changes and nothing else). While stopping, `aim` decides: an aim only rises, and work is queued only for an
    engine that will run again.
    """
    step = PLANS[verb][column(state, actor=actor)]
    if verb is Verb.RESUME and held and step is not Step.REFUSED:
        return Step.NOTED
    if state is State.STOPPING and aim is not None:
        if step is Step.QUEUE and aim >= Aim.STOPPED:
            return Step.REFUSED
        if step is Step.RAISE and verb is not Verb.DISPOSE and aim > AIMS[verb]:
            return Step.REPEAT if verb is Verb.STOP else Step.REFUSED
    return step


def allowed(state: State, *, actor: bool, aim: Aim | None = None, held: bool = False) -> list[str]:
    """The command types that are not refused now, in the table's order: what a refusal names."""
    names: list[str] = []
    for verb in Verb:
        if plan(verb, state, actor=actor, aim=aim, held=held) is not Step.REFUSED:
            names += REPLIES if verb is Verb.REPLY else (verb.value,)
    return names
