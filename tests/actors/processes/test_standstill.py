"""The chase of a standstill, against a kernel of the test's own: whoever forks and ends in one breath is caught too."""

from __future__ import annotations

import pytest
import trio

from actors.processes import linux
from actors.processes.standstill import Standstill

KEEPER, SIBLINGS, BREATH = 1, 100, 8


class Kernel:
    """One keeper with many stopped children, and a chain: its link lives for so many calls, and leaves a successor."""

    def __init__(self) -> None:
        self.states = dict.fromkeys(range(2, 2 + SIBLINGS), "T")
        self.link = 2 + SIBLINGS
        self.states[self.link] = "R"
        self.calls = 0

    def called(self) -> None:
        self.calls += 1
        if self.calls % BREATH == 0 and self.states[self.link] == "R":
            del self.states[self.link]
            self.link += 1
            self.states[self.link] = "R"

    def children(self, pid: int) -> list[int]:
        self.called()
        return list(self.states) if pid == KEEPER else []

    def read(self, pid: int) -> linux.Stat | None:
        self.called()
        if pid not in self.states:
            return None
        return linux.Stat(pid, b"%d (x) %s %d " % (pid, self.states[pid].encode(), KEEPER) + b"1 " * 40)

    def send(self, stat: linux.Stat, signum: int) -> bool:
        self.called()
        if stat.pid in self.states:
            self.states[stat.pid] = "T"
        return stat.pid in self.states

    def found_below(self, pid: int) -> list[linux.Stat]:
        return [stat for one in self.children(pid) if (stat := self.read(one))]


async def test_a_chain_is_caught_however_many_stand_still_beside_it(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    kernel = Kernel()
    for name in ("children", "read", "send", "found_below"):
        monkeypatch.setattr(linux, name, getattr(kernel, name))
    standstill = Standstill(lambda: None)
    with trio.fail_after(1):
        await standstill.begin(KEEPER, None, lambda: None)
    assert kernel.states[kernel.link] == "T"
    assert [pid for pid, _ in standstill.stopped] == [kernel.link]
