"""The daemon's own process and its event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from prometheus_client import ProcessCollector
from prometheus_client.core import HistogramMetricFamily, Metric

from protocol.authority import Authority
from web.metrics.histogram import Histogram

__all__ = ["LoopLag", "process_metrics"]

_BOUNDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_PROCESS: Final = ProcessCollector(registry=None)


class LoopLag:
    """How late the loop's beat was, several times a second; `web.loopwatch` measures it."""

    def __init__(self) -> None:
        self._histogram = Histogram(_BOUNDS)

    def beat(self, late_s: float) -> None:
        self._histogram.add(late_s)

    async def collect(self, authority: Authority) -> AsyncIterator[Metric]:
        """A source of metrics."""
        if authority.everywhere:
            family = HistogramMetricFamily(
                "enginehouse_event_loop_lag_seconds", "How late a task runs that is due, measured four times a second."
            )
            family.add_metric((), self._histogram.buckets(), self._histogram.sum)
            yield family


def process_metrics() -> list[Metric]:
    """`process_resident_memory_bytes`, `process_open_fds` and their like. Reads files of /proc: call it in a thread."""
    return list(_PROCESS.collect())
