"""The chase of a standstill, against a kernel of the test's own."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
import trio

from actors.processes import linux
from actors.processes.standstill import Standstill

KEEPER, FIRST = 1, 2
Open = Callable[..., "Kernel"]


class Kernel:
    """Processes by number, with parent and state. `chain`: one that forks and ends after every `breath` calls."""

    def __init__(self, breath: int = 0) -> None:
        self.parents: dict[int, int] = {}
        self.states: dict[int, str] = {}
        self.breath, self.chain, self.calls = breath, 0, 0
        self.busy = 0  # how often nobody can be told
        self.told: list[list[int]] = []
        self.standstill = Standstill(self.tell)

    def add(self, count: int, state: str, parent: int = KEEPER) -> range:
        first = FIRST + len(self.parents)
        new = range(first, first + count)
        for pid in new:
            self.parents[pid], self.states[pid] = parent, state
        return new

    def tell(self) -> bool:
        if self.busy:
            self.busy -= 1
            return False
        self.told.append([pid for pid, _ in self.standstill.stopped])
        return True

    def called(self) -> None:
        self.calls += 1
        if self.chain and self.calls % self.breath == 0 and self.states[self.chain] == "R":
            self.states[self.chain] = "gone"
            (self.chain,) = self.add(1, "R")

    def children(self, pid: int) -> list[int]:
        self.called()
        return [one for one, parent in self.parents.items() if parent == pid and self.states[one] != "gone"]

    def read(self, pid: int) -> linux.Stat | None:
        self.called()
        if self.states.get(pid, "gone") == "gone":
            return None
        return linux.Stat(pid, b"%d (x) %s %d " % (pid, self.states[pid].encode(), self.parents[pid]) + b"1 " * 40)

    def send(self, stat: linux.Stat, signum: int) -> bool:
        self.called()
        assert signum != signal.SIGSTOP or stat.pid in self.told[-1], "told of before it is stopped"
        if self.states[stat.pid] != "gone":
            self.states[stat.pid] = "T" if signum == signal.SIGSTOP else "S"
        return self.states[stat.pid] != "gone"

    def found_below(self, _: int) -> list[linux.Stat]:
        return [stat for one in list(self.states) if (stat := self.read(one)) is not None]

    async def freeze(self) -> None:
        with trio.fail_after(1):
            await self.standstill.begin(KEEPER, None, lambda: None)


@pytest.fixture
def open_kernel(monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock) -> Open:
    def opened(breath: int = 0) -> Kernel:
        kernel = Kernel(breath)
        for name in ("children", "read", "send", "found_below"):
            monkeypatch.setattr(linux, name, getattr(kernel, name))
        return kernel

    return opened


async def test_a_chain_is_caught_however_many_stand_still_beside_it(open_kernel: Open) -> None:
    kernel = open_kernel(breath=8)
    kernel.add(100, "T")
    (kernel.chain,) = kernel.add(1, "R")
    await kernel.freeze()
    assert kernel.states[kernel.chain] == "T"
    kernel.standstill.end(None)
    assert kernel.states[kernel.chain] == "S"


async def test_brothers_are_told_of_at_once(open_kernel: Open) -> None:
    kernel = open_kernel()
    brothers = kernel.add(1000, "S")
    await kernel.freeze()
    assert kernel.told == [list(brothers)]


async def test_who_was_stopped_by_somebody_else_before_his_turn_is_not_woken(open_kernel: Open) -> None:
    kernel = open_kernel()
    (parent,) = kernel.add(1, "S")
    (child,) = kernel.add(1, "S", parent)
    ours = kernel.tell

    def tell() -> bool:
        kernel.states[child] = "T"
        return ours()

    kernel.standstill = Standstill(tell)
    await kernel.freeze()
    kernel.standstill.end(None)
    assert (kernel.states[parent], kernel.states[child]) == ("S", "T")


async def test_who_cannot_be_told_of_is_stopped_later(open_kernel: Open) -> None:
    kernel = open_kernel()
    kernel.busy = 3
    (pid,) = kernel.add(1, "S")
    await kernel.freeze()
    assert kernel.states[pid] == "T"
    assert kernel.told == [[pid]]
