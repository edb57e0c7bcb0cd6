"""The kinds of engine a house knows: the built-in ones, classes handed to it, and what installed packages register.

A kind is loaded when somebody first asks for it: a command line that only lists engines imports none of them, and a
package whose kind is broken costs that kind alone. Of two of one name the class handed over wins, then the built-in
one, then the first registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel

from actors.engine import Engine
from protocol.edge import parse, schema
from protocol.errors import UnknownKind, UnsupportedCommand, ValidationFailed
from protocol.wire import KindInfo

__all__ = ["BUILT_IN", "GROUP", "Kinds"]

GROUP = "enginehouse.kinds"
"""The entry point group in which a package registers its kinds: `name = "module:Class"`."""

BUILT_IN = {
    "acp": "actors.engines.acp.engine:Acp",
    "agent": "actors.engines.agent.agent:Agent",
    "probe": "actors.engines.probe:Probe",
    "process": "actors.engines.process:ProcessEngine",
    "shell": "actors.engines.shell:Shell",
}

COMMANDS = ("start", "stop", "restart", "pause", "resume", "cancel", "signal", "dispose")
RUN_COMMANDS = ("submit", "approve", "reject", "skip", "answer")
MASK = "********"

Load = Callable[[], object]


class Kinds:
    """See the module.

    Args:
        classes: Engine classes beside the others; ValueError for one that is no engine or has no name.
        registered: The entry points to look at; those of the installed packages when None.
    """

    def __init__(self, classes: Iterable[type[Engine]] = (), *, registered: Iterable[EntryPoint] | None = None) -> None:
        self._loaded: dict[str, type[Engine]] = {}
        self._absent: dict[str, str] = {}
        self._waiting: dict[str, Load] = {name: partial(_built_in, where) for name, where in BUILT_IN.items()}
        for point in entry_points(group=GROUP) if registered is None else registered:
            self._waiting.setdefault(point.name, point.load)
        for kind in classes:
            if problem := _problem(kind, getattr(kind, "kind", None)):
                raise ValueError(problem)
            self._waiting.pop(kind.kind, None)
            self._loaded[kind.kind] = kind

    @property
    def names(self) -> list[str]:
        """Every kind that can be spawned, in order. Loads them all."""
        for name in list(self._waiting):
            self._load(name)
        return sorted(self._loaded)

    @property
    def absent(self) -> Mapping[str, str]:
        """Registered kinds that could not be loaded, as far as anybody asked for them, and why."""
        return self._absent

    def get(self, name: str) -> type[Engine]:
        """Raises UnknownKind (`known`: the names of those there are)."""
        self._load(name)
        if name in self._loaded:
            return self._loaded[name]
        known = self.names
        absent = self._absent.get(name)
        said = f"There is no kind {name!r}" if absent is None else f"The kind {name!r} could not be loaded ({absent})"
        raise UnknownKind(
            f"{said}; the kinds here are {', '.join(known)}. One that was installed since is found at the next start.",
            known=known,
        )

    def parse_config(self, name: str, config: Mapping[str, Any]) -> BaseModel:
        """The config as its kind's model. Raises UnknownKind, or ValidationFailed with locations under `config`."""
        kind = self.get(name)
        parsed = parse(kind.Config, dict(config), loc=("config",))
        try:
            kind.check(parsed)
        except ValueError as error:
            fault = {"loc": ["config"], "msg": str(error), "type": "value_error"}
            raise ValidationFailed(f"config: {error}", errors=[fault]) from None
        return parsed

    def parse_input(self, name: str, input: Any) -> Any:
        """A run's input as its kind's type. Raises ValidationFailed with locations under `input`."""
        kind = self.get(name)
        if not kind.takes_runs:
            raise UnsupportedCommand(f"Engines of the kind {name} take no runs.")
        return parse(kind.Input, input, loc=("input",))

    def masked(self, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config as others may see it: the values of environment variables are hidden."""
        return {key: _masked(key, value) for key, value in config.items()}

    def info(self, name: str) -> KindInfo:
        """What a client needs to know to use the kind. Raises UnknownKind."""
        kind = self.get(name)
        return KindInfo(
            kind=kind.kind,
            description=kind.description,
            config_schema=schema(kind.Config),
            input_schema=schema(kind.Input) if kind.takes_runs else None,
            commands=[*COMMANDS, *(RUN_COMMANDS if kind.takes_runs else ())],
            emits=list(kind.emits),
            pause_modes=[mode.value for mode in kind.pause_modes],
            default_pause_mode=kind.pause_mode.value,
            on_interrupt=kind.on_interrupt.value,
        )

    def _load(self, name: str) -> None:
        load = self._waiting.pop(name, None)
        if load is None:
            return
        try:
            kind = load()
        except Exception as error:  # noqa: BLE001 - somebody else's module may raise anything while it is imported
            self._absent[name] = f"{type(error).__name__}: {error}"
            return
        if problem := _problem(kind, name):
            self._absent[name] = problem
        else:
            assert isinstance(kind, type)
            self._loaded[name] = kind


def _masked(key: str, value: Any) -> Any:
    """What is given to a program by name, or to a server with a request, however deep it stands."""
    if isinstance(value, Mapping):
        secretive = key in ("env", "headers")
        return (
            dict.fromkeys(value, MASK) if secretive else {name: _masked(name, inner) for name, inner in value.items()}
        )
    if isinstance(value, list | tuple):
        return [_masked("", inner) for inner in value]
    return value


def _built_in(where: str) -> object:
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


def _problem(kind: object, name: object) -> str | None:
    """What keeps this from being the kind of that name, as a sentence."""
    if not (isinstance(kind, type) and issubclass(kind, Engine)):
        return f"{kind!r} is no subclass of Engine"
    named = getattr(kind, "kind", None)
    if not isinstance(named, str) or not named:
        return f"{kind.__qualname__} has no `kind`"
    if named != name:
        return f"it is registered as {name!r}, and {kind.__qualname__} calls itself {named!r}"
    return None
