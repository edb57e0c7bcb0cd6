"""People: a name, a password, and what they may.

Each user has a mark, new and random whenever what they may or how they log in changes. Whatever was opened under
another mark is over, so one durable write ends all of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Annotated, Final

from pydantic import Field

from protocol.edge import as_json, load
from protocol.errors import EnginehouseError, NotFound, Overloaded, QuotaExceeded, Unauthenticated, ValidationFailed
from protocol.specs import STRICT
from protocol.times import rfc3339
from supervisor.documents import Documents
from supervisor.house import NOBODY, Caller
from supervisor.standing import authority_of as authority_now
from web.auth.clock import Forward
from web.auth.grants import Pools, Rate, Scopes, authority_of, check_grant
from web.auth.passwords import MAX_BYTES, MIN_BYTES, Passwords
from web.auth.principal import Principal, Scope
from web.refusals import UserExists

__all__ = ["NewUser", "PatchUser", "UserInfo", "Users"]

MOST: Final = 10_000
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Password = Annotated[
    str,
    Field(
        max_length=MAX_BYTES, description=f"{MIN_BYTES} to {MAX_BYTES} bytes.", json_schema_extra={"writeOnly": True}
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """`POST /auth/users`. `pools` None: all; `admin` has no pools."""

    __pydantic_config__ = STRICT
    name: Name
    password: Password
    scopes: Scopes
    pools: Pools | None = None
    rate_per_min: Rate = 600

    def __post_init__(self) -> None:
        check_grant(self.scopes, self.pools)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchUser:
    """`PATCH /auth/users/{name}`: what is sent is changed. `pools` null: all."""

    __pydantic_config__ = STRICT
    password: Password | None = None
    scopes: Scopes | None = None
    pools: Pools | None = None
    disabled: bool | None = None
    rate_per_min: Rate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInfo:
    """A user as listed. `pools` None: all; `disabled`: may not log in."""

    name: str
    scopes: list[Scope]
    pools: list[str] | None
    disabled: bool
    rate_per_min: int
    created_at: str
    changed_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """`password`: its hash; `mark`: see the module."""

    info: UserInfo
    password: str
    mark: str


class Users:
    """Every user of this house. `wall`: Unix time in seconds."""

    def __init__(self, documents: Documents, passwords: Passwords, *, wall: Callable[[], float]) -> None:
        self._documents = documents
        self._passwords = passwords
        self._now = Forward(wall)
        self._users: dict[str, _Stored] = {}

    async def load(self) -> None:
        """Read what is stored; call it once, before the first request."""
        for doc in (await self._documents.load()).values():
            stored = load(_Stored, doc)
            self._users[stored.info.name] = stored

    def holder(self, name: str) -> Principal:
        """The user as a principal. Raises Unauthenticated when there is none, or not any more."""
        mark = self.mark(name)

        def check() -> None:
            if mark is None or self.mark(name) != mark:
                raise Unauthenticated("Log in again: the account was changed, disabled or removed.")

        check()
        info = self._users[name].info
        return Principal(
            name=f"user:{name}", authority=authority_of(info.scopes, info.pools), rate=info.rate_per_min, check=check
        )

    def mark(self, name: str) -> str | None:
        """See the module. None when nobody of this name may log in."""
        stored = self._users.get(name)
        return None if stored is None or stored.info.disabled else stored.mark

    async def verified(self, name: str, password: str) -> str:
        """The mark of the user whose password this is; takes as long when there is none.

        Raises:
            Unauthenticated: there is no such user, or the password is another, or the user is disabled.
            Overloaded: too many are being verified.

        """
        stored = self._users.get(name)
        good = await self._passwords.verify(None if stored is None else stored.password, password)
        if stored is None or not good or stored.info.disabled:
            raise Unauthenticated("Check the name and the password: they are not those of a user who may log in.")
        if self._passwords.outdated(stored.password):
            with suppress(Overloaded, ValidationFailed):  # the next login tries again; an old password may be short
                renewed = await self._passwords.hash(password)
                if self._users.get(name) is stored:  # nobody changed it in the meantime
                    await self._put(replace(stored, password=renewed), NOBODY)
        return stored.mark

    async def create(self, new: NewUser, caller: Caller = NOBODY) -> UserInfo:
        """Make a user. UserExists; ValidationFailed (the password); QuotaExceeded beyond 10,000; Unauthenticated: the
        caller's credential was over when the password was hashed.
        """
        password = await self._passwords.hash(new.password)
        authority_now(caller)
        if new.name in self._users:
            raise UserExists(f"Choose another name: there is a user {new.name}.")
        if len(self._users) >= MOST:
            raise QuotaExceeded(f"Remove a user first: there are {MOST}.")
        now = self._stamp()
        info = UserInfo(
            name=new.name,
            scopes=sorted(set(new.scopes)),
            pools=None if new.pools is None else sorted(set(new.pools)),
            disabled=False,
            rate_per_min=new.rate_per_min,
            created_at=now,
            changed_at=now,
        )
        await self._put(_Stored(info=info, password=password, mark=secrets.token_hex(16)), caller)
        return info

    async def change(self, name: str, patch: PatchUser, members: frozenset[str], caller: Caller = NOBODY) -> UserInfo:
        """Change the named `members`; what was opened before is over, unless only the rate changed. NotFound;
        ValidationFailed.
        """
        password = None if patch.password is None else await self._passwords.hash(patch.password)
        authority_now(caller)
        stored = self._get(name)
        changes = {field.name: getattr(patch, field.name) for field in fields(PatchUser) if field.name in members}
        changes.pop("password", None)
        for member, value in changes.items():
            if value is None and member != "pools":
                raise _fault(member, "may not be null")
        for member in ("scopes", "pools"):
            if changes.get(member) is not None:
                changes[member] = sorted(set(changes[member]))
        info = replace(stored.info, **changes, changed_at=self._stamp())
        try:
            check_grant(info.scopes, info.pools)
        except ValueError as error:
            raise _fault("scopes", str(error)) from None
        lasting = password is None and changes.keys() <= {"rate_per_min"}
        mark = stored.mark if lasting else secrets.token_hex(16)
        await self._put(_Stored(info=info, password=password or stored.password, mark=mark), caller)
        return info

    async def remove(self, name: str, caller: Caller = NOBODY) -> None:
        """Nobody of this name logs in any more: at once, and for ever once this returns. NotFound."""
        stored = self._get(name)
        del self._users[name]
        try:
            await self._documents.remove(name, caller)
        except EnginehouseError:
            self._users[name] = stored
            raise

    def infos(self) -> list[UserInfo]:
        """All of them, by name."""
        return [self._users[name].info for name in sorted(self._users)]

    async def _put(self, stored: _Stored, caller: Caller) -> None:
        """In memory first, so that of two changes the later one is the later one in the store too."""
        name = stored.info.name
        before = self._users.get(name)
        self._users[name] = stored
        try:
            await self._documents.put(name, as_json(stored), caller)
        except EnginehouseError:
            if self._users.get(name) is stored:
                self._users.pop(name)
                if before is not None:
                    self._users[name] = before
            raise

    def _get(self, name: str) -> _Stored:
        if name not in self._users:
            raise NotFound("Check the name: there is no such user.")
        return self._users[name]

    def _stamp(self) -> str:
        return rfc3339(round(self._now() * 1000))


def _fault(member: str, what: str) -> ValidationFailed:
    fault = {"loc": ["body", member], "msg": what, "type": "value_error"}
    return ValidationFailed(f"{member}: {what}. Correct it and send it again.", errors=[fault])
