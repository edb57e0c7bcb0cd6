"""Attach to an engine's session: what somebody types there is typed into the engine's own shell."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from web.cli.asked import Asked, command
from web.places import Problem

if TYPE_CHECKING:
    from supervisor.house import House

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
    socket = asked.house(lambda house: _session(house, engine))
    words = ["tmux", "-S", socket, "attach", "-t", "=main"]
    if asked.json or print_:
        asked.done({"engine": engine, "socket": socket, "command": words}, shlex.join(words))
        return
    program = shutil.which("tmux")
    if program is None:
        raise Problem("There is no program tmux in PATH; install it to attach.")
    # Inside of somebody's own tmux this is another server, which is what tmux warns of by that variable.
    os.execve(program, words, {name: value for name, value in os.environ.items() if name != "TMUX"})  # noqa: S606


async def _session(house: House, engine: str) -> str:
    """Raises UnsupportedCommand for an engine that never has a session, InvalidState for one that has none now."""
    from protocol.errors import InvalidState, UnsupportedCommand

    info = await house.get(engine)
    if info.kind != "shell" or info.config.get("backend") != "tmux":
        raise UnsupportedCommand(f"{engine} has no session to attach to: that is what a shell has with backend=tmux.")
    told = (await house.state(engine)).slices.get("terminal", {}).get("value")
    if not isinstance(told, dict) or not isinstance(told.get("socket"), str):
        raise InvalidState(f"{engine} has no session to attach to now: start it.", state=info.state)
    return _socket(engine, told["socket"])


def _socket(engine: str, path: str) -> str:
    """The path. Only the path is taken from what the house says, and only where it is our own socket."""
    try:
        found = Path(path).stat()
    except OSError:
        raise Problem(f"{engine}: the socket {path} is not on this machine, or not for you to see.") from None
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise Problem(f"{engine}: {path} is not a socket of yours.")
    return path
