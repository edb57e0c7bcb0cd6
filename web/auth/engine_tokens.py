"""What an engine's own programs may call us with: a token that speaks for one incarnation of one engine, and no other.

    ehe~<uid>~<incarnation>~<pool>~<mac>

It is signed with a secret of this process and kept nowhere: every incarnation ends with the process that booted it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Final

from protocol.authority import Authority, Scope
from protocol.errors import Unauthenticated
from web.auth.principal import Principal

__all__ = ["EngineTokens"]

_SHAPE: Final = re.compile(r"(ehe~([A-Za-z0-9_]{1,64})~([0-9]{1,18})~([a-z0-9._-]{1,64}))~([A-Za-z0-9_-]{43})")
_SCOPES: Final = frozenset({Scope.READ, Scope.OPERATE})
_RATE: Final = 600


class EngineTokens:
    """`alive(uid)`: the incarnation of an engine that lives now, or None."""

    def __init__(self, alive: Callable[[str], int | None], secret: bytes | None = None) -> None:
        self.alive = alive
        self._secret = secret or secrets.token_bytes(32)

    def mint(self, uid: str, incarnation: int, pool: str) -> str:
        """The token of this incarnation; good as long as it lives."""
        said = f"ehe~{uid}~{incarnation}~{pool}"
        return f"{said}~{self._mac(said)}"

    def looks_like_one(self, presented: str) -> bool:
        return presented.startswith("ehe~")

    def principal(self, presented: str) -> Principal:
        """`engine:<uid>`, which may read and operate its engine alone and decides nothing. Raises Unauthenticated."""
        match = _SHAPE.fullmatch(presented)
        if match is None or not hmac.compare_digest(match[5], self._mac(match[1])):
            raise _refused()
        uid, incarnation, pool = match[2], int(match[3]), match[4]

        def check() -> None:
            if self.alive(uid) != incarnation:
                raise _refused()

        check()
        authority = Authority(scopes=_SCOPES, pools=frozenset({pool}), engine=uid)
        return Principal(name=f"engine:{uid}", authority=authority, rate=_RATE, check=check)

    def _mac(self, said: str) -> str:
        mac = hmac.digest(self._secret, said.encode("ascii"), hashlib.sha256)
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode("ascii")


def _refused() -> Unauthenticated:
    return Unauthenticated("This is no token of an engine that is up: it ends with the incarnation it was made for.")
