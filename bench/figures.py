"""What a bench gives: figures with their references and budgets, and the one table they make."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

__all__ = ["Budget", "Figure", "Scale", "as_json", "as_markdown", "at_least", "at_most", "figure"]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much a row measures: `rounds` of everything, at full or at quick size."""

    rounds: int
    quick: bool

    def of(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Budget:
    """`limit` of the ratio, or of the value itself where a figure has no reference."""

    way: Literal["at least", "at most"]
    limit: float

    def met(self, figure: float) -> bool:
        return figure >= self.limit if self.way == "at least" else figure <= self.limit


def at_least(limit: float) -> Budget:
    return Budget("at least", limit)


def at_most(limit: float) -> Budget:
    return Budget("at most", limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """`value`: ours, the median of the rounds; `against` and `reference`: what it is compared with, and its median;
    `ratio`: the median of the rounds' own ratios (None without a reference); `budget` None: reported only.
    """

    what: str
    unit: str
    value: float
    against: str = ""
    reference: float | None = None
    ratio: float | None = None
    budget: Budget | None = None
    rounds: int = 1

    @property
    def met(self) -> bool | None:
        """Whether the budget is met; None without one."""
        return None if self.budget is None else self.budget.met(self.value if self.ratio is None else self.ratio)


def figure(
    what: str,
    unit: str,
    ours: Sequence[float],
    against: str = "",
    theirs: Sequence[float] | None = None,
    budget: Budget | None = None,
) -> Figure:
    """A figure from what the rounds measured; both sides in the same order of rounds."""
    ratio = None if theirs is None else median(a / b if b else float("inf") for a, b in zip(ours, theirs, strict=True))
    return Figure(
        what=what, unit=unit, value=median(ours), against=against, reference=None if theirs is None else median(theirs),
        ratio=ratio, budget=budget, rounds=len(ours),
    )  # fmt: skip


Row = Callable[[Scale], list[Figure]]
"""One row of the table, by the name of its function."""


def as_json(about: dict[str, str], rows: dict[str, list[Figure]]) -> str:
    shown: dict[str, Any] = {"about": about, "rows": {}}
    for name, figures in rows.items():
        shown["rows"][name] = [{**asdict(one), "met": one.met} for one in figures]
    return json.dumps(shown, indent=1) + "\n"


def as_markdown(about: dict[str, str], rows: dict[str, list[Figure]]) -> str:
    lines = ["# Measured", "", *(f"- {name}: {value}" for name, value in about.items()), ""]
    lines += ["| row | what | ours | against | theirs | ratio | budget | met |", "|---|---|--:|---|--:|--:|---|---|"]
    for name, figures in rows.items():
        for one in figures:
            cells = (
                name,
                one.what,
                f"{_short(one.value)} {one.unit}",
                one.against,
                "" if one.reference is None else f"{_short(one.reference)} {one.unit}",
                "" if one.ratio is None else f"{one.ratio:.2f}x",
                _budget(one),
                {None: "", True: "yes", False: "**no**"}[one.met],
            )
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _budget(one: Figure) -> str:
    if one.budget is None:
        return ""
    return f"{one.budget.way} {one.budget.limit:g}" + (f" {one.unit}" if one.ratio is None else "x")


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
