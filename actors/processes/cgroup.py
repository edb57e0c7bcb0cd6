"""One control group of one process tree: bound it, freeze it, kill it, prove it empty. Version 2 alone.

What a keeper knows by parentage a control group knows by membership, which double forks, sessions and cleared
environments do not change either; and the kernel kills and freezes a group in one step, which no program outruns by
forking. Whoever may write to a group's files can leave it, so it is a second line of defence and not the first.

The helper program stands on this too, so it imports next to nothing. What the files mean: cgroups(7) and
Documentation/admin-guide/cgroup-v2.rst of the kernel. A group is named by its folder.
"""

from __future__ import annotations

import errno
import os

CONTROLLERS = ("cpu", "memory", "pids")
"""Those that limits of trees need; freezing and killing need none."""

PERIOD_US = 100_000
DESCENDANTS, DEPTH = 1024, 32
"""How many groups a tree may make below its own, and how deep; containers in engines make a few."""


def make(group: str) -> None:
    """Make it, or take the one that is there. Raises OSError."""
    try:
        os.mkdir(group, 0o755)  # noqa: PTH102 - pathlib is too heavy for the helper
    except FileExistsError:
        return
    for name, most in (("cgroup.max.descendants", DESCENDANTS), ("cgroup.max.depth", DEPTH)):
        _say(group, name, str(most))


def bound(group: str, memory_bytes: int | None, cpus: float | None, processes: int | None) -> None:
    """Set what all its processes may use together; None leaves it open. Raises OSError, also without the controller.

    With a bound on memory there is no swap: it would be a way around, and a slow one.
    """
    if memory_bytes is not None:
        write(group, "memory.max", str(memory_bytes))
        _say(group, "memory.swap.max", "0")  # absent where the kernel counts no swap
    if cpus is not None:
        write(group, "cpu.max", f"{max(round(cpus * PERIOD_US), 1000)} {PERIOD_US}")
    if processes is not None:
        write(group, "pids.max", str(processes))


def join(group: str) -> None:
    """Be in it, and all that is forked from here on. Raises OSError."""
    write(group, "cgroup.procs", "0")


def kill(group: str) -> bool:
    """SIGKILL to all in it and below it at once, also to what forks meanwhile. False where the kernel cannot (5.14)."""
    return _say(group, "cgroup.kill", "1")


def freeze(group: str, *, frozen: bool) -> bool:
    """Begin to freeze it, or thaw it. False where it cannot be done (Linux 5.2)."""
    return _say(group, "cgroup.freeze", "1" if frozen else "0")


def is_frozen(group: str) -> bool:
    """Whether every thread in it stands still."""
    return _told(group, "cgroup.events").get("frozen") == 1


def members(group: str) -> set[int]:
    """The pids in it and below it, without those of zombies."""
    found = {int(pid) for pid in read(group, "cgroup.procs").split() if pid != b"0"}
    for child in _below(group):
        found |= members(child)
    return found


def remove(group: str) -> bool:
    """True: it is gone, so nothing lives in it. The kernel removes none that has a live member."""
    for child in _below(group):
        remove(child)
    try:
        os.rmdir(group)  # noqa: PTH106 - pathlib is too heavy for the helper
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        return False
    return True


def beginning(prefix: str) -> list[str]:
    """The group of this path, and those beside it whose name goes on with a dot."""
    folder, _, name = prefix.rpartition("/")
    return [group for group in _below(folder) if f"{group}.".startswith(f"{folder}/{name}.")]


def used(group: str) -> dict[str, int]:
    """`cpu_us`: processor time of all that ever were in it; `killed`: how many of them for its bound on memory, where
    that is counted.
    """
    found = {}
    for name, file, key in (("cpu_us", "cpu.stat", "usage_usec"), ("killed", "memory.events", "oom_kill")):
        if (count := _told(group, file).get(key)) is not None:
            found[name] = count
    return found


def has(group: str, name: str) -> bool:
    """Whether this kernel knows such a file, and the group has the controller that it belongs to."""
    return os.path.exists(f"{group}/{name}")  # noqa: PTH110 - as above


def write(group: str, name: str, value: str) -> None:
    """Raises OSError."""
    file = os.open(f"{group}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, value.encode())
    finally:
        os.close(file)


def read(group: str, name: str) -> bytes:
    """The whole file, or nothing."""
    try:
        with open(f"{group}/{name}", "rb", buffering=0) as file:  # noqa: PTH123 - as above
            return file.readall()
    except OSError:
        return b""


def _say(group: str, name: str, value: str) -> bool:
    try:
        write(group, name, value)
    except OSError:
        return False
    return True


def _told(group: str, name: str) -> dict[str, int]:
    """A file of names and numbers."""
    pairs = (line.split() for line in read(group, name).decode().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _below(group: str) -> list[str]:
    try:
        with os.scandir(group) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
