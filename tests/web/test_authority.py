"""Who may what: every route with every kind of key. A route that is added is in here by itself."""

from typing import Any

import pytest

from protocol.errors import NotFound
from tests.web.doubles import Client, MemoryKeys, RecordingHouse, client
from web.auth import Keys
from web.auth.keys import NewKey
from web.auth.principal import Scope
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
}


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


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation)
async def test_each_kind_of_key_gets_what_it_may(route: Route) -> None:
    house = Refusing()
    house.gives["events"] = NotFound("no")
    asker = client(house, key=None)
    keys: Keys = asker.app.services.keys  # type: ignore[attr-defined]  # the app is an Api
    path, body = asked(route)
    public = route.scope is None
    for key in (None, "wrong", "eh_000000000000_" + "x" * 43):
        got = await Client(asker.app, key).ask(route.method, path, body, {})
        assert (got.status != 401) == public, key
    for scope in Scope:
        made = await keys.create(NewKey(name=scope, scopes=[scope]))
        got = await Client(asker.app, made.key).ask(route.method, path, body, {})
        allowed = not isinstance(route.scope, Scope) or scope in {route.scope, Scope.ADMIN}
        assert (got.status not in {401, 403}) == allowed, scope


async def test_a_key_of_another_house_opens_nothing() -> None:
    other = Keys(MemoryKeys(), "another-admin-key-that-is-long-enough", wall=lambda: 0.0)
    made = await other.create(NewKey(name="k", scopes=[Scope.ADMIN]))
    assert (await client(RecordingHouse(), key=made.key).get("/api/v1/auth/whoami")).status == 401
