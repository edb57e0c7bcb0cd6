"""Tokens, by somebody who even has the secret that signs them: what is not exactly ours is nothing at all."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
import trio

from tests.attack.forge import Forge, encoded, other_spelling
from tests.attack.matrix import OWN, World
from tests.attack.target import PROBES_ONLY, Target, ended, started
from web.auth.signing import SigningKey
from web.routes import ROUTES

EVENTS: Final = "/api/v1/events"


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A daemon of these tests alone: elsewhere many logins fail, and after ten of them nobody logs in from here."""
    target = started(tmp_path_factory.mktemp("tokens") / "state", program=PROBES_ONLY)
    yield target
    ended(target)


def forged(forge: Forge) -> dict[str, str]:
    """Every token that is to be refused, by what is wrong with it."""
    now = int(time.time())
    good = forge.claims
    tampered = encoded(json.dumps({**good, "sub": "key:admin"}, separators=(",", ":")).encode())
    nothing = [forge.part(forge.header, {"alg": "none"}), forge.body]
    twice = json.dumps(good)[:-1].encode() + b',"sub":"key:admin"}'
    headers = {
        "none, signed all the same": {"alg": "none"},
        "NONE": {"alg": "NONE"},
        "HS512 by its name": {"alg": "HS512"},
        "RS256 by its name": {"alg": "RS256"},
        "no algorithm": {"alg": ...},
        "algorithms in a list": {"alg": ["HS256"]},
        "an algorithm that is null": {"alg": None},
        "hs256": {"alg": "hs256"},
        "no key": {"kid": ...},
        "a key in a file": {"kid": "../../../../../../dev/null"},
        "an empty key": {"kid": ""},
        "a key of SQL": {"kid": "x' UNION SELECT 'secret' --"},
        "a key that is a number": {"kid": 0},
        "a key with a NUL": {"kid": f"{forge.header['kid']}\0"},
        "another key": {"kid": "0" * 16},
        "keys from elsewhere": {"jku": "http://127.0.0.1:1/keys"},
        "a certificate from elsewhere": {"x5u": "http://127.0.0.1:1/x"},
        "a key of its own": {"jwk": {"kty": "oct", "k": encoded(forge.secret)}},
        "a certificate of its own": {"x5c": ["AAAA"]},
        "an extension that must be understood": {"crit": ["exp"]},
        "an empty list of extensions": {"crit": []},
        "an unencoded body": {"b64": False, "crit": ["b64"]},
        "a compressed body": {"zip": "DEF"},
        "a body of another type": {"cty": "JWT"},
        "another type": {"typ": "JWT"},
        "a refresh token's type": {"typ": "rt+jwt"},
        "no type": {"typ": ...},
        "a type in capitals": {"typ": "AT+JWT"},
    }
    claims = {
        "another issuer": {"iss": "somebody"},
        "no issuer": {"iss": ...},
        "another audience": {"aud": "another:api"},
        "many audiences": {"aud": ["enginehouse:api", "another:api"]},
        "no audience": {"aud": ...},
        "no end": {"exp": ...},
        "an end that is null": {"exp": None},
        "an end that is text": {"exp": str(now + 600)},
        "an end in fractions": {"exp": now + 600.5},
        "an end that is true": {"exp": True},
        "an end that is infinite": {"exp": 1e308},
        "over": {"iat": now - 1000, "nbf": now - 1000, "exp": now - 100},
        "not yet": {"nbf": now + 500, "exp": now + 900, "iat": now + 500},
        "for a year": {"exp": now + 31_536_000},
        "no beginning": {"iat": ...},
        "no life": {"exp": good["nbf"]},
        "nobody": {"sub": ...},
        "somebody else": {"sub": "key:admin"},
        "a user that is none": {"sub": "user:nobody"},
        "subjects": {"sub": ["user:login"]},
        "no family": {"fam": ...},
        "another family": {"fam": "0" * 24},
        "no number": {"jti": ...},
        "scopes of its own": {"scope": "admin"},
        "a role": {"admin": True},
        "pools of its own": {"pools": None},
    }
    return {
        **{f"header: {what}": forge.sign(header=change) for what, change in headers.items()},
        **{f"claims: {what}": forge.sign(claims=change) for what, change in claims.items()},
        "none, unsigned": ".".join([*nothing, ""]),
        "none, with its old signature": ".".join([*nothing, forge.mac]),
        "HS512 in truth": forge.sign({"alg": "HS512"}, digest=hashlib.sha512),
        "HS512 under HS256": forge.sign(digest=hashlib.sha512),
        "an empty secret": forge.sign(secret=b""),
        "the name of the key as secret": forge.sign(secret=forge.header["kid"].encode()),
        "another secret": forge.sign(secret=b"x" * 43),
        "a body that was changed": f"{forge.head}.{tampered}.{forge.mac}",
        "a claim twice": forge.sign(claims=twice),
        "a body that is no object": forge.sign(claims=b"[]"),
        "a body that is no JSON": forge.sign(claims=b"{"),
        "an empty body": forge.sign(claims=b""),
        "a deep body": forge.sign(claims=b'{"sub":' + b"[" * 200 + b"]" * 200 + b"}"),
        "a header that is no object": forge.sign(header=b"[]"),
        "no signature": f"{forge.head}.{forge.body}.",
        "half a signature": forge.token[:-20],
        "a signature with a tail": forge.token + "A",
        "padding": forge.token + "=",
        "a fourth part": forge.token + ".e30",
        "five parts": f"{forge.token}.{forge.head}.{forge.body}",
        "as JSON": json.dumps({"protected": forge.head, "payload": forge.body, "signature": forge.mac}),
        "the last bits of the signature": forge.token[:-1] + other_spelling(forge.token[-1]),
    }


