"""One address and one key: requests out, answers or the house's own exceptions back.

What may be sent twice is decided here and nowhere else. A connection that was refused carried nothing, so anything may
be tried again; after that a request is repeated only when its repetition is the same request: GET and PUT by their
meaning (RFC 9110 9.2.2), POST by its Idempotency-Key, which every POST gets.
"""

from __future__ import annotations

import json
import math
import random
import ssl
import sys
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote, urlencode

import httpx2
import trio
from pydantic import ValidationError

from actors.reading import reading
from protocol.edge import adapter, dump
from protocol.errors import Busy, EnginehouseError, IdempotencyInFlight, Unavailable
from web.client.errors import Unreachable, error_of, unreachable
from web.client.trust import trust

__all__ = ["Answer", "Connection", "Query", "Retry", "path", "read"]

T = TypeVar("T")
Query = Iterable[tuple[str, object]]

API: Final = "/api/v1"
READ_S: Final = 30.0
WAIT_S: Final = 60  # the longest `Prefer: wait` that a house grants


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a request is tried (`attempts` 1: once), and the delays between.

    A delay is min_s * 2**n, at most max_s, spread over its upper half. A `Retry-After` is kept up to `max_s`.
    """

    attempts: int = 5
    min_s: float = 0.1
    max_s: float = 5.0

    def delay_s(self, failures: int, floor_s: float = 0.0) -> float:
        """Before the next try, after this many failures in a row (from 1)."""
        delay_s: float = min(self.max_s, self.min_s * 2.0 ** min(failures - 1, 30))
        spread = 0.5 + random.random() / 2  # noqa: S311 - keeps clients apart, keeps no secret
        return min(self.max_s, max(floor_s, delay_s * spread))


@dataclass(frozen=True, slots=True)
class Answer:
    """A success. `headers`: names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Raises Unreachable when the body is not JSON: then it is no house that answered."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise Unreachable("The answer is not JSON: check that the address is that of an Enginehouse.") from None

    @property
    def replayed(self) -> bool:
        return self.headers.get("idempotent-replayed") == "true"


def path(*parts: str) -> str:
    """`/engines/a%2Fb/state`: each part quoted, so that no id can leave its place."""
    return "".join("/" + quote(part, safe="") for part in parts)


def read(model: type[T], value: object) -> T:
    """A JSON value of an answer as `model`; members that this version does not know are ignored.

    Raises:
        Unreachable: a member is missing or of another type.

    """
    shape: Any = model
    try:
        return cast("T", adapter(shape).validate_python(value, strict=False, extra="ignore"))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"])) or "the answer"
        what = f"{where}: {fault['msg']}"
        raise Unreachable(f"The answer is not understood ({what}): use a client of its version.") from None


