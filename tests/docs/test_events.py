"""docs/events.md against the code: every type that it can write, and every member of every row of a long life."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import trio
import trio.testing

from actors import Engine, RunContext, RunInput
from protocol.commands import Cancel, Signal
from protocol.events import FAMILIES, RUN_ENDS, SETTLING, TRANSIENT
from protocol.specs import Backoff, Policy, Restart
from supervisor import Caller, EmbeddedHouse, Filter, NewEngine, NewRun, ReplyBody, open_supervisor

ROW = re.compile(r"^\| `([a-z_]+\.[a-z_]+)`(\\\*)? \|([^|]*)\|", re.MULTILINE)
MEMBER = re.compile(r"`([a-z_0-9]+)(\?)?`")
TYPE = re.compile(rf"(?:{'|'.join(sorted(FAMILIES))})\.[a-z_]+")
FRAMES = {"server.closing"}  # of a stream, and in no journal
NOT_SEEN = {"message.delta", "command.rejected"}
"""What the life below cannot show: it has nothing to say, and the second needs two commands to race."""

ME = Caller(principal="user:test")


def documented(page: str) -> dict[str, tuple[set[str], set[str], bool, bool]]:
    """Of the tables above the one of frames: {type: (members always there, sometimes there, whether
    more are allowed, whether it is transient)}.
    """
    found = {}
    for name, star, members in ROW.findall(page.partition("## Frames")[0]):
        listed = MEMBER.findall(members)
        always = {member for member, optional in listed if not optional}
        found[name] = (always, {member for member, optional in listed if optional}, "…" in members, bool(star))
    return found


def written(root: Path) -> set[str]:
    """Every event type that stands in the code of the house as a whole string."""
    return {
        node.value
        for package in ("protocol", "actors", "supervisor")
        for path in (root / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and TYPE.fullmatch(node.value)
    } - FRAMES | {*RUN_ENDS, *SETTLING, *TRANSIENT}


def test_every_type_in_the_code_is_on_the_page_and_the_reverse(root: Path) -> None:
    page = documented((root / "docs/events.md").read_text())
    by_hand = {"dead_letter.redelivered", "dead_letter.discarded"}  # made of two words in the code; seen below
    assert set(page) == written(root) | by_hand


def test_the_page_marks_exactly_the_transient_types(root: Path) -> None:
    page = documented((root / "docs/events.md").read_text())
    assert {name for name, (_, _, _, transient) in page.items() if transient} == TRANSIENT


async def test_every_member_of_every_event_of_a_long_life_is_on_the_page(root: Path, autojump_clock: Any) -> None:
    page = documented((root / "docs/events.md").read_text())
    seen: set[str] = set()
    for event in await a_long_life():
        if event["type"].partition(".")[0] not in FAMILIES:
            continue
        always, sometimes, open_ended, _ = page[event["type"]]
        members = set(event["data"])
        assert always <= members, event
        assert open_ended or members <= always | sometimes, event
        seen.add(event["type"])
    assert seen == set(page) - NOT_SEEN


def test_the_reserved_families_are_all_named(root: Path) -> None:
    own = (root / "docs/events.md").read_text().partition("## Types of your own")[2]
    assert set(re.findall(r"`([a-z_]+)`", own)) == FAMILIES


class Chatty(Engine):
    """Says more than it may."""

    kind = "chatty"

    async def on_run(self, ctx: RunContext, run: RunInput) -> None:
        for number in range(300):
            ctx.log(f"line {number}")
        ctx.progress({"percent": 50})
        await ctx.sleep(2)
        ctx.log("after")
        await ctx.emit("chatty.done")


async def a_long_life() -> list[dict[str, Any]]:
    """Everything that can happen to engines, and all that a reader sees of it."""
    events: list[dict[str, Any]] = []
    async with open_supervisor(kinds=[Chatty]) as house, house.events() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(tail, stream, events)
        await runs_and_requests(house)
        await lives_and_deaths(house)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return events


async def tail(stream: Any, events: list[dict[str, Any]]) -> None:
    while True:
        events += [json.loads(frame.data) for frame in await stream.receive()]


async def runs_and_requests(house: EmbeddedHouse) -> None:
    await house.spawn(NewEngine(kind="probe", id="worker", stall_s=1, pool="default"), ME)

    async def run(input: Any, **more: Any) -> str:
        info, _ = await house.submit("worker", NewRun(input=input, **more), ME, wait_s=None)
        return info.id

    async def ended(run: str) -> None:
        async with house.events(Filter(run=run), after="0") as stream:
            while all(frame.event != "end" for frame in await stream.receive()):
                pass

    await ended(await run("hello"))
    await ended(await run({"steps": 2, "output_bytes": 100}))
    await ended(await run({"fail_at": 1}))
    await ended(await run({"steps": 1, "step_s": 3}))  # stalls, and goes on
    await ended(await run({"steps": 1, "step_s": 60}, timeout_s=0.5))
    busy = await run({"steps": 1, "step_s": 2})
    await ended(await run("too late", queue_ttl_s=0.1))
    await house.cancel(busy, ME, reason="enough")
    await ended(busy)
    for ask in (
        {"title": "a"},
        {"title": "b", "deadline_s": 1},
        {"title": "c"},
        {"title": "d", "valid_s": 1, "escalate_s": [0.5]},
    ):
        asking = await run({"ask_at": 1, "ask": ask})
        request = await opened(house, asking)
        if ask["title"] == "d":
            await house.pause("worker", ME, wait_s=5)
            await house.reply(request, ReplyBody(answer=42), ME)
            await trio.sleep(2)
            await house.resume("worker", ME)
            await trio.sleep(1)  # it is asked again, and nobody decides
            await house.reply((await house.requests()).items[0].id, ReplyBody(answer=42), ME)
        elif ask["title"] == "a":
            await house.reply(request, ReplyBody(answer=42), ME)
        elif ask["title"] == "c":
            await house.command("worker", Cancel(), ME)
        await ended(asking)
    await house.command("worker", Signal(name="echo", payload=1), ME, wait_s=5)
    await house.spawn(NewEngine(kind="chatty", id="chatty"), ME)
    await house.submit("chatty", NewRun(input=None), ME, wait_s=10)


async def opened(house: EmbeddedHouse, run: str) -> str:
    async with house.events(Filter(run=run, types=("request.opened",)), after="0") as stream:
        frame = (await stream.receive())[0]
    return str(json.loads(frame.data)["data"]["request_id"])


async def until(house: EmbeddedHouse, engine: str, *states: str) -> None:
    await house.supervisor.watch(house.supervisor.ids[engine], lambda view: view.state in states)


async def lives_and_deaths(house: EmbeddedHouse) -> None:
    quick = Backoff(min_s=0.1, max_s=0.1, jitter=0)
    await house.spawn(NewEngine(kind="probe", id="phoenix", restart=Restart(backoff=quick)), ME)
    info, _ = await house.submit("phoenix", NewRun(input={"steps": 2, "crash_at": 1}), ME, wait_s=30)
    assert info.status == "failed"  # crashed on every attempt
    await until(house, "phoenix", "running")
    await house.pause("phoenix", ME, wait_s=5)
    await house.resume("phoenix", ME, wait_s=5)
    await house.stop("phoenix", ME, reason="for the night")
    await until(house, "phoenix", "stopped")
    await house.start("phoenix", ME)
    await until(house, "phoenix", "running")

    never = Restart(policy=Policy.TEMPORARY)
    await house.spawn(NewEngine(kind="probe", id="mortal", restart=never), ME)
    await house.command("mortal", Signal(name="crash"), ME)
    await until(house, "mortal", "failed")

    await house.spawn(NewEngine(kind="probe", id="sleeper", idle_s=0.5), ME)
    await until(house, "sleeper", "dormant")

    await house.pause("phoenix", ME, wait_s=5)
    for text in ("one", "two"):
        await house.submit("phoenix", NewRun(input=text), ME)
    await house.dispose("phoenix", ME, force=True)
    await house.spawn(NewEngine(kind="probe", id="phoenix"), ME)
    first, second = (await house.dead_letters(engine=None)).items[:2]
    await house.redeliver(first.id, ME)
    await house.discard(second.id, ME)
