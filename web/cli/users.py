"""Users: people who may log in, and for what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from web.cli.asked import Asked, command
from web.cli.typed import password

__all__ = ["app"]

app = typer.Typer(help="Users: people who may log in.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The user's name.", show_default=False)]


@command(app, "list")
def list_users(asked: Asked) -> None:
    """List users."""
    found: Any = asked.remote(lambda house: house.call("GET", "auth", "users"))
    columns = ("name", "scopes", "pools", "disabled", "rate_per_min", "created_at", "changed_at")
    asked.table(found["items"], *columns, empty="There is none.")


@command(app)
def add(
    asked: Asked,
    name: Name,
    scope: Annotated[
        list[str] | None, typer.Option(help="read, operate, approve or admin; repeatable. Without it: read.")
    ] = None,
    pool: Annotated[list[str] | None, typer.Option(help="Only in this pool; repeatable. Without it: in all.")] = None,
    rate: Annotated[int | None, typer.Option(help="Requests they may make in 60 s.")] = None,
) -> None:
    """Add a user. The password is asked for, or is the first line of stdin: 12 bytes or more."""
    body: dict[str, Any] = {"name": name, "scopes": scope or ["read"], "pools": pool or None}
    if rate is not None:
        body["rate_per_min"] = rate
    body["password"] = password(new=True)
    made: Any = asked.remote(lambda house: house.call("POST", "auth", "users", body=body))
    asked.done(made, f"{name} may log in")


@command(app)
def passwd(asked: Asked, name: Name) -> None:
    """Change a user's password, which is asked for as by `add`; it ends every login of theirs."""
    _change(asked, name, {"password": password(new=True)}, f"{name} has a new password")


@command(app)
def enable(asked: Asked, name: Name) -> None:
    """Let a user log in again."""
    _change(asked, name, {"disabled": False}, f"{name} may log in")


@command(app)
def disable(asked: Asked, name: Name) -> None:
    """Let a user log in no more; it ends every login of theirs."""
    _change(asked, name, {"disabled": True}, f"{name} may not log in")


@command(app)
def remove(asked: Asked, name: Name) -> None:
    """Remove a user, and end every login of theirs."""
    asked.remote(lambda house: house.call("DELETE", "auth", "users", name))
    asked.done(None, f"{name} is removed")


def _change(asked: Asked, name: str, body: dict[str, Any], sentence: str) -> None:
    changed: Any = asked.remote(lambda house: house.call("PATCH", "auth", "users", name, body=body))
    asked.done(changed, sentence)
