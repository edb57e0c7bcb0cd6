"""Budgets: what an agent may use in one run and in all, and what is left of it. Pure.

They are looked at before each call of the model, so the last one may go beyond them. A run beyond its own fails; an
engine beyond its total is held, and whoever lifts that hold grants it as much again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from actors.engine import Config
from actors.engines.agent.conversation import Conversation, Used

__all__ = ["Bounds", "Budget", "exceeded", "nearly"]

Tokens = Annotated[int, Field(ge=1, le=10**15)]
Dollars = Annotated[float, Field(gt=0, le=10**9)]


class Bounds(Config):
    """None: as much as it likes. `turns`: calls of the model."""

    tokens: Tokens | None = None
    cost_usd: Dollars | None = None
    turns: Annotated[int, Field(ge=1, le=10**9)] | None = None


class Budget(Config):
    """`run`: of each run; `total`: of the engine; `warn_at`: the share of either at which it is told."""

    run: Bounds = Bounds(turns=100)
    total: Bounds = Bounds()
    warn_at: Annotated[float, Field(gt=0, le=1)] = 0.8


def exceeded(bounds: Bounds, used: Used) -> dict[str, Any] | None:
    """The first bound that is reached, as `{what, limit, used}`."""
    return next((found for found in _each(bounds, used) if found["used"] >= found["limit"]), None)


def nearly(budget: Budget, conversation: Conversation) -> Iterator[dict[str, Any]]:
    """What is to be warned of and was not: `{what, limit, used}`, `what` such as `run.tokens`."""
    for whose, bounds, used in (
        ("run", budget.run, conversation.run),
        ("total", budget.total, conversation.granted),
    ):
        for found in _each(bounds, used):
            what = f"{whose}.{found['what']}"
            if found["used"] >= budget.warn_at * found["limit"] and what not in conversation.warned:
                yield {**found, "what": what}


def _each(bounds: Bounds, used: Used) -> Iterator[dict[str, Any]]:
    for what, limit in (("tokens", bounds.tokens), ("cost_usd", bounds.cost_usd), ("turns", bounds.turns)):
        if limit is not None:
            yield {"what": what, "limit": limit, "used": getattr(used, what)}
