"""What is set about the programs that engines start, and what the library is told of it (`actors/children.py`)."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from actors.children import PASSED, ChildPolicy, ControlGroups, ResourceLimits, beneath, passable
from actors.secrets import Sources
from web.places import Problem

__all__ = ["LASTING", "Children", "Dialects", "Folder", "SecretSources", "child_policy", "keep_apart"]

LASTING: Final = "lasting"
"""The folder in the state folder of process trees that outlive the daemon."""

_SECTION: Final = ConfigDict(extra="forbid", frozen=True)


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError("not absolute")
    return path


def _passable(name: str) -> str:
    if problem := passable(name):
        raise ValueError(problem)
    return name


def _not_ours(name: str) -> str:
    if not name or "=" in name or name.startswith("ENGINEHOUSE_"):
        raise ValueError("a name of ours")
    return name


Folder = Annotated[Path, AfterValidator(_absolute)]
MANY: Final = 1 << 50


class Children(BaseModel):
    """`[children]`: how every program of an engine is started. An engine's own `limits` go before these."""

    model_config = _SECTION
    pass_env: Annotated[
        list[Annotated[str, AfterValidator(_passable)]],
        Field(description="a list of names of variables, or of beginnings with a * behind; none of ENGINEHOUSE_"),
    ] = list(PASSED)
    cpu_s: Annotated[int | None, Field(ge=1, le=1 << 30, description="1 or more seconds of processor time")] = None
    memory_bytes: Annotated[int | None, Field(ge=1 << 20, le=MANY, description="1048576 or more bytes")] = None
    processes: Annotated[int | None, Field(ge=1, le=1 << 30, description="1 or more, of our user in all")] = None
    files: Annotated[int | None, Field(ge=16, le=1 << 20, description="16 to 1048576 (unset: 1024 at first)")] = None
    file_bytes: Annotated[int | None, Field(ge=0, le=MANY, description="0 or more bytes")] = None
    core_bytes: Annotated[int, Field(ge=0, le=MANY, description="0 or more bytes")] = 0
    tree_memory_bytes: Annotated[int | None, Field(ge=1 << 20, le=MANY, description="1048576 or more bytes")] = None
    tree_cpus: Annotated[float | None, Field(ge=0.01, le=4096, description="0.01 to 4096 processors")] = None
    tree_processes: Annotated[int | None, Field(ge=1, le=1 << 30, description="1 or more, of each engine")] = None
    control_groups: Annotated[
        str, Field(pattern=r"^(auto|none|/[^\x00]*)$", description="auto, none or the absolute path of a group")
    ] = "auto"
    umask: Annotated[str, Field(pattern=r"^0?[0-7]{3}$", description="three octal digits, as text")] = "022"
    no_new_privs: Annotated[bool, Field(description="true, or false (sudo and the like work in engines)")] = True
    wall: Annotated[bool, Field(description="true, or false (programs may signal what they did not start)")] = True


class SecretSources(BaseModel):
    """`[secrets]`: what configs of engines may refer to; nothing that is not named here."""

    model_config = _SECTION
    env: Annotated[
        list[Annotated[str, AfterValidator(_not_ours)]],
        Field(description="a list of names of variables; none of ENGINEHOUSE_"),
    ] = []
    directories: Annotated[list[Folder], Field(description="a list of absolute paths of folders, without ..")] = []


class Workspaces(BaseModel):
    """`[dialects.workspace]`."""

    model_config = _SECTION
    root: Annotated[
        Folder | None, Field(description="the absolute path of a folder (unset: workspaces in state_dir)")
    ] = None


class Dialects(BaseModel):
    """`[dialects]`."""

    model_config = _SECTION
    workspace: Annotated[Workspaces, Field(description="a table")] = Workspaces()


def keep_apart(state: Path, secrets: SecretSources) -> None:
    """Raises Problem for what would give the house whose state is in `state` away."""
    for folder in map(str, secrets.directories):
        real, ours = os.path.realpath(folder), os.path.realpath(state)
        if beneath(real, ours) or beneath(ours, real):
            raise Problem(f"secrets.directories: {folder!r} holds, or is in, the state folder; name one apart from it.")


def child_policy(
    state: Path,
    children: Children,
    secrets: SecretSources,
    dialects: Dialects,
    roots: list[Path],
    groups: ControlGroups | None = None,
) -> ChildPolicy:
    """What the settings mean for a house whose state is in `state`. Raises Problem for what would give that away, and
    for a limit that cannot be set here.
    """
    keep_apart(state, secrets)
    limits = ResourceLimits(**{field.name: getattr(children, field.name) for field in fields(ResourceLimits)})
    if lacking := ChildPolicy(groups=groups).lacking(limits):
        raise Problem(f"children.{lacking[0]}: it {lacking[1]}.")
    return ChildPolicy(
        pass_env=tuple(children.pass_env),
        limits=limits,
        wall=children.wall,
        groups=groups,
        umask=int(children.umask, 8),
        no_new_privs=children.no_new_privs,
        roots=tuple(map(str, roots)),
        private=(str(state),),
        workspaces=str(dialects.workspace.root or state / "workspaces"),
        lasting=str(state / LASTING),
        secrets=Sources(env=frozenset(secrets.env), directories=tuple(map(str, secrets.directories))),
    )
