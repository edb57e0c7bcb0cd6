"""How long to wait before the next attempt: pure arithmetic."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_ATTEMPTS", "MAX_DELAY_S", "delay_s"]

MAX_ATTEMPTS: Final = 15
"""With the delays below: about a day."""

MIN_DELAY_S: Final = 1.0
MAX_DELAY_S: Final = 4 * 3600.0
FACTOR: Final = 3.0
SPREAD: Final = 0.2


def delay_s(attempts: int, chance: float, retry_after_s: float | None = None) -> float:
    """After so many failed attempts at one event (from 1): 1 s, 3 s, 9 s ... 4 h, spread by a fifth to either side.

    Args:
        attempts: how many have failed.
        chance: 0 to 1, for the spread.
        retry_after_s: what the receiver asked for; kept where it is longer, up to MAX_DELAY_S.

    """
    delay = min(MAX_DELAY_S, MIN_DELAY_S * FACTOR ** min(attempts - 1, 20))
    spread = delay * (1 + SPREAD * (2 * chance - 1))
    return max(spread, min(retry_after_s or 0.0, MAX_DELAY_S))
