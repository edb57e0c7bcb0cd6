"""One agent on a real daemon, with a model that says what the test says, and what it left behind."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import trio

from protocol.bodies import ReplyBody
from protocol.commands import Start
from supervisor import Filter, NewEngine, NewRun
from tests.agents.cast import Actor
from tests.e2e.daemons import Daemon, processes_with, running
from tests.models.endpoint import Endpoint, open_endpoint
from web.client import RemoteHouse

__all__ = ["GONE_S", "Stage", "on_stage"]

GONE_S = 2.0
PATIENCE_S = 120.0
"""How long anything may take: machines are shared, and some agents slow."""

ENGINE = "agent"


class Stage:
    """`house`: a client of the daemon's; after `revive` another one. `workspace`: where the agent works."""

    def __init__(self, actor: Actor, daemon: Daemon, house: RemoteHouse, endpoint: Endpoint, where: Path) -> None:
        self.actor, self.daemon, self.house, self.endpoint = actor, daemon, house, endpoint
        self.home, self.workspace = where / "home", where / "workspace"
        self.mark = f"mark-{uuid4().hex}"
        self._sessions: set[int] = set()

    # -- the engine --------------------------------------------------------------------------------------------------
    async def begin(self, programs: Path, **more: Any) -> None:
        """Spawn the engine, and wait until it is up."""
        self.workspace.mkdir()
        for name, text in self.actor.files(self.endpoint.url).items():
            file = self.home / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.home.mkdir(exist_ok=True)
        env = {
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "MARK": self.mark,
            **self.actor.env(self.endpoint.url),
        }
        if (self.home / ".codex").exists():
            env["CODEX_HOME"] = str(self.home / ".codex")
        config = {"agent": self.actor.preset, "cwd": str(self.workspace), "env": env}
        await self.house.spawn(NewEngine(kind="acp", id=ENGINE, config=config, boot_s=PATIENCE_S, **more))
        await self.house.command(ENGINE, Start(), wait_s=PATIENCE_S)
        assert await self.state() == "running"

    async def state(self) -> str:
        return (await self.house.get(ENGINE)).state

    async def turns(self, state: str) -> None:
        """Wait until the engine is in this state."""
        with trio.fail_after(PATIENCE_S):
            after: str | None = None
            while await self.state() != state:
                after = (await self.house.event_page(Filter(engine=ENGINE), after=after, wait_s=1)).next_after

    async def submit(self, text: str) -> str:
        run, _ = await self.house.submit(ENGINE, NewRun(input=text))
        return run.id

    async def ended(self, run: str) -> Any:
        """The run, when it is over."""
        return await self.until(run, lambda info: info.finished_at is not None)

    async def until(self, run: str, enough: Callable[[Any], bool]) -> Any:
        """The run, when it is so; looked at after every event."""
        with trio.fail_after(PATIENCE_S):
            after: str | None = None
            while not enough(info := await self.house.run(run)):
                page = await self.house.event_page(Filter(engine=ENGINE), after=after, wait_s=1)
                after = page.next_after
        return info

    async def do(self, text: str) -> Any:
        """A prompt, to its end; whatever it asks for is allowed once."""
        run = await self.submit(text)
        while (
            info := await self.until(run, lambda info: info.status == "waiting" or info.finished_at)
        ).finished_at is None:
            await self.decide("allow_once")
        return info

    async def asked(self, engine: str = ENGINE) -> Any:
        """The request that is pending."""
        with trio.fail_after(PATIENCE_S):
            while not (items := (await self.house.requests(engine=engine)).items):
                await self.house.event_page(wait_s=1)
        return items[0]

    async def decide(self, kind: str) -> Any:
        """Answer the pending request with its option of this kind."""
        request = await self.asked()
        option = next(option for option in request.options if option["kind"] == kind)
        await self.house.reply(request.id, ReplyBody(option=option["id"], digest=request.digest))
        return request

    async def slice(self, name: str, engine: str = ENGINE) -> Any:
        return (await self.house.slice(engine, name)).value

    # -- its processes -----------------------------------------------------------------------------------------------
    async def processes(self) -> list[Any]:
        """The live tree; their sessions are remembered."""
        rows = await self.house.processes(ENGINE)
        for row in rows:
            try:
                self._sessions.add(os.getsid(row.pid))
            except ProcessLookupError:
                continue
        return list(rows)

    def alive(self) -> list[int]:
        """Whoever carries the mark, or is in a session of the tree's, zombies left out."""
        found = set(processes_with(self.mark))
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    state, _, _, session = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[:4]
                except OSError:
                    continue
                if int(session) in self._sessions and state not in "ZX":
                    found.add(int(entry.name))
        return sorted(found)

    async def survivors(self) -> list[int]:
        """Who is left two seconds later; returns as soon as nobody is."""
        with trio.move_on_after(GONE_S):
            while self.alive():  # noqa: ASYNC110 - the kernel tells nobody when somebody else's child ends
                await trio.sleep(0.05)
        return self.alive()

    async def dispose(self) -> list[int]:
        """The engine is disposed of; who survives it. No leak is named."""
        await self.processes()
        assert (await self.house.dispose(ENGINE)).leaks == []
        return await self.survivors()


@asynccontextmanager
async def on_stage(actor: Actor, where: Path, env: Mapping[str, str] | None = None) -> AsyncIterator[Stage]:
    """A daemon, with `env` in its environment, and a model; the engine begins with `begin`."""
    async with (
        open_endpoint() as endpoint,
        running(where / "state", env=env) as daemon,
        daemon.client() as house,
    ):
        yield Stage(actor, daemon, house, endpoint, where)
