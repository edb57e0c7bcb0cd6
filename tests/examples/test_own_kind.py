"""examples/own_kind.py: what is approved is removed, and nothing else."""

from pathlib import Path

import pytest
import trio

from examples import own_kind
from supervisor import NewEngine, NewRun, ReplyBody, open_supervisor


async def test_what_was_approved_is_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = await own_kind.main(tmp_path)
    assert result == {"removed": ["a.tmp", "b.tmp"]}
    assert names(tmp_path) == ["keep.txt"]
    assert "it asks: Remove 2 files? ['Approve', 'Reject']" in capsys.readouterr().out


async def test_what_was_rejected_stays(tmp_path: Path) -> None:
    await trio.Path(tmp_path, "a.tmp").touch()
    async with open_supervisor(kinds=[own_kind.Tidy]) as house:
        await house.spawn(NewEngine(kind="tidy", id="tidy", config={"folder": str(tmp_path)}))
        run, _ = await house.submit("tidy", NewRun(input={"pattern": "*.tmp"}))
        await house.reply(await own_kind.first_request(house, run.id), ReplyBody(option="reject"))
        await house.supervisor.watch(house.supervisor.ids["tidy"], lambda view: not view.runs)
        ended = await house.run(run.id)
    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error["slug"] == "refused"
    assert names(tmp_path) == ["a.tmp"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
