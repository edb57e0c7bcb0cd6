"""Metrics for Prometheus: as much of them as the key's pools allow."""

from __future__ import annotations

from typing import Final

from protocol.authority import Authority
from web.auth import Scope
from web.call import Call
from web.reply import Reply, plain
from web.route import Section

section = Section("metrics", base="")

METRICS: Final = "/metrics"
_WHOLE: Final = Authority(scopes=frozenset({Scope.READ}))


@section.get(METRICS, Scope.READ, text=("text/plain", "application/openmetrics-text"))
async def get_metrics(call: Call) -> Reply[bytes]:
    """What is measured, as text for Prometheus or, where it is accepted, as OpenMetrics. A key that is bound to pools
    sees their series and none of the whole house.
    """
    # Nobody asks only where the settings made it public.
    authority = call.principal.authority if call.principal is not None else _WHOLE
    text, content_type = await call.services.metrics.text(authority, call.header(b"accept") or "")
    return plain(text, content_type)
