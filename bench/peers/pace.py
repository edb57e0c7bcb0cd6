"""The events that every peer offers: the same bytes, as many per second, counted from the clock and not from ticks."""

from __future__ import annotations

import json
import time

__all__ = ["TICK_S", "Pace", "event"]

TICK_S = 0.01


class Pace:
    """How many events are due now."""

    def __init__(self, per_second: float) -> None:
        self._per_second, self._since, self._done = per_second, time.monotonic(), 0

    def due(self) -> range:
        """The numbers of the events that came due since the last call."""
        before = self._done
        self._done = int((time.monotonic() - self._since) * self._per_second)
        return range(before, self._done)


def event(number: int) -> str:
    """About as long as an event of the house."""
    envelope = {"seq": number, "engine_seq": number, "id": f"00000000.{number}", "type": "ticker.tick"}
    return json.dumps(envelope | {"engine_id": "ticker", "data": {"t": time.time(), "text": "x" * 100}})
