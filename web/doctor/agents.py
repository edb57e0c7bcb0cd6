"""The presets of the acp kind: is the program here, and does it greet us within the time?"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from actors.children import ChildPolicy
from actors.engines.acp.greeting import PROTOCOL, NotGreeted, greet
from actors.engines.acp.presets import Preset
from web.doctor.finding import Finding, Status

__all__ = ["agent"]

GREETING_S: Final = 30.0
"""The slowest that we know takes five seconds, at its first start."""


async def agent(
    preset: Preset, environ: Mapping[str, str], beside: Path | None, *, within_s: float = GREETING_S
) -> Finding:
    """Look for it on PATH, then in `node_modules` below `beside`, if that is given; then greet it, in an empty folder,
    with what a house passes on to its programs of our environment.
    """
    facts: dict[str, Any] = {
        "title": preset.title, "package": preset.package, "needs": preset.needs or None, "tested": preset.tested,
        "tried": preset.tried or None,
    }  # fmt: skip
    untested = "" if preset.tested else " Untested: no test of ours drives it."

    def found(status: Status, detail: str) -> Finding:
        return Finding(group="agent", name=preset.name, status=status, detail=f"{detail}{untested}", facts=facts)

    argv = _found(preset, environ, beside)
    if argv is None:
        return found("absent", f"Not here. {preset.remedy}")
    facts["argv"] = list(argv)
    env = {**ChildPolicy().environment(), **preset.env}
    with tempfile.TemporaryDirectory(prefix="enginehouse-doctor-") as folder:
        try:
            greeting = await greet(argv, env, cwd=folder, within_s=within_s)
        except NotGreeted as error:
            return found("wrong", f"{argv[0]} {error}.")
    facts |= asdict(greeting)
    if greeting.protocol != PROTOCOL:
        return found("wrong", f"It speaks version {greeting.protocol} of the protocol; we speak {PROTOCOL}.")
    needs = f" Needs: {preset.needs}" if preset.needs else ""
    told = f"version {greeting.version}, greets" if greeting.version else "greets"
    return found("ok", f"{told} in {greeting.seconds:g} s ({argv[0]}).{needs}")


def _found(preset: Preset, environ: Mapping[str, str], beside: Path | None) -> tuple[str, ...] | None:
    """The preset's argv with the program's path; of a script that node runs, with the script's."""
    name, *arguments = preset.argv
    path = shutil.which(name, path=environ.get("PATH"))
    if beside is None:
        return (path, *arguments) if path is not None and not preset.script else None
    if preset.script:
        script = beside / arguments[0]
        return (path, str(script), *arguments[1:]) if path is not None and script.is_file() else None
    own = beside / "node_modules" / ".bin" / name
    if path is None and own.is_file() and os.access(own, os.X_OK):
        path = str(own)
    return (path, *arguments) if path is not None else None
