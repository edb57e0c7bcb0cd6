"""Runs: give work and wait for it, or only give it; look at it, cancel it."""

from __future__ import annotations

import json
import math
import sys
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from web.cli import show, texts
from web.cli.asked import Asked, command
from web.cli.exits import FAILED
from web.cli.terminal import Tame

if TYPE_CHECKING:
    from protocol.wire import RunInfo
    from supervisor.house import House

__all__ = ["SHOWN", "add", "print_output", "write_output"]

Engine = Annotated[str, typer.Argument(help="The engine's id.", show_default=False)]
Run = Annotated[str, typer.Argument(help="The run's id.", show_default=False)]
Text = Annotated[str | None, typer.Argument(help="The input as text; - reads standard input.", show_default=False)]
Input = Annotated[str | None, typer.Option("--input", help="The input as JSON, instead of a text.")]
High = Annotated[bool, typer.Option("--high", help="Before the runs of normal priority.")]
Timeout = Annotated[float | None, typer.Option("--timeout", help="Seconds it may work.")]
OnBusy = Annotated[str, typer.Option("--on-busy", help="enqueue, reject, interrupt or replace.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="name=value; repeatable.")]

SHOWN = (
    "id", "engine_id", "status", "priority", "input", "result", "error", "reason", "cancelled_by", "queue_position",
    "attempts", "retry_of", "usage", "output_bytes", "created_at", "started_at", "finished_at", "elapsed_s", "digest",
)  # fmt: skip

SHORT_S: Final = 1.0
"""A run that is over by then is one request."""


def add(app: typer.Typer) -> None:
    """Register the commands of this file."""
    for name, function in (
        ("run", run), ("submit", submit), ("runs", list_runs), ("cancel", cancel), ("retry", retry),
    ):  # fmt: skip
        command(app, name)(function)


def run(
    asked: Asked,
    engine: Engine,
    text: Text = None,
    input: Input = None,
    high: High = False,
    timeout: Timeout = None,
    on_busy: OnBusy = "enqueue",
    label: Labels = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print the output while it comes.")] = False,
) -> None:
    """Give an engine a run and wait for its end; what it asks people is told on stderr. Ctrl-C leaves the run alone."""
    new = _new(text, input, high, timeout, on_busy, label)

    async def work(house: House) -> Any:
        import trio

        from supervisor.house import Caller

        once = Caller(key=str(uuid.uuid4()))  # given again under this key it is the same run, and waited for
        started, _ = await house.submit(engine, new, once, wait_s=None if follow else SHORT_S)
        if started.finished_at is not None and not follow:
            return started
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell_what_is_asked, house, started)
            if follow:
                await _copy(house, started.id, sys.stderr if asked.json else sys.stdout)
                done = await house.run(started.id)
            else:
                done, _ = await house.submit(engine, new, once, wait_s=math.inf)
            nursery.cancel_scope.cancel()
        return done

    try:
        done = asked.house(work)
    except KeyboardInterrupt:
        print(f"the run goes on; `enginehouse runs --engine {engine}` shows it", file=sys.stderr)
        raise
    if asked.json:
        asked.record(done)
    else:
        if not follow:
            _print_result(done)
        why = f": {(done.error or {}).get('detail') or done.reason or ''}".removesuffix(": ")
        took = f" in {done.elapsed_s:.1f} s" if done.elapsed_s is not None else ""
        print(f"{done.id} {done.status}{took}{show.cell(why, wide=True)}", file=sys.stderr)
    if done.status != "completed":
        raise typer.Exit(FAILED)


def submit(
    asked: Asked,
    engine: Engine,
    text: Text = None,
    input: Input = None,
    high: High = False,
    timeout: Timeout = None,
    on_busy: OnBusy = "enqueue",
    label: Labels = None,
) -> None:
    """Give an engine a run and print the run's id."""
    new = _new(text, input, high, timeout, on_busy, label)
    given, _ = asked.house(lambda house: house.submit(engine, new))
    asked.done(given, given.id)


def list_runs(
    asked: Asked,
    engine: Annotated[str | None, typer.Option(help="Of this engine alone.")] = None,
    pool: Annotated[str | None, typer.Option(help="Of this pool alone.")] = None,
    status: Annotated[str | None, typer.Option(help="With this status alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
) -> None:
    """List runs, newest first."""
    page = asked.house(lambda house: house.runs(engine=engine, pool=pool, status=status, limit=limit))
    columns = ("id", "engine_id", "status", "priority", "created_at", "elapsed_s", "input")
    asked.table(page.items, *columns, empty="There are no runs.")


def print_output(asked: Asked, run: str, *, follow: bool) -> None:
    """The output of a run so far; with `follow` until it ends."""

    async def copy(house: House) -> None:
        if follow:
            await _copy(house, run, sys.stdout)
            return
        at, tame = 0, Tame()
        while True:
            piece, size = await house.output(run, after=at)
            write_output(piece, sys.stdout, tame)
            at += len(piece)
            if at >= size or not piece:
                return

    asked.house(copy)


def cancel(asked: Asked, run: Run, reason: Annotated[str, typer.Option(help="Why.")] = "") -> None:
    """Cancel a run, queued or in hand."""
    found = asked.house(lambda house: house.cancel(run, reason=reason))
    asked.done(found, f"{found.id} {'is being cancelled' if found.finished_at is None else found.status}")


def retry(asked: Asked, run: Run) -> None:
    """Give the same input again, as a new run, and print its id."""
    given, _ = asked.house(lambda house: house.retry(run))
    asked.done(given, given.id)


def _new(
    text: str | None, input: str | None, high: bool, timeout: float | None, on_busy: str, label: list[str] | None
) -> Any:
    from protocol.bodies import NewRun
    from protocol.edge import parse

    members = {
        "input": texts.text_or_json(text, input),
        "priority": "high" if high else "normal",
        "timeout_s": timeout,
        "on_busy": on_busy,
        "labels": texts.pairs(label or [], "--label"),
    }
    return parse(NewRun, members)


async def _tell_what_is_asked(house: House, run: RunInfo) -> None:
    """A line on stderr for each request of the run, once: people may be looking here and not at `requests`."""
    import trio

    from protocol.errors import EnginehouseError
    from supervisor.house import Filter

    opened = Filter(run=run.id, types=("request.opened",))
    try:
        async with house.events(opened, after="0") as stream:
            while True:
                for frame in await stream.receive():
                    data = json.loads(frame.data).get("data", {})
                    if "request_id" in data:
                        said = f"{data['title']} (enginehouse show {data['request_id']})"
                        print(f"Waiting for an answer: {show.cell(said, wide=True)}", file=sys.stderr, flush=True)
    except (EnginehouseError, trio.EndOfChannel):
        return  # such as a key that may not read; the run is waited for all the same


async def _copy(house: House, run: str, out: Any) -> None:
    last, tame = b"\n", Tame()
    async with aclosing(house.follow(run)) as pieces:
        async for piece in pieces:
            write_output(piece, out, tame)
            last = piece[-1:] or last
    if last != b"\n" and out.isatty():
        write_output(b"\n", out, tame)


def write_output(piece: bytes, out: Any, tame: Tame) -> None:
    """Output as it is, but for what could do something to a terminal."""
    out.flush()
    buffer = getattr(out, "buffer", None)
    if buffer is None or out.isatty():
        out.write(tame.feed(piece))
    else:
        buffer.write(piece)
    out.flush()


def _print_result(done: Any) -> None:
    result = done.result
    if isinstance(result, dict) and isinstance(result.get("output"), str):
        if result.get("truncated") is True:
            show.warning(f"this is only the end of the output; `enginehouse logs {done.id}` prints all of it")
        end = "" if not result["output"] or result["output"].endswith("\n") else "\n"
        write_output((result["output"] + end).encode(errors="replace"), sys.stdout, Tame())
    elif isinstance(result, str):
        write_output(f"{result}\n".encode(errors="replace"), sys.stdout, Tame())
    elif result is not None:
        show.print_json(result)
