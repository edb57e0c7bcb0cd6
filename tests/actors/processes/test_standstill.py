"""The chase of a standstill, against a kernel of the test's own: whoever forks and ends in one breath is caught too."""

from __future__ import annotations

import pytest
import trio

from actors.processes import linux
from actors.processes.standstill import Standstill

KEEPER, SIBLINGS, BREATH = 1, 100, 8


class Kernel:
    """One keeper with many stopped children, and a chain: its link lives for so many calls, and leaves a successor."""

    def __init__(self, breath: int) -> None:
        self.breath = breath
        self.states = dict.fromkeys(range(2, 2 + SIBLINGS), "T")
        self.link = 2 + SIBLINGS
        self.states[self.link] = "R"
        self.calls = 0

    def replace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("children", "read", "send", "descendants", "found_below"):
            monkeypatch.setattr(linux, name, getattr(self, name))

    def called(self) -> None:
        self.calls += 1
        if self.calls % self.breath == 0 and self.states[self.link] == "R":
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

    def descendants(self, pid: int) -> list[linux.Stat]:
        return self.found_below(pid)

    def found_below(self, pid: int) -> list[linux.Stat]:
        return [stat for one in self.children(pid) if (stat := self.read(one))]


async def test_a_chain_is_caught_however_many_stand_still_beside_it(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    kernel = Kernel(BREATH)
    kernel.replace(monkeypatch)
    told: list[int] = []
    standstill = Standstill(lambda: told.append(len(standstill.stopped)))
    with trio.fail_after(1):
        await standstill.begin(KEEPER, None, lambda: None)
    assert kernel.states[kernel.link] == "T"
    assert standstill.stopped[-1][0] == kernel.link
    assert told == list(range(told[0], len(standstill.stopped) + 1)), "each is told of before he is stopped"


async def test_a_large_tree_is_told_of_at_once(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    kernel = Kernel(breath=1_000_000)
    kernel.states.update(dict.fromkeys(range(1000, 2000), "S"))
    kernel.replace(monkeypatch)
    told: list[int] = []
    standstill = Standstill(lambda: told.append(len(standstill.stopped)))
    with trio.fail_after(1):
        await standstill.begin(KEEPER, None, lambda: None)
    assert told == [1001]
