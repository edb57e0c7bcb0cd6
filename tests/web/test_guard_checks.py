"""Each check by name: the request that it alone refuses, and that the same request passes once the check is off.

So whoever removes a check, or makes it toothless, turns a line of these tables red.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

import web.app
import web.guard
import web.perform
import web.strict_json
from protocol.authority import Authority
from protocol.errors import NotFound
from tests.web.doubles import Client, RecordingHouse, client
from web.asgi import Scope
from web.auth import Failures, Identity, Principal, Rates
from web.auth.keys import NewKey
from web.auth.principal import Scope as Grant
from web.auth.rates import FREE
from web.guard import CHECKS, Policy, check_host, check_method, check_origin, check_size, check_target
from web.limits import Limits

RUNS = "/api/v1/engines/a/runs"
BOUNDLESS = Limits(body_bytes=1 << 30, json_depth=1 << 20, json_keys=1 << 20, json_int_digits=1 << 20)


@dataclass(frozen=True)
class Asked:
    """A request that one check refuses with `status` and `slug`."""

    status: int
    slug: str
    method: str = "GET"
    path: str = "/api/v1/engines/a"
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    async def by(self, asker: Client) -> tuple[int, str]:
        got = await asker.ask(self.method, self.path, self.body, self.headers)
        return got.status, got.slug


# What reaches the house is answered 404 there, so 404 not-found is how a passed check looks.
REACHED = (404, "not-found")


@pytest.fixture
def house() -> RecordingHouse:
    house = RecordingHouse()
    house.gives |= dict.fromkeys(("get", "submit", "dispose"), NotFound("no"))
    return house


# -- the guard's own ---------------------------------------------------------------------------------------------------
GUARDED: dict[Callable[[Scope, Policy], None], list[Asked]] = {
    check_target: [Asked(400, "malformed-request", path="/api/v1/engines/a\0")],
    check_host: [
        Asked(421, "misdirected-host", headers={"host": "evil.example"}),
        Asked(421, "misdirected-host", headers={"host": ""}),
    ],
    check_method: [Asked(405, "method-not-allowed", method="TRACE")],
    check_origin: [
        Asked(403, "origin-not-allowed", headers={"origin": "http://evil.example"}),
        Asked(403, "origin-not-allowed", headers={"origin": "null"}),
        Asked(403, "origin-not-allowed", headers={"sec_fetch_site": "cross-site"}),
    ],
    check_size: [
        Asked(414, "too-large", path="/api/v1/engines/" + "a" * 5000),
        Asked(431, "too-large", headers={f"x-{number}": "1" for number in range(70)}),
        Asked(431, "too-large", headers={"x": "1" * 20_000}),
    ],
}


def test_every_check_of_the_guard_is_in_the_table() -> None:
    assert tuple(GUARDED) == CHECKS


@pytest.mark.parametrize(
    "check, asked", [(check, asked) for check, them in GUARDED.items() for asked in them], ids=lambda it: str(it)[:60]
)
async def test_the_guard_refuses_what_passes_without_the_check(
    check: Callable[[Scope, Policy], None], asked: Asked, house: RecordingHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = client(house)
    assert await asked.by(asker) == (asked.status, asked.slug)
    assert house.asked == []
    monkeypatch.setattr(web.guard, "CHECKS", tuple(other for other in CHECKS if other is not check))
    # TRACE has no route, a NUL no engine: past the guard they meet the router and the house, which know nothing.
    assert await asked.by(asker) in {REACHED, (405, "method-not-allowed")}
    assert asked.method == "TRACE" or [name for name, _, _ in house.asked] == ["get"]


# -- beyond the guard --------------------------------------------------------------------------------------------------
@contextmanager
def _uncounted(self: Failures, scope: Scope) -> Iterator[None]:
    yield


def everybody(self: Identity, scope: Any, *, takes_ticket: bool) -> Principal:
    return Principal(name="anybody", authority=Authority(scopes=frozenset({Grant.ADMIN})))


DEEP = b'{"input": ' + b"[" * 70 + b"]" * 70 + b"}"
WIDE = json.dumps({"input": {str(number): 1 for number in range(10_001)}}).encode()


def post(status: int, slug: str, body: Any, **headers: str) -> Asked:
    return Asked(status, slug, "POST", RUNS, body, headers)


BEYOND: dict[str, tuple[Asked, tuple[Any, str, Any]]] = {
    "content type": (
        post(415, "unsupported-media-type", {"input": 1}, content_type="text/plain"),
        (web.perform, "require_json", lambda headers: None),
    ),
    "content encoding": (
        post(415, "unsupported-media-type", {"input": 1}, content_encoding="gzip"),
        (web.perform, "require_json", lambda headers: None),
    ),
    "duplicate names": (
        post(400, "invalid-json", b'{"input": 1, "input": 2}'),
        (web.strict_json, "parse", lambda raw, **limits: json.loads(raw)),
    ),
    "scope": (
        Asked(403, "insufficient-scope", "DELETE", "/api/v1/engines/a?force=true"),
        (Principal, "require", lambda self, scope: None),
    ),
}


@pytest.mark.parametrize("name", BEYOND)
async def test_the_app_refuses_what_passes_without_the_check(
    name: str, house: RecordingHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, (where, attribute, toothless) = BEYOND[name]
    asker = client(house)
    if name == "scope":
        asker = await keyed(asker, Grant.READ)
    assert await asked.by(asker) == (asked.status, asked.slug)
    assert house.asked == []
    monkeypatch.setattr(where, attribute, toothless)
    assert await asked.by(asker) == REACHED


@pytest.mark.parametrize(
    "asked",
    [
        post(413, "too-large", {"input": "x" * (1 << 20)}),
        post(400, "invalid-json", DEEP),
        post(400, "invalid-json", WIDE),
        post(400, "invalid-json", b'{"input": ' + b"1" * 301 + b"}"),
    ],
    ids=["body", "depth", "keys", "digits"],
)
async def test_what_is_too_much_passes_where_there_is_no_limit(asked: Asked, house: RecordingHouse) -> None:
    assert await asked.by(client(house)) == (asked.status, asked.slug)
    assert house.asked == []
    assert await asked.by(client(house, limits=BOUNDLESS)) == REACHED


async def test_without_credentials_nothing_passes(house: RecordingHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    asker, asked = client(house, key=None), Asked(401, "unauthenticated")
    assert await asked.by(asker) == (401, "unauthenticated")
    assert house.asked == []
    monkeypatch.setattr(Identity, "admit", everybody)
    assert await asked.by(asker) == REACHED


async def test_beyond_the_rate_nothing_passes(house: RecordingHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    asker = await keyed(client(house), Grant.READ, rate_per_min=1)
    asked = Asked(429, "rate-limited")
    assert [await asked.by(asker) for _ in range(2)] == [REACHED, (429, "rate-limited")]
    monkeypatch.setattr(Rates, "take", lambda self, principal, *, urgent: FREE)
    assert await asked.by(asker) == REACHED


async def test_who_fails_too_often_is_told_to_wait(house: RecordingHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    asker = client(house, key="wrong", limits=Limits(failures_per_min=1))
    asked = Asked(429, "rate-limited")
    assert [await asked.by(asker) for _ in range(2)] == [(401, "unauthenticated"), (429, "rate-limited")]
    monkeypatch.setattr(Failures, "counted", _uncounted)
    assert await asked.by(asker) == (401, "unauthenticated")


# -- their order -------------------------------------------------------------------------------------------------------
async def keyed(asker: Client, *scopes: Grant, rate_per_min: int = 100) -> Client:
    """The same app, asked with a key of these scopes."""
    keys = asker.app.services.keys  # type: ignore[attr-defined]  # the app is an Api
    made = await keys.create(NewKey(name="test", scopes=list(scopes), rate_per_min=rate_per_min))
    return Client(asker.app, made.key)


async def test_the_first_check_that_fails_answers(house: RecordingHouse) -> None:
    """One request with every fault, mended one by one: the order of promises, from the guard to the house."""
    asker = client(house)
    nobody, reader = Client(asker.app, None), await keyed(asker, Grant.READ)
    writer = await keyed(asker, Grant.OPERATE)
    slow = await keyed(asker, Grant.READ, rate_per_min=1)
    await slow.get("/api/v1/engines/a")
    long = "x" * 5000
    headers = {
        "host": "evil.example",
        "origin": "null",
        "sec_fetch_site": "cross-site",
        "content_type": "text/plain",
        "idempotency_key": "no good",
    }

    async def ask(who: Client, method: str, path: str, body: Any) -> tuple[int, str]:
        got = await who.ask(method, path, body, headers)
        return got.status, got.slug

    assert await ask(nobody, "TRACE", f"/\0{long}", b"{") == (400, "malformed-request")
    assert await ask(nobody, "TRACE", f"/{long}", b"{") == (421, "misdirected-host")
    del headers["host"]
    assert await ask(nobody, "TRACE", f"/{long}", b"{") == (405, "method-not-allowed")
    assert await ask(nobody, "POST", f"/{long}", b"{") == (403, "origin-not-allowed")
    del headers["origin"]
    assert await ask(nobody, "POST", f"/{long}", b"{") == (403, "origin-not-allowed")
    del headers["sec_fetch_site"]
    assert await ask(nobody, "POST", f"/{long}", b"{") == (414, "too-large")
    headers["x_large"] = "x" * 20_000
    assert await ask(nobody, "POST", "/nowhere", b"{") == (431, "too-large")
    del headers["x_large"]
    assert await ask(nobody, "POST", "/nowhere", b"{") == (401, "unauthenticated")
    assert await ask(slow, "POST", "/nowhere", b"{") == (429, "rate-limited")
    assert await ask(reader, "POST", "/nowhere", b"{") == (404, "not-found")
    assert await ask(reader, "PATCH", RUNS, b"{") == (405, "method-not-allowed")
    assert await ask(reader, "POST", RUNS, b"{" * (1 << 21)) == (415, "unsupported-media-type")
    del headers["content_type"]
    assert await ask(reader, "POST", RUNS, b"{" * (1 << 21)) == (413, "too-large")
    assert await ask(reader, "POST", RUNS, b"{") == (400, "invalid-json")
    assert await ask(reader, "POST", RUNS, {"nope": 1}) == (422, "validation-failed")
    assert await ask(reader, "POST", RUNS, {"input": 1}) == (422, "validation-failed")
    del headers["idempotency_key"]
    assert await ask(reader, "POST", RUNS, {"input": 1}) == (403, "insufficient-scope")
    assert [name for name, _, _ in house.asked] == ["get"]
    assert await ask(writer, "POST", RUNS, {"input": 1}) == (404, "not-found")
    assert [name for name, _, _ in house.asked] == ["get", "submit"]
