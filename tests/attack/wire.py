"""HTTP as bytes: what a request becomes on a socket, and what may come back.

Nothing here is lenient. An answer is well-formed to the letter or `Malformed` is raised, because a client library would
mend what a test must see; and every answer of the house, however hostile the request, keeps what all of them promise.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from dataclasses import dataclass
from typing import Any, Final

import trio

from web.problems import PROBLEMS
from web.security import SECURITY

_STATUS: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\x20-\x7e]*")
_FIELD: Final = re.compile(rb"([a-z0-9!#$%&'*+.^_`|~-]+): ?([\x20-\x7e\t]*)", re.IGNORECASE)
_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,8}")
_NO_BODY: Final = (204, 304)

BY_DESIGN: Final = {502, 503, 504, 507, 529}
"""The only answers of 500 and more that are no fault of ours."""

KNOWN_HEADERS: Final = {
    "content-type", "content-length", "transfer-encoding", "connection", "date", "location", "www-authenticate",
    "allow",
    "retry-after", "ratelimit", "ratelimit-policy", "idempotent-replayed", "preference-applied", "x-request-id",
    "x-accel-buffering", "accept-ranges", "content-range", "content-disposition", "etag", "vary", "set-cookie", "link",
    "access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers",
    "access-control-allow-credentials", "access-control-expose-headers", "access-control-max-age", "keep-alive",
    "strict-transport-security", "traceparent", "permissions-policy",
    *(name.decode() for name in SECURITY),
}  # fmt: skip
"""Every header that the house has a use for: any other came in with a request."""


class Malformed(AssertionError):
    """What came back is not HTTP."""


@dataclass(frozen=True)
class Answer:
    """`headers`: as they came, names in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for other, value in self.headers if other == name), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def slug(self) -> str:
        """Of a problem; the empty text of anything else."""
        if self.header("content-type") != "application/problem+json":
            return ""
        return str(self.json["type"]).removeprefix("/problems/")


def answer_in(data: bytes, method: bytes = b"GET") -> tuple[Answer, bytes] | None:
    """The first answer in `data` and what follows it; None when it is not whole. Raises Malformed.

    `method`: of its request, since the answer to HEAD has a length and no body.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    status, headers = _head(head)
    if status < 200:  # interim: the final one follows
        return answer_in(rest, method)
    body = _body(status, dict(headers), rest, method)
    return (Answer(status, headers, body[0]), body[1]) if body else None


def _head(head: bytes) -> tuple[int, tuple[tuple[str, str], ...]]:
    first, *lines = head.split(b"\r\n")
    match = _STATUS.fullmatch(first)
    if match is None:
        raise Malformed(f"not a status line: {first!r}")
    fields = []
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise Malformed(f"not a header: {line!r}")
        fields.append((field[1].decode().lower(), field[2].decode().strip()))
    return int(match[1]), tuple(fields)


def _body(status: int, headers: dict[str, str], rest: bytes, method: bytes) -> tuple[bytes, bytes] | None:
    """The body and what follows it; None when it is not whole."""
    if method == b"HEAD" or status in _NO_BODY:
        return b"", rest
    if "transfer-encoding" in headers:
        if "content-length" in headers:
            raise Malformed("an answer with two lengths")
        return _chunked(rest)
    if "content-length" not in headers:
        raise Malformed(f"a {status} without a length")
    length = int(headers["content-length"])
    return (rest[:length], rest[length:]) if len(rest) >= length else None


def _chunked(rest: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            return None
        if not _SIZE.fullmatch(line):
            raise Malformed(f"not a chunk size: {line!r}")
        size = int(line, 16)
        if len(rest) < size + 2:
            return None
        if rest[size : size + 2] != b"\r\n":
            raise Malformed("a chunk that does not end where it should")
        body, rest = body + rest[:size], rest[size + 2 :]
        if size == 0:
            return body, rest


def check(answer: Answer) -> None:
    """What every answer keeps: its headers, its status, and the form of a problem. AssertionError says what not."""
    names = [name for name, _ in answer.headers]
    assert answer.status < 500 or answer.status in BY_DESIGN, f"{answer.status}: {answer.body[:500]!r}"
    assert {name.decode() for name in SECURITY} <= set(names), f"without its security headers: {names}"
    assert answer.header("x-content-type-options") == "nosniff"
    assert "x-request-id" in names
    assert "server" not in names
    assert set(names) <= KNOWN_HEADERS, f"whose header is this: {set(names) - KNOWN_HEADERS}"
    repeated = {name for name in names if names.count(name) > 1} - {"set-cookie", "vary", "link"}
    assert not repeated, f"said twice: {repeated}"
    assert (answer.header("cache-control") or "").startswith("no-store") or answer.status < 400
    if answer.status >= 400 and answer.body:
        check_problem(answer)


def check_problem(answer: Answer) -> None:
    assert answer.header("content-type") == "application/problem+json", answer
    said = answer.json
    assert said["status"] == answer.status
    assert answer.slug in PROBLEMS, said
    assert said["title"]
    assert said["detail"]
    assert re.fullmatch(r"err_[0-9a-f]{16}", said["error_id"]), said
    text = answer.body.decode()
    assert "Traceback" not in text
    assert 'File "' not in text
    if answer.status == 401:
        assert (answer.header("www-authenticate") or "").startswith("Bearer ")
    if answer.status == 405:
        assert answer.header("allow")
    if answer.status in {429, 503}:
        assert int(answer.header("retry-after") or 0) >= 1


def request(
    method: str, target: str, *headers: str, body: bytes | None = None, host: str | None = "127.0.0.1"
) -> bytes:
    """One request as a well-behaved client sends it. `headers`: whole lines."""
    lines = [f"{method} {target} HTTP/1.1", *([] if host is None else [f"Host: {host}"]), *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + (body or b"")


class Line:
    """One connection to the house."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.received = b""
        self.closed = False

    @classmethod
    async def open(cls, port: int) -> Line:
        return cls(await trio.open_tcp_stream("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        """Whatever of it the other side still takes."""
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def more(self) -> bool:
        """Wait for more bytes; False at the end, however it came."""
        try:
            data = await self.stream.receive_some(1 << 16)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        self.received += bytes(data)
        self.closed = not data
        return not self.closed

    async def answer(self, method: bytes = b"GET") -> Answer | None:
        """The next whole answer; None when the house closed before it was whole."""
        while (found := answer_in(self.received, method)) is None:
            if not await self.more():
                return None
        answer, self.received = found
        return answer

    async def end(self) -> None:
        """Half-close: nothing more will be sent."""
        try:
            await self.stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    def abort(self) -> None:
        """Gone without a word: the other side sees a reset (SO_LINGER of 0, socket(7))."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()

    def close(self) -> None:
        self.stream.socket.close()
