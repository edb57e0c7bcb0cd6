"""An embedded house, its store in memory: no daemon, no port, and no second that is waited for."""

import json
from pathlib import Path

import pytest
from enginehouse_inbox import Inbox

from protocol.commands import Restart
from supervisor import EmbeddedHouse, Filter, NewEngine, NewRun, open_supervisor


async def arrived(house: EmbeddedHouse, count: int) -> list[str]:
    """The names of the first arrivals."""
    names: list[str] = []
    async with house.events(Filter(types=("inbox.arrived",)), after="0") as events:
        while len(names) < count:
            names += [json.loads(frame.data)["data"]["name"] for frame in await events.receive()]
    return names


async def test_what_arrives_is_told_once_also_over_a_restart(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two\nthree\n")
    async with open_supervisor(kinds=[Inbox]) as house:
        config = {"folder": str(tmp_path), "every_s": 0.01}
        await house.spawn(NewEngine(kind="inbox", id="in", config=config))
        assert await arrived(house, 1) == ["a.txt"]
        await house.command("in", Restart(), wait_s=10)
        (tmp_path / "b.txt").write_text("four")
        assert await arrived(house, 2) == ["a.txt", "b.txt"]
        assert (await house.slice("in", "files")).value == {"a.txt": 14, "b.txt": 4}


async def test_a_file_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two\nthree\n")
    async with open_supervisor(kinds=[Inbox]) as house:
        await house.spawn(NewEngine(kind="inbox", id="in", config={"folder": str(tmp_path)}))
        run, _ = await house.submit("in", NewRun(input="a.txt"), wait_s=10)
        assert run.result == {"lines": 2, "words": 3}
        run, _ = await house.submit("in", NewRun(input="none.txt"), wait_s=10)
        assert run.error == {"slug": "no-such-file", "detail": "Nothing of the name 'none.txt' has arrived."}


async def test_a_folder_that_is_not_there_fails_the_engine(tmp_path: Path) -> None:
    async with open_supervisor(kinds=[Inbox]) as house:
        await house.spawn(NewEngine(kind="inbox", id="in", config={"folder": str(tmp_path / "none")}))
        async with house.events(Filter(engine="in", types=("engine.failed",)), after="0") as events:
            await events.receive()
        assert (await house.get("in")).state == "failed"


@pytest.mark.parametrize(
    "config", [{}, {"folder": "relative"}, {"folder": "/x", "every_s": 0}, {"folder": "/x", "more": 1}]
)
def test_a_config_that_cannot_be_meant_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Inbox.Config.model_validate(config)


@pytest.mark.parametrize("folder", ["letters", "./letters", "~/letters", "", "/a\0b"])
def test_a_relative_folder_is_refused_in_a_sentence(folder: str) -> None:
    with pytest.raises(ValueError, match="an absolute path is wanted, such as '/srv/letters', not "):
        Inbox.Config.model_validate({"folder": folder})
