"""A daemon as it is watched from outside: its metrics, the spans it sends, the lines it writes; and that none of these
can keep it from ending.
"""

import http.server
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from protocol.bodies import NewEngine, NewRun
from tests.logs import logged
from tests.web.reading import read
from web.client import open_remote
from web.client.remote import RemoteHouse

Serving = Callable[..., Any]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector(http.server.HTTPServer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiving)
        self.exports: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def spans(self) -> dict[str, Any]:
        """By name, with the service that they are of."""
        found: dict[str, Any] = {}
        for export in self.exports:
            for resource in ExportTraceServiceRequest.FromString(export).resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                assert names["service.name"] == "enginehouse"
                found |= {span.name: span for scope in resource.scope_spans for span in scope.spans}
        return found


class Receiving(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.exports.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def asked(daemon: Any, path: str, **headers: str) -> bytes:
    request = urllib.request.Request(daemon.url + path, headers={"Authorization": f"Bearer {daemon.key}", **headers})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


async def work(house: RemoteHouse) -> str:
    await house.spawn(NewEngine(kind="probe", id="a"))
    run, _ = await house.submit("a", NewRun(input="hello"), wait_s=20)
    return run.id


async def test_a_request_is_counted_logged_and_sent_as_a_span(
    serving: Serving, collector: Collector, tmp_path: Path
) -> None:
    daemon = serving(tmp_path, "--port", "0", ENGINEHOUSE_TRACES__ENDPOINT=collector.url)
    async with open_remote(daemon.url, api_key=daemon.key) as house:
        run = await work(house)
    route = "/api/v1/engines/{engine}/runs"
    found = read(await trio.to_thread.run_sync(asked, daemon, "/metrics"))
    assert found.value("enginehouse_http_requests_total", method="POST", route=route, status="2xx") == 1
    assert found.value("enginehouse_runs_ended_total", pool="default", outcome="completed") == 1
    assert found.value("enginehouse_event_loop_lag_seconds_count") >= 0  # it is there; a beat may not have passed
    assert await trio.to_thread.run_sync(daemon.stop) == 0
    spans = collector.spans()
    request, ran = spans[f"POST {route}"], spans["run probe"]
    assert (ran.trace_id, ran.parent_span_id) == (request.trace_id, request.span_id)
    (line,) = [line for line in logged(daemon.state) if line.get("route") == route]
    assert line["trace_id"] == request.trace_id.hex()
    assert (line["status"], line["principal"], line["engine_id"]) == (200, "key:admin", "a")
    assert {a.key: a.value.string_value for a in ran.attributes}["enginehouse.run_id"] == run


async def test_no_trace_is_recorded_where_the_share_is_none_but_those_of_others_are(
    serving: Serving, collector: Collector, tmp_path: Path
) -> None:
    names = {"ENGINEHOUSE_TRACES__ENDPOINT": collector.url, "ENGINEHOUSE_TRACES__SAMPLE": "0"}
    daemon = serving(tmp_path, "--port", "0", **names)
    async with open_remote(daemon.url, api_key=daemon.key) as house:
        await work(house)
    await trio.to_thread.run_sync(lambda: asked(daemon, "/api/v1/engines", traceparent=PARENT))
    assert await trio.to_thread.run_sync(daemon.stop) == 0
    assert list(collector.spans()) == ["GET /api/v1/engines"]


async def test_a_collector_that_takes_nothing_does_not_keep_the_daemon(serving: Serving, tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        daemon = serving(tmp_path, "--port", "0", ENGINEHOUSE_TRACES__ENDPOINT=url, ENGINEHOUSE_SERVER__GRACE_S="3")
        async with open_remote(daemon.url, api_key=daemon.key) as house:
            await work(house)
        assert await trio.to_thread.run_sync(daemon.stop) == 0
    assert logged(daemon.state)[-1]["event"] == "stopped"


async def test_settings_open_the_metrics_and_silence_the_lines(serving: Serving, tmp_path: Path) -> None:
    names = {"ENGINEHOUSE_METRICS__PUBLIC": "true", "ENGINEHOUSE_LOG__ACCESS": "false"}
    daemon = serving(tmp_path, "--port", "0", **names)
    async with open_remote(daemon.url, api_key=daemon.key) as house:
        await work(house)
    text = await trio.to_thread.run_sync(lambda: asked(daemon, "/metrics", Authorization=""))
    assert "enginehouse_engines" in read(text).names
    assert await trio.to_thread.run_sync(daemon.stop) == 0
    assert [line for line in logged(daemon.state) if line["event"] == "request"] == []
