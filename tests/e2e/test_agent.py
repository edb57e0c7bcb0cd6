"""An agent in a daemon that is killed: its run goes on where it was, and nothing is done twice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.bodies import NewEngine, NewRun, ReplyBody
from protocol.wire import RunInfo
from supervisor import Filter
from tests.actors.engines.agent.conftest import ALLOWED, told
from tests.e2e.daemons import Daemon, running
from tests.models.endpoint import Endpoint, open_endpoint
from tests.models.script import Call, Hold, Say
from web.client import RemoteHouse


class Case:
    """A daemon with one agent `a`, and the model that it talks to, which outlives both."""

    def __init__(self, daemon: Daemon, endpoint: Endpoint, place: Path) -> None:
        self.daemon, self.endpoint, self.place = daemon, endpoint, place

    async def begin(self, **config: Any) -> str:
        """The id of its run."""
        model = {"shape": "anthropic", "model": "test-model", "base_url": self.endpoint.url, "attempts": 1}
        async with self.daemon.client() as house:
            await house.spawn(
                NewEngine(kind="agent", id="a", config={"cwd": str(self.place), "model": model, **config})
            )
            run, _ = await house.submit("a", NewRun(input="go"))
            return run.id

    async def killed(self) -> None:
        await self.daemon.kill()
        await self.daemon.start()

    async def ended(self, run: str) -> RunInfo:
        async with self.daemon.client() as house:
            return await ended(house, run)


async def ended(house: RemoteHouse, run: str) -> RunInfo:
    with trio.fail_after(60):
        async with house.events(Filter(run=run), after="0") as events:
            while all(frame.event != "end" for frame in await events.receive()):
                pass
    return await house.run(run)


@asynccontextmanager
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    (tmp_path / "place").mkdir()
    async with open_endpoint() as endpoint, running(tmp_path / "state") as daemon:
        yield Case(daemon, endpoint, tmp_path / "place")


async def until_exists(path: Path) -> None:
    with trio.fail_after(60):
        while not await trio.Path(path).exists():  # noqa: ASYNC110 - a command of a real shell makes it
            await trio.sleep(0.02)


async def test_killed_in_the_middle_of_an_answer_it_asks_again_and_repeats_no_tool(tmp_path: Path) -> None:
    async with case(tmp_path) as c:
        c.endpoint.reply(
            Say(Call("shell", {"command": "echo x >> count"})), Say("I go", Hold("never")), Say("done")
        )  # fmt: skip
        run = await c.begin(permissions=ALLOWED)
        await c.endpoint.held("never")
        await c.killed()
        info = await c.ended(run)
        assert (info.status, info.attempts, info.result["text"]) == ("completed", 2, "done")
        assert (c.place / "count").read_text() == "x\n"
        assert told(c.endpoint) == ["It ended well and said nothing."]
        assert c.endpoint.asked[1].body["messages"] == c.endpoint.asked[2].body["messages"]
        async with c.daemon.client() as house:
            conversation = (await house.slice("a", "conversation")).value
            assert [turn["role"] for turn in conversation] == ["user", "agent"]
            assert (await house.slice("a", "checkpoints")).value[0]["why"] == "before a run"
            assert (await house.slice("a", "usage")).value["turns"] == 2


async def test_killed_in_the_middle_of_a_command_the_model_is_told_and_nothing_is_repeated(tmp_path: Path) -> None:
    async with case(tmp_path) as c:
        c.endpoint.reply(
            Say(
                Call("shell", {"command": "echo x >> count; touch begun; sleep 1000"}), Call("read", {"path": "count"})
            ),
            Say("I see"),
        )  # fmt: skip
        run = await c.begin(permissions=ALLOWED)
        await until_exists(c.place / "begun")
        await c.killed()
        info = await c.ended(run)
        assert (info.status, info.result["text"]) == ("completed", "I see")
        interrupted, read = told(c.endpoint)
        assert interrupted.startswith("Interrupted: ")
        assert read == "x\n"
        assert (c.place / "count").read_text() == "x\n"


async def test_killed_while_people_are_asked_it_waits_for_the_same_answer(tmp_path: Path) -> None:
    async with case(tmp_path) as c:
        c.endpoint.reply(Say(Call("write", {"path": "a.txt", "text": "new\n"})), Say("done"))
        run = await c.begin()
        async with c.daemon.client() as house:
            with trio.fail_after(60):
                async with house.events(Filter(engine="a", types=("request.opened",)), after="0") as events:
                    await events.receive()
            (before,) = (await house.requests(engine="a")).items
        await c.killed()
        async with c.daemon.client() as house:
            (after,) = (await house.requests(engine="a")).items
            assert (after.id, after.digest, after.action) == (before.id, before.digest, before.action)
            assert not (c.place / "a.txt").exists()
            await house.reply(after.id, ReplyBody(option="allow_once"))
            assert (await ended(house, run)).status == "completed"
        assert (c.place / "a.txt").read_text() == "new\n"
        assert len(c.endpoint.asked) == 2


@pytest.mark.torture
async def test_killed_at_any_time_no_tool_is_called_twice_and_the_run_ends(tmp_path: Path) -> None:
    """Each command says once that it was there; the model goes on whatever it is told."""
    steps, kills = 12, 8
    async with case(tmp_path) as c:
        c.endpoint.reply(
            *[Say(f"step {n}", Call("shell", {"command": f"echo {n} >> count; sleep 0.05"})) for n in range(steps)],
            Say("done"),
        )
        run = await c.begin(permissions=ALLOWED)
        for n in range(kills):
            await trio.sleep(0.1 + 0.07 * n)
            await c.killed()
        info = await c.ended(run)
        assert info.status in ("completed", "failed"), info
        lines = (c.place / "count").read_text().split()
        assert len(lines) == len(set(lines))
