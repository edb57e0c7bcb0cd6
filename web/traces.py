"""Spans: one for each request, one for each start of a run, and one for the wait in the mailbox between them.

What links them is a plain `Trace` that travels with the command, also through a restart of the daemon; no context of a
request lives on in an engine. Spans are made with the API of OpenTelemetry. Without its SDK they record nothing, and
what a client sent is still handed on to the run's programs.

Spans leave in a thread of the SDK's own (`exporting`); what it cannot keep up with is dropped there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from typing import Any, Final

import trio
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer
from opentelemetry.trace.span import TraceState

from protocol.edge import load
from protocol.events import RUN_ENDS, Row
from protocol.times import epoch_ms
from protocol.trace import Trace, trace_of
from protocol.view import View
from web.asgi import Scope
from web.places import Problem

__all__ = ["TRACE", "Traces", "check_exporter", "current_trace", "exporting", "trace_from"]

TRACE: Final = "enginehouse.trace"  # the key in an ASGI scope under which a request's own trace is left
EXPORT_S: Final = 5.0
LAST_S: Final = 2.0  # for what is still to be exported when the daemon ends


class Traces:
    """`tracer`: makes the spans; None is that of the program's own provider, which does nothing when there is none."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("enginehouse")
        self._runs: dict[str, Span] = {}

    # -- requests ----------------------------------------------------------------------------------------------------
    def request(self, method: str, scope: Scope) -> Span:
        """The span of a request, which goes on in the trace that its headers name; whoever asked ends it."""
        parents = [value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"]
        came = None
        if parents:
            states = [value.decode("latin-1") for name, value in scope["headers"] if name == b"tracestate"]
            came = trace_of(parents, states)
        return self._tracer.start_span(method, _context(came), kind=SpanKind.SERVER)

    # -- runs --------------------------------------------------------------------------------------------------------
    def row(self, row: Row, view: View) -> None:
        """One row of an engine: a run's start opens its span, its end or its interruption closes it."""
        if row.type == "run.started":
            self._started(row, view)
        elif row.run_id in self._runs:
            span = self._runs[row.run_id]
            if row.type == "run.waiting":
                span.add_event("waiting", timestamp=_ns(row.time))
            elif row.type == "run.interrupted" or row.type in RUN_ENDS:
                del self._runs[row.run_id]
                outcome = row.type.partition(".")[2]
                span.set_attribute("enginehouse.outcome", outcome)
                error = row.data.get("error")
                if error or row.data.get("lost"):  # lost: an incarnation crashed with it in hand
                    span.set_attribute("error.type", error["slug"] if error else outcome)
                    span.set_status(Status(StatusCode.ERROR))
                span.end(_ns(row.time))

    def _started(self, row: Row, view: View) -> None:
        owed = view.owed.get(row.command_id or "")
        sent = owed.body.get("trace") if owed is not None else None
        context = _context(load(Trace, sent) if sent is not None else None)
        run, spec = view.runs.get(row.run_id or ""), view.spec
        if run is None:  # its first row was compacted away
            return
        now = _ns(row.time)
        if row.data["attempt"] == 1:
            waited = self._tracer.start_span("mailbox", context, start_time=_ns(run.created_at))
            waited.set_attribute("enginehouse.engine_id", spec.id)
            waited.end(now)
        span = self._tracer.start_span(f"run {spec.kind}", context, kind=SpanKind.CONSUMER, start_time=now)
        if span.is_recording():
            span.set_attributes(
                {
                    "enginehouse.engine_id": spec.id,
                    "enginehouse.pool": spec.pool,
                    "enginehouse.run_id": run.id,
                    "enginehouse.attempt": row.data["attempt"],
                    "enginehouse.incarnation": row.incarnation,
                }
            )
        if span.get_span_context().is_valid:
            self._runs[run.id] = span

    def of_run(self, run_id: str) -> Trace | None:
        """The trace in which a run in hand goes on."""
        span = self._runs.get(run_id)
        return trace_from(span) if span is not None else None

    def spawned(self, run_id: str, name: str, pid: int) -> None:
        """A run has started a program."""
        span = self._runs.get(run_id)
        if span is not None:
            span.add_event("process started", {"process.executable.name": name, "process.pid": pid})

    @contextmanager
    def inside(self, run_id: str) -> Iterator[None]:
        """The run's span is the current one, for an engine that uses OpenTelemetry itself."""
        span = self._runs.get(run_id)
        if span is None:
            yield
            return
        token = otel.attach(trace.set_span_in_context(span))
        try:
            yield
        finally:
            otel.detach(token)


def trace_from(span: Span) -> Trace | None:
    """A span as others are told of it; None when it belongs to no trace."""
    context = span.get_span_context()
    if not context.is_valid:
        return None
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 3:02x}"
    return Trace(parent, context.trace_state.to_header())


def current_trace() -> Trace | None:
    """The trace of the span that this task is in."""
    return trace_from(trace.get_current_span())


@asynccontextmanager
async def exporting(endpoint: str | None, sample: float) -> AsyncIterator[Traces]:
    """Spans that are sent to `endpoint` (OTLP over HTTP); with None, those of the program's own provider.

    Args:
        endpoint: the URL of a collector.
        sample: the share of traces that begin here and are recorded, 0 to 1; who sent a trace has decided for it.

    Raises:
        Problem: the extra `traces` is not installed.

    Left: what is still to be sent has `LAST_S`. Cancelled: the same.
    """
    if endpoint is None:
        yield Traces()
        return
    provider = _provider(endpoint, sample)
    try:
        yield Traces(provider.get_tracer("enginehouse"))
    finally:
        with trio.move_on_after(LAST_S, shield=True):
            await trio.to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)


def check_exporter() -> None:
    """Raises Problem when the extra `traces` is not installed."""
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401 - asked whether it is there
    except ImportError:
        raise Problem(
            "traces.endpoint is set and the SDK of OpenTelemetry is not there; install enginehouse[traces]."
        ) from None


def _provider(endpoint: str, sample: float) -> Any:
    check_exporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    about = Resource.create({"service.name": "enginehouse", "service.version": version("enginehouse")})
    # Not at exit: there a collector that does not answer would hold the process; `exporting` ends it, within a bound.
    provider = TracerProvider(resource=about, sampler=ParentBasedTraceIdRatio(sample), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_S)))
    # Engines that use OpenTelemetry themselves are heard of as well: in a daemon there is no other program to ask.
    trace.set_tracer_provider(provider)
    return provider


def _context(of: Trace | None) -> Context:
    """A context whose current span is the one that `of` names; an empty one for None, whatever is current here."""
    if of is None:
        return Context()
    parent = SpanContext(
        trace_id=int(of.trace_id, 16),
        span_id=int(of.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(of.flags),
        trace_state=TraceState.from_header([of.state]) if of.state else TraceState(),
    )
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


def _ns(time: str) -> int:
    return epoch_ms(time) * 1_000_000
