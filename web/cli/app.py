"""All commands together, and the one place where an error becomes a line and an exit code.

Whose command is where is a table, and a file is imported when one of its commands is named: all of them take longer to
be imported and described than most commands take to run.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.main import get_command, get_group

from web.cli import show
from web.cli.exits import EXITS, INTERRUPTED
from web.places import Problem

__all__ = ["Commands", "run"]

PARTS: Final = {
    "house": ("serve", "status", "kinds", "reload", "drain", "shutdown"),
    "engines": (
        "spawn", "list", "show", "state", "start", "stop", "restart", "pause", "resume", "signal", "dispose",
        "processes",
    ),
    "why": ("why",),
    "attach": ("attach",),
    "runs": ("run", "submit", "runs", "cancel", "retry"),
    "events": ("events", "logs"),
    "people": ("requests", "reply", "approve", "reject"),
    "audit": ("audit",),
    "doctor": ("doctor",),
    "conform": ("conform",),
    "importing": ("import",),
}  # fmt: skip
"""The files of this folder whose `add` registers commands, and which, in the order of the help."""

GROUPS: Final = {
    "pool": "pools.app",
    "dead-letter": "letters.app",
    "schedule": "schedules.app",
    "webhook": "webhooks.app",
    "user": "users.app",
    "key": "keys.app",
    "token": "tokens.app",
    "config": "house.config",
}
"""The nouns that have commands of their own, and where those are."""

OTHER_NAMES: Final = {"pools": "pool", "dead-letters": "dead-letter", "keys": "key", "ps": "processes"}
"""Other names that a command may be called by: nouns as they were called at first, and what a shell calls it."""

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


class Commands(Mapping[str, Any]):
    """What typer knows of each command, by its name."""

    def __init__(self) -> None:
        self._part_of = {name: part for part, names in PARTS.items() for name in names}

    def __getitem__(self, name: str) -> Any:
        name = OTHER_NAMES.get(name, name)
        if name in GROUPS:
            module, _, group = GROUPS[name].partition(".")
            return get_group(getattr(import_module(f"web.cli.{module}"), group))
        described = typer.Typer(rich_markup_mode=None)
        import_module(f"web.cli.{self._part_of[name]}").add(described)
        return get_group(described).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._part_of, *GROUPS))

    def __len__(self) -> int:
        return len(self._part_of) + len(GROUPS)


def run(arguments: list[str]) -> int:
    """Run one command line; its exit code."""
    try:
        program: Any = get_command(app)
        program.commands = Commands()
        code = program.main(arguments, prog_name="enginehouse", standalone_mode=False)
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
