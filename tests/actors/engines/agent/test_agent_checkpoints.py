"""Checkpoints of an agent, and going back to one."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.actors.engines.agent.conftest import ALLOWED
from tests.models.script import Call, Hold, Say


def write(path: str, text: str) -> Call:
    return Call("write", {"path": path, "text": text})


async def test_there_is_one_before_and_after_a_run_that_does_something(agents: Any) -> None:
    (agents.place / "a.txt").write_text("before")
    agents.endpoint.reply(
        Say(Call("read", {"path": "a.txt"})), Say("looked"), Say(write("a.txt", "1"), write("b.txt", "2")), Say("done")
    )
    engine = await agents.spawn(permissions=ALLOWED)
    await agents.run(engine)
    assert await agents.slice(engine, "checkpoints") == []
    run = await agents.run(engine)
    first, second = await agents.slice(engine, "checkpoints")
    assert (first["id"], first["why"], first["files"], first["bytes"]) == ("cp-1", "before a run", 1, 6)
    assert (second["id"], second["why"], second["files"], second["run_id"]) == ("cp-2", "after a run", 2, run.id)
    assert [told["checkpoint"]["id"] for told in await agents.events(engine, "agent.checkpoint")] == ["cp-1", "cp-2"]


async def test_rollback_takes_files_conversation_and_slices_back(agents: Any) -> None:
    (agents.place / "a.txt").write_text("before")
    agents.endpoint.reply(
        Say("hello"), Say(Call("plan", {"steps": [{"content": "x"}]}), write("a.txt", "after"), write("b.txt", "new")),
        Say("done"), Say("as if it had never been"),
    )  # fmt: skip
    engine = await agents.spawn(permissions=ALLOWED)
    await agents.run(engine, "greet")
    shown = await agents.slice(engine, "conversation")
    await agents.run(engine, "write")
    used = (await agents.slice(engine, "usage"))["total_tokens"]
    told = await agents.signal(engine, "rollback", "cp-1")
    assert told == {"done": True, "checkpoint": "cp-1", "changed": 2, "undo": "cp-3"}
    assert (agents.place / "a.txt").read_text() == "before"
    assert not (agents.place / "b.txt").exists()
    assert (await agents.slice(engine, "conversation"))[:2] == shown
    assert (await agents.slice(engine, "usage"))["total_tokens"] == used
    await agents.run(engine, "and now?")
    texts = agents.endpoint.asked[-1].texts
    assert texts[0] == "greet"
    assert texts[-1].endswith("and now?")
    assert (await agents.events(engine, "agent.rolled_back"))[0]["changed"] == 2


async def test_going_back_can_be_undone(agents: Any) -> None:
    agents.endpoint.reply(Say(write("a.txt", "1")), Say("done"))
    engine = await agents.spawn(permissions=ALLOWED)
    await agents.run(engine)
    told = await agents.signal(engine, "rollback", "cp-1")
    assert not (agents.place / "a.txt").exists()
    assert (await agents.signal(engine, "rollback", told["undo"]))["done"] is True
    assert (agents.place / "a.txt").read_text() == "1"
    conversation = await agents.slice(engine, "conversation")
    assert conversation[-1]["parts"][-1] == {"type": "text", "text": "done"}


async def test_only_the_last_few_are_kept_and_their_contents(agents: Any) -> None:
    engine = await agents.spawn(checkpoints={"keep": 2})
    for n in range(5):
        (agents.place / "a.txt").write_text(f"content {n}")
        assert (await agents.signal(engine, "checkpoint"))["done"] is True
    assert [one["id"] for one in await agents.slice(engine, "checkpoints")] == ["cp-4", "cp-5"]
    contents = folder(agents, (await agents.house.get(engine)).uid) / "contents"
    assert sorted(path.read_text() for path in contents.glob("*/*")) == ["content 3", "content 4"]
    assert (await agents.signal(engine, "rollback", "cp-4"))["done"] is True
    assert (agents.place / "a.txt").read_text() == "content 3"
    told = await agents.signal(engine, "rollback", "cp-1")
    assert told["done"] is False
    assert told["detail"].startswith("There is no checkpoint 'cp-1'; there are: cp-")


async def test_without_a_name_the_last_one_is_meant(agents: Any) -> None:
    engine = await agents.spawn()
    assert (await agents.signal(engine, "rollback"))["done"] is False
    await agents.signal(engine, "checkpoint")
    (agents.place / "a.txt").write_text("x")
    assert (await agents.signal(engine, "rollback"))["checkpoint"] == "cp-1"
    assert not (agents.place / "a.txt").exists()


async def test_every_so_many_runs_there_is_one(agents: Any) -> None:
    engine = await agents.spawn(checkpoints={"every": 2})
    for _ in range(4):
        await agents.run(engine)
    assert [one["why"] for one in await agents.slice(engine, "checkpoints")] == ["every so many runs"] * 2


async def test_checkpoints_survive_the_incarnation(agents: Any) -> None:
    agents.endpoint.reply(Say(write("a.txt", "1")), Say("done"))
    engine = await agents.spawn(permissions=ALLOWED)
    await agents.run(engine)
    async with agents.drive.seen(engine, "engine.started"):
        await agents.house.restart(engine)
    assert (await agents.signal(engine, "rollback", "cp-1"))["done"] is True
    assert not (agents.place / "a.txt").exists()


async def test_between_runs_only(agents: Any) -> None:
    agents.endpoint.reply(Say("x", Hold("gate")))
    engine = await agents.spawn()
    run = await agents.submit(engine)
    await agents.endpoint.held("gate")
    for name in ("rollback", "checkpoint", "clear"):
        told = await agents.signal(engine, name)
        assert told == {"done": False, "detail": f"A run is in hand; {name} is possible between runs."}
    agents.endpoint.open("gate")
    await agents.ended(run)


async def test_a_workspace_that_is_too_large_is_told_before_anything_is_done(agents: Any) -> None:
    for n in range(20):
        (agents.place / f"{n}.txt").touch()
    agents.endpoint.reply(Say(write("a.txt", "1")), Say("done"))
    engine = await agents.spawn(permissions=ALLOWED, checkpoints={"max_files": 10})
    run = await agents.run(engine)
    assert (run.status, run.error["slug"]) == ("failed", "checkpoint-failed")
    assert "it holds more than 10 files" in run.error["detail"]
    assert "checkpoints: null" in run.error["detail"]
    assert not (agents.place / "a.txt").exists()


async def test_clear_forgets_what_was_said_and_nothing_else(agents: Any) -> None:
    (agents.place / "a.txt").write_text("stays")
    engine = await agents.spawn()
    await agents.run(engine, "first")
    assert await agents.signal(engine, "clear") == {"done": True}
    assert await agents.slice(engine, "conversation") == []
    await agents.run(engine, "second")
    assert agents.endpoint.asked[-1].texts == ["second"]
    assert (await agents.slice(engine, "usage"))["turns"] == 2
    assert (agents.place / "a.txt").exists()


@pytest.mark.torture  # what it takes is a matter of the disk, and of who else uses it
async def test_a_rollback_of_5000_files_takes_less_than_30_s(agents: Any) -> None:
    """What it took is in docs/agent.md."""
    for n in range(50):
        (agents.place / f"{n}").mkdir()
        for m in range(100):
            (agents.place / f"{n}/{m}.txt").write_text(f"{n} {m}\n" * 20)
    engine = await agents.spawn()
    assert (await agents.signal(engine, "checkpoint"))["checkpoint"]["files"] == 5000
    for n in range(50):
        for m in range(0, 100, 2):
            (agents.place / f"{n}/{m}.txt").write_text("changed")
    shutil.rmtree(agents.place / "1")
    (agents.place / "new").mkdir()
    (agents.place / "new/file").touch()
    began = time.monotonic()
    told = await agents.signal(engine, "rollback", "cp-1")
    took_s = time.monotonic() - began
    assert told["changed"] == 49 * 50 + 101 + 2
    assert (agents.place / "49/98.txt").read_text() == "49 98\n" * 20
    assert (agents.place / "1/0.txt").exists()
    assert not (agents.place / "new").exists()
    assert took_s < 30


def folder(agents: Any, uid: str) -> Path:
    found: Path = agents.house.supervisor.folder(uid)
    return found
