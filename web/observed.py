"""The outermost ASGI app of a daemon: counts, times, traces and logs each request, whoever answers it.

What it knows of a request it reads afterwards from the scope, where the guard leaves the request's id and the app its
route and principal; of the answer it knows what went out. A log line never holds a query (a ticket may be in it), a
header or a body.
"""

from __future__ import annotations

import re
from typing import Any, Final

import trio
from opentelemetry.trace import Span, Status, StatusCode

from web.asgi import App, Message, Receive, Scope, Send
from web.guard import LIVE, METHODS
from web.logs import HotLog
from web.metrics import OTHER, UNMATCHED, Requests
from web.peer import address_of
from web.perform import PRINCIPAL
from web.problems import request_id_of
from web.route import FOUND
from web.traces import TRACE, Traces, trace_from

__all__ = ["Observed"]

log = HotLog("enginehouse.access")

_SLUG: Final = re.compile(rb'{"type": ?"/problems/([a-z-]{1,64})"')
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Observed:
    """`access`: one line for each request, at level info when it would change something or was refused, else debug."""

    def __init__(self, app: App, requests: Requests, traces: Traces, *, access: bool = True) -> None:
        self._app = app
        self._requests = requests
        self._traces = traces
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Whoever asks chooses the word; what it becomes a label of must stay bounded.
        method = scope["method"] if scope["method"] in METHODS else OTHER
        answer = _Answer(send)
        span = self._traces.request(method, scope)
        scope[TRACE] = trace_from(span)
        self._requests.in_flight += 1
        try:
            await self._app(scope, receive, answer.send)
        finally:
            self._requests.in_flight -= 1
            route, names = scope.get(FOUND, (LIVE if scope["path"] == LIVE else UNMATCHED, {}))
            self._requests.answered(method, route, answer.status, answer.begun_s, answer.slug)
            if span.is_recording():
                _end(span, method, route, answer)
            if self.access:
                _log(method, scope, route, names, answer)


class _Answer:
    """What went out. `begun_s`: after how long; `slug`: of the problem that it is."""

    __slots__ = ("_began", "_problem", "_send", "begun_s", "bytes", "slug", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._began = trio.current_time()
        self._problem = False
        self.status: int | None = None
        self.begun_s: float | None = None
        self.bytes = 0
        self.slug: str | None = None

    @property
    def lasted_s(self) -> float:
        return trio.current_time() - self._began

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.begun_s = message["status"], self.lasted_s
            self._problem = message["status"] >= 400
        else:
            body = message.get("body", b"")
            self.bytes += len(body)
            if self._problem and self.slug is None:
                match = _SLUG.match(body)
                self.slug = match[1].decode("ascii") if match else None
        await self._send(message)


def _log(method: str, scope: Scope, route: str, names: dict[str, str], answer: _Answer) -> None:
    harmless = method in _READS and answer.status is not None and answer.status < 400
    principal, trace = scope.get(PRINCIPAL), scope.get(TRACE)
    line: dict[str, Any] = {
        "method": method,
        "route": route,
        "status": answer.status,
        "duration_ms": round(answer.lasted_s * 1000, 3),
        "bytes": answer.bytes,
        "principal": principal.name if principal is not None else None,
        "client": address_of(scope),
        "correlation_id": request_id_of(scope),
    }
    if answer.slug is not None:
        line["slug"] = answer.slug
    if trace is not None:
        line["trace_id"] = trace.trace_id
    for name in names.keys() & {"engine", "run", "pool"}:
        line["pool" if name == "pool" else f"{name}_id"] = names[name]
    (log().debug if harmless else log().info)("request", **line)


def _end(span: Span, method: str, route: str, answer: _Answer) -> None:
    """Names are OpenTelemetry's semantic conventions for HTTP."""
    span.update_name(f"{method} {route}")
    span.set_attributes({"http.request.method": method, "http.route": route})
    if answer.status is not None:
        span.set_attribute("http.response.status_code", answer.status)
    if answer.slug is not None:
        span.set_attribute("error.type", answer.slug)
    if answer.status is None or answer.status >= 500:
        span.set_status(Status(StatusCode.ERROR))
    span.end()
