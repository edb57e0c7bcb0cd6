"""Who asks: the one place where a request's credentials become a principal, and where people log in.

    admin key, eh_...     web/auth/keys.py             ehe~...     web/auth/engine_tokens.py
    a JWT                 web/auth/access.py           eht_...     web/auth/tickets.py
    ehr_..., ehs_...      web/auth/families.py (the first refreshes and is no credential, the second is the cookie's)

A principal can be asked at any time whether its credential still stands (`Principal.standing`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import trio

from protocol.authority import Authority, Scope
from protocol.errors import Overloaded, Unauthenticated, Unavailable
from protocol.times import rfc3339
from supervisor.documents import Documents
from supervisor.house import NOBODY, Caller
from web.asgi import Scope as AsgiScope
from web.auth.access import AccessTokens
from web.auth.clock import Forward
from web.auth.credentials import cookie_of, presented_key, ticket_of
from web.auth.engine_tokens import EngineTokens
from web.auth.families import Families, Family, Opened
from web.auth.keys import Keys
from web.auth.logins import Logins
from web.auth.passwords import Passwords
from web.auth.principal import Principal
from web.auth.signing import SigningKeys, rotate_signing_keys
from web.auth.tickets import Ticket, Tickets
from web.auth.users import Users
from web.auth.worker import Worker
from web.limits import Limits

__all__ = ["TICKET", "Identity", "Login", "ticket_in"]

TICKET: Final = "enginehouse.ticket"  # the key in an ASGI scope under which a ticket that was used is left
_TIDY_S: Final = 60.0
_DEV: Final = Principal(name="dev", authority=Authority(scopes=frozenset({Scope.ADMIN})), streams=1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a login, a refresh or an exchange gives."""

    access_token: str
    refresh_token: str
    cookie: str | None
    principal: Principal


