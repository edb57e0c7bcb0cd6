"""Who may what: every route with every kind of key. A route that is added is in here by itself."""

from typing import Any

import pytest

from protocol.errors import NotFound
from tests.web.doubles import Client, MemoryTable, RecordingHouse, client, identity
from web.auth import Identity, Keys, Scope
from web.auth.engine_tokens import EngineTokens
from web.auth.keys import NewKey
from web.auth.users import NewUser
from web.route import NO_BODY, Route
from web.routes import ROUTES

# A body that fits, where one is required; a route without its line here fails the test below.
BODIES: dict[str, Any] = {
    "spawn_engine": {"kind": "probe"},
    "put_engine": {"kind": "probe"},
    "send_command": {"type": "start"},
    "submit_run": {"input": 1},
    "reply_request": {"option": "yes"},
    "create_pool": {"id": "p"},
    "patch_pool": {},
    "command_pool": {"type": "pause"},
    "create_key": {"name": "k", "scopes": ["read"]},
    "create_schedule": {"cron": "0 3 * * *", "engine": "x", "run": {"input": 1}},
    "patch_schedule": {"enabled": True},
    "create_webhook": {"url": "https://hooks.example/"},
    "patch_webhook": {},
    "create_user": {"name": "u", "password": "long enough by far", "scopes": ["read"]},
    "patch_user": {},
    "login": {"username": "u", "password": "not the one"},
    "refresh": {"refresh_token": "none"},
    "create_ticket": {"path": "/api/v1/events"},
}
PASSWORD = "long enough by far"
ENTRANCES = {"login", "refresh", "exchange_key"}
"""Public, and 401 for whoever has nothing to log in with."""


class Refusing(RecordingHouse):
    """Knows nothing: whoever is let through gets 404."""

    def __getattr__(self, name: str) -> Any:
        self.gives.setdefault(name, NotFound("no"))
        return super().__getattr__(name)


def asked(route: Route) -> tuple[str, Any]:
    path = "/".join("x" if part.startswith("{") else part for part in route.path.split("/"))
    return path, BODIES.get(route.operation)


def test_every_route_that_needs_a_body_has_one_here() -> None:
    assert {r.operation for r in ROUTES if r.body is not NO_BODY and r.body_default is NO_BODY} == set(BODIES)


WALK = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation)


def walker(**more: Any) -> tuple[Client, Identity]:
    house = Refusing()
    house.gives["events"] = NotFound("no")
    who = identity(**more)
    return client(house, key=None, identity=who), who


def may(route: Route, scope: Scope) -> bool:
    return not isinstance(route.scope, Scope) or scope in {route.scope, Scope.ADMIN}


async def status(asker: Client, route: Route, key: str | None, **headers: str) -> int:
    path, body = asked(route)
    return (await Client(asker.app, key).ask(route.method, path, body, headers)).status


@WALK
async def test_each_kind_of_key_gets_what_it_may(route: Route) -> None:
    asker, who = walker()
    public = route.scope is None
    for key in (None, "wrong", "eh_000000000000_" + "x" * 43):
        assert (await status(asker, route, key) != 401) == public or route.operation in ENTRANCES, key
    for scope in Scope:
        made = await who.keys.create(NewKey(name=scope, scopes=[scope]))
        got = await status(asker, route, made.key)
        assert (got not in {401, 403}) == may(route, scope) or route.operation in ENTRANCES, scope
        await who.keys.revoke(made.id)
        assert (await status(asker, route, made.key) != 401) == public or route.operation in ENTRANCES, scope


@WALK
async def test_each_kind_of_user_gets_what_they_may(route: Route) -> None:
    asker, who = walker()
    if route.scope is None:
        return
    for scope in Scope:
        await who.users.create(NewUser(name=scope, password=PASSWORD, scopes=[scope]))
        login = await who.login(scope, PASSWORD, address="127.0.0.1", cookie=True)
        assert (await status(asker, route, login.access_token) not in {401, 403}) == may(route, scope), scope
        login = await who.login(scope, PASSWORD, address="127.0.0.1", cookie=True)  # one of the routes is logout
        cookie = f"enginehouse_session={login.cookie}"
        allowed = may(route, scope) and route.method == "GET"
        assert (await status(asker, route, None, cookie=cookie) not in {401, 403}) == allowed, scope
        for none in (login.refresh_token, login.cookie, who.ticket(login.principal, "/api/v1/events")):
            assert await status(asker, route, none) == 401
        await who.logout(login.principal)
        assert await status(asker, route, login.access_token) == 401


@WALK
async def test_an_engines_own_token_reads_and_operates_and_no_more(route: Route) -> None:
    alive: dict[str, int] = {"eng_1": 2}
    asker, who = walker(engines=EngineTokens(alive.get))
    if route.scope is None:
        return
    token = who.engines.mint("eng_1", 2, "default")
    allowed = not isinstance(route.scope, Scope) or route.scope in {Scope.READ, Scope.OPERATE}
    assert (await status(asker, route, token) not in {401, 403}) == allowed
    alive["eng_1"] = 3
    assert await status(asker, route, token) == 401


async def test_a_key_of_another_house_opens_nothing() -> None:
    other = Keys(MemoryTable(), "another-admin-key-that-is-long-enough", wall=lambda: 0.0)
    made = await other.create(NewKey(name="k", scopes=[Scope.ADMIN]))
    assert (await client(RecordingHouse(), key=made.key).get("/api/v1/auth/whoami")).status == 401
