"""Pause, cancel, steer, stop and restart an agent in the middle of its work."""

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.engines.agent import agent
from protocol.commands import Pause, Resume, Stop
from protocol.specs import PauseMode
from tests.actors.engines.agent.conftest import ALLOWED
from tests.models.script import Call, Endless, Hold, Say


async def test_soft_pause_lets_the_answer_come_and_no_tool_begin(agents: Any) -> None:
    agents.endpoint.reply(Say("thinking", Hold("gate"), Call("shell", {"command": "touch done"})), Say("ok"))
    engine = await agents.spawn(permissions=ALLOWED)
    run = await agents.submit(engine)
    await agents.endpoint.held("gate")
    async with agents.drive.seen(engine, "engine.pausing"):
        await agents.house.pause(engine)
    async with agents.drive.seen(engine, "engine.paused"):
        agents.endpoint.open("gate")
    assert not (agents.place / "done").exists()
    assert len(agents.endpoint.asked) == 1
    await agents.house.resume(engine)
    assert (await agents.ended(run)).status == "completed"
    assert (agents.place / "done").exists()


async def test_interrupt_cuts_the_model_off_and_asks_it_again_at_resume(agents: Any) -> None:
    agents.endpoint.reply(Say("never", Hold("gate")), Say("second time"))
    engine = await agents.spawn()
    run = await agents.submit(engine)
    await agents.endpoint.held("gate")
    async with agents.drive.seen(engine, "engine.paused"):
        await agents.house.command(engine, Pause(mode=PauseMode.INTERRUPT, holder="ann"))
    with trio.fail_after(20):
        await agents.endpoint.asked[0].ended.wait()
    assert agents.endpoint.asked[0].outcome == "gone"
    await agents.house.command(engine, Resume(holder="ann"))
    info = await agents.ended(run)
    assert (info.status, info.result["text"], info.attempts) == ("completed", "second time", 2)
    assert agents.endpoint.asked[1].texts == ["go"]


async def test_interrupt_ends_the_command_in_hand_and_the_model_is_told(agents: Any) -> None:
    agents.endpoint.reply(Say(Call("shell", {"command": "echo x >> count; touch begun; sleep 1000"})), Say("ok"))
    engine = await agents.spawn(permissions=ALLOWED)
    run = await agents.submit(engine)
    await until_exists(agents.place / "begun")
    async with agents.drive.seen(engine, "engine.paused"):
        await agents.house.command(engine, Pause(mode=PauseMode.INTERRUPT, holder="ann"))
    await agents.house.command(engine, Resume(holder="ann"))
    assert (await agents.ended(run)).status == "completed"
    assert agents.results[0].startswith("Interrupted: ")
    assert (agents.place / "count").read_text() == "x\n"


async def test_freeze_stops_the_command_where_it_is(agents: Any) -> None:
    agents.endpoint.reply(Say(Call("shell", {"command": "touch begun; read x < go; echo went on"})), Say("ok"))
    os.mkfifo(agents.place / "go")
    engine = await agents.spawn(permissions=ALLOWED)
    run = await agents.submit(engine)
    await until_exists(agents.place / "begun")
    async with agents.drive.seen(engine, "engine.paused"):
        await agents.house.command(engine, Pause(mode=PauseMode.FREEZE, holder="ann"))
    await agents.house.command(engine, Resume(holder="ann"))
    fifo = await trio.to_thread.run_sync(lambda: os.open(agents.place / "go", os.O_WRONLY))
    os.write(fifo, b"go\n")
    os.close(fifo)
    assert (await agents.ended(run)).status == "completed"
    assert agents.results == ["went on\n"]


async def test_cancel_in_the_middle_of_an_answer_ends_it_at_once(agents: Any) -> None:
    agents.endpoint.reply(Say(Endless()), Say("next"))
    engine = await agents.spawn()
    async with agents.drive.seen(engine, "message.delta"):
        run = await agents.submit(engine)
    await agents.house.cancel(run, reason="enough")
    assert (await agents.ended(run)).status == "cancelled"
    with trio.fail_after(20):
        await agents.endpoint.asked[0].ended.wait()
    assert agents.endpoint.asked[0].outcome == "gone"
    assert (await agents.run(engine, "again")).result["text"] == "next"
    assert agents.endpoint.asked[1].texts == ["go\nagain"]


