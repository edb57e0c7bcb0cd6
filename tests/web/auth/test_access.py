"""Access tokens under attack: whatever is not exactly ours is 401."""

import base64
import hashlib
import hmac
import json
import secrets
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Unauthenticated
from tests.web.doubles import NOW_S, Client, RecordingHouse, client, identity
from web.auth import Identity, SigningKeys
from web.auth.access import AccessTokens
from web.auth.signing import ACCESS_S
from web.auth.users import NewUser
from web.refusals import TokenExpired

PASSWORD = "long enough by far"
WHOAMI = "/api/v1/auth/whoami"


class Clock:
    now = NOW_S

    def __call__(self) -> float:
        return self.now


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(secret: bytes, header: Any, claims: Any, digest: str = "sha256") -> str:
    """A token that is signed well, whatever it says. bytes are taken as they are."""
    parts = [b64(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, claims)]
    text = ".".join(parts)
    return f"{text}.{b64(hmac.new(secret, text.encode(), digest).digest())}"


def good(who: Identity, family: str) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """The secret, and the header and the claims of a token that is accepted."""
    key = who.access.keys.current
    now = int(NOW_S)
    claims = {
        "iss": "enginehouse", "aud": "enginehouse:api", "sub": "user:ada", "fam": family, "jti": "x" * 16,
        "iat": now, "nbf": now, "exp": now + ACCESS_S,
    }  # fmt: skip
    return key.secret, {"alg": "HS256", "typ": "at+jwt", "kid": key.kid}, claims


async def logged_in(**more: Any) -> tuple[Identity, Client, str, str]:
    """(everybody, a client without a key, an access token, its family)."""
    who = identity(**more)
    await who.users.create(NewUser(name="ada", password=PASSWORD, scopes=["read"]))  # type: ignore[list-item]  # its text
    login = await who.login("ada", PASSWORD, address="192.0.2.1")
    assert login.principal.family is not None
    return who, client(RecordingHouse(), key=None, identity=who), login.access_token, login.principal.family


async def refused(asker: Client, token: str) -> str:
    got = await asker.get(WHOAMI, authorization=f"Bearer {token}")
    assert got.status == 401, token
    assert got.headers["www-authenticate"].startswith('Bearer realm="enginehouse"')
    return got.slug


async def test_what_the_attacks_begin_from_is_accepted() -> None:
    who, asker, token, family = await logged_in()
    for taken in (token, signed(*good(who, family))):
        assert (await asker.get(WHOAMI, authorization=f"Bearer {taken}")).json["principal"] == "user:ada"


HEADERS: dict[str, dict[str, Any]] = {
    "none": {"alg": "none"},
    "None": {"alg": "None"},
    "no algorithm": {"alg": None},
    "another hash": {"alg": "HS512"},
    "a public key as secret": {"alg": "RS256"},
    "EdDSA": {"alg": "EdDSA"},
    "an encrypted one": {"alg": "dir", "enc": "A256GCM"},
    "a list of algorithms": {"alg": ["HS256"]},
    "a path as kid": {"kid": "../../../../dev/null"},
    "SQL as kid": {"kid": "x' UNION SELECT 'secret"},
    "no kid": {"kid": None},
    "a number as kid": {"kid": 1},
    "jku": {"jku": "https://evil.example/keys"},
    "x5u": {"x5u": "https://evil.example/cert"},
    "x5c": {"x5c": ["MIIB"]},
    "jwk": {"jwk": {"kty": "oct", "k": "AAAA"}},
    "crit": {"crit": ["exp"]},
    "crit of b64": {"crit": ["b64"], "b64": False},
    "an unknown member": {"extra": 1},
    "a plain JWT": {"typ": "JWT"},
    "a refresh token": {"typ": "rt+jwt"},
    "no typ": {"typ": None},
    "typ in capitals": {"typ": "AT+JWT"},
    "a content type": {"cty": "JWT"},
}
CLAIMS: dict[str, dict[str, Any]] = {
    "no exp": {"exp": None},
    "exp as text": {"exp": str(int(NOW_S) + 60)},
    "exp as a float": {"exp": NOW_S + 60.5},
    "exp as true": {"exp": True},
    "exp for ever": {"exp": 10**15},
    "exp beyond what we give": {"exp": int(NOW_S) + ACCESS_S + 1},
    "no iat": {"iat": None},
    "iat in the future": {"iat": int(NOW_S) + 60},
    "no nbf": {"nbf": None},
    "nbf in the future": {"nbf": int(NOW_S) + 60},
    "another issuer": {"iss": "somebody"},
    "issuers": {"iss": ["enginehouse"]},
    "no issuer": {"iss": None},
    "another audience": {"aud": "somebody"},
    "audiences": {"aud": ["enginehouse:api", "others"]},
    "no audience": {"aud": None},
    "another subject": {"sub": "key:admin"},
    "no subject": {"sub": None},
    "no jti": {"jti": None},
    "no family": {"fam": None},
    "another family": {"fam": "0" * 24},
    "scopes of its own": {"scope": "admin"},
}


def changed(members: dict[str, Any], by: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (members | by).items() if value is not None}


@pytest.mark.parametrize("attack", HEADERS)
async def test_another_header_is_refused_though_the_signature_is_right(attack: str) -> None:
    who, asker, _, family = await logged_in()
    secret, header, claims = good(who, family)
    digest = "sha512" if attack == "another hash" else "sha256"
    assert await refused(asker, signed(secret, changed(header, HEADERS[attack]), claims, digest)) == "unauthenticated"


@pytest.mark.parametrize("attack", CLAIMS)
async def test_other_claims_are_refused_though_the_signature_is_right(attack: str) -> None:
    who, asker, _, family = await logged_in()
    secret, header, claims = good(who, family)
    assert await refused(asker, signed(secret, header, changed(claims, CLAIMS[attack]))) == "unauthenticated"


