"""One request to a model's API and its streamed answer, with everything that can go wrong in between told apart.

A request is sent over HTTP/1.1 by httpx2 under trio, so a cancelled attempt closes its connection, and the provider
stops working (and charging). No proxy, no `.netrc` and no redirect: each would send the key somewhere else.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, NoReturn

import httpx2
import trio

from actors.engines.agent.faults import Garbled, ModelError, Silent, Unreachable, answered, words
from actors.engines.agent.shape import Asking, Piece, Reader, Shape
from actors.engines.agent.turns import Reply
from actors.reading import reading
from protocol.errors import EnginehouseError
from protocol.sse import SseEvent, SseParser
from protocol.times import retry_after_s

__all__ = ["OnText", "Upstream"]

OnText = Callable[[str], Awaitable[None]]

CONNECT_S: Final = 15.0
EVENT_BYTES: Final = 16 << 20
"""One event: OpenAI's last one repeats the whole answer."""

ERROR_BYTES: Final = 64 * 1024
REST_S: Final = 1.0
"""For the end of a stream whose answer is whole: then its connection serves the next question."""

LONGEST_AFTER_S: Final = 86_400.0


class Upstream:
    """Where a model is asked. See `Model` for the arguments."""

    def __init__(
        self,
        shape: Shape,
        base: str,
        key: str,
        *,
        headers: Mapping[str, str],
        timeout_s: float,
        transport: httpx2.AsyncBaseTransport | None,
        wall: Callable[[], float],
    ) -> None:
        self._shape, self._key, self._timeout_s, self._wall = shape, key, timeout_s, wall
        self._url = base + shape.path
        self._headers = {
            "accept": "text/event-stream", "accept-encoding": "identity", "content-type": "application/json",
            "user-agent": "enginehouse", **headers, **shape.headers(key),
        }  # fmt: skip
        # Certificates are loaded only where they are needed (30 ms).
        verify = base.startswith("https:")
        self._client = httpx2.AsyncClient(
            transport=transport or httpx2.AsyncHTTPTransport(verify=verify, trust_env=False),
            trust_env=False, timeout=httpx2.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
        )  # fmt: skip

    async def ask(self, asking: Asking, on_text: OnText | None, on_thought: OnText | None) -> Reply:
        """Once. Raises ModelError. Cancelled: the connection is closed."""
        body = json.dumps(self._shape.body(asking), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        try:
            async with self._client.stream("POST", self._url, content=body, headers=self._headers) as response:
                if response.status_code != 200:
                    raise await self._refused(response)
                if response.headers.get("content-type", "").partition(";")[0].strip().lower() != "text/event-stream":
                    self._garbled(ValueError(f"its type is {response.headers.get('content-type', '')!r}"))
                return await self._read(response, on_text, on_thought)
        except httpx2.ConnectTimeout:
            raise Unreachable(f"The model's API at {self._url} took no connection in time.") from None
        except httpx2.TimeoutException:
            raise Silent(f"The model's API said nothing for {self._timeout_s:g} s.") from None
        except httpx2.ConnectError as error:
            raise Unreachable(f"Nobody answers at {self._url}: {self._said(error)}") from None
        except httpx2.RemoteProtocolError as error:
            raise Unreachable(f"The model's API broke off: {self._said(error)}") from None
        except httpx2.TransportError as error:
            raise Unreachable(f"The connection to the model's API broke: {self._said(error)}") from None

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _read(self, response: httpx2.Response, on_text: OnText | None, on_thought: OnText | None) -> Reply:
        reader, parser = self._shape.reader(self._key), SseParser(EVENT_BYTES)
        async with reading(response) as chunks:
            async for chunk in chunks:
                for event in self._events(parser, chunk):
                    for piece in self._pieces(reader, event.data):
                        say = on_thought if piece.thought else on_text
                        if say is not None:
                            await say(piece.text)
                    if reader.reply is not None:
                        await _rest(chunks)
                        return reader.reply
            reader.ended()
        if reader.reply is None:
            raise Unreachable("The model's answer ended in the middle.")
        return reader.reply

    def _events(self, parser: SseParser, chunk: bytes) -> list[SseEvent]:
        try:
            return parser.feed(chunk)
        except EnginehouseError as error:
            self._garbled(error)

    def _pieces(self, reader: Reader, data: bytes) -> list[Piece]:
        """What one event adds; whatever is not of the shape is told as such."""
        try:
            if data == b"[DONE]":
                reader.ended()
                return []
            value = json.loads(data)
            if not isinstance(value, dict):
                raise TypeError(f"{type(value).__name__} is no event")
            return list(reader.read(value))
        except ModelError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            self._garbled(error)

    async def _refused(self, response: httpx2.Response) -> ModelError:
        body = bytearray()
        with suppress(httpx2.TransportError):  # the status alone says enough
            async with reading(response) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) >= ERROR_BYTES:
                        break
        status, headers = response.status_code, response.headers
        if 300 <= status < 400:
            body[:] = b"redirects are not followed; name the right base_url."
        after = retry_after_s(headers.get("retry-after", ""), self._wall())
        again = {"true": True, "false": False}.get(headers.get("x-should-retry", ""))
        return answered(
            self._url, status, bytes(body[:ERROR_BYTES]),
            retry_after_s=None if after is None else min(after, LONGEST_AFTER_S), again=again, secret=self._key,
        )  # fmt: skip

    def _garbled(self, error: Exception) -> NoReturn:
        what = f"{type(error).__name__}: {self._said(error)}"
        raise Garbled(f"What came from {self._url} is no answer of this API ({what}).") from None

    def _said(self, error: Exception) -> str:
        return words(str(error) or type(error).__name__, self._key)


async def _rest(chunks: AsyncIterator[bytes]) -> None:
    """Read what is left of a stream whose answer is whole, within the bound."""
    with trio.move_on_after(REST_S):
        async for _ in chunks:
            pass
