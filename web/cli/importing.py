"""Take over what another supervisor runs: `enginehouse import supervisord.conf`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from web.cli import show
from web.cli.asked import Asked, command
from web.cli.exits import FAILED

if TYPE_CHECKING:
    from supervisor.house import House
    from web.supervisord import Left, Taken

__all__ = ["add"]


def add(app: typer.Typer) -> None:
    """Register the command of this file."""
    command(app, "import")(import_)


def import_(
    asked: Asked,
    file: Annotated[Path, typer.Argument(help="A supervisord configuration.", show_default=False)],
    pool: Annotated[str, typer.Option(help="The pool that its engines belong to.")] = "default",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would become of it.")] = False,
) -> None:
    """Make an engine of every program of a supervisord configuration. Repeated, it makes what is missing.

    Exit code 1 when a program was not taken over.
    """
    from web.supervisord import Unreadable, read, translate

    try:
        configuration = read(file, os.environ)
    except Unreadable as error:
        raise typer.BadParameter(str(error)) from None
    taken, left = translate(configuration, pool)
    outcomes = ["would be made"] * len(taken) if dry_run else asked.house(lambda house: _made(house, taken))
    _print(asked, taken, outcomes, left)
    for warning in configuration.warnings:
        show.warning(warning)
    refused = not dry_run and any(outcome not in ("made", "is there") for outcome in outcomes)
    if refused or any(one.program for one in left):
        raise typer.Exit(FAILED)


async def _made(house: House, taken: list[Taken]) -> list[str]:
    """What became of each. One that the house refuses spares the others."""
    from protocol.errors import BadInput, Conflict, Missing

    outcomes = []
    for one in taken:
        try:
            _, new = await house.put(one.engine.id or "", one.engine)
            outcomes.append("made" if new else "is there")
        except (BadInput, Conflict, Missing) as error:
            outcomes.append(f"refused: {error.detail}")
    return outcomes


def _print(asked: Asked, taken: list[Taken], outcomes: list[str], left: list[Left]) -> None:
    from protocol.edge import as_json

    if asked.json:
        engines = [
            {
                "program": one.program.full_name,
                "outcome": outcome,
                "notes": list(one.notes),
                "engine": as_json(one.engine),
            }
            for one, outcome in zip(taken, outcomes, strict=True)
        ]
        show.print_json({"engines": engines, "left": as_json(left)})
        return
    rows: list[dict[str, Any]] = [
        {
            "program": one.program.full_name,
            "engine": one.engine.id,
            "start": "at once" if one.engine.start else "by hand",
            "restart": one.engine.restart.policy.value,
            "command": shlex.join(one.engine.config["argv"]),
            "outcome": outcome,
        }
        for one, outcome in zip(taken, outcomes, strict=True)
    ]
    show.table(rows, ("program", "engine", "start", "restart", "command", "outcome"), empty="It has no programs.")
    noted = [(one.program.full_name, note) for one in taken for note in one.notes]
    for title, lines in (("Not the same:", noted), ("Not taken over:", [(one.section, one.why) for one in left])):
        if lines:
            print(f"\n{title}")
        for name, what in lines:
            print(f"  {show.cell(name, wide=True)}: {show.cell(what, wide=True)}")
