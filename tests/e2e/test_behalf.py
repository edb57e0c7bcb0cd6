"""What somebody set up acts under their name, and ends with them: schedules, webhooks, four eyes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import trio

from tests.e2e.daemons import running

PASSWORD = "long enough by far"
ASKS = {"ask_at": 1, "ask": {"kind": "approval", "title": "Deploy?"}}


class People:
    """Whoever asks a daemon: `await people.ask("GET", "/engines", key)` is the status and the JSON."""

    def __init__(self, client: httpx2.AsyncClient, admin: str) -> None:
        self._client = client
        self.admin = admin

    async def ask(self, method: str, path: str, key: str, body: Any = None) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {key}", "accept": "application/json"}
        got = await self._client.request(method, f"/api/v1{path}", headers=headers, json=body, timeout=30)
        return got.status_code, got.json() if got.content else None

    async def made(self, path: str, body: Any, key: str | None = None) -> Any:
        status, answer = await self.ask("POST", path, key or self.admin, body)
        assert status in (200, 201, 202), answer
        return answer

    async def key(self, *scopes: str) -> tuple[str, str]:
        """The id of a new key, and the key."""
        made = await self.made("/auth/keys", {"name": "k", "scopes": scopes})
        return made["id"], made["key"]


@asynccontextmanager
async def people(tmp_path: Path) -> AsyncIterator[People]:
    async with running(tmp_path / "state") as daemon, httpx2.AsyncClient(base_url=daemon.url) as client:
        yield People(client, daemon.key)


async def test_what_a_revoked_key_set_up_does_nothing_more(tmp_path: Path) -> None:
    async with people(tmp_path) as who:
        await who.made("/engines", {"kind": "probe", "id": "e"})
        name, key = await who.key("read", "operate")
        await who.made("/schedules", {"id": "s", "every_s": 3600, "engine": "e", "run": {"input": {}}}, key)
        hook = await who.made("/webhooks", {"url": "http://93.184.216.34/", "types": ["engine"]}, key)
        assert (await who.ask("DELETE", f"/auth/keys/{name}", who.admin))[0] == 204
        status, refused = await who.ask("POST", "/schedules/s/run", who.admin)
        assert (status, refused["type"]) == (409, "/problems/invalid-state")
        assert (await who.ask("GET", "/schedules/s", who.admin))[1]["state"] == "suspended"
        await who.made("/engines/e/commands", {"type": "pause"})
        with trio.fail_after(30):
            while (shown := (await who.ask("GET", f"/webhooks/{hook['id']}", who.admin))[1])["state"] == "active":
                await who.ask("GET", "/events?types=webhook&wait_s=1", who.admin)
        assert key not in shown["reason"]
        assert (shown["delivered"], f"key:{name}" in shown["reason"]) == (0, True)


async def test_four_eyes_see_who_stands_behind_a_schedule(tmp_path: Path) -> None:
    async with people(tmp_path) as who:
        await who.made("/pools", {"id": "p", "four_eyes": True})
        await who.made("/engines", {"kind": "probe", "id": "e", "pool": "p"})
        everything = {"scopes": ["read", "operate", "approve"]}
        await who.made("/auth/users", {"name": "ann", "password": PASSWORD, **everything})
        ann = (await who.made("/auth/login", {"username": "ann", "password": PASSWORD}))["access_token"]
        await who.made("/schedules", {"id": "s", "every_s": 3600, "engine": "e", "run": {"input": ASKS}}, ann)
        _, bob = await who.key(*everything["scopes"])
        _, carol = await who.key("approve", "read")
        assert (await who.made("/schedules/s/run", None, bob))["result"] == "fired"
        with trio.fail_after(30):
            while not (found := (await who.ask("GET", "/requests", carol))[1]["items"]):
                await who.ask("GET", "/events?types=request&wait_s=1", carol)
        answers = [
            (await who.ask("POST", f"/requests/{found[0]['id']}/reply", key, {"option": "approve"}))[0]
            for key in (ann, bob, carol)
        ]
        assert answers == [403, 403, 200]