class Connection:
    """`url`: `http://host:port`, `https://...` or `unix:/path`. See `opened`."""

    def __init__(self, client: httpx2.AsyncClient, url: str, retry: Retry) -> None:
        self.url = url
        self.retry = retry
        self._client = client

    def new_key(self) -> str:
        """An Idempotency-Key that nobody else uses."""
        return str(uuid.uuid4())

    async def call(
        self,
        method: str,
        where: str,
        *,
        query: Query = (),
        body: object = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float | None = None,
        read_s: float = READ_S,
    ) -> Answer:
        """Ask, again where that is safe, and give the success.

        Args:
            method: GET, PUT, POST, PATCH or DELETE.
            where: the path below `/api/v1`, from `path`.
            query: names and values; None is left out.
            body: sent as JSON unless it is None.
            key: the Idempotency-Key of a POST; None makes one.
            headers: further headers.
            wait_s: asks the house to answer when the effect is reached (`Prefer: wait`, whole seconds, rounded up).
            read_s: how long it may be silent.

        Raises:
            EnginehouseError: the problem that the house answered with; Unreachable when it did not.

        Cancelled: the house may or may not have got it.

        """
        sent = {"accept": "application/json", **(headers or {})}
        if method == "POST":
            sent["idempotency-key"] = key or self.new_key()
        if wait_s is not None:
            sent["prefer"] = f"wait={math.ceil(wait_s)}"
            read_s += wait_s
        content = None
        if body is not None:
            sent["content-type"] = "application/json"
            content = dump(body)
        repeatable = method in {"GET", "PUT", "POST"}
        failures = 0
        while True:
            try:
                return await self._once(method, where, query, content, sent, read_s)
            except (EnginehouseError, httpx2.TransportError) as error:
                failures += 1
                if failures >= self.retry.attempts or not _again(error, repeatable):
                    raise self._told(error) from None
                floor = error.extra.get("retry_after_s") if isinstance(error, EnginehouseError) else None
            await trio.sleep(self.retry.delay_s(failures, float(floor) if isinstance(floor, int | float) else 0.0))

    @asynccontextmanager
    async def stream(
        self, where: str, *, query: Query = (), headers: Mapping[str, str], read_s: float | None
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """GET an answer in pieces, once: its status and its bytes as they come.

        Raises:
            EnginehouseError: the problem that the house answered with.
            httpx2.TransportError: there was no connection, or it broke, also in the middle.

        """
        request = self._request("GET", where, query, None, headers, read_s)
        response = await self._client.send(request, stream=True)
        try:
            if response.status_code >= 400:
                body = await response.aread()
                raise error_of(response.status_code, response.headers, body)
            async with reading(response) as chunks:
                yield response.status_code, chunks
        finally:
            await response.aclose()

    def unreachable(self, error: httpx2.TransportError) -> Unreachable:
        """What a failed connection means to whoever asked."""
        return unreachable(self.url, error)

    async def _once(
        self, method: str, where: str, query: Query, content: bytes | None, headers: Mapping[str, str], read_s: float
    ) -> Answer:
        response = await self._client.send(self._request(method, where, query, content, headers, read_s))
        if response.status_code >= 400:
            raise error_of(response.status_code, response.headers, response.content)
        return Answer(response.status_code, response.headers, response.content)

    def _request(
        self,
        method: str,
        where: str,
        query: Query,
        content: bytes | None,
        headers: Mapping[str, str],
        read_s: float | None,
    ) -> httpx2.Request:
        asked = urlencode([(name, _text(value)) for name, value in query if value is not None])
        timeout = httpx2.Timeout(READ_S, connect=5.0, read=read_s)
        target = f"{API}{where}" + (f"?{asked}" if asked else "")
        sent = {**traced(), **headers}
        return self._client.build_request(method, target, content=content, headers=sent, timeout=timeout)

    def _told(self, error: EnginehouseError | httpx2.TransportError) -> EnginehouseError:
        return error if isinstance(error, EnginehouseError) else self.unreachable(error)


@asynccontextmanager
async def opened(url: str, api_key: str | None, retry: Retry, ca_file: Path | None = None) -> AsyncIterator[Connection]:
    """A connection pool to `url`, closed on leaving. Connects when it is first asked for something. Raises Problem for
    a `ca_file` that is none.
    """
    headers = {"accept-encoding": "identity", "user-agent": "enginehouse"}
    if api_key is not None:
        headers["authorization"] = f"Bearer {api_key}"
    unix = url.removeprefix("unix:") if url.startswith("unix:") else None
    base = "http://localhost" if unix else url.rstrip("/")
    # No proxy of the environment: it would read the key. Certificates are loaded only where they are needed (30 ms).
    transport = httpx2.AsyncHTTPTransport(
        uds=unix, verify=_verify(base, ca_file), trust_env=False,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
    )  # fmt: skip
    async with httpx2.AsyncClient(transport=transport, base_url=base, headers=headers, trust_env=False) as client:
        yield Connection(client, url, retry)


def _verify(base: str, ca_file: Path | None) -> ssl.SSLContext | bool:
    secured = base.startswith("https:")
    return trust(ca_file) if secured and ca_file else secured


def traced() -> dict[str, str]:
    """The headers that tell the house which trace it is called in (W3C Trace Context): that of the current span."""
    if "opentelemetry.trace" not in sys.modules:  # then nobody here makes spans, and importing it would take 20 ms
        return {}
    from web.traces import current_trace

    trace = current_trace()
    if trace is None:
        return {}
    return {"traceparent": trace.parent} | ({"tracestate": trace.state} if trace.state else {})


def _again(error: EnginehouseError | httpx2.TransportError, repeatable: bool) -> bool:
    match error:
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            return True
        case httpx2.UnsupportedProtocol() | httpx2.LocalProtocolError():
            return False
        case httpx2.TransportError() | IdempotencyInFlight():
            return repeatable
        case Unavailable() | Busy():
            # 503 says that nothing was changed; 429 is the caller's to decide upon, 507 does not pass by itself.
            return repeatable and error.slug in {"store-unavailable", "shutting-down", "overloaded"}
    return False


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
