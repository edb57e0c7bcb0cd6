"""API keys: who holds one is a principal. Only digests are kept; a key is shown once, when it is made.

    eh_<id>_<secret>     a created key: 12 hex characters that name it, 32 random bytes in base64url
    <text>               the admin key: what the file `admin.key` in the state directory holds

A key is random enough for a plain SHA-256 (a slow hash protects what people choose, and would cost 144 ms per
request). It is found by its public id and compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from protocol.authority import Authority
from protocol.edge import as_json, load
from protocol.errors import EnginehouseError, NotFound, QuotaExceeded, Unauthenticated
from protocol.specs import STRICT
from protocol.times import rfc3339
from supervisor.documents import Documents
from supervisor.house import NOBODY, Caller
from web.auth.clock import Forward
from web.auth.grants import Pools, Rate, Scopes, authority_of, check_grant
from web.auth.principal import Principal, Scope
from web.limits import Limits
from web.places import Problem
from web.private import create_private, read_private
from web.refusals import TokenExpired

__all__ = ["CreatedKey", "KeyInfo", "Keys", "NewKey", "admin_key"]

MOST: Final = 10_000
ADMIN: Final = "admin"
_KEY: Final = re.compile(r"eh_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_ADMIN_BYTES: Final = range(32, 1025)
_ADMIN_STREAMS: Final = 1024
_ALL: Final = Authority(scopes=frozenset({Scope.ADMIN}))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """`POST /auth/keys`. `pools` None: all; `admin` has no pools; `rate_per_min` None: what `[limits] rate_per_min`
    says at the time.
    """

    __pydantic_config__ = STRICT
    name: Annotated[str, Field(min_length=1, max_length=128)]
    scopes: Scopes
    pools: Pools | None = None
    expires_in_s: Annotated[float, Field(gt=0, le=10**9)] | None = None
    rate_per_min: Rate | None = None

    def __post_init__(self) -> None:
        check_grant(self.scopes, self.pools)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """A key as it is listed: never the secret. `pools` None: all; `created_by`: a principal; `last_used_at` is durable
    once a minute.
    """

    id: str
    name: str
    scopes: list[Scope]
    pools: list[str] | None = None
    created_at: str
    created_by: str | None = None
    expires_at: str | None
    last_used_at: str | None = None
    rate_per_min: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedKey(KeyInfo):
    """The answer of `POST /auth/keys`. `key` is shown this once."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """A created key in memory and in the store. `digest`: SHA-256 of the whole key, in hex."""

    info: KeyInfo
    digest: str


class Keys:
    """Every key that this house knows. `wall`: Unix time in seconds, for expiry and last use alone; `rate_per_min`: of
    a key that is created without one.
    """

    def __init__(
        self, documents: Documents, admin: str, *, wall: Callable[[], float], rate_per_min: int = Limits().rate_per_min
    ) -> None:
        self._documents = documents
        self._admin_digest = _digest(admin)
        self._now = Forward(wall)
        self._keys: dict[str, _Stored] = {}
        self._used: dict[str, float] = {}
        self._makers: dict[str, str | None] = {}
        self.rate_per_min = rate_per_min

    async def load(self) -> None:
        """Read what earlier lives of the house created; call it once, before the first request."""
        for doc in (await self._documents.load()).values():
            stored = load(_Stored, doc)
            self._keys[stored.info.id] = stored
            self._makers[stored.info.id] = stored.info.created_by

    def principal(self, presented: str) -> Principal:
        """Who presents this key.

        Raises:
            Unauthenticated: none of ours.
            TokenExpired: it was ours.

        """
        digest = _digest(presented)
        if hmac.compare_digest(digest, self._admin_digest):
            return self.holder(ADMIN)
        match = _KEY.fullmatch(presented)
        stored = self._keys.get(match[1]) if match else None
        if stored is None or not hmac.compare_digest(digest, stored.digest):
            raise Unauthenticated("Use another key: this one is unknown or was revoked.")
        principal = self.holder(stored.info.id)
        self._used[stored.info.id] = self._now()
        return principal

    def holder(self, id: str) -> Principal:
        """Who holds the key `id` (`admin`: the admin key). Raises Unauthenticated, TokenExpired."""
        digest = self._digest_of(id)

        def check() -> None:
            if digest is None or self._digest_of(id) != digest:
                raise Unauthenticated("Use another key: this one is unknown or was revoked.")
            if self._expired(id):
                raise TokenExpired("Use another key: this one has expired.")

        check()
        if id == ADMIN:
            return Principal(name="key:admin", authority=_ALL, streams=_ADMIN_STREAMS, check=check)
        info = self._keys[id].info
        return Principal(
            name=f"key:{id}",
            authority=authority_of(info.scopes, info.pools),
            rate=info.rate_per_min,
            expires_at=info.expires_at,
            check=check,
        )

    def is_admin(self, presented: str) -> bool:
        """Whether this is the admin key."""
        return hmac.compare_digest(_digest(presented), self._admin_digest)

    def replace_admin(self, admin: str) -> None:
        """From now on this is the admin key, and the one before it is none."""
        self._admin_digest = _digest(admin)

    def maker_of(self, id: str) -> str | None:
        """The principal that made the key `id`, also when it was revoked in this life of the house."""
        return self._makers.get(id)

    def mark(self, id: str) -> str | None:
        """The same text as long as the key `id` is the same and good; else None. Tells nothing of the key."""
        digest = self._digest_of(id)
        return None if digest is None or self._expired(id) else _digest(f"mark {digest}")[:32]

    async def create(self, new: NewKey, caller: Caller = NOBODY) -> CreatedKey:
        """Make a key; it works once this returns. QuotaExceeded beyond 10,000."""
        if len(self._keys) >= MOST:
            raise QuotaExceeded(f"Revoke a key first: there are {MOST}.")
        name, now = secrets.token_hex(6), self._now()
        key = f"eh_{name}_{secrets.token_urlsafe(32)}"
        info = KeyInfo(
            id=name,
            name=new.name,
            scopes=sorted(set(new.scopes)),
            pools=None if new.pools is None else sorted(set(new.pools)),
            created_at=_stamp(now),
            created_by=caller.principal,
            expires_at=None if new.expires_in_s is None else _stamp(now + new.expires_in_s),
            rate_per_min=new.rate_per_min or self.rate_per_min,
        )
        stored = _Stored(info=info, digest=_digest(key))
        await self._documents.put(name, as_json(stored), caller)
        self._keys[name], self._makers[name] = stored, caller.principal
        while len(self._makers) > 2 * MOST:  # of keys that were revoked long ago
            del self._makers[next(iter(self._makers))]
        return CreatedKey(key=key, **{field.name: getattr(info, field.name) for field in fields(KeyInfo)})

    async def revoke(self, id: str, caller: Caller = NOBODY) -> None:
        """Make a key unknown: at once, and for ever once this returns. Raises NotFound."""
        stored = self._keys.pop(id, None)
        if stored is None:
            raise NotFound("Check the id: there is no such key.")
        self._used.pop(id, None)
        try:
            await self._documents.remove(id, caller)
        except EnginehouseError:
            self._keys[id] = stored  # it is still in the store, so that a second attempt must find it
            raise

    async def note_uses(self) -> None:
        """Make durable which keys were used since the last time."""
        used, self._used = self._used, {}
        for name, then in used.items():
            stored = self._keys.get(name)
            if stored is not None:  # or it was revoked in the meantime, and must not be written again
                self._keys[name] = replace(stored, info=replace(stored.info, last_used_at=_stamp(then)))
                await self._documents.put(name, as_json(self._keys[name]), NOBODY)

    def infos(self) -> list[KeyInfo]:
        """The created keys, oldest first; the admin key is not among them."""
        infos = (self._with_last_use(stored.info) for stored in self._keys.values())
        return sorted(infos, key=lambda info: (info.created_at, info.id))

    def _with_last_use(self, info: KeyInfo) -> KeyInfo:
        then = self._used.get(info.id)
        return info if then is None else replace(info, last_used_at=_stamp(then))

    def _digest_of(self, id: str) -> str | None:
        if id == ADMIN:
            return self._admin_digest
        return self._keys[id].digest if id in self._keys else None

    def _expired(self, id: str) -> bool:
        expires_at = self._keys[id].info.expires_at if id in self._keys else None
        return expires_at is not None and datetime.fromisoformat(expires_at).timestamp() <= self._now()


def admin_key(path: Path) -> str:
    """The admin key in the file `path`, which is created when there is none (0600, 32 random bytes).

    Raises:
        Problem: the file is not ours alone, is no plain file, or holds no key of 32 to 1,024 visible
        characters.

    """
    create_private(path, lambda: secrets.token_urlsafe(32).encode("ascii") + b"\n", "the admin key")
    content = read_private(path, "the admin key").strip()
    if len(content) not in _ADMIN_BYTES or not all(0x21 <= byte <= 0x7E for byte in content):
        raise Problem(
            f"{path}: the admin key must be one line of 32 to 1,024 visible ASCII characters; "
            "remove the file to get a new one."
        )
    return content.decode("ascii")


def _stamp(then: float) -> str:
    return rfc3339(round(then * 1000))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
