"""Coming and going: login, refresh, exchange, logout; and what a stolen or guessed secret is worth."""

from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from protocol.errors import Overloaded, StoreUnavailable, Unauthenticated
from tests.web.auth.people import AUTH, PASSWORD, Clock, House
from tests.web.doubles import ADMIN, Client
from web.auth.engine_tokens import EngineTokens
from web.auth.families import COOKIE_S, IDLE_S, LONGEST_S, MOST
from web.auth.keys import NewKey
from web.auth.logins import PER_ACCOUNT, PER_ADDRESS, Logins, LoginsStatistics
from web.auth.passwords import Passwords
from web.auth.principal import Scope
from web.auth.signing import ACCESS_S


async def test_a_login_gives_tokens_with_the_users_scopes_and_pools() -> None:
    house = House()
    await house.user("ada", "read", "operate", pools=["lab"])
    got = await house.login()
    assert got.status == 200
    assert got.json.keys() == {"access_token", "refresh_token", "token_type", "expires_in_s", "scopes"}
    assert (got.json["token_type"], got.json["expires_in_s"], got.json["scopes"]) == (
        "Bearer", 900, ["operate", "read"]
    )  # fmt: skip
    who = (await house.whoami(got.json["access_token"])).json
    assert who == {
        "principal": "user:ada",
        "scopes": ["operate", "read"],
        "pools": ["lab"],
        "expires_at": "1970-01-12T14:01:40.000Z",
    }


@pytest.mark.parametrize("name, password", [("ada", PASSWORD + "x"), ("ada", ""), ("nobody", PASSWORD), ("", "")])
async def test_a_wrong_name_and_a_wrong_password_are_one_answer(name: str, password: str) -> None:
    house = House()
    await house.user()
    got = await house.login(name, password)
    assert (got.status, got.slug) == (401, "unauthenticated")
    assert got.json["detail"] == "Check the name and the password: they are not those of a user who may log in."


async def test_nobody_is_verified_like_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    await house.user()
    verified: list[bool] = []
    passwords = house.who.users._passwords  # noqa: SLF001 - what is counted is work, which nothing else shows
    verify = passwords._hasher.verify  # noqa: SLF001 - as above

    def counting(kept: str, password: bytes) -> bool:
        verified.append(True)
        return verify(kept, password)

    monkeypatch.setattr(type(passwords._hasher), "verify", staticmethod(counting))  # noqa: SLF001 - as above
    for name in ("ada", "nobody"):
        await house.login(name, "another password")
    assert len(verified) == 2


async def test_a_refresh_works_when_the_access_token_has_expired_and_rotates() -> None:
    house = House(wall=Clock())
    await house.user()
    first = (await house.login()).json
    house.wall.now += ACCESS_S + 1
    assert (await house.whoami(first["access_token"])).slug == "token-expired"
    second = await house.stranger.post(
        f"{AUTH}/refresh", {"refresh_token": first["refresh_token"]}, authorization=f"Bearer {first['access_token']}"
    )
    assert second.status == 200
    assert second.json["refresh_token"] != first["refresh_token"]
    assert (await house.whoami(second.json["access_token"])).json["principal"] == "user:ada"
    third = await house.refresh(second.json["refresh_token"])
    assert third.status == 200


async def test_a_refresh_token_that_is_used_twice_ends_its_family_also_for_the_next_house() -> None:
    house = House()
    await house.user()
    first = (await house.login()).json
    other = (await house.login()).json
    second = (await house.refresh(first["refresh_token"])).json
    with capture_logs() as logs:
        assert (await house.refresh(first["refresh_token"])).status == 401
    assert [entry["event"] for entry in logs] == ["a refresh token was used twice: its family is over"]
    for life in (house, await house.again()):
        assert (await life.refresh(second["refresh_token"])).status == 401
        assert (await life.whoami(second["access_token"])).status == 401
    assert (await house.whoami(other["access_token"])).status == 200


async def test_of_two_refreshes_that_race_exactly_one_wins() -> None:
    house = House()
    await house.user()
    token = (await house.login()).json["refresh_token"]
    statuses: list[int] = []

    async def race() -> None:
        statuses.append((await house.refresh(token)).status)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(race)
    assert sorted(statuses) == [200, 401, 401, 401, 401]
    assert house.tables("login").docs == {}


