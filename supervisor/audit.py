"""The audit trail: one row for each request that would change something, also when it was refused.

An audit row is a row of the journal like any other, under the same hash chain, without a place in any engine's own
sequence. Whoever journals the first thing that a request causes takes the request's trail along in the same write, so
there is no command without its row and no row without its command; what was refused gets its row by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from protocol.events import Row

__all__ = ["Outcome", "Trail"]


class Outcome(StrEnum):
    """What became of a request. `accepted`: its effect is in the same write, or was made durable there."""

    ACCEPTED = "accepted"
    REPLAYED = "replayed"  # the first request under its idempotency key had the effect
    REFUSED = "refused"
    ABANDONED = "abandoned"  # the client went away before anything was decided


class Trail:
    """The row that one request owes. `facts`: what is known before anything is decided (method, path, address, ...)."""

    def __init__(self, principal: str | None, facts: Mapping[str, Any]) -> None:
        self._principal = principal
        self._facts = dict(facts)
        self.taken = False

    def take(self, outcome: Outcome, *, time: str, command_id: str | None = None, **more: Any) -> tuple[Row, ...]:
        """The row, the first time; nothing afterwards. Whoever takes it journals it."""
        if self.taken:
            return ()
        self.taken = True
        data = {"outcome": outcome.value, **self._facts, **more}
        return (Row(type=f"audit.{outcome}", time=time, data=data, command_id=command_id, principal=self._principal),)
