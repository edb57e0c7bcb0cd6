"""Tickets: one stream, one use, and a second one only for who was there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from supervisor.house import EventPage, Frame
from tests.web.auth.people import AUTH, Clock, House
from tests.web.doubles import Client, Feed, Got
from web.asgi import Message
from web.auth.signing import ACCESS_S
from web.auth.tickets import FRESH_S, MOST, RESUME_S

EVENTS = "/api/v1/events"


async def ticket(asker: Client, path: str = EVENTS) -> str:
    got = await asker.post(f"{AUTH}/ticket", {"path": path})
    assert (got.status, got.json["expires_in_s"], got.json["path"]) == (200, FRESH_S, path)
    return str(got.json["ticket"])


def frame(seq: int) -> Frame:
    return Frame(event="run.queued", id=f"0000000a.{seq}", data=b"{}")


@asynccontextmanager
async def streaming(house: House, path: str, **headers: str) -> AsyncIterator[Feed]:
    """A stream that is open while the block lasts, and whose client then goes away."""
    opened = trio.Event()

    async def send(message: Message) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            assert message["status"] == 200, message
            opened.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.stranger.run, "GET", path, None, headers, send)
        await opened.wait()
        yield house.house.subscriptions[-1]
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def refused(house: House, path: str, **headers: str) -> Got:
    got = await house.stranger.get(path, **headers)
    assert (got.status, got.slug) == (401, "unauthenticated")
    return got


async def test_a_ticket_opens_its_stream_once_and_in_time(autojump_clock: MockClock) -> None:
    house = House()
    text = await ticket(house.admin)
    await trio.sleep(FRESH_S)
    async with streaming(house, f"{EVENTS}?ticket={text}&after=0"):
        await refused(house, f"{EVENTS}?ticket={text}")
    await refused(house, f"{EVENTS}?ticket={text}")
    late = await ticket(house.admin)
    await trio.sleep(FRESH_S + 0.1)
    await refused(house, f"{EVENTS}?ticket={late}")


async def test_a_ticket_is_for_one_stream(autojump_clock: MockClock) -> None:
    house = House()
    text = await ticket(house.admin, "/api/v1/engines/a/events")
    for other in (EVENTS, "/api/v1/engines/b/events", "/api/v1/runs/a/events", "/api/v1/engines/a"):
        await refused(house, f"{other}?ticket={text}")
    async with streaming(house, f"/api/v1/engines/a/events?ticket={text}"):
        assert house.house.asked[-1][0] == "events"


@pytest.mark.parametrize(
    "path", ["/api/v1/engines", "/health", "/api/v1/auth/keys", "events", "", "/api/v1/engines/a/b/events", "//events"]
)
async def test_only_streams_take_tickets(path: str) -> None:
    got = await House().admin.post(f"{AUTH}/ticket", {"path": path})
    assert (got.status, got.slug) == (404, "not-found")


async def test_a_query_is_no_part_of_the_stream(autojump_clock: MockClock) -> None:
    house = House()
    got = await house.admin.post(f"{AUTH}/ticket", {"path": f"{EVENTS}?types=run"})
    assert got.json["path"] == EVENTS
    async with streaming(house, f"{EVENTS}?types=run&ticket={got.json['ticket']}"):
        pass


async def test_after_a_cut_it_opens_again_with_an_id_that_was_sent(autojump_clock: MockClock) -> None:
    house = House()
    path = f"{EVENTS}?ticket={await ticket(house.admin)}"
    async with streaming(house, path) as feed:
        feed.put(frame(7), frame(8))
        await trio.sleep(1)
        feed.put(frame(9))
        await trio.sleep(1)
    for other in ("", "x", "0000000a.6", "0000000a.10", "0000000b.8", "0000000a.8.8", "0"):
        await refused(house, path, last_event_id=other)
    await refused(house, path)
    await refused(house, "/api/v1/engines/a/events" + path.removeprefix(EVENTS), last_event_id="0000000a.8")
    await trio.sleep(RESUME_S)
    async with streaming(house, path, last_event_id="0000000a.8") as feed:
        await refused(house, path, last_event_id="0000000a.8")
        feed.put(frame(12))
        await trio.sleep(1)
    async with streaming(house, path, last_event_id="0000000a.12"):
        pass
    await trio.sleep(RESUME_S + 0.1)
    await refused(house, path, last_event_id="0000000a.12")


async def test_a_stream_on_which_nothing_was_sent_needs_another_ticket(autojump_clock: MockClock) -> None:
    house = House()
    path = f"{EVENTS}?ticket={await ticket(house.admin)}"
    async with streaming(house, path):
        pass
    await refused(house, path, last_event_id="0000000a.1")


async def test_a_ticket_outlives_the_access_token_and_not_the_login(autojump_clock: MockClock) -> None:
    house = House(wall=Clock())
    await house.user()
    given = (await house.login()).json
    user = Client(house.admin.app, given["access_token"])
    one, other = [f"{EVENTS}?ticket={await ticket(user)}" for _ in range(2)]
    house.wall.now += ACCESS_S
    async with streaming(house, one) as feed:
        feed.put(frame(1))
        await trio.sleep(1)
    async with streaming(house, one, last_event_id="0000000a.1"):
        pass
    await house.admin.patch(f"{AUTH}/users/ada", {"disabled": True})
    await refused(house, one, last_event_id="0000000a.1")
    await refused(house, other)


async def test_a_ticket_of_a_revoked_key_opens_nothing() -> None:
    house = House()
    made = await house.admin.post(f"{AUTH}/keys", {"name": "k", "scopes": ["read"]})
    text = await ticket(Client(house.admin.app, made.json["key"]))
    await house.admin.delete(made.headers["location"])
    await refused(house, f"{EVENTS}?ticket={text}")


async def test_a_ticket_needs_read() -> None:
    house = House()
    made = await house.admin.post(f"{AUTH}/keys", {"name": "k", "scopes": ["operate"]})
    asker = Client(house.admin.app, made.json["key"])
    assert (await asker.post(f"{AUTH}/ticket", {"path": EVENTS})).status == 403


async def test_a_ticket_and_a_key_or_two_tickets_are_too_many(autojump_clock: MockClock) -> None:
    house = House()
    one, other = [await ticket(house.admin) for _ in range(2)]
    assert (await house.admin.get(f"{EVENTS}?ticket={one}")).status == 401
    await refused(house, f"{EVENTS}?ticket={one}&ticket={other}")
    async with streaming(house, f"{EVENTS}?ticket={one}"):
        pass


@pytest.mark.parametrize("name", ["ticket", "key", "api_key", "token", "access_token"])
async def test_elsewhere_nothing_in_a_url_is_a_credential(name: str) -> None:
    house = House()
    text = await ticket(house.admin)
    await refused(house, f"/api/v1/engines?{name}={text}")
    got = await house.admin.get(f"/api/v1/engines?{name}={text}")
    assert (got.status, got.slug) == (422, "validation-failed")
    if name != "ticket":
        await refused(house, f"{EVENTS}?{name}={text}")


async def test_a_ticket_buys_a_page_of_the_journal_once(autojump_clock: MockClock) -> None:
    house = House()
    house.house.gives["event_page"] = EventPage()
    path = f"{EVENTS}?ticket={await ticket(house.admin)}"
    assert (await house.stranger.get(path, accept="application/json")).status == 200
    await refused(house, path, accept="application/json")


async def test_the_table_of_tickets_is_bounded(autojump_clock: MockClock) -> None:
    house = House()
    principal: Any = house.who.holder(house.admin.key or "")
    first = house.who.ticket(principal, EVENTS)
    await trio.sleep(1)
    texts = [house.who.ticket(principal, EVENTS) for _ in range(MOST)]
    await refused(house, f"{EVENTS}?ticket={first}")
    async with streaming(house, f"{EVENTS}?ticket={texts[-1]}"):
        pass