async def test_who_guesses_at_a_familys_name_does_not_end_it() -> None:
    house = House()
    await house.user()
    given = (await house.login()).json
    family, root, secret = given["refresh_token"].removeprefix("ehr_").split("_", 1)[0], "a" * 43, "b" * 43
    assert (await house.refresh(f"ehr_{family}_{root}_{secret}")).status == 401
    assert (await house.refresh(given["refresh_token"])).status == 200


@pytest.mark.parametrize("token", ["", "x", "ehr_", f"ehr_{'0' * 24}_{'a' * 43}_{'b' * 43}", ADMIN])
async def test_what_is_no_refresh_token_is_401(token: str) -> None:
    got = await House().refresh(token)
    assert (got.status, got.slug, got.headers["www-authenticate"]) == (
        401, "unauthenticated", 'Bearer realm="enginehouse"'
    )  # fmt: skip


async def test_an_access_token_refreshes_nothing() -> None:
    house = House()
    await house.user()
    assert (await house.refresh((await house.login()).json["access_token"])).status == 401


async def test_logins_live_on_in_the_next_house_and_no_secret_is_stored() -> None:
    house = House()
    await house.user()
    given = (await house.login(cookie=True)).json
    stored = str(house.tables.of)
    stored += str({name: table.docs for name, table in house.tables.of.items()})
    token = given["refresh_token"]
    for secret in (PASSWORD, given["access_token"], token[-43:], token[-87:-44]):
        assert secret not in stored
    again = await house.again()
    again.who.access.keys = house.who.access.keys  # which are in a file
    assert (await again.whoami(given["access_token"])).status == 200
    assert (await again.refresh(given["refresh_token"])).status == 200


async def test_a_family_ends_when_it_is_not_refreshed_and_in_any_case() -> None:
    house = House(wall=Clock())
    await house.user()
    token = (await house.login()).json["refresh_token"]
    while house.wall.now - 1_000_000 < LONGEST_S - IDLE_S / 2:
        house.wall.now += IDLE_S / 2
        got = await house.refresh(token)
        if got.status != 200:
            break
        token = got.json["refresh_token"]
    assert house.wall.now - 1_000_000 == LONGEST_S - IDLE_S / 2
    house.wall.now += IDLE_S / 2
    assert (await house.refresh(token)).status == 401
    token = (await house.login()).json["refresh_token"]
    house.wall.now += IDLE_S
    assert (await house.refresh(token)).status == 401
    house.wall.now -= IDLE_S
    assert (await house.refresh(token)).status == 401, "a clock that is set back revives nothing"


async def test_what_is_over_leaves_the_store(autojump_clock: MockClock) -> None:
    house = House(wall=Clock())
    await house.user()
    await house.login()
    house.wall.now += IDLE_S
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.who.tend)
        await trio.sleep(1)
        assert house.tables("login").docs == {}
        nursery.cancel_scope.cancel()


async def test_a_clock_that_was_set_back_before_a_restart_revives_nothing_from_before_the_last_login() -> None:
    house = House(wall=Clock())
    made = await house.who.keys.create(NewKey(name="k", scopes=[Scope.READ], expires_in_s=100))
    await house.user()
    house.wall.now += 200
    await house.login()
    house.wall.now -= 150
    with pytest.raises(Unauthenticated):
        (await house.again()).who.holder(made.key)


async def test_the_oldest_login_ends_when_there_are_too_many() -> None:
    house = House()
    await house.user()
    first, *others = [(await house.login()).json for _ in range(MOST + 1)]
    assert (await house.whoami(first["access_token"])).status == 401
    assert (await house.whoami(others[0]["access_token"])).status == 200
    assert len(house.tables("login").docs) == MOST


async def test_logout_ends_this_login_alone_for_good() -> None:
    house = House()
    await house.user()
    one, other = [(await house.login()).json for _ in range(2)]
    user = Client(house.admin.app, one["access_token"])
    principal = house.who.holder(one["access_token"])
    assert principal.standing().has(Scope.READ)
    got = await user.post(f"{AUTH}/logout")
    with pytest.raises(Unauthenticated):
        principal.standing()
    assert (got.status, got.body) == (204, b"")
    for life in (house, await house.again()):
        life.who.access.keys = house.who.access.keys
        assert (await life.whoami(one["access_token"])).status == 401
        assert (await life.refresh(one["refresh_token"])).status == 401
        assert (await life.whoami(other["access_token"])).status == 200


async def test_logout_with_a_key_ends_nothing() -> None:
    house = House()
    assert (await house.admin.post(f"{AUTH}/logout")).status == 204
    assert (await house.admin.get(f"{AUTH}/whoami")).status == 200


