"""What configs say about the programs that they start, in words that both `shell` and `process` use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from actors.engine import CannotStart
from actors.processes import SpawnFailed
from actors.processes.spawning import inherited

__all__ = ["Environment", "Text", "Word", "cannot_start", "environment"]


def _without_nul(text: str) -> str:
    """No system call takes one: a string ends there (execve(2))."""
    if "\0" in text:
        raise ValueError("a NUL character cannot be given to a program")
    return text


def _named(env: dict[str, str]) -> dict[str, str]:
    for name in env:
        if not name or "=" in name:
            raise ValueError(f"{name!r} is no name for an environment variable")
    return env


Text = Annotated[str, AfterValidator(_without_nul)]
Word = Annotated[Text, Field(min_length=1, max_length=1 << 17)]
Environment = Annotated[dict[Text, Text], AfterValidator(_named)]


def environment(env: Mapping[str, str], **otherwise: str) -> dict[str, str]:
    """A program's whole environment: what is harmless of ours, `otherwise`, and over both what its config says."""
    return {**inherited(), **otherwise, **env}


def cannot_start(error: SpawnFailed) -> Exception:
    """What to raise in `on_start`: no retry mends a wrong path, while a full process table may be gone in a second."""
    return error if error.reason == "failed" else CannotStart(str(error))
