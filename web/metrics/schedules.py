"""Schedules, for who sees the whole house: one of them may act in any pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from prometheus_client.core import GaugeMetricFamily, Metric

from protocol.authority import Authority
from supervisor.schedules import ScheduleStatistics

__all__ = ["ScheduleFigures"]


class ScheduleFigures:
    """What they have done is a gauge, no counter: it outlives the daemon, and a schedule that is deleted takes its
    part along.
    """

    def __init__(self, statistics: Callable[[], ScheduleStatistics]) -> None:
        self._statistics = statistics

    async def collect(self, authority: Authority) -> AsyncIterator[Metric]:
        """A source of metrics."""
        if not authority.everywhere:
            return
        found = self._statistics()
        schedules = GaugeMetricFamily("enginehouse_schedules", "Schedules that there are.", labels=("state",))
        schedules.add_metric(("active",), found.active)
        schedules.add_metric(("suspended",), found.suspended)
        schedules.add_metric(("disabled",), found.schedules - found.active - found.suspended)
        yield schedules
        times = GaugeMetricFamily(
            "enginehouse_schedule_times", "Times at which they were due, over their lives.", labels=("result",)
        )
        for result in ("fired", "skipped", "refused", "missed"):
            times.add_metric((result,), getattr(found, result))
        yield times
