"""A process tree that is stopped in the middle of whatever it does.

Where the tree has a control group the kernel stops all of it in one step. Without one it goes by signals, from parents
to children: a process that is seen stopped cannot fork, so its list of children is final; and a shell that is stopped
first does not notice, and does not tell its user, that its job was stopped. Waking goes the other way, and wakes only
what was stopped here: a job that its user had suspended stays so.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import trio

from actors.processes import cgroup, linux

LOOK_S = (0.0005, 0.02)  # how soon a process that was told to stop is looked at again: first, and at most
CHASE = 20  # how often at most one list of children is read again for who is new, while nobody else gets a turn

Identity = tuple[int, int]


class Standstill:
    """`tell` is called when it is known who will be stopped next, before anybody is. False: it cannot be told now."""

    def __init__(self, tell: Callable[[], bool]) -> None:
        self._tell = tell
        self._stopped: dict[Identity, linux.Stat] = {}  # by us, parents first

    @property
    def stopped(self) -> list[Identity]:
        """Who was stopped by signals, parents first."""
        return list(self._stopped)

    async def begin(self, keeper: int | None, group: str | None, check: Callable[[], None]) -> None:
        """Stop all that is below the keeper; return when every thread was seen stopped. `check` raises to give up.

        Left early, or cancelled: what was stopped stays so, until `end`.
        """
        if group is not None and cgroup.freeze(group, frozen=True):
            await _kernel_froze(group, check)
        look_s = LOOK_S[0]
        before: set[Identity] | None = None
        while True:
            check()
            known = len(self._stopped)
            quiet, seen = self._round(keeper, group)
            if quiet and seen == before and _none_missed(keeper, seen):
                return
            before = seen if quiet else None
            look_s = LOOK_S[0] if quiet or len(self._stopped) > known else min(look_s * 2, LOOK_S[1])
            await trio.sleep(0 if quiet else look_s)

    def end(self, group: str | None) -> None:
        """Let run on what was stopped."""
        for stat in reversed(self._stopped.values()):
            linux.send(stat, signal.SIGCONT)
        self._stopped.clear()
        if group is not None:
            cgroup.freeze(group, frozen=False)

    def forget(self) -> None:
        """Somebody else lets them run."""
        self._stopped.clear()

    def _round(self, keeper: int | None, group: str | None) -> tuple[bool, set[Identity]]:
        """Tell to stop who is not, and go down below who is. Returns whether all were stopped, and who all is."""
        quiet = True
        seen: set[Identity] = set()
        frozen = cgroup.members(group) if group is not None else set()
        queue = [keeper] if keeper else []
        for parent in queue:
            for brothers in _children(parent):
                alive = [stat for stat in map(linux.read, brothers) if stat is not None and stat.alive]
                still = {stat.pid for stat in alive if stat.pid in frozen or linux.stopped(stat)}
                seen.update(stat.identity for stat in alive)
                queue += still
                if moving := [stat for stat in alive if stat.pid not in still]:
                    quiet = False
                    self._stop(moving)
        return quiet, seen

    def _stop(self, moving: list[linux.Stat]) -> None:
        new = {stat.identity: stat for stat in moving if stat.identity not in self._stopped}
        self._stopped |= new
        if new and not self._tell():
            for identity in new:  # who is not told of is not stopped either: the next round comes back to it
                del self._stopped[identity]
            return
        for stat in moving:
            linux.send(stat, signal.SIGSTOP)


def _children(parent: int) -> Iterator[list[int]]:
    """Its children, then those that came meanwhile, and so on: who forks and ends in one breath is caught only by
    whoever has nobody else to look at first.
    """
    known: set[int] = set()
    for _ in range(CHASE):
        new = [pid for pid in linux.children(parent) if pid not in known]
        if not new:
            return
        known.update(new)
        yield new


async def _kernel_froze(group: str, check: Callable[[], None]) -> None:
    look_s = LOOK_S[0]
    while not cgroup.is_frozen(group) and cgroup.members(group):
        check()
        await trio.sleep(look_s)
        look_s = min(look_s * 2, LOOK_S[1])


def _none_missed(keeper: int | None, seen: set[Identity]) -> bool:
    """Whether that was everybody. A list of children that changes while it is read may miss one (proc(5)), and who
    forks and ends all the time is missed more than once.
    """
    return keeper is None or seen >= {stat.identity for stat in linux.found_below(keeper)}
