"""What the system has: each look really tries what it speaks of, and changes nothing."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from actors.children import Sandbox
from actors.processes.delegation import delegated
from actors.processes.sandbox import lacking
from web.doctor.finding import Finding, Status

__all__ = ["control_groups", "limits", "machine", "program"]

VERSION_S: Final = 10.0
FEW_FILES: Final = 4096
FEW_PROCESSES: Final = 512
PROGRAMS: Final = (
    ("tmux", "-V", "sessions of the shell kind that a person can attach to"),
    ("node", "--version", "agents that are written for it"),
    ("git", "--version", "issues that become branches (examples/workflow)"),
)
CONTROLLERS: Final = frozenset({"cpu", "memory", "pids"})


def machine() -> Iterator[Finding]:
    """One finding after the other; each may take a moment."""
    yield _found("python", "ok", f"{platform.python_version()} ({sys.executable})")
    for name, argument, use in PROGRAMS:
        yield program(name, argument, use)
    yield _sandbox("bwrap", Sandbox(by="bubblewrap"))
    yield landlock()
    yield control_groups()
    yield systemd()
    yield limits("descriptors", resource.RLIMIT_NOFILE, FEW_FILES, "connections and engines")
    yield limits("processes", resource.RLIMIT_NPROC, FEW_PROCESSES, "programs of engines")


def program(name: str, argument: str, use: str) -> Finding:
    """On PATH, and able to say its version. `use`: what needs it."""
    path = shutil.which(name)
    if path is None:
        return _found(name, "absent", f"It is not on PATH; needed for {use}.")
    try:
        done = subprocess.run(
            [path, argument], stdin=subprocess.DEVNULL, capture_output=True, timeout=VERSION_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return _found(name, "wrong", f"{path} cannot be run: {error}.")
    said = (done.stdout or done.stderr).decode(errors="replace").strip().partition("\n")[0]
    if done.returncode != 0:
        return _found(name, "wrong", f"{path} {argument} ends with exit status {done.returncode}: {said}")
    return _found(name, "ok", f"{said} ({path})")


def landlock() -> Finding:
    """With the network shut, and else without."""
    found = _sandbox("landlock", Sandbox(by="landlock"))
    if found.status == "absent" and lacking(Sandbox(by="landlock", network=True)) is None:
        return _found("landlock", "ok", f"Only with network: true. {found.detail}")
    return found


def _sandbox(name: str, sandbox: Sandbox) -> Finding:
    problem = lacking(sandbox)
    return _found(name, "ok", "It works.") if problem is None else _found(name, "absent", f"No sandbox: {problem}.")


def control_groups(proc: Path = Path("/proc")) -> Finding:
    """Version 2, and whether our own group is ours to divide. Nothing is made."""
    otherwise = "limits are those of each process (rlimits)"
    group = delegated(proc)
    if isinstance(group, str):
        return _found("cgroups", "absent", f"None: {group}; {otherwise}.")
    if not os.access(group / "cgroup.procs", os.W_OK) or not os.access(group, os.W_OK):
        return _found("cgroups", "absent", f"Version 2, but {group} is not ours to write; {otherwise}.")
    if missing := CONTROLLERS - set((group / "cgroup.controllers").read_text().split()):
        lacks = f"{group} has no {', no '.join(sorted(missing))}: trees are frozen and ended by it"
        return _found("cgroups", "absent", f"Version 2, but {lacks}, and {otherwise}.")
    return _found("cgroups", "ok", f"Version 2, {group} is writable, with {', '.join(sorted(CONTROLLERS))}.")


def systemd() -> Finding:
    """Whether it runs this machine."""
    if not Path("/run/systemd/system").is_dir():
        return _found("systemd", "absent", "It does not run this machine; something else has to start the daemon.")
    return program("systemctl", "--version", "the service")


def limits(name: str, what: int, few: int, use: str) -> Finding:
    """The hard limit, of which a daemon takes all that it may."""
    _, most = resource.getrlimit(what)
    if most == resource.RLIM_INFINITY:
        return _found(name, "ok", "No limit.")
    if most < few:
        return _found(name, "wrong", f"At most {most}: too few for many {use}; raise the limit to {few} or more.")
    return _found(name, "ok", f"At most {most}.")


def _found(name: str, status: Status, detail: str) -> Finding:
    return Finding(group="machine", name=name, status=status, detail=detail)
