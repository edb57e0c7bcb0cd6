"""The audit trail: one row for each request that would change something, also when it was refused.

An audit row is a row of the journal like any other, under the same hash chain, without a place in any engine's own
sequence. Whoever journals the first thing that a request causes takes the request's trail along in the same write, so
there is no command without its row and no row without its command; what was refused gets its row by itself.
"""

from __future__ import annotations

from typing import Any

from protocol.audit import Outcome
from protocol.events import Row

__all__ = ["Trail"]


class Trail:
    """The row that one request owes. `principal`: who asks, once that is known."""

    def __init__(self, principal: str | None = None, **facts: Any) -> None:
        self.principal = principal
        self.taken = False
        self._facts = facts

    def note(self, **facts: Any) -> None:
        """Add to what the row will say (method, path, address, ...), for as long as it is not taken."""
        self._facts |= facts

    def take(self, outcome: Outcome, *, time: str, command_id: str | None = None, **more: Any) -> tuple[Row, ...]:
        """The row, the first time; nothing afterwards. Whoever takes it journals it."""
        if self.taken:
            return ()
        self.taken = True
        data = {"outcome": outcome.value, **self._facts, **more}
        return (Row(type=f"audit.{outcome}", time=time, data=data, command_id=command_id, principal=self.principal),)

    def give_back(self) -> None:
        """What was taken was not stored: the request owes its row again."""
        self.taken = False
