"""Serving over real sockets. Each test turns red without the fix that it is named after.

The clock is virtual: it jumps only when client and server, which share this process, are both waiting, so a timeout of
30 s is exact and costs nothing. The threshold lets the loopback interface deliver first.
"""

import json
import os
import random
import socket
import ssl
import stat
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from quart import request
from quart_trio import QuartTrio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.web.certificates import Certificate
from web.asgi import App, Receive, Scope, Send
from web.guard import Guard
from web.limits import Limits
from web.peer import Proxies
from web.problems import install
from web.server import serve
from web.sockets import bind_tcp, bind_unix
from web.tls import Tls

GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n"


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0.01)


def quart_app() -> QuartTrio:
    app = QuartTrio("served")
    install(app)

    @app.get("/constant")
    async def constant() -> dict[str, int]:
        return {"a": 1}

    @app.post("/echo")
    async def echo() -> bytes:
        return b"".join([part async for part in request.body])

    return app


def plain(app: App) -> App:
    """An app without lifespan says so by raising (ASGI 3.0, lifespan)."""

    async def http_alone(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        await app(scope, receive, send)

    return http_alone


@plain
async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    """An answer that has no end."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})


@asynccontextmanager
async def serving(app: App, **settings: Any) -> AsyncIterator[tuple[int, trio.Event]]:
    """The port, and the event that shuts the server down; it is left when the block ends."""
    stop = trio.Event()
    bound = trio.Event()
    sockets = bind_tcp("127.0.0.1", 0, settings.get("limits"))
    port = sockets[0].getsockname()[1]
    run = partial(serve, app, sockets, shutdown=stop.wait, on_bound=lambda _: bound.set(), **settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await bound.wait()
        yield port, stop
        stop.set()


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything until the server closes; a reset counts as a close."""
    received = bytearray()
    try:
        while data := await stream.receive_some(65_536):
            received += data
    except trio.BrokenResourceError:
        received += b"<reset>"
    return bytes(received)


async def say(port: int, *parts: bytes) -> bytes:
    """Send and read until the server closes."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for part in parts:
            await stream.send_all(part)
        return await read_all(stream)


async def read_answer(stream: trio.SocketStream) -> bytes:
    """One answer with a Content-Length, and nothing behind it."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = await stream.receive_some(65_536)
        if not data:
            return received
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    while len(body) < length:
        body += await stream.receive_some(65_536)
    assert len(body) == length
    return head + b"\r\n\r\n" + body


def slug(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["type"]).removeprefix("/problems/")


# A served connection closes (stack pitfall 1).


@pytest.mark.parametrize(
    "wish",
    [
        b"GET /constant HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /constant HTTP/1.0\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_a_client_that_wants_the_connection_closed_gets_it_closed(wish: bytes, clock: MockClock) -> None:
    async with serving(Guard(quart_app())) as (port, _):
        for _ in range(20):
            began = trio.current_time()
            answer = await say(port, wish)
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b'{"a":1}\n')
            assert trio.current_time() == began


async def test_a_kept_connection_is_closed_after_its_silence(clock: MockClock) -> None:
    async with serving(Guard(quart_app())) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for _ in range(3):
            await stream.send_all(GET % (b"/constant", b""))
            assert (await read_answer(stream)).startswith(b"HTTP/1.1 200")
        began = trio.current_time()
        assert await read_all(stream) == b""
        assert trio.current_time() - began == pytest.approx(30, abs=0.1)


async def test_no_answer_names_the_server(clock: MockClock) -> None:
    async with serving(Guard(quart_app())) as (port, _):
        for line in (b"GET /constant HTTP/1.0\r\nHost: localhost\r\n\r\n", b"nonsense\r\n\r\n"):
            answer = await say(port, line)
            assert b"\r\nserver:" not in answer.lower()
            assert b"\r\nx-content-type-options: nosniff" in answer


# Slow clients are cut (pitfall 9).


async def test_a_connection_that_says_nothing_is_closed_without_a_word(clock: MockClock) -> None:
    async with serving(Guard(quart_app())) as (port, _):
        assert await say(port) == b""
        assert trio.current_time() == pytest.approx(5, abs=0.1)


async def test_a_header_sent_byte_by_byte_is_cut_after_5_s(clock: MockClock) -> None:
    async def drip(stream: trio.SocketStream) -> None:
        for byte in GET % (b"/constant", b"X-Slow: 1\r\n" * 20):
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.5)

    async with serving(Guard(quart_app())) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip, stream)
            answer = await read_all(stream)
            nursery.cancel_scope.cancel()
        assert answer.startswith(b"HTTP/1.1 408")
        assert slug(answer) == "request-timeout"
        assert trio.current_time() == pytest.approx(5, abs=0.6)


