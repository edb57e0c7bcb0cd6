"""What every program of a house starts with, and what it may reach: plain values, said by whoever opens the house.

`ChildPolicy` is the house's, `ResourceLimits` and `Sandbox` are also what the config of one engine may say. They are
applied between fork and exec (`actors/processes/confine.py`), so a program never runs a moment without them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from actors.secrets import Sources
from protocol.specs import STRICT

__all__ = [
    "CONTROLLER_OF", "PASSED", "WORKSPACE_NAME", "Absolute", "ChildPolicy", "ControlGroups", "Outside", "Place",
    "ResourceLimits", "Sandbox", "passable",
]  # fmt: skip

PASSED = ("PATH", "HOME", "LANG", "LANGUAGE", "LC_*", "TERM", "TZ", "USER", "LOGNAME", "SHELL", "TMPDIR")
"""What a program gets of our environment when nobody says otherwise. Not XDG_RUNTIME_DIR: it leads to the sockets of
the user's session, and through those to a service manager that starts programs without our limits.
"""

WORKSPACE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
SECRETIVE = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)

Bytes = Annotated[int, Field(ge=0, le=1 << 50)]
Count = Annotated[int, Field(ge=1, le=1 << 30)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """What a process may use (setrlimit(2)), and what its whole tree may; None: what the house says, else what the
    system says.

    Each process has them for itself, also `memory_bytes`, which counts address space; `processes` counts all that run
    as our user, and does not bind root. `files`: open descriptors. Beyond `cpu_s` of processor time it gets SIGXCPU and
    a second later SIGKILL; a file that would grow beyond `file_bytes` is SIGXFSZ.

    `tree_memory_bytes`, `tree_cpus` (processors, 1.5 is one and a half) and `tree_processes` bound all processes of an
    incarnation together. Nothing but a control group can do that.
    """

    __pydantic_config__ = STRICT
    cpu_s: Count | None = None
    memory_bytes: Bytes | None = None
    processes: Count | None = None
    files: Annotated[int, Field(ge=16, le=1 << 20)] | None = None
    file_bytes: Bytes | None = None
    core_bytes: Bytes | None = None
    tree_memory_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 50)] | None = None
    tree_cpus: Annotated[float, Field(ge=0.01, le=4096)] | None = None
    tree_processes: Count | None = None

    def over(self, house: ResourceLimits) -> ResourceLimits:
        """These, and for what they leave open the house's."""
        left_open = {f.name: getattr(house, f.name) for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **left_open)


