"""The line that each request leaves: what is in it, at which level, and what never is."""

import json
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from protocol.errors import NotFound
from tests.web.doubles import ADMIN, Client, RecordingHouse, api, engine, page
from web.guard import Guard
from web.metrics import Requests
from web.observed import Observed
from web.traces import Traces

CANARY = "canary-7d1f"


@pytest.fixture
def house() -> RecordingHouse:
    house = RecordingHouse()
    house.gives |= {
        "list": page(),
        "get": NotFound("no"),
        "get_or_spawn": (engine(), True),
        "spawn": ValueError("a bug"),
    }
    return house


def observed(house: RecordingHouse, *, access: bool = True) -> Client:
    return Client(Observed(Guard(api(house)), Requests(), Traces(), access=access), guard=None)


async def lines(asker: Client, method: str, path: str, body: Any, **headers: str) -> list[dict[str, Any]]:
    with capture_logs() as logged:
        await asker.ask(method, path, body, headers)
    return [dict(line) for line in logged if line["event"] == "request"]


async def test_a_line_says_who_asked_what_and_what_came_of_it(house: RecordingHouse, autojump_clock: Any) -> None:
    ask = observed(house)
    (line,) = await lines(ask, "PUT", "/api/v1/pools/web/engines/k", None, x_request_id="mine")
    assert line == {
        "event": "request", "log_level": "info", "method": "PUT", "route": "/api/v1/pools/{pool}/engines/{key}",
        "pool": "web", "status": 201, "duration_ms": 0.0, "bytes": len(ask.sent[-1][2].body), "principal": "key:admin",
        "client": "127.0.0.1", "correlation_id": "mine",
    }  # fmt: skip


async def test_reads_are_debug_and_whatever_is_refused_is_info(house: RecordingHouse) -> None:
    ask = observed(house)
    (read,) = await lines(ask, "GET", "/api/v1/engines", None)
    assert read["log_level"] == "debug"
    (missing,) = await lines(ask, "GET", "/api/v1/engines/x", None)
    assert (missing["log_level"], missing["slug"], missing["engine_id"]) == ("info", "not-found", "x")
    (stranger,) = await lines(Client(ask.app, None, guard=None), "GET", "/api/v1/engines", None)
    assert (stranger["log_level"], stranger["status"], stranger["principal"]) == ("info", 401, None)
    (foreign,) = await lines(ask, "GET", "/", None, host="evil.example")
    assert (foreign["slug"], foreign["route"]) == ("misdirected-host", "unmatched")


async def test_a_line_of_a_bug_has_the_correlation_id_of_its_request(house: RecordingHouse) -> None:
    with capture_logs(processors=[_merged]) as logged:
        await observed(house).post("/api/v1/engines", {"kind": "probe"}, x_request_id="mine")
    bug, request = logged
    assert bug["event"] == "bug"
    assert bug["correlation_id"] == request["correlation_id"] == "mine"


async def test_secrets_queries_and_bodies_are_never_in_a_line(house: RecordingHouse) -> None:
    ask = observed(house)
    with capture_logs() as logged:
        await ask.get(f"/api/v1/events?ticket={CANARY}", cookie=CANARY, traceparent=CANARY)
        await ask.post(
            "/api/v1/engines", {"kind": "probe", "config": {CANARY: CANARY}}, authorization=f"Bearer {CANARY}"
        )
        await ask.get("/api/v1/engines", x_api_key=CANARY, authorization=f"Basic {CANARY}", x_request_id=f"{CANARY} ")
    assert len(logged) == 3
    text = json.dumps(logged, default=str)
    assert CANARY not in text
    assert ADMIN not in text


async def test_a_client_that_goes_away_leaves_a_line_without_a_status() -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep_forever()

    scope: Any = {"type": "http", "method": "POST", "path": "/x", "headers": [], "scheme": "http", "client": None}
    with capture_logs() as logged, trio.move_on_after(0.01):
        await Observed(never, Requests(), Traces())(scope, _nothing, _nothing)
    (line,) = logged
    assert (line["status"], line["log_level"], line["client"]) == (None, "info", "")


async def test_lines_are_left_out_when_the_settings_say_so(house: RecordingHouse) -> None:
    assert await lines(observed(house, access=False), "POST", "/api/v1/engines", None) == []


def _merged(logger: Any, method: str, event: Any) -> Any:
    from structlog.contextvars import merge_contextvars

    return merge_contextvars(logger, method, event)


async def _nothing(*_: Any) -> Any:
    await trio.sleep_forever()
