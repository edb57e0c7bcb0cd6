"""A conversation that comes near the limit of the model's context."""

from typing import Any

from tests.models.script import Call, Fail, Hold, Say, Tokens

LOOK = Call("read", {"path": "."})


async def test_near_the_limit_the_conversation_is_told_anew(agents: Any) -> None:
    few = Tokens(100, 5)
    agents.endpoint.reply(
        Say("hello", tokens=few), Say(LOOK, tokens=Tokens(790, 20)), Say("done", tokens=few), tools=True
    )
    agents.endpoint.reply(Say("They greeted, then looked.", tokens=Tokens(300, 30)), tools=False)
    engine = await agents.spawn(context_tokens=1000, compact_at=0.8)
    await agents.run(engine, "greet")
    run = await agents.run(engine, "look around")
    assert run.result["text"] == "done"
    assert run.result["usage"]["total_tokens"] == 810 + 330 + 105
    _, _, summary, last = agents.endpoint.asked
    assert summary.tools == []
    assert '"text": "greet"' in summary.text
    assert [message["role"] for message in last.body["messages"]] == ["user", "assistant", "user"]
    assert "They greeted, then looked." in last.texts[0]
    assert last.texts[0].endswith("look around")
    assert agents.results == [""]
    (told,) = await agents.events(engine, "agent.compacted")
    assert (told["turns"], told["kept"], told["context"]) == (5, 3, 810)
    assert told["summary"] == "They greeted, then looked."
    assert (await agents.slice(engine, "usage"))["context_used"] == 105
    assert len(await agents.slice(engine, "conversation")) == 4


async def test_what_does_not_fit_any_more_is_compacted_and_asked_again(agents: Any) -> None:
    agents.endpoint.reply(Say(LOOK), Fail(400, "prompt is too long: 210000 tokens"), Say("done"), tools=True)
    agents.endpoint.reply(Say("They looked."), tools=False)
    engine = await agents.spawn()
    assert (await agents.run(engine)).result["text"] == "done"
    assert "They looked." in agents.endpoint.asked[-1].texts[0]


async def test_a_prompt_that_never_fits_fails_the_run(agents: Any) -> None:
    agents.endpoint.reply(Fail(400, "prompt is too long: 210000 tokens"), repeat=True)
    engine = await agents.spawn()
    run = await agents.run(engine)
    assert (run.status, run.error["slug"]) == ("failed", "model-context-full")


async def test_no_summary_is_no_compaction_and_loses_nothing(agents: Any) -> None:
    agents.endpoint.reply(Say(LOOK, tokens=Tokens(900, 1)), Say("done"), tools=True)
    agents.endpoint.reply(Say(""), Say("They looked."), tools=False)
    engine = await agents.spawn(context_tokens=1000)
    run = await agents.run(engine)
    assert (run.status, run.error["slug"]) == ("failed", "compaction-failed")
    assert (await agents.run(engine, "again")).result["text"] == "done"
    assert "They looked." in agents.endpoint.asked[-1].texts[0]
    assert "again" in agents.endpoint.asked[-1].texts[0]


async def test_people_can_ask_for_it_between_runs_and_within_one(agents: Any) -> None:
    agents.endpoint.reply(Say("hello"), Say(Hold("gate"), LOOK), Say("done"), tools=True)
    agents.endpoint.reply(Say("They greeted."), Say("They greeted and looked."), tools=False)
    engine = await agents.spawn()
    await agents.run(engine, "greet")
    assert await agents.signal(engine, "compact") == {"done": True}
    run = await agents.submit(engine, "look")
    await agents.endpoint.held("gate")
    assert "They greeted." in agents.endpoint.asked[-1].texts[0]
    assert await agents.signal(engine, "compact") == {"done": False, "detail": "It is done at the next step."}
    agents.endpoint.open("gate")
    await agents.ended(run)
    assert "They greeted and looked." in agents.endpoint.asked[-1].texts[0]
