"""The audit trail: every request that would change something leaves exactly one row, whatever became of it."""

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.audit import Outcome
from supervisor import EmbeddedHouse
from supervisor.audit import Trail
from supervisor.documents import HouseDocuments
from supervisor.store.audit import verify_chain
from tests.supervisor.houses import EPOCH, KINDS, BreakingStore, a_house, wall
from tests.web.doubles import ADMIN, Client, Got, identity
from web.app import create_app
from web.audit import ADDRESSES, Audited, Strangers, masked_body
from web.auth.keys import NewKey
from web.auth.principal import Scope
from web.guard import Guard


class Daemon:
    """A house in memory behind the whole of the web, as the daemon puts it together."""

    def __init__(self, house: EmbeddedHouse, level: Any = "metadata") -> None:
        self.house = house
        known = identity(partial(HouseDocuments, house), wall=wall)
        self.keys = known.keys
        self.strangers = Strangers(house, wall=wall)
        api = create_app(house, identity=known, audit=house, audit_level=level, wall=wall)
        self.app = Audited(Guard(api), house, self.strangers)

    def client(self, key: str | None = ADMIN) -> Client:
        return Client(self.app, key, guard=None)

    async def rows(self) -> list[dict[str, Any]]:
        """The audit rows of the journal, oldest first, with their numbers."""
        found = await self.house.supervisor.store.audit(limit=10_000)
        return [row.envelope() | {"data": row.data} for row in reversed(found)]


@pytest.fixture
async def daemon(autojump_clock: MockClock, nursery: trio.Nursery) -> AsyncIterator[Daemon]:
    async with a_house(kinds=KINDS, threads=False) as house:
        yield Daemon(house)


async def test_the_row_of_a_command_is_in_its_own_transaction(daemon: Daemon, autojump_clock: MockClock) -> None:
    asker = daemon.client()
    await asker.post("/api/v1/engines", {"kind": "probe", "id": "a"})
    got = await asker.post("/api/v1/engines/a/runs", {"input": "hello"}, x_request_id="r-1")
    spawned, submitted = await daemon.rows()
    assert (submitted["type"], submitted["principal"]) == ("audit.accepted", "key:admin")
    run = await daemon.house.run(got.json["id"])
    accepted = next(e for e in await daemon.house.run_events(run.id) if e["type"] == "command.accepted")
    assert submitted["command_id"] == accepted["command_id"]
    assert submitted["seq"] == accepted["seq"] + 2  # command.accepted, run.queued, audit: one write
    data = submitted["data"]
    assert (data["request_id"], data["method"], data["path"]) == ("r-1", "POST", "/api/v1/engines/a/runs")
    assert data["operation"] == "submit_run"
    assert "hello" not in json.dumps([spawned, submitted])  # no prompt unless that is configured
    assert "engine_seq" not in submitted
    assert await verify_chain(daemon.house.supervisor.store) is None  # type: ignore[arg-type]  # a store in memory


REQUESTS: list[tuple[str, str, Any, dict[str, str], str, int]] = [
    ("POST", "/api/v1/engines", {"kind": "probe", "id": "b"}, {}, "accepted", 201),
    ("POST", "/api/v1/engines", {"kind": "nobody"}, {}, "refused", 422),
    ("POST", "/api/v1/engines", {"kind": "probe", "id": "a"}, {}, "refused", 409),
    ("POST", "/api/v1/engines", {"nonsense": 1}, {}, "refused", 422),
    ("PUT", "/api/v1/engines/a", {"kind": "probe", "id": "a"}, {}, "accepted", 200),
    ("PUT", "/api/v1/engines/c", {"kind": "probe", "id": "c"}, {}, "accepted", 201),
    ("POST", "/api/v1/engines/a/commands", {"type": "pause"}, {}, "accepted", 202),
    ("POST", "/api/v1/engines/a/commands", {"type": "approve"}, {}, "refused", 409),
    ("POST", "/api/v1/engines/a/commands", {"type": "dance"}, {}, "refused", 422),
    ("POST", "/api/v1/engines/nobody/runs", {"input": 1}, {}, "refused", 404),
    ("POST", "/api/v1/runs/run_1/cancel", {}, {}, "refused", 404),
    ("POST", "/api/v1/pools", {"id": "p"}, {}, "accepted", 201),
    ("PATCH", "/api/v1/pools/default", {"max_engines": 7}, {}, "accepted", 200),
    ("DELETE", "/api/v1/pools/default", None, {}, "refused", 409),
    ("POST", "/api/v1/pools/default/commands", {"type": "pause"}, {}, "accepted", 200),
    ("POST", "/api/v1/auth/keys", {"name": "k", "scopes": ["read"]}, {}, "accepted", 201),
    ("DELETE", "/api/v1/auth/keys/none", None, {}, "refused", 404),
    ("DELETE", "/api/v1/engines/a", None, {}, "accepted", 200),
    ("POST", "/api/v1/nowhere", None, {}, "refused", 404),
    ("DELETE", "/api/v1/engines", None, {}, "refused", 405),
    ("POST", "/api/v1/engines", b"not json", {}, "refused", 400),
    ("POST", "/api/v1/engines", b"{}", {"content_type": "text/plain"}, "refused", 415),
    ("GET", "/api/v1/engines", None, {}, "", 200),
    ("GET", "/api/v1/engines/nobody", None, {}, "", 404),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: f"{r[0]} {r[1]} {r[5]}")
