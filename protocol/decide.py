"""Whether an actor that exited comes back, and when: pure.

The windows are sliding and are counted when the failure is detected, as OTP's `supervisor` does ("Maximum Restart
Intensity"): the restart that would be number `max_restarts` + 1 within `window_s` does not happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from protocol.specs import Backoff, Policy, Restart
from protocol.states import Trigger

__all__ = ["Cause", "Decision", "Exit", "History", "decide", "delay_s", "exceeded"]


class Cause(StrEnum):
    """How an incarnation ended."""

    ENDED = "ended"  # it was asked to
    FINISHED = "finished"  # by itself, and well
    CRASHED = "crashed"  # by an exception
    UNMENDABLE = "unmendable"  # a boot that no retry can mend
    LOST = "lost"  # the house or the daemon went away beneath it


@dataclass(frozen=True, slots=True)
class Exit:
    """The one recorded end of an incarnation. `error`: a sentence; `ran_s`: its age; `cleanup_error`: what was raised
    while it ended, which is never a crash.
    """

    cause: Cause
    error: str | None = None
    ran_s: float = 0.0
    cleanup_error: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What `decide` remembers of an engine: when it was restarted, and how many times in a row without being stable."""

    times: tuple[float, ...] = ()
    streak: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """`trigger`: CRASHED (restart after `delay_s`), GAVE_UP or ENDED; `counted`: whether it takes a place in the
    windows.
    """

    trigger: Trigger
    delay_s: float = 0.0
    counted: bool = False
    history: History = History()


def exceeded(times: Sequence[float], now: float, max_restarts: int, window_s: float) -> bool:
    """Whether one more restart at `now` would be more than `max_restarts` within `window_s`."""
    return sum(1 for t in times if t > now - window_s) >= max_restarts


def delay_s(backoff: Backoff, streak: int, roll: float) -> float:
    """The pause before restart number `streak` (from 1) in a row; `roll` in [0, 1) spreads it by +-jitter."""
    grown = backoff.min_s * backoff.factor ** min(streak - 1, 64) if backoff.min_s else 0.0
    return min(backoff.max_s, grown) * (1 + backoff.jitter * (2 * roll - 1))


def decide(restart: Restart, history: History, exit: Exit, now: float, roll: float = 0.5) -> Decision:
    """Restart, give up, or let it be ended. `roll`: a random number in [0, 1) for the jitter."""
    if exit.cause is Cause.UNMENDABLE:
        return Decision(Trigger.GAVE_UP, history=history)
    well = exit.cause is Cause.FINISHED
    if restart.policy is Policy.TEMPORARY or (well and restart.policy is Policy.TRANSIENT):
        return Decision(Trigger.ENDED if well else Trigger.GAVE_UP, history=history)
    recent = tuple(t for t in history.times if t > now - restart.window_s)
    if exceeded(recent, now, restart.max_restarts, restart.window_s):
        return Decision(Trigger.GAVE_UP, history=replace(history, times=recent))
    streak = 1 if exit.ran_s >= restart.stable_s else history.streak + 1
    after = History((*recent, now), streak)
    return Decision(Trigger.CRASHED, delay_s(restart.backoff, streak, roll), counted=True, history=after)
