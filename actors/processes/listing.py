"""What people are shown of processes: the live ones, what they use together, and what could not be ended."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from actors.processes import cgroup, linux

KILL_S = 2.0
"""How long after SIGKILL a process may take to be gone before it is called a leak."""


COMMAND_BYTES = 1 << 16
"""How much of a command line is read. What is shown is less, once secrets are out of it."""

LOOK_S = 0.5
"""The shortest time over which a share of the processor is told."""

STATES = {"R": "running", "S": "sleeping", "I": "sleeping", "D": "blocked", "T": "stopped", "t": "traced", "Z": "ended"}
"""What the letters of proc(5) mean. `blocked`: in a system call that no signal interrupts."""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One live process. `cpu_s` is user and system time; `cpu_percent` of one processor, since the last look or the
    start; `started_at` is in seconds since the epoch.

    `name` (at most 15 characters) and `command` are the process's own words, possibly hostile; `status` is one of
    `STATES`.
    """

    pid: int
    ppid: int
    name: str
    command: tuple[str, ...]
    status: str
    threads: int
    cpu_s: float
    cpu_percent: float
    rss_bytes: int
    started_at: float


@dataclass(frozen=True, slots=True)
class Leak:
    """A process that could not be ended, and why."""

    pid: int
    name: str
    why: str


class Meter:
    """What share of a processor each process used since the last look at it that was not a moment ago."""

    def __init__(self) -> None:
        self._looked_s = 0.0  # since the boot of the machine, as are start times
        self._ticks: dict[tuple[int, int], int] = {}

    def read(self, stats: Iterable[linux.Stat]) -> dict[tuple[int, int], float]:
        """By identity. Who was not there at the last look is told since his start."""
        per_s = os.sysconf("SC_CLK_TCK")
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        shares, ticks = {}, {}
        for stat in stats:
            since_s, before = self._looked_s, self._ticks.get(stat.identity)
            if before is None:
                since_s, before = stat.start_ticks / per_s, 0
            used_s = (stat.cpu_ticks - before) / per_s
            shares[stat.identity] = round(100 * used_s / max(now_s - since_s, 1 / per_s), 1)
            ticks[stat.identity] = stat.cpu_ticks
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s, self._ticks = now_s, ticks
        return shares


@dataclass(frozen=True, slots=True)
class Listing:
    """The live processes of a tree, and the processor time of all that ever were in it."""

    processes: list[ProcessInfo]
    cpu_s: float


def info(stat: linux.Stat, *, percent: float = 0.0, frozen: bool = False, booted_at: int | None = None) -> ProcessInfo:
    """`frozen`: by its control group, which does not show in its state."""
    booted_at = linux.booted_at() if booted_at is None else booted_at
    return ProcessInfo(
        pid=stat.pid,
        ppid=stat.ppid,
        name=stat.name,
        command=linux.command(stat.pid, COMMAND_BYTES),
        status=STATES["T"] if frozen else STATES.get(stat.state, stat.state),
        threads=stat.threads,
        cpu_s=stat.cpu_ticks / os.sysconf("SC_CLK_TCK"),
        cpu_percent=percent,
        rss_bytes=stat.rss_pages * os.sysconf("SC_PAGE_SIZE"),
        started_at=booted_at + stat.start_ticks / os.sysconf("SC_CLK_TCK"),
    )


def leak(stat: linux.Stat) -> Leak:
    why = f"still there {KILL_S:g} s after SIGKILL, in state {stat.state}"
    try:
        os.kill(stat.pid, 0)
    except PermissionError:
        why = "may not be signalled: it runs as another user"
    except ProcessLookupError:
        why += ", and gone at last"
    return Leak(stat.pid, stat.name, why)


def cpu_s(stats: Iterable[linux.Stat], keeper: linux.Stat | None, group: str | None) -> float:
    """Processor time of a tree, by its control group; else what the live have used, and what was told to those that
    waited for the dead.
    """
    if group is not None and (counted := cgroup.used(group).get("cpu_us")) is not None:
        return counted / 1e6
    ticks = sum(stat.cpu_ticks + stat.waited_ticks for stat in stats) + (keeper.waited_ticks if keeper else 0)
    return ticks / os.sysconf("SC_CLK_TCK")
