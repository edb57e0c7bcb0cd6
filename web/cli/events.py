"""Events as they happen, and what engines log."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from web.cli import show
from web.cli.asked import Asked, command
from web.cli.runs import print_output, write_output
from web.cli.terminal import Tame

if TYPE_CHECKING:
    from supervisor.house import Filter, House

__all__ = ["add"]

Follow = Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Go on with what comes.")]
WAIT_S = 30.0
After = Annotated[str | None, typer.Option(help="After this event id; 0: from the oldest.")]


def add(app: typer.Typer) -> None:
    """Register the commands of this file."""
    command(app, "events")(events)
    command(app, "logs")(logs)


def events(
    asked: Asked,
    engine: Annotated[str | None, typer.Option(help="Of this engine alone.")] = None,
    run: Annotated[str | None, typer.Option(help="Of this run alone.")] = None,
    types: Annotated[str, typer.Option(help="Types or first words, with commas: run,engine.crashed")] = "",
    pool: Annotated[str, typer.Option(help="Pools, with commas.")] = "",
    after: After = None,
    follow: Follow = True,
) -> None:
    """Print events as they happen. With --json one JSON object per line."""
    from supervisor.house import Filter

    chosen = Filter(engine=engine, run=run, types=_names(types), pools=_names(pool))

    async def tail(house: House) -> None:
        if follow:
            await _live(house, chosen, after, asked.json)
        else:
            await _past(house, chosen, after or "0", _json_line if asked.json else _event_line)

    asked.house(tail)


def logs(
    asked: Asked,
    name: Annotated[str, typer.Argument(help="An engine's id, or a run's for its output.", show_default=False)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    after: After = "0",
    stream: Annotated[
        str | None,
        typer.Option(help="stdout or stderr, as its files hold it, or events; by itself, where its lines are."),
    ] = None,
) -> None:
    """Print what an engine logged (or the output of a run)."""
    if name.startswith("run_"):
        print_output(asked, name, follow=follow)
        return
    if stream not in (None, "events", "stdout", "stderr"):
        raise typer.BadParameter("--stream must be stdout, stderr or events")
    chosen = stream or asked.house(lambda house: _where_its_lines_are(house, name))
    if chosen != "events":
        asked.house(lambda house: _file(house, name, chosen, after or "0", follow=follow, as_json=asked.json))
        return
    from supervisor.house import Filter

    kept = Filter(engine=name, types=("log.line",))

    async def tail(house: House) -> None:
        line = _json_line if asked.json else partial(_log_line, Tame())
        at = await _past(house, kept, after or "0", line)
        if follow:
            async with house.events(Filter(engine=name, types=("log.line", "run.output")), after=at) as stream:
                await _pump(stream, line)

    asked.house(tail)


async def _where_its_lines_are(house: House, engine: str) -> str:
    """An engine may keep what its program writes in files alone; then nothing of it is among the events."""
    log = (await house.get(engine)).config.get("stdout_log")
    return "stdout" if isinstance(log, dict) and log.get("events") is False else "events"


async def _file(house: House, engine: str, stream: str, after: str, *, follow: bool, as_json: bool) -> None:
    from protocol.errors import EngineDisposed

    tame = Tame()
    while True:
        try:
            page = await house.log(engine, stream, after=after, wait_s=WAIT_S if follow else 0)
        except EngineDisposed:
            return
        if page.missed:
            show.warning("what came next is not kept any more; this goes on with the oldest that is")
        if as_json and page.text:
            show.json_line({"stream": page.stream, "text": page.text, "next_after": page.next_after})
        elif page.text:
            write_output(page.text.encode(errors="replace"), sys.stdout, tame)
        elif not follow:
            return
        after = page.next_after


async def _past(house: House, chosen: Filter, after: str, line: Any) -> str:
    while True:
        page = await house.event_page(chosen, after=after, limit=1000)
        for item in page.items:
            line(item)
        if page.next_after == after or not page.items:
            return page.next_after
        after = page.next_after


async def _live(house: House, chosen: Filter, after: str | None, as_json: bool) -> None:
    async with house.events(chosen, after=after) as stream:
        await _pump(stream, _json_line if as_json else _event_line)


async def _pump(stream: Any, line: Any) -> None:
    import trio

    while True:
        try:
            frames = await stream.receive()
        except trio.EndOfChannel:
            return
        for frame in frames:
            item = json.loads(frame.data)
            line(item if "type" in item else {"type": frame.event, **item})
        sys.stdout.flush()


def _json_line(item: dict[str, Any]) -> None:
    show.json_line(item)


def _event_line(item: dict[str, Any]) -> None:
    data = item.get("data", {key: value for key, value in item.items() if key != "type"})
    who = " ".join(str(item[name]) for name in ("engine_id", "run_id") if item.get(name))
    time = str(item.get("time", ""))[11:23]
    what = show.cell(data, wide=sys.stdout.isatty() is False)
    print(f"{time:12}  {show.cell(item['type']):<20}  {who}  {what}".rstrip())


def _log_line(tame: Tame, item: dict[str, Any]) -> None:
    data = item.get("data", {})
    said = next((data[name] for name in ("text", "message", "line") if name in data), None)
    text = "" if said is None else str(said)
    if item["type"] == "run.output":
        write_output(text.encode(errors="replace"), sys.stdout, tame)
    else:
        print(f"{str(item.get('time', ''))[11:23]}  {show.cell(data if said is None else text, wide=True)}".rstrip())


def _names(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)
