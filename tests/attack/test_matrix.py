"""The authorisation matrix over HTTP: every route with every kind of credential gets what `matrix.py` says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import trio

from tests.attack.matrix import ALL, MAKERS, ROWS, Credential, Row, World, expected
from tests.attack.target import Target, ended, in_parallel, started
from web.route import Route
from web.routes import ROUTES

ROUTE_OF = {route.operation: route for route in ROUTES}


@pytest.fixture(scope="module")
def world(shared: Target) -> World:
    world = World(shared)
    trio.run(world.make)
    return world


@pytest.fixture(scope="module")
def credentials(world: World) -> dict[str, Credential]:
    found: dict[str, Credential] = {}

    async def make(name: str) -> None:
        found[name] = await MAKERS[name](world)

    trio.run(in_parallel, 4, [partial(make, name) for name in MAKERS])
    return found


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert {name.partition(":")[0] for name in ROWS} == set(ROUTE_OF)


def test_a_row_says_of_a_route_what_the_route_says_of_itself() -> None:
    """Two accounts of one thing: where they differ one of them is wrong."""
    for name, row in ROWS.items():
        operation, _, command = name.partition(": ")
        route = ROUTE_OF[operation]
        assert (route.scopes.get(command, route.scope) or None) == row.needs, name


async def ask(world: World, route: Route, row: Row, credential: Credential, method: str, wanted: int) -> int:
    """The status. What a request ends is made for those alone who may, so a second one of the others finds it gone."""
    fresh = await world.fresh(route.operation, refused=wanted in {401, 403})
    path = route.path.format_map({**world.there, **credential.there, **fresh})
    query = f"?{row.asks}" if row.asks else ""
    answer = await world.target.ask(
        method, path + query, row.body, *credential.headers, "Accept: application/json", key=None
    )
    return answer.status


async def all_ask(world: World, credentials: dict[str, Credential], name: str, method: str) -> None:
    route, row = ROUTE_OF[name.partition(":")[0]], ROWS[name]
    wanted = {who: expected(row, credential, method) for who, credential in credentials.items()}
    if row.ends:
        wanted = {who: status for who, status in wanted.items() if status in {401, 403}}
    got: dict[str, int] = {}

    async def one(who: str) -> None:
        got[who] = await ask(world, route, row, credentials[who], method, wanted[who])

    await in_parallel(4, [partial(one, who) for who in wanted])
    assert got == wanted, method


@pytest.mark.parametrize("name", ROWS)
async def test_each_credential_gets_what_it_may(world: World, credentials: dict[str, Credential], name: str) -> None:
    await all_ask(world, credentials, name, ROUTE_OF[name.partition(":")[0]].method)


@pytest.mark.torture
@pytest.mark.parametrize("name", [name for name in ROWS if ROUTE_OF[name.partition(":")[0]].method == "GET"])
async def test_whoever_asks_for_the_head_alone_gets_no_more(
    world: World, credentials: dict[str, Credential], name: str
) -> None:
    await all_ask(world, credentials, name, "HEAD")


@pytest.fixture(scope="module")
def unlocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A house without keys: whoever says nothing may everything, and what is said counts as it does elsewhere."""
    target = started(tmp_path_factory.mktemp("unlocked") / "state", env={"ENGINEHOUSE_SERVER__ENABLE_AUTH": "false"})
    world = World(target)
    trio.run(world.make)
    yield world
    ended(target)


@pytest.mark.torture
async def test_without_keys_bad_credentials_are_still_none(unlocked: World) -> None:
    nothing = Credential(scopes=ALL)
    others = {name: await MAKERS[name](unlocked) for name in ("garbage", "revoked", "read", "a refresh token")}
    for name in ROWS:
        if name != "exchange_key":  # a key must be there to be exchanged
            await all_ask(unlocked, {"nothing": nothing, **others}, name, ROUTE_OF[name.partition(":")[0]].method)
