"""Where an agent works: a workspace of the house's, never the house's own directory, and commands in a sandbox."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.children import ChildPolicy, Sandbox
from actors.processes.sandbox import lacking
from protocol.errors import ValidationFailed
from supervisor import EmbeddedHouse, open_supervisor
from tests.actors.engines.agent.conftest import ALLOWED
from tests.models.script import Call, Say

HERE = [by for by in ("bubblewrap", "landlock") if lacking(Sandbox(by=by)) is None]
WRITE = Call("write", {"path": "a/b.txt", "text": "x"})


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[EmbeddedHouse]:
    """One with workspaces, and a directory of its own."""
    own = tmp_path / "house"
    policy = ChildPolicy(private=(str(own),), workspaces=str(own / "workspaces"))
    async with open_supervisor(grace_s=1, children=policy, directory=own) as opened:
        yield opened


async def test_a_workspace_is_made_and_files_and_commands_are_in_it(agents: Any, tmp_path: Path) -> None:
    agents.endpoint.reply(Say(WRITE, Call("shell", {"command": "pwd; cat a/b.txt"}), Call("search", {})), Say("done"))
    config = {name: value for name, value in agents.config().items() if name != "cwd"}
    engine = await agents.drive.spawn("agent", {**config, "workspace": "site", "permissions": ALLOWED})
    assert (await agents.run(engine)).status == "completed"
    place = tmp_path / "house/workspaces/site"
    assert agents.results == ["a/b.txt was created: 1 bytes.", f"{place}\nx", "a/b.txt\n"]
    (place / "a/b.txt").write_text("y")
    assert (await agents.signal(engine, "rollback", "cp-1"))["done"] is True
    assert list(place.iterdir()) == []


async def test_nothing_works_in_the_house_s_own_directory(agents: Any, tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match="the house's own directory"):
        await agents.spawn(cwd=str(tmp_path / "house"))
    (agents.place / "way").symlink_to(tmp_path / "house")
    with pytest.raises(ValidationFailed, match="the house's own directory"):
        await agents.spawn(cwd=str(agents.place / "way"))


async def test_a_link_that_leads_there_later_is_seen_by_every_tool(agents: Any, tmp_path: Path) -> None:
    agents.endpoint.reply(Say(Call("read", {"path": "."}), WRITE, Call("search", {})), Say("done"))
    (tmp_path / "link").symlink_to(agents.place)
    engine = await agents.spawn(cwd=str(tmp_path / "link"), permissions=ALLOWED, checkpoints=None)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "house")
    assert (await agents.run(engine)).status == "completed"
    read, written, searched = agents.results
    assert "is the house's own directory" in read
    assert "is the house's own directory" in written
    assert "the house's own" in searched
    assert not (tmp_path / "house/a").exists()


@pytest.mark.parametrize("by", HERE)
async def test_commands_are_in_the_sandbox_of_the_config(agents: Any, tmp_path: Path, by: Any) -> None:
    (tmp_path / "outside.txt").write_text("theirs")
    command = f"echo in > inside.txt; cat {tmp_path}/outside.txt; echo out > {tmp_path}/outside.txt"
    agents.endpoint.reply(Say(Call("shell", {"command": command})), Say("done"))
    engine = await agents.spawn(permissions=ALLOWED, sandbox={"by": by})
    assert (await agents.run(engine)).status == "completed"
    assert "theirs" not in agents.results[0]
    assert (agents.place / "inside.txt").read_text() == "in\n"
    assert (tmp_path / "outside.txt").read_text() == "theirs"


async def test_the_house_beneath_the_directory_is_neither_searched_nor_kept_nor_taken_back(
    agents: Any, tmp_path: Path
) -> None:
    key = tmp_path / "house/key"
    key.write_text("the house's key")
    (tmp_path / "house.txt").write_text("the house's plan")
    write = Call("write", {"path": "a.txt", "text": "x"})
    agents.endpoint.reply(Say(Call("search", {"pattern": "the house's"}), write), Say("done"))
    engine = await agents.spawn(cwd=str(tmp_path), permissions=ALLOWED)
    assert (await agents.run(engine)).status == "completed"
    assert agents.results[0] == "house.txt:1: the house's plan\n"
    kept = [path.read_bytes() for path in (tmp_path / "house").rglob("contents/*/*")]
    assert kept
    assert b"the house's key" not in kept
    key.write_text("a new key")
    assert (await agents.signal(engine, "rollback", "cp-1"))["done"] is True
    assert key.read_text() == "a new key"
    assert not (tmp_path / "a.txt").exists()
