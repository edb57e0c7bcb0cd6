"""Processes as /proc shows them: the demo believes nobody's word that they are gone."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import trio

from examples.demo.saying import DemoFailed

__all__ = ["descendants", "gone", "marked", "running"]


def marked(mark: str) -> list[int]:
    """Every process that carries the mark in its environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        except OSError:
            continue  # it ended, or is somebody else's
    return found


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def descendants(pid: int) -> list[int]:
    """A pidfd of every process below this one: readable when that very process has ended (pidfd_open(2))."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    below = [pid]
    for parent in below:
        below += [child for child, of in parents.items() if of == parent]
    found = []
    for child in below[1:]:
        with contextlib.suppress(ProcessLookupError):
            found.append(os.pidfd_open(child))
    return found


async def gone(processes: list[int], within_s: float = 5.0) -> None:
    """Wait until all of them have ended, and close their pidfds."""
    with trio.move_on_after(within_s) as scope:
        for process in processes:
            await trio.lowlevel.wait_readable(process)
            os.close(process)
    if scope.cancelled_caught:
        raise DemoFailed(f"a process is still there after {within_s} s")
