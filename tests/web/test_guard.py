"""The guard alone, called as the ASGI app that it is."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from protocol.errors import InvalidState
from web.asgi import Message, Receive, Scope, Send
from web.bodies import ClientGone, has_body, read_body, require_json
from web.guard import Guard, Policy, hosts_of
from web.limits import Limits
from web.problems import request_id_of
from web.refusals import TooLarge, UnsupportedMediaType
from web.security import PAGE_CSP, SECURITY

HOST = (b"host", b"localhost:39731")


class Answered:
    """What a guard sent for one request."""

    def __init__(self, messages: list[Message]) -> None:
        self.status: int = messages[0]["status"]
        self.headers: dict[bytes, bytes] = dict(messages[0]["headers"])
        self.fields: list[bytes] = [name for name, _ in messages[0]["headers"]]
        self.body = b"".join(message.get("body", b"") for message in messages[1:])

    @property
    def slug(self) -> str:
        return str(json.loads(self.body)["type"]).removeprefix("/problems/")


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"reached")]})
    await send({"type": "http.response.body", "body": (request_id_of(scope) or "none").encode()})


async def ask(
    *headers: tuple[bytes, bytes],
    method: str = "GET",
    target: str = "/api/v1/engines",
    app: Any = fine,
    policy: Policy | None = None,
    host: tuple[bytes, bytes] | None = HOST,
    scheme: str = "http",
) -> Answered:
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "scheme": scheme,
        "path": path.replace("%00", "\0"),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [*([host] if host else []), *headers],
    }
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    await Guard(app, policy)(scope, receive, send)
    return Answered(sent)


@pytest.mark.parametrize("host", [b"localhost", b"LocalHost:1", b"127.0.0.1:39731", b"[::1]", b"[::1]:39731"])
async def test_loopback_names_are_served_with_any_port(host: bytes) -> None:
    assert (await ask(host=(b"host", host))).status == 200


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"localhost.evil.example",
        b"localhost:80:80",
        b"localhost:",
        b"user@localhost",
        b"",
        b"::1",
        b"localhost ",
        b"127.0.0.1.",
        b"0x7f.1",
    ],
)
async def test_any_other_host_is_misdirected(host: bytes) -> None:
    answered = await ask(host=(b"host", host))
    assert (answered.status, answered.slug) == (421, "misdirected-host")


@pytest.mark.parametrize(
    "address, hosts",
    [("House.example", {"house.example"}), ("fd00::1", {"[fd00::1]"}), ("0.0.0.0", set()), ("::", set())],
)
def test_a_server_is_called_by_its_address_unless_that_is_every_address(address: str, hosts: set[str]) -> None:
    assert hosts_of(address) == hosts


async def test_a_request_without_host_is_misdirected() -> None:
    assert (await ask(host=None)).status == 421


async def test_two_hosts_are_malformed_and_close() -> None:
    answered = await ask(HOST)
    assert (answered.status, answered.slug, answered.headers[b"connection"]) == (400, "malformed-request", b"close")


async def test_a_configured_host_is_served() -> None:
    assert (await ask(host=(b"host", b"House.example:1"), policy=Policy(hosts={"house.example"}))).status == 200


@pytest.mark.parametrize("target", ["http://localhost/", "?a", "*", "x", "/a%00b"])
async def test_a_target_that_is_no_plain_path_is_malformed(target: str) -> None:
    assert (await ask(target=target)).slug == "malformed-request"


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
async def test_connect_and_trace_are_refused_with_what_is_allowed(method: str) -> None:
    answered = await ask(method=method, target="/" if method == "TRACE" else "a:1")
    assert (answered.status, answered.slug) == (405, "method-not-allowed")
    assert b"GET" in answered.headers[b"allow"]


@pytest.mark.parametrize(
    "headers, status",
    [
        ([(b"origin", b"http://localhost:39731")], 200),
        ([(b"origin", b"https://localhost:39731")], 403),
        ([(b"origin", b"http://localhost:1")], 403),
        ([(b"origin", b"http://evil.example")], 403),
        ([(b"origin", b"null")], 403),
        ([(b"origin", b"")], 403),
        ([(b"origin", b"https://app.example")], 200),
        ([(b"origin", b"https://app.example.evil.example")], 403),
        ([(b"origin", b"https://app.example"), (b"sec-fetch-site", b"cross-site")], 200),
        ([(b"origin", b"https://app.example"), (b"origin", b"http://evil.example")], 403),
        ([(b"sec-fetch-site", b"same-origin")], 200),
        ([(b"sec-fetch-site", b"none")], 200),
        ([(b"sec-fetch-site", b"same-site")], 403),
        ([(b"sec-fetch-site", b"cross-site")], 403),
        ([(b"sec-fetch-site", b"none"), (b"sec-fetch-site", b"cross-site")], 403),
        ([(b"origin", b"http://localhost:39731"), (b"sec-fetch-site", b"cross-site")], 403),
    ],
)
async def test_a_page_may_call_from_here_or_from_a_configured_origin(
    headers: list[tuple[bytes, bytes]], status: int
) -> None:
    answered = await ask(*headers, policy=Policy(origins=("https://app.example",)))
    assert answered.status == status
    assert status == 200 or answered.slug == "origin-not-allowed"
    listed = headers[0] == LISTED and status == 200
    assert any(name.startswith(b"access-control") for name in answered.fields) == listed


PREFLIGHT = (b"access-control-request-method", b"DELETE")
LISTED = (b"origin", b"https://app.example")
OPEN = Policy(origins=("https://app.example",))


async def test_a_listed_origin_may_read_answers_and_errors() -> None:
    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        raise InvalidState("Resume it.")

    for answered in (
        await ask(LISTED, policy=OPEN),
        await ask(LISTED, policy=OPEN, app=refuses),
        await ask(LISTED, policy=OPEN, target="/" + "x" * 5000),
        await ask(LISTED, policy=OPEN, target="/health/live"),
    ):
        assert answered.headers[b"access-control-allow-origin"] == b"https://app.example"
        assert b"access-control-allow-credentials" not in answered.headers
        shown = answered.headers[b"access-control-expose-headers"].decode().split(", ")
        assert {"Location", "Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-Id"} <= set(shown)
        assert answered.headers[b"vary"] == b"Origin"


async def test_who_is_not_listed_gets_no_cors_header_at_all() -> None:
    for policy, headers in ((OPEN, []), (OPEN, [(b"origin", b"http://evil.example"), PREFLIGHT]), (None, [LISTED])):
        for method in ("GET", "OPTIONS"):
            answered = await ask(*headers, policy=policy, method=method)
            assert not any(name.startswith(b"access-control") for name in answered.fields)
            assert (b"vary" in answered.headers) == (policy is OPEN)


async def test_a_preflight_of_a_listed_origin_never_reaches_the_app() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    answered = await ask(LISTED, PREFLIGHT, policy=OPEN, method="OPTIONS", app=app)
    assert (answered.status, answered.body) == (204, b"")
    assert b"DELETE" in answered.headers[b"access-control-allow-methods"]
    sent = answered.headers[b"access-control-allow-headers"].decode().split(", ")
    assert {"Authorization", "Idempotency-Key", "Last-Event-ID", "Prefer", "traceparent"} <= set(sent)
    assert answered.headers[b"access-control-max-age"] == b"600"
    assert SECURITY.items() <= answered.headers.items()


async def test_what_only_resembles_a_preflight_goes_on_to_the_app() -> None:
    for headers in ([LISTED], [PREFLIGHT], [(b"origin", b"http://localhost:39731"), PREFLIGHT]):
        assert (await ask(*headers, policy=OPEN, method="OPTIONS")).headers[b"x-app"] == b"reached"
    assert (await ask(LISTED, PREFLIGHT, policy=OPEN)).headers[b"x-app"] == b"reached"


async def test_hsts_is_told_over_tls_and_never_for_loopback() -> None:
    name = b"strict-transport-security"
    policy = Policy(hosts={"house.example", "localhost"})
    house = (b"host", b"house.example:8443")
    assert (await ask(host=house, policy=policy, scheme="https")).headers[name] == b"max-age=31536000"
    assert name not in (await ask(host=house, policy=policy)).headers
    assert name not in (await ask(policy=policy, scheme="https")).headers
    assert name not in (await ask(host=(b"host", b"evil.example"), policy=policy, scheme="https")).headers


async def test_a_page_is_denied_what_it_might_ask_of_the_browser() -> None:
    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b""})

    assert b"camera=()" in (await ask(app=page)).headers[b"permissions-policy"]
    assert b"permissions-policy" not in (await ask()).headers


async def test_sizes_are_exact() -> None:
    path = "/" + "x" * 4091
    assert (await ask(target=path + "?abc")).status == 200
    assert (await ask(target=path + "?abcd")).status == 414
    assert (await ask(*[(b"x", b"1")] * 63)).status == 200
    assert (await ask(*[(b"x", b"1")] * 64)).status == 431
    room = 16_384 - len(HOST[0]) - len(HOST[1]) - 4 - 1 - 4
    assert (await ask((b"x", b"1" * room))).status == 200
    answered = await ask((b"x", b"1" * (room + 1)))
    assert (answered.status, answered.slug) == (431, "too-large")


async def test_the_first_check_that_fails_answers() -> None:
    wrong: list[tuple[int, dict[str, Any]]] = [
        (400, {"target": "x" * 5000}),
        (421, {"host": (b"host", b"evil.example"), "target": "/" + "x" * 5000}),
        (405, {"host": HOST, "method": "TRACE"}),
        (403, {"method": "GET"}),
    ]
    asked: dict[str, Any] = {"host": (b"host", b"evil.example"), "method": "TRACE"}
    for status, change in wrong:
        asked |= change
        assert (await ask((b"origin", b"null"), **asked)).status == status
    assert (await ask(target="/" + "x" * 5000)).status == 414


async def test_a_refused_request_never_reaches_the_app() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    with capture_logs() as logs:
        assert (await ask((b"origin", b"null"), app=app)).status == 403
    assert logs == []


async def test_every_answer_is_hardened() -> None:
    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        raise InvalidState("Resume it.")

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    with capture_logs():
        answers = [
            await ask(),
            await ask(target="/health/live"),
            await ask(host=None),
            await ask((b"origin", b"null")),
            await ask(app=refuses),
            await ask(app=fails),
        ]
    assert [answered.status for answered in answers] == [200, 200, 421, 403, 409, 500]
    for answered in answers:
        assert SECURITY.items() <= answered.headers.items()
        assert len(answered.fields) == len(set(answered.fields))
        assert len(answered.headers[b"x-request-id"]) >= 16


async def test_a_page_brings_its_own_policy_but_is_never_framed() -> None:
    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        csp = PAGE_CSP.encode() if scope["path"] == "/whole" else b"default-src 'self';"
        headers = [(b"Content-Security-Policy", csp), (b"cache-control", b"max-age=60")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    own = await ask(app=page, target="/own")
    assert own.headers[b"content-security-policy"] == b"default-src 'self'; frame-ancestors 'none'"
    assert own.headers[b"cache-control"] == b"max-age=60"
    assert (await ask(app=page, target="/whole")).headers[b"content-security-policy"].count(b"frame-ancestors") == 1


@pytest.mark.parametrize("sent", [b"a", b"0192-abc.def:1_2", b"x" * 128])
async def test_a_valid_request_id_is_echoed_and_told_to_the_app(sent: bytes) -> None:
    answered = await ask((b"x-request-id", sent))
    assert (answered.headers[b"x-request-id"], answered.body) == (sent, sent)


@pytest.mark.parametrize("sent", [b"", b"x" * 129, b"a b", b"a\xff", b"<script>"])
async def test_any_other_request_id_is_replaced(sent: bytes) -> None:
    answered = await ask((b"x-request-id", sent))
    assert answered.headers[b"x-request-id"] != sent
    assert answered.headers[b"x-request-id"] == answered.body


async def test_live_is_answered_by_the_guard_itself() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    answered = await ask(target="/health/live", app=app)
    assert (answered.status, json.loads(answered.body)) == (200, {"status": "live"})
    assert (await ask(target="/health/live", method="POST", app=app)).status == 405


async def test_an_error_after_the_answer_began_goes_on() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await fine(scope, receive, send)
        raise InvalidState("Too late.")

    with pytest.raises(InvalidState):
        await ask(app=app)


# Bodies.


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"application/json")],
        [(b"content-type", b"Application/JSON; charset=UTF-8")],
        [(b"content-type", b'application/json;charset="utf-8"')],
    ],
)
def test_plain_json_is_taken(headers: list[tuple[bytes, bytes]]) -> None:
    require_json(headers)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"application/jsonp")],
        [(b"content-type", b"application/json; charset=latin-1")],
        [(b"content-type", b"application/x-www-form-urlencoded")],
        [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")],
        [(b"content-type", b"application/json"), (b"content-encoding", b"identity")],
    ],
)
def test_any_other_body_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(UnsupportedMediaType):
        require_json(headers)


@pytest.mark.parametrize(
    "headers, there",
    [
        ([], False),
        ([(b"content-length", b"0")], False),
        ([(b"content-length", b"00")], False),
        ([(b"content-length", b"10")], True),
        ([(b"transfer-encoding", b"chunked")], True),
    ],
)
def test_a_body_is_announced_by_its_framing(headers: list[tuple[bytes, bytes]], there: bool) -> None:
    assert has_body(headers) is there


def _receiving(*messages: Message) -> Receive:
    left = list(messages)

    async def receive() -> Message:
        return left.pop(0)

    return receive


async def test_a_body_is_read_up_to_its_limit_and_no_further() -> None:
    part = {"type": "http.request", "body": b"12345", "more_body": True}
    end = {"type": "http.request", "body": b"", "more_body": False}
    assert await read_body(_receiving(part, part, end), [], Limits(body_bytes=10)) == b"1234512345"
    with pytest.raises(TooLarge):
        await read_body(_receiving(part, part), [], Limits(body_bytes=9))
    with pytest.raises(TooLarge):
        await read_body(_receiving(), [(b"content-length", b"10")], Limits(body_bytes=9))
    with pytest.raises(ClientGone):
        await read_body(_receiving(part, {"type": "http.disconnect"}), [], Limits())
