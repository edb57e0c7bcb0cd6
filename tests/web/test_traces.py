"""One trace from a request through the mailbox to the run and its programs: also over a kill of the house, and without
the SDK.
"""

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from actors import Engine, RunContext, RunInput
from protocol.specs import OnInterrupt
from protocol.trace import Trace
from supervisor import Caller, NewEngine, NewRun, open_supervisor
from supervisor.store.memory import Journal, MemoryStore
from tests.supervisor.houses import journaled, killed
from tests.web.doubles import ADMIN, Client, MemoryKeys
from web.app import create_app
from web.auth import Keys
from web.guard import Guard
from web.metrics import EngineCounts, Requests
from web.observed import Observed
from web.observer import HouseObserver
from web.places import Problem
from web.traces import Traces, current_trace, exporting

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + "0"
RUNS = "/api/v1/engines/a/runs"
SHOW = "import os, json; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('TRACE')}))"


class Tracer(Engine):
    """Its runs tell which trace they are in, what a program of theirs is told, or sleep."""

    kind = "tracer"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        if run.input == "sleep":
            await ctx.sleep(1000)
        if run.input == "fail":
            raise ValueError("as told")
        current = current_trace()
        return {"ctx": ctx.trace and ctx.trace.parent, "current": current and current.parent, "attempt": run.attempt}


class Spawner(Engine):
    """Its runs start a program and give back what that one prints."""

    kind = "spawner"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        process = await ctx.spawn_process([sys.executable, "-c", SHOW], env=run.input)
        said = b""
        while data := await process.stdout.receive_some():
            said += data
        await process.wait()
        return json.loads(said)


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def recording(spans: InMemorySpanExporter) -> Iterator[Traces]:
    """Traces that are recorded in this test."""
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(1.0), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    yield Traces(provider.get_tracer("test"))
    provider.shutdown()


@asynccontextmanager
async def served(traces: Traces, **options: Any) -> AsyncIterator[Client]:
    observer = HouseObserver(EngineCounts(), traces)
    async with open_supervisor(kinds=[Tracer, Spawner], observer=observer, grace_s=1, **options) as house:
        api = create_app(house, keys=Keys(MemoryKeys(), ADMIN, wall=lambda: 0.0))
        yield Client(Observed(Guard(api), Requests(), traces, access=False), guard=None)


