"""Names: how ids are made, and which texts may be one.

Every generated id is a prefix that says what it names, and a UUIDv7 (RFC 9562, 5.7): 48 bits of Unix milliseconds, then
74 random bits. Sorted as text they are sorted by age, which keeps index pages warm. Clock and randomness are given from
outside, so that a seeded schedule makes the same ids each time.

`Ids` keeps time and random bits as one number. In a new millisecond it draws a fresh one; otherwise, also when the
clock was set back, it adds a random step to the last (RFC 9562, 6.2, method 2), and a carry simply runs over into
the time.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = [
    "RESERVED_PREFIXES",
    "Ids",
    "event_id",
    "parse_event_id",
    "valid_engine_id",
    "valid_key",
]

RESERVED_PREFIXES = ("eng_", "run_", "cmd_", "req_")

_ENGINE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_EVENT_ID = re.compile(r"(?:([0-9a-f]{8})\.)?(0|[1-9][0-9]{0,17})")  # 18 digits: always fits a signed 64-bit column

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62


class Ids:
    """A source of rising ids. `wall_ms()`: Unix time in ms; `randbits(n)`: n random bits, as `Random.getrandbits`."""

    def __init__(self, wall_ms: Callable[[], int], randbits: Callable[[int], int]) -> None:
        self._wall_ms = wall_ms
        self._randbits = randbits
        self._last = -1

    def new(self, prefix: str) -> str:
        """`<prefix>_<32 lower-case hex digits>`, whose hex is higher than that of every id made here before.

        Raises OverflowError when the clock is past the year 10889, where UUIDv7 ends.
        """
        now = self._wall_ms()
        if now > self._last >> 74:
            self._last = now << 74 | self._randbits(74)
        else:
            self._last += 1 + self._randbits(32)
        time, rand_a, rand_b = self._last >> 74, self._last >> 62 & 0xFFF, self._last & (1 << 62) - 1
        uuid = time << 80 | _VERSION_7 | rand_a << 64 | _VARIANT | rand_b
        return f"{prefix}_{uuid.to_bytes(16, 'big').hex()}"


def valid_engine_id(text: str) -> bool:
    """Whether a client may choose this engine id. It may not take one of ours: those begin with a reserved prefix."""
    return _ENGINE_ID.fullmatch(text) is not None and not text.startswith(RESERVED_PREFIXES)


def valid_key(text: str) -> bool:
    """Whether this may be an engine's key in a pool: 1 to 128 printable characters (a space is one) without `/`."""
    return 1 <= len(text) <= 128 and text.isprintable() and "/" not in text


def event_id(era: str, seq: int) -> str:
    """The SSE id of a durable row: `<era>.<seq>`, the era being the store's 8 hex characters."""
    return f"{era}.{seq}"


def parse_event_id(text: str) -> tuple[str | None, int]:
    """The (era, seq) of an event id; a lone `0` means "from the oldest row kept" and gives (None, 0).

    Each position has exactly one text: no sign, no leading zero, no other digits. Raises ValueError for all else.
    """
    match = _EVENT_ID.fullmatch(text)
    if match is None or (match[1] is None and text != "0"):
        raise ValueError("an event id is `<era>.<seq>`, as the stream sent it, or `0` for the oldest event kept")
    return match[1], int(match[2])
