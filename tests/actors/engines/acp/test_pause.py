"""Pause, cancel and stop, in the middle of turns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.bodies import ReplyBody
from protocol.specs import PauseMode

Odd = Callable[..., dict[str, Any]]
Told = Callable[..., list[dict[str, Any]]]


async def states(drive: Any, engine: str) -> set[str]:
    """The state of each of its processes: T is stopped."""
    return {state_of(row.pid) for row in await drive.house.processes(engine)}


def state_of(pid: int) -> str:
    """As proc(5) has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


STEPS = """
def prompt(params):
    for n in range(2):
        call(f"c{n}", title=f"Step {n}", kind="edit")
        until(f"go-{n}")
        changed(f"c{n}", status="completed")
    say("done")
serve(prompt)
"""


async def test_soft_lets_the_tool_call_end_and_then_stops_the_processes(drive: Any, odd: Odd, tmp_path: Any) -> None:
    engine = await drive.spawn("acp", odd(STEPS))
    async with drive.seen(engine, "acp.tool"):
        run = await drive.submit(engine, "x")
    async with drive.seen(engine, "engine.pausing"):
        await drive.house.pause(engine)
    async with drive.seen(engine, "engine.paused"):
        (tmp_path / "agent" / "go-0").touch()
    assert await states(drive, engine) == {"T"}
    (tmp_path / "agent" / "go-1").touch()
    assert len(await drive.said(engine, "acp.tool")) == 2  # the second call may have begun; it has not ended
    async with drive.seen(engine, "run.completed"):
        await drive.house.resume(engine)
    info = await drive.house.run(run)
    assert (info.attempts, info.result["text"]) == (1, "done")


async def test_soft_holds_back_the_answer_that_the_agent_waits_for(drive: Any, odd: Odd, tmp_path: Any) -> None:
    script = """
    def prompt(params):
        say(json.dumps(permission("c1", title="Go", kind="edit")))
    serve(prompt)
    """
    engine = await drive.spawn("acp", odd(script))
    async with drive.seen(engine, "request.opened"):
        run = await drive.submit(engine, "x")
    await drive.house.pause(engine, wait_s=10)
    assert (await drive.house.get(engine)).state == "paused"
    [request] = (await drive.house.requests()).items
    await drive.house.reply(request.id, ReplyBody(option="o-allow_once"))
    assert await drive.said(engine, "acp.message") == []
    async with drive.seen(engine, "run.completed"):
        await drive.house.resume(engine)
    assert "o-allow_once" in (await drive.house.run(run)).result["text"]


async def test_soft_does_nothing_that_the_agent_asks_for_while_held(drive: Any, odd: Odd, tmp_path: Any) -> None:
    script = """
    def prompt(params):
        Path("asking").touch()
        until("go")
        say(str(ask("fs/write_text_file", path=os.path.abspath("made"), content="x")))
    serve(prompt)
    """
    engine = await drive.spawn("acp", odd(script))
    async with drive.seen(engine, "run.started"):
        await drive.submit(engine, "x")
    async with drive.seen(engine, "engine.pausing"):
        await drive.house.pause(engine)
    async with drive.seen(engine, "engine.paused"):
        (tmp_path / "agent" / "go").touch()
    assert not (tmp_path / "agent" / "made").exists()
    async with drive.seen(engine, "run.completed"):
        await drive.house.resume(engine)
    assert (tmp_path / "agent" / "made").read_text() == "x"


async def test_an_idle_agent_is_stopped_by_a_pause_too(drive: Any, odd: Odd) -> None:
    engine = await drive.spawn("acp", odd("serve(lambda params: say('well'))"))
    await drive.house.pause(engine, wait_s=10)
    assert await states(drive, engine) == {"T"}
    await drive.house.resume(engine, wait_s=10)
    assert (await drive.run(engine, "x")).result["text"] == "well"


WAITS = "serve(lambda params: [say('begun\\n'), until_cancelled(), say('stopped')] and None)"


async def test_interrupt_cancels_the_turn_and_prompts_again(drive: Any, odd: Odd, told: Told) -> None:
    script = """
    def prompt(params):
        if os.path.exists("second"): return say("again")
        Path("second").touch(); say("begun"); until_cancelled()
    serve(prompt)
    """
    engine = await drive.spawn("acp", odd(script))
    async with drive.seen(engine, "message.delta"):
        run = await drive.submit(engine, "x")
    await drive.house.pause(engine, mode=PauseMode.INTERRUPT, wait_s=10)
    assert (await drive.house.run(run)).status == "queued"
    assert len(told("session/cancel")) == 1
    async with drive.seen(engine, "run.completed"):
        await drive.house.resume(engine)
    info = await drive.house.run(run)
    assert (info.attempts, info.result["text"]) == (2, "again")
    assert [m["params"]["prompt"][0]["text"] for m in told("session/prompt")] == ["x", "x"]


