"""What bad input gets, and in which order: credentials, rate, route, content type, body, schema, scope, house."""

from typing import Any

import pytest

from protocol.authority import Authority
from protocol.errors import NotFound
from tests.web.doubles import ADMIN, Client, Got, RecordingHouse, client
from web.auth.keys import NewKey
from web.auth.principal import Principal, Scope
from web.limits import Limits

RUNS = "/api/v1/engines/a/runs"


@pytest.fixture
def house() -> RecordingHouse:
    house = RecordingHouse()
    house.gives["submit"] = NotFound("no")
    return house


async def keyed(asker: Client, *scopes: Scope, rate_per_min: int = 100) -> Client:
    """The same app, asked with a key of these scopes."""
    made = await asker.app.services.keys.create(  # type: ignore[attr-defined]  # the app is an Api
        NewKey(name="test", scopes=list(scopes), rate_per_min=rate_per_min)
    )
    return Client(asker.app, made.key)


def refusal(got: Got) -> tuple[int, str]:
    return got.status, got.slug


async def test_each_check_answers_before_the_next(house: RecordingHouse) -> None:
    """One request with every fault; mended one by one, from the first check to the last."""
    asker = client(house)
    reader = await keyed(asker, Scope.READ, rate_per_min=2)
    writer = await keyed(asker, Scope.OPERATE)
    faulty = {"content_type": "text/plain", "idempotency_key": "no good"}

    nobody = Client(asker.app, None)
    assert refusal(await nobody.post("/api/v1/nowhere", b"{", **faulty)) == (401, "unauthenticated")
    assert refusal(await reader.post("/api/v1/nowhere", b"{", **faulty)) == (404, "not-found")
    assert refusal(await reader.ask("PATCH", RUNS, b"{", faulty)) == (405, "method-not-allowed")
    assert refusal(await reader.post("/api/v1/nowhere", b"{", **faulty)) == (429, "rate-limited")

    reader = await keyed(asker, Scope.READ)
    assert refusal(await reader.post(RUNS, b"{", **faulty)) == (415, "unsupported-media-type")
    del faulty["content_type"]
    assert refusal(await reader.post(RUNS, b"{", **faulty)) == (400, "invalid-json")
    assert refusal(await reader.post(RUNS, {"nope": 1}, **faulty)) == (422, "validation-failed")
    assert refusal(await reader.post(RUNS, {"input": 1}, **faulty)) == (422, "validation-failed")
    assert refusal(await reader.post(RUNS, {"input": 1})) == (403, "insufficient-scope")
    assert house.asked == []
    assert refusal(await writer.post(RUNS, {"input": 1})) == (404, "not-found")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b'{"input": NaN}',
        b'{"input": 1, "input": 2}',
        b'{"input": "\\ud800"}',
        b'{"input": ' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"input": ' + b"1" * 301 + b"}",
    ],
)
async def test_what_is_no_proper_json_is_400(house: RecordingHouse, body: bytes) -> None:
    got = await client(house).post(RUNS, body, content_type="application/json")
    assert (refusal(got), house.asked) == ((400, "invalid-json"), [])


async def test_a_large_integer_reaches_the_house_as_it_was_sent(house: RecordingHouse) -> None:
    await client(house).post(RUNS, b'{"input": ' + b"9" * 300 + b"}")
    assert house.asked[0][1][1].input == 10**300 - 1


@pytest.mark.parametrize("path", [RUNS, "/api/v1/engines"])
async def test_a_body_that_is_too_large_is_413_below_quart_and_in_it(house: RecordingHouse, path: str) -> None:
    got = await client(house, limits=Limits(body_bytes=100)).post(path, {"input": "x" * 100})
    assert refusal(got) == (413, "too-large")


@pytest.mark.parametrize("header", [{"content_type": "text/plain"}, {"content_encoding": "gzip"}])
@pytest.mark.parametrize("path", [RUNS, "/api/v1/engines", "/api/v1/runs/r/retry"])
async def test_a_body_is_plain_json_wherever_there_is_one(
    house: RecordingHouse, header: dict[str, str], path: str
) -> None:
    assert refusal(await client(house).post(path, {"a": 1}, **header)) == (415, "unsupported-media-type")


