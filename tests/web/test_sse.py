"""Event streams over real sockets: what a reader sees, and what is left when it goes.

The clock is virtual and jumps when client and server, which share this process, are both waiting.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.authority import Authority
from protocol.errors import EventIdExpired, InvalidEventId, NotFound, Unauthenticated
from supervisor.house import EventPage, Filter, Frame
from tests.web.doubles import ADMIN, Client, Feed, RecordingHouse, api, client
from web.app import Api
from web.auth.keys import NewKey
from web.auth.principal import Principal, Scope
from web.guard import Guard
from web.limits import Limits
from web.server import serve
from web.sockets import bind_tcp
from web.sse import encode

EVENTS = "/api/v1/events"
FIRST = b": enginehouse\nretry: 1000\n\n"


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0.01)


@pytest.fixture
def house() -> RecordingHouse:
    return RecordingHouse()


def row(seq: int, type: str = "run.started") -> Frame:
    return Frame(event=type, id=f"0000abcd.{seq}", data=b'{"seq":%d}' % seq)


END = Frame(event="end", id="0000abcd.9", data=b'{"reason":"nothing follows"}')


class Reader:
    """One connection's answer, as it arrives: `head`, then the chunks of the body."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._data = b""

    async def head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._data:
            self._data += await self._more()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in lines)

    async def chunk(self) -> bytes:
        """The next piece, as the server wrote it; empty at the end."""
        while b"\r\n" not in self._data:
            self._data += await self._more()
        size, _, self._data = self._data.partition(b"\r\n")
        length = int(size, 16)
        while len(self._data) < length + 2:
            self._data += await self._more()
        piece, self._data = self._data[:length], self._data[length + 2 :]
        return piece

    async def _more(self) -> bytes:
        data = bytes(await self.stream.receive_some())
        assert data, "the server closed the connection"
        return data


class Server:
    def __init__(self, app: Api, port: int, stop: trio.Event, stopped: trio.Event) -> None:
        self.app, self.port, self.stop, self.stopped = app, port, stop, stopped

    @asynccontextmanager
    async def ask(self, path: str, *, method: str = "GET", key: str = ADMIN, **headers: str) -> AsyncIterator[Reader]:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"X-API-Key: {key}"]
            lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
            await stream.send_all("\r\n".join([*lines, "", ""]).encode())
            yield Reader(stream)


@asynccontextmanager
async def served(house: Any, **more: Any) -> AsyncIterator[Server]:
    app, stop, stopped = api(house, **more), trio.Event(), trio.Event()
    sockets = bind_tcp("127.0.0.1", 0)

    async def run() -> None:
        await serve(Guard(app), sockets, shutdown=stop.wait, closing=app.close_streams, grace_s=5)
        stopped.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield Server(app, sockets[0].getsockname()[1], stop, stopped)
        stop.set()


async def feed_of(house: RecordingHouse) -> Feed:
    await trio.testing.wait_all_tasks_blocked(0.005)
    return house.subscriptions[-1]


# -- what a reader sees ------------------------------------------------------------------------------------------------
async def test_a_stream_begins_with_a_comment_and_retry_and_shows_frames_as_they_come(
    house: RecordingHouse, clock: MockClock
) -> None:
    async with served(house) as server, server.ask(EVENTS) as reader:
        status, headers = await reader.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert await reader.chunk() == FIRST
        feed = await feed_of(house)
        feed.put(row(1))
        assert await reader.chunk() == b'id: 0000abcd.1\nevent: run.started\ndata: {"seq":1}\n\n'
        feed.put(Frame(event="run.output", id=None, data=b'{"text":"x"}'))
        assert await reader.chunk() == b'event: run.output\ndata: {"text":"x"}\n\n'


async def test_whatever_is_pending_is_one_write(house: RecordingHouse, clock: MockClock) -> None:
    async with served(house) as server, server.ask(EVENTS) as reader:
        await reader.head()
        await reader.chunk()
        frames = [row(seq) for seq in range(1, 101)]
        (await feed_of(house)).put(*frames)
        assert await reader.chunk() == encode(frames)


async def test_a_first_frame_comes_at_once_and_what_follows_closely_is_one_write(
    house: RecordingHouse, clock: MockClock
) -> None:
    async with served(house) as server, server.ask(EVENTS) as reader:
        await reader.head()
        await reader.chunk()
        feed, began = await feed_of(house), trio.current_time()
        feed.put(row(1))
        assert await reader.chunk() == encode([row(1)])
        assert trio.current_time() == began
        feed.put(row(2))
        await trio.sleep(0.005)
        feed.put(row(3))
        assert await reader.chunk() == encode([row(2), row(3)])
        assert trio.current_time() - began == pytest.approx(0.01)


