"""What an engine should be: the data that a person writes down once and the house keeps.

Frozen dataclasses; `parse` in `protocol/edge.py` validates them strictly at the edge. Durations are seconds (`_s`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field

__all__ = [
    "Backoff",
    "OnInterrupt",
    "OnStall",
    "PauseMode",
    "Policy",
    "PoolSpec",
    "Quotas",
    "Restart",
    "Spec",
    "Strategy",
]

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Seconds = Annotated[float, Field(ge=0, le=10**9)]
Positive = Annotated[float, Field(gt=0, le=10**9)]
Count = Annotated[int, Field(ge=0, le=10**9)]


def _rising(levels: tuple[float, ...]) -> tuple[float, ...]:
    if any(later <= earlier for earlier, later in pairwise(levels)):
        raise ValueError("each level has to come later than the one before it")
    return levels


MAX_LEVELS = 5
Levels = Annotated[tuple[Positive, ...], Field(max_length=MAX_LEVELS), AfterValidator(_rising)]
"""How many seconds after the opening of a request each level of people is told that nobody decided."""
Labels = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=256)]],
    Field(max_length=64),
]


class Policy(StrEnum):
    """Which exits are restarted (the restart types of OTP's `supervisor`)."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


class OnInterrupt(StrEnum):
    """What becomes of a run that was in hand when its actor or the daemon died."""

    FAIL = "fail"
    RETRY = "retry"
    RESUME = "resume"


class OnStall(StrEnum):
    """What follows the report that a run makes no progress."""

    REPORT = "report"
    INTERRUPT = "interrupt"
    RESTART = "restart"


class PauseMode(StrEnum):
    SOFT = "soft"
    INTERRUPT = "interrupt"
    FREEZE = "freeze"


class Strategy(StrEnum):
    """Who else restarts when one engine of a pool crashes (OTP's restart strategies)."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delay before restart n in a row: min(max_s, min_s * factor**(n-1)), spread by +-jitter."""

    __pydantic_config__ = STRICT
    min_s: Seconds = 0.2
    max_s: Seconds = 30.0
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """When a crashed actor comes back. More than `max_restarts` in `window_s`: the engine is failed."""

    __pydantic_config__ = STRICT
    policy: Policy = Policy.PERMANENT
    max_restarts: Count = 5
    window_s: Positive = 60.0
    backoff: Backoff = field(default_factory=Backoff)
    stable_s: Seconds = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One engine. `config` was validated by its kind; `on_interrupt` None means the kind's own default."""

    __pydantic_config__ = STRICT
    id: str
    uid: str
    pool: str
    kind: str
    key: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)
    restart: Restart = field(default_factory=Restart)
    mailbox_size: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    idle_s: Positive | None = None
    stall_s: Positive | None = 300.0
    on_stall: OnStall = OnStall.REPORT
    pause_timeout_s: Seconds = 30.0
    grace_s: Seconds = 10.0
    boot_s: Positive = 30.0
    on_interrupt: OnInterrupt = OnInterrupt.FAIL
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Budgets of a pool; None means none. Past one, new runs get `quota-exceeded`."""

    __pydantic_config__ = STRICT
    runs_per_minute: Annotated[int, Field(ge=1, le=10**6)] | None = None
    tokens: Annotated[int, Field(ge=1)] | None = None
    cost_usd: Positive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """What `get_or_spawn` makes for a new key."""

    __pydantic_config__ = STRICT
    kind: str
    config: dict[str, Any] = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """Engines that belong together. `max_restarts` in `window_s` counts the restarts of the whole pool (None: no
    limit). `four_eyes`: who asked for a run may not approve what it asks; `require_digest`: an approval has to name the
    digest of what it approves; `escalate_after_s`: for requests that say nothing themselves.
    """

    __pydantic_config__ = STRICT
    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    template: Template | None = None
    max_engines: Annotated[int, Field(ge=1, le=10**6)] = 100
    max_running: Annotated[int, Field(ge=1, le=10**6)] | None = None
    idle_s: Positive | None = None
    expire_s: Positive | None = None
    strategy: Strategy = Strategy.ONE_FOR_ONE
    max_restarts: Count | None = None
    window_s: Positive = 60.0
    quotas: Quotas = field(default_factory=Quotas)
    four_eyes: bool = False
    require_digest: bool = False
    escalate_after_s: Levels = ()
    draining: bool = False