CHANGES: dict[str, Any] = {
    "password": {"password": "another password"},
    "scopes": {"scopes": ["read", "approve"]},
    "pools": {"pools": ["lab"]},
    "disabled": {"disabled": True},
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_of_a_user_ends_their_logins_at_once_and_for_good(change: str) -> None:
    house = House()
    await house.user()
    given = (await house.login(cookie=True)).json
    principal = house.who.holder(given["access_token"])
    assert (await house.admin.patch(f"{AUTH}/users/ada", CHANGES[change])).status == 200
    with pytest.raises(Unauthenticated):
        principal.standing()
    for life in (house, await house.again()):
        assert (await life.whoami(given["access_token"])).status == 401
        assert (await life.refresh(given["refresh_token"])).status == 401


async def test_a_change_of_the_rate_ends_nothing() -> None:
    house = House()
    await house.user()
    given = (await house.login()).json
    assert (await house.admin.patch(f"{AUTH}/users/ada", {"rate_per_min": 5})).json["rate_per_min"] == 5
    assert (await house.whoami(given["access_token"])).headers["ratelimit-policy"] == '"default";q=5;w=60'


async def test_somebody_else_of_the_same_name_does_not_inherit_a_login() -> None:
    house = House()
    await house.user()
    given = (await house.login()).json
    assert (await house.admin.delete(f"{AUTH}/users/ada")).status == 204
    assert (await house.whoami(given["access_token"])).status == 401
    await house.user()
    assert (await house.whoami(given["access_token"])).status == 401
    assert (await house.refresh(given["refresh_token"])).status == 401


# -- in exchange for a key ---------------------------------------------------------------------------------------------
async def test_a_key_is_exchanged_for_tokens_that_are_it_and_end_with_it() -> None:
    house = House()
    made = await house.admin.post(f"{AUTH}/keys", {"name": "ci", "scopes": ["operate"], "pools": ["lab"]})
    got = await house.stranger.post(f"{AUTH}/api-key", x_api_key=made.json["key"])
    assert got.json["scopes"] == ["operate"]
    who = (await house.whoami(got.json["access_token"])).json
    assert (who["principal"], who["pools"]) == (f"key:{made.json['id']}", ["lab"])
    refreshed = (await house.refresh(got.json["refresh_token"])).json
    principal = house.who.holder(refreshed["access_token"])
    assert principal.rate == 100
    await house.admin.delete(made.headers["location"])
    with pytest.raises(Unauthenticated):
        principal.standing()
    assert (await house.whoami(refreshed["access_token"])).status == 401
    assert (await house.refresh(refreshed["refresh_token"])).status == 401


async def test_tokens_of_a_key_end_when_it_expires() -> None:
    house = House(wall=Clock())
    made = await house.who.keys.create(NewKey(name="ci", scopes=[Scope.READ], expires_in_s=60))
    given = (await house.stranger.post(f"{AUTH}/api-key", x_api_key=made.key)).json
    house.wall.now += 60
    assert (await house.whoami(given["access_token"])).status == 401
    assert (await house.refresh(given["refresh_token"])).status == 401
    await house.who.families.sweep()
    assert house.tables("login").docs == {}


async def test_tokens_of_the_admin_key_end_when_there_is_another() -> None:
    house = House()
    given = (await house.stranger.post(f"{AUTH}/api-key", x_api_key=ADMIN)).json
    assert (await house.whoami(given["access_token"])).json["principal"] == "key:admin"
    house.more = {"admin": ADMIN + "-of-the-next-life", "signing": house.who.access.keys}
    again = await house.again()
    assert (await again.whoami(given["access_token"])).status == 401
    assert (await again.refresh(given["refresh_token"])).status == 401


@pytest.mark.parametrize("enable_auth", [True, False])
async def test_an_invalid_key_is_exchanged_for_nothing_in_every_mode(enable_auth: bool) -> None:
    house = House(enable_auth=enable_auth)
    for headers in ({}, {"x_api_key": "wrong"}, {"x_api_key": "eh_000000000000_" + "x" * 43}, {"x_api_key": ""}):
        got = await house.stranger.post(f"{AUTH}/api-key", **headers)
        assert (got.status, got.slug) == (401, "unauthenticated")
    got = await house.stranger.post(f"{AUTH}/api-key", x_api_key=ADMIN, authorization="Bearer other")
    assert got.status == 401


# -- failures ----------------------------------------------------------------------------------------------------------
async def test_ten_failures_a_minute_and_then_not_even_the_right_password(autojump_clock: MockClock) -> None:
    house = House()
    await house.user()
    assert [(await house.login("ada", "wrong password")).status for _ in range(PER_ADDRESS)] == [401] * PER_ADDRESS
    await trio.sleep(20)
    got = await house.login()
    assert (got.status, got.slug, got.headers["retry-after"]) == (429, "rate-limited", "40")
    await trio.sleep(40)
    assert (await house.login()).status == 200


async def test_logins_that_succeed_do_not_count(autojump_clock: MockClock) -> None:
    house = House()
    await house.user()
    assert {(await house.login()).status for _ in range(3 * PER_ADDRESS)} == {200}


async def test_attempts_at_the_same_time_are_counted_before_they_fail(autojump_clock: MockClock) -> None:
    house = House()
    statuses: list[int] = []

    async def guess() -> None:
        statuses.append((await house.login("ada", "wrong password")).status)

    async with trio.open_nursery() as nursery:
        for _ in range(25):
            nursery.start_soon(guess)
    assert (statuses.count(401), statuses.count(429)) == (PER_ADDRESS, 15)


async def test_an_attempt_that_was_not_looked_at_does_not_count(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House()
    await house.user()

    async def busy(*_: Any) -> bool:
        raise Overloaded("Try again soon.", retry_after_s=1)

    with monkeypatch.context() as patch:
        patch.setattr(Passwords, "verify", busy)
        assert {(await house.login()).status for _ in range(2 * PER_ADDRESS)} == {503}
    assert (await house.login()).status == 200


async def test_who_guesses_from_many_places_is_slowed_and_does_not_lock_the_owner_out(
    autojump_clock: MockClock,
) -> None:
    house = House()
    await house.user()
    who = house.who
    await who.login("ada", PASSWORD, address="192.0.2.1")
    for n in range(PER_ACCOUNT):
        with pytest.raises(Unauthenticated):
            await who.login("ada", "wrong password", address=f"198.51.100.{n}")
    with pytest.raises(Exception, match="too many logins failed"):
        await who.login("ada", PASSWORD, address="198.51.100.200")
    await who.login("ada", PASSWORD, address="192.0.2.1")


async def test_the_tables_of_failures_are_bounded_and_a_network_of_ipv6_is_one(autojump_clock: MockClock) -> None:
    logins = Logins()
    for n in range(PER_ADDRESS):
        logins.attempt(f"2001:db8::{n:x}", f"user{n}")
    with pytest.raises(Exception, match="too many logins failed"):
        logins.attempt("2001:db8::ffff", "ada")
    logins.attempt("2001:db8:0:1::1", "ada")
    for n in range(10_000):
        logins.attempt(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", f"user{n}")
    assert logins.statistics() == LoginsStatistics(4096, 4096)


async def test_a_store_that_fails_gives_no_tokens_and_leaves_the_old_one_good() -> None:
    house = House()
    await house.user()
    token = (await house.login()).json["refresh_token"]
    table = house.tables("login")
    table.fails = StoreUnavailable("The disk is full.")
    assert (await house.refresh(token)).status == 503
    table.fails = None
    assert (await house.refresh(token)).status == 200


# -- the session cookie ------------------------------------------------------------------------------------------------
async def test_a_cookie_is_set_when_asked_for_and_reads_and_no_more() -> None:
    house = House()
    await house.user("ada", "read", "operate")
    assert "set-cookie" not in (await house.login()).headers
    got = await house.login(cookie=True)
    value, *attributes = got.headers["set-cookie"].split("; ")
    assert attributes == ["Path=/", f"Max-Age={COOKIE_S}", "HttpOnly", "SameSite=Strict"]
    assert value.startswith("enginehouse_session=ehs_")
    assert got.headers["cache-control"] == "no-store"
    who = await house.stranger.get(f"{AUTH}/whoami", cookie=f"a=b; {value}")
    assert who.json["principal"] == "user:ada"
    for write in (
        await house.stranger.post("/api/v1/engines", {"kind": "probe"}, cookie=value),
        await house.stranger.delete("/api/v1/engines/a", cookie=value),
        await house.stranger.post(f"{AUTH}/logout", cookie=value),
        await house.stranger.post(f"{AUTH}/ticket", {"path": "/api/v1/events"}, cookie=value),
    ):
        assert write.status == 401


async def test_a_cookie_of_another_secret_or_family_is_refused() -> None:
    house = House()
    await house.user()
    one, other = [(await house.login(cookie=cookie)) for cookie in (True, False)]
    name, _, value = one.headers["set-cookie"].partition(";")[0].partition("=")
    family = other.json["refresh_token"].split("_")[1]
    for wrong in (value[:-43] + "x" * 43, f"ehs_{family}_{value[-43:]}", value[:-1], value + "x", "", other.body):
        assert (await house.stranger.get(f"{AUTH}/whoami", cookie=f"{name}={wrong!s}")).status == 401


async def test_a_cookie_is_of_this_origin_alone() -> None:
    from web.auth.credentials import cookie_of

    def found(**headers: str) -> str | None:
        fields = {"host": "localhost", "cookie": "enginehouse_session=x"} | headers
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
        return cookie_of({"method": "GET", "scheme": "http", "headers": named})

    assert found() == "x"
    assert found(origin="http://localhost", sec_fetch_site="same-origin") == "x"
    assert found(sec_fetch_site="none") == "x"
    for foreign in ("same-site", "cross-site"):
        assert found(sec_fetch_site=foreign) is None
    for origin in ("http://localhost:3000", "https://localhost", "null", "https://listed.example"):
        assert found(origin=origin) is None
    assert found(cookie="enginehouse_session=x; enginehouse_session=y") is None
    assert found(cookie="__Host-enginehouse_session=x") is None


async def test_under_tls_a_cookie_is_bound_to_this_host() -> None:
    from web.auth.credentials import cleared_cookie, set_cookie

    scope = {"scheme": "https", "headers": []}
    name, text = set_cookie(scope, "x", 5)
    assert (name, text) == (
        b"set-cookie",
        b"__Host-enginehouse_session=x; Path=/; Max-Age=5; HttpOnly; SameSite=Strict; Secure",
    )
    assert b"__Host-enginehouse_session=; Path=/; Max-Age=0;" in cleared_cookie(scope)[1]


async def test_a_cookie_yields_to_what_is_said_and_ends_with_its_login() -> None:
    house = House(wall=Clock())
    await house.user()
    got = await house.login(cookie=True)
    cookie = got.headers["set-cookie"].partition(";")[0]
    assert (await house.admin.get(f"{AUTH}/whoami", cookie=cookie)).json["principal"] == "key:admin"
    user = Client(house.admin.app, got.json["access_token"])
    cleared = await user.post(f"{AUTH}/logout", cookie=cookie)
    assert cleared.headers["set-cookie"].startswith("enginehouse_session=; Path=/; Max-Age=0")
    assert (await house.stranger.get(f"{AUTH}/whoami", cookie=cookie)).status == 401


async def test_a_cookie_is_good_for_half_a_day_after_the_last_refresh() -> None:
    house = House(wall=Clock())
    await house.user()
    got = await house.login(cookie=True)
    cookie = got.headers["set-cookie"].partition(";")[0]
    house.wall.now += COOKIE_S - 1
    assert (await house.refresh(got.json["refresh_token"])).status == 200
    house.wall.now += COOKIE_S - 1
    assert (await house.stranger.get(f"{AUTH}/whoami", cookie=cookie)).status == 200
    house.wall.now += 1
    assert (await house.stranger.get(f"{AUTH}/whoami", cookie=cookie)).status == 401


async def test_an_exchange_sets_the_cookie_too() -> None:
    house = House()
    got = await house.stranger.post(f"{AUTH}/api-key", {"cookie": True}, x_api_key=ADMIN)
    cookie = got.headers["set-cookie"].partition(";")[0]
    assert (await house.stranger.get(f"{AUTH}/whoami", cookie=cookie)).json["principal"] == "key:admin"


# -- without auth ------------------------------------------------------------------------------------------------------
async def test_without_auth_what_is_presented_is_still_verified() -> None:
    alive = {"eng_1": 1}
    house = House(enable_auth=False, engines=EngineTokens(alive.get))
    await house.user()
    given = (await house.login()).json
    assert (await house.stranger.get(f"{AUTH}/whoami")).json == {
        "principal": "dev", "scopes": ["admin"], "pools": None, "expires_at": None,
    }  # fmt: skip
    assert (await house.whoami(given["access_token"])).json["principal"] == "user:ada"
    assert (await house.whoami(given["access_token"] + "x")).status == 401
    token = house.who.engines.mint("eng_1", 1, "lab")
    assert (await house.whoami(token)).json["principal"] == "engine:eng_1"
    assert (await house.stranger.get(f"{AUTH}/keys", authorization=f"Bearer {token}")).status == 403
    assert (await house.stranger.get(f"{AUTH}/whoami", cookie="enginehouse_session=old")).json["principal"] == "dev"