async def test_silence_is_filled_with_a_heartbeat_comment(house: RecordingHouse, clock: MockClock) -> None:
    async with served(house, heartbeat_s=15.0) as server, server.ask(EVENTS) as reader:
        await reader.head()
        await reader.chunk()
        began = trio.current_time()
        assert await reader.chunk() == b": heartbeat\n\n"
        assert await reader.chunk() == b": heartbeat\n\n"
        assert trio.current_time() - began == pytest.approx(30, abs=1)


async def test_a_heartbeat_comes_after_silence_and_not_beside_frames(house: RecordingHouse, clock: MockClock) -> None:
    async with served(house, heartbeat_s=40.0) as server, server.ask(EVENTS) as reader:
        await reader.head()
        await reader.chunk()
        feed, began = await feed_of(house), trio.current_time()
        await trio.sleep(30)
        feed.put(row(1))
        assert b"0000abcd.1" in await reader.chunk()
        assert await reader.chunk() == b": heartbeat\n\n"
        assert trio.current_time() - began == pytest.approx(70, abs=1)


async def test_a_principal_without_a_number_of_its_own_has_the_configured_one(
    house: RecordingHouse, clock: MockClock
) -> None:
    async with served(house, limits=Limits(streams=1)) as server:
        made = await server.app.services.keys.create(NewKey(name="k", scopes=[Scope.READ]))
        async with server.ask(EVENTS, key=made.key) as first, server.ask(EVENTS, key=made.key) as second:
            assert (await first.head())[0] == 200
            assert (await second.head())[0] == 429
        async with server.ask(EVENTS) as admin, server.ask(EVENTS) as another:
            assert [(await reader.head())[0] for reader in (admin, another)] == [200, 200]


class Revocable:
    """Stands for `Identity`: whoever asks holds a credential that can be revoked under their feet."""

    def __init__(self) -> None:
        self.revoked = False

    def admit(self, scope: Any, *, takes_ticket: bool) -> Principal:
        return Principal(name="key:x", authority=Authority(scopes=frozenset({Scope.READ})), check=self.check)

    def check(self) -> None:
        if self.revoked:
            raise Unauthenticated("This key was revoked.")


@asynccontextmanager
async def served_to(keys: Revocable, house: RecordingHouse) -> AsyncIterator[Server]:
    async with served(house, heartbeat_s=50.0) as server:
        server.app.services.identity = keys  # type: ignore[assignment]  # it stands for one
        yield server


async def test_a_silent_stream_ends_within_15_s_of_its_credential(house: RecordingHouse, clock: MockClock) -> None:
    keys = Revocable()
    async with served_to(keys, house) as server, server.ask(EVENTS) as reader:
        await reader.head()
        await reader.chunk()
        await trio.sleep(40)
        keys.revoked, began = True, trio.current_time()
        assert await reader.chunk() == b""
        assert trio.current_time() - began <= 15
        assert not house.subscriptions[-1].open


async def test_nothing_more_is_shown_once_the_credential_is_over(house: RecordingHouse, clock: MockClock) -> None:
    keys = Revocable()
    async with served_to(keys, house) as server, server.ask(EVENTS) as reader:
        await reader.head()
        await reader.chunk()
        keys.revoked = True
        (await feed_of(house)).put(row(1))
        assert await reader.chunk() == b""


async def test_output_that_is_followed_ends_with_its_credential_too(house: RecordingHouse, clock: MockClock) -> None:
    keys = Revocable()
    asked: list[int] = []

    async def follow(run: str, *, after: int = 0) -> AsyncIterator[bytes]:
        asked.append(after)
        if after == 0:
            yield b"begun"
        await trio.sleep_forever()

    house.gives["output"] = (b"", 0)
    house.follow = follow  # type: ignore[method-assign]  # it goes on for ever here
    async with served_to(keys, house) as server, server.ask("/api/v1/runs/r/output?follow=true") as reader:
        await reader.head()
        assert await reader.chunk() == b"begun"
        await trio.sleep(50)
        keys.revoked, began = True, trio.current_time()
        assert await reader.chunk() == b""
        assert trio.current_time() - began <= 15
        assert asked == [0, 5, 5, 5]


async def test_a_stream_outlives_the_time_that_other_answers_have(house: RecordingHouse, clock: MockClock) -> None:
    async with served(house, heartbeat_s=600.0) as server, server.ask(EVENTS) as reader:
        await reader.head()
        await reader.chunk()
        feed = await feed_of(house)
        await trio.sleep(500)
        feed.put(row(1))
        assert b"0000abcd.1" in await reader.chunk()


