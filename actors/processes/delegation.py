"""Where this process may make control groups: found by looking, and believed only after a try.

A part of the hierarchy is ours when it was given to us: by a service manager (`Delegate=yes`, which leaves an extended
attribute), by whoever made its folder ours, or because all of it is ours (a container with a hierarchy of its own).
Root may write everywhere, and yet what a service manager did not give away is not ours.

The kernel lets a group that has processes hand no controllers down. So whoever takes over a delegated group moves
himself into a leaf of it first. That is for a daemon to do, at its start, and never for a library.
"""

from __future__ import annotations

import os
from pathlib import Path

from actors.children import ControlGroups
from actors.processes import cgroup

__all__ = ["LEAF", "claim", "delegated", "own_group"]

LEAF = "enginehouse-daemon"
"""The group of the daemon itself, beside those of its trees."""


def delegated(proc: Path = Path("/proc")) -> Path | str:
    """The group that was given to us: our own, or the one above when we are a leaf in it; else why there is none, as a
    sentence without its end.
    """
    found = own_group(proc)
    if found is None:
        return "no hierarchy of control groups of version 2 is mounted"
    mount, group = found
    if group.name == LEAF:  # started by a daemon, or anew by itself
        group = group.parent
    return group if _given(group, mount) else f"{group} was not given to us (Delegate=yes does that)"


def own_group(proc: Path) -> tuple[Path, Path] | None:
    """(where the version 2 hierarchy is mounted, our own group in it); None when there is none."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
        mounts = (proc / "self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    place = next((line[3:] for line in lines if line.startswith("0::")), None)
    for mount in mounts:
        fields, _, rest = mount.partition(" - ")
        if place is None or rest.split()[0] != "cgroup2":
            continue
        root, point = fields.split()[3:5]
        inside = os.path.relpath(place, root)
        if not inside.startswith(".."):
            return Path(point), Path(point, inside)
    return None


def claim(where: Path | None = None, *, proc: Path = Path("/proc")) -> ControlGroups | str:
    """Take over a group to make trees' groups in: `where`, else our own when it was given to us. Moves this process,
    and hands the controllers down as far as there are some.

    Returns where and what with, or a sentence that says why there are none.
    """
    found = own_group(proc)
    if where is None:
        given = delegated(proc)
        if isinstance(given, str):
            return given
        where = given
    probe = where / f"enginehouse-try-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        return f"no group can be made in {where}: {error.strerror}"
    return ControlGroups(base=str(where), controllers=_hand_down(where, inside=found is not None and found[1] == where))


def _given(group: Path, mount: Path) -> bool:
    if group == mount:
        return True
    if os.geteuid() != 0:
        return os.access(group / "cgroup.procs", os.W_OK)
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(group, name) == b"1":
                return True
        except OSError:
            continue
    return False


def _hand_down(group: Path, *, inside: bool) -> frozenset[str]:
    """Have the groups below have controllers; those that they have then."""
    there = set(cgroup.read(str(group), "cgroup.controllers").decode().split())
    wanted = [name for name in cgroup.CONTROLLERS if name in there]
    if any(name not in _handed(group) for name in wanted):
        if inside and cgroup.read(str(group), "cgroup.type"):  # the root of all has no type, and may keep its processes
            _move_into(group / LEAF)
        for name in wanted:
            try:
                cgroup.write(str(group), "cgroup.subtree_control", f"+{name}")
            except OSError:
                continue  # somebody else is in the group, or the controller is in use elsewhere
    return frozenset(wanted) & _handed(group)


def _handed(group: Path) -> set[str]:
    return set(cgroup.read(str(group), "cgroup.subtree_control").decode().split())


def _move_into(leaf: Path) -> None:
    leaf.mkdir(exist_ok=True)
    cgroup.write(str(leaf), "cgroup.procs", str(os.getpid()))
