"""Schedules over HTTP: each answer, what is refused and why, and whose they are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from protocol.authority import Authority, Scope
from protocol.bodies import NewPool
from supervisor import EmbeddedHouse
from supervisor.schedules import Schedules, open_schedules
from tests.supervisor.houses import KINDS, a_house, journaled, spawn, wall
from tests.web.doubles import Client, RecordingHouse, api, client
from web.audit import Audited, Strangers
from web.auth import Principal
from web.guard import Guard

SCHEDULES = "/api/v1/schedules"
NIGHTLY: dict[str, Any] = {"id": "nightly", "cron": "0 3 * * *", "engine": "e", "run": {"input": 0}}


class Tenant(Client):
    """A client whose every key is one of the pool `a`."""

    def __init__(self, schedules: Schedules, house: EmbeddedHouse) -> None:
        app = api(house, schedules=schedules)
        authority = Authority(scopes=frozenset({Scope.READ, Scope.OPERATE}), pools=frozenset({"a"}))
        app.services.keys.principal = lambda presented: Principal(  # type: ignore[method-assign]  # keys have no pools
            name="key:a", authority=authority
        )
        super().__init__(app)


@asynccontextmanager
async def asking(**options: Any) -> AsyncIterator[tuple[Client, EmbeddedHouse]]:
    async with a_house(kinds=KINDS, threads=False) as house, open_schedules(house, **options) as schedules:
        asker = client(house, schedules=schedules)
        await spawn(house, "e")
        yield asker, house
        asker.check()


async def test_a_schedule_is_created_shown_listed_changed_run_and_deleted(autojump_clock: Any) -> None:
    async with asking() as (asker, _):
        made = await asker.post(SCHEDULES, NIGHTLY)
        assert (made.status, made.headers["location"]) == (201, f"{SCHEDULES}/nightly")
        assert made.json["next_at"] == "2026-01-01T03:00:00.000Z"
        assert (made.json["overlap"], made.json["catch_up"], made.json["created_by"]) == ("skip", "one", "key:admin")
        assert (await asker.get(f"{SCHEDULES}/nightly")).json == made.json
        assert (await asker.get(SCHEDULES)).json == {"items": [made.json], "next_cursor": None}

        off = await asker.patch(f"{SCHEDULES}/nightly", {"enabled": False})
        assert (off.json["state"], off.json["next_at"]) == ("disabled", None)
        assert (await asker.patch(f"{SCHEDULES}/nightly", {"enabled": True})).json["state"] == "active"

        ran = await asker.post(f"{SCHEDULES}/nightly/run", idempotency_key="k")
        assert (ran.status, ran.json["result"], ran.json["due_at"]) == (200, "fired", None)
        again = await asker.post(f"{SCHEDULES}/nightly/run", idempotency_key="k")
        assert again.json["run_id"] == ran.json["run_id"]
        run = (await asker.get(f"/api/v1/runs/{ran.json['run_id']}")).json
        assert run["engine_id"] == "e"
        await trio.sleep(3 * 3600 + 1)
        assert (await asker.get(f"{SCHEDULES}/nightly")).json["last"]["due_at"] == "2026-01-01T03:00:00.000Z"

        assert (await asker.delete(f"{SCHEDULES}/nightly")).status == 204
        assert (await asker.get(f"{SCHEDULES}/nightly")).slug == "not-found"
        assert (await asker.delete(f"{SCHEDULES}/nightly")).slug == "not-found"


async def test_a_list_is_given_in_pages(autojump_clock: Any) -> None:
    async with asking() as (asker, _):
        for number in range(5):
            await asker.post(SCHEDULES, NIGHTLY | {"id": f"s{number}"})
        seen: list[str] = []
        cursor = ""
        while True:
            page = (await asker.get(f"{SCHEDULES}?limit=2{cursor}")).json
            seen += [item["id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor'].replace(' ', '%20')}"
            await asker.delete(f"{SCHEDULES}/{seen[-1]}")
        assert seen == [f"s{number}" for number in range(5)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cron": "0 3 * *"},
        {"cron": "61 3 * * *"},
        {"cron": 5},
        {"cron": "0 3 * * *", "every_s": 60},
        {"cron": None},
        {"cron": None, "every_s": 0.5},
        {"cron": None, "every_s": 1e12},
        {"timezone": "Moon/Tranquility"},
        {"timezone": "../../etc/passwd"},
        {"engine": None},
        {"pool": "default"},
        {"engine": None, "pool": "default"},
        {"engine": None, "pool": "default", "key": "k"},
        {"key": "k"},
        {"run": None},
        {"run": {}},
        {"command": {"type": "pause"}},
        {"run": None, "command": {"type": "dispose"}},
        {"run": None, "command": {"type": "approve"}},
        {"run": None, "command": {"type": "pause", "extra": 1}},
        {"overlap": "both"},
        {"catch_up": "some"},
        {"jitter_s": -1},
        {"jitter_s": 3601},
        {"id": "UPPER"},
        {"id": "../x"},
        {"enabled": 1},
        {"extra": 1},
    ],
    ids=str,
)
async def test_what_cannot_be_meant_is_422_and_nothing_is_made(wrong: dict[str, Any], autojump_clock: Any) -> None:
    async with asking() as (asker, _):
        got = await asker.post(SCHEDULES, NIGHTLY | wrong)
        assert (got.status, got.json["errors"] != []) == (422, True)
        assert got.json["detail"].endswith(".")
        assert (await asker.get(SCHEDULES)).json["items"] == []


async def test_what_is_not_there_is_taken_or_is_too_much_is_told(autojump_clock: Any) -> None:
    async with asking(max=1) as (asker, house):
        assert (await asker.post(SCHEDULES, NIGHTLY | {"engine": "nobody"})).slug == "not-found"
        assert (await asker.post(SCHEDULES, NIGHTLY | {"engine": None, "pool": "p", "key": "k"})).slug == "not-found"
        await asker.post(SCHEDULES, NIGHTLY)
        assert (await asker.post(SCHEDULES, NIGHTLY)).slug == "engine-exists"
        full = await asker.post(SCHEDULES, NIGHTLY | {"id": "other"})
        assert (full.status, full.slug) == (429, "quota-exceeded")
        assert (await asker.patch(f"{SCHEDULES}/other", {"enabled": True})).slug == "not-found"
        assert (await asker.post(f"{SCHEDULES}/other/run")).slug == "not-found"
        await asker.delete(f"{SCHEDULES}/nightly")
        await house.dispose("e")
        assert (await asker.post(SCHEDULES, NIGHTLY)).slug == "engine-disposed"


async def test_each_request_that_changes_something_leaves_one_audit_row(autojump_clock: Any) -> None:
    async with asking() as (plain, house):
        asker = Client(Audited(Guard(plain.app), house, Strangers(house, wall=wall)), guard=None)
        await asker.post(SCHEDULES, NIGHTLY)
        await asker.post(SCHEDULES, NIGHTLY)
        await asker.post(f"{SCHEDULES}/nightly/run")
        await asker.patch(f"{SCHEDULES}/nightly", {"enabled": False})
        await asker.delete(f"{SCHEDULES}/nightly")
        rows = await journaled(house.supervisor.store, lambda row: row.type.startswith("audit."))
        assert [(row.data["operation"], row.data["outcome"]) for row in rows] == [
            ("create_schedule", "accepted"), ("create_schedule", "refused"), ("run_schedule", "accepted"),
            ("patch_schedule", "accepted"), ("delete_schedule", "accepted"),
        ]  # fmt: skip


async def test_a_key_of_one_pool_sees_and_makes_schedules_there_alone(autojump_clock: Any) -> None:
    async with asking() as (_, house), open_schedules(house) as schedules:
        for pool in "ab":
            await house.create_pool(NewPool(id=pool))
            await spawn(house, f"in-{pool}", pool=pool)
        everybody = client(house, schedules=schedules)
        pool_of_a = Tenant(schedules, house)
        await everybody.post(SCHEDULES, NIGHTLY | {"id": "of-b", "engine": "in-b"})
        assert (await pool_of_a.post(SCHEDULES, NIGHTLY | {"engine": "in-b"})).slug == "not-found"
        assert (await pool_of_a.post(SCHEDULES, NIGHTLY | {"engine": "in-a"})).status == 201
        assert [item["id"] for item in (await pool_of_a.get(SCHEDULES)).json["items"]] == ["nightly"]
        assert (await pool_of_a.get(f"{SCHEDULES}/of-b")).slug == "not-found"
        assert (await pool_of_a.delete(f"{SCHEDULES}/of-b")).slug == "not-found"


async def test_a_house_without_schedules_has_none() -> None:
    asker = client(RecordingHouse())
    assert (await asker.get(SCHEDULES)).slug == "not-found"
