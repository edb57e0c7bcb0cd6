"""Who am I, and who else may: API keys."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import NotFound
from protocol.wire import Page
from web.auth import Scope
from web.auth.keys import CreatedKey, KeyInfo, NewKey
from web.call import Call
from web.reply import Reply, created, nothing
from web.route import ANYBODY, Section

section = Section("auth")


@dataclass(frozen=True, slots=True, kw_only=True)
class WhoAmI:
    """The principal as it is journaled. `expires_at` None: never."""

    principal: str
    scopes: list[Scope]
    expires_at: str | None


@section.get("/auth/whoami", ANYBODY)
async def whoami(call: Call) -> WhoAmI:
    """The principal behind the key that is sent."""
    who = call.principal
    assert who is not None
    return WhoAmI(principal=who.name, scopes=sorted(who.scopes), expires_at=who.expires_at)


@section.get("/auth/keys", Scope.ADMIN)
async def list_keys(call: Call) -> Page[KeyInfo]:
    """The created keys, never their secrets."""
    return Page(items=call.services.keys.infos())


@section.post("/auth/keys", Scope.ADMIN, answers=(201,))
async def create_key(call: Call, body: NewKey) -> Reply[CreatedKey]:
    """Create a key; it is shown in this answer and never again."""
    key = await call.services.keys.create(body)
    return created(key, f"/api/v1/auth/keys/{key.id}")


@section.delete("/auth/keys/{key}", Scope.ADMIN, NotFound, answers=(204,))
async def revoke_key(call: Call, key: str) -> Reply[None]:
    """Revoke a key, for good."""
    await call.services.keys.revoke(key)
    call.services.rates.forget(f"key:{key}")
    return nothing()