@pytest.fixture(scope="module")
def world(fuzzed: Target) -> World:
    made = World(fuzzed)

    async def make() -> None:
        await made.user("bearer", "admin")
        await made.target.ask("POST", "/api/v1/pools", {"id": OWN, "template": {"kind": "probe"}})

    trio.run(make)
    return made


async def test_a_token_that_is_not_exactly_ours_is_none(world: World) -> None:
    target = world.target
    login = (await world.login("bearer")).json
    forge = Forge(secret_of(target), login["access_token"])
    assert forge.header == {"alg": "HS256", "typ": "at+jwt", "kid": SigningKey(forge.secret).kid}
    for good in (forge.token, forge.sign()):
        assert (await target.ask("GET", "/api/v1/auth/whoami", key=good)).json["principal"] == "user:bearer"
    got = {}
    for what, token in {**forged(forge), "a refresh token": login["refresh_token"]}.items():
        for lines in ([f"Authorization: Bearer {token}"], [f"X-API-Key: {token}"]):
            answer = await target.ask("GET", "/api/v1/auth/keys", None, *lines, key=None)
            if answer.status != 401:
                got[what] = answer
    assert got == {}
    assert (await target.ask("GET", "/api/v1/auth/whoami", key=forge.token)).status == 200, "the good one is no worse"
    await target.well()


async def test_tokens_that_were_signed_by_a_key_that_is_gone_are_none(world: World) -> None:
    target = world.target
    token = (await world.login("bearer")).json["access_token"]
    assert (await target.ask("POST", "/api/v1/auth/rotate")).status == 200
    assert (await target.ask("GET", "/api/v1/auth/whoami", key=token)).status == 200, "for as long as it was to last"
    assert (await target.ask("POST", "/api/v1/auth/rotate", {"at_once": True})).status == 200
    assert (await target.ask("GET", "/api/v1/auth/whoami", key=token)).status == 401


async def test_a_ticket_opens_its_stream_once_and_nothing_else(world: World) -> None:
    target = world.target
    engine = await target.engine(pool=OWN)
    there = {name: "x" for route in ROUTES for name in _names(route.path)} | {"engine": engine}
    stream = f"/api/v1/engines/{engine}/events"
    ticket = (await target.ask("POST", "/api/v1/auth/ticket", {"path": stream})).json["ticket"]
    for route in ROUTES:
        path = route.path.format_map(there)
        if route.scope is None or path == stream:
            continue
        answer = await target.ask(route.method, f"{path}?ticket={ticket}", None, "Accept: application/json", key=None)
        assert answer.status == 401, route.operation
    page = f"{stream}?limit=1&ticket={ticket}"
    twice = f"{page}&ticket={ticket}"
    assert (await target.ask("GET", twice, None, "Accept: application/json", key=None)).status == 401
    assert (await target.ask("GET", page, None, "Accept: application/json")).status == 401, "a ticket or a key"
    assert (await target.ask("GET", page, None, "Accept: application/json", key=None)).status == 200
    assert (await target.ask("GET", page, None, "Accept: application/json", key=None)).status == 401


async def test_a_refresh_token_that_was_stolen_ends_what_it_opened(world: World) -> None:
    target = world.target
    login = (await world.login("bearer", cookie=True)).json
    thief = await target.ask("POST", "/api/v1/auth/refresh", {"refresh_token": login["refresh_token"]}, key=None)
    assert thief.status == 200
    owner = await target.ask("POST", "/api/v1/auth/refresh", {"refresh_token": login["refresh_token"]}, key=None)
    assert owner.status == 401
    for token in (login["access_token"], thief.json["access_token"]):
        assert (await target.ask("GET", "/api/v1/auth/whoami", key=token)).status == 401
    again = await target.ask("POST", "/api/v1/auth/refresh", {"refresh_token": thief.json["refresh_token"]}, key=None)
    assert again.status == 401


async def test_one_refresh_token_that_many_present_at_once_is_used_at_most_once(world: World) -> None:
    target = world.target
    token = (await world.login("bearer")).json["refresh_token"]
    statuses: list[int] = []

    async def present() -> None:
        answer = await target.ask("POST", "/api/v1/auth/refresh", {"refresh_token": token}, key=None)
        statuses.append(answer.status)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(present)
    assert statuses.count(200) <= 1
    assert set(statuses) <= {200, 401}


async def test_a_cookie_is_believed_for_reading_from_our_own_pages_alone(world: World) -> None:
    target = world.target
    said = (await world.login("bearer", cookie=True)).header("set-cookie") or ""
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in said.split(";")}
    cookie = f"Cookie: {said.partition(';')[0]}"
    own = f"Origin: http://127.0.0.1:{target.port}"
    keys = "/api/v1/auth/keys"

    async def status(method: str, *lines: str, body: Any = None, host: str = f"127.0.0.1:{target.port}") -> int:
        return (await target.ask(method, keys, body, cookie, *lines, key=None, host=host)).status

    for lines in ([], [own], ["Sec-Fetch-Site: same-origin"], ["Sec-Fetch-Site: none"]):
        assert await status("GET", *lines) == 200, lines
        assert await status("POST", *lines, body={"name": "k", "scopes": ["admin"]}) == 401, lines
    for lines in (["Sec-Fetch-Site: cross-site"], ["Sec-Fetch-Site: same-site"], ["Origin: null"]):
        assert await status("GET", *lines) == 403, lines
    assert await status("GET", "Cookie: enginehouse_session=another") == 401, "of two it is neither"
    assert await status("GET", "X-API-Key: garbage") == 401, "what is said counts, not what is sent along"


def secret_of(target: Target) -> bytes:
    return (target.daemon.state / "jwt.secret").read_bytes().split()[0]


def _names(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]