def named(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = [span for span in spans.get_finished_spans() if span.name == name]
    return span


async def result(ask: Client, input: Any = None, **headers: str) -> Any:
    got = await ask.post(RUNS, {"input": input}, prefer="wait=20", **headers)
    assert got.json["status"] == "completed", got.json
    return got.json["result"]


async def test_a_request_its_wait_and_its_run_are_one_trace(spans: InMemorySpanExporter, recording: Traces) -> None:
    async with served(recording) as ask:
        await ask.post("/api/v1/engines", {"kind": "tracer", "id": "a"})
        told = await result(ask, traceparent=PARENT, tracestate="vendor=1")
    request = named(spans, "POST /api/v1/engines/{engine}/runs")
    mailbox, run = named(spans, "mailbox"), named(spans, "run tracer")
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT[36:52]
    assert request.context.trace_state.to_header() == "vendor=1"
    for span in (mailbox, run):
        assert f"{span.context.trace_id:032x}" == TRACE_ID
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id
    assert told["ctx"] == told["current"] == f"00-{TRACE_ID}-{run.context.span_id:016x}-01"
    assert request.attributes == {
        "http.request.method": "POST", "http.route": "/api/v1/engines/{engine}/runs", "http.response.status_code": 200,
    }  # fmt: skip
    assert run.attributes is not None
    assert (run.attributes["enginehouse.engine_id"], run.attributes["enginehouse.outcome"]) == ("a", "completed")
    assert mailbox.end_time == run.start_time


async def test_a_request_without_a_trace_begins_one(spans: InMemorySpanExporter, recording: Traces) -> None:
    async with served(recording) as ask:
        await ask.post("/api/v1/engines", {"kind": "tracer", "id": "a"})
        for hostile in (
            "",
            "garbage",
            PARENT + ",",
            PARENT.replace("b7", "00", 1) + "-x",
            "00-" + "0" * 32 + PARENT[35:],
        ):
            spans.clear()
            await result(ask, traceparent=hostile, tracestate="vendor=1")
            run, request = named(spans, "run tracer"), named(spans, "POST /api/v1/engines/{engine}/runs")
            assert request.parent is None
            assert not request.context.trace_state
            assert run.context.trace_id == request.context.trace_id != int(TRACE_ID, 16)


async def test_refusals_have_spans_and_names_that_are_bounded(spans: InMemorySpanExporter, recording: Traces) -> None:
    async with served(recording) as ask:
        for method, path, headers in (
            ("GET", "/nowhere/7", {}), ("BREW", "/api/v1/engines", {}), ("GET", "/", {"host": "evil"}),
        ):  # fmt: skip
            await ask.ask(method, path, None, headers)
    assert [(s.name, (s.attributes or {})["error.type"]) for s in spans.get_finished_spans()] == [
        ("GET unmatched", "not-found"), ("_OTHER unmatched", "method-not-allowed"),
        ("GET unmatched", "misdirected-host"),
    ]  # fmt: skip


async def test_a_failed_run_is_an_error_and_names_no_text(spans: InMemorySpanExporter, recording: Traces) -> None:
    async with served(recording) as ask:
        await ask.post("/api/v1/engines", {"kind": "tracer", "id": "a", "on_interrupt": "fail"})
        await ask.post(RUNS, {"input": "fail"}, prefer="wait=20")
    run = named(spans, "run tracer")
    assert run.status.status_code is otel.StatusCode.ERROR
    assert "as told" not in run.to_json()


async def test_who_does_not_record_decides_for_the_run(spans: InMemorySpanExporter, recording: Traces) -> None:
    async with served(recording) as ask:
        await ask.post("/api/v1/engines", {"kind": "tracer", "id": "a"})
        spans.clear()
        told = await result(ask, traceparent=UNSAMPLED)
    assert [span.name for span in spans.get_finished_spans()] == []
    assert told["ctx"].startswith(f"00-{TRACE_ID}-")
    assert told["ctx"].endswith("-00")


async def test_without_the_sdk_the_trace_of_the_client_is_handed_on() -> None:
    async with served(Traces()) as ask:
        await ask.post("/api/v1/engines", {"kind": "tracer", "id": "a"})
        assert (await result(ask, traceparent=PARENT)) == {"ctx": PARENT, "current": PARENT, "attempt": 1}
        assert (await result(ask)) == {"ctx": None, "current": None, "attempt": 1}


async def test_a_trace_survives_a_kill_of_the_house(
    spans: InMemorySpanExporter, recording: Traces, autojump_clock: Any
) -> None:
    journal = Journal()
    observer = HouseObserver(EngineCounts(), Traces())
    caller = Caller(principal="user:ann", trace=Trace(PARENT, "vendor=1"))
    async with killed(journal, kinds=[Tracer], observer=observer, grace_s=1) as house:
        await house.spawn(NewEngine(kind="tracer", id="a", on_interrupt=OnInterrupt.RETRY))
        await house.submit("a", NewRun(input="sleep"), caller)
        await house.submit("a", NewRun(input="queued"), caller)
        await trio.sleep(5)
    async with open_supervisor(
        store=MemoryStore(journal), kinds=[Tracer], observer=HouseObserver(EngineCounts(), recording), grace_s=1
    ) as house:
        await trio.sleep(1500)
        accepted = await journaled(house.supervisor.store, lambda row: row.data.get("type") == "submit")
        assert [row.data["trace"] for row in accepted] == [{"parent": PARENT, "state": "vendor=1"}] * 2
    runs = [span for span in spans.get_finished_spans() if span.name == "run tracer"]
    assert [(s.attributes or {})["enginehouse.attempt"] for s in runs] == [2, 1]
    assert {f"{span.context.trace_id:032x}" for span in runs} == {TRACE_ID}
    assert {span.context.trace_state.to_header() for span in runs} == {"vendor=1"}


async def test_an_interruption_ends_a_span_and_the_next_start_is_another(
    spans: InMemorySpanExporter, recording: Traces, autojump_clock: Any
) -> None:
    async with served(recording, threads=False) as ask:
        await ask.post("/api/v1/engines", {"kind": "tracer", "id": "a", "on_interrupt": "retry"})
        await ask.post(RUNS, {"input": "sleep"})
        await ask.post("/api/v1/engines/a/commands", {"type": "pause", "mode": "interrupt"}, prefer="wait=5")
        await ask.post("/api/v1/engines/a/commands", {"type": "resume"}, prefer="wait=5")
        await trio.sleep(1500)
    runs = [span for span in spans.get_finished_spans() if span.name == "run tracer"]
    assert [(s.attributes or {})["enginehouse.outcome"] for s in runs] == ["interrupted", "completed"]
    assert len([span for span in spans.get_finished_spans() if span.name == "mailbox"]) == 1


async def test_a_program_finds_the_trace_of_its_run_and_the_run_names_the_program(
    spans: InMemorySpanExporter, recording: Traces
) -> None:
    async with served(recording) as ask:
        await ask.post("/api/v1/engines", {"kind": "spawner", "id": "a"})
        found = await result(ask, traceparent=PARENT, tracestate="vendor='1 $(id)'")
        run = named(spans, "run spawner")
        assert found == {
            "TRACEPARENT": f"00-{TRACE_ID}-{run.context.span_id:016x}-01", "TRACESTATE": "vendor='1 $(id)'",
        }  # fmt: skip
        (started,) = run.events
        assert started.attributes is not None
        assert "python" in str(started.attributes["process.executable.name"])
        own = await result(ask, {"TRACEPARENT": "of its own"}, traceparent=PARENT)
        assert own["TRACEPARENT"] == "of its own"
    async with served(Traces()) as ask:
        await ask.post("/api/v1/engines", {"kind": "spawner", "id": "a"})
        assert await result(ask) == {}


async def test_each_command_of_a_shell_has_its_own_trace_and_none_of_another() -> None:
    command = 'printf "%s %s" "$TRACEPARENT" "$TRACESTATE"'
    async with served(Traces()) as ask:
        await ask.post("/api/v1/engines", {"kind": "shell", "id": "a"})
        first = await result(ask, command, traceparent=PARENT, tracestate="v='$(echo no)`echo no`")
        assert first["output"] == f"{PARENT} v='$(echo no)`echo no`"
        assert (await result(ask, command))["output"] == " "
        await result(ask, "export TRACEPARENT=mine")
        assert (await result(ask, command))["output"] == "mine "
        await ask.post(RUNS, {"input": "exit"}, prefer="wait=20", traceparent=PARENT)
        assert (await result(ask, command, traceparent=UNSAMPLED))["output"] == f"{UNSAMPLED} "
        assert (await result(ask, command))["output"] == " "


def test_a_journal_row_of_a_command_without_a_trace_says_nothing_of_one() -> None:
    async def main() -> list[dict[str, Any]]:
        async with open_supervisor(kinds=[Tracer]) as house:
            await house.spawn(NewEngine(kind="tracer", id="a"))
            await house.submit("a", NewRun(input="x"), wait_s=5)
            rows = await journaled(house.supervisor.store, lambda row: row.type == "command.accepted")
            return [row.data for row in rows]

    assert all("trace" not in data for data in trio.run(main, strict_exception_groups=True))


async def test_an_endpoint_without_the_sdk_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(Problem, match=r"install enginehouse\[traces\]"):
        async with exporting("http://127.0.0.1:1/v1/traces", 1.0):
            raise AssertionError("it was opened")
