"""Reads a supervisord configuration as supervisord 4 does: the file, what it includes, groups, `numprocs`, `%(...)s`.

The order of things matters and is supervisord's (`supervisor/options.py` there): `here` is the directory of the file
that says it, `environment` of `[supervisord]` is seen by the expansions of all programs and that of a program by its
own, names are expanded last. What it would stop at is here the fault of one section: the others are read all the same.
"""

from __future__ import annotations

import glob
import os
import platform
from collections.abc import Callable, Mapping
from configparser import Error, RawConfigParser
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from web.supervisord import values
from web.supervisord.values import Autorestart, expand

__all__ = ["AUTO", "Configuration", "Left", "Log", "Program", "Unreadable", "read"]

Get = Callable[[str, Any], Any]
AUTO: Final = "AUTO"
NO_LOG: Final = ("none", "off")
MOST_PROCESSES: Final = 10_000
PROGRAM, FCGI, GROUP = "program:", "fcgi-program:", "group:"


class Unreadable(ValueError):
    """The file as a whole cannot be read; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is not taken over, and why. `program`: whether something that ran will not."""

    section: str
    why: str
    program: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Where a stream goes. `path`: AUTO, or None for nowhere; `max_bytes` 0: it grows for ever."""

    path: str | None
    max_bytes: int
    backups: int
    syslog: bool
    events: bool
    capture_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One process as supervisord would run it, everything expanded. `priority`: its group's, then its own."""

    group: str
    name: str
    section: str
    command: str
    directory: str | None
    environment: Mapping[str, str]
    priority: tuple[int, int]
    autostart: bool
    autorestart: Autorestart
    startsecs: int
    startretries: int
    stopsignal: str
    stopwaitsecs: int
    exitcodes: tuple[int, ...]
    redirect_stderr: bool
    stdout: Log
    stderr: Log
    user: str | None
    umask: str | None
    serverurl: str | None

    @property
    def full_name(self) -> str:
        return self.name if self.name == self.group else f"{self.group}:{self.name}"


@dataclass(slots=True, kw_only=True)
class Configuration:
    """`programs`: in the order in which supervisord starts them; `directory`: where supervisord itself would run."""

    programs: list[Program] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    directory: str | None = None


def read(path: Path, environ: Mapping[str, str]) -> Configuration:
    """Raises Unreadable."""
    path = path.expanduser().absolute()
    reader = _Reader(path, environ)
    reader.load()
    reader.build()
    return reader.found


