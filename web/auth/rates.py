"""How often a key may ask: a window that slides, not one that resets, so that no burst fits around its edge.

Two windows per key: one for most routes and one for what must never starve (commands such as pause, dispose,
cancel, replies), so that a client that polls too much can still stop what it started. A window remembers the times
of the requests that it let in and nothing of the refused ones, so its memory is bounded by the rate. Headers follow
the IETF draft "RateLimit header fields for HTTP".
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import trio

from protocol.errors import RateLimited
from web.auth.principal import Principal

__all__ = ["WINDOW_S", "Rates", "Turn"]

WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What the rate says of one request: the headers of its answer, and the refusal if it is one too many."""

    headers: tuple[tuple[bytes, bytes], ...] = ()
    refused: RateLimited | None = None


class Rates:
    """Every limited key's windows. Times are the monotonic clock's."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, bool], deque[float]] = {}

    def take(self, principal: Principal, *, urgent: bool) -> Turn:
        """Count one request, unless it is refused."""
        if principal.rate is None:
            return Turn()
        window = self._windows.setdefault((principal.name, urgent), deque())
        now = trio.current_time()
        while window and window[0] <= now - WINDOW_S:
            window.popleft()
        admitted = len(window) < principal.rate
        if admitted:
            window.append(now)
        wait_s = max(1, math.ceil(window[0] + WINDOW_S - now))
        name = b'"urgent"' if urgent else b'"default"'
        headers = (
            (b"ratelimit-policy", b"%s;q=%d;w=%d" % (name, principal.rate, WINDOW_S)),
            (b"ratelimit", b"%s;r=%d;t=%d" % (name, principal.rate - len(window), wait_s)),
        )
        if admitted:
            return Turn(headers)
        return Turn(headers, RateLimited(f"Wait {wait_s} s, or use a key with a higher rate.", retry_after_s=wait_s))

    def forget(self, name: str) -> None:
        """The principal of this name is gone."""
        self._windows.pop((name, False), None)
        self._windows.pop((name, True), None)
