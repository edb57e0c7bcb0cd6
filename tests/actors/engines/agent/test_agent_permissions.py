"""What an agent may do: rules, people, plans."""

from typing import Any

import pytest

from protocol.bodies import ReplyBody
from protocol.requests import RequestKind
from tests.models.script import Call, Say

WRITE = Call("write", {"path": "a.txt", "text": "new\n"})


async def test_what_people_approve_is_the_exact_change(agents: Any) -> None:
    (agents.place / "a.txt").write_text("old\n")
    agents.endpoint.reply(Say(WRITE), Say("done"))
    engine = await agents.spawn()
    run = await agents.submit(engine)
    request = await agents.asked(engine)
    assert (request.kind, request.title) == (RequestKind.PERMISSION, "Change a.txt")
    assert [option["kind"] for option in request.options] == [
        "allow_once", "allow_always", "reject_once", "reject_always"
    ]  # fmt: skip
    assert request.action["path"] == str(agents.place / "a.txt")
    assert request.action["diff"] == "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-old\n+new\n"
    assert (agents.place / "a.txt").read_text() == "old\n"
    await agents.decide(engine, "allow_once")
    assert (await agents.ended(run)).status == "completed"
    assert (agents.place / "a.txt").read_text() == "new\n"
    assert agents.results == ["a.txt was changed: 4 bytes."]
    (tool,) = await agents.slice(engine, "tools")
    assert tool["diffs"] == [{"path": str(agents.place / "a.txt"), "old": "old\n", "new": "new\n"}]


async def test_a_rejected_call_is_not_done_and_the_model_reads_why(agents: Any) -> None:
    agents.endpoint.reply(Say(WRITE), Say("I leave it."))
    engine = await agents.spawn()
    run = await agents.submit(engine)
    await agents.decide(engine, "reject_once", "not in this directory")
    assert (await agents.ended(run)).result["text"] == "I leave it."
    assert agents.results == ["Not done: people do not allow it. They say: not in this directory"]
    assert not (agents.place / "a.txt").exists()
    assert (await agents.slice(engine, "tools"))[0]["status"] == "failed"


async def test_always_is_a_rule_that_survives_a_restart(agents: Any) -> None:
    agents.endpoint.reply(Say(WRITE), Say("one"), Say(WRITE), Say("two"))
    engine = await agents.spawn()
    run = await agents.submit(engine)
    await agents.decide(engine, "allow_always")
    await agents.ended(run)
    assert await agents.slice(engine, "permissions") == [
        {"verdict": "allow", "tool": "write", "path": str(agents.place / "a.txt"), "command": None}
    ]
    async with agents.drive.seen(engine, "engine.started"):
        await agents.house.restart(engine)
    (agents.place / "a.txt").unlink()
    assert (await agents.run(engine)).result["text"] == "two"
    assert (agents.place / "a.txt").exists()


async def test_always_can_be_taken_back(agents: Any) -> None:
    agents.endpoint.reply(Say(WRITE), Say("one"), Say(WRITE), Say("two"))
    engine = await agents.spawn()
    run = await agents.submit(engine)
    await agents.decide(engine, "allow_always")
    await agents.ended(run)
    assert (await agents.signal(engine, "forget", {"rule": 1}))["done"] is False
    told = await agents.signal(engine, "forget", {"rule": 0})
    assert (told["done"], told["forgotten"][0]["tool"]) == (True, "write")
    assert await agents.slice(engine, "permissions") == []
    (agents.place / "a.txt").write_text("old\n")
    run = await agents.submit(engine)
    await agents.decide(engine, "reject_once")
    await agents.ended(run)


async def test_always_no_is_a_rule_too(agents: Any) -> None:
    command = Call("shell", {"command": "touch x"})
    agents.endpoint.reply(Say(command), Say("one"), Say(command), Say("two"))
    engine = await agents.spawn()
    run = await agents.submit(engine)
    await agents.decide(engine, "reject_always")
    await agents.ended(run)
    await agents.run(engine)
    assert agents.results[-1].startswith("Not done: a rule of this engine forbids it.")
    assert not (agents.place / "x").exists()


async def test_rules_of_the_config_decide_without_asking(agents: Any) -> None:
    agents.endpoint.reply(
        Say(
            Call("write", {"path": "ok/a.txt", "text": "1"}), Call("write", {"path": "secret/a.txt", "text": "1"}),
            Call("read", {"path": "secret"}), Call("shell", {"command": "echo hi"}),
            Call("shell", {"command": "echo hi; rm -r ok"}),
        ),
        Say("done"),
    )  # fmt: skip
    rules = [
        {"verdict": "allow", "tool": "write", "path": "ok/**"},
        {"verdict": "allow", "tool": "shell", "command": "echo *"},
        {"verdict": "deny", "tool": "shell", "command": "rm *"},
        {"verdict": "deny", "path": "secret/**"},
        {"verdict": "deny", "path": "secret"},
    ]
    engine = await agents.spawn(permissions=rules)
    assert (await agents.run(engine)).status == "completed"
    forbidden = "Not done: a rule of this engine forbids it. Find another way, or ask."
    assert agents.results == ["ok/a.txt was created: 1 bytes.", forbidden, forbidden, "hi\n", forbidden]