class Identity:
    """Everybody whom this house knows.

    Args:
        tables: the table of a name, where keys, users or families are kept.
        admin: the admin key.
        signing: what signs access tokens.
        wall: Unix time in seconds, for expiry alone.
        secret_file: where `signing` stands, to be rotated there; None: nowhere.
        enable_auth: False: who presents nothing is `dev`, who may everything; what is presented is still verified.
        engines: engines' own tokens; None: nobody has any.
        rate_per_min: of keys and users that have no rate of their own.
        passwords: None: with the parameters of argon2-cffi.
        threads: False: without threads, as a virtual clock needs it.

    """

    def __init__(
        self,
        tables: Callable[[str], Documents],
        *,
        admin: str,
        signing: SigningKeys,
        wall: Callable[[], float],
        secret_file: Path | None = None,
        enable_auth: bool = True,
        engines: EngineTokens | None = None,
        rate_per_min: int = Limits().rate_per_min,
        passwords: Passwords | None = None,
        threads: bool = True,
    ) -> None:
        self.enable_auth = enable_auth
        self._now = Forward(wall)
        self._secret_file = secret_file
        self._worker = Worker(1, threads=threads)
        self.keys = Keys(tables("api_key"), admin, wall=self._now, rate_per_min=rate_per_min)
        self.users = Users(tables("user"), passwords or Passwords(threads=threads), wall=self._now)
        self.families = Families(tables("login"), self._mark, wall=self._now)
        self.access = AccessTokens(signing, self._now)
        self.engines = engines or EngineTokens(lambda uid: None)
        self.tickets = Tickets()
        self.logins = Logins()

    async def load(self) -> None:
        """Read what earlier lives of the house made durable; call it once, before the first request."""
        await self.keys.load()
        await self.users.load()
        self._now.observe(await self.families.load())

    async def tend(self) -> None:
        """Note once a minute which keys were used, and remove logins that are over; until cancelled, or until nothing
        can be written any more, which the house says itself.
        """
        await self._worker.run(self.access.warm_up)
        with suppress(Unavailable):
            while True:
                await self.families.sweep()
                await trio.sleep(_TIDY_S)
                await self.keys.note_uses()

    # -- who asks ----------------------------------------------------------------------------------------------------
    def admit(self, scope: AsgiScope, *, takes_ticket: bool) -> Principal:
        """Who makes this request. A ticket is used up by this, and left in the scope under `TICKET`.

        Args:
            scope: of ASGI, with the address and the scheme of the client.
            takes_ticket: whether the route opens a stream.

        Raises:
            Unauthenticated: no credentials, wrong ones, or several.
            TokenExpired: they were ours.

        """
        presented = presented_key(scope["headers"])
        ticket = ticket_of(scope) if takes_ticket else None
        if presented is not None and ticket is not None:
            raise Unauthenticated("Send either a ticket or a key.")
        if ticket is not None:
            taken = self.tickets.take(ticket, scope["path"], _last_event_id(scope))
            scope[TICKET] = taken
            return taken.principal
        if presented is not None:
            return self.holder(presented)
        cookie = cookie_of(scope)
        if cookie is not None:
            try:
                return self._visitor(cookie)
            except Unauthenticated:
                if self.enable_auth:
                    raise
        if self.enable_auth:
            raise Unauthenticated("Send a key or an access token, as `Authorization: Bearer <key>`.")
        return _DEV

    def holder(self, presented: str) -> Principal:
        """Who presents this key or token. Raises Unauthenticated, TokenExpired."""
        if self.engines.looks_like_one(presented):
            return self.engines.principal(presented)
        if presented.count(".") == 2 and presented.startswith("eyJ"):
            return self._bearer(presented)
        return self.keys.principal(presented)

    def ticket(self, principal: Principal, path: str) -> str:
        """A ticket for the stream at `path`. It outlives the access token that asked for it, and not its login."""
        lasting = principal if principal.family is None else self._member(self.families.get(principal.family))
        return self.tickets.issue(lasting, path)

    def standing_of(self, principal: str) -> Authority | None:
        """What the principal of this name may now; None when nothing is known of it. Raises Unauthenticated or
        TokenExpired once it is over: for what acts later on its behalf.
        """
        kind, _, name = principal.partition(":")
        if kind == "user":
            return self.users.holder(name).standing()
        if kind == "key":
            return self.keys.holder(name).standing()
        if principal == _DEV.name:
            if self.enable_auth:
                raise Unauthenticated("Whoever set this up did so while auth was off.")
            return _DEV.authority
        return None

    def person_of(self, principal: str) -> str:
        """Who stands behind a principal: of a key, the user who made it, also by way of other keys; everybody else
        stands for themselves.
        """
        maker: str | None = principal
        while maker is not None and maker.startswith("key:"):  # each was made by one that was there before it
            maker = self.keys.maker_of(maker.removeprefix("key:"))
        return maker if maker is not None and maker.startswith("user:") else principal

    # -- coming and going --------------------------------------------------------------------------------------------
    async def login(
        self, name: str, password: str, *, address: str, cookie: bool = False, caller: Caller = NOBODY
    ) -> Login:
        """Open a family for a user. Raises Unauthenticated, RateLimited (too many have failed), Overloaded."""
        attempt = self.logins.attempt(address, name)
        try:
            mark = await self.users.verified(name, password)
        except Overloaded:
            self.logins.forgive(address, name, attempt)  # it was not even looked at
            raise
        self.logins.succeeded(address, name, attempt)
        return self._given(await self.families.open(f"user:{name}", mark, caller, cookie=cookie))

    async def exchange(self, key: str, *, cookie: bool = False, caller: Caller = NOBODY) -> Login:
        """Open a family for the holder of an API key. Raises Unauthenticated, TokenExpired."""
        principal = self.keys.principal(key)
        mark = self.keys.mark(principal.name.removeprefix("key:"))
        if mark is None:
            raise Unauthenticated("Use another key: this one has just ended.")
        return self._given(await self.families.open(principal.name, mark, caller, cookie=cookie))

    async def refresh(self, token: str, caller: Caller = NOBODY) -> Login:
        """The next pair of tokens. Raises Unauthenticated; see `Families.refresh`."""
        return self._given(await self.families.refresh(token, caller))

    async def logout(self, principal: Principal, caller: Caller = NOBODY) -> None:
        """End the family that the principal belongs to, if it does; for ever once this returns."""
        if principal.family is not None:
            await self.families.revoke(principal.family, caller)

    async def rotate(self, *, at_once: bool = False) -> SigningKeys:
        """Sign with a new key from now on; the one before is believed until its tokens have expired, unless `at_once`.

        Raises:
            Problem: the file cannot be written; then nothing has changed.

        """
        now, path = self._now(), self._secret_file
        if path is None:
            self.access.keys = self.access.keys.rotated(now, at_once=at_once)
        else:
            self.access.keys = await self._worker.run(lambda: rotate_signing_keys(path, now, at_once=at_once))
        return self.access.keys

    # -- what stands behind it ---------------------------------------------------------------------------------------
    def _bearer(self, token: str) -> Principal:
        said = self.access.verify(token)
        family = self.families.get(said.family)
        if family.subject != said.subject:
            raise Unauthenticated("Log in again: this is no access token of this house.")
        member = self._member(family)

        def check() -> None:
            member.check()
            self.access.check(said)

        return replace(member, expires_at=rfc3339(said.expires * 1000), check=check)

    def _visitor(self, cookie: str) -> Principal:
        family = self.families.of_cookie(cookie)
        self.families.check_cookie(family)
        member = self._member(family)

        def check() -> None:
            member.check()
            self.families.check_cookie(family)

        return replace(member, check=check)

    def _member(self, family: Family) -> Principal:
        """The principal of a family, for as long as the family lives."""
        kind, _, name = family.subject.partition(":")
        holder = self.users.holder(name) if kind == "user" else self.keys.holder(name)

        def check() -> None:
            self.families.get(family.id)
            holder.check()

        return replace(holder, family=family.id, expires_at=rfc3339(round(family.ends * 1000)), check=check)

    def _mark(self, subject: str) -> str | None:
        kind, _, name = subject.partition(":")
        return self.users.mark(name) if kind == "user" else self.keys.mark(name)

    def _given(self, opened: Opened) -> Login:
        family = opened.family
        return Login(
            access_token=self.access.mint(family.subject, family.id),
            refresh_token=opened.refresh_token,
            cookie=opened.cookie,
            principal=self._member(family),
        )


def ticket_in(scope: AsgiScope) -> Ticket | None:
    """The ticket with which this request was admitted."""
    ticket: Ticket | None = scope.get(TICKET)
    return ticket


def _last_event_id(scope: AsgiScope) -> str | None:
    values = [value for name, value in scope["headers"] if name == b"last-event-id"]
    return values[0].decode("latin-1") if len(values) == 1 else None
