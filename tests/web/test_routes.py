"""Each route translates: a request into one method of the house, its result into one answer."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import trio
from trio.testing import MockClock

from protocol.bodies import NewRun, PatchPool, PoolCommand
from protocol.commands import Approve, Pause
from protocol.errors import EngineBusy, InvalidState, MailboxFull, NotFound, UnknownSlice
from protocol.specs import Quotas, Strategy
from protocol.wire import Disposed, PoolInfo, PoolResult, SliceInfo, StateInfo
from supervisor.house import Caller
from tests.web.doubles import Client, RecordingHouse, accepted, client, command, engine, health, page, run

V1 = "/api/v1"


@pytest.fixture
def house() -> RecordingHouse:
    return RecordingHouse()


@pytest.fixture
def ask(house: RecordingHouse) -> Iterator[Client]:
    """Whatever a test asks, the answers have to be as the OpenAPI document says."""
    asker = client(house)
    yield asker
    asker.check()


def pool(id: str = "p") -> PoolInfo:
    return PoolInfo(
        id=id, template=None, max_engines=100, max_running=None, idle_s=None, expire_s=None,
        strategy=Strategy.ONE_FOR_ONE, max_restarts=None, window_s=60.0, quotas=Quotas(), four_eyes=False,
        require_digest=False, escalate_after_s=(), draining=False, engines=0, running=0, budget={},
    )  # fmt: skip


# -- engines -----------------------------------------------------------------------------------------------------------
async def test_spawning_answers_201_with_the_engine_and_where_it_is(house: RecordingHouse, ask: Client) -> None:
    house.gives["spawn"] = (engine("a"), accepted("spawn"))
    got = await ask.post(f"{V1}/engines", {"kind": "probe", "id": "a"})
    assert (got.status, got.headers["location"], got.json["id"]) == (201, "/api/v1/engines/a", "a")
    (name, (new, caller), _), *_ = house.asked
    assert (name, new.kind, new.id, caller) == ("spawn", "probe", "a", Caller(principal="key:admin"))


async def test_a_replayed_spawn_says_so(house: RecordingHouse, ask: Client) -> None:
    house.gives["spawn"] = (engine("a"), accepted("spawn", replayed=True))
    got = await ask.post(f"{V1}/engines", {"kind": "probe"}, idempotency_key="k")
    assert (got.status, got.headers["idempotent-replayed"]) == (201, "true")


@pytest.mark.parametrize("new, status", [(True, 201), (False, 200)])
async def test_put_answers_201_only_when_it_created(house: RecordingHouse, ask: Client, new: bool, status: int) -> None:
    house.gives["put"] = (engine("a"), new)
    assert (await ask.put(f"{V1}/engines/a", {"kind": "probe"})).status == status
    assert house.asked[0][1][0] == "a"


async def test_the_filters_of_a_list_reach_the_house(house: RecordingHouse, ask: Client) -> None:
    house.gives["list"] = page(engine())
    got = await ask.get(f"{V1}/engines?pool=p&kind=probe&state=running&label=a:b&label=c:d:e&limit=7&cursor=x")
    assert (got.status, len(got.json["items"]), got.json["next_cursor"]) == (200, 1, None)
    assert house.asked[0][2] == {
        "pool": "p", "kind": "probe", "state": "running", "labels": {"a": "b", "c": "d:e"}, "limit": 7, "cursor": "x",
    }  # fmt: skip


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=1_0",
        "limit=1&limit=2",
        "state=flying",
        "label=nocolon",
        "nope=1",
        "pool=%ff",
    ],
)
async def test_a_query_that_does_not_fit_is_422(ask: Client, query: str) -> None:
    got = await ask.get(f"{V1}/engines?{query}")
    assert (got.status, got.slug) == (422, "validation-failed")


@pytest.mark.parametrize("text, force", [("?force=true", True), ("?force=false", False), ("", False)])
async def test_delete_disposes_and_answers_200(house: RecordingHouse, ask: Client, text: str, force: bool) -> None:
    house.gives["dispose"] = Disposed(id="a", uid="eng_1", state="disposed", leaks=[], dead_letters=2)
    got = await ask.delete(f"{V1}/engines/a{text}")
    assert (got.status, got.json["state"], got.json["dead_letters"]) == (200, "disposed", 2)
    assert house.asked[0][2] == {"force": force, "grace_s": None}


@pytest.mark.parametrize(
    "query",
    [
        "force=yes",
        "force=1",
        "force=TRUE",
        "force=",
        "grace_s=-1",
        "grace_s=true",
        "grace_s=1e999",
        "grace_s=.5",
        "grace_s=1e",
        "grace_s=NaN",
    ],
)
async def test_booleans_and_seconds_are_read_strictly(ask: Client, query: str) -> None:
    assert (await ask.delete(f"{V1}/engines/a?{query}")).status == 422


@pytest.mark.parametrize("text", ["5", "5.0", "0.5e1", "5E+0", "50e-1", "5.00000000000000000001"])
async def test_seconds_are_any_number_of_json(house: RecordingHouse, ask: Client, text: str) -> None:
    house.gives["dispose"] = Disposed(id="a", uid="eng_1", state="disposed", leaks=[], dead_letters=0)
    await ask.delete(f"{V1}/engines/a?grace_s={quote(text)}")
    assert house.asked[0][2]["grace_s"] == 5.0


@pytest.mark.parametrize(
    "error, status, slug",
    [
        (NotFound("no"), 404, "not-found"),
        (EngineBusy("busy"), 409, "engine-busy"),
    ],
)
async def test_what_the_house_refuses_is_a_problem(
    house: RecordingHouse, ask: Client, error: Exception, status: int, slug: str
) -> None:
    house.gives["dispose"] = error
    got = await ask.delete(f"{V1}/engines/a")
    assert (got.status, got.slug, got.json["instance"]) == (status, slug, "/api/v1/engines/a")


async def test_state_and_slices_may_be_asked_of_the_past(house: RecordingHouse, ask: Client) -> None:
    house.gives |= {"state": StateInfo(seq=9, slices={}), "slice": SliceInfo(slice="s", version=1, seq=9, value=[1])}
    assert (await ask.get(f"{V1}/engines/a/state?at=9")).json == {"seq": 9, "slices": {}}
    assert (await ask.get(f"{V1}/engines/a/state/s?at=9")).json["value"] == [1]
    assert house.asked == [("state", ("a",), {"at": 9}), ("slice", ("a", "s"), {"at": 9})]


async def test_an_unknown_slice_is_404(house: RecordingHouse, ask: Client) -> None:
    house.gives["slice"] = UnknownSlice("no")
    assert (await ask.get(f"{V1}/engines/a/state/s")).slug == "unknown-slice"


async def test_the_plan_is_the_value_of_its_slice_or_null(house: RecordingHouse, ask: Client) -> None:
    house.gives["state"] = StateInfo(seq=1, slices={})
    assert (await ask.get(f"{V1}/engines/a/plan")).body == b"null"
    house.gives["state"] = StateInfo(seq=1, slices={"plan": {"version": 1, "value": [{"step": "x"}]}})
    assert (await ask.get(f"{V1}/engines/a/plan")).json == [{"step": "x"}]


async def test_history_is_paged(house: RecordingHouse, ask: Client) -> None:
    house.gives["history"] = ([run(finished_at="t")], 51)
    got = await ask.get(f"{V1}/engines/a/history?page=2&page_size=50")
    assert {k: v for k, v in got.json.items() if k != "items"} == {
        "total": 51, "page": 2, "page_size": 50, "next_cursor": None,
    }  # fmt: skip
    assert (await ask.get(f"{V1}/engines/a/history?page=0")).status == 422


# -- commands and runs -------------------------------------------------------------------------------------------------
async def test_a_command_is_accepted_with_202_and_where_its_record_is(house: RecordingHouse, ask: Client) -> None:
    house.gives["command"] = (accepted("pause"), None)
    got = await ask.post(f"{V1}/engines/a/commands", {"type": "pause", "reason": "lunch"})
    assert (got.status, got.headers["location"]) == (202, "/api/v1/engines/a/commands/cmd_1")
    assert got.json == {
        "command_id": "cmd_1",
        "engine_id": "a",
        "type": "pause",
        "state": "accepted",
        "seq": 2,
        "run_id": None,
    }
    name, (of, body, caller), more = house.asked[0]
    assert (name, of, body, more) == ("command", "a", Pause(reason="lunch"), {"wait_s": None})
    assert caller == Caller(principal="key:admin")


async def test_a_command_that_nobody_knows_is_422_unsupported(ask: Client) -> None:
    for body in ({"type": "checkpoint"}, {"type": "release"}, {"type": "append", "content": "x"}):
        got = await ask.post(f"{V1}/engines/a/commands", body)
        assert (got.status, got.slug) == (422, "unsupported-command")


@pytest.mark.parametrize("body", [{}, {"type": 1}, {"type": "pause", "nope": 1}, {"type": "signal"}, [], "pause"])
async def test_a_command_that_does_not_fit_is_422_validation(ask: Client, body: Any) -> None:
    got = await ask.post(f"{V1}/engines/a/commands", body)
    assert (got.status, got.slug) == (422, "validation-failed")
    assert got.json["errors"][0]["loc"][0] == "body"


async def test_waiting_for_a_command_answers_200_with_its_record(house: RecordingHouse, ask: Client) -> None:
    house.gives |= {"command": (accepted("pause"), command("pause")), "get_command": command("pause")}
    got = await ask.post(f"{V1}/engines/a/commands", {"type": "pause"}, prefer="wait=5")
    assert (got.status, got.json["state"], got.headers["preference-applied"]) == (200, "completed", "wait=5")
    assert house.asked[0][2] == {"wait_s": 5}


async def test_waiting_for_a_submit_answers_200_with_its_run_also_when_it_failed(
    house: RecordingHouse, ask: Client
) -> None:
    house.gives |= {
        "command": (accepted("submit", run_id="run_1"), command("submit", run_id="run_1")),
        "run": run(status="failed", finished_at="t"),
    }
    got = await ask.post(f"{V1}/engines/a/commands", {"type": "submit", "input": 1}, prefer="wait=5")
    assert (got.status, got.json["id"], got.json["status"]) == (200, "run_1", "failed")


async def test_a_wait_that_passes_answers_202_with_the_record_as_it_is(house: RecordingHouse, ask: Client) -> None:
    house.gives |= {"command": (accepted("pause"), None), "get_command": command("pause", state="accepted")}
    got = await ask.post(f"{V1}/engines/a/commands", {"type": "pause"}, prefer="wait=1")
    assert (got.status, got.json["state"], got.json["id"]) == (202, "accepted", "cmd_1")


async def test_a_command_that_was_rejected_while_waiting_is_a_problem(house: RecordingHouse, ask: Client) -> None:
    house.gives["command"] = InvalidState("no", state="stopped", allowed=["start"])
    got = await ask.post(f"{V1}/engines/a/commands", {"type": "resume"}, prefer="wait=1")
    assert (got.status, got.slug, got.json["allowed"]) == (409, "invalid-state", ["start"])


@pytest.mark.parametrize(
    "prefer, wait_s",
    [
        ("wait=5", 5),
        ('wait="5"', 5),
        ("respond-async, wait=10", 10),
        ("wait=61", 60),
        ("wait=999999999", 60),
        ("wait=0", 0),
        ("wait=-1", None),
        ("wait", None),
        ("wait=soon", None),
        ("wait=1.5", None),
    ],
)
async def test_prefer_is_capped_and_ignored_when_it_cannot_be_read(
    house: RecordingHouse, ask: Client, prefer: str, wait_s: int | None
) -> None:
    house.gives["submit"] = (run(), accepted("submit"))
    got = await ask.post(f"{V1}/engines/a/runs", {"input": 1}, prefer=prefer)
    assert house.asked[0][2] == {"wait_s": wait_s}
    assert got.headers.get("preference-applied") == (None if wait_s is None else f"wait={wait_s}")


async def test_a_run_is_accepted_with_202_where_it_is_and_its_stream(house: RecordingHouse, ask: Client) -> None:
    house.gives["submit"] = (run(), accepted("submit"))
    got = await ask.post(f"{V1}/engines/a/runs", {"input": {"steps": 2}, "priority": "high"})
    assert (got.status, got.headers["location"]) == (202, "/api/v1/runs/run_1")
    assert got.json["events_url"] == "/api/v1/runs/run_1/events"
    assert house.asked[0][1][1] == NewRun(input={"steps": 2}, priority="high")  # type: ignore[arg-type]  # equal to the enum


@pytest.mark.parametrize("finished, status", [(None, 202), ("2026-01-01T00:00:00.000Z", 200)])
async def test_a_synchronous_run_answers_200_when_it_has_ended(
    house: RecordingHouse, ask: Client, finished: str | None, status: int
) -> None:
    house.gives["submit"] = (run(finished_at=finished), accepted("submit"))
    assert (await ask.post(f"{V1}/engines/a/runs", {"input": 1}, prefer="wait=2")).status == status


async def test_a_replay_without_wait_keeps_its_202_although_the_run_has_ended(
    house: RecordingHouse, ask: Client
) -> None:
    house.gives["submit"] = (run(finished_at="t"), accepted("submit", replayed=True))
    got = await ask.post(f"{V1}/engines/a/runs", {"input": 1}, idempotency_key="k")
    assert (got.status, got.headers["idempotent-replayed"]) == (202, "true")


async def test_a_full_mailbox_is_429_with_retry_after(house: RecordingHouse, ask: Client) -> None:
    house.gives["submit"] = MailboxFull("full", retry_after_s=2)
    got = await ask.post(f"{V1}/engines/a/runs", {"input": 1})
    assert (got.status, got.slug, got.headers["retry-after"]) == (429, "mailbox-full", "2")


async def test_a_run_shows_its_events_when_asked(house: RecordingHouse, ask: Client) -> None:
    house.gives |= {"run": run(), "run_events": [{"seq": 1}]}
    assert "events" not in (await ask.get(f"{V1}/runs/run_1")).json
    assert (await ask.get(f"{V1}/runs/run_1?events=true")).json["events"] == [{"seq": 1}]


async def test_cancel_takes_a_reason_or_no_body_at_all(house: RecordingHouse, ask: Client) -> None:
    house.gives["cancel"] = run(status="cancelled")
    assert (await ask.post(f"{V1}/runs/run_1/cancel", {"reason": "late"})).status == 202
    assert (await ask.post(f"{V1}/runs/run_1/cancel")).status == 202
    assert [more for _, _, more in house.asked] == [{"reason": "late"}, {"reason": ""}]


async def test_retry_makes_a_new_run_and_continue_takes_the_same_up(house: RecordingHouse, ask: Client) -> None:
    house.gives |= {"retry": (run("run_2", retry_of="run_1"), accepted("submit")), "resume_run": run()}
    again = await ask.post(f"{V1}/runs/run_1/retry")
    assert (again.status, again.headers["location"], again.json["retry_of"]) == (202, "/api/v1/runs/run_2", "run_1")
    assert (await ask.post(f"{V1}/runs/run_1/continue")).status == 202


# -- idempotency -------------------------------------------------------------------------------------------------------
async def test_the_key_and_a_fingerprint_of_the_request_reach_the_house(house: RecordingHouse, ask: Client) -> None:
    house.gives["submit"] = (run(), accepted("submit"))
    for path, body in (
        ("a", b'{"input": 1, "priority": "high"}'),
        ("a", b'{"priority":"high","input":1}'),
        ("a", b'{"input": 2, "priority": "high"}'),
        ("b", b'{"input": 1, "priority": "high"}'),
    ):
        await ask.post(f"{V1}/engines/{path}/runs", body, idempotency_key="k")
    callers: list[Caller] = [arguments[2] for _, arguments, _ in house.asked]
    assert {caller.key for caller in callers} == {"k"}
    same, written_differently, other_body, other_path = [caller.digest for caller in callers]
    assert same == written_differently
    assert len({same, other_body, other_path}) == 3


@pytest.mark.parametrize("key", ["", "a b", "ü", "x" * 256])
async def test_a_key_that_is_no_visible_ascii_is_422(house: RecordingHouse, ask: Client, key: str) -> None:
    got = await ask.post(f"{V1}/engines/a/runs", {"input": 1}, idempotency_key=key)
    assert (got.status, got.slug, house.asked) == (422, "validation-failed", [])


async def test_two_posts_that_are_no_command_with_one_key_are_not_answered_at_once(
    house: RecordingHouse, ask: Client, autojump_clock: MockClock
) -> None:
    async def slow() -> PoolInfo:
        await trio.sleep(1)
        return pool()

    house.gives["create_pool"] = slow
    statuses: list[int] = []

    async def create() -> None:
        statuses.append((await ask.post(f"{V1}/pools", {"id": "p"}, idempotency_key="k")).status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(create)
        nursery.start_soon(create)
    assert statuses == [409, 201]
    await create()
    assert statuses[-1] == 201


# -- people, pools, dead letters ---------------------------------------------------------------------------------------
async def test_the_short_forms_of_a_reply_are_commands(house: RecordingHouse, ask: Client) -> None:
    house.gives["command"] = (accepted("approve"), None)
    await ask.post(f"{V1}/engines/a/commands", {"type": "approve", "comment": "fine"})
    assert house.asked[0][1][1] == Approve(comment="fine")


async def test_a_patch_names_the_members_that_were_sent(house: RecordingHouse, ask: Client) -> None:
    house.gives["patch_pool"] = pool()
    assert (await ask.patch(f"{V1}/pools/p", {"idle_s": None, "max_engines": 3})).status == 200
    name, patch, members, _ = house.asked[0][1]
    assert (name, patch, members) == ("p", PatchPool(max_engines=3), {"idle_s", "max_engines"})


async def test_a_pool_command_tells_what_it_did_to_each(house: RecordingHouse, ask: Client) -> None:
    house.gives["pool_command"] = [PoolResult(id="a", ok=False, state="failed", problem={"slug": "invalid-state"})]
    got = await ask.post(f"{V1}/pools/p/commands", {"type": "pause"})
    assert (got.status, got.json["results"][0]["ok"]) == (200, False)
    assert house.asked[0][1][:2] == ("p", PoolCommand(type="pause"))


async def test_get_or_spawn_by_key(house: RecordingHouse, ask: Client) -> None:
    house.gives["get_or_spawn"] = (engine("eng_7", key="my key"), True)
    got = await ask.put(f"{V1}/pools/p/engines/my key")
    assert (got.status, got.headers["location"]) == (201, "/api/v1/engines/eng_7")
    assert house.asked[0][1][:2] == ("p", "my key")


async def test_redelivery_is_a_new_command_and_discarding_leaves_nothing(house: RecordingHouse, ask: Client) -> None:
    house.gives |= {"redeliver": accepted("submit", run_id="run_9"), "discard": None}
    assert (await ask.post(f"{V1}/dead-letters/d/redeliver")).json["run_id"] == "run_9"
    gone = await ask.delete(f"{V1}/dead-letters/d")
    assert (gone.status, gone.body) == (204, b"")


# -- health ------------------------------------------------------------------------------------------------------------
async def test_strangers_see_little_health_and_readers_all_of_it(house: RecordingHouse) -> None:
    house.gives["health"] = health(store={"status": "healthy", "rows": 3})
    little = await client(house, key=None).get("/health")
    assert set(little.json) == {"status", "uptime_seconds", "active_sessions", "timestamp"}
    full = await client(house).get(f"{V1}/health")
    assert (full.json["checks"]["store"]["rows"], full.json["auth"]) == (3, "on")
    assert (await client(house, enable_auth=False, key=None).get(f"{V1}/health")).json["auth"] == "off"


@pytest.mark.parametrize("status, answer", [("healthy", 200), ("degraded", 200), ("unhealthy", 503)])
async def test_ready_is_503_when_unhealthy(house: RecordingHouse, status: str, answer: int) -> None:
    house.gives["health"] = health(status, store={"status": status})
    got = await client(house, key=None).get("/health/ready")
    assert got.status == answer
    assert ("retry-after" in got.headers) == (answer == 503)


# -- what is not there -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "path",
    ["/api/v1/schedules", "/api/v1/webhooks", "/api/v1/admin/audit",
     "/api/v1/runs/r/digest", "/.well-known/manifest.json", "/api/v1/engines/", "/api/v1//engines"],
)  # fmt: skip
async def test_what_does_not_exist_is_404(ask: Client, path: str) -> None:
    got = await ask.get(path)
    assert (got.status, got.slug) == (404, "not-found")


async def test_another_method_is_405_and_names_those_there_are(ask: Client) -> None:
    got = await ask.delete(f"{V1}/engines")
    assert (got.status, got.slug, got.headers["allow"]) == (405, "method-not-allowed", "GET, HEAD, POST")
    assert (await ask.ask("OPTIONS", f"{V1}/engines", None, {})).status == 405
