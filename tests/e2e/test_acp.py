"""kill -9 of the daemon in the middle of an agent's turn: nothing of the agent is left, and the turn goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.bodies import NewEngine, NewRun, ReplyBody
from supervisor import Filter
from supervisor.house import House
from tests.actors.engines.acp.conftest import odd, sdk
from tests.actors.engines.acp.test_restart import FORGETS, RESUMES
from tests.e2e.daemons import running

__all__ = ["odd", "sdk"]  # fixtures

Odd = Callable[..., dict[str, Any]]


async def seen(house: House, engine: str, *types: str) -> None:
    """One of these has happened."""
    with trio.fail_after(60):
        async with house.events(Filter(engine=engine, types=types), after="0") as events:
            await events.receive()


@pytest.mark.parametrize("script, ends", [(RESUMES, "well: You were interrupted"), (FORGETS, "session-lost")])
async def test_a_turn_survives_the_daemon_where_the_session_does(
    tmp_path: Path, odd: Odd, script: str, ends: str
) -> None:
    async with running(tmp_path / "state") as daemon:
        async with daemon.client() as house:
            await house.spawn(NewEngine(kind="acp", id="a", config=odd(script)))
            run, _ = await house.submit("a", NewRun(input="work"))
            await seen(house, "a", "run.output_chunk")
            [agent, *_] = [row.pid for row in await house.processes("a")]
        await daemon.kill()
        with trio.fail_after(10):
            while Path(f"/proc/{agent}").exists():  # noqa: ASYNC110, ASYNC240 - nobody tells of the end of a stranger
                await trio.sleep(0.02)
        await daemon.start()
        async with daemon.client() as house:
            await seen(house, "a", "run.completed", "run.failed")
            info = await house.run(run.id)
            assert info.attempts == 2
            assert (info.error["slug"] if info.error else info.result["text"]) == ends
        assert await daemon.stop() == 0


async def test_a_permission_of_the_example_agent_is_decided_over_http(tmp_path: Path, sdk: Path) -> None:
    async with running(tmp_path / "state") as daemon:
        async with daemon.client() as house:
            await house.spawn(NewEngine(kind="acp", id="a", config={"agent": "example", "cwd": str(sdk)}))
            run, _ = await house.submit("a", NewRun(input="go"))
            await seen(house, "a", "request.opened")
            [request] = (await house.requests()).items
            await house.reply(request.id, ReplyBody(option="reject"))
            await seen(house, "a", "run.completed")
            assert "prefer not to make that change" in (await house.run(run.id)).result["text"]
            assert (await house.dispose("a")).leaks == []
        assert await daemon.stop() == 0
