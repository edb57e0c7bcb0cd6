"""One race for an approval: people, the deadline, the end of the run or the engine, and the death of the house.

    python -m tests.simulation.races 0 500      races seeds; prints what each violates

An engine asks for approval of what it is about to do, sometimes with other arguments on another attempt. Everybody
comes at about the same time, over up to three lives of the house. Afterwards the journal and all that people were told
have to agree: one end for each request, one winner whom every loser was told of, and nothing done without an approval
of exactly that, in its time, for this once.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import trio

from actors.context import RunContext
from actors.engine import Engine, RequestExpired, RunInput
from protocol.bodies import NewEngine, NewRun, ReplyBody
from protocol.commands import Approve, Cancel, Dispose, Pause, Reject, Restart, Resume, Stop
from protocol.errors import AlreadyDecided, EnginehouseError, RequestClosed, StoreUnavailable
from protocol.events import Row
from protocol.requests import RequestKind
from protocol.specs import Backoff, OnInterrupt
from protocol.specs import Restart as RestartSpec
from supervisor import open_supervisor
from supervisor.embedded import EmbeddedHouse
from supervisor.house import Caller
from tests.simulation import invariants, schedule
from tests.simulation.world import Disk, World

__all__ = ["race"]

LIVES, RACERS = 3, 6
ENDS = {"request.decided": "decided", "request.expired": "expired", "request.withdrawn": "withdrawn"}


@dataclass(slots=True, eq=False)
class Told:
    """What people were told: (request, decision) who won, the same who lost, and requests that were closed."""

    won: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    lost: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)


def race(seed: int) -> list[str]:
    """What the race of this seed violates."""
    world, told = World.of(seed), Told()
    try:
        with tempfile.TemporaryDirectory(prefix="race-") as directory:
            schedule.run(lambda: _race(world, told, directory), seed)
    except (Exception, schedule.Stuck) as error:  # noqa: BLE001 - whatever a house raises here is a violation
        world.violations.append(f"the house raised {error!r}")
    rows = [Row.from_wire(kept.wire, kept.uid) for kept in world.journal.rows]
    return [*world.violations, *invariants.journal(rows, world.boundaries), *_gate(rows), *_agree(rows, told)]


async def _race(world: World, told: Told, directory: str) -> None:
    for life in range(LIVES):
        await _life(world, told, directory, last=life == LIVES - 1)


async def _life(world: World, told: Told, directory: str, *, last: bool) -> None:
    rng, life = world.rng, world.begin()
    disk = Disk(world, kill_at=None if last else rng.randrange(1, 25), torn=rng.random() < 0.5, break_at=None)
    with suppress(StoreUnavailable), disk.scope:
        async with open_supervisor(
            store=disk, kinds=[_gate_of(world)], directory=directory, name="race", grace_s=0.05, margin_s=0.01,
            wall=world.wall, random=rng, threads=False,
        ) as house:  # fmt: skip
            world.house = house
            if "a" not in house.supervisor.ids:
                with suppress(EnginehouseError):
                    quick = RestartSpec(max_restarts=100, backoff=Backoff(min_s=0.001, max_s=0.01))
                    await house.spawn(NewEngine(kind="gate", id="a", restart=quick), Caller(principal="user:ann"))
            with suppress(EnginehouseError):
                await house.submit("a", NewRun(input=f"life {life}"), Caller(principal="user:ann"))
            async with trio.open_nursery() as nursery:
                for number in range(RACERS):
                    nursery.start_soon(_racer, world, house, told, life, f"user:{number}")
            if last:
                await _settle(world, house)
            elif rng.random() < 0.5:
                disk.kill()


def _gate_of(world: World) -> type[Engine]:
    """A kind whose randomness is this world's."""
    rng = world.rng

    class Gate(Engine):
        kind = "gate"
        on_interrupt = OnInterrupt.RETRY

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            await ctx.sleep(rng.random() * 0.005)
            action = {"version": rng.choice([1, 1, 1, 2])}
            deadline_s = rng.choice([None, None, 0.01, 0.02, 0.04])
            try:
                decided = await ctx.ask_human(
                    "Open?", kind=RequestKind.APPROVAL, action=action, deadline_s=deadline_s,
                    default=rng.choice([None, "reject", "approve"]), valid_s=rng.choice([0.005, 0.03, 10]),
                    escalate_s=rng.choice([None, [0.005, 0.015]]),
                )  # fmt: skip
            except RequestExpired:
                return "expired"
            if decided.option == "approve":
                await ctx.emit("gate.opened", {"action": action})
                await ctx.sleep(rng.random() * 0.005)
            return decided.option

    return Gate


