"""Pools: engines that belong together."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from web.cli import texts
from web.cli.asked import Asked, command
from web.cli.exits import FAILED

__all__ = ["app"]

app = typer.Typer(help="Pools: engines that belong together.", no_args_is_help=True, rich_markup_mode=None)

Pool = Annotated[str, typer.Argument(help="The pool's id.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why.")]


@command(app, "list")
def list_pools(asked: Asked) -> None:
    """List pools."""
    pools = asked.house(lambda house: house.pools())
    columns = ("id", "engines", "running", "max_engines", "max_running", "strategy", "draining")
    asked.table(pools, *columns, empty="There are no pools.")


@command(app)
def create(
    asked: Asked,
    pool: Pool,
    kind: Annotated[str | None, typer.Option(help="The kind of its template.")] = None,
    config: Annotated[list[str] | None, typer.Option(help="The template's config: key=value or JSON.")] = None,
    max_engines: Annotated[int | None, typer.Option(min=1, help="How many engines it may have (100).")] = None,
    max_running: Annotated[int | None, typer.Option(min=1, help="How many of them may be up at once.")] = None,
    spec: Annotated[str | None, typer.Option(help="Further members, as a JSON object.")] = None,
) -> None:
    """Create a pool."""
    from protocol.bodies import NewPool
    from protocol.edge import parse

    members = _members(kind, config, max_engines=max_engines, max_running=max_running, spec=spec)
    new = parse(NewPool, {**members, "id": pool})
    made = asked.house(lambda house: house.create_pool(new))
    asked.done(made, made.id)


@command(app)
def change(
    asked: Asked,
    pool: Pool,
    kind: Annotated[str | None, typer.Option(help="The kind of a new template.")] = None,
    config: Annotated[list[str] | None, typer.Option(help="That template's config: key=value or JSON.")] = None,
    max_engines: Annotated[int | None, typer.Option(min=1, help="How many engines it may have.")] = None,
    max_running: Annotated[int | None, typer.Option(min=1, help="How many of them may be up at once.")] = None,
    spec: Annotated[str | None, typer.Option(help="Further members, as a JSON object; null takes one away.")] = None,
) -> None:
    """Change what is named of a pool. A new template touches new engines only."""
    from protocol.bodies import PatchPool
    from protocol.edge import parse

    if config and kind is None:
        raise typer.BadParameter("--config is a new template's: give its --kind too")
    members = _members(kind, config, max_engines=max_engines, max_running=max_running, spec=spec)
    if not members:
        raise typer.BadParameter("name what is to change")
    patch = parse(PatchPool, members)
    changed = asked.house(lambda house: house.patch_pool(pool, patch, frozenset(members)))
    asked.done(changed, f"{pool} is changed")


@command(app)
def show(asked: Asked, pool: Pool) -> None:
    """Show a pool."""
    asked.record(asked.house(lambda house: house.pool(pool)))


@command(app)
def get(asked: Asked, pool: Pool, key: Annotated[str, typer.Argument(help="The engine's key.")]) -> None:
    """Get the engine of a key, or spawn it from the template, and print its id."""
    engine, _ = asked.house(lambda house: house.get_or_spawn(pool, key))
    asked.done(engine, engine.id)


@command(app)
def delete(
    asked: Asked, pool: Pool, force: Annotated[bool, typer.Option("--force", help="With its engines.")] = False
) -> None:
    """Delete a pool."""
    asked.house(lambda house: house.delete_pool(pool, force=force))
    asked.done(None, f"{pool} is deleted")


@command(app)
def pause(asked: Asked, pool: Pool, reason: Reason = "") -> None:
    """Hold all its engines."""
    _send(asked, pool, "pause", reason)


@command(app)
def resume(asked: Asked, pool: Pool) -> None:
    """Let them go on."""
    _send(asked, pool, "resume", "")


@command(app)
def start(asked: Asked, pool: Pool) -> None:
    """Start all its engines."""
    _send(asked, pool, "start", "")


@command(app)
def stop(asked: Asked, pool: Pool, reason: Reason = "") -> None:
    """Stop all its engines."""
    _send(asked, pool, "stop", reason)


@command(app)
def drain(asked: Asked, pool: Pool, reason: Reason = "") -> None:
    """Take no new runs; what is queued is finished, then its engines stop."""
    _send(asked, pool, "drain", reason)


@command(app)
def dispose(
    asked: Asked, pool: Pool, force: Annotated[bool, typer.Option("--force", help="Also with work.")] = False
) -> None:
    """Dispose of all its engines."""
    _send(asked, pool, "dispose", "", force=force)


def _members(kind: str | None, config: list[str] | None, *, spec: str | None, **limits: int | None) -> dict[str, Any]:
    """The members of a pool that a command line names."""
    members = texts.members(spec)
    members |= {name: value for name, value in limits.items() if value is not None}
    if kind is not None:
        members["template"] = {"kind": kind, "config": texts.table(config or [])}
    return members


def _send(asked: Asked, pool: str, action: Any, reason: str, *, force: bool = False) -> None:
    from protocol.bodies import PoolCommand

    sent = PoolCommand(type=action, reason=reason, force=force)
    results = asked.house(lambda house: house.pool_command(pool, sent))
    asked.table(results, "id", "ok", "state", "problem", empty="The pool has no engines.")
    if not all(result.ok for result in results):
        raise typer.Exit(FAILED)