class _Reader:
    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path, self.here = path, str(path.parent)
        self.found = Configuration()
        self.env: dict[str, object] = {f"ENV_{name}": value for name, value in environ.items()}
        self.common: dict[str, str] = {}  # environment of [supervisord]
        self.parser = RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)

    def load(self) -> None:
        try:
            with self.path.open() as file:
                self.parser.read_file(file)
            self._include()
        except FileNotFoundError:
            raise Unreadable(f"There is no file {str(self.path)!r}.") from None
        except (OSError, UnicodeDecodeError, Error) as error:
            said = str(error).replace("\n", " ")
            raise Unreadable(f"{str(self.path)!r} cannot be read: {said}.") from None

    def _include(self) -> None:
        """Of the first file alone: supervisord looks for no [include] in what it includes."""
        self._expand_here(self.here)
        if not self.parser.has_section("include"):
            return
        if not self.parser.has_option("include", "files"):
            raise Unreadable("[include] has no `files`.")
        try:
            files = expand(self.parser.get("include", "files"), self._expansions(), "include.files")
        except ValueError as error:
            raise Unreadable(f"[include]: {error}.") from None
        for pattern in files.split():
            where = os.path.join(self.here, pattern)  # noqa: PTH118 - a pattern
            matched = sorted(glob.glob(where))  # noqa: PTH207 - as supervisord does, also of absolute patterns
            if not matched:
                self.found.warnings.append(f"No file matches {where!r}, which [include] names.")
            for name in matched:
                if not Path(name).is_file():
                    self.found.warnings.append(f"{name!r} is no file, and [include] names it.")
                    continue
                self.parser.read(name)
                self._expand_here(str(Path(name).absolute().parent))

    def _expand_here(self, here: str) -> None:
        for section in self.parser.sections():
            for key, value in self.parser.items(section):
                if "%(here)s" in (value or ""):
                    self.parser.set(section, key, value.replace("%(here)s", here))

    def _expansions(self, **more: object) -> dict[str, object]:
        return {**self.env, "here": self.here, "host_node_name": platform.node(), **more}

    # -- sections ----------------------------------------------------------------------------------------------------
    def build(self) -> None:
        sections = self.parser.sections()
        if "supervisord" in sections:
            self._guard("supervisord", self._supervisord)
        grouped: set[str] = set()
        for section in sections:
            if section.startswith(GROUP):
                self._guard(section, partial(self._group, section, grouped), program=True)
        for section in sections:
            if section.startswith(PROGRAM) and section not in grouped:
                self._guard(section, partial(self._alone, section), program=True)
        self.found.programs.sort(key=lambda p: (p.priority[0], p.group, p.priority[1], p.name))
        for section in sections:
            if why := LEFT.get(section.partition(":")[0]):
                program = section.startswith(("eventlistener:", FCGI))
                self.found.left.append(Left(section=section, why=why, program=program))

    def _guard(self, section: str, do: Callable[[], object], *, program: bool = False) -> None:
        try:
            do()
        except ValueError as error:
            self.found.left.append(Left(section=section, why=f"{error}.", program=program))

    def _supervisord(self) -> None:
        get = self._getter("supervisord", self._expansions)
        self.found.directory = get("directory", None)
        text = self.parser.get("supervisord", "environment", fallback="")
        self.common = values.pairs(expand(text, self._expansions(), "environment"))
        self.env |= {f"ENV_{name}": value for name, value in self.common.items()}

    def _group(self, section: str, grouped: set[str]) -> None:
        group = values.name(section.partition(":")[2])
        get = self._getter(section, self._expansions)
        priority = int(get("priority", "999"))
        for program in filter(None, (word.strip() for word in get("programs", "").split(","))):
            if self.parser.has_section(f"{FCGI}{program}"):
                continue
            member = f"{PROGRAM}{program}"
            if not self.parser.has_section(member):
                raise ValueError(f"it names the program {program!r}, and there is no such section")
            grouped.add(member)
            self._guard(member, partial(self._programs, member, group, priority), program=True)

    def _alone(self, section: str) -> None:
        group = values.name(section.partition(":")[2])
        priority = int(self._getter(section, self._expansions)("priority", "999"))
        self._programs(section, group, priority)

    def _programs(self, section: str, group: str, priority: int) -> None:
        program = values.name(section.partition(":")[2])
        more: dict[str, object] = {"program_name": program, "group_name": group}
        get = self._getter(section, lambda: self._expansions(**more))
        count, first = int(get("numprocs", "1")), int(get("numprocs_start", "0"))
        name = self.parser.get(section, "process_name", fallback="%(program_name)s")
        if count > MOST_PROCESSES:
            raise ValueError(f"numprocs={count} is more than {MOST_PROCESSES}")
        if count > 1 and "%(process_num)" not in name:
            raise ValueError("process_name must have %(process_num) in it when numprocs is more than 1")
        text = self.parser.get(section, "environment", fallback="")
        made = []
        for number in range(first, first + count):
            more |= {"process_num": number, "numprocs": count}
            own = values.pairs(expand(text, self._expansions(**more), "environment"))
            more |= {f"ENV_{key}": value for key, value in own.items()}
            made.append(self._program(section, group, priority, values.name(name), {**self.common, **own}, get, more))
        self.found.programs += made  # all of a section, or none

    def _program(
        self, section: str, group: str, priority: int, name: str, environment: dict[str, str], get: Get,
        more: dict[str, object],
    ) -> Program:  # fmt: skip
        command = get("command", None)
        if command is None:
            raise ValueError("it has no `command`")
        return Program(
            group=group,
            name=expand(name, self._expansions(**more), "process_name"),
            section=section,
            command=command,
            directory=get("directory", None),
            environment=environment,
            priority=(priority, int(get("priority", "999"))),
            autostart=values.boolean(get("autostart", "true")),
            autorestart=values.autorestart(get("autorestart", "unexpected")),
            startsecs=int(get("startsecs", "1")),
            startretries=int(get("startretries", "3")),
            stopsignal=values.signal_name(get("stopsignal", "TERM")),
            stopwaitsecs=int(get("stopwaitsecs", "10")),
            exitcodes=values.numbers(get("exitcodes", "0")),
            redirect_stderr=values.boolean(get("redirect_stderr", "false")),
            stdout=_log("stdout", get),
            stderr=_log("stderr", get),
            user=get("user", None),
            umask=get("umask", None),
            serverurl=get("serverurl", None),
        )

    def _getter(self, section: str, expansions: Callable[[], Mapping[str, object]]) -> Get:
        def get(option: str, default: Any) -> Any:
            text = self.parser.get(section, option, fallback=None)
            return default if text is None else expand(text, expansions(), option)

        return get


def _log(stream: str, get: Get) -> Log:
    path: str | None = get(f"{stream}_logfile", AUTO)
    word = (path or "").lower()
    syslog = values.boolean(get(f"{stream}_syslog", "false")) or word == "syslog"
    if word in NO_LOG or word == "syslog":
        path = None
    elif word == "auto":
        path = AUTO
    return Log(
        path=path,
        max_bytes=values.byte_size(get(f"{stream}_logfile_maxbytes", "50MB")),
        backups=int(get(f"{stream}_logfile_backups", "10")),
        syslog=syslog,
        events=values.boolean(get(f"{stream}_events_enabled", "false")),
        capture_bytes=values.byte_size(get(f"{stream}_capture_maxbytes", "0")),
    )


LEFT: Final = {
    "unix_http_server": "the house has an API of its own; `enginehouse serve --unix-socket` listens on a socket.",
    "inet_http_server": "the house has an API of its own, and keys in place of a user name and a password.",
    "supervisorctl": "`enginehouse` finds its house by itself.",
    "rpcinterface": "there is no XML-RPC; what it offers is in the API (docs/http-api.md).",
    "ctlplugin": "it extends supervisorctl, which is not used any more.",
    "eventlistener": "events are read from a stream (GET /events) or sent to a webhook, not to a program.",
    "fcgi-program": "no socket is opened for a program; have it listen itself, as a `program`.",
}
