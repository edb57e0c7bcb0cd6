"""How often somebody may fail to log in: 10 times in any 60 s per address, and 30 per account.

An account's limit holds for addresses from which nobody has logged in to it: who guesses at a name from many places
cannot lock out its owner. Both tables forget what is old, and the one that was touched least lately when they are full.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import trio

from protocol.errors import RateLimited
from web.auth.windows import Windows
from web.peer import group_of

__all__ = ["Logins", "LoginsStatistics"]

PER_ADDRESS: Final = 10
PER_ACCOUNT: Final = 30
MOST: Final = 4096


@dataclass(frozen=True, slots=True)
class LoginsStatistics:
    """How many addresses and accounts are remembered, at most 4,096 each."""

    addresses: int
    accounts: int


class Logins:
    """Attempts to log in, by address (`web.peer.group_of`) and by account. An attempt counts as failed until it has
    succeeded.
    """

    def __init__(self) -> None:
        self._addresses: Windows[str] = Windows(MOST)
        self._accounts: Windows[str] = Windows(MOST)
        self._welcome: OrderedDict[tuple[str, str], None] = OrderedDict()

    def attempt(self, address: str, account: str) -> float:
        """Count an attempt; what the others take. Raises RateLimited, and then nothing was counted."""
        address, now = group_of(address), trio.current_time()
        wait_s = self._addresses.wait_s(address, PER_ADDRESS)
        if (address, account) not in self._welcome:
            wait_s = max(wait_s, self._accounts.wait_s(account, PER_ACCOUNT))
        if wait_s:
            raise RateLimited(f"Wait {wait_s} s: too many logins failed.", retry_after_s=wait_s)
        self._addresses.add(address, now)
        self._accounts.add(account, now)
        return now

    def succeeded(self, address: str, account: str, attempt: float) -> None:
        """This attempt did not fail, and the address is welcome from now on."""
        self.forgive(address, account, attempt)
        self._welcome[group_of(address), account] = None
        self._welcome.move_to_end((group_of(address), account))
        if len(self._welcome) > MOST:
            self._welcome.popitem(last=False)

    def forgive(self, address: str, account: str, attempt: float) -> None:
        """This attempt does not count."""
        self._addresses.take_back(group_of(address), attempt)
        self._accounts.take_back(account, attempt)

    def statistics(self) -> LoginsStatistics:
        return LoginsStatistics(len(self._addresses), len(self._accounts))
