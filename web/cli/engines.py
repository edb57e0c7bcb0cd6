"""Engines: spawn, look at, steer, end."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from web.cli import runs, show, texts
from web.cli.asked import Asked, command
from web.cli.exits import FAILED
from web.cli.why import how_it_ended, print_said

if TYPE_CHECKING:
    from protocol.bodies import NewEngine
    from protocol.wire import EngineInfo
    from supervisor.house import House

__all__ = ["add"]

Engine = Annotated[str, typer.Argument(help="The engine's id.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why, for those who ask later.")]
Wait = Annotated[float | None, typer.Option("--wait", help="Wait up to so many seconds for the effect.")]
Force = Annotated[bool, typer.Option("--force", help="Also when it has work.")]
Grace = Annotated[float | None, typer.Option("--grace", help="Seconds it has to end by itself.")]

SEEN_S = 2.0

SHOWN = (
    "id", "uid", "kind", "pool", "key", "state", "aim", "busy", "stalled", "pause_slow", "draining", "waiting_for",
    "holds", "incarnation", "restarts", "last_exit", "active_run", "mailbox", "config", "labels", "created_at",
    "state_since",
)  # fmt: skip


def add(app: typer.Typer) -> None:
    """Register the commands of this file."""
    for name, function in (
        ("spawn", spawn), ("list", list_engines), ("show", show_one), ("state", state), ("start", start),
        ("stop", stop), ("restart", restart), ("pause", pause), ("resume", resume), ("signal", signal),
        ("dispose", dispose),
        ("processes", processes),
    ):  # fmt: skip
        command(app, name)(function)


def spawn(
    asked: Asked,
    kind: Annotated[
        str, typer.Argument(help="agent, acp, shell, process, probe, or one of your own.", show_default=False)
    ],
    id: Annotated[str | None, typer.Option(help="Its id; made when absent.")] = None,
    pool: Annotated[str, typer.Option(help="The pool it belongs to.")] = "default",
    config: Annotated[
        list[str] | None, typer.Option(help="key=value, dotted keys, or a JSON object; repeatable.")
    ] = None,
    cwd: Annotated[Path | None, typer.Option(help="Its working folder (config cwd).")] = None,
    label: Annotated[list[str] | None, typer.Option(help="name=value; repeatable.")] = None,
    start: Annotated[bool, typer.Option(help="Start it at once.")] = True,
    spec: Annotated[str | None, typer.Option(help="Further members of the spec, as a JSON object.")] = None,
) -> None:
    """Spawn an engine and print its id; exit 1 when it could not start. One that crashed and is tried again is told on
    stderr.
    """
    from protocol.bodies import NewEngine
    from protocol.edge import parse

    made = texts.table(config or [])
    if cwd is not None:
        made["cwd"] = str(cwd.expanduser().absolute())
    said = {"kind": kind, "id": id, "pool": pool, "config": made, "start": start}
    said["labels"] = texts.pairs(label or [], "--label")
    members = texts.members(spec)
    if twice := sorted(members.keys() & said.keys()):
        raise typer.BadParameter(f"--spec cannot name what has an option of its own: {', '.join(twice)}")
    members |= said
    new = parse(NewEngine, members)
    engine = asked.house(lambda house: _spawned(house, new))
    asked.done(engine, engine.id)
    error = str((engine.last_exit or {}).get("error"))
    if engine.state == "failed":
        print(f"{engine.id} failed: {show.lines(error)}", file=sys.stderr)
        raise typer.Exit(FAILED)
    if engine.last_exit is not None and engine.state in ("backing_off", "starting"):
        print(f"warning: {engine.id} crashed and will be tried again: {show.lines(error)}", file=sys.stderr)


async def _spawned(house: House, new: NewEngine) -> EngineInfo:
    """The engine once it is up or not, or as it is after `SEEN_S`: a mistake in its config shows at once."""
    import trio

    from supervisor.house import Filter

    engine, _ = await house.spawn(new)
    if engine.state == "starting":
        with trio.move_on_after(SEEN_S):
            async with house.events(Filter(engine=engine.id, types=("engine",)), after="0") as stream:
                while engine.state == "starting":
                    await stream.receive()
                    engine = await house.get(engine.id)
    return engine


def list_engines(
    asked: Asked,
    pool: Annotated[str | None, typer.Option(help="Of this pool alone.")] = None,
    kind: Annotated[str | None, typer.Option(help="Of this kind alone.")] = None,
    state: Annotated[str | None, typer.Option(help="In this state alone.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="name=value; repeatable.")] = None,
) -> None:
    """List engines, in the order of their spawning."""
    labels = texts.pairs(label or [], "--label")

    async def every(house: Any) -> list[Any]:
        found: list[Any] = []
        cursor = None
        while True:
            page = await house.list(pool=pool, kind=kind, state=state, labels=labels, limit=1000, cursor=cursor)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                return found

    engines = asked.house(every)
    columns = ("id", "kind", "pool", "state", "busy", "active_run", "restarts", "state_since")
    asked.table(engines, *columns, empty="There are no engines; `enginehouse spawn KIND` makes one.")


def show_one(
    asked: Asked, id: Annotated[str, typer.Argument(help="An engine, run_..., req_... or cmd_....", show_default=False)]
) -> None:
    """Show an engine, a run, a request or a command."""
    match id.partition("_")[0]:
        case "run":
            asked.record(asked.house(lambda house: house.run(id)), *runs.SHOWN)
        case "req":
            asked.record(asked.house(lambda house: house.request(id)))
        case "cmd":
            asked.record(asked.house(lambda house: house.get_command(id)))
        case _:
            engine, ended = asked.house(lambda house: _ended(house, id, told=not asked.json))
            asked.record(engine, *SHOWN)
            print_said(ended)


async def _ended(house: House, engine: str, *, told: bool) -> tuple[EngineInfo, list[tuple[str, str]]]:
    info = await house.get(engine)
    return info, await how_it_ended(house, info) if told else []


def state(
    asked: Asked,
    engine: Engine,
    slice: Annotated[str | None, typer.Argument(help="One slice alone.", show_default=False)] = None,
    at: Annotated[int | None, typer.Option(help="As it was at this seq.")] = None,
) -> None:
    """Print an engine's slices as JSON."""
    from protocol.edge import as_json

    if slice is None:
        show.print_json(as_json(asked.house(lambda house: house.state(engine, at=at))))
    else:
        show.print_json(as_json(asked.house(lambda house: house.slice(engine, slice, at=at))))


