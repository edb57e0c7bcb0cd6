"""Rates: a window that slides, per key, with a second one for what must never starve."""

import trio
from trio.testing import MockClock

from tests.web.doubles import Client, RecordingHouse, client, page
from web.auth.keys import NewKey
from web.auth.principal import Scope


async def limited(house: RecordingHouse, rate_per_min: int) -> Client:
    asker = client(house)
    made = await asker.app.services.keys.create(  # type: ignore[attr-defined]  # the app is an Api
        NewKey(name="test", scopes=[Scope.READ, Scope.OPERATE], rate_per_min=rate_per_min)
    )
    return Client(asker.app, made.key)


async def test_the_request_beyond_the_rate_is_429_until_the_window_has_slid(autojump_clock: MockClock) -> None:
    house = RecordingHouse()
    house.gives["list"] = page()
    asker = await limited(house, 100)
    for _ in range(2):
        assert [(await asker.get("/api/v1/engines")).status for _ in range(50)] == [200] * 50
        await trio.sleep(20)
    refused = await asker.get("/api/v1/engines")
    assert (refused.status, refused.slug, refused.headers["retry-after"]) == (429, "rate-limited", "20")
    await trio.sleep(20)
    statuses = [(await asker.get("/api/v1/engines")).status for _ in range(51)]
    assert statuses == [200] * 50 + [429]


async def test_answers_say_what_is_left(autojump_clock: MockClock) -> None:
    house = RecordingHouse()
    house.gives["list"] = page()
    asker = await limited(house, 2)
    answers = [await asker.get("/api/v1/engines") for _ in range(3)]
    assert [got.headers["ratelimit-policy"] for got in answers] == ['"default";q=2;w=60'] * 3
    assert [got.headers["ratelimit"] for got in answers] == [f'"default";r={left};t=60' for left in (1, 0, 0)]


async def test_what_must_never_starve_has_a_window_of_its_own(autojump_clock: MockClock) -> None:
    house = RecordingHouse()
    house.gives["list"] = page()
    asker = await limited(house, 1)
    assert [(await asker.get("/api/v1/engines")).status for _ in range(2)] == [200, 429]
    assert (await asker.post("/api/v1/engines/a/commands", {"type": "nope"})).status == 422
    assert (await asker.post("/api/v1/engines/a/commands", {"type": "nope"})).status == 429


async def test_health_and_the_admin_key_are_not_limited(autojump_clock: MockClock) -> None:
    house = RecordingHouse()
    house.gives["list"] = page()
    asker = await limited(house, 1)
    assert [(await asker.get("/health/live")).status for _ in range(5)] == [200] * 5
    admin = client(house)
    answers = [await admin.get("/api/v1/engines") for _ in range(150)]
    assert {got.status for got in answers} == {200}
    assert not any("ratelimit" in got.headers for got in answers)
