"""The command line: `enginehouse`. Every command is a few lines over one client (`web.client`).

`app` puts the commands together, `asked` is what all of them share, `show` and `exits` are how they answer. Light on
purpose: what a command needs is imported when it runs.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code (see `enginehouse --help`)."""
    if stranger := _stranger():
        print(
            f"error: the package `supervisor` at {stranger} is somebody else's (supervisord has the same name); "
            "install enginehouse into an environment of its own.",
            file=sys.stderr,
        )
        return 78
    from web.cli.app import run

    return run(sys.argv[1:] if arguments is None else arguments)


def _stranger() -> str | None:
    """Where `supervisor` is imported from, when that is not beside this package."""
    spec = importlib.util.find_spec("supervisor")
    found = Path(spec.origin).parent if spec is not None and spec.origin is not None else None
    ours = Path(__file__).parent.parent.parent / "supervisor"
    return None if found is not None and os.path.realpath(found) == os.path.realpath(ours) else str(found)
