"""After a crash of the agent, and after one of the daemon: the session is found again, or its loss is said."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from protocol.bodies import NewEngine, NewRun, ReplyBody
from protocol.specs import Backoff, OnInterrupt, Restart
from supervisor import EmbeddedHouse, SqliteStore, open_supervisor
from tests.actors.engines.conftest import Driver

Odd = Callable[..., dict[str, Any]]
Told = Callable[..., list[dict[str, Any]]]

QUICK = Restart(backoff=Backoff(min_s=0.01, max_s=0.01, jitter=0))

REMEMBERS = """
def prompt(params):
    text = params["prompt"][0]["text"]
    if text == "go" or text.startswith("You were interrupted"):
        return say(f"well: {text[:20]}")
    say("begun")
    if text == "die": os._exit(7)
    if text == "ask": return say(permission("c1", title="Go")["outcome"])
    until_cancelled()
def found(params):
    assert params["sessionId"] == SESSION
    if REPLAYS:
        for n in range(2): say("of before")
        update("user_message_chunk", content={"type": "text", "text": "asked before"})
        call("old", title="Old", status="completed")
        update("available_commands_update", availableCommands=[{"name": "web"}])
    return {}
serve(prompt, initialize={"agentCapabilities": CAN}, on={"session/resume": found, "session/load": found})
"""
RESUMES = "REPLAYS = False; CAN = {'loadSession': True, 'sessionCapabilities': {'resume': {}}}" + REMEMBERS
LOADS = "REPLAYS = True; CAN = {'loadSession': True}" + REMEMBERS
FORGETS = "REPLAYS = False; CAN = {}" + REMEMBERS


async def crashed(drive: Any, config: dict[str, Any], **spec: Any) -> tuple[str, Any]:
    """An engine whose agent died in the middle of its first turn, and that turn's end."""
    engine = await drive.spawn("acp", config, restart=QUICK, **spec)
    async with drive.seen(engine, "run.completed", "run.failed"):
        run = await drive.submit(engine, "die")
    return engine, await drive.house.run(run)


@pytest.mark.parametrize("script, how", [(RESUMES, "resumed"), (LOADS, "loaded")])
async def test_the_turn_goes_on_in_the_session_that_it_was_in(
    drive: Any, odd: Odd, told: Told, script: str, how: str
) -> None:
    engine, run = await crashed(drive, odd(script))
    assert (run.attempts, run.result["text"]) == (2, "well: You were interrupted")
    assert [row["how"] for row in await drive.said(engine, "acp.session")] == ["new", how]
    assert [message["params"]["prompt"][0]["text"][:9] for message in told("session/prompt")] == ["die", "You were "]
    assert [row["text"][:5] for row in await drive.said(engine, "acp.message")] == ["begun", "well:"]
    assert [row["id"] for row in await drive.said(engine, "acp.tool")] == []  # what is loaded is not told twice


async def test_what_a_load_says_of_the_session_is_kept(drive: Any, odd: Odd) -> None:
    engine, _ = await crashed(drive, odd(LOADS))
    assert (await drive.said(engine, "acp.session"))[-1]["replayed"] == 4
    assert (await drive.house.slice(engine, "session")).value["commands"] == [{"name": "web", "description": ""}]


async def test_a_lost_session_is_said_and_its_turn_does_not_begin_again(drive: Any, odd: Odd) -> None:
    script = FORGETS.replace('say("begun")', 'call("c1", title="A", status="completed"); call("c2", title="B")')
    engine, run = await crashed(drive, odd(script))
    assert run.error == {
        "slug": "session-lost",
        "detail": "It was interrupted, and the agent's session could not be found again: the agent can neither resume nor "
        "load a session. It had made 2 tool calls, of which 1 completed (slice `tools`). A retry gives the same input anew, "
        "and may repeat what was done.",
    }
    new, lost = (await drive.said(engine, "acp.session"))[1:]
    assert (new["how"], lost["how"]) == ("new", "lost")
    assert lost["reason"] == "the agent can neither resume nor load a session"
    assert (await drive.run(engine, "go")).result["text"] == "well: go"


