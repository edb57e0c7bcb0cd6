"""All commands together, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.main import get_command

from protocol.errors import Denied, EnginehouseError
from web.cli import engines, events, house, keys, letters, people, pools, runs, show
from web.cli.exits import EXITS, INTERRUPTED, exit_of
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
for part in (house, engines, runs, events, people):
    part.add(app)
app.add_typer(pools.app, name="pools")
app.add_typer(letters.app, name="dead-letters")
app.add_typer(keys.app, name="keys")
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
    except EnginehouseError as error:
        _tell(error, as_json="--json" in arguments)
        return exit_of(error)
    except Problem as error:
        show.error(str(error))
        return os.EX_CONFIG
    except BrokenPipeError:
        # The reader has enough (`| head`). Nothing more may be written, not even by the interpreter at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        usage: Any = error  # typer's usage errors: its classes are private, what they offer is not
        usage.show()
        return int(getattr(error, "exit_code", 2))


def _tell(error: EnginehouseError, *, as_json: bool) -> None:
    if as_json:
        import json

        body = {"slug": error.slug, "detail": error.detail, **error.extra}
        print(json.dumps({"error": body}, default=str), file=sys.stderr)
        return
    advice = " Here: --api-key or ENGINEHOUSE_API_KEY." if isinstance(error, Denied) else ""
    show.error(error.detail + advice)