async def test_the_header_clock_starts_anew_with_each_request(clock: MockClock) -> None:
    async with serving(Guard(quart_app())) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for _ in range(3):
            whole = GET % (b"/constant", b"")
            await stream.send_all(whole[:9])
            await trio.sleep(4)
            await stream.send_all(whole[9:])
            assert (await read_answer(stream)).startswith(b"HTTP/1.1 200")


async def test_a_later_header_that_stalls_is_cut_after_5_s_too(clock: MockClock) -> None:
    async with serving(Guard(quart_app())) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(GET % (b"/constant", b""))
        await read_answer(stream)
        await trio.sleep(20)
        await stream.send_all(b"GET /const")
        assert (await read_all(stream)).startswith(b"HTTP/1.1 408")
        assert trio.current_time() == pytest.approx(25, abs=0.1)


async def test_a_body_that_drips_is_cut_after_10_s(clock: MockClock) -> None:
    async def drip(stream: trio.SocketStream) -> None:
        await stream.send_all(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await stream.send_all(b"x")
            await trio.sleep(1)

    async with serving(Guard(quart_app())) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip, stream)
            answer = await read_all(stream)
            nursery.cancel_scope.cancel()
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"\r\nconnection: close" in answer
        assert 10 <= trio.current_time() <= 10 + 2.2


async def test_a_body_above_the_minimum_rate_may_take_longer(clock: MockClock) -> None:
    async with serving(Guard(quart_app())) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 400000\r\n\r\n")
        for _ in range(20):
            await trio.sleep(1)
            await stream.send_all(b"x" * 20_000)
        answer = await read_answer(stream)
        assert answer.endswith(b"\r\n\r\n" + b"x" * 400_000)


async def test_an_app_that_is_slow_to_take_a_body_costs_its_client_nothing(clock: MockClock) -> None:
    @plain
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(60)
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async with serving(app) as (port, _):
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 20000000\r\n\r\n"
        assert (await say(port, head, b"x" * 20_000_000)).endswith(b"ok")


@pytest.mark.parametrize(
    "limits, sent, cut_s",
    [
        (Limits(header_s=2), b"GET /constant", 2),
        (Limits(body_s=3), b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx", 3),
        (Limits(body_s=3), b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx", 3),
        (
            Limits(body_s=3, body_rate_bytes=2),
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
            5,
        ),
        (Limits(keep_alive_s=4), GET % (b"/constant", b""), 4),
    ],
    ids=["header", "body", "chunked body", "rate", "keep-alive"],
)
async def test_each_time_limit_can_be_set(limits: Limits, sent: bytes, cut_s: float, clock: MockClock) -> None:
    async with serving(Guard(quart_app()), limits=limits) as (port, _):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(sent)
            await trio.testing.wait_all_tasks_blocked(0.005)
            if limits.body_rate_bytes == 2:
                await stream.send_all(b"abcd")
            await read_all(stream)
        assert trio.current_time() == pytest.approx(cut_s, abs=0.1)


async def test_a_body_that_trickles_in_chunks_is_cut_after_10_s(clock: MockClock) -> None:
    async def drip(stream: trio.SocketStream) -> None:
        await stream.send_all(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"1\r\nx\r\n")
            await trio.sleep(0.5)

    async with serving(Guard(quart_app())) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip, stream)
            answer = await read_all(stream)
            nursery.cancel_scope.cancel()
        assert slug(answer) == "request-timeout"
        assert trio.current_time() == pytest.approx(10, abs=0.6)


async def test_what_an_app_still_answers_after_a_408_is_dropped(clock: MockClock) -> None:
    @plain
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(11)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"late"})

    with capture_logs() as logs:
        async with serving(app) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nx")
            answer = await read_all(stream)
            await trio.sleep(3)
    assert answer.count(b"HTTP/1.1") == 1
    assert slug(answer) == "request-timeout"
    assert [line for line in logs if line["log_level"] == "error"] == []