async def test_a_session_that_the_agent_does_not_find_is_lost_with_its_reason(drive: Any, odd: Odd) -> None:
    script = RESUMES.replace("assert params", "raise Error({'code': -32002, 'message': 'who?'}) #")
    engine, _ = await crashed(drive, odd(script))
    assert (await drive.said(engine, "acp.session"))[-1]["reason"] == "session/load: who?"


async def test_on_interrupt_says_otherwise(drive: Any, odd: Odd) -> None:
    _, run = await crashed(drive, odd(RESUMES), on_interrupt=OnInterrupt.FAIL)
    assert run.error["slug"] == "interrupted"
    _, run = await crashed(drive, odd(RESUMES), on_interrupt=OnInterrupt.RETRY, max_attempts=2)
    assert (run.attempts, run.error["slug"]) == (2, "interrupted")  # prompted again, and died again


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[tuple[EmbeddedHouse, Driver]]:
    store = SqliteStore(tmp_path / "journal.db")
    async with open_supervisor(store=store, directory=tmp_path, name="acp-tests", grace_s=1) as house:
        yield house, Driver(house)


@pytest.mark.parametrize("script, text", [(RESUMES, "well: You were interrupted"), (FORGETS, None)])
async def test_a_daemon_that_restarts_finds_the_session_and_the_turn(
    tmp_path: Path, odd: Odd, told: Told, script: str, text: str | None
) -> None:
    async with opened(tmp_path) as (house, drive):
        await house.spawn(NewEngine(kind="acp", id="a", config=odd(script)))
        async with drive.seen("a", "message.delta"):
            run, _ = await house.submit("a", NewRun(input="work"))
    assert len(told("session/cancel")) == 1
    async with opened(tmp_path) as (house, drive):
        async with drive.seen("a", "run.completed", "run.failed"):
            pass
        info = await house.run(run.id)
        assert info.attempts == 2
        if text is None:
            assert info.error is not None
            assert info.error["slug"] == "session-lost"
        else:
            assert info.result["text"] == text
        conversation = (await house.slice("a", "conversation")).value
        assert [turn["role"] for turn in conversation[:2]] == ["user", "agent"]
        assert conversation[0]["parts"][0]["text"] == "work"


async def test_a_permission_that_was_pending_is_asked_once_over_a_restart(tmp_path: Path, odd: Odd) -> None:
    """The agent asks again in the resumed turn; people see one question, and may answer it while nobody runs."""
    script = RESUMES.replace(
        'if text == "go" or text.startswith("You were interrupted"):',
        'if text.startswith("You were interrupted"): return say(str(permission("c2", title="Go")))\n    if text == "go":',
    )
    async with opened(tmp_path) as (house, drive):
        await house.spawn(NewEngine(kind="acp", id="a", config=odd(script)))
        async with drive.seen("a", "request.opened"):
            run, _ = await house.submit("a", NewRun(input="ask"))
    async with opened(tmp_path) as (house, drive):
        [request] = (await house.requests()).items
        async with drive.seen("a", "run.completed"):
            await house.reply(request.id, ReplyBody(option="o-allow_once"))
        assert "o-allow_once" in (await house.run(run.id)).result["text"]
        assert len(await drive.said("a", "request.opened")) == 1


async def test_what_is_always_allowed_outlives_the_daemon(tmp_path: Path, odd: Odd) -> None:
    script = """
    def prompt(params):
        say(str(permission("c1", title="Run", kind="execute", rawInput={"command": ["bash", "-lc", "make"]})))
    serve(prompt)
    """
    async with opened(tmp_path) as (house, drive):
        await house.spawn(NewEngine(kind="acp", id="a", config=odd(script)))
        async with drive.seen("a", "request.opened"):
            await house.submit("a", NewRun(input="x"))
        [request] = (await house.requests()).items
        assert request.action["command"] == "make"
        async with drive.seen("a", "run.completed"):
            await house.reply(request.id, ReplyBody(option="allow_always"))
    async with opened(tmp_path) as (house, drive):
        assert "o-allow_once" in (await drive.run("a", "x")).result["text"]
