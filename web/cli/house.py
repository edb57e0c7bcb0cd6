"""The house as a whole: serve it, ask how it is, see how it is configured."""

from __future__ import annotations

import gc
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from web.cli import show
from web.cli.asked import Asked, command
from web.cli.exits import FAILED
from web.cli.peek import peek

if TYPE_CHECKING:
    from protocol.wire import DrainInfo
    from supervisor.house import House

__all__ = ["add", "config"]

config = typer.Typer(help="The configuration.", no_args_is_help=True, rich_markup_mode=None)

File = Annotated[Path | None, typer.Option("--config", help="The TOML file; see ENGINEHOUSE_CONFIG.")]
Host = Annotated[str | None, typer.Option(help="The address to listen on.")]
Port = Annotated[int | None, typer.Option(help="The port; 0 takes a free one.")]
Unix = Annotated[Path | None, typer.Option("--unix-socket", help="Listen on this unix socket too.")]
Log = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")]


def add(app: typer.Typer) -> None:
    """Register the commands of this file, but for those of `config`."""
    command(app, "serve", local=True)(serve)
    command(app, "status")(status)
    command(app, "kinds")(kinds)
    command(app, "reload")(reload)
    command(app, "drain")(drain)
    command(app, "shutdown")(shutdown)


def serve(
    asked: Asked,
    host: Host = None,
    port: Port = None,
    unix_socket: Unix = None,
    log_level: Log = None,
    file: File = None,
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C. A second one stops it at once."""
    gc.disable()  # what is imported stays: looking through it for garbage is an eighth of the start
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


def reload(asked: Asked) -> None:
    """Have the daemon read its settings again, and say what changed. Exit code 2 when one is wrong: nothing changed."""
    found: Any = asked.remote(lambda house: house.call("POST", "admin", "reload"))
    if asked.json:
        show.print_json(found)
        return
    print(f"Changed: {', '.join(found['changed']) or 'nothing'}.")
    if found["needs_restart"]:
        print(f"Only after a restart: {', '.join(found['needs_restart'])}.")
    for name in found["unknown"]:
        show.warning(f"{name} is in the environment of the daemon and is no setting")


def drain(
    asked: Asked,
    cancel: Annotated[bool, typer.Option("--cancel", help="Lift it, and start again what it stopped.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when everything is done and every engine is down.")
    ] = False,
) -> None:
    """Take no new work: what is queued and active finishes, then every engine stops. It lasts until it is lifted."""
    found = asked.house(lambda house: _drained(house, cancel=cancel, wait=wait and not cancel))
    left = f"{found.engines} engines are up, {found.runs} runs have not ended"
    asked.done(found, f"The house drains: {left}." if found.draining else "The house takes work again.")


async def _drained(house: House, *, cancel: bool, wait: bool) -> DrainInfo:
    """Looks again after every event, since what ends is an event."""
    async with house.events() as events:
        found = await house.drain(cancel=cancel)
        while wait and (found.engines or found.runs):
            await events.receive()
            now = (await house.health()).draining
            if now is None:
                break  # somebody has lifted it
            found = now
    return found


def shutdown(
    asked: Asked,
    grace: Annotated[float | None, typer.Option("--grace", help="Seconds, instead of server.grace_s.")] = None,
) -> None:
    """End the daemon in order, as SIGTERM does: streams say goodbye, engines have their grace."""
    found: Any = asked.remote(lambda house: house.call("POST", "admin", "shutdown", body={"grace_s": grace}))
    asked.done(found, f"The daemon ends within {found['grace_s']:g} s and a few more.")


@command(config, "show", local=True)
def show_config(asked: Asked, file: File = None) -> None:
    """Print every setting and where it came from."""
    loaded = _loaded(asked, file)
    asked.table([asdict(value) for value in loaded.values()], "key", "value", "origin", empty="")
    for name in loaded.unknown:
        show.warning(f"{name} is in the environment and is no setting")


@command(config, local=True)
def check(asked: Asked, file: File = None) -> None:
    """Say whether the daemon could start with these settings. Exit code 78 when not."""
    from web.configured import check_files

    loaded = _loaded(asked, file)
    check_files(loaded)
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
    from web.loaded import load

    server = {"host": host, "port": port, "unix_socket": unix_socket}
    said: dict[str, Any] = {"server": {name: value for name, value in server.items() if value is not None}}
    if asked.state is not None:
        said["state_dir"] = asked.state
    if log_level is not None:
        said["log_level"] = log_level
    return load(os.environ, command_line=said, config=file)
