"""What a killed daemon left behind, found by the marker in its environment, and by its control groups.

Keepers end their trees when the daemon dies, so there is normally nothing to find. This is for the day on which the
keepers were killed as well, and it is what lets a start-up say that nothing of the past is still running.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection

import trio

from actors.children import ControlGroups
from actors.processes import cgroup, linux
from actors.processes.listing import KILL_S, Leak, ProcessInfo, info, leak

REMOVE_S = 0.2
RESCAN_S = 0.2  # at the latest, for what those that are ending may have forked


async def reap_leftovers(
    prefix: str, *, keep: Collection[str] = (), groups: ControlGroups | None = None, term_s: float = 0.5
) -> tuple[list[ProcessInfo], list[Leak]]:
    """End every process of our user whose marker is `prefix` or begins with `prefix.`, or that is in the control group
    of such a tree, and prove that none is left.

    It gets SIGTERM, and SIGKILL after `term_s` seconds. Trees whose whole marker is in `keep` are spared. Whoever calls
    this holds the lock of the store: a living daemon's trees look the same. Only at start: it reads all of /proc.

    Returns what was ended and what could not be. Cancelled: some may be left; call it again.
    """
    seen: dict[tuple[int, int], ProcessInfo] = {}
    found: list[linux.Stat] = []
    for signum, patience_s in ((signal.SIGTERM, term_s), (signal.SIGKILL, KILL_S)):
        told: set[tuple[int, int]] = set()
        with trio.move_on_after(patience_s):
            while found := _found(prefix, keep, groups, kill=signum == signal.SIGKILL):
                for stat in found:
                    seen.setdefault(stat.identity, info(stat))
                    if stat.identity not in told:
                        told.add(stat.identity)
                        linux.send(stat, signum)
                        linux.send(stat, signal.SIGCONT)
                with trio.move_on_after(RESCAN_S):
                    for stat in found:
                        await _gone(stat)
    with trio.move_on_after(REMOVE_S):  # a process leaves its group a moment after it is seen dead
        while not found and not _removed(prefix, keep, groups):  # noqa: ASYNC110 - the kernel tells nobody
            await trio.sleep(REMOVE_S / 20)
    await trio.lowlevel.checkpoint()
    left = {stat.identity for stat in found}
    return [what for identity, what in seen.items() if identity not in left], [leak(stat) for stat in found]


def _removed(prefix: str, keep: Collection[str], groups: ControlGroups | None) -> bool:
    """Whether no group is left of such trees."""
    if groups is None:
        return True
    spared = {groups.path(marker) for marker in keep}
    left = [group for group in cgroup.beginning(groups.path(prefix)) if group not in spared]
    return sum(map(cgroup.remove, left)) == len(left)


def _found(prefix: str, keep: Collection[str], groups: ControlGroups | None, *, kill: bool) -> list[linux.Stat]:
    """Those with the marker, and the members of groups; what is empty of those is removed."""
    found = {stat.pid: stat for stat in linux.marked([prefix], keep=keep)}
    if groups is None:
        return list(found.values())
    spared = {groups.path(marker) for marker in keep}
    for group in cgroup.beginning(groups.path(prefix)):
        if group in spared or cgroup.remove(group):
            continue
        if kill:
            cgroup.kill(group)
        cgroup.freeze(group, frozen=False)
        members = map(linux.read, cgroup.members(group))
        found |= {stat.pid: stat for stat in members if stat is not None and stat.alive}
    return list(found.values())


async def _gone(stat: linux.Stat) -> None:
    try:
        pidfd = os.pidfd_open(stat.pid)
    except ProcessLookupError:
        return
    try:
        now = linux.read(stat.pid)
        if now is not None and now.identity == stat.identity:
            await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)
