"""Delivering: everything that is for a webhook, in order, at least once, and nothing that is not for it."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio

from protocol.authority import Authority, Scope
from protocol.bodies import NewPool
from protocol.errors import (
    EventIdExpired,
    InsufficientScope,
    NotFound,
    QuotaExceeded,
    Unauthenticated,
    ValidationFailed,
)
from supervisor import Caller, EmbeddedHouse
from supervisor.audit import Trail
from supervisor.store.audit import verify_records
from supervisor.store.memory import Journal
from tests.supervisor.houses import ALICE, BOB, KINDS, a_house, journaled, kill, killed, provoke, spawn, submit
from web.webhooks import Attempt, NewWebhook, PatchWebhook, Targets, Webhooks, open_webhooks
from web.webhooks.signing import secret_of, shown, sign

MASTER = bytes(range(32))
URL = "https://hooks.example/in"
OF_A = Authority(scopes=frozenset({Scope.READ, Scope.OPERATE}), pools=frozenset({"a"}))
DAY = 86400.0


class Receiver:
    """A Sender. `got`: (url, headers, CloudEvent) of what was taken; `tried`: when what was tried; `answer`: what a
    receiver answers, by default 200.
    """

    def __init__(self) -> None:
        self.got: list[tuple[str, Mapping[str, str], dict[str, Any]]] = []
        self.tried: list[tuple[float, str, str]] = []
        self.bodies: list[bytes] = []
        self.answer: Callable[[str, dict[str, Any]], Attempt] = lambda url, event: Attempt(status=200)
        self.takes_s = 0.0

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Attempt:
        event = json.loads(body)
        self.tried.append((trio.current_time(), url, event["id"]))
        self.bodies.append(body)
        await trio.sleep(self.takes_s)
        attempt = self.answer(url, event)
        if attempt.ok:
            self.got.append((url, headers, event))
        return attempt

    def events(self, url: str = URL) -> list[str]:
        return [event["id"] for where, _, event in self.got if where == url]

    def types(self, url: str = URL) -> list[str]:
        return [event["type"] for where, _, event in self.got if where == url]


async def public(host: str, port: int) -> list[str]:
    await trio.lowlevel.checkpoint()
    return ["10.0.0.1"] if host.startswith("inside") else ["93.184.216.34"]


@asynccontextmanager
async def hooks_of(house: EmbeddedHouse, receiver: Receiver, **options: Any) -> AsyncIterator[Webhooks]:
    targets = Targets(resolve=public)
    async with open_webhooks(house, master=MASTER, targets=targets, sender=receiver, **options) as hooks:
        yield hooks


@asynccontextmanager
async def at_work(
    receiver: Receiver, journal: Journal | None = None, **options: Any
) -> AsyncIterator[tuple[EmbeddedHouse, Webhooks]]:
    async with (
        a_house(journal, kinds=KINDS, threads=False) as house,
        hooks_of(house, receiver, **options) as hooks,
    ):
        yield house, hooks


async def work(house: EmbeddedHouse, *engines: str) -> None:
    """A run on each engine, to its end."""
    for engine in engines:
        await submit(house, engine, 0)
    await trio.sleep(1)


async def durable(house: EmbeddedHouse, after: str = "0") -> list[str]:
    """The ids of all events that a stream shows behind `after`."""
    return [event["id"] for event in (await house.event_page(after=after, limit=1000)).items]


async def test_a_change_that_is_refused_when_it_is_journaled_changed_nothing(autojump_clock: Any) -> None:
    receiver = Receiver()
    async with at_work(receiver) as (house, hooks):
        made = await hooks.create(NewWebhook(url=URL), ALICE)

        def over() -> Authority:
            raise Unauthenticated("It was revoked while the name of the new place was looked up.")

        thief = Caller(principal="user:eve", standing=over)
        with pytest.raises(Unauthenticated):
            await hooks.patch(made.id, PatchWebhook(url="https://eve.example/"), frozenset({"url"}), thief)
        shown = hooks.get(made.id)
        assert (shown.url, shown.owner, shown.state) == (URL, "user:alice", "active")
        await spawn(house, "e")
        await trio.sleep(1)
        assert receiver.types()
        assert {url for _, url, _ in receiver.tried} == {URL}


async def test_everything_that_happens_from_then_on_is_sent_once_in_order_and_signed(autojump_clock: Any) -> None:
    receiver = Receiver()
    async with at_work(receiver) as (house, hooks):
        await spawn(house, "before")
        made = await hooks.create(NewWebhook(url=URL), ALICE)
        await spawn(house, "e")
        await work(house, "e", "before")
        assert receiver.events() == await durable(house, made.cursor)
        assert "enginehouse.run.completed" in receiver.types()
        for body, (_, headers, event) in zip(receiver.bodies, receiver.got, strict=True):
            secret = secret_of(MASTER, made.id, 1)
            expected = sign([secret], headers["webhook-id"], int(headers["webhook-timestamp"]), body)
            assert {name: headers[name] for name in expected} == expected
            assert headers["content-type"] == "application/cloudevents+json"
            assert event["data"]["id"] == event["id"]
        assert made.secret == shown(secret_of(MASTER, made.id, 1))
        shown_now = hooks.get(made.id)
        assert (shown_now.delivered, shown_now.cursor) == (len(receiver.got), receiver.events()[-1])


@pytest.mark.parametrize("steps", range(6))
async def test_a_webhook_that_is_created_while_the_others_are_started_has_one_courier(
    steps: int, autojump_clock: Any
) -> None:
    receiver = Receiver()
    async with at_work(receiver) as (house, hooks):
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        await hooks.create(NewWebhook(url=URL))
        await spawn(house, "e")
        await trio.sleep(1)
        assert len(receiver.events()) == len(set(receiver.events())) > 0


@pytest.mark.parametrize(
    "filter, types",
    [
        ({"types": ["run"]}, {"enginehouse.run.queued", "enginehouse.run.started", "enginehouse.run.completed"}),
        ({"types": ["run.completed"]}, {"enginehouse.run.completed"}),
        ({"types": ["run.completed"], "engine": "e"}, {"enginehouse.run.completed"}),
        ({"types": ["run.completed"], "pools": ["p"]}, {"enginehouse.run.completed"}),
        ({"types": ["run.completed"], "kinds": ["sleeper"]}, {"enginehouse.run.completed"}),
        ({"types": ["run"], "engine": "nobody"}, set()),
        ({"pools": ["default"]}, set()),
        ({"kinds": ["shell"]}, set()),
    ],
)
async def test_filters_let_through_what_they_name(filter: dict[str, Any], types: set[str], autojump_clock: Any) -> None:
    receiver = Receiver()
    async with at_work(receiver) as (house, hooks):
        await house.create_pool(NewPool(id="p"))
        await spawn(house, "e", pool="p")
        await hooks.create(NewWebhook(url=URL, **filter))
        await work(house, "e")
        assert set(receiver.types()) == types
        assert len(receiver.got) == len(types)


async def test_a_failure_is_tried_again_with_growing_delays_and_the_next_one_waits(autojump_clock: Any) -> None:
    receiver = Receiver()
    receiver.answer = lambda url, event: Attempt(status=503 if len(receiver.tried) < 4 else 200, error="503")
    async with at_work(receiver) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL, types=["run"]))
        await work(house, "e")
        assert hooks.get(made.id).failing_since is not None
        await trio.sleep(60)
        times = [at for at, _, event in receiver.tried if event == receiver.tried[0][2]]
        gaps = [later - at for at, later in pairwise(times)]
        assert [round(gap) for gap in gaps] == pytest.approx([1, 3, 9], abs=2)
        assert len(receiver.events()) == 3
        assert receiver.events() == sorted(receiver.events())
        after = hooks.get(made.id)
        assert (after.failing_since, after.last_error, after.delivered) == (None, None, 3)
        assert [delivery.attempt for delivery in reversed(hooks.deliveries(made.id))] == [1, 2, 3, 4, 1, 1]


async def test_a_receiver_that_hangs_or_fails_delays_no_other(autojump_clock: Any) -> None:
    receiver = Receiver()
    receiver.answer = lambda url, event: Attempt(status=500 if "bad" in url else 200, error="500")
    async with at_work(receiver) as (house, hooks):
        await spawn(house, "e")
        for number in range(20):
            await hooks.create(NewWebhook(url=f"https://bad.example/{number}", types=["run"]))
        await hooks.create(NewWebhook(url=URL, types=["run"]))
        await submit(house, "e", 0)
        await trio.sleep(0.1)
        assert len(receiver.events()) == 3


async def test_what_is_never_taken_becomes_a_dead_letter_and_the_next_one_comes(autojump_clock: Any) -> None:
    receiver = Receiver()
    receiver.answer = lambda url, event: Attempt(
        status=500 if event["type"] == "enginehouse.run.queued" else 200, error="The receiver answered 500."
    )
    async with at_work(receiver, max_attempts=3) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL, types=["run"]))
        await work(house, "e")
        await trio.sleep(60)
        assert receiver.types() == ["enginehouse.run.started", "enginehouse.run.completed"]
        (dead,) = hooks.dead_letters(made.id)
        assert (dead.type, dead.attempts, dead.error) == ("run.queued", 3, "The receiver answered 500.")
        assert len([event for _, _, event in receiver.tried if event == dead.event_id]) == 3
        assert hooks.get(made.id).dead_letters == 1

        again = await hooks.redeliver(made.id, dead.event_id)
        assert (again.ok, again.attempt, len(hooks.dead_letters(made.id))) == (False, 4, 1)
        receiver.answer = lambda url, event: Attempt(status=200)
        assert (await hooks.redeliver(made.id, dead.event_id)).ok
        assert receiver.events()[-1] == dead.event_id
        assert hooks.dead_letters(made.id) == []
        with pytest.raises(NotFound):
            await hooks.redeliver(made.id, dead.event_id)


async def test_dead_letters_survive_the_house_are_discarded_and_are_only_so_many(autojump_clock: Any) -> None:
    receiver, journal = Receiver(), Journal()
    receiver.answer = lambda url, event: Attempt(status=500, error="500")
    async with at_work(receiver, journal, max_attempts=1) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL, types=["run"]))
        for _ in range(70):
            await submit(house, "e", 0)
        await trio.sleep(100)
        ids = [dead.event_id for dead in hooks.dead_letters(made.id)]
        assert len(ids) == 200
        assert len(receiver.tried) == 210
    async with at_work(receiver, journal) as (_, hooks):
        assert [dead.event_id for dead in hooks.dead_letters(made.id)] == ids
        await hooks.discard(made.id, ids[0])
        assert [dead.event_id for dead in hooks.dead_letters(made.id)] == ids[1:]
        with pytest.raises(NotFound):
            await hooks.discard(made.id, ids[0])


async def test_a_dead_letter_whose_event_was_compacted_says_so(autojump_clock: Any) -> None:
    receiver = Receiver()
    receiver.answer = lambda url, event: Attempt(status=500, error="500")
    async with at_work(receiver, max_attempts=1) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL, types=["run.queued"]))
        await work(house, "e")
        await house.stop("e")
        await trio.sleep(20)
        await house.supervisor.store.trim(house.supervisor.folded)
        (dead,) = hooks.dead_letters(made.id)
        with pytest.raises(EventIdExpired):
            await hooks.redeliver(made.id, dead.event_id)


async def test_410_disables_at_once_and_enabling_sends_what_was_not_taken(autojump_clock: Any) -> None:
    receiver, journal = Receiver(), Journal()
    receiver.answer = lambda url, event: Attempt(status=410, error="The receiver answered 410.")
    async with at_work(receiver, journal) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL, types=["run"]), ALICE)
        await work(house, "e")
        shown_now = hooks.get(made.id)
        assert (shown_now.state, "410" in (shown_now.reason or ""), len(receiver.tried)) == ("disabled", True, 1)
        (row,) = await journaled(house.supervisor.store, lambda row: row.type == "webhook.disabled")
        assert row.data == {"webhook": made.id, "reason": "gone"}
        await trio.sleep(DAY)
        assert len(receiver.tried) == 1
        receiver.answer = lambda url, event: Attempt(status=200)
        await hooks.patch(made.id, PatchWebhook(enabled=True), frozenset({"enabled"}), BOB)
        await trio.sleep(1)
        assert len(receiver.events()) == 3
        assert hooks.get(made.id).owner == "user:bob"
    async with a_house(journal, kinds=KINDS, threads=False) as house:  # a row of no engine is no trouble to recovery
        assert (await house.get("e")).state in {"running", "starting"}
        assert await verify_records(house.supervisor.store) == []


async def test_a_webhook_that_takes_nothing_for_days_is_disabled(autojump_clock: Any) -> None:
    receiver = Receiver()
    receiver.answer = lambda url, event: Attempt(error="Nobody there.")
    async with at_work(receiver) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL))
        for _ in range(5):
            await work(house, "e")
        await trio.sleep(6 * DAY)
        after = hooks.get(made.id)
        assert (after.state, after.dead_letters) == ("disabled", 4)
        assert "Nobody there." in (after.reason or "")


async def test_retry_after_is_kept(autojump_clock: Any) -> None:
    receiver = Receiver()
    receiver.answer = lambda url, event: (
        Attempt(status=200) if len(receiver.tried) > 1 else Attempt(status=429, error="429", retry_after_s=100)
    )
    async with at_work(receiver) as (house, hooks):
        await spawn(house, "e")
        await hooks.create(NewWebhook(url=URL, types=["run.queued"]))
        await submit(house, "e", 0)
        await trio.sleep(200)
        (first, _, _), (second, _, _) = receiver.tried
        assert second - first == pytest.approx(100)


# -- the house ends ----------------------------------------------------------------------------------------------------
async def test_a_kill_loses_nothing_and_keeps_the_order(autojump_clock: Any) -> None:
    receiver, journal = Receiver(), Journal()
    receiver.takes_s = 0.01
    start = ""
    for life in range(6):
        async with killed(journal, kinds=KINDS, threads=False) as house, hooks_of(house, receiver) as hooks:
            if not life:
                await spawn(house, "e")
                start = (await hooks.create(NewWebhook(url=URL))).cursor
            for _ in range(5):
                await submit(house, "e", 0)
            await trio.sleep(0.02 + life * 0.013)
            await kill(house)
            await provoke(house)
    receiver.takes_s = 0.0
    async with at_work(receiver, journal) as (house, _):
        await trio.sleep(100)
        wanted = await durable(house, start)
    firsts = list(dict.fromkeys(receiver.events()))
    assert [event for event in firsts if event in wanted] == wanted
    assert len(receiver.events()) < len(wanted) + 12, "after a kill at most what was in hand is sent again"


async def test_attempts_are_counted_through_a_restart(autojump_clock: Any) -> None:
    receiver, journal = Receiver(), Journal()
    receiver.answer = lambda url, event: Attempt(status=500, error="500")
    async with at_work(receiver, journal, max_attempts=5) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL, types=["run.queued"]))
        await submit(house, "e", 0)
        await trio.sleep(6)
        assert len(receiver.tried) == 3
    async with at_work(receiver, journal, max_attempts=5) as (_, hooks):
        await trio.sleep(1000)
        assert hooks.dead_letters(made.id)[0].attempts == 5
    assert len(receiver.tried) == 5


async def test_what_was_compacted_away_is_told_as_a_gap(autojump_clock: Any) -> None:
    receiver, journal = Receiver(), Journal()
    async with at_work(receiver, journal) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL, enabled=False))
        await work(house, "e")
        await house.stop("e")
        await trio.sleep(20)
        await house.supervisor.store.trim(house.supervisor.folded)
        oldest = (await house.supervisor.store.bounds()).oldest
        await hooks.patch(made.id, PatchWebhook(enabled=True), frozenset({"enabled"}))
        await trio.sleep(1)
        assert receiver.types()[0] == "enginehouse.gap"
        era = made.cursor.partition(".")[0]
        told = {"behind": made.cursor, "to": f"{era}.{oldest - 1}", "reason": "compacted"}
        assert receiver.got[0][2]["data"] == told
        assert receiver.events()[1:] == await durable(house)
        assert receiver.events()[1].endswith(f".{oldest}")
        gap = hooks.get(made.id).last_gap
        assert gap is not None
        assert told.items() <= gap.items()


async def test_what_is_compacted_while_a_receiver_fails_is_told_as_a_gap_too(autojump_clock: Any) -> None:
    receiver = Receiver()
    receiver.answer = lambda url, event: Attempt(status=500, error="500")
    async with at_work(receiver) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL))
        for _ in range(300):
            await submit(house, "e", 0)
        await house.stop("e")
        await trio.sleep(20)
        await house.supervisor.store.trim(house.supervisor.folded)
        receiver.answer = lambda url, event: Attempt(status=200)
        await trio.sleep(600)
        kinds = receiver.types()
        assert kinds.count("enginehouse.gap") == 1
        before, told = receiver.events()[: kinds.index("enginehouse.gap")], receiver.got[kinds.index("enginehouse.gap")]
        assert told[2]["data"]["behind"] == before[-1]
        assert receiver.events()[-1] == (await durable(house))[-1] == hooks.get(made.id).cursor


async def test_what_is_not_for_a_webhook_costs_no_write(autojump_clock: Any) -> None:
    receiver = Receiver()
    async with at_work(receiver) as (house, hooks):
        await spawn(house, "e")
        await hooks.create(NewWebhook(url=URL, engine="other"))
        before = house.supervisor.store.statistics().commits
        await submit(house, "e", 0)
        await trio.sleep(1)
        with_hook = house.supervisor.store.statistics().commits - before
        for info in hooks.infos():
            await hooks.delete(info.id)
        before = house.supervisor.store.statistics().commits
        await submit(house, "e", 0)
        await trio.sleep(1)
        assert house.supervisor.store.statistics().commits - before == with_hook


async def test_another_journal_is_told_as_a_gap_and_gone_on_with_from_the_present(autojump_clock: Any) -> None:
    receiver = Receiver()
    other = Journal()
    async with at_work(receiver) as (house, hooks):
        made = await hooks.create(NewWebhook(url=URL, enabled=False))
        tables = {name: await house.documents(name) for name in ("webhook", "webhook_state")}
    async with a_house(other, kinds=KINDS, threads=False) as house:
        await spawn(house, "old")
        for name, documents in tables.items():
            for made_id, doc in documents.items():
                await house.put_document(name, made_id, doc)
    async with at_work(receiver, other) as (house, hooks):
        await hooks.patch(made.id, PatchWebhook(enabled=True), frozenset({"enabled"}))
        await trio.sleep(1)
        await spawn(house, "new")
        await trio.sleep(1)
        assert receiver.types()[0] == "enginehouse.gap"
        assert {event["subject"] for _, _, event in receiver.got[1:]} == {"new"}


async def test_a_quiet_webhook_moves_on_past_what_is_not_for_it(autojump_clock: Any) -> None:
    receiver = Receiver()
    async with at_work(receiver) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL, kinds=["shell"]))
        await work(house, "e")
        assert hooks.get(made.id).cursor == made.cursor
        await trio.sleep(400)
        assert hooks.get(made.id).cursor == (await house.event_page(after="0")).latest
        assert receiver.tried == []


async def test_a_house_that_closes_ends_deliveries_without_a_word(autojump_clock: Any) -> None:
    receiver = Receiver()
    async with at_work(receiver) as (house, hooks):
        made = await hooks.create(NewWebhook(url=URL))
        house.announce_closing()
        await trio.sleep(10)
        assert (hooks.get(made.id).state, receiver.tried) == ("active", [])


# -- whose it is -------------------------------------------------------------------------------------------------------
async def test_a_webhook_gets_what_its_owner_may_see_and_nothing_else(autojump_clock: Any) -> None:
    receiver = Receiver()
    async with at_work(receiver) as (house, hooks):
        for pool in "ab":
            await house.create_pool(NewPool(id=pool))
            await spawn(house, f"in-{pool}", pool=pool)
        await hooks.create(NewWebhook(url=URL), ALICE, authority=OF_A)
        none = Authority(scopes=OF_A.scopes, pools=frozenset())
        await hooks.create(NewWebhook(url="https://none.example/"), BOB, authority=none)
        await house.note("webhook.disabled", {"webhook": "whk_x"})  # of the whole house, so of no pool
        await work(house, "in-a", "in-b")
        assert {event["data"]["pool"] for _, _, event in receiver.got} == {"a"}
        assert receiver.events("https://none.example/") == []


ADMIN = Authority(scopes=frozenset({Scope.ADMIN}))
EVERYWHERE = Authority(scopes=frozenset({Scope.READ, Scope.OPERATE}))


async def test_audit_rows_are_for_those_who_ask_for_them_and_may_everything(autojump_clock: Any) -> None:
    receiver = Receiver()
    async with at_work(receiver) as (house, hooks):
        await spawn(house, "e")
        for name, authority in (("admin", ADMIN), ("other", EVERYWHERE), ("of-a", OF_A)):
            await hooks.create(NewWebhook(url=f"https://{name}.example/", types=["audit"]), ALICE, authority=authority)
        await hooks.create(NewWebhook(url=URL), ALICE, authority=ADMIN)
        await house.pause("e", Caller(principal="user:alice", trail=Trail("user:alice")))
        await trio.sleep(1)
        assert receiver.types("https://admin.example/") == ["enginehouse.audit.accepted"]
        assert receiver.types("https://other.example/") == receiver.types("https://of-a.example/") == []
        assert "enginehouse.engine.held" in receiver.types()
        assert "enginehouse.audit.accepted" not in receiver.types()


async def test_a_webhook_that_changed_hands_sends_nothing_that_its_new_owner_may_not_see(autojump_clock: Any) -> None:
    receiver = Receiver()
    receiver.answer = lambda url, event: Attempt(status=500, error="500")
    async with at_work(receiver, max_attempts=1) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL, types=["audit"]), ALICE, authority=ADMIN)
        await house.pause("e", Caller(principal="user:alice", trail=Trail("user:alice")))
        await trio.sleep(1)
        (dead,) = hooks.dead_letters(made.id)
        await hooks.patch(
            made.id, PatchWebhook(url="https://mine.example/"), frozenset({"url"}), BOB, authority=EVERYWHERE
        )
        receiver.answer = lambda url, event: Attempt(status=200)
        with pytest.raises(NotFound):
            await hooks.redeliver(made.id, dead.event_id, BOB, authority=EVERYWHERE)
        await house.resume("e", Caller(trail=Trail()))
        await trio.sleep(1)
        assert receiver.got == []


async def test_another_tenants_webhook_is_not_there(autojump_clock: Any) -> None:
    receiver = Receiver()
    async with at_work(receiver) as (_, hooks):
        of_a = await hooks.create(NewWebhook(url=URL), ALICE, authority=OF_A)
        wide = await hooks.create(NewWebhook(url=URL), BOB)
        assert [info.id for info in hooks.infos(OF_A)] == [of_a.id]
        assert len(hooks.infos()) == 2
        members = frozenset({"url"})
        asked: list[Callable[[], Any]] = [
            lambda: hooks.patch(wide.id, PatchWebhook(url=URL), members, authority=OF_A),
            lambda: hooks.delete(wide.id, authority=OF_A),
            lambda: hooks.rotate(wide.id, 0, authority=OF_A),
            lambda: hooks.test(wide.id, OF_A),
            lambda: hooks.redeliver(wide.id, "x", authority=OF_A),
            lambda: hooks.discard(wide.id, "x", authority=OF_A),
        ]
        for ask in asked:
            with pytest.raises(NotFound):
                await ask()
        for look in (hooks.get, hooks.deliveries, hooks.dead_letters):
            with pytest.raises(NotFound):
                look(wide.id, OF_A)
        with pytest.raises(NotFound):
            await hooks.create(NewWebhook(url=URL, pools=["a", "b"]), authority=OF_A)
        assert receiver.tried == []


async def test_who_may_not_read_or_is_an_engine_makes_no_webhook(autojump_clock: Any) -> None:
    async with at_work(Receiver()) as (_, hooks):
        for authority in (
            Authority(scopes=frozenset({Scope.OPERATE})),
            Authority(scopes=frozenset({Scope.ADMIN}), engine="eng_1"),
        ):
            with pytest.raises(InsufficientScope):
                await hooks.create(NewWebhook(url=URL), authority=authority)
        assert hooks.infos() == []


async def test_whoever_changes_a_webhook_owns_it_and_narrows_it_to_what_they_see(autojump_clock: Any) -> None:
    receiver = Receiver()
    async with at_work(receiver) as (house, hooks):
        for pool in "ab":
            await house.create_pool(NewPool(id=pool))
            await spawn(house, f"in-{pool}", pool=pool)
        both = Authority(scopes=OF_A.scopes, pools=frozenset({"a", "b"}))
        made = await hooks.create(NewWebhook(url=URL), ALICE, authority=OF_A)
        await hooks.patch(made.id, PatchWebhook(description="x"), frozenset({"description"}), BOB, authority=both)
        await work(house, "in-b")
        assert {event["data"]["pool"] for _, _, event in receiver.got} == {"b"}
        assert hooks.infos(OF_A) == []


async def test_a_revoked_owner_ends_it_and_a_narrowed_one_narrows_it(autojump_clock: Any) -> None:
    receiver = Receiver()
    standing: dict[str, Authority | None] = {"user:alice": None, "user:bob": OF_A}

    def of(principal: str) -> Authority | None:
        if principal not in standing:
            raise Unauthenticated("It was revoked.")
        return standing[principal]

    async with at_work(receiver, standing_of=of) as (house, hooks):
        for pool in "ab":
            await house.create_pool(NewPool(id=pool))
            await spawn(house, f"in-{pool}", pool=pool)
        alices = await hooks.create(NewWebhook(url=URL, types=["run"]), ALICE)
        await hooks.create(NewWebhook(url="https://bob.example/", types=["run"]), BOB)
        await work(house, "in-a", "in-b")
        assert (len(receiver.events()), len(receiver.events("https://bob.example/"))) == (6, 3)
        del standing["user:alice"]
        await work(house, "in-a", "in-b")
        assert (len(receiver.events()), len(receiver.events("https://bob.example/"))) == (6, 6)
        after = hooks.get(alices.id)
        assert (after.state, "revoked" in (after.reason or "")) == ("disabled", True)


async def test_an_owner_who_may_not_read_any_more_ends_it(autojump_clock: Any) -> None:
    receiver = Receiver()
    now = Authority(scopes=frozenset({Scope.OPERATE}))
    async with at_work(receiver, standing_of=lambda principal: now) as (house, hooks):
        made = await hooks.create(NewWebhook(url=URL), ALICE)
        await spawn(house, "e")
        await trio.sleep(1)
        assert (hooks.get(made.id).state, receiver.tried) == ("disabled", [])


async def test_an_owner_who_is_revoked_while_it_is_tried_again_ends_it(autojump_clock: Any) -> None:
    receiver = Receiver()
    receiver.answer = lambda url, event: Attempt(status=500, error="500")
    revoked = False

    def of(principal: str) -> Authority | None:
        if revoked:
            raise Unauthenticated("It was revoked.")
        return None

    async with at_work(receiver, standing_of=of) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL, types=["run.queued"]), ALICE)
        await submit(house, "e", 0)
        await trio.sleep(5)
        tried, revoked = len(receiver.tried), True
        await trio.sleep(DAY)
        assert (hooks.get(made.id).state, len(receiver.tried)) == ("disabled", tried)


# -- asked -------------------------------------------------------------------------------------------------------------
async def test_a_change_takes_effect_where_it_was(autojump_clock: Any) -> None:
    receiver = Receiver()
    async with at_work(receiver) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL, types=["run"], engine="e"))
        await work(house, "e")
        other = "https://other.example/"
        patch = PatchWebhook(url=other, types=["run.completed"], engine=None)
        changed = await hooks.patch(made.id, patch, frozenset({"url", "types", "engine"}))
        assert (changed.url, changed.types, changed.engine) == (other, ["run.completed"], None)
        await work(house, "e")
        assert (len(receiver.events()), receiver.types(other)) == (3, ["enginehouse.run.completed"])
        with pytest.raises(ValidationFailed):
            await hooks.patch(made.id, PatchWebhook(), frozenset({"url"}))
        with pytest.raises(ValidationFailed):
            await hooks.patch(made.id, PatchWebhook(url="https://inside.example/"), frozenset({"url"}))
        assert hooks.get(made.id).url == other


async def test_disabled_it_rests_and_enabled_it_goes_on_where_it_was(autojump_clock: Any) -> None:
    receiver = Receiver()
    async with at_work(receiver) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL, types=["run"]))
        await hooks.patch(made.id, PatchWebhook(enabled=False), frozenset({"enabled"}))
        await work(house, "e")
        assert receiver.tried == []
        await hooks.patch(made.id, PatchWebhook(enabled=True), frozenset({"enabled"}))
        await trio.sleep(1)
        assert len(receiver.events()) == 3


async def test_deleted_it_is_gone_with_all_that_was_kept(autojump_clock: Any) -> None:
    receiver, journal = Receiver(), Journal()
    receiver.answer = lambda url, event: Attempt(status=500, error="500")
    async with at_work(receiver, journal, max_attempts=2) as (house, hooks):
        await spawn(house, "e")
        made = await hooks.create(NewWebhook(url=URL, types=["run"]))
        await work(house, "e")
        await trio.sleep(2)
        await hooks.delete(made.id)
        tried = len(receiver.tried)
        await trio.sleep(DAY)
        assert len(receiver.tried) == tried
        with pytest.raises(NotFound):
            hooks.get(made.id)
        for table in ("webhook", "webhook_state", "webhook_dead"):
            assert await house.documents(table) == {}


async def test_rotation_signs_with_both_secrets_for_a_while(autojump_clock: Any) -> None:
    receiver, journal = Receiver(), Journal()
    async with at_work(receiver, journal) as (house, hooks):
        made = await hooks.create(NewWebhook(url=URL))
        rotated = await hooks.rotate(made.id, 100.0)
        assert rotated.secret == shown(secret_of(MASTER, made.id, 2)) != made.secret
        await spawn(house, "e")
        await trio.sleep(1)
        assert len(receiver.got[-1][1]["webhook-signature"].split(" ")) == 2
    async with at_work(receiver, journal) as (house, _):
        await trio.sleep(100)
        await work(house, "e")
        headers = receiver.got[-1][1]
        expected = sign(
            [secret_of(MASTER, made.id, 2)], headers["webhook-id"], int(headers["webhook-timestamp"]),
            receiver.bodies[-1],
        )  # fmt: skip
        assert headers["webhook-signature"] == expected["webhook-signature"]


async def test_a_test_is_sent_once_and_moves_nothing(autojump_clock: Any) -> None:
    receiver = Receiver()
    receiver.answer = lambda url, event: Attempt(status=500, error="The receiver answered 500.")
    async with at_work(receiver) as (_, hooks):
        made = await hooks.create(NewWebhook(url=URL, enabled=False))
        sent = await hooks.test(made.id)
        assert (sent.ok, sent.status, sent.type, sent.error) == (
            False,
            500,
            "webhook.test",
            "The receiver answered 500.",
        )
        await trio.sleep(DAY)
        assert len(receiver.tried) == 1
        after = hooks.get(made.id)
        assert (after.cursor, after.failing_since) == (made.cursor, None)


async def test_no_secret_is_kept_or_shown_again(autojump_clock: Any) -> None:
    receiver, journal = Receiver(), Journal()
    async with at_work(receiver, journal) as (house, hooks):
        made = await hooks.create(NewWebhook(url=URL))
        rotated = await hooks.rotate(made.id, 1.0)
        await spawn(house, "e")
        await trio.sleep(1)
        kept = [await house.documents(table) for table in ("webhook", "webhook_state", "webhook_dead")]
        rows = b"".join(row.wire for row in await journaled(house.supervisor.store))
        seen = repr((kept, rows, hooks.infos(), hooks.deliveries(made.id), receiver.got))
        for secret in (made.secret, rotated.secret):
            assert secret not in seen
            assert secret.removeprefix("whsec_") not in seen


async def test_there_are_only_so_many(autojump_clock: Any) -> None:
    async with at_work(Receiver(), max=1) as (_, hooks):
        made = await hooks.create(NewWebhook(url=URL))
        with pytest.raises(QuotaExceeded):
            await hooks.create(NewWebhook(url=URL))
        await hooks.delete(made.id)
        await hooks.create(NewWebhook(url=URL))


async def test_statistics_count_what_is_there(autojump_clock: Any) -> None:
    receiver = Receiver()
    receiver.answer = lambda url, event: Attempt(status=200 if url == URL else 500, error="500")
    async with at_work(receiver, max_attempts=2) as (house, hooks):
        await spawn(house, "e")
        await hooks.create(NewWebhook(url=URL, types=["run"]))
        await hooks.create(NewWebhook(url="https://bad.example/", types=["run.queued"]))
        await hooks.create(NewWebhook(url=URL, enabled=False))
        await work(house, "e")
        await trio.sleep(10)
        counted = hooks.statistics()
        assert (counted.hooks, counted.active, counted.failing, counted.delivered, counted.dead_letters) == (
            3,
            2,
            1,
            3,
            1,
        )
