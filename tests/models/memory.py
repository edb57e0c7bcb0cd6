"""The endpoint without a network: connections are streams in memory, so that tests can run on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import httpcore2
import httpx2
import trio
import trio.testing

__all__ = ["transport"]


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            try:
                return bytes(await self._stream.receive_some(max_bytes))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise httpcore2.ReadError(str(error)) from error
        raise httpcore2.ReadTimeout

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            await self._stream.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore2.WriteError(str(error)) from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return None


class _Network(httpcore2.AsyncNetworkBackend):
    def __init__(self, dial: Callable[[], trio.abc.Stream]) -> None:
        self._dial = dial

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        await trio.lowlevel.checkpoint()
        return _Stream(self._dial())


def transport(nursery: trio.Nursery, serve: Callable[[trio.abc.Stream], Any]) -> httpx2.AsyncBaseTransport:
    """What a client of httpx2 takes as `transport`: whatever address it asks, `serve` has the other end."""

    def dial() -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(serve, theirs)
        return ours

    made = httpx2.AsyncHTTPTransport(verify=False, trust_env=False)
    made._pool = httpcore2.AsyncConnectionPool(network_backend=_Network(dial))  # noqa: SLF001 - it offers no other way
    return made
