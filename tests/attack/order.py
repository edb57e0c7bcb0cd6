"""In which order a request is looked at: faults as data, each with the parts of a request that it spoils.

Two faults that spoil different parts fit into one request; the one that is looked for earlier answers it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.attack.bad_input import busy
from tests.attack.target import Target
from tests.attack.wire import request

BODY_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Request:
    """A run for an engine, in parts; it is accepted as it is. `input`, `more`: JSON, inside the body; `pad`: blanks
    behind it; `cut`: its last byte never comes; `engine`: of the world; `key`: else one of this rate, these scopes and
    this pool is made; `idempotency`: a key, `used` for the one under which this engine has accepted another run.
    """

    method: str = "POST"
    host: str = "127.0.0.1"
    place: str = "runs"
    engine: str = "idle"
    query: str = ""
    lines: tuple[str, ...] = ()
    media: str = "application/json"
    input: str = '"x"'
    more: str = ""
    pad: int = 0
    cut: bool = False
    key: str | None = None
    rate: int = 1_000_000
    scopes: tuple[str, ...] = ("read", "operate")
    pool: str = "default"
    idempotency: str | None = None


@dataclass(frozen=True)
class Fault:
    """`spoils`: the parts of a request that it needs; `lines`: headers that it adds."""

    says: str
    status: int
    slug: str
    spoils: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def fits(self, other: Fault) -> bool:
        """Whether one request can have both."""
        return all(other.spoils.get(part, value) == value for part, value in self.spoils.items())


FAULTS: Final = [
    Fault("HTTP syntax", 400, "malformed-request", lines=("X-A: a\nX-B: b",)),
    Fault("Host", 421, "misdirected-host", {"host": "evil.example"}),
    Fault("TRACE", 405, "method-not-allowed", {"method": "TRACE"}),
    Fault("Origin", 403, "origin-not-allowed", lines=("Origin: https://evil.example",)),
    Fault("fetch site", 403, "origin-not-allowed", lines=("Sec-Fetch-Site: cross-site",)),
    Fault("URI", 414, "too-large", {"query": "?a=" + "a" * 5000}),
    Fault("headers", 431, "too-large", lines=tuple(f"X-{n}: 1" for n in range(100))),
    Fault("credentials", 401, "unauthenticated", {"key": "guessed"}),
    Fault("rate", 429, "rate-limited", {"rate": 1}),
    Fault("route", 404, "not-found", {"place": "nowhere"}),
    Fault("method", 405, "method-not-allowed", {"method": "PATCH"}),
    Fault("content type", 415, "unsupported-media-type", {"media": "text/plain"}),
    Fault("coding", 415, "unsupported-media-type", lines=("Content-Encoding: gzip",)),
    Fault("body too large", 413, "too-large", {"pad": BODY_BYTES}),
    Fault("body too slow", 408, "request-timeout", {"cut": True}),
    Fault("JSON", 400, "invalid-json", {"input": "NaN"}),
    Fault("schema", 422, "validation-failed", {"more": ',"colour":"red"'}),
    Fault("query", 422, "validation-failed", {"query": "?colour=red"}),
    Fault("no key", 422, "validation-failed", {"idempotency": "no good"}),
    Fault("scope", 403, "insufficient-scope", {"scopes": ("read",)}),
    Fault("tenant", 404, "not-found", {"pool": "theirs"}),
    Fault("used key", 422, "idempotency-mismatch", {"idempotency": "used"}),
    Fault("disposed", 410, "engine-disposed", {"engine": "gone"}),
    Fault("stopped", 409, "invalid-state", {"engine": "stopped"}),
    Fault("conflict", 409, "run-conflict", {"engine": "full", "more": ',"on_busy":"reject"'}),
    Fault("mailbox", 429, "mailbox-full", {"engine": "full"}),
    Fault("draining", 503, "draining", {"engine": "draining"}),
]  # fmt: skip
"""From the first that is looked for to the last; each alone gets its own answer."""


class World:
    """What the faults need: engines in every state, and keys."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._shared: dict[tuple[str, ...], str] = {}

    async def make(self) -> None:
        ask = self.target.ask
        for pool in ("theirs", "drained"):
            await ask("POST", "/api/v1/pools", {"id": pool})
        for engine in ("idle", "gone", "stopped"):
            await self.target.engine(id=engine)
        await busy(self.target, id="full", mailbox_size=2)
        await busy(self.target, id="draining", pool="drained")
        for engine in ("idle", "gone", "stopped", "full", "draining"):
            used = await self.send(Request(engine=engine, input='"another"', idempotency="used"))
            assert used == (202, ""), used
        await self.target.run("full", wait_s=0)
        await ask("POST", "/api/v1/pools/drained/commands", {"type": "drain"})
        await ask("POST", "/api/v1/engines/stopped/commands", {"type": "stop"}, "Prefer: wait=30")
        await ask("DELETE", "/api/v1/engines/gone?force=true")

    async def key(self, made: Request) -> str:
        """Of these scopes and this pool; one whose rate is used up is made anew, since a minute passes."""
        asked: dict[str, Any] = {} if made.pool == "default" else {"pools": [made.pool]}
        if made.rate == 1:
            key = await self.target.key(*made.scopes, rate_per_min=1, **asked)
            assert (await self.target.ask("GET", "/api/v1/auth/whoami", key=key)).status == 200
            return key
        name = (*made.scopes, made.pool)
        if name not in self._shared:
            self._shared[name] = await self.target.key(*made.scopes, **asked)
        return self._shared[name]

    async def send(self, made: Request) -> tuple[int, str]:
        """The status and the slug."""
        body = f'{{"input":{made.input}{made.more}}}'.encode() + b" " * made.pad
        key = made.key or await self.key(made)
        lines = [f"Authorization: Bearer {key}", f"Content-Type: {made.media}", *made.lines]
        if made.idempotency is not None:
            name = f"used-{made.engine}" if made.idempotency == "used" else made.idempotency
            lines.append(f"Idempotency-Key: {name}")
        path = f"/api/v1/engines/{made.engine}/{made.place}{made.query}"
        sent = request(made.method, path, *lines, body=body, host=made.host)
        answer = await self.target.exchange(sent[:-1] if made.cut else sent, made.method.encode())
        return answer.status, answer.slug


def spoiled(*faults: Fault) -> Request:
    """The request with these faults; they fit."""
    parts: dict[str, Any] = {}
    lines: tuple[str, ...] = ()
    for fault in faults:
        parts |= fault.spoils
        lines += fault.lines
    return Request(**parts, lines=lines)
