"""What people are shown of processes: one live one, and one that could not be ended."""

from __future__ import annotations

import os
from dataclasses import dataclass

from actors.processes import linux

KILL_S = 2.0
"""How long after SIGKILL a process may take to be gone before it is called a leak."""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One live process. `cpu_s` is user and system time; `started_at` is in seconds since the epoch.

    `status` is the letter of proc(5): R, S, D, T, t ... `name` is the process's own word: at most 15 characters,
    possibly hostile.
    """

    pid: int
    ppid: int
    name: str
    cpu_s: float
    rss_bytes: int
    started_at: float
    status: str


@dataclass(frozen=True, slots=True)
class Leak:
    """A process that could not be ended, and why."""

    pid: int
    name: str
    why: str


def info(stat: linux.Stat) -> ProcessInfo:
    return ProcessInfo(
        pid=stat.pid,
        ppid=stat.ppid,
        name=stat.name,
        cpu_s=stat.cpu_ticks / os.sysconf("SC_CLK_TCK"),
        rss_bytes=stat.rss_pages * os.sysconf("SC_PAGE_SIZE"),
        started_at=linux.started_at(stat),
        status=stat.state,
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
