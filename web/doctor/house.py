"""What a daemon stands on: its packages, its settings, its state folder, its port. Nothing is made."""

from __future__ import annotations

import importlib.util
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from web.doctor.finding import Finding, Status
from web.loaded import load
from web.places import DaemonFile, Problem

__all__ = ["house", "packages", "port", "state_folder"]

PACKAGES = ("protocol", "actors", "supervisor", "web")


def house(environ: Mapping[str, str], state: Path | None) -> Iterator[Finding]:
    """`state`: in place of the folder that the settings name."""
    yield packages()
    try:
        settings = load(environ, command_line={} if state is None else {"state_dir": state}).settings
    except Problem as problem:
        yield _found("settings", "wrong", str(problem))
        return
    yield _found("settings", "ok", "They can be read.")
    folder = settings.state_dir.expanduser().absolute()
    yield state_folder(folder)
    server = settings.server
    if server.enabled:
        yield port(server.host, server.port, DaemonFile.live(folder), fallback=server.port_fallback)


def packages() -> Finding:
    """Whether each of our packages is ours: supervisord, for one, has a package `supervisor` too."""
    home = Path(__file__).parents[2].resolve()
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        where = Path(spec.origin).parents[1].resolve() if spec is not None and spec.origin is not None else None
        if where != home:
            said = f"The package {name!r} comes from {where}, not from {home}"
            return _found("packages", "wrong", f"{said}; install enginehouse into an environment of its own.")
    return _found("packages", "ok", f"All from {home}.")


def state_folder(folder: Path) -> Finding:
    """It is made at the first start; one that is there has to be ours alone."""
    name = "state folder"
    try:
        found = folder.stat()
    except FileNotFoundError:
        above = next(parent for parent in folder.parents if parent.exists())
        if not os.access(above, os.W_OK | os.X_OK):
            return _found(name, "wrong", f"{folder} is not there, and {above} is not ours to write.")
        return _found(name, "ok", f"{folder} is made at the first start.")
    except OSError as error:
        return _found(name, "wrong", f"{folder} cannot be looked at: {error.strerror}.")
    if not stat.S_ISDIR(found.st_mode):
        return _found(name, "wrong", f"{folder} is no folder.")
    if found.st_uid != os.geteuid():
        return _found(name, "wrong", f"{folder} belongs to user {found.st_uid}, not to us ({os.geteuid()}).")
    if mode := stat.S_IMODE(found.st_mode) & 0o077:
        return _found(name, "wrong", f"{folder} is open to others ({mode:03o} of its mode); it has to be 0700.")
    return _found(name, "ok", f"{folder} is ours alone.")


def port(host: str, number: int, daemon: DaemonFile | None, *, fallback: bool) -> Finding:
    """Whether a daemon could listen there now, or the one of the state folder does."""
    if daemon is not None and daemon.url.endswith(f":{number}") and _answers(host, number):
        return _found("port", "ok", f"The daemon {daemon.pid} listens at {daemon.url}.")
    place = f"{host}:{number}" if number else f"A port of {host}"
    try:
        [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        status: Status = "ok" if fallback else "wrong"
        then = "a daemon takes another one" if fallback else "name another one in server.port"
        return _found("port", status, f"{place} cannot be had ({error.strerror}); {then}.")
    return _found("port", "ok", f"{place} is free.")


def _answers(host: str, number: int) -> bool:
    try:
        socket.create_connection((host, number), timeout=1).close()
    except OSError:
        return False
    return True


def _found(name: str, status: Status, detail: str) -> Finding:
    return Finding(group="house", name=name, status=status, detail=detail)
