"""The API over a real house in memory: every answer is as the OpenAPI document says, and means what it says."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from supervisor import open_supervisor
from tests.web.doubles import Client, Got, client

V1 = "/api/v1"


@pytest.fixture
def patient_clock() -> MockClock:
    """Jumps only after a while without events: files are read in threads, which look idle to an eager one."""
    return MockClock(autojump_threshold=0.05)


@asynccontextmanager
async def opened(**more: Any) -> AsyncIterator[Client]:
    """A client of a house with one probe, `a`; checked against the document at the end."""
    async with open_supervisor() as house:
        asker = client(house, **more)
        assert (await asker.post(f"{V1}/engines", {"kind": "probe", "id": "a"})).status == 201
        yield asker
        asker.check()


def frames(got: Got) -> list[tuple[str | None, str, Any]]:
    found = re.findall(r"(?:id: (.*)\n)?event: (.*)\ndata: (.*)\n\n", got.body.decode())
    return [(seq or None, event, json.loads(data)) for seq, event, data in found]


async def test_a_run_is_submitted_waited_for_and_read(autojump_clock: MockClock) -> None:
    async with opened() as ask:
        got = await ask.post(f"{V1}/engines/a/runs", {"input": "hello"}, prefer="wait=5")
        assert (got.status, got.json["status"], got.json["result"]["text"]) == (200, "completed", "hello")
        run = await ask.get(f"{V1}/runs/{got.json['id']}?events=true")
        assert [event["type"] for event in run.json["events"]][-1] == "run.completed"
        assert (await ask.get(f"{V1}/engines/a/history")).json["total"] == 1


async def test_a_wait_that_is_too_short_is_202_and_the_run_goes_on(autojump_clock: MockClock) -> None:
    async with opened() as ask:
        got = await ask.post(f"{V1}/engines/a/runs", {"input": {"steps": 1, "step_s": 10}}, prefer="wait=1")
        assert (got.status, got.json["finished_at"]) == (202, None)
        await trio.sleep(20)
        assert (await ask.get(got.headers["location"])).json["status"] == "completed"


async def test_a_repeat_under_the_same_key_is_the_same_run(autojump_clock: MockClock) -> None:
    async with opened() as ask:
        first, second = [
            await ask.post(f"{V1}/engines/a/runs", {"input": "x"}, idempotency_key="k", prefer="wait=5")
            for _ in range(2)
        ]
        assert (first.json["id"], first.status) == (second.json["id"], second.status)
        assert ("idempotent-replayed" in first.headers, second.headers["idempotent-replayed"]) == (False, "true")
        other = await ask.post(f"{V1}/engines/a/runs", {"input": "y"}, idempotency_key="k")
        assert (other.status, other.slug) == (422, "idempotency-mismatch")


async def test_a_pause_that_is_waited_for_is_reached(autojump_clock: MockClock) -> None:
    async with opened() as ask:
        await ask.post(f"{V1}/engines/a/runs", {"input": {"steps": 3, "step_s": 5}})
        paused = await ask.post(f"{V1}/engines/a/commands", {"type": "pause", "reason": "lunch"}, prefer="wait=30")
        assert (paused.status, paused.json["state"]) == (200, "completed")
        engine = (await ask.get(f"{V1}/engines/a")).json
        assert (engine["state"], engine["holds"][0]["holder"]) == ("paused", "key:admin")
        assert (await ask.get(f"{V1}/engines/a/why")).json["pause"]["reason"] == "lunch"
        resumed = await ask.post(f"{V1}/engines/a/commands", {"type": "resume"}, prefer="wait=30")
        assert resumed.status == 200


async def test_a_stream_from_the_start_shows_a_run_whole_and_ends(autojump_clock: MockClock) -> None:
    async with opened() as ask:
        run = (await ask.post(f"{V1}/engines/a/runs", {"input": "x"}, prefer="wait=5")).json["id"]
        got = await ask.get(f"{V1}/runs/{run}/events?after=0")
        shown = frames(got)
        types = [event for _, event, _ in shown]
        assert types[-2:] == ["run.completed", "end"]
        assert [place.partition(".")[2] for place, _, _ in shown[:-1] if place] == [
            str(d["seq"]) for _, _, d in shown[:-1]
        ]
        last = shown[-1][0]
        assert last
        assert (await ask.get(f"{V1}/runs/{run}/events", last_event_id=last)).status == 204


async def test_a_live_stream_shows_each_event_once_also_over_a_reconnect(autojump_clock: MockClock) -> None:
    async with opened() as ask:
        await ask.post(f"{V1}/engines/a/runs", {"input": {"steps": 2, "step_s": 1}}, prefer="wait=9")
        everything = (await ask.get(f"{V1}/engines/a/events?after=0", accept="application/json")).json["items"]
        seen: list[int] = []
        after = "0"
        while True:
            page = (await ask.get(f"{V1}/events?after={after}&limit=3", accept="application/json")).json
            if not page["items"]:
                break
            seen += [item["seq"] for item in page["items"]]
            after = page["next_after"]
        assert seen == [item["seq"] for item in everything] == list(range(1, len(seen) + 1))


@pytest.mark.parametrize(
    "id, status, slug",
    [
        ("00000000.1", 410, "event-id-expired"),
        ("nonsense", 400, "invalid-event-id"),
        ("-1", 400, "invalid-event-id"),
    ],
)
async def test_a_position_that_is_not_of_this_house(autojump_clock: MockClock, id: str, status: int, slug: str) -> None:
    async with opened() as ask:
        for accept in ("text/event-stream", "application/json"):
            got = await ask.get(f"{V1}/events", last_event_id=id, accept=accept)
            assert (got.status, got.slug) == (status, slug)


async def test_a_position_in_the_future_is_400(autojump_clock: MockClock) -> None:
    async with opened() as ask:
        latest = (await ask.get(f"{V1}/events", accept="application/json")).json["latest"]
        era, _, seq = latest.partition(".")
        assert (await ask.get(f"{V1}/events", last_event_id=f"{era}.{int(seq) + 1000}")).slug == "invalid-event-id"


async def test_a_disposed_engine_is_410_its_delete_repeats_and_its_stream_is_over(autojump_clock: MockClock) -> None:
    async with opened() as ask:
        first, second = [await ask.delete(f"{V1}/engines/a") for _ in range(2)]
        assert (first.status, second.status, first.json) == (200, 200, second.json)
        assert (await ask.get(f"{V1}/engines/a")).slug == "engine-disposed"
        assert (await ask.post(f"{V1}/engines/a/runs", {"input": 1})).slug == "engine-disposed"
        stream = await ask.get(f"{V1}/engines/a/events?after=0")
        assert [event for _, event, _ in frames(stream)][-2:] == ["engine.disposed", "end"]
        last = frames(stream)[-1][0]
        assert last
        assert (await ask.get(f"{V1}/engines/a/events", last_event_id=last)).status == 204


async def test_a_question_is_asked_and_answered(autojump_clock: MockClock) -> None:
    async with opened() as ask:
        run = await ask.post(
            f"{V1}/engines/a/runs",
            {"input": {"ask_at": 1, "ask": {"kind": "question", "title": "Which?"}}},
            prefer="wait=1",
        )
        (request,) = (await ask.get(f"{V1}/requests")).json["items"]
        replied = await ask.post(f"{V1}/requests/{request['id']}/reply", {"answer": "this"})
        assert (replied.status, replied.json["decision"]["answer"]) == (200, "this")
        again = await ask.post(f"{V1}/requests/{request['id']}/reply", {"answer": "that"})
        assert (again.status, again.slug, again.json["decision"]["answer"]) == (409, "already-decided", "this")
        await trio.sleep(5)
        assert (await ask.get(run.headers["location"])).json["result"]["answers"] == ["this"]


async def test_output_is_read_while_it_grows_and_after(patient_clock: MockClock) -> None:
    async with opened() as ask:
        run = await ask.post(f"{V1}/engines/a/runs", {"input": {"steps": 3, "step_s": 1, "output_bytes": 100}})
        live = await ask.get(f"{run.headers['location']}/output?follow=true")
        whole = await ask.get(f"{run.headers['location']}/output")
        assert (live.status, len(whole.body)) == (200, 100)
        assert live.body == whole.body
        assert (await ask.get(f"{run.headers['location']}/output?after=90")).body == whole.body[90:]


async def test_pools_are_made_used_and_removed(autojump_clock: MockClock) -> None:
    async with opened() as ask:
        made = await ask.post(f"{V1}/pools", {"id": "p", "template": {"kind": "probe"}})
        assert made.status == 201
        first, second = [await ask.put(f"{V1}/pools/p/engines/key one") for _ in range(2)]
        assert (first.status, second.status, first.json["id"]) == (201, 200, second.json["id"])
        assert (await ask.patch(f"{V1}/pools/p", {"max_engines": 5})).json["max_engines"] == 5
        results = (await ask.post(f"{V1}/pools/p/commands", {"type": "pause"})).json["results"]
        assert [result["ok"] for result in results] == [True]
        assert (await ask.delete(f"{V1}/pools/p")).slug == "pool-busy"
        assert (await ask.delete(f"{V1}/pools/p?force=true")).status == 204
        assert (await ask.get(f"{V1}/pools/p")).status == 404


@pytest.mark.parametrize(
    "path, status",
    [
        ("engines?cursor=nonsense", 422),
        ("runs?cursor=nonsense", 422),
        ("requests?cursor=nonsense", 422),
        ("dead-letters?cursor=nonsense", 422),
        ("engines/nobody", 404),
        ("engines/nobody/state", 404),
        ("engines/nobody/events", 404),
        ("engines/nobody/runs", 404),
        ("runs/nobody", 404),
        ("runs/nobody/output", 404),
        ("runs/nobody/events", 404),
        ("requests/nobody", 404),
        ("pools/nobody", 404),
        ("kinds/nobody", 404),
        ("commands/nobody", 404),
        ("engines/a/state/nothing", 404),
        ("engines/a/state?at=999999", 422),
    ],
)
async def test_what_is_not_there(autojump_clock: MockClock, path: str, status: int) -> None:
    async with opened() as ask:
        assert (await ask.get(f"{V1}/{path}")).status == status


@pytest.mark.parametrize(
    "body, status, slug",
    [
        ({"kind": "nobody"}, 422, "unknown-kind"),
        ({"kind": "probe", "id": "a"}, 409, "engine-exists"),
        ({"kind": "probe", "id": "Not An Id"}, 422, "validation-failed"),
        ({"kind": "probe", "id": "eng_mine"}, 422, "validation-failed"),
        ({"kind": "probe", "pool": "nobody"}, 404, "not-found"),
        ({"kind": "probe", "config": {"nope": 1}}, 422, "validation-failed"),
    ],
)
async def test_an_engine_that_cannot_be_spawned(
    autojump_clock: MockClock, body: dict[str, Any], status: int, slug: str
) -> None:
    async with opened() as ask:
        got = await ask.post(f"{V1}/engines", body)
        assert (got.status, got.slug) == (status, slug)
