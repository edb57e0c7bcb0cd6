"""What a schedule is: what a client sends, what it is shown, and what is stored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Discriminator, Field

from protocol.authority import Scope
from protocol.bodies import NewRun
from protocol.commands import Cancel, Pause, Restart, Resume, Signal, Start, Stop
from protocol.specs import STRICT

__all__ = ["CatchUp", "Firing", "NewSchedule", "Overlap", "PatchSchedule", "ScheduleInfo", "StoredSchedule"]

Text = Annotated[str, Field(min_length=1, max_length=128)]
ScheduledCommand = Annotated[Start | Stop | Restart | Pause | Resume | Cancel | Signal, Discriminator("type")]
"""What a schedule may command beside runs. Deciding requests and disposing of engines is left to people."""


class Overlap(StrEnum):
    """What happens when the run of the last time has not ended: leave this time out, queue it behind, or cancel the
    last one first.
    """

    SKIP = "skip"
    ENQUEUE = "enqueue"
    CANCEL = "cancel"


class CatchUp(StrEnum):
    """What is made up for when times passed while nobody looked: nothing, the latest, or all (the latest 100)."""

    NONE = "none"
    ONE = "one"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSchedule:
    """`POST /schedules`. When: `cron` (five fields, in `timezone`) or `every_s`. Where: `engine`, or `pool` and `key`
    (the engine of that key is spawned from the pool's template when it is not there). What: `run` or `command`.
    """

    __pydantic_config__ = STRICT
    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")] | None = None
    description: Annotated[str, Field(max_length=1000)] = ""
    cron: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    every_s: Annotated[float, Field(ge=1, le=366 * 86400)] | None = None
    timezone: Annotated[str, Field(min_length=1, max_length=64)] = "UTC"
    engine: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    pool: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    key: Text | None = None
    run: NewRun | None = None
    command: ScheduledCommand | None = None
    overlap: Overlap = Overlap.SKIP
    jitter_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
    catch_up: CatchUp = CatchUp.ONE
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSchedule:
    """`PATCH /schedules/{id}`. Whoever enables a schedule answers for it from then on."""

    __pydantic_config__ = STRICT
    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """One time that a schedule was due. `due_at` None: it was asked for by hand. `result`: `fired` (`run_id` or
    `command_id` says what came of it), `skipped` (the last run goes on), `refused` (by the engine or a limit), `missed`
    (it had passed when it was noticed); `reason` says why it was not fired.
    """

    due_at: str | None
    at: str
    result: Literal["fired", "skipped", "refused", "missed"]
    reason: str | None = None
    run_id: str | None = None
    command_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleInfo:
    """A schedule as it is shown. `state`: active, disabled (by somebody), or suspended (`reason` says why: its creator
    may not do it any more); `next_at`: when it is due next, before jitter; `fired`, `skipped`, `refused`, `missed`: how
    often; `last_run_id`: the last run that it started.
    """

    id: str
    description: str
    cron: str | None
    every_s: float | None
    timezone: str
    engine: str | None
    pool: str
    key: str | None
    run: NewRun | None
    command: ScheduledCommand | None
    overlap: Overlap
    jitter_s: float
    catch_up: CatchUp
    state: Literal["active", "disabled", "suspended"]
    reason: str | None
    created_by: str | None
    created_at: str
    next_at: str | None
    last: Firing | None = None
    last_run_id: str | None = None
    fired: int = 0
    skipped: int = 0
    refused: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSchedule:
    """The document. `scopes`, `pools`: of the creator when it was made (or enabled); `pools` None: all."""

    info: ScheduleInfo
    scopes: list[Scope]
    pools: list[str] | None
