"""Schedules: runs and commands at times of the day."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from web.cli import show as shown
from web.cli import texts
from web.cli.asked import Asked, command
from web.cli.pages import every

__all__ = ["app"]

app = typer.Typer(help="Schedules: runs and commands at times of the day.", no_args_is_help=True, rich_markup_mode=None)

Schedule = Annotated[str, typer.Argument(help="The schedule's id.", show_default=False)]


@command(app, "list")
def list_schedules(asked: Asked) -> None:
    """List schedules, oldest first."""
    found = asked.remote(lambda house: every(house, "schedules"))
    columns = ("id", "cron", "every_s", "timezone", "engine", "pool", "state", "next_at", "fired", "missed")
    asked.table(found, *columns, empty="There are no schedules.")


@command(app)
def create(
    asked: Asked,
    id: Annotated[str | None, typer.Option(help="Its id; one is made when none is given.")] = None,
    cron: Annotated[str | None, typer.Option(help="minute hour day month weekday.")] = None,
    every: Annotated[float | None, typer.Option(help="Seconds, instead of --cron.")] = None,
    timezone: Annotated[str, typer.Option(help="The IANA time zone in which --cron is read.")] = "UTC",
    engine: Annotated[str | None, typer.Option(help="The engine it acts on.")] = None,
    pool: Annotated[
        str | None, typer.Option(help="With --key, instead of --engine: spawned when it is not there.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The engine's key in the pool.")] = None,
    run: Annotated[str | None, typer.Option(help="The input of a run, as text.")] = None,
    input: Annotated[str | None, typer.Option("--input", help="The input of a run, as JSON.")] = None,
    send: Annotated[
        str | None, typer.Option("--command", help="Instead of a run: pause, resume, start, stop, ... or JSON.")
    ] = None,
    overlap: Annotated[str, typer.Option(help="While the last run goes on: skip, enqueue or cancel.")] = "skip",
    jitter: Annotated[float, typer.Option(help="Seconds by which it may come later.")] = 0.0,
    catch_up: Annotated[str, typer.Option("--catch-up", help="Of what was missed: none, one or all.")] = "one",
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    disabled: Annotated[bool, typer.Option("--disabled", help="Create it disabled.")] = False,
) -> None:
    """Create a schedule and print its id."""
    body: dict[str, Any] = {
        "id": id, "description": description, "cron": cron, "every_s": every, "timezone": timezone, "engine": engine,
        "pool": pool, "key": key, "overlap": overlap, "jitter_s": jitter, "catch_up": catch_up,
        "enabled": not disabled,
    }  # fmt: skip
    if run is not None or input is not None:
        body["run"] = {"input": run if input is None else texts.json_of(input, "--input")}
    if send is not None:
        body["command"] = texts.json_of(send, "--command") if send.startswith("{") else {"type": send}
    made: Any = asked.remote(lambda house: house.call("POST", "schedules", body=body))
    asked.done(made, made["id"])


@command(app)
def show(asked: Asked, schedule: Schedule) -> None:
    """Show a schedule, its last time and its next."""
    asked.record(asked.remote(lambda house: house.call("GET", "schedules", schedule)))


@command(app)
def enable(asked: Asked, schedule: Schedule) -> None:
    """Enable a schedule from now on; you answer for it then."""
    made: Any = asked.remote(lambda house: house.call("PATCH", "schedules", schedule, body={"enabled": True}))
    asked.done(made, f"{schedule} is enabled; it is due at {made['next_at']}")


@command(app)
def disable(asked: Asked, schedule: Schedule) -> None:
    """Disable a schedule."""
    made: Any = asked.remote(lambda house: house.call("PATCH", "schedules", schedule, body={"enabled": False}))
    asked.done(made, f"{schedule} is disabled")


@command(app)
def run(asked: Asked, schedule: Schedule) -> None:
    """Act now; its times stay as they are."""
    firing: Any = asked.remote(lambda house: house.call("POST", "schedules", schedule, "run"))
    if asked.json:
        shown.print_json(firing)
    else:
        print(firing["reason"] or firing["run_id"] or firing["command_id"])


@command(app)
def delete(asked: Asked, schedule: Schedule) -> None:
    """Delete a schedule; what it has started goes on."""
    asked.remote(lambda house: house.call("DELETE", "schedules", schedule))
    asked.done(None, f"{schedule} is deleted")
