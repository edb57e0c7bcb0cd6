"""Attach to an engine's session: what somebody types there is typed into the engine's own shell."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from pathlib import Path
from typing import Annotated, Any

import typer

from web.cli.asked import Asked, command
from web.places import Problem

__all__ = ["add"]


def add(app: typer.Typer) -> None:
    """Register the command of this file."""
    command(app, "attach")(attach)


def attach(
    asked: Asked,
    engine: Annotated[str, typer.Argument(help="The engine's id.", show_default=False)],
    print_: Annotated[
        bool, typer.Option("--print", help="Print the command that attaches, and do not run it.")
    ] = False,
) -> None:
    """Attach to the session of a shell on tmux, on this machine; Ctrl-B D leaves it."""
    told = asked.house(lambda house: house.state(engine)).slices.get("terminal", {}).get("value")
    socket = _socket(engine, told)
    words = ["tmux", "-S", socket, "attach", "-t", "=main"]
    if asked.json or print_:
        asked.done({"engine": engine, "socket": socket, "command": words}, shlex.join(words))
        return
    program = shutil.which("tmux")
    if program is None:
        raise Problem("There is no program tmux in PATH; install it to attach.")
    # Inside of somebody's own tmux this is another server, which is what tmux warns of by that variable.
    os.execve(program, words, {name: value for name, value in os.environ.items() if name != "TMUX"})  # noqa: S606


def _socket(engine: str, told: Any) -> str:
    """The socket's path. Only the path is taken from what the house says, and only where it is our own socket."""
    path = told.get("socket") if isinstance(told, dict) else None
    if not isinstance(path, str):
        raise Problem(f"{engine} has no session to attach to: spawn a shell with config backend=tmux, and start it.")
    try:
        found = Path(path).stat()
    except OSError:
        raise Problem(f"{engine}: the socket {path} is not on this machine, or not for you to see.") from None
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise Problem(f"{engine}: {path} is not a socket of yours.")
    return path
