"""The output of a run, as text: whole, a range of it, or live."""

from __future__ import annotations

from protocol.errors import NotFound, RangeNotSatisfiable, RateLimited
from web.auth import Scope
from web.call import Call
from web.output import OutputStream, Span
from web.params import Flag, Seq
from web.route import Section

section = Section("runs")


@section.get(
    "/runs/{run}/output",
    Scope.READ,
    NotFound,
    RangeNotSatisfiable,
    RateLimited,
    answers=(200, 206),
    raw=True,
    text="text/plain",
)
async def get_output(call: Call, run: str, *, after: Seq | None = None, follow: Flag = False) -> OutputStream:
    """The output from byte `after` on, or the `Range` that is asked for; with `follow=true` until the run ends."""
    _, size = await call.house.output(run, limit=0)
    span = Span.of(size, after=after, range=call.header(b"range"), conditional=call.header(b"if-range") is not None)
    assert call.principal is not None
    return OutputStream(
        house=call.house, run=run, span=span, follow=follow, streams=call.services.streams, principal=call.principal
    )
