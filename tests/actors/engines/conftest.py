"""A house, and engines in it: what the tests of the built-in kinds share."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from protocol.bodies import NewEngine, NewRun
from protocol.commands import Start
from protocol.specs import Policy, Restart
from protocol.wire import EngineInfo, RunInfo
from supervisor import EmbeddedHouse, Filter, open_supervisor

NEVER = Restart(policy=Policy.TEMPORARY)


@pytest.fixture
async def house() -> AsyncIterator[EmbeddedHouse]:
    async with open_supervisor(grace_s=1) as opened:
        yield opened


class Driver:
    """What a test does with engines, and waits for in their events; nothing of it polls."""

    def __init__(self, house: EmbeddedHouse) -> None:
        self.house = house

    async def spawn(self, kind: str, config: Mapping[str, Any], **spec: Any) -> str:
        """The id of an engine that is up, or came to its end at boot."""
        engine, _ = await self.house.spawn(
            NewEngine(kind=kind, config=dict(config), start=False, **{"restart": NEVER, **spec})
        )
        await self.house.command(engine.id, Start(), wait_s=20)
        return engine.id

    async def last_exit(self, kind: str, config: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
        """How an engine ends that cannot go on."""
        engine, _ = await self.house.spawn(
            NewEngine(kind=kind, config=dict(config), start=False, **{"restart": NEVER, **spec})
        )
        async with self.seen(engine.id, "engine.stopped", "engine.failed"):
            await self.house.start(engine.id)
        info: EngineInfo = await self.house.get(engine.id)
        assert info.last_exit is not None
        return info.last_exit

    async def run(self, engine: str, input: Any, **more: Any) -> RunInfo:
        """The run at its end."""
        info, _ = await self.house.submit(engine, NewRun(input=input, **more), wait_s=20)
        assert info.finished_at, f"still {info.status} after 20 s: {(await self.house.get(engine)).last_exit}"
        return info

    async def submit(self, engine: str, input: Any) -> str:
        info, _ = await self.house.submit(engine, NewRun(input=input))
        return info.id

    async def said(self, engine: str, *types: str) -> list[dict[str, Any]]:
        """The data of its durable events so far, of these types."""
        page = await self.house.event_page(Filter(engine=engine, types=types), after="0", limit=1000)
        return [row["data"] for row in page.items]

    @asynccontextmanager
    async def seen(self, engine: str, *types: str, holding: str = "", within_s: float = 20) -> AsyncIterator[None]:
        """Leaves the block when an event of one of the types that holds this text came since it was entered."""
        async with self.house.events(Filter(engine=engine, types=types)) as events:
            yield
            with trio.fail_after(within_s):
                while not any(
                    frame.event in types and holding in shown(frame.data) for frame in await events.receive()
                ):
                    pass


def shown(data: bytes) -> str:
    return str(json.loads(data)["data"])


@pytest.fixture
def drive(house: EmbeddedHouse) -> Driver:
    return Driver(house)
