"""A stream that survives its connections: each durable event once, in order. Virtual time, no sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import trio
from trio.testing import MockClock

from protocol.errors import EventIdExpired, InvalidEventId, NotFound, RateLimited
from supervisor.house import Filter, Frame, Subscription
from web.client.connection import Connection, Retry
from web.client.errors import Unreachable
from web.client.remote import RemoteHouse


def event(seq: int, type: str = "run.started") -> bytes:
    return f'id: e.{seq}\nevent: {type}\ndata: {{"seq":{seq}}}\n\n'.encode()


HELLO = b": enginehouse\nretry: 1000\n\n"
OUTPUT = b'event: run.output\ndata: {"text":"x"}\n\n'
CLOSING = b'event: server.closing\ndata: {"retry_ms":1000}\n\n'
CUT = httpx2.ReadError("connection reset")


class Pieces(httpx2.AsyncByteStream):
    """What one connection brings: bytes, seconds of silence, an error; after the last one it ends, or stays silent."""

    def __init__(self, *pieces: bytes | float | Exception, stays: bool = False) -> None:
        self.pieces, self.stays, self.closed = pieces, stays, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, bytes):
                await trio.lowlevel.checkpoint()
                yield piece
            else:
                await trio.sleep(piece)
        if self.stays:
            await trio.sleep_forever()

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


class Events:
    """A house whose connections are scripted. `latest`: the present, as its pages tell it."""

    def __init__(self, *answers: Pieces | httpx2.Response | Exception, latest: str = "e.0") -> None:
        self.answers = list(answers)
        self.latest = latest
        self.positions: list[str | None] = []
        self.queries: list[str] = []
        self.times: list[float] = []

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        if request.headers["accept"] == "application/json":
            return httpx2.Response(200, json={"items": [], "next_after": self.latest, "latest": self.latest})
        self.positions.append(request.headers.get("last-event-id"))
        self.queries.append(request.url.query.decode())
        self.times.append(trio.current_time())
        answer = self.answers.pop(0) if self.answers else httpx2.ConnectError("connection refused")
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx2.Response):
            return answer
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=answer)


def refusal(status: int, slug: str, **members: object) -> httpx2.Response:
    return httpx2.Response(status, json={"type": f"/problems/{slug}", "detail": "So.", **members})


@asynccontextmanager
async def house_of(events: Events, **options: Any) -> AsyncIterator[RemoteHouse]:
    transport = httpx2.MockTransport(events)
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://house") as client,
        trio.open_nursery() as nursery,
    ):
        yield RemoteHouse(Connection(client, "http://house", Retry()), nursery, **options)
        nursery.cancel_scope.cancel()


async def until_end(stream: Subscription) -> list[Frame]:
    frames: list[Frame] = []
    with pytest.raises(trio.EndOfChannel):
        while True:
            frames += await stream.receive()
    return frames


def ids(frames: list[Frame]) -> list[str | None]:
    return [frame.id for frame in frames]


async def test_events_come_as_they_are_and_end_ends_them(autojump_clock: MockClock) -> None:
    end = b"id: e.2\nevent: end\ndata: {}\n\n"
    events = Events(Pieces(HELLO, event(1), OUTPUT, event(2), end))
    async with house_of(events) as house, house.events(Filter(run="run_1"), after="0") as stream:
        assert await until_end(stream) == [
            Frame(event="run.started", id="e.1", data=b'{"seq":1}'),
            Frame(event="run.output", id=None, data=b'{"text":"x"}'),
            Frame(event="run.started", id="e.2", data=b'{"seq":2}'),
            Frame(event="end", id="e.2", data=b"{}"),
        ]
    assert events.positions == ["0"]


async def test_each_durable_event_comes_once_across_connections(autojump_clock: MockClock) -> None:
    half = event(3)[:20]
    events = Events(
        Pieces(HELLO, event(1), event(2), half, CUT),
        httpx2.ConnectError("connection refused"),
        refusal(503, "shutting-down", retry_after_s=1),
        Pieces(HELLO, event(3), CLOSING),
        Pieces(HELLO, event(3), event(4)),  # one that it was given already
        httpx2.Response(204),
    )
    async with house_of(events) as house, house.events(after="0") as stream:
        frames = await until_end(stream)
    assert ids(frames) == ["e.1", "e.2", "e.3", None, "e.4"]
    assert frames[3].event == "server.closing"
    assert events.positions == ["0", "e.2", "e.2", "e.2", "e.3", "e.4"]


async def test_the_present_is_fixed_when_the_stream_is_entered(autojump_clock: MockClock) -> None:
    events = Events(Pieces(HELLO, CUT), Pieces(HELLO, event(8)), httpx2.Response(204), latest="e.7")
    async with house_of(events) as house, house.events() as stream:
        assert ids(await until_end(stream)) == ["e.8"]
    assert events.positions == ["e.7", "e.7", "e.8"]


async def test_a_snapshot_is_asked_for_until_it_has_come(autojump_clock: MockClock) -> None:
    snapshot = b"id: e.5\nevent: snapshot\ndata: {}\n\n"
    events = Events(Pieces(HELLO, CUT), Pieces(HELLO, snapshot, CUT), Pieces(HELLO, event(6)), httpx2.Response(204))
    async with house_of(events) as house, house.events(snapshot=True) as stream:
        assert ids(await until_end(stream)) == ["e.5", "e.6"]
    assert events.positions == [None, None, "e.5", "e.6"]
    assert events.queries == ["snapshot=true", "snapshot=true", "", ""]


@pytest.mark.parametrize(
    "answer, error",
    [
        (refusal(400, "invalid-event-id"), InvalidEventId),
        (refusal(404, "not-found"), NotFound),
        (refusal(410, "event-id-expired", oldest="e.5"), EventIdExpired),
        (refusal(429, "rate-limited", retry_after_s=1), RateLimited),
    ],
)
async def test_what_is_refused_is_refused_on_entering(
    autojump_clock: MockClock, answer: httpx2.Response, error: type[Exception]
) -> None:
    async with house_of(Events(answer)) as house:
        with pytest.raises(error):
            async with house.events(after="e.1"):
                pytest.fail("entered")


async def test_a_place_that_was_forgotten_is_told_after_what_came_before(autojump_clock: MockClock) -> None:
    events = Events(Pieces(HELLO, event(1)), refusal(410, "event-id-expired", oldest="e.5"))
    async with house_of(events) as house, house.events(after="0") as stream:
        assert ids(await stream.receive()) == ["e.1"]
        with pytest.raises(EventIdExpired) as caught:
            await stream.receive()
        assert caught.value.extra["oldest"] == "e.5"
        with pytest.raises(EventIdExpired):
            await stream.receive()


async def test_a_house_that_does_not_come_back_is_given_up(autojump_clock: MockClock) -> None:
    events = Events(Pieces(HELLO, event(1)))
    async with house_of(events, give_up_s=60) as house, house.events(after="0") as stream:
        assert ids(await stream.receive()) == ["e.1"]
        began = trio.current_time()
        with pytest.raises(Unreachable, match="enginehouse serve"):
            await stream.receive()
        assert 60 <= trio.current_time() - began <= 66
    gaps = [b - a for a, b in zip(events.times, events.times[1:], strict=False)]
    assert all(1 <= gap <= 5 for gap in gaps), gaps  # the server's `retry:`, then up to `max_s`
    assert gaps[-1] >= 2.5


async def test_a_house_that_is_not_there_is_told_soon(autojump_clock: MockClock) -> None:
    async with house_of(Events()) as house:
        began = trio.current_time()
        with pytest.raises(Unreachable):
            async with house.events(after="0"):
                pytest.fail("entered")
        assert trio.current_time() - began < 15


async def test_a_connection_that_falls_silent_is_left(autojump_clock: MockClock) -> None:
    class Silent(Events):
        async def __call__(self, request: httpx2.Request) -> httpx2.Response:
            assert request.extensions["timeout"]["read"] == 30
            return await super().__call__(request)

    events = Silent(
        Pieces(HELLO, event(1), httpx2.ReadTimeout("silence")), Pieces(HELLO, event(2)), httpx2.Response(204)
    )
    async with house_of(events, silence_s=30) as house, house.events(after="0") as stream:
        assert ids(await until_end(stream)) == ["e.1", "e.2"]


async def test_a_cancelled_receive_loses_nothing_and_costs_no_connection(autojump_clock: MockClock) -> None:
    events = Events(Pieces(HELLO, 5.0, event(1), OUTPUT, 5.0, event(2), stays=True))
    frames: list[Frame] = []
    async with house_of(events) as house, house.events(after="0") as stream:
        for _ in range(24):
            with trio.move_on_after(0.5):
                frames += await stream.receive()
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.receive()
    assert ids(frames) == ["e.1", None, "e.2"]
    assert len(events.positions) == 1


async def test_a_reader_that_does_not_take_stops_the_reading(autojump_clock: MockClock) -> None:
    big = b"id: e.%d\nevent: state.patched\ndata: " + b"x" * 300_000 + b"\n\n"
    pieces = Pieces(HELLO, *[big % seq for seq in range(1, 21)])
    events = Events(pieces, httpx2.Response(204))
    async with house_of(events) as house, house.events(after="0") as stream:
        await trio.sleep(100)
        waiting = await stream.receive()
        assert sum(len(frame.data) for frame in waiting) < 1.5 * (1 << 20)
        frames = waiting + await until_end(stream)
    assert ids(frames) == [f"e.{seq}" for seq in range(1, 21)]


async def test_leaving_closes_the_connection(autojump_clock: MockClock) -> None:
    pieces = Pieces(HELLO, event(1), stays=True)
    async with house_of(Events(pieces)) as house:
        async with house.events(after="0") as stream:
            await stream.receive()
            assert not pieces.closed
        assert pieces.closed


async def test_filters_are_asked_for(autojump_clock: MockClock) -> None:
    events = Events(httpx2.Response(204), httpx2.Response(204), httpx2.Response(204))
    async with house_of(events) as house:
        everything = Filter(types=("run", "engine.started"), pools=("p",), kinds=("probe",), slices=("plan",))
        for chosen in (everything, Filter(engine="a", types=("run",)), Filter(run="r")):
            async with house.events(chosen, after="0"):
                pass
    assert events.queries == ["types=run&types=engine.started&slices=plan&pool=p&kind=probe", "types=run", ""]
