"""When a schedule is due: pure arithmetic on Unix milliseconds, without a clock.

A cron expression is read in its time zone as Debian's cron does (cronsim): a job at a fixed time that falls into the
hour that is skipped in spring runs right after it, one in the hour that comes twice in autumn runs the first time, and
one with a star in its hours or minutes follows the time that passes. Every time that is given lies after the one
before it, so a change of the clocks never gives the same one twice.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from protocol.edge import wrong
from supervisor.schedules.values import CatchUp

__all__ = ["CATCH_UP_MAX", "ON_TIME_MS", "Cron", "Due", "Interval", "Plan", "due", "jitter_of", "plan_of"]

ON_TIME_MS = 60_000
"""What is at most so late has not been missed: nobody looks at the wall clock more often than that."""

CATCH_UP_MAX = 100
"""How many missed times are made up for at most, the latest ones."""

LOOKS = 1000
"""How many missed times are counted at most in one go."""


class Plan(Protocol):
    """Rising times."""

    def after(self, ms: int) -> int:
        """The first time after `ms`."""


@dataclass(frozen=True, slots=True)
class Cron:
    """`expression`: five fields."""

    expression: str
    zone: ZoneInfo

    def after(self, ms: int) -> int:
        """Raises StopIteration when there is none within 50 years."""
        for at in CronSim(self.expression, datetime.fromtimestamp(ms / 1000, self.zone)):
            found = round(at.timestamp() * 1000)
            if found > ms:  # in the hour that comes twice, cronsim begins with its first half
                return found
        raise StopIteration


@dataclass(frozen=True, slots=True)
class Interval:
    """Every `every_ms`, counted from `anchor_ms`, so that restarts and delays do not shift it."""

    every_ms: int
    anchor_ms: int

    def after(self, ms: int) -> int:
        return self.anchor_ms + ((ms - self.anchor_ms) // self.every_ms + 1) * self.every_ms


def plan_of(*, cron: str | None, every_s: float | None, timezone: str, anchor_ms: int) -> Plan:
    """The plan of a schedule that begins at `anchor_ms`. Raises ValidationFailed."""
    if (cron is None) == (every_s is None):
        raise wrong("cron", "Give either cron or every_s: when it is due.")
    try:
        zone = ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):  # no such name, a path, or a folder of names
        raise wrong("timezone", f"{timezone!r} is no time zone; use an IANA name such as Europe/Berlin.") from None
    if cron is None:
        assert every_s is not None
        return Interval(max(round(every_s * 1000), 1), anchor_ms)
    if not cron.isascii() or len(cron.split()) != 5:
        raise wrong("cron", f"{cron!r} is no cron expression; use five fields: minute hour day month weekday.")
    plan = Cron(cron, zone)
    try:
        plan.after(anchor_ms)
    except CronSimError as error:
        raise wrong("cron", f"{cron!r} is no cron expression ({error}); see crontab(5).") from None
    except (StopIteration, OverflowError):
        raise wrong("cron", f"{cron!r} is never due; check its day and month.") from None
    return plan


def jitter_of(id: str, ms: int, jitter_ms: int) -> int:
    """How much later than `ms` a schedule acts, below `jitter_ms`: the same at every look, also after a restart."""
    chance = int.from_bytes(hashlib.sha256(f"{id}:{ms}".encode()).digest()[:6], "big")
    return chance * jitter_ms >> 48


@dataclass(frozen=True, slots=True)
class Due:
    """`fire`: the times to act for now, in order; `missed`: how many others have passed; `latest`: the last of all."""

    fire: tuple[int, ...]
    missed: int
    latest: int


def due(plan: Plan, next_ms: int, now_ms: int, catch_up: CatchUp, jitter: Callable[[int], int]) -> Due | None:
    """What is due at `now_ms` when `next_ms` is the first time that was not dealt with; None when it lies ahead."""
    passed: deque[int] = deque(maxlen=CATCH_UP_MAX)
    count, at = 0, next_ms
    while at + jitter(at) <= now_ms:
        passed.append(at)
        count += 1
        if count == LOOKS:  # too many to look at each: go on where, at their pace, the latest begin
            ahead = now_ms - (at - next_ms) // LOOKS * CATCH_UP_MAX
            at = max(at, ahead)
        if count > LOOKS * 2:
            break
        at = plan.after(at)
    if not passed:
        return None
    latest = passed[-1]
    if catch_up is CatchUp.ALL:
        fire = tuple(passed)
    elif catch_up is CatchUp.ONE or now_ms - latest - jitter(latest) <= ON_TIME_MS:
        fire = (latest,)
    else:
        fire = ()
    return Due(fire, count - len(fire), latest)
