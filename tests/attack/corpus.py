"""Hostile requests as data: what is sent, byte for byte, and which statuses may answer it.

`KEY` in a request becomes the admin's key, so that what gets past the guard goes all the way. Where several statuses
are listed, one is answered for each request that was sent on the connection, in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KEY: Final = b"@KEY@"
HOST: Final = b"Host: 127.0.0.1\r\n"
AUTH: Final = b"Authorization: Bearer " + KEY + b"\r\n"
JSON: Final = b"Content-Type: application/json\r\n"
SPAWN: Final = b"POST /api/v1/engines HTTP/1.1\r\n" + HOST + AUTH + JSON
GET: Final = b"GET /api/v1/engines HTTP/1.1\r\n" + HOST + AUTH
LIVE: Final = b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n"
NOBODY: Final = b'{"kind":"nobody"}'  # 17 bytes, and 422 for whoever is let through


@dataclass(frozen=True)
class Case:
    """`answers`: the status of each answer in order; `closes`: whether the house then closes the connection."""

    name: str
    sent: bytes
    answers: tuple[int, ...] = (400,)
    closes: bool = True

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def body(framing: bytes, content: bytes) -> bytes:
    return SPAWN + framing + b"\r\n" + content


def get(*lines: bytes, target: bytes = b"/api/v1/engines") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in (*lines, b""))


H: Final = HOST[:-2]
A: Final = AUTH[:-2]

# What a proxy in front of us and we might see differently: one request or two, and where the second begins.
SMUGGLING: Final = [
    Case("CL and TE", body(b"Content-Length: 17\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + LIVE)),
    Case("TE and CL", body(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"0\r\n\r\n" + LIVE)),
    Case("two different CL", body(b"Content-Length: 17\r\nContent-Length: 0\r\n", NOBODY)),
    Case("a list of CL", body(b"Content-Length: 17, 0\r\n", NOBODY)),
    Case("a negative CL", body(b"Content-Length: -17\r\n", NOBODY)),
    Case("a CL with a plus", body(b"Content-Length: +17\r\n", NOBODY)),
    Case("a CL in hex", body(b"Content-Length: 0x11\r\n", NOBODY)),
    Case("a CL with an underscore", body(b"Content-Length: 1_7\r\n", NOBODY)),
    Case("a CL that is empty", body(b"Content-Length: \r\n", NOBODY)),
    Case("a CL of other digits", body("Content-Length: ١٧\r\n".encode(), NOBODY)),
    Case("a CL beyond any integer", body(b"Content-Length: " + b"9" * 400 + b"\r\n", NOBODY)),
    Case("TE twice", body(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"0\r\n\r\n")),
    Case("TE identity", body(b"Transfer-Encoding: identity\r\n", NOBODY)),
    Case("TE gzip, chunked", body(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n")),
    Case("TE xchunked", body(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n")),
    Case("TE with a quote", body(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n")),
    Case("TE with a vertical tab", body(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n")),
    Case("TE with a space before the colon", body(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n")),
    Case("TE folded", body(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n")),
    Case("TE with an underscore for the dash", body(b"Transfer_Encoding: chunked\r\n", b""), (400,), closes=False),
    Case("TE under HTTP/1.0", (SPAWN + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0")),
    Case("a chunk size with 0x", body(b"Transfer-Encoding: chunked\r\n", b"0x11\r\n" + NOBODY + b"\r\n0\r\n\r\n")),
    Case("a negative chunk size", body(b"Transfer-Encoding: chunked\r\n", b"-1\r\n" + NOBODY + b"\r\n0\r\n\r\n")),
    Case("a chunk size of many digits", body(b"Transfer-Encoding: chunked\r\n", b"f" * 100 + b"\r\n" + NOBODY)),
    Case("a chunk size ended by a bare LF", body(b"Transfer-Encoding: chunked\r\n", b"11\n" + NOBODY + b"\r\n0\r\n\r\n")),
    Case("a chunk without its end", body(b"Transfer-Encoding: chunked\r\n", b"11\r\n" + NOBODY + b"XX0\r\n\r\n")),
    Case("a chunk extension without end", body(b"Transfer-Encoding: chunked\r\n", b"11;" + b"a" * 40_000), (431,)),
    Case("a trailer that looks like a length", body(b"Transfer-Encoding: chunked\r\n", b"11\r\n" + NOBODY + b"\r\n0\r\nContent-Length: 999\r\n\r\n"), (422,), closes=False),
    Case("a GET with a body that is a request", GET + b"Content-Length: %d\r\n\r\n" % len(LIVE) + LIVE, (415,), closes=False),
    Case("a GET with a chunked body that is a request", GET + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(LIVE) + LIVE + b"\r\n0\r\n\r\n", (415,), closes=False),
]  # fmt: skip

SYNTAX: Final = [
    Case("nothing but line ends", b"\r\n\r\n\r\n\r\n"),
    Case("bare LF everywhere", GET.replace(b"\r\n", b"\n") + b"\n"),
    Case("a bare LF in a value", get(H, A, b"X-A: a\nX-B: b")),
    Case("a bare CR in a value", get(H, A, b"X-A: a\rX-B: b")),
    Case("a NUL in a value", get(H, A, b"X-A: a\0b")),
    Case("a NUL in the target", get(H, A, target=b"/api\0/v1/engines")),
    Case("a NUL as the first byte", b"\0" + LIVE),
    Case("a control character in a name", get(H, A, b"X\x01A: a")),
    Case("a folded line", get(H, A, b"X-A: a", b"\tb")),
    Case("a folded first line", get(b" X-A: a", H, A)),
    Case("no colon", get(H, A, b"nonsense")),
    Case("an empty name", get(H, A, b": nonsense")),
    Case("a space in a name", get(H, A, b"X A: a")),
    Case("a space before the colon", get(b"Host : 127.0.0.1", A)),
    Case("no version", b"GET /health/live\r\n" + HOST + b"\r\n"),
    Case("HTTP/0.9", b"GET /\r\n\r\n"),
    Case("HTTP/1.2", LIVE.replace(b"HTTP/1.1", b"HTTP/1.2")),
    Case("HTTP/2.0", LIVE.replace(b"HTTP/1.1", b"HTTP/2.0")),
    Case("http in lower case", LIVE.replace(b"HTTP/1.1", b"http/1.1")),
    Case("two spaces", LIVE.replace(b"GET ", b"GET  ")),
    Case("a tab for a space", LIVE.replace(b"GET ", b"GET\t")),
    Case("a method of nonsense", LIVE.replace(b"GET", b"G@T{}")),
    Case("a method in lower case", LIVE.replace(b"GET", b"get")),
    Case("a method that nobody knows", LIVE.replace(b"GET", b"BREW"), (405,), closes=False),
    Case("a method of 5,000 letters", LIVE.replace(b"GET", b"G" * 5000), (405,), closes=False),
    Case("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Case("a TLS hello", bytes.fromhex("16030100c8010000c4030300") + b"\r\n\r\n"),
    Case("binary", bytes(range(256)) + b"\r\n\r\n"),
    Case("an SSH banner", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    Case("8-bit in a header", get(H, A, b"X-A: \xff\xfe"), (200,), closes=False),
    Case("a request as a header name", get(H, A, b"GET /health/live HTTP/1.1")),
]  # fmt: skip

TARGETS: Final = [
    Case("absolute form", get(H, A, target=b"http://127.0.0.1/api/v1/engines")),
    Case("absolute form of another host", get(H, A, target=b"http://evil.example/api/v1/engines")),
    Case("a file address", get(H, A, target=b"file:///etc/passwd")),
    Case("no slash", get(H, A, target=b"api/v1/engines")),
    Case("no slash, and a body that waits for leave", body(b"Expect: 100-continue\r\nContent-Length: 17\r\n", NOBODY).replace(b" /api", b" api")),
    Case("an asterisk", get(H, A, target=b"*")),
    Case("OPTIONS of an asterisk", b"OPTIONS * HTTP/1.1\r\n" + HOST + AUTH + b"\r\n", (404,), closes=False),
    Case("CONNECT", b"CONNECT 127.0.0.1:80 HTTP/1.1\r\n" + HOST + b"\r\n", (405,), closes=False),
    Case("CONNECT of a path", b"CONNECT /api/v1/engines HTTP/1.1\r\n" + HOST + b"\r\n", (405,), closes=False),
    Case("TRACE", b"TRACE /api/v1/engines HTTP/1.1\r\n" + HOST + AUTH + b"\r\n", (405,), closes=False),
    Case("an escaped NUL", get(H, A, target=b"/api/v1/engines/a%00b")),
    Case("two slashes first", get(H, A, target=b"//evil.example/api/v1/engines"), (404,), closes=False),
    Case("dots", get(H, A, target=b"/api/v1/../../../etc/passwd"), (404,), closes=False),
    Case("escaped dots", get(H, A, target=b"/api/v1/engines/%2e%2e/%2e%2e/health"), (404,), closes=False),
    Case("an escaped slash", get(H, A, target=b"/api/v1/engines/..%2f..%2fpools"), (404,), closes=False),
    Case("a backslash", get(H, A, target=b"/api/v1/engines/..\\..\\pools"), (404,), closes=False),
    Case("a path of wrong UTF-8", get(H, A, target=b"/api/v1/engines/%ff%fe"), (404,), closes=False),
    Case("a path of overlong UTF-8", get(H, A, target=b"/api/v1/engines/%c0%ae%c0%ae/"), (404,), closes=False),
    Case("a path of half a surrogate", get(H, A, target=b"/api/v1/engines/%ed%a0%80"), (404,), closes=False),
    Case("a path of raw bytes", get(H, A, target=b"/api/v1/engines/\xff\xfe")),
    Case("a path of raw UTF-8", get(H, A, target="/api/v1/engines/ü".encode())),
    Case("half an escape", get(H, A, target=b"/api/v1/engines/%"), (404,), closes=False),
    Case("an escape that is none", get(H, A, target=b"/api/v1/engines/%zz"), (404,), closes=False),
    Case("escaped line ends", get(H, A, target=b"/api/v1/engines/a%0d%0aX-Evil:%20b"), (404,), closes=False),
    Case("a query of escaped line ends", get(H, A, target=b"/api/v1/engines?cursor=%0d%0aX-Evil:%20b"), (422,), closes=False),
    Case("a fragment", get(H, A, target=b"/api/v1/engines#x"), (404,), closes=False),
    Case("a parameter of the path", get(H, A, target=b"/api/v1/engines;x=y"), (404,), closes=False),
    Case("a slash at the end", get(H, A, target=b"/api/v1/engines/"), (404,), closes=False),
    Case("another case", get(H, A, target=b"/API/v1/engines"), (404,), closes=False),
    Case("a target of 5,000 bytes", get(H, A, target=b"/" + b"a" * 5000), (414,), closes=False),
    Case("a query of 5,000 bytes", get(H, A, target=b"/api/v1/engines?cursor=" + b"a" * 5000), (414,), closes=False),
    Case("a target of 5,000 bytes without an end", b"GET /" + b"a" * 5000, (414,)),
    Case("200 parameters", get(H, A, target=b"/api/v1/engines?" + b"&".join(b"a=1" for _ in range(200))), (422,), closes=False),
]  # fmt: skip

HEADERS: Final = [
    Case("no Host", get(A)),
    Case("two Hosts", get(H, H, A)),
    Case("two different Hosts", get(H, b"Host: evil.example", A)),
    Case("an empty Host", get(b"Host:", A), (421,), closes=False),
    Case("a foreign Host", get(b"Host: evil.example", A), (421,), closes=False),
    Case("a Host with a user", get(b"Host: evil@127.0.0.1", A), (421,), closes=False),
    Case("a Host with a path", get(b"Host: 127.0.0.1/evil.example", A), (421,), closes=False),
    Case("a Host that is a list", get(b"Host: 127.0.0.1, evil.example", A), (421,), closes=False),
    Case("a forwarded Host", get(H, b"X-Forwarded-Host: evil.example", A), (200,), closes=False),
    Case("a forwarded Host alone", get(b"Host: evil.example", b"X-Forwarded-Host: 127.0.0.1", A), (421,), closes=False),
    Case("100 headers", get(H, A, *(b"X-%d: 1" % n for n in range(100))), (431,), closes=False),
    Case("17 kB in one header", get(H, A, b"X-A: " + b"a" * 17_000), (431,), closes=False),
    Case("100 kB without an end", b"GET / HTTP/1.1\r\nX-A: " + b"a" * 100_000, (431,)),
    Case("a name of 10,000 letters", get(H, A, b"X" * 10_000 + b": 1"), (200,), closes=False),
    Case("an Upgrade to h2c", get(H, A, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"), (200,), closes=False),
    Case("an Upgrade to a WebSocket", get(H, A, b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), (200,), closes=False),
    Case("a body that waits for leave", body(b"Expect: 100-continue\r\nContent-Length: 17\r\n", NOBODY), (422,), closes=False),
    Case("a body that expects what there is not", body(b"Expect: 200-ok\r\nContent-Length: 17\r\n", NOBODY), (422,), closes=False),
    Case("two keys", get(H, A, b"X-API-Key: another"), (401,), closes=False),
    Case("a key with a NUL escaped", get(H, b"Authorization: Bearer a%00b"), (401,), closes=False),
    Case("Basic", get(H, b"Authorization: Basic YWRtaW46YWRtaW4="), (401,), closes=False),
    Case("Bearer alone", get(H, b"Authorization: Bearer"), (401,), closes=False),
    Case("a key of 8-bit", get(H, b"Authorization: Bearer \xff\xfe"), (401,), closes=False),
    Case("a key in the URL", get(H, target=b"/api/v1/engines?api_key=" + KEY + b"&access_token=" + KEY), (401,), closes=False),
    Case("a method in a header", get(H, A, b"X-HTTP-Method-Override: DELETE"), (200,), closes=False),
    Case("Connection names Host", get(H, A, b"Connection: close, Host"), (200,)),
    Case("a compressed body", body(b"Content-Encoding: gzip\r\nContent-Length: 2\r\n", b"\x1f\x8b"), (415,), closes=False),
    Case("a form", SPAWN.replace(JSON, b"Content-Type: application/x-www-form-urlencoded\r\n") + b"Content-Length: 10\r\n\r\nkind=probe", (415,), closes=False),
    Case("JSON in UTF-16", SPAWN.replace(JSON, b"Content-Type: application/json; charset=utf-16\r\n") + b"Content-Length: 4\r\n\r\n{\0}\0", (415,), closes=False),
    Case("a body of 3 MB that is announced", body(b"Content-Length: 3000000\r\n", b"{"), (413,)),
    Case("an Idempotency-Key of 300 bytes", body(b"Idempotency-Key: " + b"a" * 300 + b"\r\nContent-Length: 16\r\n", b'{"kind":"probe"}'), (422,), closes=False),
    Case("a request id that would split the answer", get(H, A, b"X-Request-Id: a%0d%0aX-Evil: b"), (200,), closes=False),
    Case("a range of 1,000 ranges", get(H, A, b"Range: bytes=" + b",".join(b"0-1" for _ in range(1000))), (200,), closes=False),
]  # fmt: skip

PIPELINES: Final = [
    Case("three in a row", LIVE * 3, (200, 200, 200), closes=False),
    Case("a wrong one in the middle", LIVE + GET.replace(b"GET", b"G T") + b"\r\n" + LIVE, (200, 400)),
    Case("a refusal, then another", get(H) + LIVE, (401, 200), closes=False),
    Case("a body, then another", body(b"Content-Length: 17\r\n", NOBODY) + LIVE, (422, 200), closes=False),
    Case("close, then another", get(H, b"Connection: close", target=b"/health/live") + LIVE, (200,)),
    Case("HTTP/1.0, then another", LIVE.replace(b"HTTP/1.1", b"HTTP/1.0") + LIVE, (200,)),
    Case("50 in a row", LIVE * 50, (200,) * 50, closes=False),
]

CORPUS: Final = [*SMUGGLING, *SYNTAX, *TARGETS, *HEADERS, *PIPELINES]