async def test_calls_of_a_cancelled_run_are_answered_before_the_next_prompt(agents: Any) -> None:
    agents.endpoint.reply(
        Say(Call("shell", {"command": "touch begun; sleep 1000"}), Call("read", {"path": "begun"})), Say("ok")
    )
    engine = await agents.spawn(permissions=ALLOWED)
    run = await agents.submit(engine)
    await until_exists(agents.place / "begun")
    await agents.house.cancel(run)
    await agents.ended(run)
    assert (await agents.run(engine, "again")).status == "completed"
    begun, other = agents.results
    assert begun.startswith("Interrupted: ")
    assert other.startswith("Not done: ")


async def test_steer_is_heard_at_the_next_step(agents: Any) -> None:
    agents.endpoint.reply(Say(Hold("gate"), Call("read", {"path": "."})), Say("changed my mind"))
    engine = await agents.spawn()
    run = await agents.submit(engine)
    await agents.endpoint.held("gate")
    told = await agents.signal(engine, "steer", "use tabs")
    assert told == {"done": True, "heard": "at the next step"}
    agents.endpoint.open("gate")
    assert (await agents.ended(run)).status == "completed"
    assert agents.endpoint.asked[1].texts == ["go", "use tabs"]
    assert {"role": "user", "text": "use tabs"} in await agents.events(engine, "agent.message")


async def test_steer_before_the_end_makes_the_run_go_on(agents: Any) -> None:
    agents.endpoint.reply(Say("done", Hold("gate")), Say("and that too"))
    engine = await agents.spawn()
    run = await agents.submit(engine)
    await agents.endpoint.held("gate")
    await agents.signal(engine, "steer", "and that too")
    agents.endpoint.open("gate")
    assert (await agents.ended(run)).result["text"] == "and that too"


async def test_only_so_many_texts_wait_for_the_model(agents: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "STEERS", 2)
    engine = await agents.spawn()
    told = [await agents.signal(engine, "steer", text) for text in ("one", "two", "three")]
    assert [one["done"] for one in told] == [True, True, False]
    assert told[2]["detail"] == "2 texts wait for the model already."


async def test_steer_between_runs_is_heard_with_the_next(agents: Any) -> None:
    engine = await agents.spawn()
    assert await agents.signal(engine, "steer", "be brief") == {"done": True, "heard": "with the next run"}
    async with agents.drive.seen(engine, "engine.started"):
        await agents.house.restart(engine)
    await agents.run(engine)
    assert agents.endpoint.asked[0].texts == ["go\nbe brief"]


async def test_signals_that_cannot_be_meant_say_why(agents: Any) -> None:
    engine = await agents.spawn(checkpoints=None)
    for name, payload in [
        ("steer", ""), ("steer", {"text": "x"}), ("compact", None), ("fly", None), ("checkpoint", None),
        ("rollback", None),
    ]:  # fmt: skip
        told = await agents.signal(engine, name, payload)
        assert told["done"] is False
        assert told["detail"].endswith(".")


async def test_stop_ends_a_run_in_the_middle_of_an_answer_at_once(agents: Any) -> None:
    agents.endpoint.reply(Say("x", Hold("gate")))
    engine = await agents.spawn(spec={"grace_s": 1000})
    run = await agents.submit(engine)
    await agents.endpoint.held("gate")
    _, done = await agents.house.command(engine, Stop(), wait_s=20)
    assert done is not None
    assert (await agents.house.get(engine)).state == "stopped"
    assert (await agents.house.run(run)).status == "cancelled"


async def test_a_restart_goes_on_where_the_conversation_was(agents: Any) -> None:
    agents.endpoint.reply(Say(Call("shell", {"command": "echo x >> count"})), Say("x", Hold("gate")), Say("done"))
    engine = await agents.spawn(permissions=ALLOWED, spec={"grace_s": 1000})
    run = await agents.submit(engine)
    await agents.endpoint.held("gate")
    await agents.house.restart(engine)
    info = await agents.ended(run)
    assert (info.status, info.result["text"]) == ("completed", "done")
    assert (agents.place / "count").read_text() == "x\n"
    assert agents.results == ["It ended well and said nothing."]
    assert agents.endpoint.asked[2].texts == ["go"]


async def until_exists(path: Path) -> None:
    with trio.fail_after(20):
        while not await trio.Path(path).exists():  # noqa: ASYNC110 - a command of a real shell makes it
            await trio.sleep(0.01)
