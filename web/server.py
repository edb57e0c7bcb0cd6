"""Serving: listening sockets in, a story of a shutdown out.

This is hypercorn's `worker_serve` (0.18) told anew around our own `Connection`, because three things cannot be had by
configuration: a cap on connections, streams that are told before the grace runs, and a grace that ends with the raw
sockets closed (hypercorn shields its sends without a deadline: one stalled reader held a shutdown for ever).

    await serve(Guard(app), bind_tcp("127.0.0.1", 39731), shutdown=stop.wait, closing=streams.close)
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.logging import Logger
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext

from protocol.errors import Overloaded
from web.asgi import App
from web.connection import Connection, Transport
from web.http1 import guardless
from web.limits import Limits
from web.peer import Proxies, credentials_of, group_of
from web.sockets import url_of
from web.tls import Tls

log = structlog.get_logger("enginehouse.web")

_INBOX_MESSAGES: Final = 10  # of at most 64 KiB each: what an app may leave unread before its client is held back


async def serve(
    app: App,
    sockets: Sequence[socket.socket],
    *,
    shutdown: Callable[[], Awaitable[float | None]],
    closing: Callable[[], Awaitable[None]] | None = None,
    grace_s: float = 10.0,
    limits: Limits | Callable[[], Limits] | None = None,
    tls: Tls | None = None,
    proxies: Proxies = Proxies(),  # noqa: B008 - frozen
    unix_uids: Collection[int] | None = None,
    on_bound: Callable[[list[str]], None] | None = None,
) -> None:
    """Serve `app` on listening `sockets` until `shutdown()` returns, then leave within `grace_s`.

    Args:
        app: an ASGI app; outermost should be a `web.guard.Guard`. Its lifespan is run around everything.
        sockets: from `bind_tcp` and `bind_unix`; closed when this returns or raises.
        shutdown: returns when it is time to go, with the grace for it or None. Stop the server through it; a
            cancellation skips the grace.
        closing: awaited first at shutdown, within the grace: end the streams there, since nothing else ends them.
        grace_s: for requests in hand. What is left then loses its socket and is cancelled.
        limits: the numbers for connections; as a function, asked anew for each connection.
        tls: wraps the TCP sockets (unix sockets stay plain); each handshake takes the context that is there then.
        proxies: whose connections are many people's, so that the cap per address is not for them.
        unix_uids: the users who are served over a unix socket; None: ours and root, who may do everything anyway.
        on_bound: called once with the addresses, when connections are being accepted.

    """
    now = limits if callable(limits) else partial(_same, limits or Limits())
    server = _Server(app, now, tls, proxies, {os.geteuid(), 0} if unix_uids is None else unix_uids)
    paths = [Path(sock.getsockname()) for sock in sockets if sock.family == socket.AF_UNIX]
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]
    try:
        async with _lifespan(app, server.config, server.state), trio.open_nursery() as connections:
            try:
                async with trio.open_nursery() as accepting:
                    serve_all = partial(trio.serve_listeners, server.welcome, listeners, handler_nursery=connections)
                    await accepting.start(serve_all)
                    if on_bound is not None:
                        on_bound([url_of(sock, tls=tls is not None) for sock in sockets])
                    grace = await shutdown()
                    accepting.cancel_scope.cancel()
                _close(sockets, paths)  # nobody new; who tries is refused at once instead of waiting in the backlog
                with trio.move_on_after(grace_s if grace is None else grace):
                    if closing is not None:
                        await closing()  # streams say goodbye
                    await server.drain()  # idle connections leave, the others finish their answer
            finally:
                server.abort()  # and who is still there was told
    finally:
        _close(sockets, paths)


class _Server:
    """Whoever is connected, and the caps on how many."""

    def __init__(
        self, app: App, limits: Callable[[], Limits], tls: Tls | None, proxies: Proxies, unix_uids: Collection[int]
    ) -> None:
        self.config = _config(limits())
        self.state: dict[str, Any] = {}
        self._app = app
        self._limits = limits
        self._context = WorkerContext(None)
        self._open: set[Connection] = set()
        self._by_address: Counter[str] = Counter()
        self._turning_away = 0
        self._nobody_left = trio.Event()
        self._tls = tls
        self._proxies = proxies
        self._unix_uids = unix_uids

    async def welcome(self, accepted: trio.SocketStream) -> None:
        try:
            client = _client_of(accepted.socket)
        except OSError:
            return  # it had gone before it was welcomed
        if accepted.socket.family == socket.AF_UNIX and client.uid not in self._unix_uids:
            log.warning("another user tried our unix socket", address=client.address, pid=client.port)
            accepted.socket.close()
            return
        limits = self._limits()
        address = group_of(client.address)
        if len(self._open) >= limits.connection_cap() or self._has_enough(client.address, address):
            await self._turn_away(accepted)
            return
        stream: Transport = accepted
        if self._tls is not None and accepted.socket.family != socket.AF_UNIX:
            stream = trio.SSLStream(accepted, self._tls.context, server_side=True, https_compatible=True)
        try:
            connection = Connection(stream, client.pair, self._app, self.config, self._context, limits, self.state)
        except OSError:
            return  # as above
        self._open.add(connection)
        self._by_address[address] += 1
        try:
            await connection.run()
        finally:
            self._open.discard(connection)
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
            if not self._open:
                self._nobody_left.set()

    def _has_enough(self, peer: str, address: str) -> bool:
        return self._by_address[address] >= self._limits().address_cap() and not self._proxies.trusts(peer)

    async def _turn_away(self, stream: trio.SocketStream) -> None:
        """503 and close. TLS is refused without a word: its handshake is what we cannot afford."""
        limits = self._limits()
        if self._tls is not None or self._turning_away >= limits.turned_away:
            return
        self._turning_away += 1
        try:
            with trio.move_on_after(limits.linger_s), suppress(trio.BrokenResourceError, OSError):
                await stream.send_all(_overloaded())
                await stream.send_eof()
                while await stream.receive_some():
                    pass
        finally:
            self._turning_away -= 1

    async def drain(self) -> None:
        """Return when nobody is connected any more."""
        await self._context.terminated.set()
        self._nobody_left = trio.Event()
        for connection in tuple(self._open):
            connection.leave()
        if self._open:
            await self._nobody_left.wait()

    def abort(self) -> None:
        for connection in tuple(self._open):
            connection.abort()


@dataclass(frozen=True, slots=True)
class _Client:
    """Who is connected. `uid`: of a unix socket's peer; `port` is its pid then."""

    address: str
    port: int
    uid: int | None = None

    @property
    def pair(self) -> tuple[str, int]:
        """As ASGI names a client."""
        return self.address, self.port


