"""One attempt, against real sockets on loopback: what is sent, where to, and what a receiver may do to us."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.web.webhooks.certificates import certificate
from web.webhooks import Targets, open_sender
from web.webhooks.sender import Attempt

Serve = Callable[[trio.SocketStream, bytes], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def receiver(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server on 127.0.0.1 that reads one request and hands it to `serve`."""

    async def handle(stream: Any) -> None:
        try:
            if context is not None:
                stream = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
            request = b""
            while b"\r\n\r\n" not in request or not request.endswith(b"}"):
                more = await stream.receive_some()
                if not more:
                    return
                request += more
            await serve(stream, request)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            with trio.move_on_after(1):
                await stream.aclose()

    async with trio.open_nursery() as nursery:
        serving = partial(trio.serve_tcp, handle, 0, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(serving)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def answering(*answers: bytes, seen: list[bytes] | None = None) -> Serve:
    async def serve(stream: trio.SocketStream, request: bytes) -> None:
        if seen is not None:
            seen.append(request)
        for answer in answers:
            await stream.send_all(answer)

    return serve


async def names(host: str, port: int) -> list[str]:
    await trio.lowlevel.checkpoint()
    return {"hooks.test": ["127.0.0.1"], "two.test": ["127.0.0.2", "127.0.0.1"]}[host]


async def send(url: str, port: int, *, timeout_s: float = 20.0, verify: Any = False) -> Attempt:
    targets = Targets([f"127.0.0.1:{port}", f"127.0.0.2:{port}"], resolve=names)
    async with open_sender(targets, timeout_s=timeout_s, wall=lambda: 784111770.0, verify=verify) as sender:
        with trio.fail_after(60):
            return await sender.send(url, {"webhook-id": "msg_1"}, b'{"a":1}')


async def test_the_very_bytes_are_posted_to_the_checked_address_under_the_name() -> None:
    seen: list[bytes] = []
    async with receiver(answering(OK, seen=seen)) as port:
        assert await send(f"http://hooks.test:{port}/in?x=1", port) == Attempt(status=200)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /in?x=1 http/1.1"
    assert b"host: hooks.test:%d" % port in lines
    assert b"webhook-id: msg_1" in lines
    assert body == b'{"a":1}'
    assert len([line for line in lines if line.startswith(b"host:")]) == 1


async def test_the_environment_names_no_proxy_and_no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with receiver(answering(OK)) as port:
        assert (await send(f"http://hooks.test:{port}/", port)).ok


async def test_the_next_address_is_tried_when_nobody_listens_at_the_first() -> None:
    async with receiver(answering(OK)) as port:
        assert (await send(f"http://two.test:{port}/", port)).ok


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    seen: list[bytes] = []
    answer = b"HTTP/1.1 %d x\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n" % status
    async with receiver(answering(answer, seen=seen)) as port:
        attempt = await send(f"http://hooks.test:{port}/", port)
    assert (attempt.ok, attempt.status, len(seen)) == (False, status, 1)
    assert "redirects are not followed" in (attempt.error or "")


@pytest.mark.parametrize(
    "text, seconds",
    [(b"120", 120.0), (b"Sun, 06 Nov 1994 08:49:37 GMT", 7.0), (b"Sun, 06 Nov 1993 08:49:37 GMT", 0.0), (b"soon", None),
     (b"-5", None), (b"9999999999999", None)],
)  # fmt: skip
async def test_retry_after_is_read(text: bytes, seconds: float | None) -> None:
    answer = b"HTTP/1.1 503 x\r\nretry-after: %s\r\ncontent-length: 0\r\n\r\n" % text
    async with receiver(answering(answer)) as port:
        attempt = await send(f"http://hooks.test:{port}/", port)
    assert (attempt.ok, attempt.retry_after_s) == (False, seconds)


async def test_an_answer_without_end_is_cut_off_and_its_status_counts() -> None:
    sent = 0

    async def flood(stream: trio.SocketStream, request: bytes) -> None:
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while sent < 1 << 26:
            await stream.send_all(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536

    async with receiver(flood) as port:
        assert (await send(f"http://hooks.test:{port}/", port)).ok
    assert sent < 1 << 25


async def silent(stream: trio.SocketStream, request: bytes) -> None:
    await trio.sleep_forever()


async def dripping(stream: trio.SocketStream, request: bytes) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n")
    while True:
        await stream.send_all(b"x-a: b\r\n")
        await trio.sleep(0.05)


@pytest.mark.parametrize("serve", [silent, dripping])
async def test_a_receiver_that_never_ends_its_answer_is_left(serve: Serve) -> None:
    async with receiver(serve) as port:
        attempt = await send(f"http://hooks.test:{port}/", port, timeout_s=0.4)
    assert (attempt.ok, attempt.status) == (False, None)
    assert attempt.error is not None


@pytest.mark.parametrize(
    "answer", [b"", b"not HTTP at all\r\n\r\n", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\na" + b"b" * 200_000]
)
async def test_what_is_no_http_is_a_failure(answer: bytes) -> None:
    async with receiver(answering(answer)) as port:
        attempt = await send(f"http://hooks.test:{port}/", port)
    assert (attempt.ok, attempt.status) == (False, None)


async def test_nobody_there_is_a_failure() -> None:
    async with receiver(answering(OK)) as port:
        pass
    attempt = await send(f"http://hooks.test:{port}/", port)
    assert "could not be asked" in (attempt.error or "")


async def test_a_target_that_became_forbidden_is_not_connected_to() -> None:
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])

    async def changing(host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        return next(answers)

    seen: list[bytes] = []
    async with receiver(answering(OK, seen=seen)) as port:
        targets = Targets(resolve=changing)
        url = f"http://rebinding.test:{port}/"
        await targets.check(url)  # as when the webhook was made
        async with open_sender(targets, timeout_s=5, wall=lambda: 0.0, verify=False) as sender:
            attempt = await sender.send(url, {}, b"{}")
    assert (attempt.ok, seen) == (False, [])
    assert "not public" in (attempt.error or "")


async def test_one_look_up_decides_where_an_attempt_goes() -> None:
    looks = 0

    async def counting(host: str, port: int) -> list[str]:
        nonlocal looks
        looks += 1
        await trio.lowlevel.checkpoint()
        return ["127.0.0.1"]

    async with receiver(answering(OK)) as port:
        targets = Targets([f"127.0.0.1:{port}"], resolve=counting)
        async with open_sender(targets, timeout_s=5, wall=lambda: 0.0, verify=False) as sender:
            # The system knows no such name: had anybody else looked it up, nothing would have been reached.
            assert (await sender.send(f"http://only-we-know.invalid:{port}/", {}, b"{}")).ok
    assert looks == 1


@pytest.mark.parametrize("name, good", [("hooks.test", True), ("other.test", False)])
async def test_the_certificate_is_checked_against_the_name(name: str, good: bool, tmp_path: Path) -> None:
    server, client = certificate(tmp_path, name)
    async with receiver(answering(OK), server) as port:
        attempt = await send(f"https://hooks.test:{port}/", port, verify=client)
    assert attempt.ok == good


async def test_the_environment_adds_no_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, _ = certificate(tmp_path, "hooks.test")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    async with receiver(answering(OK), server) as port:
        assert not (await send(f"https://hooks.test:{port}/", port, verify=True)).ok