async def test_an_end_closes_the_stream(house: RecordingHouse, clock: MockClock) -> None:
    async with served(house) as server, server.ask("/api/v1/runs/r/events") as reader:
        await reader.head()
        await reader.chunk()
        feed = await feed_of(house)
        feed.put(row(8), END)
        assert await reader.chunk() == encode([row(8), END])
        assert await reader.chunk() == b""
        assert not feed.open


async def test_filters_and_position_reach_the_house(house: RecordingHouse) -> None:
    house.backlog = [END]
    asker = client(house)
    await asker.get(
        f"{EVENTS}?types=run,engine&types=state.patched&pool=p&kind=probe,shell&slices=plan&after=0&snapshot=true"
    )
    await asker.get("/api/v1/engines/a/events?after=0000abcd.1", last_event_id="0000abcd.2")
    await asker.get("/api/v1/runs/r/events", last_event_id="")
    shown = [(arguments[0], more["after"], more["snapshot"]) for _, arguments, more in house.asked]
    everything = Filter(
        types=("run", "engine", "state.patched"), pools=("p",), kinds=("probe", "shell"), slices=("plan",)
    )
    assert shown == [
        (everything, "0", True),
        (Filter(engine="a"), "0000abcd.2", False),
        (Filter(run="r"), None, False),
    ]


# -- where it cannot begin ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "error, status, slug",
    [
        (NotFound("no"), 404, "not-found"),
        (InvalidEventId("no"), 400, "invalid-event-id"),
        (EventIdExpired("no", oldest="0000abcd.5", latest="0000abcd.9"), 410, "event-id-expired"),
    ],
)
async def test_a_position_that_cannot_be_is_an_ordinary_problem(
    house: RecordingHouse, error: Exception, status: int, slug: str
) -> None:
    house.gives["events"] = error
    got = await client(house).get(EVENTS, last_event_id="whatever")
    assert (got.status, got.slug) == (status, slug)


async def test_coming_back_after_the_end_is_204(house: RecordingHouse) -> None:
    house.backlog = [END]
    got = await client(house).get("/api/v1/runs/r/events", last_event_id="0000abcd.9")
    assert (got.status, got.body) == (204, b"")
    assert not house.subscriptions[0].open


async def test_coming_back_before_the_end_shows_the_rest(house: RecordingHouse) -> None:
    house.backlog = [row(9), END]
    got = await client(house).get("/api/v1/runs/r/events", last_event_id="0000abcd.8")
    assert (got.status, got.body) == (200, FIRST + encode([row(9), END]))


async def test_a_first_visit_after_the_end_shows_the_end(house: RecordingHouse) -> None:
    house.backlog = [END]
    got = await client(house).get("/api/v1/runs/r/events")
    assert (got.status, got.body) == (200, FIRST + encode([END]))


async def test_head_shows_the_headers_and_leaves(house: RecordingHouse, clock: MockClock) -> None:
    async with served(house) as server, server.ask(EVENTS, method="HEAD") as reader:
        status, headers = await reader.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert not (await feed_of(house)).open


