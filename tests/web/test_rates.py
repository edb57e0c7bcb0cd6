"""Rates: a window that slides, per key, with a second one for what must never starve, and one per failing address."""

import pytest
import trio
from trio.testing import MockClock

from protocol.authority import Authority
from protocol.errors import InvalidState, RateLimited, Unauthenticated
from tests.web.doubles import ADMIN, Client, RecordingHouse, client, page
from web.auth import Failures, Principal, Rates
from web.auth.keys import NewKey
from web.auth.principal import Scope
from web.auth.rates import ADDRESSES
from web.limits import Limits

COMMANDS = "/api/v1/engines/a/commands"


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
    house.gives |= {"list": page(), "command": InvalidState("no")}
    asker = await limited(house, 1)
    assert [(await asker.get("/api/v1/engines")).status for _ in range(2)] == [200, 429]
    answers = [await asker.post(COMMANDS, {"type": "pause"}) for _ in range(2)]
    assert [got.status for got in answers] == [409, 429]
    assert [got.headers["ratelimit"] for got in answers] == ['"urgent";r=0;t=60'] * 2


@pytest.mark.parametrize(
    "plain", [{"type": "submit", "input": 1}, {"type": "signal", "name": "s"}, {"type": "start"}, {"type": "restart"}]
)
async def test_work_never_takes_the_place_of_a_pause(plain: dict[str, object], autojump_clock: MockClock) -> None:
    house = RecordingHouse()
    house.gives["command"] = InvalidState("no")
    asker = await limited(house, 2)
    answers = [await asker.post(COMMANDS, plain) for _ in range(10)]
    assert [got.status for got in answers] == [409] * 2 + [429] * 8
    assert {got.headers["ratelimit-policy"] for got in answers} == {'"default";q=2;w=60'}
    assert [got.headers.get("retry-after") for got in answers] == [None] * 2 + ["60"] * 8
    statuses = [(await asker.post(COMMANDS, {"type": name})).status for name in ("pause", "cancel", "resume")]
    assert statuses == [409, 409, 429]
    assert [args[1].type for _, args, _ in house.asked].count("pause") == 1


async def test_a_pause_never_takes_the_place_of_work(autojump_clock: MockClock) -> None:
    house = RecordingHouse()
    house.gives["command"] = InvalidState("no")
    asker = await limited(house, 1)
    assert [(await asker.post(COMMANDS, {"type": "stop"})).status for _ in range(2)] == [409, 429]
    assert (await asker.post(COMMANDS, {"type": "start"})).status == 409


async def test_what_is_no_command_counts_too(autojump_clock: MockClock) -> None:
    asker = await limited(RecordingHouse(), 1)
    statuses = [(await asker.post(COMMANDS, {"type": "nope"})).status for _ in range(4)]
    assert statuses == [422, 422, 429, 429]


async def test_each_route_that_stops_something_is_urgent(autojump_clock: MockClock) -> None:
    house = RecordingHouse()
    no = InvalidState("no")
    house.gives = {"list": page(), "dispose": no, "command_pool": no, "cancel_run": no, "reply": no}
    for method, path, body in (
        ("DELETE", "/api/v1/engines/a", None),
        ("POST", "/api/v1/pools/p/commands", {"type": "pause"}),
        ("POST", "/api/v1/runs/r/cancel", {}),
        ("POST", "/api/v1/requests/r/reply", {"option": "yes"}),
    ):
        asker = await limited(house, 1)
        assert (await asker.get("/api/v1/engines")).status == 200
        got = await asker.ask(method, path, body, {})
        assert got.headers["ratelimit-policy"].startswith('"urgent"'), path
        assert got.status != 429, path


async def test_health_and_the_admin_key_are_not_limited(autojump_clock: MockClock) -> None:
    house = RecordingHouse()
    house.gives |= {"list": page(), "health": InvalidState("no")}
    asker = await limited(house, 1)
    for path in ("/health/live", "/health", "/health/ready", "/api/v1/health"):
        answers = [await asker.get(path) for _ in range(5)]
        assert not any(got.status == 429 or "ratelimit" in got.headers for got in answers), path
    admin = client(house)
    answers = [await admin.get("/api/v1/engines") for _ in range(150)]
    assert {got.status for got in answers} == {200}
    assert not any("ratelimit" in got.headers for got in answers)


async def test_a_key_without_a_rate_of_its_own_gets_the_configured_one(autojump_clock: MockClock) -> None:
    keys = client(RecordingHouse()).app.services.keys  # type: ignore[attr-defined]  # the app is an Api
    assert (await keys.create(NewKey(name="k", scopes=[Scope.READ]))).rate_per_min == 100
    keys.rate_per_min = 7
    assert (await keys.create(NewKey(name="k", scopes=[Scope.READ]))).rate_per_min == 7


async def test_idle_keys_are_forgotten(autojump_clock: MockClock) -> None:
    rates = Rates()
    for number in range(1000):
        principal = Principal(name=f"key:{number}", authority=Authority(scopes=frozenset()), rate=10)
        rates.take(principal, urgent=number % 2 == 0)
        await trio.sleep(1)
    assert len(rates) <= 61


# Failures, by address.


async def test_an_address_that_keeps_failing_is_told_to_wait(autojump_clock: MockClock) -> None:
    asker = client(RecordingHouse(), key="wrong", limits=Limits(failures_per_min=3))
    answers = [await asker.get("/api/v1/engines") for _ in range(5)]
    assert [got.status for got in answers] == [401] * 3 + [429] * 2
    assert (answers[3].slug, answers[3].headers["retry-after"]) == ("rate-limited", "60")
    assert (await Client(asker.app, None).get("/api/v1/engines")).status == 429
    await trio.sleep(61)
    assert (await asker.get("/api/v1/engines")).status == 401


async def test_good_credentials_are_never_held_back_by_somebody_elses_bad_ones(autojump_clock: MockClock) -> None:
    house = RecordingHouse()
    house.gives["list"] = page()
    asker = client(house, key="wrong", limits=Limits(failures_per_min=1))
    assert [(await asker.get("/api/v1/engines")).status for _ in range(2)] == [401, 429]
    assert (await Client(asker.app, ADMIN).get("/api/v1/engines")).status == 200


def failing(failures: Failures, address: str) -> type[Exception]:
    with pytest.raises((Unauthenticated, RateLimited)) as caught, failures.counted({"client": (address, 1)}):
        raise Unauthenticated("no")
    return caught.type


async def test_addresses_are_told_apart_and_their_table_is_bounded(autojump_clock: MockClock) -> None:
    failures = Failures(1)
    assert [failing(failures, "a"), failing(failures, "a"), failing(failures, "b")] == [
        Unauthenticated,
        RateLimited,
        Unauthenticated,
    ]
    assert [failing(failures, f"2001:db8::{number}") for number in (1, 2)] == [Unauthenticated, RateLimited]
    for number in range(2 * ADDRESSES):
        failing(failures, f"2001:db8:{number:x}::1")
    assert len(failures) == ADDRESSES
    await trio.sleep(61)
    failing(failures, "a")
    assert len(failures) == 1
