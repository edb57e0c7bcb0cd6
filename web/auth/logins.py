"""How often somebody may fail to log in: 10 times in any 60 s per address, and 30 per account.

An account's limit holds for addresses from which nobody has logged in to it: who guesses at a name from many places
cannot lock out its owner. Both tables forget what is old, and the one that was touched least lately when they are full.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

import trio

from protocol.errors import RateLimited

__all__ = ["Logins", "LoginsStatistics"]

PER_ADDRESS: Final = 10
PER_ACCOUNT: Final = 30
WINDOW_S: Final = 60.0
MOST: Final = 4096


@dataclass(slots=True)
class _Failures:
    """The times of attempts that have not succeeded, the latest last; at most `limit` in any window."""

    limit: int
    times: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def wait_s(self, who: str) -> float:
        """How long until another attempt is allowed; 0 when it is now."""
        times = self.times.get(who, ())
        now = trio.current_time()
        recent = [then for then in times if then > now - WINDOW_S]
        return 0.0 if len(recent) < self.limit else recent[-self.limit] + WINDOW_S - now

    def add(self, who: str, now: float) -> None:
        times = self.times.setdefault(who, deque(maxlen=self.limit))
        times.append(now)
        self.times.move_to_end(who)
        if len(self.times) > MOST:
            self.times.popitem(last=False)

    def forgive(self, who: str, then: float) -> None:
        times = self.times.get(who)
        if times is not None and then in times:
            times.remove(then)
            if not times:
                del self.times[who]


@dataclass(frozen=True, slots=True)
class LoginsStatistics:
    """How many addresses and accounts are remembered, at most 4,096 each."""

    addresses: int
    accounts: int


class Logins:
    """Attempts to log in, by address and by account. An attempt counts as failed until it has succeeded."""

    def __init__(self) -> None:
        self._addresses = _Failures(PER_ADDRESS)
        self._accounts = _Failures(PER_ACCOUNT)
        self._welcome: OrderedDict[tuple[str, str], None] = OrderedDict()

    def attempt(self, address: str, account: str) -> float:
        """Count an attempt; what the others take. Raises RateLimited, and then nothing was counted."""
        address, now = _network(address), trio.current_time()
        wait_s = self._addresses.wait_s(address)
        if (address, account) not in self._welcome:
            wait_s = max(wait_s, self._accounts.wait_s(account))
        if wait_s > 0:
            retry_after_s = max(1, math.ceil(wait_s))
            raise RateLimited(f"Wait {retry_after_s} s: too many logins failed.", retry_after_s=retry_after_s)
        self._addresses.add(address, now)
        self._accounts.add(account, now)
        return now

    def succeeded(self, address: str, account: str, attempt: float) -> None:
        """This attempt did not fail, and the address is welcome from now on."""
        self.forgive(address, account, attempt)
        self._welcome[_network(address), account] = None
        self._welcome.move_to_end((_network(address), account))
        if len(self._welcome) > MOST:
            self._welcome.popitem(last=False)

    def forgive(self, address: str, account: str, attempt: float) -> None:
        """This attempt does not count."""
        self._addresses.forgive(_network(address), attempt)
        self._accounts.forgive(account, attempt)

    def statistics(self) -> LoginsStatistics:
        return LoginsStatistics(len(self._addresses.times), len(self._accounts.times))


def _network(address: str) -> str:
    """One household has 2**64 addresses of IPv6, so they count as one."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if found.version == 6 and found.ipv4_mapped is None:
        return ":".join(found.exploded.split(":")[:4])
    return str(found)
