"""Dead letters: what was accepted and nobody will handle."""

from __future__ import annotations

from typing import Annotated

import typer

from web.cli.asked import Asked, command

__all__ = ["app"]

app = typer.Typer(
    help="Dead letters: accepted, and nobody will handle them.", no_args_is_help=True, rich_markup_mode=None
)

Letter = Annotated[str, typer.Argument(help="The dead letter's id.", show_default=False)]


@command(app, "list")
def list_letters(
    asked: Asked,
    engine: Annotated[str | None, typer.Option(help="Of this engine alone.")] = None,
    pool: Annotated[str | None, typer.Option(help="Of this pool alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 100,
) -> None:
    """List dead letters, newest first."""
    page = asked.house(lambda house: house.dead_letters(engine=engine, pool=pool, limit=limit))
    columns = ("id", "engine_id", "type", "reason", "state", "created_at")
    asked.table(page.items, *columns, empty="There are no dead letters.")


@command(app)
def redeliver(asked: Asked, letter: Letter) -> None:
    """Send one again, as a new command."""
    accepted = asked.house(lambda house: house.redeliver(letter))
    asked.done(accepted, f"{letter} is sent again as {accepted.command_id}")


@command(app)
def discard(asked: Asked, letter: Letter) -> None:
    """Forget one."""
    asked.house(lambda house: house.discard(letter))
    asked.done(None, f"{letter} is forgotten")
