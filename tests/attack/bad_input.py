"""What bad input gets, as data: one cell for each kind of it, and what it brings about on a real daemon.

Every slug of the house is here with every status that it can have. A cell that no request can bring about names the
test that does instead, and why not; one without tests waits for what does not exist yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from unittest.mock import ANY

import trio

from tests.attack.target import ANSWER_S, Target
from tests.attack.wire import Answer, Line, request

API: Final = "/api/v1"
ENGINES: Final = f"{API}/engines"
LIVE: Final = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n"
JSON: Final = "Content-Type: application/json"

CONNECTIONS: Final = 150
LIMITS: Final = {
    "ENGINEHOUSE_LIMITS__BODY_S": "2",
    "ENGINEHOUSE_LIMITS__CONNECTIONS": str(CONNECTIONS),
    "ENGINEHOUSE_WEBHOOKS__ALLOW": "127.0.0.1",
}
"""What the daemon of this table is started with."""

Maker = Callable[[Target], Awaitable[Answer]]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """`brings`: sends it and gives the answer. `headers`: name to what its value holds; `members`: of the problem."""

    status: int
    slug: str
    brings: Maker
    headers: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """`tests`: `path::name` of what proves it; `why` no request does. `status` None: it is not told over HTTP."""

    status: int | None
    slug: str = ""
    tests: tuple[str, ...] = ()
    why: str


# -- how it is sent ---------------------------------------------------------------------------------------------------


def asks(method: str, target: str, body: Any = None, *lines: str, **more: Any) -> Maker:
    """One request, as the admin where `more` does not say otherwise."""

    async def bring(target_: Target) -> Answer:
        return await target_.ask(method, target, body, *lines, **more)

    return bring


def torn(sent: bytes) -> Maker:
    """Bytes after whose answer the connection ends."""

    async def bring(target: Target) -> Answer:
        line = await Line.open(target.port)
        try:
            await line.send(sent)
            with trio.fail_after(ANSWER_S):
                answer = await line.answer()
                assert not await line.more(), "the connection stays open"
        finally:
            line.close()
        assert answer is not None
        return answer

    return bring


def posts(body: bytes) -> Maker:
    """A body for a new engine."""
    return asks("POST", ENGINES, body)


def on_engine(method: str, path: str, body: Any = None, **spec: Any) -> Maker:
    """The same of a new engine, whose id is where `path` has {engine}."""

    async def bring(target: Target) -> Answer:
        engine = await target.engine(**spec)
        return await target.ask(method, path.format(engine=engine), body)

    return bring


# -- what needs more than one request ----------------------------------------------------------------------------------


async def expired(target: Target) -> Answer:
    key = await target.key("read", expires_in_s=0.001)
    return await target.ask("GET", ENGINES, key=key)


async def another_tenants(target: Target) -> Answer:
    engine = await target.engine()
    await target.ask("POST", f"{API}/pools", {"id": "theirs"})
    return await target.ask("GET", f"{ENGINES}/{engine}", key=await target.key("read", pools=["theirs"]))


async def without_scope(target: Target) -> Answer:
    return await target.ask("POST", ENGINES, {"kind": "probe"}, key=await target.key("read"))


async def another_body(target: Target) -> Answer:
    engine = await target.engine()
    runs, key = f"{ENGINES}/{engine}/runs", f"Idempotency-Key: {engine}"
    await target.ask("POST", runs, {"input": "first"}, key)
    return await target.ask("POST", runs, {"input": "second"}, key)


async def key_in_flight(target: Target) -> Answer:
    """A receiver that does not answer keeps the first request with this key waiting."""
    asked = trio.Event()

    async def says_nothing(stream: trio.SocketStream) -> None:
        asked.set()
        async with stream:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, says_nothing, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
        hook = (await target.ask("POST", f"{API}/webhooks", {"url": url})).json["id"]
        test, key = f"{API}/webhooks/{hook}/test", "Idempotency-Key: once"
        nursery.start_soon(target.ask, "POST", test, None, key)
        with trio.fail_after(ANSWER_S):
            await asked.wait()
        second = await target.ask("POST", test, None, key)
        nursery.cancel_scope.cancel()
    await target.ask("DELETE", f"{API}/webhooks/{hook}")
    return second


async def busy(target: Target, **spec: Any) -> tuple[str, str]:
    """An engine with a run in hand, and that run."""
    engine = await target.engine(**spec)
    run = await target.run(engine, {"steps": 1, "step_s": 3600}, wait_s=0)
    with trio.fail_after(ANSWER_S):
        while (await target.ask("GET", f"{API}/runs/{run['id']}")).json["status"] == "queued":
            await target.ask("GET", f"{API}/events?wait_s=1", None, "Accept: application/json")
    return engine, str(run["id"])


async def dispose_of_a_busy_one(target: Target) -> Answer:
    engine, run = await busy(target)
    answer = await target.ask("DELETE", f"{ENGINES}/{engine}")
    assert answer.json["active_run"] == run
    return answer


async def run_beside_another(target: Target) -> Answer:
    engine, run = await busy(target)
    answer = await target.ask("POST", f"{ENGINES}/{engine}/runs", {"input": "x", "on_busy": "reject"})
    assert answer.json["active_run"] == run
    return answer


async def asking(target: Target, engine: str, **ask: Any) -> dict[str, Any]:
    """The open request of a run that asks."""
    plan = {"ask_at": 1, "ask": {"kind": "approval", **ask}}
    run = await target.run(engine, plan, wait_s=0)
    with trio.fail_after(ANSWER_S):
        while True:
            found = (await target.ask("GET", f"{ENGINES}/{engine}/requests")).json["items"]
            for request in found:
                if request["run_id"] == run["id"]:
                    return dict(request)
            await target.ask("GET", f"{API}/events?wait_s=1", None, "Accept: application/json")


async def decide(target: Target, request: Mapping[str, Any], **reply: Any) -> Answer:
    return await target.ask("POST", f"{API}/requests/{request['id']}/reply", {"option": "approve", **reply})


async def decided_twice(target: Target) -> Answer:
    request = await asking(target, await target.engine())
    assert (await decide(target, request, option="reject")).status == 200
    return await decide(target, request)


async def decided_from_memory(target: Target) -> Answer:
    """Of what is not asked any more in these words."""
    return await decide(target, await asking(target, await target.engine()), digest="sha256:of something else")


async def decided_too_late(target: Target) -> Answer:
    engine = await target.engine()
    request = await asking(target, engine)
    await target.ask("POST", f"{API}/runs/{request['run_id']}/cancel", None, "Prefer: wait=30")
    return await decide(target, request)


async def approved_after_its_deadline(target: Target) -> Answer:
    request = await asking(target, await target.engine(), deadline_s=0.05)
    address = f"{API}/requests/{request['id']}"
    with trio.fail_after(ANSWER_S):
        while (await target.ask("GET", address)).json["state"] == "pending":
            await target.ask("GET", f"{API}/events?wait_s=1&types=request", None, "Accept: application/json")
    return await decide(target, request)


async def approve_which(target: Target) -> Answer:
    engine = await target.engine("twice")
    await target.run(engine, None, wait_s=0)
    with trio.fail_after(ANSWER_S):
        while len((await target.ask("GET", f"{ENGINES}/{engine}/requests")).json["items"]) < 2:
            await target.ask("GET", f"{API}/events?wait_s=1&types=request", None, "Accept: application/json")
    return await target.ask("POST", f"{ENGINES}/{engine}/commands", {"type": "approve"})


async def full_mailbox(target: Target) -> Answer:
    engine = await target.engine(mailbox_size=1)
    await target.ask("POST", f"{ENGINES}/{engine}/commands", {"type": "pause"}, "Prefer: wait=30")
    await target.run(engine, wait_s=0)
    return await target.ask("POST", f"{ENGINES}/{engine}/runs", {"input": "one more"})


async def slow_body(target: Target) -> Answer:
    lines = (JSON, f"Authorization: Bearer {target.admin}", "Content-Length: 100")
    return await torn(request("POST", ENGINES, *lines) + b"{")(target)


async def exists_already(target: Target) -> Answer:
    return await target.ask("POST", ENGINES, {"kind": "probe", "id": await target.engine()})


async def user_exists_already(target: Target) -> Answer:
    body = {"name": "twin", "password": "a password of somebody", "scopes": ["read"]}
    await target.ask("POST", f"{API}/auth/users", body)
    return await target.ask("POST", f"{API}/auth/users", body)


async def too_often(target: Target) -> Answer:
    key = await target.key("read", rate_per_min=1)
    await target.ask("GET", ENGINES, key=key)
    return await target.ask("GET", ENGINES, key=key)


async def too_many_logins(target: Target) -> Answer:
    body = {"username": "nobody", "password": "not the password"}
    while (answer := await target.ask("POST", f"{API}/auth/login", body, key=None)).status == 401:
        pass
    return answer


async def too_many_streams(target: Target) -> Answer:
    key = await target.key("read")
    lines = []
    try:
        for _ in range(16):
            line = await Line.open(target.port)
            lines.append(line)
            await line.send(request("GET", f"{API}/events", f"Authorization: Bearer {key}"))
            await line.more()
        return await target.ask("GET", f"{API}/events", key=key)
    finally:
        for line in lines:
            line.close()


async def full_pool(target: Target) -> Answer:
    await target.ask("POST", f"{API}/pools", {"id": "small", "max_engines": 1})
    await target.ask("POST", ENGINES, {"kind": "probe", "pool": "small"})
    return await target.ask("POST", ENGINES, {"kind": "probe", "pool": "small"})


async def used_up_pool(target: Target) -> Answer:
    await target.ask("POST", f"{API}/pools", {"id": "slow", "quotas": {"runs_per_minute": 1}})
    engine = await target.engine(pool="slow")
    await target.run(engine, wait_s=0)
    return await target.ask("POST", f"{ENGINES}/{engine}/runs", {"input": "one more"})


async def pool_with_engines(target: Target) -> Answer:
    await target.ask("POST", f"{API}/pools", {"id": "lived-in"})
    await target.engine(pool="lived-in")
    return await target.ask("DELETE", f"{API}/pools/lived-in")


async def draining(target: Target) -> Answer:
    await target.ask("POST", f"{API}/pools", {"id": "leaving"})
    engine = await target.engine(pool="leaving")
    await target.ask("POST", f"{API}/pools/leaving/commands", {"type": "drain"})
    return await target.ask("POST", ENGINES, {"kind": "probe", "pool": "leaving", "id": f"{engine}-more"})


async def beyond_the_output(target: Target) -> Answer:
    run = await target.run(await target.engine(), {"output_bytes": 10})
    return await target.ask("GET", f"{API}/runs/{run['id']}/output", None, "Range: bytes=100-")


async def disposed(target: Target) -> Answer:
    engine = await target.engine()
    await target.ask("DELETE", f"{ENGINES}/{engine}?force=true")
    return await target.ask("POST", f"{ENGINES}/{engine}/runs", {"input": "x"})


async def future_position(target: Target) -> Answer:
    latest = (await target.ask("GET", f"{API}/events", None, "Accept: application/json")).json["latest"]
    era = latest.partition(".")[0]
    return await target.ask("GET", f"{API}/events", None, f"Last-Event-ID: {era}.999999999")


async def stopped(target: Target) -> Answer:
    engine = await target.engine()
    await target.ask("POST", f"{ENGINES}/{engine}/commands", {"type": "stop"}, "Prefer: wait=30")
    return await target.ask("POST", f"{ENGINES}/{engine}/runs", {"input": "x"})


async def takes_no_runs(target: Target) -> Answer:
    """A program that is the work itself has no command for more of it."""
    engine = await target.engine("process", config={"argv": ["sleep", "3600"], "protocol": "none"})
    answer = await target.ask("POST", f"{ENGINES}/{engine}/runs", {"input": "x"})
    await target.ask("DELETE", f"{ENGINES}/{engine}?force=true")
    return answer


async def crowded(target: Target) -> Answer:
    """One connection more than there may be."""
    lines: list[Line] = []
    try:
        with trio.fail_after(ANSWER_S):
            while True:
                line = await Line.open(target.port)
                lines.append(line)
                await line.send(LIVE + b"\r\n")
                answer = await line.answer()
                assert answer is not None
                if answer.status != 200:
                    assert len(lines) <= CONNECTIONS + 1
                    return answer
    finally:
        for line in lines:
            line.close()


# -- the table ---------------------------------------------------------------------------------------------------------

BEARER: Final = {"www-authenticate": 'Bearer realm="enginehouse"'}
CLOSES: Final = {"connection": "close"}
ERRORS: Final = {"errors": ANY}
POSITIONS: Final = {"oldest": ANY, "latest": ANY}
SOON: Final = {"retry-after": ""}

CELLS: Final[Mapping[str, Cell]] = {
    # malformed HTTP
    "CL and TE": Cell(status=400, slug="malformed-request", headers=CLOSES, brings=torn(b"POST /api/v1/engines HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
    "a bare LF": Cell(status=400, slug="malformed-request", headers=CLOSES, brings=torn(LIVE + b"X-A: a\nX-B: b\r\n\r\n")),
    "two Hosts": Cell(status=400, slug="malformed-request", headers=CLOSES, brings=torn(LIVE + b"Host: 127.0.0.1\r\n\r\n")),
    "a NUL": Cell(status=400, slug="malformed-request", headers=CLOSES, brings=torn(LIVE + b"X-A: a\0b\r\n\r\n")),
    # whose page
    "an unknown Host": Cell(status=421, slug="misdirected-host", brings=asks("GET", ENGINES, host="evil.example")),
    "a foreign Origin": Cell(status=403, slug="origin-not-allowed", brings=asks("GET", ENGINES, None, "Origin: https://evil.example")),
    "a cross-site fetch": Cell(status=403, slug="origin-not-allowed", brings=asks("GET", ENGINES, None, "Sec-Fetch-Site: cross-site")),
    # whose credentials
    "no credentials": Cell(status=401, slug="unauthenticated", headers=BEARER, brings=asks("GET", ENGINES, key=None)),
    "bad credentials": Cell(status=401, slug="unauthenticated", headers=BEARER, brings=asks("GET", ENGINES, key="guessed")),
    "expired credentials": Cell(status=401, slug="token-expired", headers={"www-authenticate": 'error="invalid_token"'}, brings=expired),
    "a missing scope": Cell(status=403, slug="insufficient-scope", members={"scope": "operate"}, brings=without_scope),
    "another tenant's engine": Cell(status=404, slug="not-found", brings=another_tenants),
    # what is asked
    "a method that the route does not take": Cell(status=405, slug="method-not-allowed", headers={"allow": "GET"}, brings=asks("DELETE", f"{API}/kinds")),
    "CONNECT": Cell(status=405, slug="method-not-allowed", headers={"allow": "GET, HEAD, POST"}, brings=asks("CONNECT", "127.0.0.1:80")),
    "TRACE": Cell(status=405, slug="method-not-allowed", headers={"allow": "GET, HEAD, POST"}, brings=asks("TRACE", ENGINES)),
    # the form of the body
    "a body that is not JSON": Cell(status=415, slug="unsupported-media-type", brings=asks("POST", ENGINES, b"kind=probe", "Content-Type: application/x-www-form-urlencoded")),
    "a body without a content type": Cell(status=415, slug="unsupported-media-type", brings=asks("POST", ENGINES, b"{}", "Content-Type: ")),
    "a Content-Encoding": Cell(status=415, slug="unsupported-media-type", brings=asks("POST", ENGINES, b"\x1f\x8b", JSON, "Content-Encoding: gzip")),
    "bad UTF-8": Cell(status=400, slug="invalid-json", brings=posts(b'{"kind":"\xff"}')),
    "NaN": Cell(status=400, slug="invalid-json", brings=posts(b'{"kind":NaN}')),
    "a lone surrogate": Cell(status=400, slug="invalid-json", brings=posts(b'{"kind":"\\ud800"}')),
    "a duplicate key": Cell(status=400, slug="invalid-json", brings=posts(b'{"kind":"probe","kind":"probe"}')),
    "nested too deep": Cell(status=400, slug="invalid-json", brings=posts(b'{"config":' + b"[" * 65 + b"]" * 65 + b"}")),
    "a huge integer": Cell(status=400, slug="invalid-json", brings=posts(b'{"mailbox_size":' + b"9" * 301 + b"}")),
    "no body where there must be one": Cell(status=400, slug="invalid-json", brings=asks("POST", ENGINES)),
    # its meaning
    "a schema error": Cell(status=422, slug="validation-failed", members=ERRORS, brings=posts(b'{"kind":1}')),
    "an unknown member": Cell(status=422, slug="validation-failed", members=ERRORS, brings=posts(b'{"kind":"probe","colour":"red"}')),
    "an unknown parameter": Cell(status=422, slug="validation-failed", members=ERRORS, brings=asks("GET", f"{ENGINES}?colour=red")),
    "an Idempotency-Key that is none": Cell(status=422, slug="validation-failed", members=ERRORS, brings=asks("POST", ENGINES, {"kind": "probe"}, "Idempotency-Key: a b")),
    "a key reused with another body": Cell(status=422, slug="idempotency-mismatch", brings=another_body),
    "a command that no version knows": Cell(status=422, slug="unsupported-command", members=ERRORS, brings=on_engine("POST", ENGINES + "/{engine}/commands", {"type": "levitate"})),
    "a command that this kind does not know": Cell(status=422, slug="unsupported-command", brings=takes_no_runs),
    "an unknown kind": Cell(status=422, slug="unknown-kind", members={"known": ANY}, brings=posts(b'{"kind":"nobody"}')),
    # its size and its pace
    "a body that is too large": Cell(status=413, slug="too-large", brings=posts(b'{"kind":"' + b"x" * (1 << 20) + b'"}')),
    "a URI that is too long": Cell(status=414, slug="too-large", brings=asks("GET", f"{ENGINES}?cursor={'a' * 5000}")),
    "headers that are too large": Cell(status=431, slug="too-large", brings=asks("GET", ENGINES, None, f"X-A: {'a' * 17_000}")),
    "too many headers": Cell(status=431, slug="too-large", brings=asks("GET", ENGINES, None, *[f"X-{n}: 1" for n in range(100)])),
    "a slow header": Cell(status=408, slug="request-timeout", headers=CLOSES, brings=torn(LIVE)),
    "a slow body": Cell(status=408, slug="request-timeout", headers=CLOSES, brings=slow_body),
    # another state is needed
    "an illegal transition": Cell(status=409, slug="invalid-state", members={"state": "stopped", "allowed": ANY}, brings=stopped),
    "an engine that exists": Cell(status=409, slug="engine-exists", brings=exists_already),
    "a user who exists": Cell(status=409, slug="user-exists", brings=user_exists_already),
    "a busy engine": Cell(status=409, slug="engine-busy", members={"active_run": ANY}, brings=dispose_of_a_busy_one),
    "a run beside another": Cell(status=409, slug="run-conflict", members={"active_run": ANY, "events_url": ANY}, brings=run_beside_another),
    "decided already": Cell(status=409, slug="already-decided", members={"decision": ANY}, brings=decided_twice),
    "a stale approval": Cell(status=409, slug="approval-stale", members={"digest": ANY}, brings=decided_from_memory),
    "a key in flight": Cell(status=409, slug="idempotency-in-flight", members={"retry_after_s": 1}, brings=key_in_flight),
    "approve with none pending": Cell(status=409, slug="nothing-pending", brings=on_engine("POST", ENGINES + "/{engine}/commands", {"type": "approve"})),
    "approve with several pending": Cell(status=409, slug="ambiguous-request", members={"pending": [ANY, ANY]}, brings=approve_which),
    "a request that expired": Cell(status=409, slug="request-closed", brings=approved_after_its_deadline),
    "a request that was withdrawn": Cell(status=409, slug="request-closed", brings=decided_too_late),
    "a pool that is not empty": Cell(status=409, slug="pool-busy", brings=pool_with_engines),
    "a pool that drains": Cell(status=503, slug="draining", headers=SOON, brings=draining),
    "a range that cannot be": Cell(status=416, slug="range-not-satisfiable", members={"size_bytes": 10}, brings=beyond_the_output),
    # it is not there, or not any more
    "an unknown engine": Cell(status=404, slug="not-found", brings=asks("GET", f"{ENGINES}/nobody")),
    "an unknown run": Cell(status=404, slug="not-found", brings=asks("GET", f"{API}/runs/run_0")),
    "an unknown request": Cell(status=404, slug="not-found", brings=asks("GET", f"{API}/requests/req_0")),
    "an unknown slice": Cell(status=404, slug="unknown-slice", brings=on_engine("GET", ENGINES + "/{engine}/state/nothing")),
    "an unknown kind to look at": Cell(status=404, slug="not-found", brings=asks("GET", f"{API}/kinds/nobody")),
    "an unknown address": Cell(status=404, slug="not-found", brings=asks("GET", f"{API}/nowhere")),
    "a disposed engine": Cell(status=410, slug="engine-disposed", brings=disposed),
    "an event id of another era": Cell(status=410, slug="event-id-expired", members=POSITIONS, brings=asks("GET", f"{API}/events", None, "Last-Event-ID: 00000000.1")),
    "an event id of the future": Cell(status=400, slug="invalid-event-id", brings=future_position),
    "a malformed event id": Cell(status=400, slug="invalid-event-id", brings=asks("GET", f"{API}/events", None, "Last-Event-ID: yesterday")),
    # a limit
    "a full mailbox": Cell(status=429, slug="mailbox-full", headers=SOON, members={"retry_after_s": 1}, brings=full_mailbox),
    "too many requests": Cell(status=429, slug="rate-limited", headers={**SOON, "ratelimit": "", "ratelimit-policy": ""}, members={"retry_after_s": ANY}, brings=too_often),
    "too many failed logins": Cell(status=429, slug="rate-limited", headers=SOON, brings=too_many_logins),
    "too many streams": Cell(status=429, slug="rate-limited", headers=SOON, brings=too_many_streams),
    "a full pool": Cell(status=429, slug="quota-exceeded", headers=SOON, brings=full_pool),
    "a pool's used-up quota": Cell(status=429, slug="quota-exceeded", headers=SOON, brings=used_up_pool),
    "too many connections": Cell(status=503, slug="overloaded", headers={**SOON, **CLOSES}, brings=crowded),
}  # fmt: skip

ELSEWHERE: Final[Mapping[str, Elsewhere]] = {
    "a trimmed event id": Elsewhere(
        status=410,
        slug="event-id-expired",
        tests=("tests/supervisor/test_streams.py::test_future_foreign_and_trimmed_positions",),
        why="no request trims the journal",
    ),
    "a full disk": Elsewhere(
        status=507,
        slug="storage-full",
        tests=("tests/attack/test_bad_input_table.py::test_a_disk_that_breaks_is_told_and_ends_the_house",),
        why="it needs a disk that breaks",
    ),
    "a store that failed": Elsewhere(
        status=503,
        slug="store-unavailable",
        tests=("tests/attack/test_bad_input_table.py::test_a_disk_that_breaks_is_told_and_ends_the_house",),
        why="it needs a disk that breaks",
    ),
    "closing": Elsewhere(
        status=503,
        slug="shutting-down",
        tests=("tests/attack/test_bad_input_table.py::test_a_stream_that_begins_while_the_house_closes",),
        why="the daemon ends with it",
    ),
    "a wrong config file": Elsewhere(
        status=None,
        tests=(
            "tests/web/test_daemon.py::test_a_wrong_configuration_is_78_and_one_sentence",
            "tests/web/test_settings.py::test_a_wrong_value_is_told_with_its_place_its_key_and_what_is_allowed",
            "tests/web/test_settings.py::test_a_wrong_key_is_told_with_the_keys_that_are_there",
        ),
        why="there is no daemon to ask: exit code 78 and one sentence",
    ),
    "a bug": Elsewhere(
        status=500,
        slug="internal",
        tests=(
            "tests/web/test_checks.py::test_a_bug_is_500_with_an_error_id_and_says_nothing_else",
            "tests/web/test_problems.py::test_a_bug_is_logged_with_its_cause_and_leaks_nothing",
        ),
        why="there is none that is known",
    ),
    "a model upstream that failed": Elsewhere(
        status=502,
        slug="upstream-error",
        why="no route asks a model yet; those that will answer 504 and 529 with this slug too",
    ),
}
