"""One POST to a receiver: to an address that was checked just now, in bounded time, and whatever it answers is a value.

Each attempt has a connection of its own, to one of the addresses that `Targets` gave out for this very attempt; Host,
SNI and the certificate stay the name's. Redirects are not followed, proxies and settings of the environment are not
looked at, and of the answer only the status and `Retry-After` are kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import trio

from protocol.times import retry_after_s
from web.webhooks.targets import Target, TargetRefused, Targets

if TYPE_CHECKING:
    from ssl import SSLContext

    import httpx2

__all__ = ["Attempt", "HttpSender", "Sender", "open_sender"]

CONNECT_S: Final = 5.0
ANSWER_BYTES: Final = 64 * 1024
"""So much of an answer is read, so that a receiver can end in order; the rest is cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """`status`: None when nobody answered, and then `error` says why; `retry_after_s`: as the receiver asked for."""

    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Sender(Protocol):
    """Sends one message once."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Attempt:
        """Never raises for what the receiver or the network does. Cancelled: it may have been received."""


class HttpSender:
    """See the module; made by `open_sender`. Its client is made for the first message: that and what it imports take
    0.05 s, which the start of a house without webhooks does not pay for.
    """

    def __init__(
        self, targets: Targets, *, timeout_s: float, wall: Callable[[], float], verify: SSLContext | bool
    ) -> None:
        self._targets, self._verify = targets, verify
        self._timeout_s, self._wall = timeout_s, wall
        self._made: httpx2.AsyncClient | None = None

    @property
    def _client(self) -> httpx2.AsyncClient:
        import httpx2

        if self._made is None:
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
            transport = httpx2.AsyncHTTPTransport(verify=self._verify, trust_env=False, limits=limits)
            timeout = httpx2.Timeout(self._timeout_s, connect=CONNECT_S)
            self._made = httpx2.AsyncClient(
                transport=transport, trust_env=False, follow_redirects=False, timeout=timeout
            )
        return self._made

    async def aclose(self) -> None:
        if self._made is not None:
            await self._made.aclose()

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Attempt:
        import httpx2

        attempt = Attempt(error=f"No answer within {self._timeout_s:g} s.")
        with trio.move_on_after(self._timeout_s):
            try:
                target = self._targets.parse(url)
                addresses = await self._targets.addresses(target)
            except TargetRefused as refused:
                return Attempt(error=str(refused))
            for address in addresses:
                try:
                    async with self._client.stream(
                        "POST", target.url.copy_with(host=address), content=body, headers=_headers(target, headers),
                        extensions={"sni_hostname": target.host} if target.url.scheme == "https" else {},
                    ) as response:  # fmt: skip
                        attempt = self._attempt(response)
                        await _drain(response)
                        break
                except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                    attempt = Attempt(error=_told(error))  # nothing was sent: the next address may be better
                except httpx2.TransportError as error:
                    if attempt.status is None:
                        attempt = Attempt(error=_told(error))
                    break
        return attempt

    def _attempt(self, response: httpx2.Response) -> Attempt:
        status = response.status_code
        if 200 <= status < 300:
            return Attempt(status=status)
        what = "redirects are not followed" if 300 <= status < 400 else "it must be 2xx"
        return Attempt(
            status=status,
            error=f"The receiver answered {status}; {what}.",
            retry_after_s=retry_after_s(response.headers.get("retry-after", ""), self._wall()),
        )


@asynccontextmanager
async def open_sender(
    targets: Targets, *, timeout_s: float, wall: Callable[[], float], verify: SSLContext | bool = True
) -> AsyncIterator[HttpSender]:
    """`timeout_s`: for the whole of an attempt; `verify`: the certificates that are trusted."""
    async with aclosing(HttpSender(targets, timeout_s=timeout_s, wall=wall, verify=verify)) as sender:
        yield sender


def _headers(target: Target, headers: Mapping[str, str]) -> dict[str, str]:
    name = target.url.netloc.decode("ascii")
    return {"host": name, "user-agent": "enginehouse", "accept-encoding": "identity", "connection": "close", **headers}


async def _drain(response: httpx2.Response) -> None:
    """Read what is left, within the bound. A read that is cancelled ends its chain of generators (httpx2 2.16)."""
    import httpx2

    read = 0
    with suppress(httpx2.TransportError), trio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            read += len(chunk)
            if read > ANSWER_BYTES:
                scope.cancel()


def _told(error: httpx2.TransportError) -> str:
    return f"The receiver could not be asked ({type(error).__name__}{f': {error}' if str(error) else ''})."
