"""Why an engine is as it is: what it does or waits for, how it ended, and who had it so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from web.cli import show
from web.cli.asked import Asked, command

if TYPE_CHECKING:
    from protocol.view import Why
    from protocol.wire import EngineInfo
    from supervisor.house import House

__all__ = ["add", "how_it_ended", "print_said"]

Said = list[tuple[str, str]]


def add(app: typer.Typer) -> None:
    """Register the command of this file."""
    command(app, "why")(why)


def why(asked: Asked, engine: Annotated[str, typer.Argument(help="The engine's id.", show_default=False)]) -> None:
    """Tell what it does or waits for now, or how it ended; and who stopped, paused, restarted or cancelled it last, and
    why. With --json the latter alone.
    """
    found, now = asked.house(lambda house: _why(house, engine, now=not asked.json))
    if asked.json:
        asked.record(found)
        return
    print_said(now)
    if now and found:
        print()
    rows = [
        {"what": name, "at": last.at, "by": last.by, "reason": _first_line(last.reason)} for name, last in found.items()
    ]
    show.table(rows, ("what", "at", "by", "reason"), empty="Nobody has stopped, paused, restarted or cancelled it.")


def print_said(said: Said) -> None:
    """What is told, a line each; what has lines of its own, such as a traceback, has them."""
    for what, text in said:
        print(f"{what:8}  {show.lines(text)}")


async def how_it_ended(house: House, info: EngineInfo) -> Said:
    """For an engine that failed, or is tried again: its last exit, and what can be done."""
    if info.state not in ("failed", "backing_off") or not info.last_exit:
        return []
    cause, error = info.last_exit.get("cause"), info.last_exit.get("error")
    ended = ("ended", f"{cause}: {error}" if error else str(cause))
    return [("gave up", await _given_up(house, info)), ended] if info.state == "failed" else [ended]


async def _given_up(house: House, info: EngineInfo) -> str:
    again = f"`enginehouse start {info.id}` tries again"
    restart = info.restart
    if (info.last_exit or {}).get("cause") == "unmendable":
        return f"no retry mends it: mend the machine, then {again}; or dispose of it, and spawn it with another config"
    if restart.policy == "temporary":
        return f"its restart policy is temporary, so nothing restarts it; {again}"
    pool = await house.pool(info.pool)
    own = f"after {restart.max_restarts} restarts within {restart.window_s:g} s"
    if pool.max_restarts is None:
        return f"{own}; {again}"
    return f"{own}, or {pool.max_restarts} of its pool within {pool.window_s:g} s; {again}"


def _first_line(text: str | None) -> str:
    """A traceback is told above, or by `show`; here it would make the table as wide as itself."""
    first, _, more = (text or "").partition("\n")
    return f"{first} …" if more else first


async def _why(house: House, engine: str, *, now: bool) -> tuple[dict[str, Why], Said]:
    found = await house.why(engine)
    return found, await _now(house, engine) if now else []


async def _now(house: House, engine: str) -> Said:
    """What it does, and all that it waits for; also what engines ask that work for it."""
    info = await house.get(engine)
    run = await house.run(info.active_run) if info.active_run else None
    said = [("state", info.state if run is None else f"{info.state}; its run {run.id} is {run.status}")]
    said += [("held by", f"{hold.holder} ({hold.reason})" if hold.reason else hold.holder) for hold in info.holds]
    if info.stalled:
        said.append(("stalled", "its run shows no progress"))
    if info.pause_slow:
        said.append(("pausing", f"waits for {info.pause_slow}"))
    if info.waiting_for:
        said.append(("waits", f"for a {info.waiting_for} in its pool"))
    for request in (await house.requests(pool=info.pool, limit=1000)).items:
        if request.engine_id == info.id or f"engine:{info.uid}" in request.asked_by:
            who = "" if request.engine_id == info.id else f" (from {request.engine_id})"
            said.append(("asks", f"{request.title}{who}: enginehouse show {request.id}"))
    return said + await how_it_ended(house, info)