async def test_a_file_that_changes_while_people_think_is_not_overwritten(agents: Any) -> None:
    agents.endpoint.reply(Say(WRITE), Say("done"))
    engine = await agents.spawn()
    run = await agents.submit(engine)
    await agents.asked(engine)
    (agents.place / "a.txt").write_text("somebody else's\n")
    await agents.decide(engine, "allow_once")
    await agents.ended(run)
    assert "was changed by somebody else meanwhile" in agents.results[0]
    assert (agents.place / "a.txt").read_text() == "somebody else's\n"


async def test_in_plan_mode_nothing_is_done_before_people_approve_the_plan(agents: Any) -> None:
    plan = Call("plan", {"steps": [{"content": "write a.txt"}]})
    better = Call("plan", {"steps": [{"content": "look"}, {"content": "write a.txt"}]})
    halfway = {"steps": [{"content": "look", "status": "completed"}, {"content": "write a.txt"}]}
    agents.endpoint.reply(Say(WRITE), Say(plan), Say(better), Say(Call("plan", halfway), WRITE), Say("done"))
    engine = await agents.spawn(plan=True, permissions=[{"verdict": "allow", "tool": "write"}])
    run = await agents.submit(engine)
    first = await agents.asked(engine)
    assert (first.kind, first.action) == (RequestKind.APPROVAL, {"plan": ["write a.txt"]})
    assert "a plan has to be approved" in agents.results[0]
    assert await agents.slice(engine, "plan") == [{"content": "write a.txt", "status": "pending"}]
    await agents.decide(engine, "reject", "look before")
    second = await agents.asked(engine, but=first.id)
    assert "They say: look before" in agents.results[-1]
    assert second.action == {"plan": ["look", "write a.txt"]}
    assert not (agents.place / "a.txt").exists()
    await agents.decide(engine, "approve")
    assert (await agents.ended(run)).status == "completed"
    assert (agents.place / "a.txt").exists()
    assert await agents.slice(engine, "plan") == [
        {"content": "look", "status": "completed"},
        {"content": "write a.txt", "status": "pending"},
    ]
    assert [told["approved"] for told in await agents.events(engine, "agent.plan")] == [False, False, True, True]


async def test_a_plan_holds_for_its_run_alone(agents: Any) -> None:
    plan = Call("plan", {"steps": [{"content": "write"}]})
    agents.endpoint.reply(Say(plan), Say(WRITE), Say("one"), Say(WRITE), Say("two"))
    engine = await agents.spawn(plan=True, permissions=[{"verdict": "allow", "tool": "write"}])
    run = await agents.submit(engine)
    await agents.decide(engine, "approve")
    await agents.ended(run)
    (agents.place / "a.txt").unlink()
    await agents.run(engine)
    assert "a plan has to be approved" in agents.results[-1]
    assert not (agents.place / "a.txt").exists()


async def test_ask_waits_for_an_answer_of_people(agents: Any) -> None:
    agents.endpoint.reply(
        Say(Call("ask", {"question": "Which colour?", "choices": ["red", "blue"]})),
        Say(Call("ask", {"question": "Why?"})),
        Say("done"),
    )
    engine = await agents.spawn()
    run = await agents.submit(engine)
    first = await agents.decide(engine, "2", "please")
    assert (first.kind, first.title) == (RequestKind.QUESTION, "Which colour?")
    second = await agents.asked(engine, but=first.id)
    await agents.house.reply(second.id, ReplyBody(answer="because"))
    await agents.ended(run)
    assert agents.results == ["blue\nplease", "because"]


@pytest.mark.parametrize("tool", ["*", "read", "search"])
async def test_a_search_leaves_out_what_a_rule_forbids(agents: Any, tool: str) -> None:
    for folder in ("secrets/deep", "src"):
        (agents.place / folder).mkdir(parents=True)
        (agents.place / folder / "a.txt").write_text("the word")
    agents.endpoint.reply(Say(Call("search", {"pattern": "word"}), Call("search", {"files": "*.txt"})), Say("done"))
    engine = await agents.spawn(permissions=[{"verdict": "deny", "tool": tool, "path": "secrets/**"}])
    assert (await agents.run(engine)).status == "completed"
    assert agents.results == ["src/a.txt:1: the word\n", "src/a.txt\n"]
