"""What only Linux can tell and do: /proc and pidfd, in one file.

The daemon and its helper program (`keeper.py`) both stand on this, so it imports nothing heavy and knows no trio. A pid
is only a number that comes back; a process is its pid *and* its start time, so every signal is sent through a pidfd
whose process was compared first. Fields and their order: proc(5), /proc/pid/stat.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator

MARKER = "ENGINEHOUSE_TREE"
"""The environment variable that every process of a tree carries, unless it cleared its environment."""


LOOKS = 100
"""How often at most all of /proc is listed for one look, on a machine where programs start all the time."""


class Stat:
    """One reading of one process. A plain class: dataclasses would cost the helper program two megabytes."""

    __slots__ = (
        "cpu_ticks", "foreground", "name", "pid", "ppid", "rss_pages", "session", "start_ticks", "state", "threads",
        "tty", "waited_ticks",
    )  # fmt: skip

    def __init__(self, pid: int, line: bytes) -> None:
        # The name stands in parentheses and may itself hold spaces and parentheses.
        head, _, tail = line.rpartition(b") ")
        field = tail.split()
        self.pid = pid
        self.name = head.partition(b" (")[2].decode(errors="replace")
        self.state = field[0].decode()
        self.ppid = int(field[1])
        self.session = int(field[3])
        self.tty = int(field[4])
        self.foreground = int(field[5])  # the process group in the foreground of its terminal; less than 1: none
        self.cpu_ticks = int(field[11]) + int(field[12])
        self.waited_ticks = int(field[13]) + int(field[14])  # of children that have ended, and of theirs
        self.threads = int(field[17])
        self.start_ticks = int(field[19])
        self.rss_pages = int(field[21])

    @property
    def alive(self) -> bool:
        """Not a zombie. A dead first thread whose siblings run on also shows as Z, and is alive."""
        return self.state not in "ZX" or self.threads > 1

    @property
    def identity(self) -> tuple[int, int]:
        """What tells this process from every other one since the machine booted."""
        return self.pid, self.start_ticks


def missing() -> str | None:
    """What this system lacks for process trees, as a sentence; None where all is there."""
    if sys.platform != "linux":
        return f"process trees need Linux, this is {sys.platform}"
    if not os.path.exists("/proc/thread-self/children"):  # noqa: PTH110 - pathlib is too heavy for the helper
        return "process trees need /proc with /proc/<pid>/task/<tid>/children (CONFIG_PROC_CHILDREN)"
    if not hasattr(os, "pidfd_open"):
        return "process trees need pidfd_open (Linux 5.3)"
    return None


def read(pid: int) -> Stat | None:
    """The process as it is now; None when there is none."""
    line = _read(f"/proc/{pid}/stat")
    return Stat(pid, line) if line else None


def descendants(pid: int) -> list[Stat]:
    """Every process below `pid`, parents before their children. It costs what the tree is, not what the machine is.

    The kernel promises each list of children to be whole only while those children are stopped (proc(5)), and an orphan
    moves to its new parent between two readings: a caller that must not miss one repeats the call.
    """
    found: dict[int, Stat] = {}
    queue = [pid]
    for parent in queue:
        for child in children(parent):
            stat = read(child)
            if stat is not None and child not in found:
                found[child] = stat
                queue.append(child)
    return list(found.values())


def found_below(pid: int) -> list[Stat]:
    """Every live process below `pid`, by a look at all there are. It costs what the machine is."""
    everyone = _everyone()
    below: dict[int, bool] = {pid: True}
    for stat in list(everyone.values()):
        line: list[int] = []
        at = stat.pid
        while at not in below and at not in line:
            line.append(at)
            now = everyone.get(at) or read(at)
            if now is not None and now.ppid not in everyone and now.ppid:
                now = read(at)  # its parent went meanwhile: somebody else has it
            at = now.ppid if now is not None else 0
        below |= dict.fromkeys(line, below.get(at, False))
    return [stat for stat in everyone.values() if stat.pid != pid and stat.alive and below[stat.pid]]


def children(pid: int) -> Iterator[int]:
    """The children of all threads of the process."""
    for thread in _listed(f"/proc/{pid}/task"):
        yield from map(int, _read(f"/proc/{pid}/task/{thread}/children").split())


def stopped(stat: Stat) -> bool:
    """Whether every thread of the process was just seen stopped (T, t) or is dead."""
    if stat.threads <= 1:
        return stat.state in "TtZX"
    lines = (_read(f"/proc/{stat.pid}/task/{thread}/stat") for thread in _listed(f"/proc/{stat.pid}/task"))
    return all(Stat(stat.pid, line).state in "TtZX" for line in lines if line)


def send(stat: Stat, signum: int) -> bool:
    """Signal exactly this process. False when it is gone or may not be signalled."""
    try:
        pidfd = os.pidfd_open(stat.pid)
    except OSError:
        return False
    try:
        now = read(stat.pid)
        if now is None or now.identity != stat.identity:
            return False
        signal.pidfd_send_signal(pidfd, signum)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def marked(markers: Iterable[str], *, keep: Iterable[str] = ()) -> list[Stat]:
    """Every live process of our user that carries one of the markers or one that begins with it and a dot, and with
    them all that stand below them or in their sessions. It reads the whole of /proc: never in a loop of an idle house.

    We, and what we descend from, are never among them; nor is what carries a marker in `keep`.
    """
    wanted = tuple(f"{MARKER}={marker}".encode() for marker in markers)
    kept = {f"{MARKER}={marker}".encode() for marker in keep}
    everyone = _everyone()
    found: set[int] = set()
    spared = set(lineage(os.getpid(), everyone.get))
    for pid, stat in everyone.items():
        if not stat.alive or pid in spared or not _ours(pid):
            continue
        for entry in environment(pid):
            if entry in kept:
                spared.add(pid)
            elif any(entry == mark or entry.startswith(mark + b".") for mark in wanted):
                found.add(pid)
    # Each program was started as the leader of a session, so the sessions of those found belong to the trees too.
    foreign = {everyone[pid].session for pid in spared} | {0}  # 0: led from outside this pid namespace
    sessions = {everyone[pid].session for pid in found} - foreign
    found |= {pid for pid, stat in everyone.items() if stat.session in sessions}
    for pid in everyone:
        if not found.isdisjoint(lineage(pid, everyone.get)):
            found.add(pid)
    return [everyone[pid] for pid in sorted(found - spared) if everyone[pid].alive]


def lineage(pid: int, look: Callable[[int], Stat | None] = read) -> list[int]:
    """The process and all it descends from, the nearest first; empty when there is none."""
    line: list[int] = []
    while (stat := look(pid)) is not None and pid not in line:
        line.append(pid)
        pid = stat.ppid
    return line


def command(pid: int, most: int) -> tuple[str, ...]:
    """Its command line, as it says itself, cut after so many bytes; empty for a zombie, or one that wiped it."""
    line = _read(f"/proc/{pid}/cmdline")[:most].rstrip(b"\0")
    return tuple(word.decode(errors="replace") for word in line.split(b"\0")) if line else ()


def environment(pid: int) -> set[bytes]:
    """The `name=value` of the environment that it was started with; empty for one that may not be looked at."""
    return set(_read(f"/proc/{pid}/environ").split(b"\0"))


def now_ticks() -> int:
    """This moment, as `Stat.start_ticks` counts."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def booted_at() -> int:
    """When the machine was started, by its wall clock of now: seconds since the epoch."""
    boot = next(line for line in _read("/proc/stat").splitlines() if line.startswith(b"btime "))
    return int(boot.split()[1])


def _everyone() -> dict[int, Stat]:
    """All there are. It looks again until nobody is new: who was listed, and gone when he was read, may have left a
    child that was not there yet when the list was made.
    """
    found: dict[int, Stat] = {}
    known: set[str] = set()
    for _ in range(LOOKS):
        new = [name for name in _listed("/proc") if name.isdigit() and name not in known]
        if not new:
            break
        known.update(new)
        found |= {int(name): stat for name in new if (stat := read(int(name)))}
    return found


def _ours(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid()  # noqa: PTH116 - pathlib is too heavy for the helper
    except OSError:
        return False


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - pathlib is too heavy for the helper
    except OSError:
        return []


def _read(path: str) -> bytes:
    """The whole file, or nothing: a process may go between being listed and being read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - pathlib is too heavy for the helper
            return file.readall()
    except OSError:
        return b""
