"""Access tokens: JWT (RFC 7519) as RFC 9068 profiles them, signed with HMAC-SHA256 and nothing else.

A token says who it is for and which family it belongs to; what that family may do is looked up, so a token never
outlives a revocation. Before a signature is looked at, the header must be exactly ours: there is no algorithm to
choose, no key to fetch, no extension to understand.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from protocol.errors import InvalidJson, Unauthenticated
from web import strict_json
from web.auth.signing import ACCESS_S, SigningKey, SigningKeys
from web.refusals import TokenExpired

__all__ = ["AccessTokens", "Bearer"]

_ISSUER: Final = "enginehouse"
_AUDIENCE: Final = "enginehouse:api"
_TYPE: Final = "at+jwt"
_ALGORITHM: Final = "HS256"
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]{1,256}(?:\.[A-Za-z0-9_-]{1,1024}){2}")
_TIMES: Final = ("exp", "nbf", "iat")
_TEXTS: Final = ("iss", "aud", "sub", "jti", "fam")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """What a good token says. `subject`: the principal; `expires`: Unix seconds; `kid`: what signed it."""

    subject: str
    family: str
    expires: int
    kid: str


class AccessTokens:
    """`keys` may be replaced at any time; `wall`: Unix time in seconds, which must not go back."""

    def __init__(self, keys: SigningKeys, wall: Callable[[], float]) -> None:
        self.keys = keys
        self._wall = wall

    @staticmethod
    def warm_up() -> None:
        """Import what reads and signs tokens: 30 ms that a start need not wait for, and no request should."""
        import joserfc.jws
        import joserfc.jwt  # noqa: F401 - for its being there

    def mint(self, subject: str, family: str) -> str:
        """A token that is good for `ACCESS_S`."""
        now = int(self._wall())
        key = self.keys.current
        claims = {
            "iss": _ISSUER, "aud": _AUDIENCE, "sub": subject, "fam": family, "jti": secrets.token_urlsafe(12),
            "iat": now, "nbf": now, "exp": now + ACCESS_S,
        }  # fmt: skip
        header = {"alg": _ALGORITHM, "typ": _TYPE, "kid": key.kid}
        from joserfc import jwt
        from joserfc.jwk import OctKey

        return jwt.encode(header, claims, OctKey.import_key(key.secret), algorithms=[_ALGORITHM])

    def verify(self, token: str) -> Bearer:
        """What it says.

        Raises:
            TokenExpired: it was ours.
            Unauthenticated: everything else.

        """
        if _SHAPE.fullmatch(token) is None:
            raise _refused()
        from joserfc import jws
        from joserfc.errors import ExpiredTokenError, JoseError
        from joserfc.jwk import OctKey

        try:
            key = self._key(token.partition(".")[0])
            signed = jws.deserialize_compact(token, OctKey.import_key(key.secret), algorithms=[_ALGORITHM])
            claims = self._claims(signed.payload)
        except ExpiredTokenError:
            raise _expired() from None
        except (JoseError, InvalidJson, ValueError):
            raise _refused() from None
        if not all(part == _encoded(_decoded(part)) for part in token.split(".")):
            raise _refused()  # another spelling of the same bytes is not what we wrote
        return Bearer(subject=claims["sub"], family=claims["fam"], expires=claims["exp"], kid=key.kid)

    def check(self, bearer: Bearer) -> None:
        """Raises TokenExpired, or Unauthenticated when what signed it is not believed any more."""
        now = self._wall()
        if bearer.expires <= now:
            raise _expired()
        if self.keys.find(bearer.kid, now) is None:
            raise _refused()

    def _key(self, header: str) -> SigningKey:
        read = strict_json.parse(_decoded(header), max_depth=1, max_keys=8)
        kid = read.get("kid") if isinstance(read, dict) else None
        key = self.keys.find(kid, self._wall())
        if key is None or read != {"alg": _ALGORITHM, "typ": _TYPE, "kid": kid}:
            raise _refused()
        return key

    def _claims(self, payload: bytes | None) -> dict[str, Any]:
        claims: Any = strict_json.parse(payload or b"", max_depth=1, max_keys=16)
        if not isinstance(claims, dict) or set(claims) != {*_TIMES, *_TEXTS}:
            raise _refused()
        if any(type(claims[name]) is not int for name in _TIMES) or any(
            type(claims[name]) is not str for name in _TEXTS
        ):
            raise _refused()
        from joserfc.jwt import JWTClaimsRegistry

        now = int(self._wall())
        JWTClaimsRegistry(
            now=now, iss={"essential": True, "value": _ISSUER}, aud={"essential": True, "value": _AUDIENCE},
            exp={"essential": True},
        ).validate(claims)  # fmt: skip
        if not claims["iat"] <= claims["nbf"] < claims["exp"] <= claims["iat"] + ACCESS_S:
            raise _refused()
        return claims


def _expired() -> TokenExpired:
    return TokenExpired("Refresh the access token, or log in again: this one has expired.")


def _refused() -> Unauthenticated:
    return Unauthenticated("Log in again: this is no access token of this house.")


def _decoded(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise _refused() from None


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode("ascii")
