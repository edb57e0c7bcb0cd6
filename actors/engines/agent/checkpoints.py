"""Checkpoints of an agent: what was said, what is shown and what its directory held, to go back to.

Each is a file in the engine's folder, whole or not there; the contents of the workspace's files are shared between them
(`snapshot.py`). The last few are kept. Disk work: call it in a thread.
"""

from __future__ import annotations

import glob
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from actors.engine import Config
from actors.engines.agent.conversation import Conversation
from actors.engines.agent.files import Files
from actors.engines.agent.record import write_new
from actors.engines.agent.snapshot import Contents, Item, go_back, take

__all__ = ["Checkpoint", "Checkpointing", "Checkpoints", "Why"]

Why = str
"""`before a run`, `after a run`, `every so many runs`, `asked for`, `before going back`."""

Count = Annotated[int, Field(ge=1, le=1000)]


class Checkpointing(Config):
    """`keep`: how many; `every`: also after so many runs, whatever they did; `exclude`: paths or names in the workspace
    that are left alone, beside `.git`; `max_files`, `max_bytes`: beyond which a workspace is too large.
    """

    keep: Count = 5
    every: Count = 10
    exclude: Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=100)] = Field(
        default_factory=list
    )
    max_files: Annotated[int, Field(ge=1, le=10**7)] = 200_000
    max_bytes: Annotated[int, Field(ge=1, le=10**13)] = 4 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What people see of one. `at`: RFC 3339; `run_id`: the run it was made for; `files`, `bytes`: of the workspace."""

    id: str
    at: str
    run_id: str
    why: Why
    files: int
    bytes: int


class Checkpoints:
    """See the module."""

    def __init__(self, folder: Path, files: Files, asked: Checkpointing) -> None:
        self._folder, self._files, self._asked = folder / "checkpoints", files, asked
        self._contents = Contents(folder / "contents")

    def all(self) -> list[Checkpoint]:
        """Oldest first."""
        return [Checkpoint(**self._load(number)["about"]) for number in self._numbers()]

    def make(
        self, why: Why, *, at: str, conversation: Mapping[str, Any], slices: Mapping[str, Any], keep: str = ""
    ) -> Checkpoint:
        """Make one, durably, and forget the oldest; never the one that `keep` names. Raises TooLarge, OSError, Refused.

        `conversation`: dumped; `slices`: those that go back with it.
        """
        asked, numbers = self._asked, self._numbers()
        last = self._load(numbers[-1]) if numbers else {}
        taken_ns = time.time_ns()
        with self._files.directory(()) as root:
            items, size = take(
                root, self._contents, excluded=self._excluded(), before=map(Item.load, last.get("items", ())),
                before_ns=last.get("taken_ns", 0), most_files=asked.max_files, most_bytes=asked.max_bytes,
            )  # fmt: skip
        number = numbers[-1] + 1 if numbers else 1
        about = Checkpoint(
            id=f"cp-{number}", at=at, run_id=conversation["run_id"], why=why,
            files=sum(item.what == "f" for item in items), bytes=size,
        )  # fmt: skip
        self._folder.mkdir(mode=0o700, exist_ok=True)
        said = {name: getattr(about, name) for name in about.__dataclass_fields__}
        write_new(
            self._path(number),
            {
                "about": said, "taken_ns": taken_ns, "conversation": conversation, "slices": slices,
                "items": [item.dump() for item in items],
            },
        )  # fmt: skip
        self._forget([*numbers, number], keep)
        return about

    def back(self, id: str) -> tuple[Conversation, dict[str, Any], int]:
        """Make the workspace what it was then: what was said then, the slices, how many files changed.

        `id`: of one that is there. Raises what `go_back` raises.
        """
        found = self._load(int(id.removeprefix("cp-")))
        with self._files.directory(()) as root:
            changed = go_back(
                root, self._contents, [Item.load(item) for item in found["items"]],
                taken_ns=found["taken_ns"], excluded=self._excluded(),
            )  # fmt: skip
        return Conversation.load(found["conversation"]), found["slices"], changed

    def _excluded(self) -> list[str]:
        """With what is the house's own: to go back would take the journal back too."""
        return [*self._asked.exclude, *(f"/{glob.escape(path)}" for path in self._files.private())]

    def _forget(self, numbers: Sequence[int], keep: str) -> None:
        stay = {*numbers[-self._asked.keep :], *(number for number in numbers if f"cp-{number}" == keep)}
        if len(stay) == len(numbers):
            return
        for number in numbers:
            if number not in stay:
                self._path(number).unlink()
        self._contents.sweep(item[3] for number in stay for item in self._load(number)["items"])

    def _numbers(self) -> list[int]:
        if not self._folder.exists():
            return []
        return sorted(int(path.stem) for path in self._folder.glob("*.json"))

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.json"

    def _load(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._path(number).read_bytes())
        return found
