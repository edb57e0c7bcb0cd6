"""Who came into a process tree since a moment, and the end of those alone: what one command of a shell has started."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

import trio

from actors.processes import linux
from actors.processes.listing import KILL_S, Leak, leak

LOOK_S = (
    0.0005,
    0.02,
)  # how soon they are looked for again: while they are killed, and while they may end by themselves


@dataclass(frozen=True, slots=True)
class Newer:
    """`keeper`: whose tree it is; `before`: who was there; `parent`: was there, and what it has started since is newer
    all the same; `spared`: pids of programs of the house; `meant`: of the children of `parent` and the orphans,
    which are to end, each with all below it.
    """

    keeper: int
    before: frozenset[tuple[int, int]]
    parent: int
    spared: set[int]
    meant: Callable[[linux.Stat], bool]

    async def end(self, term_s: float) -> list[Leak]:
        """SIGTERM, at most `term_s` seconds, SIGKILL, at most `KILL_S` seconds. Returns what could not be ended."""
        found: list[linux.Stat] = []
        for signum, patience_s in ((signal.SIGTERM, term_s), (signal.SIGKILL, KILL_S)):
            told: set[tuple[int, int]] = set()
            with trio.move_on_after(patience_s):
                while found := self.find():
                    for stat in found:
                        if stat.identity not in told or signum == signal.SIGKILL:
                            told.add(stat.identity)
                            linux.send(stat, signum)
                            linux.send(stat, signal.SIGCONT)
                    await trio.sleep(LOOK_S[0] if signum == signal.SIGKILL else LOOK_S[1])
            if not found:
                break
        return [leak(stat) for stat in found]

    def find(self) -> list[linux.Stat]:
        """Who is there now and is newer."""
        everyone = {stat.pid: stat for stat in linux.found_below(self.keeper)}

        def is_newer(stat: linux.Stat) -> bool:
            if stat.identity in self.before or stat.pid in self.spared:
                return False
            above = everyone.get(stat.ppid)
            return self.meant(stat) if above is None or above.pid == self.parent else is_newer(above)

        return [stat for stat in everyone.values() if is_newer(stat)]
