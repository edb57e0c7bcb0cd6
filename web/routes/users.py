"""People who may log in."""

from __future__ import annotations

from protocol.errors import NotFound, Overloaded, QuotaExceeded
from protocol.wire import Page
from web.auth import Scope
from web.auth.users import NewUser, PatchUser, UserInfo
from web.call import Call
from web.refusals import UserExists
from web.reply import Reply, created, nothing
from web.route import Section

section = Section("auth")


@section.get("/auth/users", Scope.ADMIN)
async def list_users(call: Call) -> Page[UserInfo]:
    """All users, by name."""
    return Page(items=call.services.identity.users.infos())


@section.post("/auth/users", Scope.ADMIN, UserExists, QuotaExceeded, Overloaded, answers=(201,))
async def create_user(call: Call, body: NewUser) -> Reply[UserInfo]:
    """Create a user, who logs in with the name and the password."""
    user = await call.services.identity.users.create(body, call.caller)
    return created(user, f"/api/v1/auth/users/{user.name}")


@section.patch("/auth/users/{user}", Scope.ADMIN, NotFound, Overloaded)
async def patch_user(call: Call, user: str, body: PatchUser) -> UserInfo:
    """Change the members that are sent. All but the rate end every login of the user."""
    return await call.services.identity.users.change(user, body, frozenset(call.json), call.caller)


@section.delete("/auth/users/{user}", Scope.ADMIN, NotFound, answers=(204,))
async def remove_user(call: Call, user: str) -> Reply[None]:
    """Remove a user, with every login."""
    await call.services.identity.users.remove(user, call.caller)
    call.services.rates.forget(f"user:{user}")
    return nothing()
