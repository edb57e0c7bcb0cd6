"""Webhooks over HTTP: each answer, what is refused and why, and whose they are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from supervisor import EmbeddedHouse
from tests.supervisor.houses import KINDS, a_house, journaled, spawn, submit, wall
from tests.web.doubles import Client, RecordingHouse, client
from tests.web.webhooks.test_delivery import Receiver, hooks_of
from web.audit import Audited, Strangers
from web.auth import Keys
from web.auth.keys import NewKey
from web.auth.principal import Scope
from web.guard import Guard
from web.webhooks import Attempt

HOOKS = "/api/v1/webhooks"
URL = "https://hooks.example/in"


@asynccontextmanager
async def asking(receiver: Receiver | None = None, **options: Any) -> AsyncIterator[tuple[Client, EmbeddedHouse]]:
    async with (
        a_house(kinds=KINDS, threads=False) as house,
        hooks_of(house, receiver or Receiver(), **options) as webhooks,
    ):
        asker = client(house, webhooks=webhooks)
        yield asker, house
        asker.check()


async def test_a_webhook_is_created_shown_changed_tested_rotated_and_deleted(autojump_clock: Any) -> None:
    receiver = Receiver()
    async with asking(receiver) as (asker, house):
        made = await asker.post(HOOKS, {"url": URL, "types": ["run"]})
        assert (made.status, made.headers["location"]) == (201, f"{HOOKS}/{made.json['id']}")
        where = made.headers["location"]
        secret = made.json["secret"]
        assert secret.startswith("whsec_")
        info = {name: value for name, value in made.json.items() if name != "secret"}
        shown = await asker.get(where)
        assert (shown.json, secret in shown.body.decode()) == (info, False)
        assert (await asker.get(HOOKS)).json == {"items": [info], "next_cursor": None}

        changed = await asker.patch(where, {"types": [], "description": "all"})
        assert (changed.json["types"], changed.json["url"]) == ([], URL)
        sent = await asker.post(f"{where}/test")
        assert (sent.status, sent.json["ok"], sent.json["type"]) == (200, True, "webhook.test")
        rotated = await asker.post(f"{where}/rotate")
        assert rotated.json["secret"] not in {secret, None}
        assert (await asker.post(f"{where}/rotate", {"overlap_s": 5})).json["old_secret_until"].startswith("2026")

        await spawn(house, "e")
        await trio.sleep(1)
        deliveries = (await asker.get(f"{where}/deliveries")).json["items"]
        assert deliveries[0]["type"] == "engine.started"
        assert (await asker.get(where)).json["delivered"] == len(deliveries) - 1
        assert (await asker.delete(where)).status == 204
        for ask in (
            asker.get(where),
            asker.delete(where),
            asker.post(f"{where}/test"),
            asker.get(f"{where}/deliveries"),
        ):
            assert (await ask).slug == "not-found"


async def test_dead_letters_are_listed_sent_again_and_discarded(autojump_clock: Any) -> None:
    receiver = Receiver()
    receiver.answer = lambda url, event: Attempt(status=500, error="The receiver answered 500.")
    async with asking(receiver, max_attempts=1) as (asker, house):
        where = (await asker.post(HOOKS, {"url": URL, "types": ["run"]})).headers["location"]
        await spawn(house, "e")
        await submit(house, "e", 0)
        await trio.sleep(1)
        dead = (await asker.get(f"{where}/dead-letters")).json["items"]
        assert [letter["type"] for letter in dead] == ["run.completed", "run.started", "run.queued"]
        receiver.answer = lambda url, event: Attempt(status=200)
        again = await asker.post(f"{where}/dead-letters/{dead[0]['event_id']}/redeliver")
        assert (again.status, again.json["ok"]) == (200, True)
        assert (await asker.delete(f"{where}/dead-letters/{dead[1]['event_id']}")).status == 204
        assert len((await asker.get(f"{where}/dead-letters")).json["items"]) == 1
        assert (await asker.post(f"{where}/dead-letters/x/redeliver")).slug == "not-found"
        assert (await asker.delete(f"{where}/dead-letters/x")).slug == "not-found"


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": None},
        {"url": ""},
        {"url": "ftp://hooks.example/"},
        {"url": "http://user:secret@hooks.example/"},
        {"url": "http://127.0.0.1/"},
        {"url": "http://[::1]:8080/"},
        {"url": "http://169.254.169.254/latest/meta-data/"},
        {"url": "http://inside.example/"},
        {"url": "http://hooks.example:22/"},
        {"url": "https://hooks.example/" + "x" * 2048},
        {"types": ["run completed"]},
        {"types": [""]},
        {"types": "run"},
        {"types": ["run"] * 65},
        {"pools": [""]},
        {"engine": ""},
        {"enabled": "yes"},
        {"secret": "chosen"},
    ],
    ids=str,
)
async def test_what_cannot_be_meant_is_422_and_nothing_is_made(wrong: dict[str, Any], autojump_clock: Any) -> None:
    async with asking() as (asker, _):
        got = await asker.post(HOOKS, {"url": URL} | wrong)
        assert (got.status, got.json["errors"] != []) == (422, True)
        assert got.json["detail"].endswith(".")
        assert (await asker.get(HOOKS)).json["items"] == []


async def test_a_change_is_checked_like_a_new_one(autojump_clock: Any) -> None:
    async with asking() as (asker, _):
        where = (await asker.post(HOOKS, {"url": URL})).headers["location"]
        for wrong in ({"url": "http://10.0.0.1/"}, {"url": None}, {"types": None}, {"extra": 1}):
            assert (await asker.patch(where, wrong)).status == 422, wrong
        assert (await asker.patch(where, {"engine": None})).status == 200
        assert (await asker.post(f"{where}/rotate", {"overlap_s": -1})).status == 422
        assert (await asker.get(where)).json["url"] == URL


async def test_there_are_only_so_many(autojump_clock: Any) -> None:
    async with asking(max=1) as (asker, _):
        await asker.post(HOOKS, {"url": URL})
        full = await asker.post(HOOKS, {"url": URL})
        assert (full.status, full.slug) == (429, "quota-exceeded")


async def test_who_may_not_read_may_not_have_it_sent(autojump_clock: Any) -> None:
    async with asking() as (asker, _):
        keys: Keys = asker.app.services.keys  # type: ignore[attr-defined]  # the app is an Api
        for scopes, status in (([Scope.OPERATE], 403), ([Scope.READ], 403), ([Scope.READ, Scope.OPERATE], 201)):
            made = await keys.create(NewKey(name="k", scopes=scopes))
            got = await Client(asker.app, made.key).post(HOOKS, {"url": URL})
            assert got.status == status, scopes


async def test_each_request_that_changes_something_leaves_one_audit_row_and_no_secret(autojump_clock: Any) -> None:
    async with asking() as (plain, house):
        asker = Client(Audited(Guard(plain.app), house, Strangers(house, wall=wall)), guard=None)
        made = await asker.post(HOOKS, {"url": URL})
        where = made.headers["location"]
        rotated = await asker.post(f"{where}/rotate")
        await asker.patch(where, {"enabled": False})
        await asker.post(f"{where}/test")
        await asker.post(HOOKS, {"url": "http://127.0.0.1/"})
        await asker.delete(f"{where}/dead-letters/x")
        await asker.delete(where)
        rows = await journaled(house.supervisor.store, lambda row: row.type.startswith("audit."))
        assert [(row.data["operation"], row.data["outcome"]) for row in rows] == [
            ("create_webhook", "accepted"), ("rotate_webhook", "accepted"), ("patch_webhook", "accepted"),
            ("test_webhook", "accepted"), ("create_webhook", "refused"), ("discard_event", "refused"),
            ("delete_webhook", "accepted"),
        ]  # fmt: skip
        journal = b"".join(row.wire for row in await journaled(house.supervisor.store))
        for answer in (made, rotated):
            assert answer.json["secret"].encode() not in journal


async def test_a_house_without_webhooks_has_none() -> None:
    asker = client(RecordingHouse())
    assert (await asker.get(HOOKS)).slug == "not-found"
