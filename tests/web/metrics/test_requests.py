"""What is counted of requests: through the app that stands around all others, whatever is asked for."""

from typing import Any

import trio

from protocol.authority import Authority, Scope
from protocol.errors import NotFound
from tests.web.doubles import Client, RecordingHouse, api, page
from tests.web.reading import Reading, read
from web.asgi import Message, Receive, Send
from web.guard import Guard
from web.metrics import Metrics, Requests
from web.observed import Observed
from web.traces import Traces

WHOLE = Authority(scopes=frozenset({Scope.READ}))


async def reading(requests: Requests) -> Reading:
    text, _ = await Metrics(requests.collect).text(WHOLE, "")
    return read(text)


def observed(requests: Requests, **gives: Any) -> Client:
    """A client whose every request is observed, also those that the guard refuses."""
    house = RecordingHouse()
    house.gives |= gives
    return Client(Observed(Guard(api(house)), requests, Traces(), access=False), guard=None)


async def test_each_request_is_counted_by_method_route_and_status() -> None:
    requests = Requests()
    ask = observed(requests, list=page())
    for _ in range(3):
        await ask.get("/api/v1/engines")
    await ask.get("/api/v1/engines?limit=0")
    await ask.post("/api/v1/engines", {"kind": 7})
    found = await reading(requests)
    name = "enginehouse_http_requests_total"
    assert found.value(name, method="GET", route="/api/v1/engines", status="2xx") == 3
    assert found.value(name, method="GET", route="/api/v1/engines", status="4xx") == 1
    assert found.value(name, method="POST", route="/api/v1/engines", status="4xx") == 1
    assert found.value("enginehouse_http_refusals_total", slug="validation-failed") == 2
    assert found.value("enginehouse_http_requests_in_flight") == 0
    assert found.value(
        "enginehouse_http_request_duration_seconds_count", method="GET", route="/api/v1/engines"
    ) == 4  # fmt: skip


async def test_hostile_paths_methods_and_ids_make_no_new_series() -> None:
    requests = Requests()
    ask = observed(requests, get=NotFound("no"))
    for n in range(20):
        for method, path in (
            ("GET", f"/nowhere/{n}"), ("GET", f"/api/v1/engines/x{n}"), (f"M{n}", "/api/v1/engines"),
            ("GET", f"/{n}?{n}={n}"), ("TRACE", f"/t{n}"), ("GET", f"/health/live/{n}"),
        ):  # fmt: skip
            await ask.ask(method, path, None, {"x_nobody": str(n)})
            await Client(ask.app, key=None, guard=None).ask(method, path, None, {"host": f"evil{n}"})
    found = await reading(requests)
    labels = found.labels("enginehouse_http_requests_total")
    assert len(labels) < 12, labels
    assert {one["route"] for one in labels} == {"unmatched", "/api/v1/engines/{engine}"}
    assert {one["method"] for one in labels} == {"GET", "_OTHER"}
    assert found.value("enginehouse_http_refusals_total", slug="misdirected-host") == 120
    slugs = {one["slug"] for one in found.labels("enginehouse_http_refusals_total")}
    assert slugs == {"not-found", "method-not-allowed", "misdirected-host"}


async def test_refused_credentials_are_counted_as_such() -> None:
    requests = Requests()
    ask = observed(requests)
    for key in (None, "wrong"):
        assert (await Client(ask.app, key, guard=None).get("/api/v1/engines")).status == 401
    assert (await ask.get("/health/live")).status == 200
    found = await reading(requests)
    assert found.value("enginehouse_auth_failures_total", slug="unauthenticated") == 2
    assert found.value("enginehouse_auth_failures_total", slug="token-expired") == 0
    assert found.value("enginehouse_http_requests_total", method="GET", route="/health/live", status="2xx") == 1


async def test_a_client_that_goes_away_is_counted_without_a_status_and_is_no_longer_in_flight() -> None:
    async def never(scope: Any, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    requests = Requests()
    app = Observed(never, requests, Traces(), access=False)
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": [], "scheme": "http"}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app, scope, _nothing, _nowhere)
        await trio.testing.wait_all_tasks_blocked()
        assert (await reading(requests)).value("enginehouse_http_requests_in_flight") == 1
        nursery.cancel_scope.cancel()
    found = await reading(requests)
    assert found.value("enginehouse_http_requests_in_flight") == 0
    assert found.value("enginehouse_http_requests_total", method="GET", route="unmatched", status="none") == 1
    assert found.labels("enginehouse_http_request_duration_seconds_count") == []


async def test_a_stream_counts_until_its_answer_begins(autojump_clock: Any) -> None:
    async def slow(scope: Any, receive: Receive, send: Send) -> None:
        await trio.sleep(0.3)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await trio.sleep(3600)
        await send({"type": "http.response.body", "body": b"over"})

    requests = Requests()
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": [], "scheme": "http"}
    await Observed(slow, requests, Traces(), access=False)(scope, _nothing, _nowhere)
    (family,) = [f async for f in requests.collect(WHOLE) if f.name == "enginehouse_http_request_duration_seconds"]
    assert [s.value for s in family.samples if s.name.endswith("_sum")] == [0.3]


async def _nothing() -> Message:
    return await trio.sleep_forever()


async def _nowhere(message: Message) -> None:
    await trio.lowlevel.checkpoint()
