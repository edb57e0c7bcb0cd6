"""Users: who may be one, what is kept of a password, and what changes when."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from argon2 import PasswordHasher

from protocol.errors import Overloaded, StoreUnavailable, Unauthenticated
from tests.web.auth.people import AUTH, PASSWORD, House
from tests.web.doubles import CHEAP, Client
from web.auth.passwords import Passwords
from web.auth.worker import Worker

USERS = f"{AUTH}/users"


async def test_a_user_is_created_listed_changed_and_removed() -> None:
    house = House()
    body = {"name": "ada", "password": PASSWORD, "scopes": ["read", "approve", "read"], "pools": ["lab", "attic"]}
    made = await house.admin.post(USERS, body)
    assert (made.status, made.headers["location"]) == (201, f"{USERS}/ada")
    assert made.json == {
        "name": "ada", "scopes": ["approve", "read"], "pools": ["attic", "lab"], "disabled": False,
        "rate_per_min": 600, "created_at": "1970-01-12T13:46:40.000Z", "changed_at": "1970-01-12T13:46:40.000Z",
    }  # fmt: skip
    listed = await house.admin.get(USERS)
    assert listed.json == {"items": [made.json], "next_cursor": None}
    changed = await house.admin.patch(f"{USERS}/ada", {"pools": None, "scopes": ["admin"], "disabled": True})
    assert (changed.json["pools"], changed.json["scopes"], changed.json["disabled"]) == (None, ["admin"], True)
    assert (await (await house.again()).admin.get(USERS)).json["items"] == [changed.json]
    assert (await house.admin.delete(f"{USERS}/ada")).status == 204
    for gone in (
        await house.admin.delete(f"{USERS}/ada"),
        await house.admin.patch(f"{USERS}/ada", {"disabled": False}),
        await (await house.again()).admin.delete(f"{USERS}/ada"),
    ):
        assert (gone.status, gone.slug) == (404, "not-found")


async def test_a_name_is_taken_once() -> None:
    house = House()
    await house.user()
    again = await house.admin.post(USERS, {"name": "ada", "password": PASSWORD, "scopes": ["read"]})
    assert (again.status, again.slug) == (409, "user-exists")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "Ada"},
        {"name": "a/b"},
        {"name": "../etc"},
        {"name": "a" * 65},
        {"name": "ada\n"},
        {"password": "short"},
        {"password": "eleven byte"},
        {"password": "x" * 1025},
        {"password": "é" * 600},
        {"password": None},
        {"scopes": []},
        {"scopes": ["root"]},
        {"pools": []},
        {"pools": ["*"]},
        {"scopes": ["admin"], "pools": ["lab"]},
        {"scopes": ["read", "admin"], "pools": ["lab"]},
        {"rate_per_min": 0},
        {"admin": True},
    ],
)
async def test_a_user_that_does_not_fit_is_not_made(wrong: dict[str, Any]) -> None:
    house = House()
    got = await house.admin.post(USERS, {"name": "ada", "password": PASSWORD, "scopes": ["read"]} | wrong)
    assert (got.status, got.slug) == (422, "validation-failed")
    assert house.tables("user").docs == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": "short"},
        {"scopes": None},
        {"disabled": None},
        {"rate_per_min": None},
        {"scopes": ["admin"]},
        {"name": "eve"},
    ],
)
async def test_a_change_that_does_not_fit_changes_nothing(wrong: dict[str, Any]) -> None:
    house = House()
    await house.user("ada", "read", pools=["lab"])
    before = dict(house.tables("user").docs)
    got = await house.admin.patch(f"{USERS}/ada", wrong)
    assert (got.status, got.slug) == (422, "validation-failed")
    assert house.tables("user").docs == before


async def test_a_disabled_user_does_not_log_in_until_enabled() -> None:
    house = House()
    await house.user()
    for disabled, status in ((True, 401), (False, 200)):
        await house.admin.patch(f"{USERS}/ada", {"disabled": disabled})
        assert (await house.login()).status == status


async def test_nobody_stands_behind_a_disabled_user() -> None:
    house = House()
    await house.user()
    await house.admin.patch(f"{USERS}/ada", {"disabled": True})
    with pytest.raises(Unauthenticated):
        await house.who.users.verified("ada", PASSWORD)
    with pytest.raises(Unauthenticated):
        house.who.users.holder("ada")


async def test_whoever_stands_for_a_user_stops_when_the_user_changes() -> None:
    house = House()
    await house.user()
    holder = house.who.users.holder("ada")
    assert holder.standing().everywhere
    await house.admin.patch(f"{USERS}/ada", {"scopes": ["operate"]})
    with pytest.raises(Unauthenticated):
        holder.standing()


async def test_a_new_password_replaces_the_old_one() -> None:
    house = House()
    await house.user()
    await house.admin.patch(f"{USERS}/ada", {"password": "another one by far"})
    assert (await house.login()).status == 401
    assert (await house.login("ada", "another one by far")).status == 200


async def test_a_user_who_may_not_is_refused() -> None:
    house = House()
    await house.user("ada", "read", "operate", "approve")
    ada = Client(house.admin.app, (await house.login()).json["access_token"])
    for got in (
        await ada.get(USERS),
        await ada.post(USERS, {"name": "eve", "password": PASSWORD, "scopes": ["admin"]}),
        await ada.patch(f"{USERS}/ada", {"scopes": ["admin"]}),
        await ada.delete(f"{USERS}/ada"),
        await ada.post(f"{AUTH}/rotate"),
    ):
        assert (got.status, got.slug) == (403, "insufficient-scope")


async def test_a_password_is_kept_as_argon2id_and_shown_nowhere() -> None:
    house = House()
    house.who.users._passwords = Passwords(threads=False)  # noqa: SLF001 - with the parameters of the product
    await house.user()
    kept = house.tables("user").docs["ada"]["password"]
    assert kept.startswith("$argon2id$v=19$m=65536,")
    assert PASSWORD not in str(house.tables("user").docs)
    listed = await house.admin.get(USERS)
    assert b"argon2" not in listed.body
    assert b"mark" not in listed.body


async def test_a_password_is_hashed_anew_when_the_parameters_are_others() -> None:
    house = House()
    await house.user()
    given = (await house.login()).json
    before = house.tables("user").docs["ada"]["password"]
    stronger = await House(house.tables, passwords=Passwords(_stronger(), threads=False), wall=house.wall).again()
    assert (await stronger.login("ada", "not the password")).status == 401
    assert house.tables("user").docs["ada"]["password"] == before
    assert (await stronger.login()).status == 200
    after = house.tables("user").docs["ada"]["password"]
    assert "t=2" in after
    assert (await (await stronger.again()).login()).status == 200
    assert (await stronger.refresh(given["refresh_token"])).status == 200, "it is the same password"


def _stronger() -> PasswordHasher:
    return PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)


async def test_the_same_text_typed_on_two_keyboards_is_the_same_password() -> None:
    passwords = Passwords(CHEAP, threads=False)
    kept = await passwords.hash("caf\N{LATIN SMALL LETTER E WITH ACUTE} au lait")
    assert await passwords.verify(kept, "cafe\N{COMBINING ACUTE ACCENT} au lait")
    assert not await passwords.verify(kept, "cafe au lait")
    assert not await passwords.verify("no hash at all", "cafe au lait")


async def test_few_passwords_are_hashed_at_once_and_few_wait() -> None:
    import threading

    import trio

    worker, gate, refused = Worker(2), threading.Event(), 0

    async def one() -> None:
        nonlocal refused
        try:
            await worker.run(gate.wait)
        except Overloaded:
            refused += 1
            gate.set()

    async with trio.open_nursery() as nursery:
        for _ in range(2 + 32 + 1):
            nursery.start_soon(one)
    assert refused == 1


async def test_a_change_that_the_store_does_not_take_has_not_happened() -> None:
    house = House()
    await house.user()
    given = (await house.login()).json

    house.tables("user").fails = StoreUnavailable("The disk is full.")
    assert (await house.admin.patch(f"{USERS}/ada", {"disabled": True})).status == 503
    assert (await house.admin.delete(f"{USERS}/ada")).status == 503
    created = await house.admin.post(USERS, {"name": "eve", "password": PASSWORD, "scopes": ["read"]})
    assert created.status == 503
    assert [user["name"] for user in (await house.admin.get(USERS)).json["items"]] == ["ada"]
    assert (await house.whoami(given["access_token"])).status == 200


async def test_a_login_that_is_overtaken_by_a_change_opens_nothing() -> None:
    house = House()
    await house.user()
    mark = await house.who.users.verified("ada", PASSWORD)
    await house.admin.patch(f"{USERS}/ada", {"disabled": True})
    await house.admin.patch(f"{USERS}/ada", {"disabled": False})
    opened = await house.who.families.open("user:ada", mark)
    with pytest.raises(Unauthenticated):
        house.who.families.get(opened.family.id)


class Slow(Passwords):
    """Somebody else is faster than a hash. `meanwhile`: what they do, once."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def hash(self, password: str) -> str:
        if self.meanwhile is not None:
            todo, self.meanwhile = self.meanwhile, None
            await todo()
        return await super().hash(password)


async def test_an_admin_who_is_removed_while_a_password_is_hashed_makes_nobody() -> None:
    passwords = Slow(CHEAP, threads=False)
    house = House(passwords=passwords)
    await house.user("eve", "admin")
    token = (await house.login("eve")).json["access_token"]
    passwords.meanwhile = lambda: house.who.users.remove("eve")
    body = {"name": "mallory", "password": PASSWORD, "scopes": ["admin"]}
    got = await house.stranger.post(USERS, body, authorization=f"Bearer {token}")
    assert (got.status, got.slug) == (401, "unauthenticated")
    assert house.who.users.infos() == []
