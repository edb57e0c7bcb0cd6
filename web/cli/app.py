"""All commands together, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer
from typer.main import get_command

from web.cli import (
    attach,
    audit,
    engines,
    events,
    house,
    keys,
    letters,
    people,
    pools,
    runs,
    schedules,
    show,
    tokens,
    users,
    webhooks,
)  # fmt: skip
from web.cli.exits import EXITS, INTERRUPTED
from web.places import Problem

__all__ = ["app", "run"]

EPILOG = "Exit codes:  " + "   ".join(f"{code}: {meaning}." for code, meaning in EXITS.items())

app = typer.Typer(
    name="enginehouse",
    help="Keeps long-lived engines alive: spawn, run, pause, watch and answer them.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (house, engines, attach, runs, events, people, audit):
    part.add(app)
app.add_typer(pools.app, name="pool")
app.add_typer(letters.app, name="dead-letter")
app.add_typer(schedules.app, name="schedule")
app.add_typer(webhooks.app, name="webhook")
app.add_typer(users.app, name="user")
app.add_typer(keys.app, name="key")
app.add_typer(tokens.app, name="token")
for noun, group in (("pools", pools), ("dead-letters", letters), ("keys", keys)):  # as they were called at first
    app.add_typer(group.app, name=noun, hidden=True)
app.add_typer(house.config, name="config")


def run(arguments: list[str]) -> int:
    """Run one command line; its exit code."""
    try:
        code = get_command(app).main(arguments, prog_name="enginehouse", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Problem as error:
        show.error(str(error))
        return os.EX_CONFIG
    except BrokenPipeError:
        # The reader has enough (`| head`). Nothing more may be written, not even by the interpreter at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - what is not of the house is raised again
        if hasattr(error, "format_message"):
            usage: Any = error  # typer's usage errors: its classes are private, what they offer is not
            usage.show()
            return int(usage.exit_code)
        return _failed(error, as_json="--json" in arguments)


def _failed(error: Exception, *, as_json: bool) -> int:
    """The line and the exit code of an error of the house; anything else is a bug of ours and goes on."""
    # 0.1 s that a command which succeeds does not need.
    from protocol.errors import Denied, EnginehouseError, InvalidState
    from web.cli.exits import exit_of

    if not isinstance(error, EnginehouseError):
        raise error
    if as_json:
        body = {**error.problem, **error.extra}
        print(json.dumps({"error": body}, default=str), file=sys.stderr)
    else:
        advice = ""
        allowed = error.extra.get("allowed")
        if isinstance(error, Denied):
            advice = " Here: --api-key or ENGINEHOUSE_API_KEY, or the daemon's --state-dir, where its key is."
        elif isinstance(error, InvalidState) and isinstance(allowed, list | tuple):
            steering = ("start", "stop", "restart", "pause", "resume", "dispose")
            possible = ", ".join(name for name in steering if name in allowed)
            advice = f" Possible now: {possible}." if possible else ""
            if error.extra.get("state") == "failed":
                advice += " `enginehouse show` says why it failed."
        show.error(error.detail + advice)
    return exit_of(error)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"enginehouse {version('enginehouse')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What comes before the command."""
