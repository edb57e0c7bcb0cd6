"""API keys: who holds one is a principal. Only digests are kept; a key is shown once, when it is made.

    eh_<id>_<secret>     a created key: 12 hex characters that name it, 32 random bytes in base64url
    <text>               the admin key: what the file `admin.key` in the state directory holds

A key is random enough for a plain SHA-256 (a slow hash protects what people choose, and would cost 144 ms per
request). It is found by its public id and compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

from pydantic import Field

from protocol.authority import Authority
from protocol.edge import as_json, load
from protocol.errors import NotFound, Unauthenticated
from protocol.specs import STRICT
from protocol.times import rfc3339
from web.auth.principal import Principal, Scope
from web.limits import Limits
from web.places import Problem
from web.refusals import TokenExpired

__all__ = ["CreatedKey", "KeyInfo", "KeyStore", "Keys", "NewKey", "admin_key"]

_KEY: Final = re.compile(r"eh_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_ADMIN_BYTES: Final = range(32, 1025)
_ADMIN_STREAMS: Final = 1024
_ALL: Final = Authority(scopes=frozenset({Scope.ADMIN}))


class KeyStore(Protocol):
    """Where created keys live: documents by id. All three are durable on return; Unavailable when that is not
    possible.
    """

    async def load(self) -> list[dict[str, Any]]: ...
    async def put(self, id: str, doc: dict[str, Any]) -> None: ...
    async def remove(self, id: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """`POST /auth/keys`. `rate_per_min` None: what `[limits] rate_per_min` says at the time."""

    __pydantic_config__ = STRICT
    name: Annotated[str, Field(min_length=1, max_length=128)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)]
    expires_in_s: Annotated[float, Field(gt=0, le=10**9)] | None = None
    rate_per_min: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """A key as it is listed: never the secret. `pools` None: all."""

    id: str
    name: str
    scopes: list[Scope]
    pools: list[str] | None = None
    created_at: str
    expires_at: str | None
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
    """Every key that this house knows. `wall`: Unix time in seconds, for expiry alone.

    With `enable_auth` False who presents no key is principal `dev`, who may everything; a presented key is still
    verified. `rate_per_min`: of a key that is created without one.
    """

    def __init__(
        self,
        store: KeyStore,
        admin: str,
        *,
        wall: Callable[[], float],
        enable_auth: bool = True,
        rate_per_min: int = Limits().rate_per_min,
    ) -> None:
        self._store = store
        self._admin_digest = _digest(admin)
        self._wall = wall
        self._latest = 0.0
        self._keys: dict[str, _Stored] = {}
        self.enable_auth = enable_auth
        self.rate_per_min = rate_per_min

    async def load(self) -> None:
        """Read what earlier lives of the house created; call it once, before the first request."""
        for doc in await self._store.load():
            stored = load(_Stored, doc)
            self._keys[stored.info.id] = stored

    def principal(self, presented: str | None) -> Principal:
        """Who presents this key.

        Raises:
            Unauthenticated: none, or none of ours.
            TokenExpired: it was ours.

        """
        if presented is None:
            if self.enable_auth:
                raise Unauthenticated("Send a key, as `Authorization: Bearer <key>` or as `X-API-Key: <key>`.")
            return Principal(name="dev", authority=_ALL, streams=_ADMIN_STREAMS)
        digest = _digest(presented)
        if hmac.compare_digest(digest, self._admin_digest):
            return Principal(name="key:admin", authority=_ALL, streams=_ADMIN_STREAMS)
        match = _KEY.fullmatch(presented)
        stored = self._keys.get(match[1]) if match else None
        if stored is None or not hmac.compare_digest(digest, stored.digest):
            raise Unauthenticated("Use another key: this one is unknown or was revoked.")
        info = stored.info
        if info.expires_at is not None and datetime.fromisoformat(info.expires_at).timestamp() <= self._now():
            raise TokenExpired("Use another key: this one has expired.")
        return Principal(
            name=f"key:{info.id}",
            authority=Authority(
                scopes=frozenset(info.scopes), pools=None if info.pools is None else frozenset(info.pools)
            ),
            rate=info.rate_per_min,
            expires_at=info.expires_at,
        )

    def is_admin(self, presented: str) -> bool:
        """Whether this is the admin key."""
        return hmac.compare_digest(_digest(presented), self._admin_digest)

    def replace_admin(self, admin: str) -> None:
        """From now on this is the admin key, and the one before it is none."""
        self._admin_digest = _digest(admin)

    async def create(self, new: NewKey) -> CreatedKey:
        """Make a key; it works once this returns."""
        name, now = secrets.token_hex(6), self._now()
        key = f"eh_{name}_{secrets.token_urlsafe(32)}"
        info = KeyInfo(
            id=name,
            name=new.name,
            scopes=sorted(set(new.scopes)),
            created_at=rfc3339(round(now * 1000)),
            expires_at=None if new.expires_in_s is None else rfc3339(round((now + new.expires_in_s) * 1000)),
            rate_per_min=new.rate_per_min or self.rate_per_min,
        )
        stored = _Stored(info=info, digest=_digest(key))
        await self._store.put(name, as_json(stored))
        self._keys[name] = stored
        return CreatedKey(key=key, **{field: getattr(info, field) for field in KeyInfo.__slots__})

    async def revoke(self, id: str) -> None:
        """Make a key unknown, for ever once this returns. Raises NotFound."""
        if id not in self._keys:
            raise NotFound("Check the id: there is no such key.")
        await self._store.remove(id)
        self._keys.pop(id, None)

    def infos(self) -> list[KeyInfo]:
        """The created keys, oldest first; the admin key is not among them."""
        return sorted((stored.info for stored in self._keys.values()), key=lambda info: (info.created_at, info.id))

    def _now(self) -> float:
        # A clock that is set back never revives what has expired.
        self._latest = max(self._latest, self._wall())
        return self._latest


def admin_key(path: Path) -> str:
    """The admin key in the file `path`, which is created when there is none (0600, 32 random bytes).

    Raises:
        Problem: the file is not ours alone, is no plain file, or holds no key of 32 to 1,024 visible
        characters.

    """
    try:
        _create(path)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Problem(f"{path}: the admin key cannot be read or created ({error.strerror}).") from error
    try:
        _check_private(path, os.fstat(fd))
        content = os.read(fd, _ADMIN_BYTES.stop + 1).strip()
    finally:
        os.close(fd)
    if len(content) not in _ADMIN_BYTES or not all(0x21 <= byte <= 0x7E for byte in content):
        raise Problem(
            f"{path}: the admin key must be one line of 32 to 1,024 visible ASCII characters; "
            "remove the file to get a new one."
        )
    return content.decode("ascii")


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Problem(f"{path}: the admin key must be a plain file.")
    if status.st_uid != os.geteuid():
        raise Problem(f"{path}: the admin key must belong to the user who runs the house.")
    if status.st_mode & 0o077:
        raise Problem(f"{path}: others may read the admin key; make it private with chmod 600, or remove it.")


def _create(path: Path) -> None:
    """Linked into place whole: a crash leaves no empty key behind, and an existing one is never replaced."""
    if path.is_symlink() or path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(fd)
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # somebody was faster; theirs is checked like any other
    finally:
        draft.unlink()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8")).hexdigest()