async def test_a_route_without_a_body_takes_an_empty_object_and_no_members(house: RecordingHouse) -> None:
    house.gives["resume_run"] = NotFound("no")
    asker = client(house)
    assert (await asker.post("/api/v1/runs/r/continue", {})).status == 404
    assert (await asker.post("/api/v1/runs/r/continue", {"force": True})).status == 422


@pytest.mark.parametrize(
    "type, needed",
    [("pause", Scope.OPERATE), ("approve", Scope.APPROVE), ("reject", Scope.APPROVE), ("skip", Scope.APPROVE)],
)
async def test_authority_is_checked_for_the_parsed_command(house: RecordingHouse, type: str, needed: Scope) -> None:
    house.gives["command"] = NotFound("no")
    asker = client(house)
    for scope in (Scope.READ, Scope.OPERATE, Scope.APPROVE):
        key = await keyed(asker, scope)
        got = await key.post("/api/v1/engines/a/commands", {"type": type})
        assert got.status == (404 if scope is needed else 403), (type, scope)


@pytest.mark.parametrize("path", [RUNS, "/api/v1/auth/keys"], ids=["raw", "quart"])
async def test_a_key_that_is_revoked_while_its_body_comes_does_nothing(house: RecordingHouse, path: str) -> None:
    """Or whoever holds a stolen key begins a request, waits for the revocation, and makes another key."""
    asker = client(house)
    keys = asker.app.services.keys  # type: ignore[attr-defined]
    made = await keys.create(NewKey(name="k", scopes=[Scope.ADMIN]))

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        async def body() -> Any:
            if keys.infos():
                await keys.revoke(made.id)
            return await receive()

        await asker.app(scope, body, send)

    got = await Client(slow, made.key).post(
        path, {"name": "k2", "scopes": ["admin"]} if "keys" in path else {"input": 1}
    )
    assert refusal(got) == (401, "unauthenticated")
    assert keys.infos() == []
    assert house.asked == []


async def test_the_administration_of_the_house_is_for_nobodys_pools(house: RecordingHouse) -> None:
    bound = Authority(scopes=frozenset({Scope.ADMIN}), pools=frozenset({"p"}))
    asker = client(house)
    who = asker.app.services.identity  # type: ignore[attr-defined]
    who.admit = lambda scope, *, takes_ticket: Principal(name="user:x", authority=bound)
    for path in ("/api/v1/auth/keys", "/api/v1/auth/users", "/api/v1/admin/audit"):
        assert refusal(await asker.get(path)) == (403, "insufficient-scope")


async def test_a_refusal_names_the_scope_that_is_needed(house: RecordingHouse) -> None:
    reader = await keyed(client(house), Scope.READ)
    got = await reader.post("/api/v1/pools", {"id": "p"})
    assert (refusal(got), got.json["scope"]) == ((403, "insufficient-scope"), "operate")


async def test_a_bug_is_500_with_an_error_id_and_says_nothing_else(house: RecordingHouse) -> None:
    house.gives |= {"submit": ZeroDivisionError("secret"), "spawn": ZeroDivisionError("secret")}
    asker = client(house, key=ADMIN)
    for got in (await asker.post(RUNS, {"input": 1}), await asker.post("/api/v1/engines", {"kind": "probe"})):
        assert refusal(got) == (500, "internal")
        assert got.json["error_id"].startswith("err_")
        assert b"secret" not in got.body


async def test_every_answer_is_hardened_and_carries_its_request_id(house: RecordingHouse) -> None:
    asker = client(house)
    for got in (await asker.post(RUNS, {"input": 1}), await asker.get("/nowhere"), await asker.get("/health/live")):
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["cache-control"] == "no-store"
        assert got.headers["x-request-id"]