async def test_a_client_that_does_not_read_is_cut_after_30_s(clock: MockClock) -> None:
    ended: list[float] = []

    @plain
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await endless(scope, receive, send)
        finally:
            ended.append(trio.current_time())

    async with serving(app) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(GET % (b"/", b""))
        await trio.sleep(40)
        assert ended[-1] == pytest.approx(30, abs=0.5)


# An early answer does not stall the next request (pitfall 3).


async def test_an_answer_before_the_body_has_arrived_closes_and_is_still_read(clock: MockClock) -> None:
    head = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n"
    async with serving(Guard(quart_app())) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(head + b"x" * 1000)
        answer = await read_answer(stream)
        await stream.send_all(b"x" * 3_999_000)
        assert answer.startswith(b"HTTP/1.1 404")
        assert b"\r\nconnection: close" in answer.lower()
        assert await read_all(stream) == b""
        assert trio.current_time() < 2.1


async def test_a_client_that_will_not_stop_sending_is_cut_after_2_s(clock: MockClock) -> None:
    async with serving(Guard(quart_app())) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n")
        await read_all(stream)
        with pytest.raises(trio.BrokenResourceError):
            while trio.current_time() < 10:
                await trio.sleep(0.5)
                await stream.send_all(b"x")
        assert trio.current_time() <= 3


async def test_a_broken_body_under_a_running_answer_ends_that_connection_alone(clock: MockClock) -> None:
    with capture_logs() as logs:
        async with serving(endless) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            await trio.sleep(1)
            await stream.send_all(b"no chunk\r\n")
            await trio.sleep(5)
            async with await trio.open_tcp_stream("127.0.0.1", port) as other:
                await other.send_all(GET % (b"/", b""))
                assert (await other.receive_some()).startswith(b"HTTP/1.1 200")
    assert [line for line in logs if line["log_level"] == "error"] == []


async def test_an_answer_survives_a_body_that_nobody_reads(clock: MockClock) -> None:
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    head = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(Guard(quart_app())) as (port, _):
        for _ in range(10):
            answer = await say(port, head + chunk * 60 + b"0\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 404")
            assert not answer.endswith(b"<reset>")


async def test_an_app_that_answers_without_reading_does_not_hold_the_reader(clock: MockClock) -> None:
    @plain
    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(1)  # by then its inbox is full and the reader waits
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    chunks = b"1\r\nx\r\n" * 2000
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(deaf) as (port, _):
        answer = await say(port, head, chunks, b"0\r\n\r\n")
        assert answer.endswith(b"ok")
        assert trio.current_time() < 3.5


async def test_a_short_body_that_came_whole_keeps_the_connection_although_nobody_reads_it(clock: MockClock) -> None:
    @plain
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    post = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
    async with serving(app) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for _ in range(100):
            await stream.send_all(post)
            answer = await read_answer(stream)
            assert answer.startswith(b"HTTP/1.1 404")
            assert b"connection: close" not in answer.lower()


async def test_pipelined_requests_are_answered_in_order(clock: MockClock) -> None:
    echo = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n%d"
    last = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlast"
    async with serving(Guard(quart_app())) as (port, _):
        answer = await say(port, b"".join(echo % n for n in range(10, 40)) + last)
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200")[1:]]
    assert bodies == [*(b"%d" % n for n in range(10, 40)), b"last"]


async def test_a_hang_up_behind_a_pipelined_request_ends_the_stream(clock: MockClock) -> None:
    ended = trio.Event()

    @plain
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await endless(scope, receive, send)
        finally:
            ended.set()

    async with serving(app) as (port, _):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(GET % (b"/", b"") * 2)
            await stream.receive_some(10)
        with trio.fail_after(31):
            await ended.wait()