CONTROLLER_OF = {"tree_memory_bytes": "memory", "tree_cpus": "cpu", "tree_processes": "pids"}
"""What each limit of a whole tree needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlGroups:
    """A folder of the version 2 hierarchy in which a house makes one group for each tree, and the controllers that
    these have. Without any they freeze and kill all the same. `actors.processes.claim` finds one.
    """

    base: str
    controllers: frozenset[str] = frozenset()

    def path(self, marker: str) -> str:
        """The group of the tree with this marker."""
        return os.path.join(self.base, re.sub(r"[^A-Za-z0-9._-]", "_", marker))  # noqa: PTH118 - touches no disk


def _absolute(path: str) -> str:
    if "\0" in path or not path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} is no absolute path without '..'")
    return os.path.normpath(path)


Absolute = Annotated[str, AfterValidator(_absolute)]
Paths = Annotated[tuple[Absolute, ...], Field(max_length=64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """Out of this a program cannot reach: it reads the system's programs and `read`, and writes its own directory and
    `write`, each with all below it. `network`: whether it may use it.
    """

    __pydantic_config__ = STRICT
    by: Literal["bubblewrap", "landlock"]
    read: Paths = ()
    write: Paths = ()
    network: bool = False


class Outside(ValueError):
    """A directory in which the house starts no program; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program starts: in `root`, or `beneath` it, which is walked without following any link.

    `made`: both are made when they are not there.
    """

    root: str
    beneath: tuple[str, ...] = ()
    links: bool = True
    made: bool = False

    @property
    def path(self) -> str:
        return os.path.join(self.root, *self.beneath)  # noqa: PTH118 - nothing here touches the disk


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildPolicy:
    """See the module.

    Args:
        pass_env: Names of our environment that every program gets; `LC_*` means each that begins with `LC_` and does
            not look like a secret. Nothing of ours that begins with `ENGINEHOUSE_` is ever passed on.
        limits: For all engines whose config says nothing else. No core files by default: they hold what memory held.
        umask: Explicit, so that it does not depend on how the house was started. 022: what a program makes in a
            workspace is to be read by the people who share it.
        no_new_privs: Nothing that is started can gain privileges, by set-user-ID or otherwise (prctl(2)).
        wall: Each program may signal and trace itself and what it starts, and nothing else: not its keeper, not us.
            Landlock does that from Linux 6.12 on, where `no_new_privs` is set or we are root; else it is not done.
        groups: Where each tree has a control group; None: none has. `limits` of trees need it.
        roots: Directories beneath one of which every program starts, without a link on the way; none: anywhere.
        private: Directories in and below which none starts, however it gets there: the house's own.
        workspaces: The directory of those that a config names; it may lie in a private one. None: there are none.
        lasting: The directory of process trees that outlive the house, for the next one to take over; only for a house
            whose engines come back with it. None: every tree ends with the house.
        secrets: What configs may refer to.
    """

    pass_env: tuple[str, ...] = PASSED
    limits: ResourceLimits = ResourceLimits(core_bytes=0)
    umask: int = 0o022
    no_new_privs: bool = True
    wall: bool = True
    groups: ControlGroups | None = None
    roots: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    workspaces: str | None = None
    lasting: str | None = None
    secrets: Sources = field(default_factory=Sources)

    def __post_init__(self) -> None:
        for name in self.pass_env:
            if problem := passable(name):
                raise ValueError(problem)
        for path in (*self.roots, *self.private, *filter(None, [self.workspaces, self.lasting])):
            _absolute(path)
        if lacking := self.lacking(self.limits):
            raise ValueError(": ".join(lacking))

    def lacking(self, limits: ResourceLimits) -> tuple[str, str] | None:
        """The first limit that this house cannot set, and why. A limit of a process can always be set."""
        has = self.groups.controllers if self.groups is not None else frozenset()
        for name, controller in CONTROLLER_OF.items():
            if getattr(limits, name) is not None and controller not in has:
                return name, (
                    "bounds a whole tree, which needs control groups of version 2 with the controller "
                    f"{controller!r}, and this house has {'them without it' if self.groups else 'none'}; memory_bytes, "
                    "cpu_s and processes bound each process anywhere"
                )
        return None

    def environment(self) -> dict[str, str]:
        """What of our environment a program gets."""
        return {name: value for name, value in os.environ.items() if self._passes(name)}

    def _passes(self, name: str) -> bool:
        if name.startswith("ENGINEHOUSE_"):
            return False
        if name in self.pass_env:
            return True
        begun = any(known.endswith("*") and name.startswith(known[:-1]) for known in self.pass_env)
        return begun and SECRETIVE.search(name) is None

    def place(self, cwd: str) -> Place:
        """Where `cwd`, relative to our own directory, is. Looks at no disk. Raises Outside."""
        path = os.path.abspath(cwd)  # noqa: PTH100 - keeps the links of a path
        if not self.roots:
            return Place(path)
        for root in map(os.path.normpath, self.roots):
            if beneath(path, root):
                return Place(root, tuple(path[len(root) :].strip("/").split("/")) if path != root else (), links=False)
        raise Outside(f"{path!r} is not beneath {' or '.join(map(repr, self.roots))}")

    def owns(self, path: str) -> bool:
        """Whether it is, in truth, in a private directory and not among the workspaces. Reads the disk."""
        real = os.path.realpath(path)
        if self.workspaces is not None and beneath(real, os.path.realpath(self.workspaces)):
            return False
        return any(beneath(real, os.path.realpath(folder)) for folder in self.private)

    def workspace(self, name: str) -> Place:
        """The directory of a workspace, made when it is needed. Raises Outside."""
        if self.workspaces is None:
            raise Outside("this house has no workspaces; give a cwd")
        if re.fullmatch(WORKSPACE_NAME, name, re.ASCII) is None or name.endswith("\n"):
            raise Outside(f"{name!r} is no name of a workspace: use letters, digits, '.', '_' and '-', up to 64")
        return Place(self.workspaces, (name,), links=False, made=True)


def passable(name: str) -> str | None:
    """What is wrong with an entry of `pass_env`, as a sentence."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\*?", name) or len(name) < 2:
        return f"{name!r} is no name of a variable, nor the beginning of one with a '*' behind it"
    if name.startswith("ENGINEHOUSE_"):
        return f"{name!r} is the house's own, and is never passed on"
    return None


def beneath(path: str, root: str) -> bool:
    """Whether the one is the other or below it, as they are written."""
    return path == root or path.startswith(root.rstrip("/") + "/")