async def test_each_request_leaves_one_row_or_none(
    daemon: Daemon, autojump_clock: MockClock, request_: tuple[str, str, Any, dict[str, str], str, int]
) -> None:
    method, path, body, headers, outcome, status = request_
    asker = daemon.client()
    await asker.post("/api/v1/engines", {"kind": "probe", "id": "a"})
    before = len(await daemon.rows())
    got = await asker.ask(method, path, body, headers)
    rows = (await daemon.rows())[before:]
    assert got.status == status
    assert [row["data"]["outcome"] for row in rows] == ([outcome] if outcome else [])
    if outcome == "refused":
        assert (rows[0]["data"]["status"], rows[0]["data"]["slug"]) == (status, got.json["type"].rpartition("/")[2])


async def test_the_row_of_a_login_says_whose_it_is(daemon: Daemon, autojump_clock: MockClock) -> None:
    asker = daemon.client()
    new = {"name": "ann", "password": "long enough by far", "scopes": ["read"]}
    assert (await asker.post("/api/v1/auth/users", new)).status == 201
    stranger = daemon.client(None)
    login = {"username": "ann", "password": new["password"]}
    tokens = (await stranger.post("/api/v1/auth/login", login)).json
    for status in (200, 401):  # the second time the login is ended, and that is what is journaled
        got = await stranger.post("/api/v1/auth/refresh", {"refresh_token": tokens["refresh_token"]})
        assert got.status == status
    said = [(row.get("principal"), row["data"]["operation"], row["data"].get("slug")) for row in await daemon.rows()]
    assert said[1:] == [
        ("user:ann", "login", None),
        ("user:ann", "refresh", None),
        ("user:ann", "refresh", "refresh-token-reused"),
    ]


@pytest.mark.parametrize("level", ["metadata", "request"])
async def test_no_row_helps_to_guess_a_password(autojump_clock: MockClock, level: str) -> None:
    async with a_house(kinds=KINDS, threads=False) as house:
        daemon = Daemon(house, level)
        asker = daemon.client()
        new = {"name": "ann", "password": "long enough by far", "scopes": ["read"]}
        await asker.post("/api/v1/auth/users", new)
        await asker.patch("/api/v1/auth/users/ann", {"password": "longer still by far"})
        login = {"username": "ann", "password": "longer still by far"}
        assert (await daemon.client(None).post("/api/v1/auth/login", login)).status == 200
        await asker.post("/api/v1/engines", {"kind": "probe"})
        assert ["digest" in row["data"] for row in await daemon.rows()] == [False, False, False, True]


async def test_a_repeat_is_replayed_and_another_body_under_its_key_refused(
    daemon: Daemon, autojump_clock: MockClock
) -> None:
    asker = daemon.client()
    await asker.post("/api/v1/engines", {"kind": "probe", "id": "a"})
    for text in ("x", "x", "y"):
        await asker.post("/api/v1/engines/a/runs", {"input": text}, idempotency_key="k")
    rows = await daemon.rows()
    assert [row["data"]["outcome"] for row in rows[1:]] == ["accepted", "replayed", "refused"]
    assert len({row["command_id"] for row in rows[1:3]}) == 1


