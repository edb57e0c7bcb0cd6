"""What is remembered of a session on the disk, so that the next house finds its way in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

__all__ = ["Kept"]

FILE = "session.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """`token`: of its marks. `server`, `holder`: the pids of the tmux server, and of what holds the pane open around
    the shell; `program`: the tmux that made them, by its absolute path. `serial`: the number of the last command, and
    `run_id` the run that it was of; `open`: it is in hand, else it has ended with `status`; `before`: (pid, start) of
    who was in the process tree when it was told to begin.
    """

    token: str
    server: int
    pane: str
    holder: int
    program: str = ""
    serial: int = 0
    open: bool = False
    run_id: str | None = None
    status: int | None = None
    before: tuple[tuple[int, int], ...] | None = None

    def save(self, folder: Path) -> None:
        """In one step. Raises OSError."""
        draft = folder / f"{FILE}.new"
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Kept | None:
        """None for one that was not written by us."""
        try:
            read = cls(**json.loads((folder / FILE).read_bytes()))
            return replace(read, before=None if read.before is None else tuple((pid, at) for pid, at in read.before))
        except (OSError, ValueError, TypeError):
            return None
