"""The key of the model's API, and other secrets: nobody reads them, the model neither."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.children import ChildPolicy
from actors.secrets import Sources
from protocol.errors import ValidationFailed
from supervisor import EmbeddedHouse, Filter, open_supervisor
from tests.actors.engines.agent.conftest import ALLOWED
from tests.models.script import Call, Say

KEY = "sk-correct-horse-battery"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[EmbeddedHouse]:
    """In the place of the one that all other tests have: with secrets that may be referred to."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "key").touch(mode=0o600)
    (folder / "key").write_text(f"{KEY}\n")
    policy = ChildPolicy(secrets=Sources(directories=(str(folder),)))
    async with open_supervisor(grace_s=1, children=policy, directory=tmp_path / "house") as opened:
        yield opened


async def test_a_secret_is_nowhere_but_in_the_header(agents: Any, tmp_path: Path) -> None:
    (agents.place / "leak.txt").write_text(f"the key is {KEY}!\n")
    secret = {"file": str(tmp_path / "secrets/key")}
    agents.endpoint.reply(
        Say(
            f"I say {KEY}", Call("read", {"path": "leak.txt"}), Call("shell", {"command": "echo $TOKEN; false"}),
            Call("write", {"path": "x", "text": f"{KEY}\n"}),
        ),
        Say("done"),
    )  # fmt: skip
    engine = await agents.spawn(model={"key": secret}, env={"TOKEN": secret}, permissions=ALLOWED)
    run = await agents.run(engine, f"what is {KEY}?")
    assert run.status == "completed", run.error
    first, second = agents.endpoint.asked
    assert first.headers["x-api-key"] == KEY
    assert KEY not in json.dumps(first.body)
    assert KEY not in json.dumps(second.body)
    assert agents.results[:2] == ["the key is ***!\n", "***\n\nIt ended with exit status 1."]
    page = await agents.house.event_page(Filter(engine=engine), after="0", limit=1000)
    said = [row for row in page.items if row["type"] not in ("command.accepted", "run.queued")]
    assert KEY not in json.dumps(said)
    assert (await agents.house.output(run.id))[0] == b"I say ***\ndone\n"
    written = [path for path in (tmp_path / "house/engines").rglob("*") if path.is_file()]
    assert written
    assert not any(KEY.encode() in path.read_bytes() for path in written if "contents" not in path.parts)


async def test_a_key_that_may_not_be_referred_to_is_refused_at_once(agents: Any) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await agents.spawn(model={"key": {"env": "NO_SUCH_KEY"}})
    assert "config.model.key" in refused.value.detail


async def test_a_key_that_is_not_there_fails_the_engine_with_a_sentence(agents: Any, tmp_path: Path) -> None:
    secret = {"file": str(tmp_path / "secrets/other")}
    gone = await agents.drive.last_exit("agent", agents.config(model={"key": secret}))
    assert "A secret cannot be had" in gone["error"]
