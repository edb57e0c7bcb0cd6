"""The log of a daemon, as others may read it while it is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def log_of(state: Path) -> bytes:
    """The whole lines of the daemon whose state directory that is, the oldest first.

    A line that is being written is left out: read(2) may see the first pages of a write(2) that is not yet done, and
    how many of them is the file system's business.
    """
    files = sorted((state / "logs").iterdir(), key=lambda path: (len(path.name), path.name), reverse=True)
    return b"".join(whole for whole, end, _ in (path.read_bytes().rpartition(b"\n") for path in files) if end)


def logged(state: Path) -> list[dict[str, Any]]:
    """The same, as objects."""
    return [json.loads(line) for line in log_of(state).splitlines()]
