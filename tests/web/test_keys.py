"""API keys: who is who, what is kept of a key, and the one file that holds one."""

import stat
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from protocol.errors import NotFound, StoreUnavailable, Unauthenticated
from supervisor.house import Caller
from tests.web.doubles import ADMIN, Client, MemoryTable, MemoryTables, RecordingHouse, client, identity
from web.auth import Keys, Scope, admin_key
from web.auth.keys import NewKey
from web.places import Problem
from web.refusals import TokenExpired

KEYS = "/api/v1/auth/keys"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def keys(store: MemoryTable | None = None, clock: Clock | None = None) -> Keys:
    return Keys(store or MemoryTable(), ADMIN, wall=clock or Clock())


async def test_a_created_key_is_its_principal_with_its_scopes() -> None:
    ring = keys()
    made = await ring.create(NewKey(name="ci", scopes=[Scope.READ, Scope.OPERATE]))
    who = ring.principal(made.key)
    assert (who.name, who.scopes, who.rate) == (f"key:{made.id}", frozenset({Scope.READ, Scope.OPERATE}), 100)


async def test_what_is_stored_holds_no_key() -> None:
    store = MemoryTable()
    made = await keys(store).create(NewKey(name="ci", scopes=[Scope.READ]))
    secret = made.key[-43:]
    assert made.key not in str(store.docs)
    assert secret not in str(store.docs)


async def test_keys_survive_the_house() -> None:
    store = MemoryTable()
    made = await keys(store).create(NewKey(name="ci", scopes=[Scope.READ]))
    ring = keys(store)
    with pytest.raises(Unauthenticated):
        ring.principal(made.key)
    await ring.load()
    assert ring.principal(made.key).name == f"key:{made.id}"


async def test_a_revoked_key_is_unknown_also_to_the_next_house() -> None:
    store = MemoryTable()
    ring = keys(store)
    made = await ring.create(NewKey(name="ci", scopes=[Scope.READ]))
    await ring.revoke(made.id)
    assert store.docs == {}
    with pytest.raises(Unauthenticated):
        ring.principal(made.key)
    with pytest.raises(NotFound):
        await ring.revoke(made.id)


async def test_an_expired_key_stays_expired_when_the_clock_is_set_back() -> None:
    clock = Clock()
    ring = keys(clock=clock)
    made = await ring.create(NewKey(name="ci", scopes=[Scope.READ], expires_in_s=10))
    clock.now += 9.9
    ring.principal(made.key)
    clock.now += 0.1
    with pytest.raises(TokenExpired):
        ring.principal(made.key)
    clock.now -= 5
    with pytest.raises(TokenExpired):
        ring.principal(made.key)


@pytest.mark.parametrize(
    "wrong", ["", "x", ADMIN[:-1], ADMIN + "x", "eh_0123456789ab_" + "a" * 43, "eh_ü", "\udcff"[:0] + "ÿ"]
)
async def test_a_key_that_is_not_ours_is_refused(wrong: str) -> None:
    with pytest.raises(Unauthenticated):
        keys().principal(wrong)


async def test_a_key_with_another_ones_id_is_refused() -> None:
    ring = keys()
    one, other = [await ring.create(NewKey(name=name, scopes=[Scope.ADMIN])) for name in ("one", "other")]
    with pytest.raises(Unauthenticated):
        ring.principal(one.key[:15] + other.key[15:])


async def test_a_key_is_bound_to_its_pools() -> None:
    ring = keys()
    made = await ring.create(NewKey(name="ci", scopes=[Scope.READ], pools=["b", "a", "b"]))
    assert made.pools == ["a", "b"]
    assert ring.principal(made.key).authority.pools == frozenset({"a", "b"})
    everywhere = await ring.create(NewKey(name="ci", scopes=[Scope.READ]))
    assert ring.principal(everywhere.key).authority.everywhere


