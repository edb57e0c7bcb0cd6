"""One client's connection, from the accepted socket to the closed one: our own socket side of hypercorn's protocol.

Under quart-trio 0.12, hypercorn 0.18's `TCPServer` waits for ever in five places: a stalled reader, a slow header, a
slow body, a final `send` that is cancelled before the close, a full queue in front of an app that has answered already.
Each is removed here by construction instead of by a patch:

- one task reads, and every wait of it has a deadline that depends on the phase the request is in;
- every send has a deadline, and `abort` closes the raw socket, which ends even a shielded wait;
- nothing after the last byte of an answer waits, so a cancelled app cannot keep the connection from ending;
- the app's inbox never blocks on the disconnect message, and never blocks anybody once the answer is complete.

The connection ends by cancelling its own nursery: a client that hangs up cancels its handler at the next checkpoint,
which is why handlers only hand work over and never do it.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Any, Final, TypeAlias

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import parse_socket_addr

from web.asgi import App, Message, Scope
from web.http1 import Http1
from web.limits import Limits

log = structlog.get_logger("enginehouse.web")

Transport: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]

_RECEIVE_BYTES: Final = 64 * 1024


class Phase(enum.Enum):
    """What the client is expected to send now; it decides how long we wait for it."""

    IDLE = "idle"  # nothing: between two requests
    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"  # nothing, while the app answers


class Inbox:
    """What the app receives. A full inbox holds back the reader, until the answer is complete: then nobody waits."""

    def __init__(self, size: int) -> None:
        self._sender, self._receiver = trio.open_memory_channel[Message](size)

    async def put(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self._sender.close()  # also wakes a reader that waits in `put`
            return
        try:
            # No checkpoint when there is room: the end of a short body is seen before the app can answer its start.
            self._sender.send_nowait(message)
        except trio.WouldBlock:
            with suppress(trio.ClosedResourceError):
                await self._sender.send(message)
        except trio.ClosedResourceError:
            return

    async def get(self) -> Message:
        try:
            return await self._receiver.receive()
        except trio.EndOfChannel:
            return {"type": "http.disconnect"}


class Connection:
    """Serves one client, whom the app sees as `client`.

    `run()` returns when the socket is closed, and raises nothing that a client or an app did. `abort()` ends it at once
    from anywhere, `leave()` when it is idle or as soon as its answer is complete.
    """

    def __init__(
        self,
        stream: Transport,
        client: tuple[str, int],
        app: App,
        config: Config,
        context: WorkerContext,
        limits: Limits,
        state: dict[str, Any],
    ) -> None:
        self._stream = stream
        self._socket = _socket_of(stream)
        self._app = app
        self._config = config
        self._limits = limits
        self._nursery: trio.Nursery | None = None
        self._send_lock = trio.Lock()
        self._reading = trio.CancelScope()
        self._waiting = trio.CancelScope()
        self._phase = Phase.HEAD
        self._deadline = inf
        self._requests_seen = 0
        self._last_words = False
        own = self._socket.getsockname()
        self._protocol = Http1(
            limits,
            app,
            config,
            context,
            self,  # as hypercorn's TaskGroup: it calls `spawn_app`
            state,
            not isinstance(stream, trio.SocketStream),
            client,
            parse_socket_addr(self._socket.family, own),
            self._on_protocol,
        )

    async def run(self) -> None:
        """Serve until either side has had enough. Cancelling it leaves a closed socket and no task."""
        try:
            if not await self._shake_hands():
                return
            async with trio.open_nursery(strict_exception_groups=True) as self._nursery:
                with self._reading:
                    await self._read()
                if self._last_words:
                    await self._linger()
                self._nursery.cancel_scope.cancel()
        except Exception:  # whatever it was, it was this connection's alone
            log.exception("connection failed")
        finally:
            self._socket.close()

    async def _shake_hands(self) -> bool:
        if isinstance(self._stream, trio.SocketStream):
            return True
        with trio.move_on_after(self._limits.header_s), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.do_handshake()
            return True
        return False

    def abort(self) -> None:
        """Close the socket and cancel the app, now."""
        self._socket.close()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def leave(self) -> None:
        """End if idle. With a request in hand it ends after the answer (hypercorn's `context.terminated`)."""
        if self._phase_now() is Phase.IDLE:
            self._waiting.cancel()

    async def spawn_app(
        self, app: App, config: Config, scope: Scope, send: Callable[[Message | None], Awaitable[None]]
    ) -> Callable[[Message], Awaitable[None]]:
        """Start the app on one request (hypercorn's name and shape); returns where the request's messages are put."""
        inbox = Inbox(config.max_app_queue_size)
        assert self._nursery is not None
        self._nursery.start_soon(self._run_app, scope, inbox, send)
        return inbox.put

    async def _run_app(self, scope: Scope, inbox: Inbox, send: Callable[[Message | None], Awaitable[None]]) -> None:
        try:
            await self._app(scope, inbox.get, send)
        except BaseExceptionGroup as group:
            cancelled, bugs = group.split(trio.Cancelled)
            if bugs is not None:
                self._torn(scope, bugs)
            if cancelled is not None:
                raise cancelled from None
        except Exception as bug:  # noqa: BLE001  # a bug ends its own connection, never the server, and is logged
            self._torn(scope, bug)
        else:
            await send(None)  # hypercorn: no more messages

    def _torn(self, scope: Scope, bug: BaseException) -> None:
        log.error("app failed in the middle of an answer", path=scope["path"], exc_info=bug)
        self.abort()

    async def _read(self) -> None:
        self._deadline = trio.current_time() + self._limits.header_s
        while True:
            data = await self._receive()
            if data is None:
                await self._client_was_slow()
                return
            before = trio.current_time()
            await self._protocol.handle(RawData(data))
            if not data:
                return
            self._enter_phase(len(data), trio.current_time() - before)

    async def _receive(self) -> bytes | None:
        with trio.CancelScope(deadline=self._deadline) as self._waiting:
            try:
                return bytes(await self._stream.receive_some(_RECEIVE_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return b""  # how a connection ended makes no difference to what follows
        return None

    async def _client_was_slow(self) -> None:
        if self._protocol.connection.in_head or self._phase is Phase.BODY:
            await self._protocol.refuse(408)
            self._last_words = True

    def _enter_phase(self, received_bytes: int, handling_s: float) -> None:
        """After `received_bytes` arrived and were handled: which phase is it, and how long may it take?"""
        phase, now, limits = self._phase_now(), trio.current_time(), self._limits
        new = phase is not self._phase or self._requests_seen != self._protocol.keep_alive_requests
        self._phase, self._requests_seen = phase, self._protocol.keep_alive_requests
        if phase is Phase.ANSWER:
            self._deadline = inf
        elif phase is Phase.IDLE:
            self._deadline = now + limits.keep_alive_s
        elif phase is Phase.HEAD and new:
            self._deadline = now + limits.header_s
        elif phase is Phase.BODY and new:
            self._deadline = now + limits.body_s
        elif phase is Phase.BODY:
            # An app that is slow to take the body is not the client's fault.
            self._deadline += received_bytes / limits.body_rate_bytes + handling_s

    def _phase_now(self) -> Phase:
        connection = self._protocol.connection
        if connection.their_state is h11.SEND_BODY:
            return Phase.BODY
        if connection.their_state is not h11.IDLE:
            return Phase.ANSWER
        return Phase.HEAD if connection.in_head else Phase.IDLE

    async def _on_protocol(self, event: Event) -> None:
        """What hypercorn's protocol wants of the socket. Only RawData waits."""
        if isinstance(event, RawData):
            if event.data:  # the end of a message whose length was said has no bytes
                await self._send(event.data)
        elif isinstance(event, Closed):
            self._last_words = True
            self._reading.cancel()
        elif isinstance(event, Updated) and event.idle:  # an answer is complete and the connection is kept
            self._phase = Phase.IDLE
            self._deadline = self._waiting.deadline = trio.current_time() + self._limits.keep_alive_s

    async def _send(self, data: bytes) -> None:
        """Send all of it. Shielded, so that a cancelled app leaves no half frame, but never without a deadline."""
        async with self._send_lock:
            for start in range(0, len(data), self._limits.send_bytes):
                piece = memoryview(data)[start : start + self._limits.send_bytes]
                with trio.CancelScope(deadline=trio.current_time() + self._limits.send_s, shield=True) as scope:
                    try:
                        await self._stream.send_all(piece)
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        self.abort()
                        return
                if scope.cancelled_caught:
                    self.abort()
                    return

    async def _linger(self) -> None:
        """Half-close, then read and discard: closing over unread data sends RST, and the last answer is never read."""
        with trio.move_on_after(self._limits.linger_s), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            transport = self._stream if isinstance(self._stream, trio.SocketStream) else self._stream.transport_stream
            async with self._send_lock:  # the app may still be sending, and trio forbids to close under its feet
                await transport.send_eof()
            left_bytes = self._limits.linger_bytes
            while left_bytes > 0 and (data := await transport.receive_some(_RECEIVE_BYTES)):
                left_bytes -= len(data)


def _socket_of(stream: Transport) -> trio.socket.SocketType:
    return stream.socket if isinstance(stream, trio.SocketStream) else stream.transport_stream.socket
