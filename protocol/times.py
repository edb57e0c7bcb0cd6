"""Times of day as everything here writes them: RFC 3339, UTC, milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

__all__ = ["epoch_ms", "retry_after_s", "rfc3339"]


def epoch_ms(time: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def rfc3339(ms: int) -> str:
    """The time so many milliseconds after the epoch."""
    return f"{_second(ms // 1000)}.{ms % 1000:03d}Z"


def retry_after_s(text: str, now: float) -> float | None:
    """The seconds from `now` (since the epoch) that a `Retry-After` asks for: seconds or a date (RFC 9110 10.2.3); None
    for anything else.
    """
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now)


@lru_cache(maxsize=16)  # rows come many to a second, and the second is what costs
def _second(since_epoch: int) -> str:
    return datetime.fromtimestamp(since_epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")
