"""Who am I; coming and going; API keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from protocol.errors import NotFound, Overloaded, QuotaExceeded, RateLimited, Unauthenticated
from protocol.specs import STRICT
from protocol.times import rfc3339
from protocol.wire import Page
from web.auth import Scope
from web.auth.credentials import cleared_cookie, presented_key, set_cookie
from web.auth.families import COOKIE_S
from web.auth.identity import Login
from web.auth.keys import CreatedKey, KeyInfo, NewKey
from web.auth.signing import ACCESS_S
from web.auth.tickets import FRESH_S
from web.call import Call
from web.reply import Reply, created, nothing
from web.route import ANYBODY, Section

section = Section("auth")


@dataclass(frozen=True, slots=True, kw_only=True)
class WhoAmI:
    """The principal as it is journaled. `pools` None: all; `expires_at` None: never."""

    principal: str
    scopes: list[Scope]
    pools: list[str] | None
    expires_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """`POST /auth/login`. `cookie`: set the session cookie too, for pages of this server."""

    __pydantic_config__ = STRICT
    username: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=1024, json_schema_extra={"writeOnly": True})]
    cookie: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """`POST /auth/api-key`. `cookie`: set the session cookie too, for pages of this server."""

    __pydantic_config__ = STRICT
    cookie: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """`POST /auth/refresh`."""

    __pydantic_config__ = STRICT
    refresh_token: Annotated[str, Field(max_length=4096)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """`access_token`: sent with each request, good for `expires_in_s`; `refresh_token`: gives the next pair, once."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - its type, not a token
    expires_in_s: int = ACCESS_S
    scopes: list[Scope]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTicket:
    """`POST /auth/ticket`. `path`: of a stream, as in its URL; what stands behind a `?` is not looked at."""

    __pydantic_config__ = STRICT
    path: Annotated[str, Field(max_length=4096)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketInfo:
    """`ticket`: sent as `?ticket=`; `expires_in_s`: until when it must be used first."""

    ticket: str
    path: str
    expires_in_s: float = FRESH_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotate:
    """`POST /auth/rotate`. `at_once`: tokens that are out are not believed any more."""

    __pydantic_config__ = STRICT
    at_once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """`kid`: names the key that signs now; `previous_until`: how long the one before is believed (None: it is not)."""

    kid: str
    previous_until: str | None


@section.get("/auth/whoami", ANYBODY)
async def whoami(call: Call) -> WhoAmI:
    """The principal behind the credentials that are sent."""
    who = call.principal
    assert who is not None
    pools = None if who.authority.pools is None else sorted(who.authority.pools)
    return WhoAmI(principal=who.name, scopes=sorted(who.scopes), pools=pools, expires_at=who.expires_at)


@section.post("/auth/login", None, Unauthenticated, RateLimited, Overloaded)
async def login(call: Call, body: Credentials) -> Reply[Tokens]:
    """Log in with a password; ten failures a minute are allowed from an address."""
    address = (call.scope.get("client") or ("unix", 0))[0]
    given = await call.services.identity.login(
        body.username, body.password, address=address, cookie=body.cookie, caller=call.caller
    )
    return _tokens(call, given)


@section.post("/auth/refresh", None, Unauthenticated)
async def refresh(call: Call, body: Refresh) -> Reply[Tokens]:
    """The next pair of tokens, also when the access token has expired.

    A refresh token that is used a second time ends its login.
    """
    return _tokens(call, await call.services.identity.refresh(body.refresh_token, call.caller))


@section.post("/auth/api-key", None, Unauthenticated)
async def exchange_key(call: Call, body: Exchange = Exchange()) -> Reply[Tokens]:
    """Tokens for the API key in `X-API-Key`, with its scopes and pools; they end with the key."""
    key = presented_key(call.scope["headers"])
    if key is None:
        raise Unauthenticated("Send the key as `X-API-Key: <key>`.")
    return _tokens(call, await call.services.identity.exchange(key, cookie=body.cookie, caller=call.caller))


@section.post("/auth/logout", ANYBODY, answers=(204,))
async def logout(call: Call) -> Reply[None]:
    """End the login that the access token belongs to, with all its tokens, and clear the session cookie."""
    assert call.principal is not None
    await call.services.identity.logout(call.principal, call.caller)
    return Reply(None, nothing().status, (cleared_cookie(call.scope),))


@section.post("/auth/ticket", Scope.READ, NotFound)
async def create_ticket(call: Call, body: NewTicket) -> TicketInfo:
    """A ticket for one stream, for clients that cannot send headers: `GET <path>?ticket=<ticket>` within 30 s."""
    assert call.principal is not None
    path = body.path.partition("?")[0]
    if not call.services.takes_ticket(path):
        raise NotFound("Name the path of a stream, such as /api/v1/events.")
    return TicketInfo(ticket=call.services.identity.ticket(call.principal, path), path=path)


@section.post("/auth/rotate", Scope.ADMIN)
async def rotate_signing_key(call: Call, body: Rotate = Rotate()) -> Rotated:
    """Sign access tokens with a new key; those that are out stay good until they expire."""
    keys = await call.services.identity.rotate(at_once=body.at_once)
    until = keys.previous.until if keys.previous else None
    return Rotated(kid=keys.current.kid, previous_until=None if until is None else rfc3339(round(until * 1000)))


@section.get("/auth/keys", Scope.ADMIN)
async def list_keys(call: Call) -> Page[KeyInfo]:
    """The created keys, never their secrets."""
    return Page(items=call.services.keys.infos())


@section.post("/auth/keys", Scope.ADMIN, QuotaExceeded, answers=(201,))
async def create_key(call: Call, body: NewKey) -> Reply[CreatedKey]:
    """Create a key; it is shown in this answer and never again."""
    key = await call.services.keys.create(body, call.caller)
    return created(key, f"/api/v1/auth/keys/{key.id}")


@section.delete("/auth/keys/{key}", Scope.ADMIN, NotFound, answers=(204,))
async def revoke_key(call: Call, key: str) -> Reply[None]:
    """Revoke a key, for good, with every token that it was exchanged for."""
    await call.services.keys.revoke(key, call.caller)
    call.services.rates.forget(f"key:{key}")
    return nothing()


def _tokens(call: Call, given: Login) -> Reply[Tokens]:
    tokens = Tokens(
        access_token=given.access_token,
        refresh_token=given.refresh_token,
        scopes=sorted(given.principal.scopes),
    )
    cookie = () if given.cookie is None else (set_cookie(call.scope, given.cookie, COOKIE_S),)
    return Reply(tokens, headers=cookie)
