"""API keys: who may call, and for what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from web.cli import show
from web.cli.asked import Asked, command

__all__ = ["app"]

app = typer.Typer(help="API keys: who may call, and for what.", no_args_is_help=True, rich_markup_mode=None)


@command(app, "list")
def list_keys(asked: Asked) -> None:
    """List keys, never their secrets."""
    found: Any = asked.remote(lambda house: house.call("GET", "auth", "keys"))
    columns = ("id", "name", "scopes", "pools", "rate_per_min", "created_at", "expires_at", "last_used_at")
    asked.table(found["items"], *columns, empty="There is none beside the admin key.")


@command(app)
def create(
    asked: Asked,
    name: Annotated[str, typer.Argument(help="What it is for.", show_default=False)],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, operate, approve or admin; repeatable. Without it: read.")
    ] = None,
    pool: Annotated[list[str] | None, typer.Option(help="Only in this pool; repeatable. Without it: in all.")] = None,
    expires_in: Annotated[
        float | None, typer.Option("--expires-in", "--expires", help="Seconds it is good for.")
    ] = None,
    rate: Annotated[int | None, typer.Option(help="Requests it may make in 60 s.")] = None,
) -> None:
    """Create a key and print it: this once."""
    body: dict[str, Any] = {
        "name": name,
        "scopes": scope or ["read"],
        "pools": pool or None,
        "expires_in_s": expires_in,
    }
    if rate is not None:
        body["rate_per_min"] = rate
    made: Any = asked.remote(lambda house: house.call("POST", "auth", "keys", body=body))
    if asked.json:
        show.print_json(made)
    else:
        print(made["key"])


@command(app)
def revoke(asked: Asked, key: Annotated[str, typer.Argument(help="The key's id.", show_default=False)]) -> None:
    """Make a key unknown, for good."""
    asked.remote(lambda house: house.call("DELETE", "auth", "keys", key))
    asked.done(None, f"{key} is revoked")