async def test_two_requests_with_one_key_in_one_batch_leave_a_row_each(
    daemon: Daemon, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    asker = daemon.client()
    await asker.post("/api/v1/engines", {"kind": "probe", "id": "a"})
    got: list[Got] = []

    async def submit() -> None:
        got.append(await asker.post("/api/v1/engines/a/runs", {"input": "x"}, idempotency_key="k"))

    async with trio.open_nursery() as both:
        both.start_soon(submit)
        both.start_soon(submit)
    assert {g.status for g in got} == {202}
    assert sorted(row["data"]["outcome"] for row in (await daemon.rows())[1:]) == ["accepted", "replayed"]


async def test_refusals_of_strangers_are_counted_by_address_status_and_minute(
    daemon: Daemon, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(daemon.strangers.run)
    for _ in range(7):
        await daemon.client(None).post("/api/v1/engines", {"kind": "probe"})
    await daemon.client("wrong").get("/api/v1/engines")
    got = await daemon.client().post("/api/v1/engines", {"kind": "probe"}, host="evil.example")
    assert got.status == 421
    assert await daemon.rows() == []
    await trio.sleep(61)
    rows = await daemon.rows()
    counted = {row["data"]["status"]: row["data"]["count"] for row in rows}
    assert counted == {401: 8, 421: 1}
    assert not any("principal" in row for row in rows)


async def test_what_strangers_cause_is_bounded_in_memory(daemon: Daemon, autojump_clock: MockClock) -> None:
    for n in range(3 * ADDRESSES):
        daemon.strangers.count(f"10.0.{n // 256}.{n % 256}", None, 401)
    daemon.strangers.flush()
    await daemon.house.supervisor.intake.write_and_wait(())
    rows = await daemon.rows()
    assert len(rows) == ADDRESSES + 1
    assert sum(row["data"]["count"] for row in rows) == 3 * ADDRESSES


async def test_who_is_over_its_rate_is_counted(daemon: Daemon, autojump_clock: MockClock) -> None:
    made = await daemon.keys.create(NewKey(name="k", scopes=[Scope.OPERATE], rate_per_min=2))
    asker = daemon.client(made.key)
    for n in range(5):
        await asker.post("/api/v1/engines", {"kind": "probe", "id": f"e{n}"})
    daemon.strangers.flush()
    await daemon.house.supervisor.intake.write_and_wait(())
    refused = [row for row in await daemon.rows() if row["data"]["outcome"] == "refused"]
    assert [(row["principal"], row["data"]["status"], row["data"]["count"]) for row in refused] == [
        (f"key:{made.id}", 429, 3)
    ]


async def test_a_client_that_goes_away_leaves_its_row_all_the_same(daemon: Daemon, autojump_clock: MockClock) -> None:
    asker = daemon.client()
    await asker.post("/api/v1/engines", {"kind": "sleeper", "id": "a"})
    before = len(await daemon.rows())
    with trio.CancelScope() as scope:
        scope.cancel()
        await asker.post("/api/v1/engines/a/runs", {"input": 1})
    await daemon.house.supervisor.intake.write_and_wait(())
    assert len(await daemon.rows()) == before + 1


async def test_at_level_request_bodies_are_kept_without_secrets(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS, threads=False) as house:
        daemon = Daemon(house, "request")
        asker = daemon.client()
        shell = {"kind": "shell", "id": "a", "config": {"env": {"A": "canary"}}, "start": False}
        await asker.post("/api/v1/engines", shell)
        await asker.post("/api/v1/engines/a/runs", {"input": "make test"})
        await asker.post("/api/v1/auth/keys", {"name": "canary", "scopes": ["read"]})
        spawned, submitted, key = await daemon.rows()
        assert spawned["data"]["body"]["config"]["env"] == {"A": "**********"}
        assert submitted["data"]["body"] == {"input": "make test"}
        assert "body" not in key["data"]


def test_secrets_are_masked_by_name_at_any_depth() -> None:
    body = {"a": [{"password": "x", "b": {"apiKey": ["y"]}}], "env": {"A": "z"}, "n": 1}
    assert masked_body(body) == {
        "a": [{"password": "**********", "b": {"apiKey": "**********"}}], "env": {"A": "**********"}, "n": 1
    }  # fmt: skip


async def test_the_trail_is_listed_newest_first_filtered_and_paged(daemon: Daemon, autojump_clock: MockClock) -> None:
    asker = daemon.client()
    for n in range(5):
        await asker.post("/api/v1/engines", {"kind": "probe", "id": f"e{n}"})
    await asker.post("/api/v1/engines", {"kind": "nobody"})
    first = (await asker.get("/api/v1/admin/audit?limit=4")).json
    rest = (await asker.get(f"/api/v1/admin/audit?limit=4&cursor={first['next_cursor']}")).json
    items = first["items"] + rest["items"]
    assert [item["engine_id"] for item in items] == [None, "e4", "e3", "e2", "e1", "e0"]
    assert rest["next_cursor"] is None
    for query, found in (
        ("outcome=refused", 1), ("engine=e3", 1), ("operation=spawn_engine", 6), ("principal=key:admin", 6),
        ("principal=nobody", 0), ("pool=default", 5), ("since=2026-01-01T00:00:00Z", 6),
        ("until=2026-01-01T00:00:00Z", 0),
    ):  # fmt: skip
        assert len((await asker.get(f"/api/v1/admin/audit?{query}")).json["items"]) == found, query
    wrong = await asker.get("/api/v1/admin/audit?since=yesterday")
    assert (wrong.status, "such as 2026-01-31T12:00:00Z" in wrong.json["detail"]) == (422, True)
    for never in ("2026-13-01T00:00:00Z", "8175-60-61T57:76:33Z", "0000-01-01T00:00:00Z"):
        assert (await asker.get(f"/api/v1/admin/audit?until={never}")).status == 422


async def test_all_of_it_is_exported_as_lines(daemon: Daemon, autojump_clock: MockClock) -> None:
    asker = daemon.client()
    for n in range(3):
        await asker.post("/api/v1/engines", {"kind": "probe", "id": f"e{n}"})
    got = await asker.get("/api/v1/admin/audit?outcome=accepted", accept="application/x-ndjson")
    assert got.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["engine_id"] for line in got.body.splitlines()] == ["e2", "e1", "e0"]


async def test_audit_rows_are_in_no_stream_unless_an_admin_asks(daemon: Daemon, autojump_clock: MockClock) -> None:
    made = await daemon.keys.create(NewKey(name="k", scopes=[Scope.READ]))
    await daemon.client().post("/api/v1/engines", {"kind": "probe", "id": "a"})
    page = "/api/v1/events?after=0&limit=1000"
    for key, query, seen in (
        (ADMIN, "", False), (ADMIN, "&types=audit", True), (made.key, "", False), (made.key, "&types=audit", False)
    ):  # fmt: skip
        got = await daemon.client(key).get(page + query, accept="application/json")
        assert any(item["type"].startswith("audit.") for item in got.json["items"]) == seen, (key, query)


async def test_when_the_disk_fails_nothing_is_acknowledged_for_want_of_its_row(autojump_clock: MockClock) -> None:
    store = BreakingStore()
    with pytest.raises(Exception, match="disk failed"):
        async with a_house(store=store, kinds=KINDS, threads=False) as house:
            asker = Daemon(house).client()
            await asker.post("/api/v1/engines", {"kind": "probe", "id": "a"})
            store.broken = True
            with trio.CancelScope(shield=True):
                got = await asker.post("/api/v1/engines/a/commands", {"type": "pause"})
            assert got.status == 503


def test_a_trail_is_taken_once() -> None:
    trail = Trail("user:ann", path="/x")
    (row,) = trail.take(Outcome.ACCEPTED, time="2026-01-01T00:00:00.000Z")
    assert (row.type, row.principal, row.data) == ("audit.accepted", "user:ann", {"outcome": "accepted", "path": "/x"})
    assert trail.take(Outcome.REFUSED, time="2026-01-01T00:00:00.000Z") == ()
    assert EPOCH  # the test's time of day is that of the house