@pytest.mark.parametrize(
    "header, claims",
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"null", None),
        (b"\xff", None),
        (b'{"alg":"none","alg":"HS256"}', None),
        (b"[" * 150, None),
        (b'{"a":' * 30 + b"1" + b"}" * 30, None),
        (None, b""),
        (None, b"[]"),
        (None, b"null"),
        (None, b"NaN"),
        (None, b"\xff\xfe"),
        (None, b"[" * 700),
        (None, b'{"exp":' + b"9" * 600 + b"}"),
        (None, b'{"exp":1e999}'),
    ],
)
async def test_what_is_no_plain_json_object_is_refused(header: bytes | None, claims: bytes | None) -> None:
    who, asker, _, family = await logged_in()
    secret, head, said = good(who, family)
    await refused(asker, signed(secret, head if header is None else header, said if claims is None else claims))


async def test_a_member_that_stands_twice_is_refused() -> None:
    who, asker, _, family = await logged_in()
    secret, header, claims = good(who, family)
    twice = json.dumps(header)[:-1] + ', "alg": "HS256"}'
    await refused(asker, signed(secret, twice.encode(), claims))
    twice = json.dumps(claims)[:-1] + f', "exp": {claims["exp"]}}}'
    await refused(asker, signed(secret, header, twice.encode()))


async def test_another_secret_opens_nothing() -> None:
    who, asker, _, family = await logged_in()
    _, header, claims = good(who, family)
    kid = header["kid"]
    for secret in (b"", b"secret", kid.encode(), secrets.token_bytes(32), hashlib.sha256(kid.encode()).digest()):
        await refused(asker, signed(secret, header, claims))
    other = AccessTokens(SigningKeys.fresh(), lambda: NOW_S)
    await refused(asker, other.mint("user:ada", family))


async def test_a_token_that_was_cut_or_stretched_is_refused() -> None:
    _, asker, token, _ = await logged_in()
    header, claims, signature = token.split(".")
    for broken in (
        token[:-1],
        token + "A",
        token + "=",
        token + ".",
        f"{header}.{claims}.",
        f"{header}.{claims}",
        f"{header}..{signature}",
        f".{claims}.{signature}",
        f"{token}.{signature}.x",
        "eyJ" + "A" * 6000 + ".e30.x",
        "eyJ.." + "." * 200,
    ):
        await refused(asker, broken)


@given(at=st.integers(0, 10_000), to=st.sampled_from("AB_-z09.="))
async def test_no_character_of_a_token_may_be_another(at: int, to: str) -> None:
    tokens = AccessTokens(SigningKeys.fresh(), lambda: NOW_S)
    token = tokens.mint("user:ada", "f" * 24)
    at %= len(token)
    other = token[:at] + to + token[at + 1 :]
    if other != token:
        with pytest.raises(Unauthenticated):
            tokens.verify(other)


async def test_another_spelling_of_the_same_bytes_is_refused() -> None:
    _, asker, token, _ = await logged_in()
    padded = base64.urlsafe_b64decode(token.rpartition(".")[2] + "=")
    same = [token[:-1] + char for char in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"]
    same = [text for text in same if base64.urlsafe_b64decode(text.rpartition(".")[2] + "=") == padded]
    assert len(same) == 4
    for text in same:
        if text != token:
            await refused(asker, text)


async def test_a_token_that_is_too_large_is_refused_though_the_signature_is_right() -> None:
    who, asker, _, family = await logged_in()
    secret, header, claims = good(who, family)
    await refused(asker, signed(secret, header, claims | {"jti": "x" * 4000}))


async def test_a_refresh_token_a_cookie_and_a_ticket_are_no_access_tokens() -> None:
    who, asker, _, _ = await logged_in()
    login = await who.login("ada", PASSWORD, address="192.0.2.1", cookie=True)
    assert login.cookie is not None
    for other in (login.refresh_token, login.cookie, who.ticket(login.principal, "/api/v1/events")):
        await refused(asker, other)


async def test_a_token_expires_and_stays_expired_when_the_clock_is_set_back() -> None:
    clock = Clock()
    who, asker, token, _ = await logged_in(wall=clock)
    clock.now += ACCESS_S - 1
    principal = who.holder(token)
    clock.now += 1
    assert await refused(asker, token) == "token-expired"
    with pytest.raises(TokenExpired):
        principal.standing()
    clock.now -= 600
    assert await refused(asker, token) == "token-expired"


async def test_a_token_survives_one_rotation_until_it_expires_and_no_longer() -> None:
    clock = Clock()
    who, _, token, family = await logged_in(wall=clock)
    await who.rotate()
    assert who.holder(token).name == "user:ada"
    secret, header, claims = who.access.keys.previous.secret, None, None  # type: ignore[union-attr]  # just rotated
    clock.now += ACCESS_S
    # Whoever holds the secret of before could otherwise go on signing.
    _, header, claims = good(who, family)
    header["kid"] = who.access.keys.previous.kid  # type: ignore[union-attr]  # as above
    claims |= {"iat": int(clock.now), "nbf": int(clock.now), "exp": int(clock.now) + 60}
    with pytest.raises(Unauthenticated):
        who.holder(signed(secret, header, claims))


async def test_after_a_rotation_at_once_nothing_that_is_out_is_believed() -> None:
    who, asker, token, _ = await logged_in()
    principal = who.holder(token)
    await who.rotate(at_once=True)
    with pytest.raises(Unauthenticated):
        principal.standing()
    await refused(asker, token)


async def test_after_two_rotations_the_oldest_is_not_believed() -> None:
    who, asker, token, _ = await logged_in()
    await who.rotate()
    await who.rotate()
    await refused(asker, token)