def start(asked: Asked, engine: Engine, wait: Wait = None) -> None:
    """Start an engine that was stopped, failed or sleeps."""
    from protocol import commands

    _send(asked, engine, commands.Start(), wait)


def stop(asked: Asked, engine: Engine, grace: Grace = None, reason: Reason = "", wait: Wait = None) -> None:
    """Stop an engine: the run in hand is cancelled, also one that waits for an answer, and the queue is kept. After a
    `pause` instead it goes on where it was.
    """
    from protocol import commands

    _send(asked, engine, commands.Stop(grace_s=grace, reason=reason), wait)


def restart(asked: Asked, engine: Engine, grace: Grace = None, reason: Reason = "", wait: Wait = None) -> None:
    """End an engine's actor and begin a new one."""
    from protocol import commands

    _send(asked, engine, commands.Restart(grace_s=grace, reason=reason), wait)


def pause(
    asked: Asked,
    engine: Engine,
    mode: Annotated[str | None, typer.Option(help="soft, interrupt or freeze; the kind's own when absent.")] = None,
    holder: Annotated[str | None, typer.Option(help="In whose name; yours when absent.")] = None,
    reason: Reason = "",
    wait: Wait = None,
) -> None:
    """Hold an engine where it is; the same run goes on later."""
    from protocol import commands
    from protocol.edge import parse

    body = parse(commands.Pause, {"mode": mode, "holder": holder, "reason": reason})
    _send(asked, engine, body, wait)


def resume(
    asked: Asked,
    engine: Engine,
    holder: Annotated[str | None, typer.Option(help="Whose hold; yours when absent, '*' for all.")] = None,
    wait: Wait = None,
) -> None:
    """Lift a hold. Others keep theirs, and the engine stands still until the last is lifted; who they are is told."""
    from protocol import commands

    body = commands.Resume(holder=holder)
    accepted, reached, holds = asked.house(lambda house: _resumed(house, engine, body, wait))
    # As JSON it is the same with and without holds of others: nobody asked to wait.
    _tell(asked, engine, body, accepted, None if wait is None and asked.json else reached, wait)
    if holds:
        names = ", ".join(f"{hold.holder} ({hold.reason})" if hold.reason else hold.holder for hold in holds)
        show.warning(f"{engine} is still held by {names}; lift that with --holder, all with --holder '*'")