# Shutdown is a story (pitfalls 2 and 6).


async def test_shutdown_leaves_at_once_when_everybody_is_idle(clock: MockClock) -> None:
    async with serving(Guard(quart_app())) as (port, stop), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(GET % (b"/constant", b""))
        await read_answer(stream)
        began = trio.current_time()
        stop.set()
        assert await read_all(stream) == b""
        assert trio.current_time() == began
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", port)


async def test_shutdown_ends_the_streams_first_and_lets_answers_finish(clock: MockClock) -> None:
    goodbye = trio.Event()

    @plain
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello ", "more_body": True})
        await goodbye.wait()
        await trio.sleep(3)
        await send({"type": "http.response.body", "body": b"goodbye"})

    async def closing() -> None:
        goodbye.set()

    async with serving(app, closing=closing) as (port, stop), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(GET % (b"/", b""))
        await stream.receive_some()
        stop.set()
        rest = await read_all(stream)
        assert b"goodbye" in rest
        assert rest.endswith(b"0\r\n\r\n")
        await stream.aclose()
        assert trio.current_time() == pytest.approx(3, abs=0.1)


async def test_a_stalled_reader_cannot_hold_the_shutdown(clock: MockClock) -> None:
    async with serving(endless, grace_s=4) as (port, stop):
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(3)]
        for stream in streams:
            await stream.send_all(GET % (b"/", b""))
        await trio.sleep(1)
        stop.set()
        began = trio.current_time()
    assert trio.current_time() - began <= 4 + 2
    for stream in streams:
        await stream.aclose()


async def test_a_closing_that_never_returns_costs_the_grace_and_no_more(clock: MockClock) -> None:
    async with serving(Guard(quart_app()), closing=trio.sleep_forever, grace_s=4) as (_, stop):
        stop.set()
    assert trio.current_time() == pytest.approx(4, abs=0.1)


async def test_a_cancelled_server_leaves_no_socket(clock: MockClock) -> None:
    with trio.CancelScope() as scope:
        async with serving(endless) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(GET % (b"/", b""))
            await trio.sleep(1)
            scope.cancel()
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(1, abs=0.1)


# HTTP as RFC 9112 has it, and no other protocol (pitfalls 8 and 9).


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /constant HTTP/1.1\nHost: localhost\n\n",
        b"GET /constant HTTP/1.1\r\nHost: localhost\nX: 1\r\n\r\n",
        b"GET /constant HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
        b"GET /constant HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
        b"GET /constant HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
        b"GET /constant HTTP/1.1\r\nHost: localhost\r\nX: a\x01b\r\n\r\n",
        b"GET /con\0stant HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /constant HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /constant HTTP/1.1\r\n\r\n",
        b"GET /constant HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /constant HTTP/2.0\r\nHost: localhost\r\n\r\n",
        b"GET /constant HTTP/1.2\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HEAD /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n" * 3,
        b"\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:30] + sent[-30:]),
)
async def test_malformed_http_is_answered_400_once_and_closed(sent: bytes, clock: MockClock) -> None:
    async with serving(Guard(quart_app())) as (port, _):
        answer = await say(port, sent)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"\r\nconnection: close" in answer.lower()
        assert answer.count(b"HTTP/1.1") == 1
        assert sent.startswith(b"HEAD") or slug(answer) == "malformed-request"
        assert trio.current_time() < 5


