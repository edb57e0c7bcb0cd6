"""The authorisation matrix over HTTP: every route with every kind of credential gets what `matrix.py` says."""

from __future__ import annotations

import pytest
import trio

from tests.attack.matrix import MAKERS, ROWS, Credential, Row, World, expected
from tests.attack.target import Target
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

    async def make() -> None:
        for name, maker in MAKERS.items():
            found[name] = await maker(world)

    trio.run(make)
    return found


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert {name.partition(":")[0] for name in ROWS} == set(ROUTE_OF)


def test_a_row_says_of_a_route_what_the_route_says_of_itself() -> None:
    """Two accounts of one thing: where they differ one of them is wrong."""
    for name, row in ROWS.items():
        operation, _, command = name.partition(": ")
        route = ROUTE_OF[operation]
        assert (route.scopes.get(command, route.scope) or None) == row.needs, name


async def ask(world: World, route: Route, row: Row, credential: Credential, method: str) -> int:
    there = await world.fresh(route.operation)
    path = route.path.format_map(there)
    query = f"?{row.asks}" if row.asks else ""
    answer = await world.target.ask(
        method, path + query, row.body, *credential.headers, "Accept: application/json", key=None
    )
    return answer.status


@pytest.mark.parametrize("name", ROWS)
async def test_each_credential_gets_what_it_may(world: World, credentials: dict[str, Credential], name: str) -> None:
    route, row = ROUTE_OF[name.partition(":")[0]], ROWS[name]
    for method in ["GET", "HEAD"] if route.method == "GET" else [route.method]:
        wanted = {who: expected(row, credential, method) for who, credential in credentials.items()}
        asked = [who for who in wanted if not (row.ends and wanted[who] == row.ok)]
        got = {who: await ask(world, route, row, credentials[who], method) for who in asked}
        wanted = {who: wanted[who] for who in asked}
        assert got == wanted, method
