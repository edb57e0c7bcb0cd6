"""What becomes of a program of supervisord's: an engine of the kind `process`, and what of it cannot be taken over."""

from __future__ import annotations

import os
import pwd
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from protocol.bodies import NewEngine
from protocol.ids import valid_engine_id
from protocol.specs import Backoff, Policy, Restart
from web.supervisord.parse import AUTO, Configuration, Left, Log, Program

__all__ = ["Taken", "translate"]

POLICIES: Final = {"true": Policy.PERMANENT, "unexpected": Policy.TRANSIENT, "false": Policy.TEMPORARY}
STOP_SIGNALS: Final = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "KILL")
MOST_BACKUPS: Final = 100
BOOT_S: Final = 30.0
LABEL: Final = "supervisord"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An engine to be, under its id, and what of its program is not the same."""

    program: Program
    engine: NewEngine
    notes: tuple[str, ...]


def translate(configuration: Configuration, pool: str) -> tuple[list[Taken], list[Left]]:
    """In the order of starting. A program that would run as another user is left: with our rights it could do more."""
    taken: dict[str, Taken] = {}
    left = list(configuration.left)
    for program in configuration.programs:
        try:
            found = _taken(program, pool, configuration.directory)
            name = found.engine.id or ""
            if name in taken:
                other = taken[name].program.full_name
                raise ValueError(f"{program.full_name} would be the engine {name}, as {other} is")
        except ValueError as error:
            left.append(Left(section=program.section, why=f"{error}.", program=True))
        else:
            taken[name] = found
    return list(taken.values()), [*dict.fromkeys(left)]  # what is said of each process of a section is said once


def _taken(program: Program, pool: str, directory: str | None) -> Taken:
    if program.user is not None and not _ours(program.user):
        raise ValueError(f"user={program.user}: engines run as the daemon's user; import it into a daemon of that user")
    if program.stopsignal not in STOP_SIGNALS:
        raise ValueError(f"stopsignal={program.stopsignal}: an engine is stopped by one of {', '.join(STOP_SIGNALS)}")
    for option in ("startsecs", "startretries", "stopwaitsecs"):
        if getattr(program, option) < 0:
            raise ValueError(f"{option}={getattr(program, option)}: it is less than 0")
    argv = shlex.split(program.command)
    if not argv:
        raise ValueError("its `command` is empty")
    cwd = program.directory or directory
    if cwd is not None and not cwd.startswith("/"):
        raise ValueError(f"directory={cwd}: it is not absolute, and so depends on where supervisord was started")
    config: dict[str, Any] = {
        "argv": argv,
        "protocol": "none",
        "env": dict(program.environment),
        "stop_signal": program.stopsignal,
        "exit_codes": list(program.exitcodes),
        "redirect_stderr": program.redirect_stderr,
        "stdout_log": _log(program.stdout),
        "stderr_log": _log(program.stderr),
    }
    if cwd is not None:
        config["cwd"] = cwd
    if program.startsecs > 0:
        config["ready"] = {"delay_s": float(program.startsecs)}
    engine = NewEngine(
        kind="process", id=_id(program.full_name), pool=pool, config=config, labels={LABEL: program.full_name[:256]},
        restart=_restart(program), grace_s=float(program.stopwaitsecs), start=program.autostart,
        boot_s=max(BOOT_S, 2.0 * program.startsecs),
    )  # fmt: skip
    return Taken(program=program, engine=engine, notes=tuple(_notes(program)))


def _id(name: str) -> str:
    found = re.sub(r"[^a-z0-9._-]", "-", name.lower().replace(":", "."))
    if not valid_engine_id(found):
        raise ValueError(f"{name} cannot be the id of an engine: a letter or a digit, and up to 64 in all")
    return found


def _ours(user: str) -> bool:
    try:
        return pwd.getpwnam(user).pw_uid == os.geteuid() or user == str(os.geteuid())
    except KeyError:
        return user == str(os.geteuid())


def _restart(program: Program) -> Restart:
    """Between starts that fail supervisord waits 1, 2, 3 ... seconds, and it counts those alone. A window that holds
    just as many of them is the nearest to it.
    """
    tries = max(program.startretries, 1)
    backoff = Backoff(min_s=1.0, max_s=float(tries), factor=2.0, jitter=0.0)
    delays_s = sum(min(2.0**number, tries) for number in range(min(tries, 30))) + max(tries - 30, 0) * tries
    window_s = (tries + 1.0) * max(program.startsecs, 1) + delays_s
    return Restart(
        policy=POLICIES[program.autorestart], max_restarts=tries, window_s=window_s, backoff=backoff,
        stable_s=float(max(program.startsecs, 1)),
    )  # fmt: skip


def _log(log: Log) -> dict[str, Any] | None:
    if log.path is None and not log.syslog:
        return None
    kept: dict[str, Any] = {"max_bytes": log.max_bytes, "backups": min(log.backups, MOST_BACKUPS), "events": log.events}
    if log.path is not None and (path := _file(log.path)) is not None:
        kept["path"] = path
    return kept


def _file(path: str) -> str | None:
    """What the house can write as a file: not standard output by another name, nor what has no fixed place."""
    found = os.path.normpath(os.path.expanduser(path))  # noqa: PTH111 - nothing here touches the disk
    return found if found.startswith("/") and not found.startswith(("/dev/", "/proc/")) else None


def _notes(program: Program) -> Iterator[str]:
    if program.umask is not None and int(program.umask, 8) != 0o022:
        yield f"umask={program.umask}: all engines have the one of [children]"
    if program.priority != (999, 999):
        yield "priority: engines are made in its order, and start and stop without one"
    if program.serverurl is not None:
        yield "serverurl: there is no XML-RPC; `api` gives a program access to the house"
    if program.startretries == 0:
        yield "startretries=0: it is started once more"
    for stream, log in (("stdout", program.stdout), ("stderr", program.stderr)):
        if stream == "stderr" and program.redirect_stderr:
            continue
        if log.syslog:
            yield f"{stream}_syslog: it is kept in a file of the engine's own"
        elif log.path not in (None, AUTO) and _file(str(log.path)) is None:
            yield f"{stream}_logfile={log.path}: it is kept in a file of the engine's own"
        if log.backups > MOST_BACKUPS:
            yield f"{stream}_logfile_backups={log.backups}: {MOST_BACKUPS} are kept"
        if log.capture_bytes:
            yield f"{stream}_capture_maxbytes: nothing is looked for between tokens"