async def test_a_principal_notices_that_its_key_was_revoked_or_has_expired() -> None:
    clock = Clock()
    ring = keys(clock=clock)
    made = [await ring.create(NewKey(name="ci", scopes=[Scope.READ], expires_in_s=10)) for _ in range(2)]
    revoked, expired = [ring.principal(key.key) for key in made]
    assert revoked.standing().has(Scope.READ)
    await ring.revoke(made[0].id)
    with pytest.raises(Unauthenticated):
        revoked.standing()
    clock.now += 10
    with pytest.raises(TokenExpired):
        expired.standing()


async def test_the_last_use_is_shown_at_once_and_written_once_a_minute(autojump_clock: MockClock) -> None:
    clock, tables = Clock(), MemoryTables()
    who = identity(tables, wall=clock)
    made = await who.keys.create(NewKey(name="ci", scopes=[Scope.READ]))
    written = tables("api_key").writes
    async with trio.open_nursery() as nursery:
        nursery.start_soon(who.tend)
        await trio.sleep(1)
        for _ in range(100):
            who.keys.principal(made.key)
        clock.now += 5
        who.keys.principal(made.key)
        (info,) = who.keys.infos()
        assert info.last_used_at == "1970-01-12T13:46:45.000Z"
        assert tables("api_key").writes == written
        await trio.sleep(600)
        assert tables("api_key").writes == written + 1
        nursery.cancel_scope.cancel()
    again = identity(tables, wall=clock)
    await again.load()
    assert again.keys.infos() == who.keys.infos()
    assert again.keys.principal(made.key).name == f"key:{made.id}"


async def test_a_key_that_is_revoked_while_uses_are_written_stays_revoked() -> None:
    class Slow(MemoryTable):
        gate = trio.Event()

        async def put(self, id: str, doc: Any, caller: Caller | None = None) -> None:
            await super().put(id, doc, caller)
            await self.gate.wait()

    table = Slow()
    table.gate.set()
    ring = keys(table)
    made = [await ring.create(NewKey(name=name, scopes=[Scope.READ])) for name in ("one", "other")]
    for key in made:
        ring.principal(key.key)
    table.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ring.note_uses)
        await wait_all_tasks_blocked()
        for key in made:
            await ring.revoke(key.id)
        table.gate.set()
    assert table.docs == {}
    assert ring.infos() == []


async def test_a_key_that_the_store_does_not_forget_can_be_revoked_again() -> None:
    table = MemoryTable()
    ring = keys(table)
    made = await ring.create(NewKey(name="ci", scopes=[Scope.READ]))

    table.fails = StoreUnavailable("The disk is full.")
    with pytest.raises(StoreUnavailable):
        await ring.revoke(made.id)
    table.fails = None
    await ring.revoke(made.id)
    assert table.docs == {}


# -- over HTTP ---------------------------------------------------------------------------------------------------------
async def test_a_key_is_taken_from_either_header() -> None:
    asker = client(RecordingHouse(), key=None)
    for headers in ({"authorization": f"Bearer {ADMIN}"}, {"authorization": f"bearer  {ADMIN}"}, {"x_api_key": ADMIN}):
        got = await asker.get("/api/v1/auth/whoami", **headers)
        assert got.json == {"principal": "key:admin", "scopes": ["admin"], "pools": None, "expires_at": None}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {ADMIN}"},
        {"authorization": ADMIN},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Bearer {ADMIN}", "x_api_key": "other"},
        {"x_api_key": ""},
    ],
)
async def test_other_credentials_are_401_with_a_challenge(headers: dict[str, str]) -> None:
    got = await client(RecordingHouse(), key=None).get("/api/v1/auth/whoami", **headers)
    assert (got.status, got.slug) == (401, "unauthenticated")
    assert got.headers["www-authenticate"].startswith("Bearer")


async def test_no_key_in_the_url_is_looked_at() -> None:
    got = await client(RecordingHouse(), key=None).get(f"/api/v1/auth/whoami?api_key={ADMIN}")
    assert got.status == 401


