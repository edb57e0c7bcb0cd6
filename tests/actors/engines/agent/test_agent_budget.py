"""What an agent may use: in a run, and in all."""

from typing import Any

import pytest

from actors.engines.agent.budget import Bounds, Budget, exceeded, nearly
from actors.engines.agent.conversation import Conversation, Used
from protocol.commands import Resume
from tests.models.script import Call, Say, Tokens

LOOK = Call("read", {"path": "."})


def test_a_bound_is_reached_when_as_much_is_used() -> None:
    used = Used(input_tokens=60, output_tokens=40, cost_usd=0.5, turns=3)
    assert exceeded(Bounds(), used) is None
    assert exceeded(Bounds(tokens=101, cost_usd=0.51, turns=4), used) is None
    assert exceeded(Bounds(tokens=100), used) == {"what": "tokens", "limit": 100, "used": 100}
    assert exceeded(Bounds(cost_usd=0.5), used) == {"what": "cost_usd", "limit": 0.5, "used": 0.5}
    assert exceeded(Bounds(turns=3), used) == {"what": "turns", "limit": 3, "used": 3}


def test_each_budget_is_warned_of_once() -> None:
    said = Conversation(run=Used(turns=8), granted=Used(input_tokens=10))
    budget = Budget(run=Bounds(turns=10), total=Bounds(tokens=100))
    assert [found["what"] for found in nearly(budget, said)] == ["run.turns"]
    said.take({"type": "warned", "what": "run.turns"})
    assert list(nearly(budget, said)) == []
    said.take({"type": "prompt", "run_id": "r", "text": "next"})
    assert said.warned == []


async def test_a_run_beyond_its_budget_fails_and_says_what_was_used(agents: Any) -> None:
    agents.endpoint.reply(
        Say(LOOK, tokens=Tokens(500, 100)), Say(LOOK, tokens=Tokens(900, 100, 400)), Say("never said")
    )
    price = {"input": 2.0, "output": 10.0, "cached": 0.5}
    engine = await agents.spawn(budget={"run": {"tokens": 1500, "cost_usd": 5.0}}, model={"price": price})
    run = await agents.run(engine)
    assert (run.status, run.error["slug"]) == ("failed", "budget-exceeded")
    assert run.error["detail"] == "This run has used 1600 tokens; its budget is 1500."
    cost = (500 * 2 + 100 * 10 + 500 * 2 + 400 * 0.5 + 100 * 10) / 10**6
    assert run.result["usage"] == {
        "input_tokens": 1400, "output_tokens": 200, "cached_tokens": 400, "cost_usd": cost, "turns": 2,
        "total_tokens": 1600,
    }  # fmt: skip
    assert run.result["budget"] == {"what": "tokens", "limit": 1500, "used": 1600}
    assert run.usage == {"tokens": 1600, "cost_usd": pytest.approx(cost)}
    assert len(agents.endpoint.asked) == 2
    (warning,) = await agents.events(engine, "agent.budget")
    assert warning == {"what": "run.tokens", "limit": 1500, "used": 1600}
    agents.endpoint.reply(Say("fresh"))
    assert (await agents.run(engine)).status == "completed"


async def test_a_run_that_never_ends_is_ended_by_its_turns(agents: Any) -> None:
    agents.endpoint.reply(Say(LOOK), repeat=True)
    engine = await agents.spawn(budget={"run": {"turns": 4}})
    run = await agents.run(engine)
    assert run.error["detail"] == "This run has used 4 turns; its budget is 4."
    assert len(agents.endpoint.asked) == 4


async def test_a_warning_comes_before_the_end(agents: Any) -> None:
    agents.endpoint.reply(Say(LOOK, tokens=Tokens(40, 1)), Say(LOOK, tokens=Tokens(15, 1)), Say("done"))
    engine = await agents.spawn(budget={"run": {"tokens": 100}, "warn_at": 0.5})
    assert (await agents.run(engine)).status == "completed"
    assert await agents.events(engine, "agent.budget") == [{"what": "run.tokens", "limit": 100, "used": 57}]


async def test_beyond_its_total_an_engine_is_held_and_whoever_lifts_that_grants_as_much_again(agents: Any) -> None:
    agents.endpoint.reply(Say(LOOK, tokens=Tokens(90, 10)), Say(LOOK, tokens=Tokens(90, 10)), Say("done"))
    engine = await agents.spawn(budget={"total": {"tokens": 100}})
    run = None
    for spent in (1, 2):
        async with agents.drive.seen(engine, "engine.paused"):
            if run is None:
                run = await agents.submit(engine)
            else:
                await agents.house.command(engine, Resume(holder="budget"))
        info = await agents.house.get(engine)
        (hold,) = info.holds
        assert (hold.holder, hold.reason) == (
            "budget", "100 tokens of 100 are used; resume grants as much again"
        )  # fmt: skip
        assert len(agents.endpoint.asked) == spent
    await agents.house.command(engine, Resume(holder="budget"))
    assert (await agents.ended(run)).result["text"] == "done"
    assert (await agents.slice(engine, "usage"))["total_tokens"] > 200


async def test_a_total_that_is_used_up_stays_so_over_a_restart(agents: Any) -> None:
    agents.endpoint.reply(Say("one", tokens=Tokens(90, 10)), Say("two", tokens=Tokens(1, 1)))
    engine = await agents.spawn(budget={"total": {"tokens": 100}})
    await agents.run(engine)
    async with agents.drive.seen(engine, "engine.paused"):
        run = await agents.submit(engine)
    async with agents.drive.seen(engine, "engine.paused"):
        await agents.house.restart(engine)
    async with agents.drive.seen(engine, "run.started"):
        await agents.house.command(engine, Resume(holder="budget"))
    assert (await agents.ended(run)).result["text"] == "two"
    assert len(agents.endpoint.asked) == 2
