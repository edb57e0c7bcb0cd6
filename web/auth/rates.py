"""How often somebody may ask, in any 60 s (`web/auth/windows.py`).

Two windows per key: one for most requests and one for what must never starve (pause, cancel, dispose, replies), so that
a client that polls or submits too much can still stop what it started. Where only the body tells which of the two a
request belongs to, it needs a place in either of them to be read at all, and counts where it belongs once it was. And
one window per address for credentials that are refused: whoever guesses is told to wait, whoever holds a key is not.

A window remembers the requests that it let in and nothing of the refused ones, so its memory is bounded by its rate.
Headers follow the IETF draft "RateLimit header fields for HTTP".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from protocol.errors import RateLimited, Unauthenticated
from web.asgi import Scope
from web.auth.principal import Principal
from web.auth.windows import WINDOW_S, Windows
from web.peer import address_of, group_of

__all__ = ["ADDRESSES", "FREE", "URGENT_COMMANDS", "Failures", "Rates", "Turn"]

ADDRESSES: Final = 4096  # how many failing addresses are told apart
URGENT_COMMANDS: Final = frozenset(
    {"pause", "resume", "stop", "cancel", "dispose", "drain", "approve", "reject", "skip", "answer"}
)


class Turn:
    """What the rate says of one request. `refused`: it is one too many."""

    refused: RateLimited | None = None

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Of its answer."""
        return ()

    def decide(self, *, urgent: bool) -> None:
        """Which of the two it was is known now. Raises RateLimited when there is no place for it."""


FREE: Final = Turn()  # of whoever is not limited


class Rates:
    """Every limited key's windows. Times are the monotonic clock's."""

    def __init__(self) -> None:
        self._windows: Windows[tuple[str, bool]] = Windows()

    def __len__(self) -> int:
        """How many windows are remembered."""
        return len(self._windows)

    def take(self, principal: Principal, *, urgent: bool | None) -> Turn:
        """Count one request, unless it is refused. `urgent` None: only its body will tell, see `Turn.decide`."""
        if principal.rate is None:
            return FREE
        turn = _Counted(self._windows, principal.name, principal.rate)
        if not turn.enter(urgent=bool(urgent)) and urgent is None:
            turn.enter(urgent=True)
        return turn

    def forget(self, name: str) -> None:
        """The principal of this name is gone."""
        self._windows.drop((name, False))
        self._windows.drop((name, True))


class _Counted(Turn):
    """The turn of somebody whose rate is limited."""

    def __init__(self, windows: Windows[tuple[str, bool]], name: str, rate: int) -> None:
        self._windows = windows
        self._name = name
        self._rate = rate
        self._urgent = False
        self._at = 0.0

    def enter(self, *, urgent: bool) -> bool:
        """Whether there is a place in this window; it is taken then. Else `refused` says so."""
        self._urgent = urgent
        key = (self._name, urgent)
        wait_s = self._windows.wait_s(key, self._rate)
        if wait_s:
            self.refused = RateLimited(f"Wait {wait_s} s, or use a key with a higher rate.", retry_after_s=wait_s)
            return False
        self._at = trio.current_time()
        self._windows.add(key, self._at)
        self.refused = None
        return True

    def decide(self, *, urgent: bool) -> None:
        if urgent is self._urgent:
            return
        self._windows.take_back((self._name, self._urgent), self._at)
        self.enter(urgent=urgent)
        if self.refused is not None:
            raise self.refused

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        key = (self._name, self._urgent)
        count = self._windows.count(key)
        left, wait_s = max(0, self._rate - count), max(1, self._windows.wait_s(key, max(1, count)))
        name = b'"urgent"' if self._urgent else b'"default"'
        return (
            (b"ratelimit-policy", b"%s;q=%d;w=%d" % (name, self._rate, WINDOW_S)),
            (b"ratelimit", b"%s;r=%d;t=%d" % (name, left, wait_s)),
        )


class Failures:
    """Refused credentials, by address (`web.peer.group_of`): after `per_min` of them in 60 s the next gets 429.

    Credentials that are good are never held back, so that nobody can lock anybody out of a shared address (loopback, a
    NAT): a key is 32 random bytes, and what people choose has its own, stricter limit where it is checked. `per_min`
    may be changed at any time.
    """

    def __init__(self, per_min: int) -> None:
        self.per_min = per_min
        self._windows: Windows[str] = Windows(ADDRESSES)

    def __len__(self) -> int:
        """How many addresses are remembered; at most ADDRESSES."""
        return len(self._windows)

    @contextmanager
    def counted(self, scope: Scope) -> Iterator[None]:
        """Check credentials in here: what they are refused with is counted. Raises RateLimited in its stead when the
        address that asks has failed too often.
        """
        try:
            yield
        except Unauthenticated as refused:
            address = group_of(address_of(scope))
            wait_s = self._windows.wait_s(address, self.per_min)
            if wait_s:
                sentence = f"Wait {wait_s} s, then send good credentials: too many were refused."
                raise RateLimited(sentence, retry_after_s=wait_s) from refused
            self._windows.add(address, trio.current_time())
            raise
