"""What configs say about the programs that they start, in words that both `shell` and `process` use."""

from __future__ import annotations

import errno
import os
import shlex
import signal
from collections.abc import Sequence
from typing import Annotated, Self, TypedDict

from pydantic import AfterValidator, Field, model_validator

from actors.beneath import descend
from actors.children import WORKSPACE_NAME, ChildPolicy, Outside, ResourceLimits, Sandbox
from actors.context import Context
from actors.engine import CannotStart, Config
from actors.processes import SpawnFailed
from actors.processes.sandbox import lacking, unsafe
from actors.secrets import Reference
from protocol.errors import ValidationFailed

__all__ = [
    "Bounds",
    "Environment",
    "ProgramConfig",
    "Text",
    "Word",
    "cannot_start",
    "command_line",
    "ended",
    "exceeded",
    "not_allowed",
    "refuse",
]


NAMED_CHARS = 80
"""How much of a command line names a program."""


def _without_nul(text: str) -> str:
    """No system call takes one: a string ends there (execve(2))."""
    if "\0" in text:
        raise ValueError("a NUL character cannot be given to a program")
    return text


def _named(env: dict[str, str | Reference]) -> dict[str, str | Reference]:
    for name in env:
        if not name or "=" in name:
            raise ValueError(f"{name!r} is no name for an environment variable")
    return env


Text = Annotated[str, AfterValidator(_without_nul)]
Word = Annotated[Text, Field(min_length=1, max_length=1 << 17)]
Environment = Annotated[dict[Text, Text | Reference], AfterValidator(_named)]


class Bounds(TypedDict):
    """The arguments of `spawn_process` that say where a program starts and what it may do."""

    cwd: str
    workspace: str | None
    limits: ResourceLimits
    sandbox: Sandbox | None


class ProgramConfig(Config):
    """What every kind that starts a program takes.

    `cwd`: where it starts; `workspace`: the house's directory of that name, in its place. `env`: its environment, over
    what the house passes on; a secret is given by reference. `api`: whether it gets access to the house, as its engine.
    `limits`, `sandbox`: what it may use and reach; no limits of its own: the house's, no sandbox: none.
    """

    cwd: Word = "."
    workspace: Annotated[str, Field(pattern=WORKSPACE_NAME)] | None = None
    env: Environment = Field(default_factory=dict)
    api: bool = False
    limits: ResourceLimits = ResourceLimits()
    sandbox: Sandbox | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.workspace is not None and self.cwd != ".":
            raise ValueError("give either cwd or workspace")
        return self

    @property
    def bounds(self) -> Bounds:
        return Bounds(cwd=self.cwd, workspace=self.workspace, limits=self.limits, sandbox=self.sandbox)


def refuse(config: ProgramConfig, policy: ChildPolicy) -> None:
    """Refuse what this house does not allow, or this machine cannot do. Reads the disk. Raises ValidationFailed.

    It is decided again whenever a program starts, where nothing can change in between; this tells it early.
    """
    where = "cwd" if config.workspace is None else "workspace"
    try:
        place = policy.place(config.cwd) if config.workspace is None else policy.workspace(config.workspace)
        if not place.made:
            if not place.links:
                _walk(place.root, place.beneath)
            if policy.owns(place.path):
                raise Outside(f"nothing may start in {place.path!r}: it is the house's own directory")
        where = "env"
        for name, value in config.env.items():
            if not isinstance(value, str):
                where = f"env.{name}"
                policy.secrets.check(value)
        if unbound := policy.lacking(config.limits.over(policy.limits)):
            where, why = f"limits.{unbound[0]}", unbound[1]
            raise ValueError(f"it {why}")
        where = "sandbox"
        if config.sandbox is not None:
            unsafe(config.sandbox, place.path, policy.private)
            if problem := lacking(config.sandbox):
                raise ValueError(problem)
    except ValueError as error:
        raise not_allowed(where, str(error)) from None


def not_allowed(where: str, why: str) -> ValidationFailed:
    """What a member of a config asks for that this house does not allow, or this machine cannot do."""
    fault = {"loc": ["config", *where.split(".", 1)], "msg": why, "type": "not_allowed_here"}
    return ValidationFailed(f"config.{where}: {why}.", errors=[fault])


def _walk(root: str, steps: tuple[str, ...]) -> None:
    """Raises Outside for a link on the way. A directory that is not there may be by the time the program starts."""
    try:
        os.close(descend(root, steps))
    except FileNotFoundError:
        return
    except OSError as error:
        why = "a link is on the way there" if error.errno == errno.ELOOP else str(error.strerror)
        raise Outside(f"{os.path.join(root, *steps)!r} cannot be used: {why}") from None  # noqa: PTH118 - as written


def cannot_start(error: SpawnFailed, remedy: str = "") -> Exception:
    """What to raise in `on_start`: no retry mends a wrong path, while a full process table may be gone in a second.
    `remedy`: what to do about a missing program, as a sentence.
    """
    if error.reason == "failed":
        return error
    return CannotStart(f"{error}. {remedy}" if remedy and error.reason == "missing-program" else str(error))


def command_line(ctx: Context, argv: Sequence[str]) -> str:
    """What a sentence calls a program: as one would type it, on one line, without secrets, and of what is long the
    beginning.
    """
    text = shlex.join(_masked(ctx, word) for word in argv)  # first: half a secret, or a quoted one, is not known
    text = "".join(char if char.isprintable() else " " for char in text)
    return f"`{text if len(text) <= NAMED_CHARS else text[:NAMED_CHARS] + '...'}`"


def _masked(ctx: Context, word: str) -> str:
    masking = ctx.masking()
    return (masking.feed(word.encode(errors="replace")) + masking.rest()).decode(errors="replace")


def ended(code: int, *, starved: bool) -> str:
    """How a program ended, negative for a signal, as the end of a sentence. `starved`: see `Context.starved`."""
    if code >= 0:
        return f"ended with exit status {code}"
    return f"ended with signal {-code} ({signal.strsignal(-code)}{exceeded(-code, starved=starved)})"


def exceeded(signum: int, *, starved: bool) -> str:
    """What a program that this signal ended has used too much of, as a half sentence; else nothing."""
    match signum:
        case signal.SIGKILL if starved:
            return ": all its processes used more memory than its limit tree_memory_bytes allows"
        case signal.SIGXCPU:
            return ": it used more processor time than its limit cpu_s allows"
        case signal.SIGXFSZ:
            return ": a file grew beyond its limit file_bytes"
    return ""