async def _resumed(house: House, engine: str, body: Any, wait_s: float | None) -> Any:
    """What became of it, and the holds that are left: seen once it was delivered, so that is waited for a moment."""
    from protocol.errors import EnginehouseError

    accepted, reached = await house.command(engine, body, wait_s=SEEN_S if wait_s is None else wait_s)
    if reached is None:
        return accepted, None, []
    try:
        return accepted, reached, (await house.get(engine)).holds
    except EnginehouseError:  # such as a key that may not read: it was done all the same
        return accepted, reached, []


def signal(
    asked: Asked,
    engine: Engine,
    name: Annotated[str, typer.Argument(help="The signal's name, as the kind has it.", show_default=False)],
    data: Annotated[str | None, typer.Option("--data", help="Its payload, as JSON.")] = None,
    wait: Wait = 60,
) -> None:
    """Send an engine a signal, which it handles also during a run, and print what it answers; exit 1 when that is that
    nothing was done (`done` or `ok` is false). What signals there are is the kind's: those of `agent` are steer,
    compact, forget, checkpoint, rollback and clear.
    """
    from protocol import commands
    from protocol.edge import parse

    members: dict[str, Any] = {"name": name}
    if data is not None:
        members["payload"] = texts.json_of(data, "--data")
    body = parse(commands.Signal, members)
    accepted, reached = asked.house(lambda house: house.command(engine, body, wait_s=wait))
    if reached is None or reached.state != "completed":
        if reached is not None and reached.problem and not asked.json:
            show.error(str(reached.problem.get("detail")))
        _tell(asked, engine, body, accepted, reached, wait)
        raise typer.Exit(FAILED)
    if asked.json:
        asked.record(reached)
    elif reached.result is None:
        print(f"{engine}: {name} is handled")
    else:
        show.print_json(reached.result)
    if isinstance(reached.result, dict) and any(reached.result.get(name) is False for name in ("done", "ok")):
        raise typer.Exit(FAILED)


def dispose(
    asked: Asked,
    engines: Annotated[list[str], typer.Argument(help="Ids of engines.", show_default=False)],
    force: Force = False,
    grace: Grace = None,
) -> None:
    """End everything that engines are, and wait for the proof."""
    if len(engines) == 1:
        gone = asked.house(lambda house: house.dispose(engines[0], force=force, grace_s=grace))
        leaks = f", but for {show.cell(gone.leaks, wide=True)}" if gone.leaks else ""
        asked.done(gone, f"{gone.id} is disposed of{leaks}")
        return
    results = asked.house(lambda house: house.dispose_many(engines, force=force, grace_s=grace))
    asked.table(results, "id", "ok", "state", "problem", empty="")
    if not all(result.ok for result in results):
        raise typer.Exit(FAILED)


def processes(asked: Asked, engine: Engine) -> None:
    """List an engine's live processes, what they use in all, and what holds them."""
    tree = asked.house(lambda house: house.processes(engine))
    if asked.json:
        asked.record(tree)
        return
    rows = [
        {"pid": p.pid, "ppid": p.ppid, "state": p.state, "cpu_percent": p.cpu_percent, "cpu_s": p.cpu_s,
         "rss_bytes": p.rss_bytes, "threads": p.threads, "command": shlex.join(p.command) or f"[{p.name}]"}
        for p in tree
    ]  # fmt: skip
    show.table(rows, tuple(rows[0]) if rows else (), empty="It has no process.")
    if rows:
        print()
        asked.record(tree.total)
    if tree.confinement is not None:
        asked.record(tree.confinement)


def _send(asked: Asked, engine: str, body: Any, wait_s: float | None) -> None:
    accepted, reached = asked.house(lambda house: house.command(engine, body, wait_s=wait_s))
    _tell(asked, engine, body, accepted, reached, wait_s)


def _tell(asked: Asked, engine: str, body: Any, accepted: Any, reached: Any, wait_s: float | None) -> None:
    if reached is not None:
        asked.done(reached, f"{engine}: {body.type} {reached.state}{'' if reached.changed else ' (it was so already)'}")
    elif wait_s is not None:
        asked.done(accepted, f"{engine}: {body.type} {accepted.state}, not reached in {wait_s:g} s")
        raise typer.Exit(FAILED)
    else:
        asked.done(accepted, f"{engine}: {body.type} {accepted.state} ({accepted.command_id})")