async def test_freeze_stops_everything_and_the_turn_goes_on(drive: Any, odd: Odd, tmp_path: Any) -> None:
    engine = await drive.spawn("acp", odd(STEPS))
    async with drive.seen(engine, "acp.tool"):
        run = await drive.submit(engine, "x")
    await drive.house.pause(engine, mode=PauseMode.FREEZE, wait_s=10)
    assert await states(drive, engine) == {"T"}
    for n in range(2):
        (tmp_path / "agent" / f"go-{n}").touch()
    async with drive.seen(engine, "run.completed"):
        await drive.house.resume(engine)
    assert (await drive.house.run(run)).attempts == 1


async def test_a_cancelled_turn_may_say_its_last_words(drive: Any, odd: Odd) -> None:
    engine = await drive.spawn("acp", odd(WAITS))
    async with drive.seen(engine, "message.delta"):
        run = await drive.submit(engine, "x")
    async with drive.seen(engine, "run.cancelled"):
        await drive.house.cancel(run, reason="enough")
    assert [row["text"] for row in await drive.said(engine, "acp.message")] == ["begun\nstopped"]
    assert (await drive.house.output(run))[0] == b"begun\nstopped"
    async with drive.seen(engine, "message.delta"):
        run = await drive.submit(engine, "y")
    async with drive.seen(engine, "run.cancelled"):
        await drive.house.cancel(run)
    assert (await drive.house.get(engine)).incarnation == 1


@pytest.mark.parametrize("mode", [PauseMode.FREEZE, PauseMode.SOFT])
async def test_a_paused_turn_can_be_cancelled_and_the_agent_lives_on(
    drive: Any, odd: Odd, told: Told, mode: PauseMode
) -> None:
    script = """
    def prompt(params):
        if params["prompt"][0]["text"] == "y": return say("well")
        permission("c1", title="Go") if not os.path.exists("x") else None
        until_cancelled()
    serve(prompt)
    """
    engine = await drive.spawn("acp", odd(script))
    async with drive.seen(engine, "request.opened"):
        run = await drive.submit(engine, "x")
    await drive.house.pause(engine, mode=mode, wait_s=10)
    async with drive.seen(engine, "run.cancelled"):
        await drive.house.cancel(run)
    await drive.house.resume(engine, wait_s=10)
    assert (await drive.run(engine, "y")).result["text"] == "well"
    assert (await drive.house.get(engine)).incarnation == 1


async def test_an_agent_that_ignores_a_cancellation_is_killed(
    drive: Any, odd: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.engines.acp.engine.CANCEL_S", 0.05)
    engine = await drive.spawn("acp", odd("serve(lambda params: [say('begun'), silence()])"))
    async with drive.seen(engine, "message.delta"):
        run = await drive.submit(engine, "x")
    async with drive.seen(engine, "engine.failed", holding="did not end a cancelled turn within 0.05 s"):
        await drive.house.cancel(run)
    assert (await drive.house.run(run)).status == "cancelled"


async def test_an_answer_that_crosses_the_cancellation_ends_the_turn(drive: Any, odd: Odd) -> None:
    """The agent has finished before it hears of it: the run is cancelled all the same, and the next one is well."""
    script = """
    def prompt(params):
        if params["prompt"][0]["text"] == "y": return say("well")
        say("begun"); until_cancelled()
        return "end_turn"
    serve(prompt)
    """
    engine = await drive.spawn("acp", odd(script))
    async with drive.seen(engine, "message.delta"):
        run = await drive.submit(engine, "x")
    async with drive.seen(engine, "run.cancelled"):
        await drive.house.cancel(run)
    assert (await drive.run(engine, "y")).result["text"] == "well"


async def test_a_stop_cancels_the_turn_and_leaves_no_process(drive: Any, odd: Odd, told: Told) -> None:
    engine = await drive.spawn("acp", odd(WAITS))
    async with drive.seen(engine, "message.delta"):
        run = await drive.submit(engine, "x")
    gone = await drive.house.dispose(engine, force=True)
    assert gone.leaks == []
    assert len(told("session/cancel")) == 1
    assert (await drive.house.run(run)).status == "cancelled"


async def test_a_timed_out_turn_is_cancelled(drive: Any, odd: Odd, told: Told) -> None:
    engine = await drive.spawn("acp", odd(WAITS))
    assert (await drive.run(engine, "x", timeout_s=0.3)).status == "timed_out"
    assert len(told("session/cancel")) == 1
    assert (await drive.house.get(engine)).incarnation == 1
