"""An engine whose config says `api` can call its house, as itself and as nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2

from protocol.commands import Approve, Restart
from protocol.errors import InsufficientScope, NotFound, Unauthenticated
from supervisor import NewEngine, NewRun
from tests.e2e.daemons import running
from web.client import RemoteHouse, open_remote


async def told(house: RemoteHouse, engine: str, command: str) -> str:
    run, _ = await house.submit(engine, NewRun(input=command), wait_s=30)
    assert run.status == "completed", run
    return str(run.result["output"]).strip()


async def test_the_programs_of_an_engine_speak_for_it_alone(tmp_path: Path) -> None:
    token = tmp_path / "token"
    keep = f'printf %s "$ENGINEHOUSE_API_KEY" > {token}; printf "[%s] %s" "$ENGINEHOUSE_API_KEY" "$ENGINEHOUSE_URL"'
    config: dict[str, Any] = {"cwd": str(tmp_path)}
    async with running(tmp_path / "state") as daemon, daemon.client() as house:
        await house.spawn(NewEngine(kind="shell", id="plain", config=config))
        assert await told(house, "plain", keep) == "[]"
        await house.spawn(NewEngine(kind="shell", id="mine", config={**config, "api": True}))
        assert await told(house, "mine", keep) == f"[***] {daemon.url}"  # what it says is masked, what it has is not
        first = token.read_text()
        async with open_remote(daemon.url, api_key=first) as own:
            assert [engine.id for engine in (await own.list()).items] == ["mine"]
            me = await own.get("mine")
            await own.pause("mine", wait_s=10)
            await own.resume("mine", wait_s=10)
            for refused, ask in (
                (NotFound, lambda: own.get("plain")),
                (NotFound, lambda: own.stop("plain")),
                (NotFound, lambda: own.spawn(NewEngine(kind="probe"))),
                (InsufficientScope, lambda: own.command("mine", Approve())),
                (InsufficientScope, lambda: own.call("GET", "auth", "keys")),
                (InsufficientScope, lambda: own.call("POST", "admin", "shutdown")),
            ):
                try:
                    await ask()
                except refused:
                    continue
                raise AssertionError(refused)
            await house.command("mine", Restart(), wait_s=30)
            assert (await house.get("mine")).incarnation > me.incarnation
            try:
                await own.get("mine")
            except Unauthenticated:
                pass
            else:
                raise AssertionError("the token outlived its incarnation")
        assert await told(house, "mine", keep) == f"[***] {daemon.url}"
        assert token.read_text() != first
        headers = {"authorization": f"Bearer {token.read_text()}"}
        async with httpx2.AsyncClient(base_url=daemon.url, headers=headers) as plain:
            assert (await plain.get("/api/v1/engines/mine")).status_code == 200
        assert first.encode() not in (tmp_path / "state/journal.db").read_bytes()