# -- pages -------------------------------------------------------------------------------------------------------------
async def test_who_accepts_json_gets_a_page(house: RecordingHouse) -> None:
    house.gives["event_page"] = EventPage(items=[{"seq": 1}], next_after="0000abcd.1", latest="0000abcd.3")
    got = await client(house).get(f"{EVENTS}?after=0&limit=1&wait_s=5&types=run", accept="application/json")
    assert got.json == {"items": [{"seq": 1}], "next_after": "0000abcd.1", "latest": "0000abcd.3"}
    assert house.asked == [("event_page", (Filter(types=("run",)),), {"after": "0", "limit": 1, "wait_s": 5.0})]


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", "text/event-stream, application/json;q=0.5", "text/*"])
async def test_who_accepts_events_gets_the_stream(house: RecordingHouse, accept: str) -> None:
    house.backlog = [END]
    got = await client(house).get(EVENTS, accept=accept)
    assert got.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "wait_s=61", "wait_s=-1", "snapshot=1", "types=", "after=" + "9" * 65]
)
async def test_a_stream_that_is_asked_for_wrongly_is_422(house: RecordingHouse, query: str) -> None:
    assert (await client(house).get(f"{EVENTS}?{query}")).status == 422


# -- when somebody goes ------------------------------------------------------------------------------------------------
async def test_a_reader_that_goes_gives_its_subscription_back_at_once(house: RecordingHouse, clock: MockClock) -> None:
    async with served(house) as server:
        async with server.ask(EVENTS) as reader:
            await reader.head()
            feed = await feed_of(house)
            assert (feed.open, server.app.services.streams.statistics().open) == (True, {"key:admin": 1})
        with trio.fail_after(1):
            await trio.testing.wait_all_tasks_blocked(0.005)
        assert (feed.open, server.app.services.streams.statistics().open) == (False, {})


async def test_a_reader_that_goes_before_its_answer_leaves_nothing_open(
    house: RecordingHouse, clock: MockClock
) -> None:
    async with served(house) as server:
        for _ in range(20):
            async with server.ask(EVENTS):
                pass
        await trio.testing.wait_all_tasks_blocked(0.005)
        assert not any(feed.open for feed in house.subscriptions)
        assert server.app.services.streams.statistics().open == {}


async def test_a_reader_that_takes_nothing_is_cut_and_the_others_do_not_notice(
    house: RecordingHouse, clock: MockClock
) -> None:
    async with served(house) as server, server.ask(EVENTS) as stalled:
        await stalled.head()
        slow = await feed_of(house)
        began = trio.current_time()
        slow.put(*[Frame(event="big", id=f"0000abcd.{n}", data=b"x" * 1_000_000) for n in range(20)])
        async with server.ask(EVENTS) as reader:
            await reader.head()
            await reader.chunk()
            fast = await feed_of(house)
            fast.put(row(1))
            assert b"0000abcd.1" in await reader.chunk()
            assert trio.current_time() - began < 1
            await trio.sleep(40)
            assert (slow.open, fast.open) == (False, True)


async def test_a_shutdown_says_goodbye_to_every_reader_and_does_not_wait_for_the_grace(
    house: RecordingHouse, clock: MockClock
) -> None:
    async with served(house) as server:
        async with server.ask(EVENTS) as one, server.ask("/api/v1/engines/a/events") as two:
            for reader in (one, two):
                await reader.head()
                await reader.chunk()
            began = trio.current_time()
            server.stop.set()
            for reader in (one, two):
                assert await reader.chunk() == b'event: server.closing\ndata: {"retry_s":1}\n\n'
                assert await reader.chunk() == b""
        await server.stopped.wait()
        assert trio.current_time() - began < 1


async def test_no_stream_begins_while_the_streams_close(house: RecordingHouse) -> None:
    asker = client(house)
    app = asker.app
    assert isinstance(app, Api)
    await app.close_streams()
    got = await asker.get(EVENTS)
    assert (got.status, got.slug) == (503, "shutting-down")


async def test_a_shutdown_ends_a_long_poll_with_what_there_is(house: RecordingHouse, clock: MockClock) -> None:
    polls = 0

    async def poll() -> EventPage:
        nonlocal polls
        polls += 1
        if polls == 1:
            await trio.sleep_forever()
        return EventPage(items=[], next_after="0000abcd.1", latest="0000abcd.1")

    house.gives["event_page"] = poll
    async with served(house) as server, server.ask(f"{EVENTS}?wait_s=60", accept="application/json") as reader:
        await trio.testing.wait_all_tasks_blocked(0.005)
        began = trio.current_time()
        server.stop.set()
        assert (await reader.head())[0] == 200
        assert trio.current_time() - began < 1


async def test_a_long_poll_shows_nothing_to_a_key_that_was_revoked_meanwhile(house: RecordingHouse) -> None:
    app = api(house)
    made = await app.services.keys.create(NewKey(name="test", scopes=[Scope.READ]))

    async def poll() -> EventPage:
        await app.services.keys.revoke(made.id)
        return EventPage(items=[{"type": "secret"}], next_after="0000abcd.1", latest="0000abcd.1")

    house.gives["event_page"] = poll
    got = await Client(app, made.key).get(f"{EVENTS}?wait_s=60", accept="application/json")
    assert (got.status, got.slug) == (401, "unauthenticated")


# -- how many ----------------------------------------------------------------------------------------------------------
async def test_a_created_key_has_sixteen_streams_and_the_others_do_not_suffer(house: RecordingHouse) -> None:
    app = api(house)
    made = await app.services.keys.create(NewKey(name="test", scopes=[Scope.READ]))
    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(Client(app, made.key).get, EVENTS)
        await trio.testing.wait_all_tasks_blocked()
        refused = await Client(app, made.key).get(EVENTS)
        assert (refused.status, refused.slug, refused.headers["retry-after"]) == (429, "rate-limited", "1")
        nursery.start_soon(Client(app).get, EVENTS)
        await trio.testing.wait_all_tasks_blocked()
        assert app.services.streams.statistics().open == {f"key:{made.id}": 16, "key:admin": 1}
        await app.close_streams()
    assert app.services.streams.statistics().open == {}


def test_frames_are_the_bytes_they_were_given() -> None:
    text = json.dumps({"text": "ä\n\u2028"}, ensure_ascii=False).encode()
    assert encode([Frame(event="a.b", id="e.1", data=text)]) == b"id: e.1\nevent: a.b\ndata: " + text + b"\n\n"
