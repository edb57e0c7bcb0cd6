"""An agent in a house, and the model that it talks to: the tests' endpoint, over loopback."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.bodies import NewRun
from protocol.commands import Signal
from protocol.wire import RequestInfo, RunInfo
from supervisor import Caller, EmbeddedHouse, Filter, ReplyBody
from tests.models.endpoint import Endpoint, open_endpoint

ANN = Caller(principal="user:ann")
ALLOWED = [{"verdict": "allow", "tool": "*"}]
"""Rules under which nobody is asked."""


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with open_endpoint() as opened:
        yield opened


class Agents:
    """Agents of one house, each with the endpoint as its model; their workspace is `place`."""

    def __init__(self, drive: Any, endpoint: Endpoint, place: Path) -> None:
        self.drive, self.endpoint, self.place = drive, endpoint, place
        self.house: EmbeddedHouse = drive.house

    def config(self, shape: str = "anthropic", **more: Any) -> dict[str, Any]:
        base = self.endpoint.url if shape == "anthropic" else f"{self.endpoint.url}/v1"
        model = {"shape": shape, "model": "test-model", "base_url": base, **more.pop("model", {})}
        return {"cwd": str(self.place), "model": model, **more}

    async def spawn(self, shape: str = "anthropic", *, spec: Mapping[str, Any] | None = None, **config: Any) -> str:
        """The id of one that is up."""
        engine: str = await self.drive.spawn("agent", self.config(shape, **config), **(spec or {}))
        assert (await self.house.get(engine)).state == "running", (await self.house.get(engine)).last_exit
        return engine

    async def run(self, engine: str, text: str = "go") -> RunInfo:
        info: RunInfo = await self.drive.run(engine, text)
        return info

    async def submit(self, engine: str, text: str = "go") -> str:
        info, _ = await self.house.submit(engine, NewRun(input=text), ANN)
        return info.id

    async def ended(self, run: str) -> RunInfo:
        with trio.fail_after(30):
            async with self.house.events(Filter(run=run), after="0") as events:
                while all(frame.event != "end" for frame in await events.receive()):
                    pass
        return await self.house.run(run)

    async def asked(self, engine: str, *, but: str = "") -> RequestInfo:
        """The request that is pending, once there is one beside `but`."""
        with trio.fail_after(30):
            async with self.house.events(Filter(engine=engine, types=("request.opened",)), after="0") as events:
                while True:
                    for request in (await self.house.requests(engine=engine)).items:
                        if request.id != but:
                            return request
                    await events.receive()

    async def decide(self, engine: str, option: str, comment: str | None = None) -> RequestInfo:
        """Wait for a request and decide it."""
        request = await self.asked(engine)
        await self.house.reply(request.id, ReplyBody(option=option, comment=comment), ANN)
        return request

    async def signal(self, engine: str, name: str, payload: Any = None) -> Any:
        _, done = await self.house.command(engine, Signal(name=name, payload=payload), ANN, wait_s=20)
        assert done is not None
        return done.result

    async def slice(self, engine: str, name: str) -> Any:
        return (await self.house.slice(engine, name)).value

    async def events(self, engine: str, *types: str) -> list[dict[str, Any]]:
        """The data of those in the journal, in order."""
        page = await self.house.event_page(Filter(engine=engine, types=types), after="0", limit=1000)
        return [item["data"] for item in page.items]

    @property
    def results(self) -> list[str]:
        """What the tools answered, as the model was told last."""
        return told(self.endpoint)


def told(endpoint: Endpoint, at: int = -1) -> list[str]:
    """The texts of the tool results in a request, in order, whatever its shape."""
    asked = endpoint.asked[at]
    body, found = asked.body, []
    match asked.shape:
        case "anthropic":
            for message in body["messages"]:
                for part in message["content"] if isinstance(message["content"], list) else []:
                    if part["type"] == "tool_result":
                        content = part["content"]
                        found.append(content if isinstance(content, str) else "".join(p["text"] for p in content))
        case "openai-chat":
            found = [message["content"] for message in body["messages"] if message["role"] == "tool"]
        case _:
            found = [item["output"] for item in body["input"] if item.get("type") == "function_call_output"]
    return found


@pytest.fixture
def agents(drive: Any, endpoint: Endpoint, tmp_path: Path) -> Agents:
    place = tmp_path / "place"
    place.mkdir()
    return Agents(drive, endpoint, place)
