"""The house as a whole: serve it, ask how it is, see how it is configured."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from web.cli import show
from web.cli.asked import Asked, command
from web.cli.exits import FAILED
from web.cli.peek import peek

__all__ = ["add", "config"]

config = typer.Typer(help="The configuration.", no_args_is_help=True, rich_markup_mode=None)

File = Annotated[Path | None, typer.Option("--config", help="The TOML file; see ENGINEHOUSE_CONFIG.")]
Host = Annotated[str | None, typer.Option(help="The address to listen on.")]
Port = Annotated[int | None, typer.Option(help="The port; 0 takes a free one.")]
Unix = Annotated[Path | None, typer.Option("--unix-socket", help="Listen on this unix socket too.")]
Log = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")]


def add(app: typer.Typer) -> None:
    """Register the commands of this file."""
    command(app, "serve")(serve)
    command(app, "status")(status)
    command(app, "kinds")(kinds)
    command(config, "show")(show_config)
    command(config, "check")(check)


def serve(
    asked: Asked,
    host: Host = None,
    port: Port = None,
    unix_socket: Unix = None,
    log_level: Log = None,
    file: File = None,
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C. A second one stops it at once."""
    from web.daemon import run

    raise typer.Exit(run(_loaded(asked, file, host, port, unix_socket, log_level)))


def status(asked: Asked) -> None:
    """Tell how the house is. Exit code 1 when it is unhealthy, 69 when nobody answers."""
    place = asked.place()
    (health,) = peek(place, "/api/v1/health")
    found: dict[str, Any] = {"url": place.url, **health}
    if place.daemon is not None:
        found |= {"pid": place.daemon.pid, "started_at": place.daemon.started_at}
    if asked.json:
        show.print_json(found)
    else:
        checks = found.pop("checks")
        show.record(found)
        for name, check in checks.items():
            show.record({f"  {name}": " ".join(f"{key}={show.cell(value)}" for key, value in check.items())})
    if health["status"] == "unhealthy":
        raise typer.Exit(FAILED)


def kinds(asked: Asked) -> None:
    """List the kinds of engine that the house knows."""
    found = asked.house(lambda house: house.kinds())
    asked.table(found, "kind", "pause_modes", "on_interrupt", "description", empty="There are none.")


def show_config(asked: Asked, file: File = None) -> None:
    """Print every setting and where it came from."""
    loaded = _loaded(asked, file)
    asked.table([asdict(value) for value in loaded.values()], "key", "value", "origin", empty="")
    for name in loaded.unknown:
        show.warning(f"{name} is in the environment and is no setting")


def check(asked: Asked, file: File = None) -> None:
    """Say whether the daemon could start with these settings. Exit code 78 when not."""
    loaded = _loaded(asked, file)
    for name in loaded.unknown:
        show.warning(f"{name} is in the environment and is no setting")
    asked.done({"ok": True, "unknown": list(loaded.unknown)}, "The configuration is good.")


def _loaded(
    asked: Asked,
    file: Path | None,
    host: str | None = None,
    port: int | None = None,
    unix_socket: Path | None = None,
    log_level: str | None = None,
) -> Any:
    from web.settings import load

    server = {"host": host, "port": port, "unix_socket": unix_socket}
    said: dict[str, Any] = {"server": {name: value for name, value in server.items() if value is not None}}
    if asked.state is not None:
        said["state_dir"] = asked.state
    if log_level is not None:
        said["log_level"] = log_level
    return load(os.environ, command_line=said, config=file)
