"""A house, and engines in it: what the tests of the built-in kinds share."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from protocol.wire import NewEngine, NewRun, RunInfo
from supervisor import EmbeddedHouse, open_supervisor

Run = Callable[..., Awaitable[RunInfo]]


@pytest.fixture
async def house() -> AsyncIterator[EmbeddedHouse]:
    async with open_supervisor(grace_s=1) as opened:
        yield opened


@pytest.fixture
def spawn(house: EmbeddedHouse) -> Callable[..., Awaitable[str]]:
    """`await spawn(kind, spec..., **config)` is a running engine's id."""

    async def spawn(kind: str, spec: dict[str, Any] | None = None, /, **config: Any) -> str:
        engine, _ = await house.spawn(NewEngine(kind=kind, config=config, **(spec or {})))
        await house.command(engine.id, {"type": "start"}, wait_s=10)
        return engine.id

    return spawn


@pytest.fixture
def run(house: EmbeddedHouse) -> Run:
    """`await run(engine, input)` is the run at its end."""

    async def run(engine: str, input: Any, **more: Any) -> RunInfo:
        info, _ = await house.submit(engine, NewRun(input=input, **more), wait_s=20)
        assert info.finished_at, f"still {info.status} after 20 s"
        return info

    return run