async def test_a_bare_line_feed_is_refused_in_a_pipelined_request_too(clock: MockClock) -> None:
    first = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\na\nb\n"
    async with serving(Guard(quart_app())) as (port, _):
        answer = await say(port, first + b"GET /constant HTTP/1.1\nHost: localhost\n\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"a\nb\nHTTP/1.1 400" in answer


@pytest.mark.parametrize(
    "sent, status",
    [(b"GET /" + b"x" * 6_000, 414), (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 30_000, 431)],
)
async def test_a_header_section_without_an_end_is_cut_by_its_size(sent: bytes, status: int, clock: MockClock) -> None:
    async with serving(Guard(quart_app())) as (port, _):
        answer = await say(port, sent)
        assert answer.startswith(b"HTTP/1.1 %d" % status)
        assert slug(answer) == "too-large"
        assert trio.current_time() < 5


@pytest.mark.parametrize(
    "upgrade",
    [
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1\r\n",
    ],
)
async def test_an_upgrade_is_ignored(upgrade: bytes, clock: MockClock) -> None:
    async with serving(Guard(quart_app())) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(GET % (b"/constant", upgrade))
        assert (await read_answer(stream)).startswith(b"HTTP/1.1 200")


async def test_a_client_that_waits_for_100_continue_gets_it(clock: MockClock) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    async with serving(Guard(quart_app())) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(head)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
        await stream.send_all(b"hello")
        assert (await read_answer(stream)).endswith(b"hello")


async def test_head_answers_like_get_without_a_body(clock: MockClock) -> None:
    async with serving(Guard(quart_app())) as (port, _):
        for path in (b"/health/live", b"/constant", b"/nowhere"):
            answer = await say(port, b"HEAD %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path)
            assert answer.startswith(b"HTTP/1.1 ")
            assert answer.endswith(b"\r\n\r\n")
            assert b"content-length: 0\r\n" not in answer


SEEDS = [
    GET % (b"/constant", b""),
    GET % (b"/health/live", b"X-Request-Id: a\r\n"),
    b'POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\n{"a": [1,2]}',
    b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"DELETE /constant HTTP/1.0\r\nHost: [::1]:80\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PATCH http://localhost/constant HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET ?x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET //localhost/%00%ff%2e%2e/..;/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
]
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b"\xff",
    b"%",
    b"/",
    b"Content-Length: 5\r\n",
    b"Host: localhost\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\n",
    b"9" * 30,
    b"x" * 5000,
    b"HTTP/1.1",
]


def mutated(chance: random.Random) -> bytes:
    sent = bytearray(b"".join(chance.choices(SEEDS, k=chance.randint(1, 3))))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(sent) + 1)
        cut = at + chance.choice([0, 0, 1, 2, 20])
        sent[at:cut] = chance.choice([b"", bytes([chance.randrange(256)]), chance.choice(PIECES)])
    return bytes(sent)


async def test_mutated_requests_get_answers_or_a_close_but_no_5xx_and_no_hang(clock: MockClock) -> None:
    seed = 20_261
    chance = random.Random(seed)
    async with serving(Guard(quart_app())) as (port, _):
        with capture_logs() as logs:
            for number in range(400):
                sent = mutated(chance)
                with trio.fail_after(60):
                    answer = await say(port, sent)
                assert b"HTTP/1.1 5" not in answer, (seed, number, sent, answer)
                assert not answer.endswith(b"<reset>"), (seed, number, sent)
                assert logs == [], (seed, number, sent)


# One failure stays one failure.


async def test_a_bug_in_the_middle_of_an_answer_tears_that_connection_alone(clock: MockClock) -> None:
    @plain
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        if scope["path"] == "/bug":
            async with trio.open_nursery():
                raise ZeroDivisionError
        await send({"type": "http.response.body", "body": b" and ended"})

    async with serving(Guard(app)) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as other:
        with capture_logs() as logs:
            torn = await say(port, GET % (b"/bug", b""))
        assert b"begun" in torn
        assert not torn.endswith(b"0\r\n\r\n")
        assert logs[0]["path"] == "/bug"
        await other.send_all(GET % (b"/", b"Connection: close\r\n"))
        assert b" and ended" in await read_all(other)


