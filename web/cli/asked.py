"""What every command is asked beside its own arguments, and how it reaches the house.

`command` registers a function whose first argument is an `Asked`; the options that make it (`--json`, `--url`,
`--api-key`, `--state-dir`, `--embedded`) are thereby accepted, and explained, by every command. What is heavy (trio,
the client) is imported when a house is asked, so that `--help` and `status` stay quick.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from web.cli import show
from web.client.locate import Place, locate
from web.places import Problem, house_name, state_directory

if TYPE_CHECKING:
    from supervisor.house import House
    from web.client.remote import RemoteHouse

__all__ = ["Asked", "command"]

T = TypeVar("T")
H = TypeVar("H")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, as the HTTP API has it.")]
Url = Annotated[str | None, typer.Option("--url", help="The house's address; found by itself on the same machine.")]
Key = Annotated[str | None, typer.Option("--api-key", help="Its key; better given in ENGINEHOUSE_API_KEY.")]
State = Annotated[Path | None, typer.Option("--state-dir", help="The daemon's state folder.")]
Embedded = Annotated[
    bool,
    typer.Option("--embedded", help="Open the house in this process, while the command runs; no daemon may be up."),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """`json`: print JSON. The others say where the house is; None: found by `web.client.locate`."""

    json: bool
    url: str | None
    api_key: str | None
    state: Path | None
    embedded: bool = False

    def place(self) -> Place:
        """Raises Problem, and Unreachable when the state folder that was named has no daemon."""
        return locate(os.environ, url=self.url, api_key=self.api_key, state=self.state)

    @property
    def folder(self) -> Path:
        """The state folder, whether a daemon is there or not. Raises Problem."""
        return (self.state or state_directory(os.environ)).expanduser().absolute()

    def house(self, do: Callable[[House], Awaitable[T]]) -> T:
        """Run `do` with the house, in a trio program of its own. Raises what it raises, bare."""
        return self._run(self._in_process, do) if self.embedded else self.remote(do)

    def remote(self, do: Callable[[RemoteHouse], Awaitable[T]]) -> T:
        """The same for what only a daemon can do."""
        if self.embedded:
            raise Problem("That is the daemon's: start it, and leave out --embedded.")
        return self._run(self._far_away, do)

    def _far_away(self) -> AbstractAsyncContextManager[RemoteHouse]:
        from web.client import Retry, open_remote

        place = self.place()
        return open_remote(place.url, api_key=place.api_key, retry=Retry(attempts=3), ca_file=place.ca_file)

    def _in_process(self) -> AbstractAsyncContextManager[House]:
        from supervisor import SqliteStore, open_supervisor
        from web.loaded import load

        state = self.folder
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = load(os.environ, command_line={"state_dir": state}).settings
        return open_supervisor(
            store=SqliteStore(state / "journal.db"), directory=state, name=house_name(state),
            children=settings.child_policy(),
        )  # fmt: skip

    def _run(self, opened: Callable[[], AbstractAsyncContextManager[H]], do: Callable[[H], Awaitable[T]]) -> T:
        import trio

        async def interrupted() -> None:
            # As an exception out of wherever the program stands, Ctrl-C is lost when that is a finalizer.
            with trio.open_signal_receiver(signal.SIGINT) as signals:
                async for _ in signals:
                    raise KeyboardInterrupt

        async def program() -> T:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(interrupted)
                async with opened() as house:
                    result = await do(house)
                nursery.cancel_scope.cancel()
            return result

        try:
            return trio.run(program)
        except BaseExceptionGroup as group:
            raise _first(group) from None

    def record(self, value: Any, *names: str) -> None:
        """Print one thing: all of it as JSON, or the named members for people."""
        plain = _plain(value)
        if self.json:
            show.print_json(plain)
        else:
            show.record(plain, *names)

    def table(self, values: Any, *columns: str, empty: str) -> None:
        """Print a list, for people as a table of `columns`."""
        plain = _plain(values)
        if self.json:
            show.print_json(plain)
        else:
            show.table(plain, columns, empty=empty)

    def done(self, value: Any, sentence: str) -> None:
        """Print what was done: the answer as JSON, or a sentence."""
        if self.json:
            show.print_json(_plain(value))
        else:
            print(sentence)


def command(
    app: typer.Typer, name: str | None = None, *, local: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command of `app`. `local`: it asks no house, so it is not asked where that is."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        _, *own = inspect.signature(function).parameters.values()
        own = [parameter.replace(annotation=hints[parameter.name]) for parameter in own]
        common = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, default, annotation in (
                ("json_", False, Json), ("url_", None, Url), ("api_key_", None, Key), ("state_", None, State),
                ("embedded_", False, Embedded),
            )
            if not (local and annotation in (Url, Key, Embedded))
        ]  # fmt: skip

        @functools.wraps(function)
        def run(
            *args: Any, json_: bool, state_: Path | None, url_: str | None = None, api_key_: str | None = None,
            embedded_: bool = False, **kwargs: Any,
        ) -> None:  # fmt: skip
            function(Asked(json_, url_, api_key_, state_, embedded_), *args, **kwargs)

        parameters = [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *common]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by inspect.signature
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del run.__wrapped__  # or typer reads the signature of what is wrapped
        app.command(name)(run)
        return function

    return register


def _plain(value: Any) -> Any:
    from protocol.edge import as_json

    return as_json(value)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Ctrl-C above all, else the first error of the innermost group."""
    interrupted, _ = group.split(KeyboardInterrupt)
    error: BaseException = interrupted or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
