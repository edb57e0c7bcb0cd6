"""What a coding agent does as an engine, by real agents on a real daemon; only the model is the tests' own."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from actors.processes import linux
from protocol.specs import PauseMode
from protocol.wire import ProcessRow
from tests.agents.cast import Actor
from tests.agents.stage import ENGINE, PATIENCE_S, Stage, on_stage
from tests.agents.table import Table
from tests.models.script import Hold, Say

pytestmark = pytest.mark.agents

AGAIN = "interrupted in the middle of your turn"


async def test_a_prompt_is_answered_as_it_is_said(actor: Actor, programs: Path, table: Table, tmp_path: Path) -> None:
    with table.deed(actor.preset, "prompt"):
        async with on_stage(actor, tmp_path) as stage:
            begun = trio.current_time()
            await stage.begin(programs)
            up_s = trio.current_time() - begun
            stage.endpoint.reply(Say("Half of ", Hold("half"), "it."), when="TELL", tools=True)
            run = await stage.submit("TELL me.")
            await stage.endpoint.held("half")
            assert await said(stage, run, b"Half of") == b"Half of", "while the model still speaks"
            stage.endpoint.open("half")
            done = await stage.ended(run)
            assert (done.status, done.result["stop_reason"]) == ("completed", "end_turn")
            assert done.result["text"].endswith("Half of it.")
            user, agent = await stage.slice("conversation")
            assert (user["role"], user["parts"]) == ("user", [{"type": "text", "text": "TELL me."}])
            assert agent["parts"][-1]["text"].endswith("Half of it.")
            table.facts[actor.preset] = {
                "version": (await stage.slice("session"))["agent"]["version"],
                "up_s": up_s,
                "rss_bytes": sum(row.rss_bytes for row in await stage.processes()),
            }
            assert await stage.dispose() == []


async def test_a_file_is_edited_by_a_tool(actor: Actor, programs: Path, table: Table, tmp_path: Path) -> None:
    with table.deed(actor.preset, "edit"):
        async with on_stage(actor, tmp_path) as stage:
            await stage.begin(programs)
            file = stage.workspace / "made.txt"
            stage.endpoint.reply(Say(actor.write(file, "by the model")), "It is written.", when="WRITE", tools=True)
            done = await stage.do("WRITE it.")
            assert done.status == "completed"
            assert done.result["text"].endswith("It is written.")
            assert file.read_text() == "by the model"
            [tool] = await stage.slice("tools")
            assert (tool["status"], "made.txt" in str(tool["input"])) == ("completed", True)


async def test_a_permission_is_granted_by_a_person(actor: Actor, programs: Path, table: Table, tmp_path: Path) -> None:
    with table.deed(actor.preset, "allowed"):
        async with on_stage(actor, tmp_path) as stage:
            await stage.begin(programs)
            file = stage.workspace / "made"
            stage.endpoint.reply(Say(actor.shell("touch made")), "It is done.", when="MAKE", tools=True)
            run = await stage.submit("MAKE it.")
            request = await stage.asked()
            assert (request.kind, request.run_id) == ("permission", run)
            assert request.action["command"] == "touch made"
            assert (await stage.house.run(run)).status == "waiting"
            assert not file.exists(), "nothing is done before the answer"
            await stage.decide("allow_once")
            done = await stage.ended(run)
            assert (done.status, file.exists()) == ("completed", True)


async def test_a_permission_is_refused_by_a_person(actor: Actor, programs: Path, table: Table, tmp_path: Path) -> None:
    with table.deed(actor.preset, "denied"):
        async with on_stage(actor, tmp_path) as stage:
            await stage.begin(programs)
            stage.endpoint.reply(Say(actor.shell("touch made")), "Then not.", when="MAKE", tools=True)
            run = await stage.submit("MAKE it.")
            await stage.decide("reject_once")
            done = await stage.ended(run)
            assert (done.status, done.result["stop_reason"]) == actor.denied
            assert not (stage.workspace / "made").exists()
            stage.endpoint.reply("I am still here.", when="AND NOW", tools=True)
            assert (await stage.do("AND NOW?")).status == "completed"
            assert not (stage.workspace / "made").exists()


async def test_a_turn_is_cancelled_in_its_middle(actor: Actor, programs: Path, table: Table, tmp_path: Path) -> None:
    with table.deed(actor.preset, "cancel"):
        async with on_stage(actor, tmp_path) as stage:
            await stage.begin(programs)
            stage.endpoint.reply(Say("I begin ", Hold("never"), "and end."), when="LONG", tools=True)
            run = await stage.submit("LONG story.")
            await stage.endpoint.held("never")
            await stage.house.cancel(run)
            assert (await stage.ended(run)).status == "cancelled"
            [asked] = [asked for asked in stage.endpoint.asked if "LONG" in asked.text and asked.tools]
            if not actor.hangs_up:
                stage.endpoint.open("never")
            await stage.endpoint.until(lambda: asked.outcome != "open")
            assert asked.outcome == "gone" or not actor.hangs_up
            stage.endpoint.reply("I am still here.", when="AND NOW", tools=True)
            assert (await stage.do("AND NOW?")).result["text"].endswith("I am still here.")
            assert (await stage.house.get(ENGINE)).incarnation == 1


async def test_a_soft_pause_waits_for_the_tool_boundary(
    actor: Actor, programs: Path, table: Table, tmp_path: Path
) -> None:
    with table.deed(actor.preset, "soft pause"):
        async with on_stage(actor, tmp_path) as stage:
            await stage.begin(programs)
            script = (Say("I begin ", Hold("gate"), actor.shell("touch made")), "It is done.")
            stage.endpoint.reply(*script, when="MAKE", tools=True)
            run = await stage.submit("MAKE it.")
            await stage.endpoint.held("gate")
            await stage.house.pause(ENGINE, mode=PauseMode.SOFT)
            await stage.turns("pausing")  # the model still speaks
            stage.endpoint.open("gate")
            await stage.turns("paused")
            assert not (stage.workspace / "made").exists()
            assert len([asked for asked in stage.endpoint.asked if asked.tools]) == 1
            await stage.house.resume(ENGINE, wait_s=PATIENCE_S)
            await stage.decide("allow_once")
            done = await stage.ended(run)
            assert (done.status, done.attempts) == ("completed", 1)
            assert (stage.workspace / "made").exists()


def used(tree: Iterable[ProcessRow]) -> dict[int, int]:
    """What each process has used of the processors, in ticks; it has to be there."""
    ticks = {}
    for row in tree:
        stat = linux.read(row.pid)
        assert stat is not None
        ticks[row.pid] = stat.cpu_ticks
    return ticks


async def test_a_freeze_stops_the_whole_tree(actor: Actor, programs: Path, table: Table, tmp_path: Path) -> None:
    with table.deed(actor.preset, "freeze"):
        async with on_stage(actor, tmp_path) as stage:
            await stage.begin(programs)
            ticks = stage.workspace / "ticks"
            command = "while [ ! -e enough ]; do echo tick >>ticks; sleep 0.1; done"
            stage.endpoint.reply(Say(actor.shell(command)), "It ticked.", when="TICK", tools=True)
            run = await stage.submit("TICK.")
            await stage.decide("allow_once")
            await exists(ticks)
            await stage.house.pause(ENGINE, mode=PauseMode.FREEZE, wait_s=PATIENCE_S)
            tree = await stage.processes()
            assert len(tree) >= 2
            assert {row.state for row in tree} == {"stopped"}
            before = ticks.read_text(), used(tree)
            await stage.house.event_page(wait_s=1)
            assert (ticks.read_text(), used(tree)) == before, "not a tick"
            await stage.house.resume(ENGINE, wait_s=PATIENCE_S)
            (stage.workspace / "enough").touch()
            done = await stage.ended(run)
            assert (done.status, done.attempts) == ("completed", 1)
            assert done.result["text"].endswith("It ticked.")


async def test_a_killed_daemon_finds_the_session_again(
    actor: Actor, programs: Path, table: Table, tmp_path: Path
) -> None:
    with table.deed(actor.preset, "daemon killed"):
        async with on_stage(actor, tmp_path) as stage:
            await stage.begin(programs)
            stage.endpoint.reply("I shall.", when="REMEMBER", tools=True)
            assert (await stage.do("REMEMBER the kumquat.")).status == "completed"
            stage.endpoint.reply(Say("I begin ", Hold("never"), "and end."), when="LONG", tools=True)
            stage.endpoint.reply("I went on.", when=AGAIN, tools=True)
            run = await stage.submit("LONG story.")
            await stage.endpoint.held("never")
            await said(stage, run, b"I begin")
            await stage.processes()
            await stage.daemon.kill()
            assert await stage.survivors() == []
            await stage.daemon.start()
            done = await stage.ended(run)
            assert done.status == "completed"
            assert done.result["text"].endswith("I went on.")
            session = await stage.slice("session")
            assert session["opened"] in ("resumed", "loaded")
            stage.endpoint.reply("The kumquat.", when="WHICH", tools=True)
            assert (await stage.do("WHICH fruit was it?")).status == "completed"
            last = next(asked for asked in reversed(stage.endpoint.asked) if asked.tools)
            assert any("kumquat" in text for text in last.texts), "the old conversation was sent with it"
            assert await stage.dispose() == []


async def said(stage: Stage, run: str, until: bytes) -> bytes:
    """What the run has written, up to and with these bytes."""
    heard = b""
    with trio.fail_after(PATIENCE_S):
        async with aclosing(stage.house.follow(run)) as parts:
            async for part in parts:
                heard += part
                if until in heard:
                    break
    return heard[heard.index(until) :][: len(until)]


async def exists(file: Path) -> None:
    """A program makes it."""
    with trio.fail_after(PATIENCE_S):
        while not await trio.Path(file).exists():  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.05)