async def _racer(world: World, house: EmbeddedHouse, told: Told, life: int, name: str) -> None:
    rng, caller = world.rng, Caller(principal=name)
    await trio.sleep(rng.random() * 0.05)
    pending = [r.id for r in (await house.requests()).items]
    other = rng.choice([Cancel(), Stop(grace_s=0.01), Restart(grace_s=0.01), Dispose(force=True), Pause(), Resume()])
    with suppress(EnginehouseError):
        if not pending or rng.random() < 0.25:
            await house.command("a", other, caller)
            if isinstance(other, Pause):
                await trio.sleep(rng.random() * 0.03)
                await house.command("a", Resume(holder="*"), caller)
            return
        for _ in range(2):
            await _decide(world, house, told, life, rng.choice(pending), caller)


async def _decide(world: World, house: EmbeddedHouse, told: Told, life: int, request: str, caller: Caller) -> None:
    option = world.rng.choice(["approve", "reject"])
    try:
        if world.rng.random() < 0.6:
            shown = await house.reply(request, ReplyBody(option=option), caller)
        else:
            body = Approve(request_id=request) if option == "approve" else Reject(request_id=request)
            await house.command("a", body, caller, wait_s=5)
            shown = await house.request(request)
    except AlreadyDecided as error:
        if world.now(life):
            told.lost.append((request, dict(error.extra["decision"])))  # type: ignore[call-overload]  # JSON values
    except RequestClosed:
        if world.now(life):
            told.closed.append(request)
    else:
        if world.now(life) and shown.decision is not None:
            told.won.append((request, shown.decision))
            world.must(shown.decision["by"] == caller.principal, f"I16 {caller.principal} won, and {shown.decision}")


async def _settle(world: World, house: EmbeddedHouse) -> None:
    """Let everything go, and refuse what still waits, until nothing does."""
    for _ in range(60):
        with suppress(EnginehouseError):
            await house.command("a", Resume(holder="*"), Caller(principal="user:end"))
        for request in (await house.requests()).items:
            with suppress(EnginehouseError):
                await house.reply(request.id, ReplyBody(option="reject"), Caller(principal="user:end"))
        await trio.sleep(0.1)
        if all(not view.runs for view in house.supervisor.views.values()):
            return
        with suppress(EnginehouseError):
            await house.start("a", Caller(principal="user:end"))
    world.must(False, f"I16 a run does not end: {house.supervisor.cells}")


def _gate(rows: Sequence[Row]) -> Iterator[str]:
    """I17: what was done was approved, exactly that, by then, and once."""
    opened: dict[str, Row] = {}
    decided: dict[str, dict[str, Any]] = {}
    void: set[str] = set()
    usable: dict[str | None, list[str]] = {}
    used: Counter[str] = Counter()
    for row in rows:
        name = row.data.get("request_id", "")
        match row.type:
            case "request.opened":
                opened[name] = row
            case "request.decided":
                decided[name] = row.data["decision"]
            case "request.voided":
                void.add(name)
            case "request.used":
                used[name] += 1
                if used[name] > 1 or name in void or name not in decided:
                    yield f"I17 {row.seq}: {name} was used {used[name]} times, decided {name in decided}"
                usable.setdefault(row.run_id, []).append(name)
            case "gate.opened":
                fitting = [
                    one
                    for one in usable.get(row.run_id, [])
                    if decided[one]["option"] == "approve"
                    and opened[one].data["action"] == row.data["action"]
                    and row.time <= decided[one]["expires_at"]
                ]
                if not fitting:
                    yield f"I17 {row.seq}: {row.data['action']} was done without an approval"
                else:
                    usable[row.run_id].remove(fitting[-1])


def _agree(rows: Sequence[Row], told: Told) -> Iterator[str]:
    """I16: one end for each, and everybody was told of that one."""
    ends: dict[str, Row] = {}
    asked = {row.data["request_id"] for row in rows if row.type == "request.opened"}
    for row in rows:
        if row.type in ENDS:
            if row.data["request_id"] in ends:
                yield f"I16 {row.seq}: a second end of {row.data['request_id']}"
            ends[row.data["request_id"]] = row
    yield from (f"I16 {name} has no end" for name in asked - ends.keys())
    for name, decision in (*told.won, *told.lost):
        end = ends.get(name)
        if end is None or end.data.get("decision") != decision:
            yield f"I16 {name}: somebody was told of {decision}, and it is {end and end.data}"
    winners = Counter(name for name, _ in told.won)
    yield from (f"I16 {count} have won {name}" for name, count in winners.items() if count > 1)
    for name in told.closed:
        if name in ends and ends[name].type == "request.decided":
            yield f"I16 {name}: somebody was told that it is closed, and it was decided"


def main(first: int, beyond: int) -> int:
    """Race a range of seeds, and tell; the number of those that violate something."""
    bad = 0
    for seed in range(first, beyond):
        found = race(seed)
        bad += bool(found)
        if found:
            sys.stdout.write(f"{seed}: " + "\n  ".join(found[:8]) + "\n")
    sys.stdout.write(f"{beyond - first} races, {bad} with violations\n")
    return bad


if __name__ == "__main__":
    raise SystemExit(bool(main(int(sys.argv[1]), int(sys.argv[2]))))
