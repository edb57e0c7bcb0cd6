"""`enginehouse doctor`: what is here, and whether it works. It asks no daemon and makes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from web.cli import show
from web.cli.asked import Asked, command
from web.cli.exits import FAILED

if TYPE_CHECKING:
    from web.doctor import Finding

__all__ = ["add"]

Names = Annotated[
    list[str] | None,
    typer.Argument(help="Only these: the name of an agent, or of anything else that is listed.", metavar="[NAME]..."),
]


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "doctor", local=True)(doctor)


def doctor(asked: Asked, names: Names = None) -> None:
    """Tell whether this machine is fit for a house, and which agents are installed and greet us. Exit code 1 when
    something is wrong, or when something that was named is not there; 2 for a name that is none.
    """
    wanted = names or []
    findings = []
    for finding in _looked(asked.state, wanted):
        findings.append(finding)
        if not asked.json:
            print(f"{finding.status:<6}  {finding.name:<12}  {show.cell(finding.detail, wide=True)}", flush=True)
    if asked.json:
        show.print_json([asdict(finding) for finding in findings])
    if unknown := sorted(set(wanted) - {finding.name for finding in findings}):
        known = ", ".join(_names(asked.state))
        raise typer.BadParameter(f"the doctor knows nothing of {', '.join(map(repr, unknown))}, but of: {known}")
    bad = ("wrong", "absent") if wanted else ("wrong",)
    if any(finding.status in bad for finding in findings):
        raise typer.Exit(FAILED)


def _names(state: Path | None) -> list[str]:
    """All that can be looked at here, in the order of its lines. No agent is greeted for it."""
    from actors.engines.acp.presets import PRESETS
    from web.doctor import house, machine

    return [*(finding.name for finding in (*house(os.environ, state), *machine())), *PRESETS]


def _looked(state: Path | None, wanted: list[str]) -> Iterator[Finding]:
    """One after the other: an agent is greeted when its turn comes, and only if it is wanted. What lies in the folder
    that we are called in is somebody's who need not be us, and runs only for an agent that was named.
    """
    import trio

    from actors.engines.acp.presets import PRESETS
    from actors.processes import hold_guardian
    from web.doctor import agent, house, machine

    if not wanted or not set(wanted) <= set(PRESETS):
        for finding in (*house(os.environ, state), *machine()):
            if not wanted or finding.name in wanted:
                yield finding

    async def greeted(name: str) -> Finding:
        async with hold_guardian():
            return await agent(PRESETS[name], os.environ, Path.cwd() if name in wanted else None)

    for name in PRESETS:
        if not wanted or name in wanted:
            yield trio.run(greeted, name)