async def test_without_auth_everybody_is_dev_but_a_wrong_key_is_still_refused() -> None:
    asker = client(RecordingHouse(), key=None, enable_auth=False)
    assert (await asker.get("/api/v1/auth/whoami")).json["principal"] == "dev"
    assert (await asker.get("/api/v1/auth/whoami", x_api_key="wrong")).status == 401


async def test_a_key_is_shown_once_listed_without_it_and_revoked() -> None:
    asker = client(RecordingHouse())
    made = await asker.post(KEYS, {"name": "ci", "scopes": ["read"], "rate_per_min": 7, "expires_in_s": 60})
    assert (made.status, made.json["rate_per_min"], made.json["pools"]) == (201, 7, None)
    assert made.json["last_used_at"] is None
    assert made.headers["location"] == f"{KEYS}/{made.json['id']}"
    listed = await asker.get(KEYS)
    assert [item["id"] for item in listed.json["items"]] == [made.json["id"]]
    assert made.json["key"].encode() not in listed.body
    user = Client(asker.app, made.json["key"])
    assert (await user.get("/api/v1/auth/whoami")).json["scopes"] == ["read"]
    assert (await user.get(KEYS)).status == 403
    assert (await asker.delete(made.headers["location"])).status == 204
    assert (await user.get("/api/v1/auth/whoami")).status == 401
    assert (await asker.delete(made.headers["location"])).status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x"},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["root"]},
        {"name": "x", "scopes": ["read"], "pools": []},
        {"name": "x", "scopes": ["read"], "pools": ["No/Pool"]},
        {"name": "x", "scopes": ["admin"], "pools": ["p"]},
    ],
)
async def test_a_key_that_does_not_fit_is_not_made(body: dict[str, object]) -> None:
    asker = client(RecordingHouse())
    assert (await asker.post(KEYS, body)).status == 422
    assert (await asker.get(KEYS)).json["items"] == []


async def test_a_key_stands_for_the_user_who_made_it_also_by_way_of_another_key() -> None:
    who = identity()
    ours, theirs = Caller(principal="user:ada"), Caller(principal="key:admin")
    first = await who.keys.create(NewKey(name="k", scopes=[Scope.ADMIN]), ours)
    second = await who.keys.create(NewKey(name="k", scopes=[Scope.READ]), Caller(principal=f"key:{first.id}"))
    nobodys = await who.keys.create(NewKey(name="k", scopes=[Scope.READ]), theirs)
    for made in (first, second):
        assert who.person_of(f"key:{made.id}") == "user:ada"
    await who.keys.revoke(first.id)
    assert who.person_of(f"key:{second.id}") == "user:ada"
    assert who.person_of(f"key:{nobodys.id}") == f"key:{nobodys.id}"
    assert who.person_of("key:admin") == "key:admin"


# -- the admin key's file ----------------------------------------------------------------------------------------------
def test_the_admin_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    first = admin_key(path)
    assert (admin_key(path), len(first)) == (first, 43)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == first + "\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content", ["", "\n", "short", "x" * 1025, "spaces are no good in a key of this length", "ü" * 40]
)
def test_a_bad_admin_key_stops_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "admin.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(Problem, match=r"admin\.key: "):
        admin_key(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_an_admin_key_that_others_may_read_stops_the_start(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "admin.key"
    admin_key(path)
    path.chmod(mode)
    with pytest.raises(Problem, match="chmod 600"):
        admin_key(path)


def test_an_admin_key_is_not_followed_elsewhere(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    admin_key(target)
    (tmp_path / "admin.key").symlink_to(target)
    with pytest.raises(Problem):
        admin_key(tmp_path / "admin.key")
    (tmp_path / "admin.key").unlink()
    (tmp_path / "admin.key").mkdir()
    with pytest.raises(Problem, match="plain file"):
        admin_key(tmp_path / "admin.key")


def test_no_place_for_the_admin_key_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(Problem):
        admin_key(tmp_path / "missing" / "admin.key")