async def test_connections_beyond_the_cap_are_told_to_come_back(clock: MockClock) -> None:
    async with serving(Guard(quart_app()), limits=Limits(connections=2, address_connections=2)) as (port, _):
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        for stream in streams:
            await stream.send_all(GET % (b"/constant", b""))
            assert (await read_answer(stream)).startswith(b"HTTP/1.1 200")
        answer = await say(port, GET % (b"/constant", b""))
        assert answer.startswith(b"HTTP/1.1 503")
        assert slug(answer) == "overloaded"
        assert b"\r\nretry-after: 1\r\n" in answer
        await streams[0].aclose()
        await trio.sleep(0.1)
        again = await say(port, GET % (b"/constant", b"Connection: close\r\n"))
        assert again.startswith(b"HTTP/1.1 200")
        await streams[1].aclose()


async def test_an_abrupt_reset_leaves_nobody_behind(clock: MockClock) -> None:
    handled: list[str] = []

    @plain
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await trio.sleep_forever()
        finally:
            handled.append(scope["path"])

    async with serving(app) as (port, _):
        for _ in range(20):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(GET % (b"/", b""))
            await trio.sleep(0.1)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            await stream.aclose()
        await trio.sleep(0.1)
        assert len(handled) == 20


# Where it listens.


async def test_a_unix_socket_is_its_owners_alone_and_is_removed_at_the_end(tmp_path: Path, clock: MockClock) -> None:
    path = tmp_path / "house.sock"
    stop = trio.Event()
    urls: list[str] = []
    sock = bind_unix(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(OSError, match="in use"):
        bind_unix(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve, Guard(quart_app()), [sock], shutdown=stop.wait, on_bound=urls.extend))
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(GET % (b"/constant", b"Connection: close\r\n"))
            assert (await read_all(stream)).startswith(b"HTTP/1.1 200")
        stop.set()
    assert urls == [f"unix:{path}"]
    assert not path.exists()


async def test_a_unix_path_is_free_again_while_the_last_answer_is_finished(tmp_path: Path, clock: MockClock) -> None:
    @plain
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(5)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    path, stop = tmp_path / "house.sock", trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve, slow, [bind_unix(path)], shutdown=stop.wait))
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(GET % (b"/", b""))
            await trio.sleep(1)
            stop.set()
            await trio.sleep(1)
            successor = bind_unix(path)
            assert (await read_all(stream)).startswith(b"HTTP/1.1 200")
    with successor:
        assert path.exists()