def _client_of(sock: trio.socket.SocketType) -> _Client:
    """Raises OSError when it has gone."""
    if sock.family == socket.AF_UNIX:
        peer = credentials_of(sock)
        return _Client(f"unix:{peer.uid}", peer.pid, peer.uid)
    address, port, *_ = sock.getpeername()
    return _Client(address, port)


class _Log(Logger):
    """hypercorn's few messages, in our log."""

    def __init__(self, config: Config) -> None:
        config.errorlog = config.accesslog = None
        super().__init__(config)

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        log.warning(message)

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        log.exception(message)  # noqa: LOG004  # hypercorn calls this from its own `except`


def _config(limits: Limits) -> Config:
    """The settings of hypercorn. Its own read, keep-alive and graceful timeouts stay unused: `Connection` has ours."""
    config = Config()
    config.logger_class = _Log
    config.include_server_header = False
    config.keep_alive_max_requests = limits.keep_alive_requests
    config.max_app_queue_size = _INBOX_MESSAGES
    return config


@asynccontextmanager
async def _lifespan(app: App, config: Config, state: dict[str, Any]) -> AsyncIterator[None]:
    lifespan = Lifespan(ASGIWrapper(app), config, state)
    async with trio.open_nursery() as nursery:
        await nursery.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        yield
        await lifespan.wait_for_shutdown()
        nursery.cancel_scope.cancel()


def _same(limits: Limits) -> Limits:
    return limits


def _overloaded() -> bytes:
    answer = guardless(Overloaded("Close idle connections, or try again later.", retry_after_s=1))
    lines = [b"HTTP/1.1 %d Service Unavailable" % answer.status]
    lines += [name + b": " + value for name, value in (*answer.headers, (b"connection", b"close"))]
    return b"\r\n".join([*lines, b"", answer.body])


def _close(sockets: Sequence[socket.socket], paths: list[Path]) -> None:
    """Close the listening sockets; once, since a second server may have bound the same path by then."""
    while paths:
        paths.pop().unlink(missing_ok=True)
    for sock in sockets:
        sock.close()
