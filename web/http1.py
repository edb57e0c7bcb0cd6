"""HTTP/1.1 and nothing else: hypercorn's H11Protocol over an h11 that takes RFC 9112 at its word.

All that is ambiguous to a proxy in front of us (bare LF, folded lines, Content-Length beside Transfer-Encoding) is
refused here, since no ASGI app can see it any more. Each override is for hypercorn 0.18 with h11 0.16 and names its
reason; tests/web/test_server.py turns red without it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

import h11
from hypercorn.protocol.events import Event, Response
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import H11SendableEvent

from protocol.errors import EnginehouseError
from web.limits import Limits
from web.problems import Answer, problem
from web.refusals import HeadersTooLarge, MalformedRequest, RequestTimeout, UriTooLong
from web.security import hardened

# A line feed or carriage return alone, a folded line (obs-fold, RFC 9112 5.2), any other control character.
_FORBIDDEN = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\r\n[ \t]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_AROUND_TARGET = 64  # bytes for method, spaces and version in a request line that has not ended yet
_FRAMING = {b"content-length", b"transfer-encoding"}
_VERSIONS = {b"1.0", b"1.1"}

_REFUSALS: Final[Mapping[int, EnginehouseError]] = {
    408: RequestTimeout("Send the whole request faster."),
    414: UriTooLong("Send a shorter request target."),
    431: HeadersTooLarge("Send fewer or shorter headers."),
}
_MALFORMED: Final = MalformedRequest("Send a request as RFC 9112 defines it; the connection is closed.")


class StrictH11(h11.Connection):
    """An h11 server connection that refuses what h11 0.16 is lenient about, as h11's own kind of error.

    `their_state` is left where it was; whoever catches the error answers it and closes.
    """

    def __init__(self, limits: Limits) -> None:
        self._line_bytes = limits.uri_bytes + _AROUND_TARGET
        # h11 itself refuses a longer header section that has no end yet, with 431.
        super().__init__(h11.SERVER, max_incomplete_event_size=self._line_bytes + limits.header_bytes)
        self.method = b""
        self._held = b""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        if self.their_state is h11.IDLE:
            self._check_head(self.trailing_data[0])
        if self.their_state is h11.MUST_CLOSE and self.trailing_data[0]:
            return h11.PAUSED  # bytes behind a last request are not read; h11 would refuse the request because of them
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.method = event.method
            _check_request(event)
        return event

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]  # its overloads tell only when it is None
        """As h11's, but a head whose body has a length waits for what follows: an answer is one write and not two."""
        data = self._held + (super().send(event) or b"")
        holds = isinstance(event, h11.Response) and any(name == b"content-length" for name, _ in event.headers)
        self._held = data if holds else b""
        return b"" if holds else data

    @property
    def in_head(self) -> bool:
        """Whether a request has begun to arrive, but not its whole header section."""
        return self.their_state is h11.IDLE and bool(self.trailing_data[0])

    def _check_head(self, received: bytes) -> None:
        end = received.find(b"\r\n\r\n")
        if _FORBIDDEN.search(received, 0, len(received) if end < 0 else end + 2):
            raise h11.RemoteProtocolError("a forbidden character in the header section")
        if end < 0 and len(received) > self._line_bytes and b"\r\n" not in received[: self._line_bytes]:
            raise h11.RemoteProtocolError("the request line is too long", error_status_hint=414)


def _check_request(request: h11.Request) -> None:
    # Methods are case-sensitive (RFC 9110 9.1). Werkzeug makes `get` a GET: a proxy's rule for GET would not see it.
    if request.method != request.method.upper():
        raise h11.RemoteProtocolError("a method in lower case")
    framing = {name for name, _ in request.headers} & _FRAMING
    # Two ways to find the end of one body is how a request is smuggled past a proxy (RFC 9112 6.1).
    if framing == _FRAMING or (request.http_version == b"1.0" and b"transfer-encoding" in framing):
        raise h11.RemoteProtocolError("ambiguous length")
    if request.http_version not in _VERSIONS:
        raise h11.RemoteProtocolError("not HTTP/1.x")


class Http1(H11Protocol):
    """One connection's protocol state. hypercorn calls `send`; `web/connection.py` calls `handle` and `refuse`."""

    connection: StrictH11

    def __init__(self, limits: Limits, *args: Any) -> None:
        """`args`: hypercorn's own, unchanged."""
        super().__init__(*args)
        self.connection = StrictH11(limits)
        self._refused = False

    async def refuse(self, status: int) -> None:
        """Answer for the app, if nothing was answered yet; what the app still sends is dropped."""
        if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE} and not self._refused:
            await self._send_error_response(status)

    async def _send_error_response(self, status_code: int) -> None:
        # hypercorn's own has an empty body and no security header.
        answer = refusal(status_code)
        headers = [*answer.headers, *self.config.response_headers("h11")]
        if (b"connection", b"close") not in headers:
            headers.append((b"connection", b"close"))
        response = h11.Response(status_code=answer.status, headers=headers)
        body = b"" if self.connection.method == b"HEAD" else answer.body
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            await self._send_h11_event(event)
        self._refused = True

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        # Without this an app that answers after a 408 gets a LocalProtocolError for its trouble.
        if not self._refused:
            await super()._send_h11_event(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        # hypercorn would change to HTTP/2 here (h2c, prior knowledge), which has no back-pressure: a client that
        # withholds WINDOW_UPDATE grew the process by 8 MB/s.
        return

    async def _create_stream(self, request: h11.Request) -> None:
        # An Upgrade may be ignored (RFC 9110 7.8); hypercorn would open a WebSocket, which nothing here speaks.
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        if len(headers) != len(request.headers):
            request = h11.Request(
                method=request.method, target=request.target, headers=headers, http_version=request.http_version
            )
        await super()._create_stream(request)

    async def stream_send(self, event: Event) -> None:
        # An answer before the whole request has arrived leaves the rest of it in the way of the next request, which
        # was then never answered (6 of 19). Saying `close` tells the client to use another connection.
        if isinstance(event, Response) and self.connection.their_state is h11.SEND_BODY:
            headers = [item for item in event.headers if item[0] != b"connection"]
            event = Response(
                stream_id=event.stream_id,
                status_code=event.status_code,
                headers=[*headers, (b"connection", b"close")],
            )
        await super().stream_send(event)


def refusal(status: int) -> Answer:
    """The whole answer to a request that no app will see; a status that is not one of ours counts as 400."""
    return guardless(_REFUSALS.get(status, _MALFORMED))


def guardless(error: EnginehouseError) -> Answer:
    """The problem with all headers, for who answers without a guard and without a request to name."""
    answer = problem(error, instance="/")
    return Answer(answer.status, tuple(hardened(answer.headers, secrets.token_hex(16))), answer.body)
