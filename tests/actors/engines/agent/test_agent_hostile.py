"""What a model, a file or a tool may say that nobody expects: the actor does not fall over it."""

import os
from typing import Any

import pytest

from actors.engines.agent.conversation import plain
from tests.actors.engines.agent.conftest import ALLOWED
from tests.models.script import Call, Say


async def survives(agents: Any, engine: str) -> None:
    agents.endpoint.reply(Say("still here"))
    assert (await agents.run(engine, "still there?")).result["text"] == "still here"
    assert (await agents.house.get(engine)).incarnation == 1


def nested(depth: int) -> dict[str, Any]:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return {"path": value}


@pytest.mark.parametrize(
    "given",
    [
        {"path": "a\ud800b"}, {"a\udfff": 1}, {"path": "\0"}, {"path": "x" * 100_000}, nested(50), nested(900),
        {"path": 1e999},
    ],
    ids=["surrogate", "surrogate-name", "nul", "long", "deep", "deeper", "infinite"],
)  # fmt: skip
async def test_strange_input_is_an_error_to_the_model(agents: Any, given: dict[str, Any]) -> None:
    agents.endpoint.reply(Say(Call("read", given)), Say("done"))
    engine = await agents.spawn()
    run = await agents.run(engine)
    assert run.status == "completed", run.error
    assert len(agents.results) == 1
    await survives(agents, engine)


async def test_strange_names_of_tools_and_words_of_models(agents: Any) -> None:
    agents.endpoint.reply(Say("half a \ud83d", Call("x" * 100, {}), Call("plan", {"steps": []})), Say("done"))
    engine = await agents.spawn()
    assert (await agents.run(engine)).status == "completed"
    await survives(agents, engine)


async def test_names_of_files_that_are_no_text(agents: Any) -> None:
    file = agents.place / os.fsdecode(b"\xff\xfe.txt")
    file.write_text("needle")
    agents.endpoint.reply(
        Say(
            Call("read", {"path": "."}), Call("search", {"pattern": "needle"}), Call("search", {}),
            Call("shell", {"command": "ls; rm *.txt"}),
        ),
        Say("done"),
    )  # fmt: skip
    engine = await agents.spawn(permissions=ALLOWED)
    run = await agents.run(engine)
    assert run.status == "completed", run.error
    assert (await agents.signal(engine, "rollback", "cp-1"))["done"] is True
    assert file.exists()
    await survives(agents, engine)


async def test_what_people_cannot_be_shown_in_whole_is_not_asked(agents: Any) -> None:
    steps = [{"content": "\x01" * 1000} for _ in range(50)]
    agents.endpoint.reply(
        Say(Call("shell", {"command": "\x01" * 20_000}), Call("plan", {"steps": steps})), Say("smaller, then")
    )
    engine = await agents.spawn(plan=True)
    run = await agents.run(engine)
    assert run.status == "completed", run.error
    await survives(agents, engine)


async def test_a_large_change_is_shown_in_part_and_named_by_its_digest(agents: Any) -> None:
    agents.endpoint.reply(Say(Call("write", {"path": "a", "text": "\x01line\n" * 30_000})), Say("done"))
    engine = await agents.spawn()
    run = await agents.submit(engine)
    request = await agents.asked(engine)
    assert "[cut]" in request.action["diff"]
    assert len(request.action["after_sha256"]) == 64
    await agents.decide(engine, "allow_once")
    assert (await agents.ended(run)).status == "completed"


async def test_the_same_id_for_two_calls_is_answered_once_and_done_once(agents: Any) -> None:
    twice = [Call("shell", {"command": "echo x >> count"}, id="same") for _ in range(2)]
    agents.endpoint.reply(Say(*twice), Say("done"))
    engine = await agents.spawn(permissions=ALLOWED)
    run = await agents.run(engine)
    assert run.finished_at
    assert (agents.place / "count").read_text() in ("x\n", "x\nx\n")


def test_what_is_written_down_is_plain() -> None:
    assert plain({"a\ud800": ["\udc80", float("nan"), 1, None, True]}) == {"a?": ["?", "nan", 1, None, True]}
    deep: Any = "x"
    for _ in range(100):
        deep = [deep]
    assert "[too deep]" in str(plain(deep))
