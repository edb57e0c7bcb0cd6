"""The audit trail: what was asked of the house, by whom, and what became of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from web.cli.asked import Asked, command

if TYPE_CHECKING:
    from web.client import RemoteHouse

__all__ = ["add"]

Principal = Annotated[str | None, typer.Option(help="Of this principal alone: key:admin, user:ann, ...")]
Outcome = Annotated[str | None, typer.Option(help="accepted, replayed, refused or abandoned.")]
Operation = Annotated[str | None, typer.Option(help="Of this operation alone, as OpenAPI names it.")]
Since = Annotated[str | None, typer.Option(help="From this time on, in RFC 3339: 2026-01-31T12:00:00Z.")]
Until = Annotated[str | None, typer.Option(help="Before this time.")]


def add(app: typer.Typer) -> None:
    """Register the command of this file."""
    command(app, "audit")(audit)


def audit(
    asked: Asked,
    principal: Principal = None,
    outcome: Outcome = None,
    operation: Operation = None,
    engine: Annotated[str | None, typer.Option(help="About this engine alone.")] = None,
    pool: Annotated[str | None, typer.Option(help="About engines of this pool alone.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 100,
    everything: Annotated[bool, typer.Option("--all", help="All of it, one JSON object in a line.")] = False,
) -> None:
    """List the audit trail, newest first."""
    wanted = {
        "principal": principal, "outcome": outcome, "operation": operation, "engine": engine, "pool": pool,
        "since": since, "until": until, "limit": str(1000 if everything else limit),
    }  # fmt: skip
    query = {name: text for name, text in wanted.items() if text is not None}
    if everything:
        asked.remote(lambda house: _print_all(house, query))
        return
    found: Any = asked.remote(lambda house: house.call("GET", "admin", "audit", query=query))
    columns = ("time", "outcome", "principal", "operation", "type", "engine_id", "status", "slug", "count", "address")
    asked.table(found["items"], *columns, empty="Nothing was asked of it.")


async def _print_all(house: RemoteHouse, query: dict[str, str]) -> None:
    cursor: str | None = ""
    while cursor is not None:
        page: Any = await house.call("GET", "admin", "audit", query=query | ({"cursor": cursor} if cursor else {}))
        for item in page["items"]:
            print(json.dumps(item, ensure_ascii=False))
        cursor = page["next_cursor"]