def trusting(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificate.cert))
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def secure(port: int, context: ssl.SSLContext) -> trio.SSLStream[trio.SocketStream]:
    """A connection whose handshake has been done."""
    plain = await trio.open_tcp_stream("127.0.0.1", port)
    stream = trio.SSLStream(plain, context, server_hostname="localhost", https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException:
        plain.socket.close()
        raise
    return stream


async def test_tls_serves_http_1_1_and_cuts_a_handshake_that_stalls(
    certificate: Callable[..., Certificate], clock: MockClock
) -> None:
    made = certificate()
    async with serving(Guard(quart_app()), tls=Tls(made.cert, made.key)) as (port, _):
        stream = await secure(port, trusting(made))
        await stream.send_all(GET % (b"/constant", b"Connection: close\r\n"))
        assert (await read_all(stream)).startswith(b"HTTP/1.1 200")
        assert stream.selected_alpn_protocol() == "http/1.1"
        await stream.transport_stream.aclose()
        assert await say(port) == b""
        assert trio.current_time() < 8


async def test_plain_http_on_the_tls_port_is_cut_at_once(
    certificate: Callable[..., Certificate], clock: MockClock
) -> None:
    made = certificate()
    with capture_logs() as logs:
        async with serving(Guard(quart_app()), tls=Tls(made.cert, made.key)) as (port, _):
            answer = await say(port, GET % (b"/constant", b""))
    assert b"HTTP" not in answer
    assert trio.current_time() < 1
    assert logs == []


async def test_tls_1_1_is_refused(certificate: Callable[..., Certificate], clock: MockClock) -> None:
    made = certificate()
    old = trusting(made)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    async with serving(Guard(quart_app()), tls=Tls(made.cert, made.key)) as (port, _):
        with pytest.raises(trio.BrokenResourceError):
            await secure(port, old)


async def test_a_reloaded_certificate_is_offered_to_the_next_client_and_open_connections_go_on(
    certificate: Callable[..., Certificate], clock: MockClock
) -> None:
    first, second = certificate(), certificate()
    tls = Tls(first.cert, first.key)
    async with serving(Guard(quart_app()), tls=tls) as (port, _):
        stream = await secure(port, trusting(first))
        tls.take(Tls(second.cert, second.key))
        await stream.send_all(GET % (b"/constant", b"Connection: close\r\n"))
        assert (await read_all(stream)).startswith(b"HTTP/1.1 200")
        await stream.transport_stream.aclose()
        other = await secure(port, trusting(second))
        await other.transport_stream.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await secure(port, trusting(first))


# Who is connected.


async def whoami(scope: Scope, receive: Receive, send: Send) -> None:
    body = json.dumps([scope["scheme"], *scope["client"]]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving_unix(path: Path, **settings: Any) -> AsyncIterator[None]:
    stop = trio.Event()
    run = partial(serve, plain(whoami), [bind_unix(path)], shutdown=stop.wait, **settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield
        stop.set()


async def ask_unix(path: Path) -> bytes:
    async with await trio.open_unix_socket(str(path)) as stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(GET % (b"/", b"Connection: close\r\n"))
        return await read_all(stream)


async def test_the_peer_of_a_unix_socket_is_told_to_the_app(tmp_path: Path, clock: MockClock) -> None:
    async with serving_unix(tmp_path / "s"):
        answer = await ask_unix(tmp_path / "s")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == ["http", f"unix:{os.geteuid()}", os.getpid()]


async def test_another_user_on_a_unix_socket_is_closed_without_an_answer(tmp_path: Path, clock: MockClock) -> None:
    with capture_logs() as logs:
        async with serving_unix(tmp_path / "s", unix_uids={os.geteuid() + 1}):
            answer = await ask_unix(tmp_path / "s")
    assert b"HTTP" not in answer
    assert [line["address"] for line in logs if "address" in line] == [f"unix:{os.geteuid()}"]


async def test_one_address_cannot_take_every_connection(clock: MockClock) -> None:
    limits = Limits(connections=9, address_connections=2)
    async with serving(Guard(plain(whoami)), limits=limits) as (port, _), trio.open_nursery() as nursery:
        ask = GET % (b"/", b"")
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        for stream in streams:
            await stream.send_all(ask)
            assert (await read_answer(stream)).startswith(b"HTTP/1.1 200")
        assert slug(await say(port, ask)) == "overloaded"
        async with await trio.open_tcp_stream("127.0.0.1", port, local_address="127.0.0.2") as other:
            await other.send_all(ask)
            assert (await read_answer(other)).startswith(b"HTTP/1.1 200")
        await streams[0].aclose()
        await trio.sleep(0.1)
        assert (await say(port, GET % (b"/", b"Connection: close\r\n"))).startswith(b"HTTP/1.1 200")
        await streams[1].aclose()
        nursery.cancel_scope.cancel()


async def test_a_proxy_may_hold_as_many_connections_as_there_are(clock: MockClock) -> None:
    limits = Limits(connections=9, address_connections=2)
    async with serving(Guard(plain(whoami)), limits=limits, proxies=Proxies.here()) as (port, _):
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(9)]
        for stream in streams:
            await stream.send_all(GET % (b"/", b""))
            assert (await read_answer(stream)).startswith(b"HTTP/1.1 200")
        assert slug(await say(port, GET % (b"/", b""))) == "overloaded"
        for stream in streams:
            await stream.aclose()


def test_half_of_the_connections_are_for_one_address_unless_it_is_said() -> None:
    assert Limits(connections=9).address_cap() == 4
    assert Limits(connections=1).address_cap() == 1
    assert Limits(connections=9, address_connections=7).address_cap() == 7


async def test_the_lifespan_of_the_app_surrounds_the_serving(clock: MockClock) -> None:
    told: list[str] = []
    app = quart_app()

    @app.before_serving
    async def begin() -> None:
        told.append("begin")

    @app.after_serving
    async def end() -> None:
        told.append("end")

    async with serving(Guard(app)):
        assert told == ["begin"]
    assert told == ["begin", "end"]
